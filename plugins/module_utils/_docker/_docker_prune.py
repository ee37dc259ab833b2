# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removes what nobody uses: each thing by itself, never by the prune of the engine. Private to this collection."""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker, _docker_disk
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    ONE_OFF,
    SERVICE,
    epoch,
    is_protected,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotConnect, Deadline

KINDS = ("images", "build_cache", "containers", "volumes")
SPEC = dict(
    _docker.SPEC,
    kinds={"type": "list", "elements": "str", "choices": list(KINDS), "required": True},
    names={"type": "list", "elements": "str", "default": []},
    older_than={"type": "float", "default": 604800.0},
    deny={"type": "list", "elements": "str", "default": []},
    max_items={"type": "int", "default": 100},
    deadline={"type": "float", "default": 120.0},
)


def prune(options, check_mode):
    """What M(tracktion.ops.docker_prune) returns, with ``failed`` and ``msg`` on failure.

    Raises CannotMeasure, CannotConnect and _docker.Refused where nothing was done yet.
    """
    if "volumes" in options["kinds"] and not options["names"]:
        raise BadOption("names: volumes are removed by name only", cure="Name them: docker volume ls -f dangling=true")
    client = _docker.Client(dict(options, timeout=options["deadline"]), Deadline(options["deadline"]))
    found = [item for kind in KINDS if kind in options["kinds"] for item in CANDIDATES[kind](client, options)]
    planned = sorted(found, key=lambda item: item["since"] or 0)[: options["max_items"]]
    for item in planned:
        if item["result"] == "kept":
            continue
        item["result"] = "planned"
        if not check_mode:
            remove(client, item)
    return outcome(found, planned)


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
        of_service = SERVICE in labels and labels.get(ONE_OFF, "False") != "True"
        if of_service or not may_go(_docker.name_of(row), labels, options):
            continue
        data = client.call("inspect_container", row["Id"])
        ended = epoch(data["State"].get("FinishedAt"))
        policy = (data["HostConfig"].get("RestartPolicy") or {}).get("Name")
        if policy in (None, "", "no") and is_old(ended, options):
            yield candidate("container", row["Id"], _docker.name_of(row), ended, row.get("SizeRw"))


def listed_ended(client):
    """The containers that have ended, with their sizes. By their ids: not every engine knows the word dead."""
    rows = client.call("containers", all=True)
    ids = [row["Id"] for row in rows if row.get("State") in ("exited", "stopped", "dead")]
    return client.call("containers", all=True, size=True, filters={"id": ids}) if ids else []


def volumes(client, options):
    """The named volumes, at any age; one that a container has, running or not, is kept."""
    users = {}
    for row in client.call("containers", all=True):
        for mount in row.get("Mounts") or []:
            users.setdefault(mount.get("Name"), []).append(_docker.name_of(row))
    for volume in client.call("volumes").get("Volumes") or []:
        name = volume["Name"]
        if name in options["names"] and may_go(name, volume.get("Labels") or {}, options):
            found = candidate("volume", name, name, epoch(volume.get("CreatedAt")), None)
            if name in users:
                found.update(result="kept", message="%s uses it" % ", ".join(users[name]))
            yield found


def build_cache(client, options):
    """Entries of the build cache that no build uses, last used longer ago than ``older_than``."""
    for entry in client.call("df").get("BuildCache") or []:
        used = epoch(entry.get("LastUsedAt") or entry.get("CreatedAt"))
        if not entry.get("InUse") and not entry.get("Shared") and is_old(used, options):
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
        else:
            client.remove_build_cache(item["id"])
        item["result"] = "removed"
    except _docker.Refused as exc:
        # Gone already, or used again.
        item["result"] = "gone" if exc.status == 404 else "kept"
        item["message"] = None if exc.status == 404 else str(exc)
    except CannotConnect as exc:
        item.update(result="failed", message=str(exc))


def outcome(found, planned):
    """``changed``, ``before``, ``after``, ``removed``, ``diff``, and ``failed`` with ``msg`` on failure."""
    gone = [item for item in planned if item["result"] in ("planned", "removed", "gone")]
    lost = [item for item in planned if item["result"] == "failed"]
    left = [item for item in found if item not in gone]
    result = {
        "changed": any(item["result"] in ("planned", "removed") for item in planned),
        "before": total(found),
        "after": total(left),
        "removed": planned,
        "diff": {"before": {"items": lines(found)}, "after": {"items": lines(left)}},
    }
    if lost:
        result.update(failed=True, msg="Lost the engine while removing %s: %s" % (lost[0]["name"], lost[0]["message"]))
    return result


def total(entries):
    return {"count": len(entries), "bytes": sum(entry["bytes"] or 0 for entry in entries)}


def lines(entries):
    return ["%(kind)s %(name)s" % entry for entry in entries]
