# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engine's images, containers, volumes and build cache take on the disk. Private to this collection."""

from __future__ import annotations

import threading

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _build_cache, _docker
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    PROJECT,
    VOLUME,
    age,
    epoch,
    is_protected,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import LATE, CannotConnect, Deadline

# States of containers without processes; Podman has a word of its own for one that it has still to clean up.
STOPPED = ("exited", "stopped", "created", "dead")


class DiskUse:
    """Asks in a thread, with a connection of its own: the engine may count for minutes, and nobody waits for it."""

    def __init__(self, options):
        self.options = options
        self.data = None
        self.reason = "the engine did not count it within %g s (disk_seconds)" % options["disk_seconds"]
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.thread.start()

    def _ask(self):
        seconds = self.options["disk_seconds"]
        try:
            client = _docker.Client(dict(self.options, timeout=seconds), Deadline(seconds))
            found = client.call("df")
        except CannotConnect as exc:
            if exc.kind not in LATE:
                self.reason = exc
        else:
            # What is not told is not nothing.
            self.data = found if "Images" in found else None
            self.reason = "the engine does not tell what its images take"

    def summary(self, seconds, unknown):
        """The part ``disk``; null, and named in ``unknown``, where it took longer than ``seconds``."""
        self.thread.join(seconds)
        if self.data is None:
            unknown.add("disk", self.reason)
            return None
        return summary(self.data, self.options["top_volumes"])


def summary(data, top_volumes=0):
    """Sums of the engine's answer. An image that nobody uses gives back what it shares with no other."""
    images, cache = data.get("Images") or [], data.get("BuildCache") or []
    containers, volumes = data.get("Containers") or [], data.get("Volumes") or []
    unused = [image for image in images if not image.get("Containers")]
    dangling = [image for image in unused if is_dangling(image)]
    stopped = [container for container in containers if container.get("State") in STOPPED]
    # A container that is stopped counts as well.
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


def described(volume):
    """What we tell about a volume; of one that is kept elsewhere, the engine does not know how large it is."""
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


def is_dangling(image):
    # Podman tells of the tag alone.
    tags = [tag for tag in image.get("RepoTags") or [] if tag not in ("<none>:<none>", "<none>")]
    digests = [digest for digest in image.get("RepoDigests") or [] if not digest.startswith("<none>")]
    return not tags and not digests


def own_size(image):
    return max(0, (image.get("Size") or 0) - max(0, image.get("SharedSize") or 0))
