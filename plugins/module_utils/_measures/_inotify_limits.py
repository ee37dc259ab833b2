# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the inotify limits of a machine and their use. Private to this collection."""

from __future__ import annotations

import errno
import os
from typing import Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine, container_id
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify, _inotify_sizing
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify import Instance, Scan
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify_sizing import (
    BYTES_PER_WATCH,
    kernel_default,
    total_memory,
)
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes, _sysctl
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Deadline,
    Unknown,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC = {
    **_inotify_sizing.ARGUMENT_SPEC,
    "hidden_processes_accepted": {"type": "int", "default": 0},
    "sysctl_root": {"type": "path", "default": "/"},
    "docker_root": {"type": "path"},
    "top": {"type": "int", "default": 20},
    "timeout": {"type": "float", "default": 3.0},
    "deadline": {"type": "float", "default": 10.0},
}

PARTS = ("limits", "boot_reader", "broken_lines", "namespace", "users", "processes", "scan", "memory")


def measure(options: Options) -> Measurement:
    """Return the measurement that the module tracktion.ops.inotify_limits documents."""
    deadline = Deadline(options["deadline"])
    unknown = Unknown()
    try:
        runtime = _inotify.limits()
    except CannotConnect as exc:
        return unreachable(PARTS, exc)
    configuration = _read_configuration(options["sysctl_root"])
    for entry in configuration.unreadable:
        reason = "%s cannot be read: %s" % (entry["file"], entry["reason"])
        unknown.add("limits.*", reason, _rights.hint("CAP_DAC_READ_SEARCH"))
    memory = total_memory()
    scan = _inotify.scan(deadline)
    names = _processes.user_names()
    hidden = sum(map(len, scan.unreadable.values()))
    if hidden <= options["hidden_processes_accepted"]:
        scan.unreadable = {}
    users = count_users(scan, runtime, names)
    floors = _inotify_sizing.floors(options, runtime, memory, users)
    limits = [describe_limit(name, runtime[name], floors.get(name), configuration, memory) for name in runtime]
    if not scan.complete:
        unknown.add("users.*", scan.reason, scan.hint)
    if scan.unreadable:
        unknown.add("users.*", scan.unreadable_reason, _rights.hint("CAP_SYS_PTRACE"))
    top = options["top"]
    return reached(
        {
            "limits": limits,
            "boot_reader": _sysctl.boot_reader(options["sysctl_root"]),
            "broken_lines": [dict(line, text=redact(line["text"])) for line in configuration.broken[:top]],
            "broken_lines_total": len(configuration.broken),
            "namespace": {
                "initial": _processes.in_initial_user_namespace(),
                "max_inotify_watches": _inotify.namespace_limit("max_inotify_watches"),
                "max_inotify_instances": _inotify.namespace_limit("max_inotify_instances"),
            },
            "users": users[:top],
            "users_total": len(users),
            "processes": _top_processes(scan, top, names, Engine(options["docker_root"])),
            "processes_total": len({instance.pid for instance in scan.instances}),
            "scan": _describe_scan(scan, hidden),
            "memory": _describe_memory(scan, runtime["max_user_watches"], memory),
        },
        unknown,
    )


def key_of(name: str) -> str:
    """Return the sysctl key of a limit."""
    return "fs.inotify.%s" % name


def _read_configuration(root: str) -> _sysctl.Configuration:
    found = _sysctl.read([key_of(name) for name in _inotify.LIMITS], root)
    for directory in _sysctl.DIRECTORIES:
        path = _sysctl.under_root(root, directory)
        if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
            found.unreadable.append(
                {"file": directory, "line": None, "text": None, "reason": os.strerror(errno.EACCES)}
            )
    return found


def describe_limit(
    name: str, runtime: int, floor: int | None, configuration: _sysctl.Configuration, memory: int | None
) -> Part:
    """Return one limit: its current value, its value after a boot, and the file that sets it."""
    described = configuration.describe(key_of(name))
    at_boot = described["persisted"] if described["file"] else kernel_default(name, runtime, memory)
    return {
        "name": name,
        "key": key_of(name),
        "runtime": runtime,
        "floor": floor,
        "at_boot": None if configuration.unreadable else at_boot,
        **described,
    }


def count_users(scan: Scan, runtime: Mapping[str, int], names: Mapping[int, str]) -> list[Part]:
    """Return the use of each uid, the highest first.

    If processes of a user cannot be read, the user's numbers are null, and the fields ``..._at_least`` hold what was
    counted. Users without any readable process are one entry without a uid.
    """
    by_uid: dict[int, list[Instance]] = {}
    for instance in scan.instances:
        by_uid.setdefault(instance.uid, []).append(instance)
    users = [
        _describe_user(
            uid, names.get(uid, str(uid)), instances, len(scan.unreadable.get(uid, ())), scan.complete, runtime
        )
        for uid, instances in by_uid.items()
    ]
    hidden = {uid: len(pids) for uid, pids in scan.unreadable.items() if uid not in by_uid}
    if hidden or not scan.complete:
        label = ", ".join(names.get(uid, str(uid)) for uid in sorted(hidden)[:5])
        label = "others (%s)" % label if label else "others"
        users.append(_describe_user(None, label, [], sum(hidden.values()), False, runtime))
    return sorted(users, key=lambda user: (-user["watches_at_least"], -user["instances_at_least"]))


def _describe_user(
    uid: int | None, name: str, held: list[Instance], unreadable: int, complete: bool, runtime: Mapping[str, int]
) -> Part:
    known = complete and not unreadable
    watches, instances = sum(instance.watches for instance in held), len(held)
    max_watches, max_instances = runtime["max_user_watches"], runtime["max_user_instances"]
    return {
        "uid": uid,
        "name": name,
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
        "processes": len({instance.pid for instance in held}),
        "unreadable_processes": unreadable,
        "memory_bytes": watches * BYTES_PER_WATCH if known else None,
    }


def ratio(part: int, whole: int) -> float:
    """Return the used share of a limit; 1 for a limit of 0."""
    return round(part / whole, 4) if whole else 1.0


def _top_processes(scan: Scan, top: int, names: Mapping[int, str], engine: Engine) -> list[Part]:
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


def _describe_scan(scan: Scan, hidden: int) -> Part:
    return {
        "complete": scan.known,
        "reason": scan.hidden_reason,
        "hint": scan.hidden_hint,
        "processes": scan.processes,
        "unreadable_processes": hidden,
        "vanished_processes": scan.vanished,
        "instances": len(scan.instances),
        "watches": sum(instance.watches for instance in scan.instances),
        "descriptors": sum(len(instance.holders) for instance in scan.instances),
        "seconds": round(scan.seconds, 3),
    }


def _describe_memory(scan: Scan, limit: int, total: int | None) -> Part:
    """Return the estimated kernel memory of the watches, now and if one user reached its limit."""
    watches = sum(instance.watches for instance in scan.instances)
    return {
        "bytes_per_watch": BYTES_PER_WATCH,
        "bytes": watches * BYTES_PER_WATCH if scan.known else None,
        "bytes_at_limit": limit * BYTES_PER_WATCH,
        "total_bytes": total,
    }
