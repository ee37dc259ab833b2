# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use of the inotify limits by user, and who holds it. Private to this collection."""

from __future__ import annotations

import re
from typing import Iterable, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine, container_id, id_in
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _user_namespaces
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify import Instance, Scan
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify_sizing import BYTES_PER_WATCH
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._user_namespaces import Charge
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# The innermost unit of systemd in the text of /proc/<pid>/cgroup.
UNIT = re.compile(r"^[^\n]*/([^/\n]+\.service)(?=/|$)", re.MULTILINE)
NAME_LENGTH = 60
# Fields that are null for users with hidden processes.
UNKNOWN = ("watches", "watches_ratio", "watches_left", "instances", "instances_ratio", "instances_left", "memory_bytes")
# Holders with the most watches, and as many with the most instances.
HOLDERS = 5
# User namespaces whose limits are read: each takes a child process.
MAX_NAMESPACES = 50


def count_users(scan: Scan, runtime: Mapping[str, int], names: Mapping[int, str]) -> list[Part]:
    """Return the use of each uid of the initial user namespace, the highest first.

    If processes of a user cannot be read, the user's numbers are null, and the fields ``..._at_least`` hold what was
    counted. Users without any readable process are one entry without a uid.
    """
    by_uid: dict[int, list[Instance]] = {}
    for instance in scan.instances:
        by_uid.setdefault(instance.uid, []).append(instance)
    users = [
        _describe(uid, names.get(uid, str(uid)), instances, len(scan.unreadable.get(uid, ())), scan, runtime)
        for uid, instances in by_uid.items()
    ]
    hidden = {uid: len(pids) for uid, pids in scan.unreadable.items() if uid not in by_uid}
    if hidden or not scan.complete:
        label = ", ".join(names.get(uid, str(uid)) for uid in sorted(hidden)[:5])
        label = "others (%s)" % label if label else "others"
        users.append(dict(_describe(None, label, [], sum(hidden.values()), scan, runtime), **dict.fromkeys(UNKNOWN)))
    return _highest_first(users)


def count_namespaces(scan: Scan, runtime: Mapping[str, int], names: Mapping[int, str]) -> list[Part]:
    """Return the use of each uid of each other user namespace that has a limit below that of the machine."""
    held: dict[Charge, list[Instance]] = {}
    for instance in scan.instances:
        for charge in instance.charges[:-1]:
            held.setdefault(charge, []).append(instance)
    limits: dict[int, Mapping[str, int] | None] = {}
    found = []
    for charge, instances in held.items():
        if charge.namespace not in limits and len(limits) < MAX_NAMESPACES:
            limits[charge.namespace] = _user_namespaces.limits(instances[0].pid, charge.namespace)
        own = limits.get(charge.namespace)
        if own and any(own.get(name, limit) < limit for name, limit in runtime.items()):
            # Both limits count: the lower one is reached first.
            effective = {name: min(own.get(name, limit), limit) for name, limit in runtime.items()}
            command = _processes.label(_processes.arguments(instances[0].pid)) or "pid %d" % instances[0].pid
            label = "%s in the user namespace of %s" % (names.get(charge.uid, charge.uid), command)
            entry = _describe(charge.uid, label, instances, len(scan.unreadable.get(charge.uid, ())), scan, effective)
            found.append(dict(entry, namespace={"pid": instances[0].pid, "inode": charge.namespace}))
    return found


def _describe(
    uid: int | None, name: str, held: list[Instance], unreadable: int, scan: Scan, runtime: Mapping[str, int]
) -> Part:
    known = scan.complete and not unreadable
    watches, instances = sum(instance.watches for instance in held), len(held)
    max_watches, max_instances = runtime["max_user_watches"], runtime["max_user_instances"]
    hidden = "%d processes of this user cannot be read" % unreadable if unreadable else scan.reason
    return {
        "uid": uid,
        "name": name,
        "namespace": None,
        "watches": watches if known else None,
        "watches_at_least": watches,
        "watches_ratio": ratio(watches, max_watches) if known else None,
        "watches_ratio_at_least": ratio(watches, max_watches),
        "watches_limit": max_watches,
        "watches_left": max(0, max_watches - watches) if known else None,
        "watches_left_at_most": max(0, max_watches - watches),
        "instances": instances if known else None,
        "instances_at_least": instances,
        "instances_ratio": ratio(instances, max_instances) if known else None,
        "instances_ratio_at_least": ratio(instances, max_instances),
        "instances_limit": max_instances,
        "instances_left": max(0, max_instances - instances) if known else None,
        "instances_left_at_most": max(0, max_instances - instances),
        "processes": len({instance.pid for instance in held}),
        "unreadable_processes": unreadable,
        "hidden": None if known else hidden,
        "memory_bytes": watches * BYTES_PER_WATCH if known else None,
        "holders": [],
        "holders_total": 0,
    }


