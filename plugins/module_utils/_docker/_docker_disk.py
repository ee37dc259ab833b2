# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disk use of images, containers, volumes and build cache. Private to this collection."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _build_cache
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    PROJECT,
    VOLUME,
    age,
    epoch,
    is_protected,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import LATE, Rejected, Row
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# States of containers without processes; stopped is a state of Podman.
STOPPED = ("exited", "stopped", "created", "dead")


# The reply of an engine that counts for another client, and the pause in seconds before it is asked again.
BUSY = "disk usage operation is already running"
PAUSE = 0.1


class DiskUse:
    """Asks in a thread with a connection of its own, because the engine may count for minutes."""

    def __init__(self, client: DockerApi, seconds: float) -> None:
        self._client = client.another(seconds, Deadline(seconds))
        self._data: Row | None = None
        self._reason: object = "the engine did not count it within %g s (disk_seconds)" % seconds
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        try:
            found = count(lambda: self._client.read("system", "df"), self._client.deadline)
        except CannotConnect as exc:
            if exc.kind not in LATE:
                self._reason = exc
        else:
            # A missing part does not mean zero bytes.
            self._data = found if "Images" in found else None
            self._reason = "the engine does not report the size of its images"

    def summary(self, seconds: float, top_volumes: int, unknown: Unknown) -> Part | None:
        """Return the part ``disk``; null, and noted in ``unknown``, if the engine took longer than ``seconds``."""
        self._thread.join(seconds)
        if self._data is None:
            unknown.add("disk", self._reason)
            return None
        return summary(self._data, top_volumes)


def count(ask: Callable[[], Row], deadline: Deadline) -> Row:
    """Return the answer of the engine to ``ask``, repeated while the engine counts for another client.

    Engines before Docker 25 count for one client at a time and reject the others.
    """
    while True:
        try:
            return ask()
        except Rejected as exc:
            if BUSY not in exc.reply or deadline.remaining() < PAUSE:
                raise
            time.sleep(PAUSE)


def summary(data: Mapping[str, Any], top_volumes: int = 0) -> Part:
    """Return sums over the answer of the engine. Removing an image frees the bytes that it shares with no other."""
    images, cache = data.get("Images") or [], data.get("BuildCache") or []
    containers, volumes = data.get("Containers") or [], data.get("Volumes") or []
    unused = [image for image in images if not image.get("Containers")]
    dangling = [image for image in unused if is_dangling(image)]
    stopped = [container for container in containers if container.get("State") in STOPPED]
    # Stopped containers count as users.
    idle = [described(volume) for volume in volumes if (volume.get("UsageData") or {}).get("RefCount") == 0]
    idle.sort(key=lambda volume: (-(volume["bytes"] or 0), volume["name"]))
    cache_bytes = sum(entry.get("Size") or 0 for entry, _used in _build_cache.removable(cache))
    return {
        "layers_bytes": data.get("LayersSize"),
        "images": len(images),
        "unused_images": len(unused),
        "unused_images_bytes": sum(own_size(image) for image in unused),
        "dangling_images": len(dangling),
        "dangling_images_bytes": sum(own_size(image) for image in dangling),
        "build_cache_bytes": cache_bytes,
        "stopped_containers": len(stopped),
        "stopped_containers_bytes": sum(container.get("SizeRw") or 0 for container in stopped),
        "volumes": len(volumes),
        "unused_volumes": len(idle),
        "unused_volumes_bytes": sum(volume["bytes"] or 0 for volume in idle),
        "largest_unused_volumes": idle[:top_volumes],
        "reclaimable_bytes": sum(own_size(image) for image in dangling) + cache_bytes,
    }


def described(volume: Mapping[str, Any]) -> Part:
    """Return what a measurement holds about a volume. The engine does not know the size of volumes of other drivers."""
    labels, size = volume.get("Labels") or {}, (volume.get("UsageData") or {}).get("Size")
    made = epoch(volume.get("CreatedAt"))
    return {
        "name": volume["Name"],
        "driver": volume.get("Driver"),
        "bytes": size if size is not None and size >= 0 else None,
        "created_at": made,
        "age_seconds": age(made),
        "project": labels.get(PROJECT),
        "volume": labels.get(VOLUME),
        "protected": is_protected(labels),
    }


def is_dangling(image: Mapping[str, Any]) -> bool:
    """Return whether an image has neither a tag nor a digest."""
    # Podman returns "<none>" without the name.
    tags = [tag for tag in image.get("RepoTags") or [] if tag not in ("<none>:<none>", "<none>")]
    digests = [digest for digest in image.get("RepoDigests") or [] if not digest.startswith("<none>")]
    return not tags and not digests


def own_size(image: Mapping[str, Any]) -> int:
    """Return the bytes that an image shares with no other."""
    return max(0, (image.get("Size") or 0) - max(0, image.get("SharedSize") or 0))
