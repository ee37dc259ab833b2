# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the inotify limits of a machine and who uses them up. Private to this collection."""

from __future__ import annotations

import errno
import os

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine, container_id
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify, _inotify_sizing
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


def measure(options):
    """The measurement that the module tracktion.ops.inotify_limits documents."""
    deadline = Deadline(options["deadline"])
    unknown = Unknown()
    try:
        runtime = runtime_limits()
    except CannotConnect as exc:
        return unreachable(PARTS, exc)
    configuration = read_configuration(options)
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
        unknown.add("users.*", why_unreadable(scan), _rights.hint("CAP_SYS_PTRACE"))
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
            "processes": busiest(scan, top, names, Engine(options["docker_root"])),
            "processes_total": len({instance.pid for instance in scan.instances}),
            "scan": describe_scan(scan, hidden),
            "memory": describe_memory(scan, runtime["max_user_watches"], memory),
        },
        unknown,
    )


def hint_to_see(scan) -> str | None:
    """Return how to see all processes; null where all were seen."""
    if scan.reason:
        return scan.hint
    return _rights.hint("CAP_SYS_PTRACE") if scan.unreadable else None


def why_unreadable(scan):
    pids = sorted(pid for mine in scan.unreadable.values() for pid in mine)
    if os.geteuid():
        return "the descriptors of %d processes cannot be read without privilege" % len(pids)
    return "the descriptors of some processes cannot be read, not even by root: %s" % ", ".join(map(str, pids[:10]))


def runtime_limits():
    """The limits by name, as the kernel has them now. Raises CannotConnect where it has none."""
    try:
        return {name: _inotify.limit(name) for name in _inotify.LIMITS}
    except (OSError, ValueError) as exc:
        raise no_inotify(exc) from exc


def no_inotify(exc):
    return CannotConnect(
        "no_inotify",
        "The inotify limits cannot be read: %s" % exc,
        "inotify needs Linux with %s mounted; measure on the host that runs the watcher" % _inotify.LIMITS_DIRECTORY,
    )


def key_of(name):
    return "fs.inotify.%s" % name


def read_configuration(options, instead=None):
    root = options["sysctl_root"]
    found = _sysctl.read([key_of(name) for name in _inotify.LIMITS], root, instead=instead)
    for directory in _sysctl.DIRECTORIES:
        path = _sysctl.below(root, directory)
        if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
            found.unreadable.append(
                {"file": directory, "line": None, "text": None, "reason": os.strerror(errno.EACCES)}
            )
    return found


def describe_limit(name, runtime, floor, configuration, memory):
    """One limit: what holds now, what will hold after a boot, and which file says so."""
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


def count_users(scan, runtime, names):
    """Use by uid, the fullest first.

    Where processes of a user could not be read, the user's numbers are null, and ``watches_at_least`` and
    ``instances_at_least`` say what was seen. Users of whom nothing at all could be read are one entry
    without a uid.
    """
    seen = {}
    for instance in scan.instances:
        entry = seen.setdefault(instance.uid, {"watches": 0, "instances": 0, "pids": set()})
        entry["watches"] += instance.watches
        entry["instances"] += 1
        entry["pids"].add(instance.pid)
    users = [
        describe_user(uid, names.get(uid, str(uid)), entry, len(scan.unreadable.get(uid, ())), scan.complete, runtime)
        for uid, entry in seen.items()
    ]
    hidden = {uid: len(pids) for uid, pids in scan.unreadable.items() if uid not in seen}
    if hidden or not scan.complete:
        label = ", ".join(names.get(uid, str(uid)) for uid in sorted(hidden)[:5])
        nothing = {"watches": 0, "instances": 0, "pids": ()}
        label = "others (%s)" % label if label else "others"
        users.append(describe_user(None, label, nothing, sum(hidden.values()), False, runtime))
    return sorted(users, key=lambda user: (-user["watches_at_least"], -user["instances_at_least"]))


def describe_user(uid, name, entry, unreadable, complete, runtime):
    known = complete and not unreadable
    watches, instances = entry["watches"], entry["instances"]
    most_watches, most_instances = runtime["max_user_watches"], runtime["max_user_instances"]
    return {
        "uid": uid,
        "name": name,
        "watches": watches if known else None,
        "watches_at_least": watches,
        "watches_ratio": ratio(watches, most_watches) if known else None,
        "watches_ratio_at_least": ratio(watches, most_watches),
        "watches_limit": most_watches,
        "watches_left": max(0, most_watches - watches) if known else None,
        "watches_left_at_most": max(0, most_watches - watches),
        "instances": instances if known else None,
        "instances_at_least": instances,
        "instances_ratio": ratio(instances, most_instances) if known else None,
        "instances_ratio_at_least": ratio(instances, most_instances),
        "instances_limit": most_instances,
        "instances_left": max(0, most_instances - instances) if known else None,
        "processes": len(entry["pids"]),
        "unreadable_processes": unreadable,
        "memory_bytes": watches * BYTES_PER_WATCH if known else None,
    }


def ratio(part, whole):
    """The share that is used; a limit of nothing is used up."""
    return round(part / whole, 4) if whole else 1.0


def busiest(scan, top, names, engine):
    """The processes with the most watches. An instance that several processes share counts for the oldest one."""
    mine = {}
    for instance in scan.instances:
        mine.setdefault(instance.pid, []).append(instance)
    order = sorted(mine.items(), key=lambda entry: (-sum(i.watches for i in entry[1]), -len(entry[1]), entry[0]))
    return [describe_process(pid, instances, names, engine) for pid, instances in order[:top]]


def describe_process(pid, instances, names, engine):
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


def describe_scan(scan, hidden):
    return {
        "complete": scan.complete and not scan.unreadable,
        "reason": scan.reason or (why_unreadable(scan) if scan.unreadable else None),
        "hint": hint_to_see(scan),
        "processes": scan.processes,
        "unreadable_processes": hidden,
        "vanished_processes": scan.vanished,
        "instances": len(scan.instances),
        "watches": sum(instance.watches for instance in scan.instances),
        "descriptors": sum(len(instance.holders) for instance in scan.instances),
        "seconds": round(scan.seconds, 3),
    }


def describe_memory(scan, limit, total):
    """What the watches cost in kernel memory, estimated; and would cost if one user used up its limit."""
    known = scan.complete and not scan.unreadable
    watches = sum(instance.watches for instance in scan.instances)
    return {
        "bytes_per_watch": BYTES_PER_WATCH,
        "bytes": watches * BYTES_PER_WATCH if known else None,
        "bytes_at_limit": limit * BYTES_PER_WATCH,
        "total_bytes": total,
    }