def _highest_first(users: Iterable[Part]) -> list[Part]:
    def used(user: Part) -> tuple[float, int, int]:
        highest = max(user["watches_ratio_at_least"], user["instances_ratio_at_least"])
        return -highest, -user["watches_at_least"], -user["instances_at_least"]

    return sorted(users, key=used)


def first(users: Sequence[Part], top: int) -> list[Part]:
    """Return the first users, and with them the entry for those whose processes are hidden."""
    found = list(users[:top])
    hidden = [user for user in users[top:] if user["uid"] is None]
    return [*found[: top - len(hidden)], *hidden]


def ratio(part: int, whole: int) -> float:
    """Return the used share of a limit; 1 for a limit of 0."""
    return round(part / whole, 4) if whole else 1.0


def with_holders(users: Sequence[Part], scan: Scan, engine: Engine) -> list[Part]:
    """Return the users, the highest use first, each with the programs that hold it."""
    groups = [(instance, _group(instance, engine)) for instance in scan.instances]
    found = []
    for user in _highest_first(users):
        namespace = (user["namespace"] or {}).get("inode")
        by_group: dict[tuple[object, ...], Part] = {}
        for instance, group in groups:
            if any(charge.uid == user["uid"] and _is_of(charge, namespace) for charge in instance.charges):
                _add(by_group, instance, group)
        held = list(by_group.values())
        most_watches = sorted(held, key=lambda each: (-each["watches"], each["pid"]))[:HOLDERS]
        most_instances = sorted(held, key=lambda each: (-each["instances"], each["pid"]))[:HOLDERS]
        chosen = most_watches + [each for each in most_instances if each not in most_watches]
        for each in held:
            each["processes"] = len(each["processes"])
        found.append(dict(user, holders=chosen, holders_total=len(held)))
    return found


def _is_of(charge: Charge, namespace: int | None) -> bool:
    return charge.namespace == (namespace or _processes.INITIAL_USER_NAMESPACE)


def _group(instance: Instance, engine: Engine) -> Part:
    """Return what the process of an instance belongs to."""
    try:
        with open("/proc/%d/cgroup" % instance.pid, encoding="utf-8", errors="replace") as stream:
            text = stream.read()
    except OSError:
        text = ""
    container = engine.container(id_in(text)) or {}
    units = UNIT.findall(text)
    unit = cut(shown(units[-1]), NAME_LENGTH) if units and not container else None
    command = _processes.label(_processes.arguments(instance.pid))
    return {
        "name": container.get("service") or container.get("name") or unit or command or "unnamed",
        "command": command,
        "container": container.get("name"),
        "service": container.get("service"),
        "project": container.get("project"),
        "unit": unit,
    }


def _add(by_group: dict[tuple[object, ...], Part], instance: Instance, group: Part) -> None:
    entry = by_group.setdefault(
        tuple(group.values()), dict(group, pid=instance.pid, processes=set(), watches=0, instances=0)
    )
    entry["pid"] = min(entry["pid"], instance.pid)
    entry["processes"].add(instance.pid)
    entry["watches"] += instance.watches
    entry["instances"] += 1


def top_processes(scan: Scan, top: int, names: Mapping[int, str], engine: Engine) -> list[Part]:
    """Return the processes with the most watches. A shared instance counts for its oldest process."""
    by_pid: dict[int, list[Instance]] = {}
    for instance in scan.instances:
        by_pid.setdefault(instance.pid, []).append(instance)
    order = sorted(by_pid.items(), key=lambda entry: (-sum(i.watches for i in entry[1]), -len(entry[1]), entry[0]))
    return [_describe_process(pid, instances, names, engine) for pid, instances in order[:top]]


def _describe_process(pid: int, instances: list[Instance], names: Mapping[int, str], engine: Engine) -> Part:
    container = engine.container(container_id(pid)) or {}
    uid = instances[0].uid
    return {
        "pid": pid,
        "uid": uid,
        "user": names.get(uid, str(uid)),
        "command": _processes.label(_processes.arguments(pid)),
        "watches": sum(instance.watches for instance in instances),
        "instances": len(instances),
        "shared_with": sorted({holder for i in instances for holder, _fd in i.holders if holder != pid})[:20],
        "container_id": container.get("id"),
        "container": container.get("name"),
        "service": container.get("service"),
        "project": container.get("project"),
    }
