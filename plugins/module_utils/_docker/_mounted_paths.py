# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths of the host that containers mount: whether they are what the container expects, and its user may use them.

Private to this collection.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import Any, Collection, Iterable, Mapping, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_users
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import epoch
from ansible_collections.tracktion.ops.plugins.module_utils._linux._hung_mounts import HungMounts
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

ACCESS_LIST = "system.posix_acl_access"
# Four bytes with the version, then an entry of tag, permissions and id for each rule (acl(5)).
LIST_HEADER = 4
ENTRY = struct.Struct("<HHI")
OWNER, NAMED_USER, OWNING_GROUP, NAMED_GROUP, MASK, OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
READ, WRITE, ENTER = 0o4, 0o2, 0o1
# Names that files have, and directories have not.
OF_FILES = (
    *(".conf", ".cnf", ".cfg", ".ini", ".toml", ".yaml", ".yml", ".json", ".xml", ".env", ".properties", ".acl"),
    *(".sql", ".sh", ".py", ".pem", ".crt", ".key", ".cert", ".txt", ".csv", ".log", ".sock", ".lua", ".htpasswd"),
)
# The engine creates a missing directory within so many seconds before or after it creates the container.
CREATION_SECONDS = 5.0


class Use(NamedTuple):
    """A mount of a container, by its inspection; its user, null if it cannot be resolved."""

    data: Mapping[str, Any]
    mount: Mapping[str, Any]
    user: _container_users.User | None


class Look(NamedTuple):
    """What was read of a path."""

    status: os.stat_result
    # The access control list in the kernel's format, null if it has none.
    rules: bytes | None
    # Whether a directory has no entries; null for a file.
    is_empty: bool | None


def paths(
    inspected: Iterable[Mapping[str, Any]],
    of_files: Mapping[str, list[str]],
    options: Options,
    deadline: Deadline,
    unknown: Unknown,
) -> list[Part]:
    """Return an entry for each path of the inspections and of the compose files (path -> services)."""
    mounted: dict[str, list[Use]] = {}
    for data in inspected:
        # Read from the files of the container: once, however many paths it mounts.
        user = _container_users.user_of(data) if data.get("Mounts") else None
        for mount in data.get("Mounts") or []:
            if mount.get("Type") in ("bind", "volume") and mount.get("Source"):
                mounted.setdefault(mount["Source"], []).append(Use(data, mount, user))
    found = []
    closed: OSError | None = None
    hung_mounts = HungMounts()
    for path in sorted(set(mounted) | set(of_files)):
        users = mounted.get(path, [])
        is_volume = bool(users) and all(use.mount["Type"] == "volume" for use in users)
        names = {use.data["Name"].lstrip("/") for use in users} or set(of_files[path])
        entry: Part = {
            "path": path,
            "used_by": sorted(names),
            "volume": users[0].mount.get("Name") if is_volume else None,
        }
        entry.update(dict.fromkeys(FIELDS))
        try:
            hung_mounts.reject(path, options["timeout"], deadline)
            seen = within(deadline, options["timeout"], look, path)
        except FileNotFoundError:
            if is_volume:
                # Of another driver, which mounts it while a container uses it.
                continue
            entry.update(exists=False, denied=[], not_writable=[], missing_file=[], empty_read_only=[], made_empty=[])
        except OSError as exc:
            if is_volume:
                closed = closed or exc
                continue
            unknown.add("paths.%s" % path, exc.strerror or exc, _rights.hint_of(exc))
        else:
            status = seen.status
            entry.update(exists=True, uid=status.st_uid, gid=status.st_gid)
            entry["mode"] = "%04o" % stat.S_IMODE(status.st_mode)
            described(entry, seen, users, is_volume)
        found.append(entry)
    if closed is not None:
        reason = "the volumes of the engine cannot be read: %s" % (closed.strerror or closed)
        unknown.add("paths[...]", reason, _rights.hint_of(closed))
    # Those with a finding first, so that no limit on the list hides them.
    found.sort(key=lambda entry: not any(entry[name] for name in PROBLEMS) and entry["exists"] is True)
    return found[: options["top"]]


PROBLEMS = ("denied", "not_writable", "missing_file", "empty_read_only", "made_empty")
FIELDS = ("exists", "uid", "gid", "mode", *PROBLEMS)


def described(entry: Part, seen: Look, users: Iterable[Use], is_volume: bool) -> None:
    """Add what is wrong with a path for the containers that mount it."""
    entry.update((name, []) for name in PROBLEMS)
    for data, mount, user in users:
        name, target = data["Name"].lstrip("/"), mount.get("Destination") or ""
        use = {"container": name, "target": target, "running": (data.get("State") or {}).get("Status") == "running"}
        if user and user.uid:
            as_user = dict(use, uid=user.uid, gids=sorted(user.gids))
            if not may(user.uid, user.gids, seen, needed(seen.status)):
                entry["denied"].append(as_user)
            elif mount.get("RW") and not may(user.uid, user.gids, seen, needed(seen.status) | WRITE):
                entry["not_writable"].append(as_user)
        if is_volume or not seen.is_empty:
            continue
        if os.path.splitext(target)[1].lower() in OF_FILES:
            entry["missing_file"].append(use)
        elif not mount.get("RW"):
            entry["empty_read_only"].append(use)
        elif is_made_by_engine(seen.status, epoch(data.get("Created"))):
            entry["made_empty"].append(use)


def is_made_by_engine(status: os.stat_result, created: float | None) -> bool:
    """Return whether an empty directory looks as if the engine had created it for a container, as it was missing."""
    return created is not None and status.st_uid == 0 and abs(status.st_ctime - created) <= CREATION_SECONDS


def look(path: str) -> Look:
    """Return what can be read of a path. Raises OSError."""
    status = os.stat(path)
    is_empty = None
    if stat.S_ISDIR(status.st_mode):
        with os.scandir(path) as entries:
            is_empty = next(entries, None) is None
    try:
        return Look(status, os.getxattr(path, ACCESS_LIST), is_empty)
    except OSError:
        return Look(status, None, is_empty)


def needed(status: os.stat_result) -> int:
    """Return the permission bits to read a file, or to list and enter a directory."""
    return READ | ENTER if stat.S_ISDIR(status.st_mode) else READ


def may(uid: int, gids: Collection[int], seen: Look, wanted: int) -> bool:
    """Return whether mode and access control list allow a user all of these permissions."""
    if seen.rules is None:
        return may_by_mode(uid, gids, seen.status, wanted)
    return may_by_list(uid, gids, seen.status, seen.rules, wanted)


def may_by_mode(uid: int, gids: Collection[int], status: os.stat_result, wanted: int) -> bool:
    """Return whether the mode allows ``wanted`` (bits of rwx): by the owner's bits, else the group's, else others'."""
    shift = 6 if uid == status.st_uid else 3 if status.st_gid in gids else 0
    return (status.st_mode >> shift) & wanted == wanted


def may_by_list(uid: int, gids: Collection[int], status: os.stat_result, rules: bytes, wanted: int) -> bool:
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
    return any(allowed & wanted == wanted for allowed in found)
