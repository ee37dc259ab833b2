# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths of the host that containers mount: whether they exist, and whether the container's user can read them.

Private to this collection.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import Any, Collection, Iterable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

ACCESS_LIST = "system.posix_acl_access"
# Four bytes with the version, then an entry of tag, permissions and id for each rule (acl(5)).
LIST_HEADER = 4
ENTRY = struct.Struct("<HHI")
OWNER, NAMED_USER, OWNING_GROUP, NAMED_GROUP, MASK, OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def paths(
    inspected: Iterable[Mapping[str, Any]],
    of_files: Mapping[str, list[str]],
    options: Options,
    deadline: Deadline,
    unknown: Unknown,
) -> list[Part]:
    """Return an entry for each path of the inspections and of the compose files (path -> services)."""
    mounted: dict[str, list[Mapping[str, Any]]] = {}
    for data in inspected:
        for mount in data.get("Mounts") or []:
            if mount.get("Type") == "bind" and mount.get("Source"):
                mounted.setdefault(mount["Source"], []).append(data)
    found = []
    for path in sorted(set(mounted) | set(of_files)):
        users = mounted.get(path, [])
        names = {data["Name"].lstrip("/") for data in users} or set(of_files[path])
        entry: Part = {"path": path, "used_by": sorted(names)}
        entry.update(dict.fromkeys(("exists", "uid", "gid", "mode", "denied")))
        found.append(entry)
        try:
            status, rules = within(deadline, options["timeout"], look, path)
        except FileNotFoundError:
            entry.update(exists=False, denied=[])
        except OSError as exc:
            unknown.add("paths.%s" % path, exc.strerror or exc, _rights.hint_of(exc))
        else:
            entry.update(exists=True, uid=status.st_uid, gid=status.st_gid)
            entry["mode"] = "%04o" % stat.S_IMODE(status.st_mode)
            entry["denied"] = [refusal for refusal in (denied(data, status, rules) for data in users) if refusal]
    return found[: options["top"]]


def look(path: str) -> tuple[os.stat_result, bytes | None]:
    """Return the status of a path and its access control list in the kernel's format, null if it has none."""
    status = os.stat(path)
    try:
        return status, os.getxattr(path, ACCESS_LIST)
    except OSError:
        return status, None


def denied(data: Mapping[str, Any], status: os.stat_result, rules: bytes | None = None) -> Part | None:
    """Return ``container, uid, gids`` of a container whose user cannot read a path by its mode and access control list.

    Null if it can, and for a user that is known by name only.
    """
    user, _colon, group = ((data.get("Config") or {}).get("User") or "0").partition(":")
    added = [each for each in (data.get("HostConfig") or {}).get("GroupAdd") or [] if each.isdigit()]
    if not user.isdigit() or int(user) == 0 or (group and not group.isdigit()):
        return None
    groups = {int(each) for each in ([group] if group else []) + added}
    if may_read(int(user), groups, status) if rules is None else may_read_by_list(int(user), groups, status, rules):
        return None
    return {"container": data["Name"].lstrip("/"), "uid": int(user), "gids": sorted(groups)}


def needed(status: os.stat_result) -> int:
    """Return the permission bits to read a file, or to list and enter a directory."""
    return 0o5 if stat.S_ISDIR(status.st_mode) else 0o4


def may_read(uid: int, gids: Collection[int], status: os.stat_result) -> bool:
    """Return whether the mode allows a user to read a file, or to list and enter a directory."""
    shift = 6 if uid == status.st_uid else 3 if status.st_gid in gids else 0
    return (status.st_mode >> shift) & needed(status) == needed(status)


def may_read_by_list(uid: int, gids: Collection[int], status: os.stat_result, rules: bytes) -> bool:
    """Return the same by an access control list: the owner's entry, else the user's, else any group's, else others'."""
    entries = list(ENTRY.iter_unpack(rules[LIST_HEADER:]))
    mask = next((allowed for tag, allowed, _id in entries if tag == MASK), 0o7)
    if uid == status.st_uid:
        found = [allowed for tag, allowed, _id in entries if tag == OWNER]
    else:
        named = [allowed & mask for tag, allowed, who in entries if (tag, who) == (NAMED_USER, uid)]
        groups = [
            allowed & mask
            for tag, allowed, who in entries
            if (tag == OWNING_GROUP and status.st_gid in gids) or (tag == NAMED_GROUP and who in gids)
        ]
        found = named or groups or [allowed for tag, allowed, _id in entries if tag == OTHERS]
    return any(allowed & needed(status) == needed(status) for allowed in found)
