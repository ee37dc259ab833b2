# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removes what nobody uses: each thing by itself, never by the prune of the engine. Private to this collection."""

from __future__ import annotations

import time

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

# What the engine answers for what somebody uses.
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


def prune(options, check_mode):
    """What M(tracktion.ops.docker_prune) returns, with ``failed`` and ``msg`` on failure.

    Raises CannotMeasure and CannotConnect where nothing was done yet.
    """
    if "volumes" in options["kinds"] and not options["names"]:
        raise BadOption(
            "names: volumes are removed by name only", hint="Name them: `docker volume ls --filter dangling=true`"
        )
    client = _docker.Client(options, Deadline(options["deadline"]), timeout=options["deadline"])
    found = [item for kind in KINDS if kind in options["kinds"] for item in CANDIDATES[kind](client, options)]
    stays = [item for item in found if item["result"]]
    goes = sorted((item for item in found if not item["result"]), key=lambda item: item["since"] or 0)
    planned = goes[: options["max_items"]]
    for item in planned:
        item["result"] = "planned"
        if not check_mode:
            remove(client, item)
    return outcome(goes, planned, stays)


def images(client, options):
    """Images without a name that no container uses, made longer ago than ``older_than``."""
    used = {row.get("ImageID") for row in client.call("containers", all=True)}
    for image in client.call("images", filters={"dangling": True}):
        labels = image.get("Labels") or {}
        name, made = image["Id"].partition(":")[2][:12], image.get("Created")
        if image["Id"] in used or not _docker_disk.is_dangling(image) or not may_go(name, labels, options):
            continue
        if is_old(made, options):
            yield candidate("image", image["Id"], name, made, image.get("Size"))


def containers(client, options):
    """Containers of no compose service and without a restart policy that ended longer ago than ``older_than``."""
    for row in listed_ended(client):
        labels = row.get("Labels") or {}
        of_service = SERVICE in labels and not is_one_off(labels)
        if of_service or not may_go(name_of(row), labels, options):
            continue
        data = client.inspect(row["Id"])
        if data is None:
            continue
        ended = epoch(data["State"].get("FinishedAt"))
        policy = (data["HostConfig"].get("RestartPolicy") or {}).get("Name")
        if policy in (None, "", "no") and is_old(ended, options):
            # The engine leaves a zero out.
            yield candidate("container", row["Id"], name_of(row), ended, row.get("SizeRw") or 0)


def listed_ended(client):
    """The containers that have ended, with their sizes. By their ids: not every engine knows the word dead."""
    rows = client.call("containers", all=True)
    ids = [row["Id"] for row in rows if row.get("State") in ("exited", "stopped", "dead")]
    return client.call("containers", all=True, size=True, filters={"id": ids}) if ids else []


def volumes(client, options):
    """The named volumes, at any age. One that must stay is told with the reason: it was named."""
    users = {}
    for row in client.call("containers", all=True):
        for mount in row.get("Mounts") or []:
            users.setdefault(mount.get("Name"), []).append(name_of(row))
    for volume in client.call("volumes").get("Volumes") or []:
        name, labels, made = volume["Name"], volume.get("Labels") or {}, epoch(volume.get("CreatedAt"))
        if name not in options["names"]:
            continue
        found = candidate("volume", name, name, made, None)
        if not may_go(name, labels, options) or labels.get(VOLUME) in options["deny"]:
            found.update(result="protected", message="a label or the deny list protects it")
        elif options["expected"] is not None and {"name": name, "created_at": made} not in options["expected"]:
            found.update(result="changed_meanwhile", message="it is not the volume that was found, or not as it was")
        elif name in users:
            found.update(result="kept", message="%s uses it" % ", ".join(users[name]))
        yield found


def build_cache(client, options):
    """Entries of the build cache that nothing holds, last used longer ago than ``older_than``."""
    for entry, used in _build_cache.removable(client.call("df").get("BuildCache") or []):
        if may_go(entry["ID"], {}, options) and is_old(used, options):
            yield candidate("build_cache", entry["ID"], entry["ID"], used, entry.get("Size"))


CANDIDATES = {"images": images, "build_cache": build_cache, "containers": containers, "volumes": volumes}


def may_go(name, labels, options):
    """Whether neither a label nor the deny list protects it."""
    return not is_protected(labels) and name not in options["deny"]


def is_old(since, options):
    return since is not None and time.time() - since >= options["older_than"]


def candidate(kind, identity, name, since, size):
    return {"kind": kind, "id": identity, "name": name, "since": since, "bytes": size, "result": None, "message": None}


def remove(client, item):
    """Removes it, without force: what somebody has begun to use meanwhile the engine keeps."""
    try:
        if item["kind"] == "image":
            client.call("remove_image", item["id"], force=False)
        elif item["kind"] == "container":
            client.call("remove_container", item["id"], force=False, v=False)
        elif item["kind"] == "volume":
            client.call("remove_volume", item["id"], force=False)
        elif not client.remove_build_cache(item["id"]):
            item.update(result="kept", message="it is in use, something was built upon it, or it is gone")
            return
        item["result"] = "removed"
    except _docker.Rejected as exc:
        # Gone already, used again, or there is something amiss with it.
        item["result"] = {_docker.NOT_FOUND: "gone", IN_USE: "kept"}.get(exc.status, "failed")
        item["message"] = None if exc.status == _docker.NOT_FOUND else exc.reply
    except CannotConnect as exc:
        item.update(result="failed", message=str(exc))


def outcome(goes, planned, stays):
    """``changed``, ``before``, ``after``, ``removed``, ``diff``, and ``failed`` with ``msg`` on failure."""
    gone = [item for item in planned if item["result"] in ("planned", "removed", "gone")]
    failed = [item for item in planned if item["result"] == "failed"]
    left = [item for item in goes if item not in gone]
    result = {
        "changed": any(item["result"] in ("planned", "removed") for item in planned),
        "before": total(goes),
        "after": total(left),
        "removed": planned + stays,
        "diff": {"before": {"items": lines(goes)}, "after": {"items": lines(left)}},
    }
    if failed:
        result.update(failed=True, msg="Could not remove %(kind)s %(name)s: %(message)s" % failed[0])
    return result


def total(entries):
    """Their number, and what they hold; null where that of one is not known."""
    sizes = [entry["bytes"] for entry in entries]
    return {"count": len(entries), "bytes": None if None in sizes else sum(sizes)}


def lines(entries):
    return ["%(kind)s %(name)s" % entry for entry in entries]
