# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removes unused objects one by one, never by the engine's prune. Private to this collection."""

from __future__ import annotations

import time
from typing import Any, Iterable, Iterator, Mapping, Sequence, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _build_cache, _docker, _docker_disk
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    SERVICE,
    VOLUME,
    epoch,
    is_one_off,
    is_protected,
    name_of,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotConnect, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# Status of the engine for an object in use.
IN_USE = 409
KINDS = ("images", "build_cache", "containers", "volumes")
SPEC = dict(
    _docker.SPEC,
    kinds={"type": "list", "elements": "str", "choices": list(KINDS), "required": True},
    names={"type": "list", "elements": "str", "default": []},
    expected={
        "type": "list",
        "elements": "dict",
        "options": {"name": {"type": "str", "required": True}, "created_at": {"type": "float"}},
    },
    older_than={"type": "float", "default": 604800.0},
    deny={"type": "list", "elements": "str", "default": []},
    max_items={"type": "int", "default": 100},
    deadline={"type": "float", "default": 120.0},
)


class Item(TypedDict):
    """An object that may be removed, and what became of it."""

    kind: str
    id: str
    name: str
    # Epoch seconds of its creation, last use or end.
    since: float | None
    bytes: int | None
    # Null before it is decided.
    result: str | None
    message: str | None


def prune(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.docker_prune) returns, with ``failed`` and ``msg`` on failure.

    Raises CannotMeasure and CannotConnect before anything is removed.
    """
    if "volumes" in options["kinds"] and not options["names"]:
        raise BadOption(
            "names: is empty, but volumes are removed by name only",
            hint="List the volumes: `docker volume ls --filter dangling=true`, and name them in `names`.",
        )
    client = _docker.Client(options, Deadline(options["deadline"]), timeout=options["deadline"])
    found = [item for kind in KINDS if kind in options["kinds"] for item in CANDIDATES[kind](client, options)]
    kept = [item for item in found if item["result"]]
    removable = sorted((item for item in found if not item["result"]), key=lambda item: item["since"] or 0)
    planned = removable[: options["max_items"]]
    for item in planned:
        item["result"] = "planned"
        if not check_mode:
            remove(client, item)
    return outcome(removable, planned, kept)


def images(client: _docker.Client, options: Options) -> Iterator[Item]:
    """Yield images without a name that no container uses and that are older than ``older_than``."""
    used = {row.get("ImageID") for row in client.call("containers", all=True)}
    for image in client.call("images", filters={"dangling": True}):
        labels = image.get("Labels") or {}
        name, created = image["Id"].partition(":")[2][:12], image.get("Created")
        if image["Id"] in used or not _docker_disk.is_dangling(image) or not is_allowed(name, labels, options):
            continue
        if is_old(created, options):
            yield candidate("image", image["Id"], name, created, image.get("Size"))


def containers(client: _docker.Client, options: Options) -> Iterator[Item]:
    """Yield containers of no compose service and without a restart policy that ended before ``older_than``."""
    for row in listed_ended(client):
        labels = row.get("Labels") or {}
        of_service = SERVICE in labels and not is_one_off(labels)
        if of_service or not is_allowed(name_of(row), labels, options):
            continue
        data = client.inspect(row["Id"])
        if data is None:
            continue
        ended = epoch(data["State"].get("FinishedAt"))
        policy = (data["HostConfig"].get("RestartPolicy") or {}).get("Name")
        if policy in (None, "", "no") and is_old(ended, options):
            # The engine omits a size of 0.
            yield candidate("container", row["Id"], name_of(row), ended, row.get("SizeRw") or 0)


def listed_ended(client: _docker.Client) -> Sequence[Mapping[str, Any]]:
    """Return the rows of ended containers with their sizes, filtered by id: not every engine has the state ``dead``."""
    rows = client.call("containers", all=True)
    ids = [row["Id"] for row in rows if row.get("State") in ("exited", "stopped", "dead")]
    return client.call("containers", all=True, size=True, filters={"id": ids}) if ids else []


def volumes(client: _docker.Client, options: Options) -> Iterator[Item]:
    """Yield the named volumes, of any age; one that must not be removed has its ``result`` already."""
    users: dict[str | None, list[str]] = {}
    for row in client.call("containers", all=True):
        for mount in row.get("Mounts") or []:
            users.setdefault(mount.get("Name"), []).append(name_of(row))
    for volume in client.call("volumes").get("Volumes") or []:
        name, labels, created = volume["Name"], volume.get("Labels") or {}, epoch(volume.get("CreatedAt"))
        if name not in options["names"]:
            continue
        found = candidate("volume", name, name, created, None)
        if not is_allowed(name, labels, options) or labels.get(VOLUME) in options["deny"]:
            settle(found, "protected", "a label or the deny list protects it")
        elif options["expected"] is not None and {"name": name, "created_at": created} not in options["expected"]:
            settle(found, "changed_meanwhile", "it is not the expected volume, or it has changed")
        elif name in users:
            settle(found, "kept", "%s uses it" % ", ".join(users[name]))
        yield found


def build_cache(client: _docker.Client, options: Options) -> Iterator[Item]:
    """Yield entries of the build cache that nothing holds and that were not used for ``older_than``."""
    found = _docker_disk.count(lambda: client.call("df"), client.deadline)
    for entry, used in _build_cache.removable(found.get("BuildCache") or []):
        if is_allowed(entry["ID"], {}, options) and is_old(used, options):
            yield candidate("build_cache", entry["ID"], entry["ID"], used, entry.get("Size"))


CANDIDATES = {"images": images, "build_cache": build_cache, "containers": containers, "volumes": volumes}


def is_allowed(name: str, labels: Mapping[str, str], options: Options) -> bool:
    """Return whether neither a label nor the deny list protects an object."""
    return not is_protected(labels) and name not in options["deny"]


def is_old(since: float | None, options: Options) -> bool:
    """Return whether ``since`` (epoch seconds) is ``older_than`` seconds ago; false if it is not known."""
    return since is not None and time.time() - since >= options["older_than"]


def candidate(kind: str, identity: str, name: str, since: float | None, size: int | None) -> Item:
    """Return an object that may be removed: ``since`` in epoch seconds, ``size`` in bytes, null if unknown."""
    return {"kind": kind, "id": identity, "name": name, "since": since, "bytes": size, "result": None, "message": None}


def settle(item: Item, result: str, message: str) -> None:
    """Note why an object is not removed."""
    item["result"], item["message"] = result, message


def remove(client: _docker.Client, item: Item) -> None:
    """Remove an object without force: the engine keeps one that was used meanwhile."""
    try:
        if item["kind"] == "image":
            client.call("remove_image", item["id"], force=False)
        elif item["kind"] == "container":
            client.call("remove_container", item["id"], force=False, v=False)
        elif item["kind"] == "volume":
            client.call("remove_volume", item["id"], force=False)
        elif not client.remove_build_cache(item["id"]):
            settle(item, "kept", "it is in use, another entry is built on it, or it no longer exists")
            return
        item["result"] = "removed"
    except _docker.Rejected as exc:
        results = {_docker.NOT_FOUND: "gone", IN_USE: "kept"}
        item["result"] = "failed" if exc.status is None else results.get(exc.status, "failed")
        item["message"] = None if exc.status == _docker.NOT_FOUND else exc.reply
    except CannotConnect as exc:
        settle(item, "failed", str(exc))


def outcome(removable: Sequence[Item], planned: Sequence[Item], kept: Sequence[Item]) -> Part:
    """Return ``changed``, ``before``, ``after``, ``removed``, ``diff``, and ``failed`` with ``msg`` on failure."""
    gone = [item for item in planned if item["result"] in ("planned", "removed", "gone")]
    failed = [item for item in planned if item["result"] == "failed"]
    left = [item for item in removable if item not in gone]
    result: Part = {
        "changed": any(item["result"] in ("planned", "removed") for item in planned),
        "before": total(removable),
        "after": total(left),
        "removed": [*planned, *kept],
        "diff": {"before": {"items": lines(removable)}, "after": {"items": lines(left)}},
    }
    if failed:
        result.update(failed=True, msg="Could not remove %(kind)s %(name)s: %(message)s" % failed[0])
    return result


def total(items: Sequence[Item]) -> Part:
    """Return the number and the bytes of objects; bytes are null if one size is unknown."""
    sizes = [item["bytes"] for item in items]
    return {"count": len(items), "bytes": None if None in sizes else sum(filter(None, sizes))}


def lines(items: Iterable[Item]) -> list[str]:
    """Return each object as one line of a diff: its kind and its name."""
    return ["%(kind)s %(name)s" % item for item in items]
