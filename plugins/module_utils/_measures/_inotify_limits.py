# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the inotify limits of a machine and their use. Private to this collection."""

from __future__ import annotations

import errno
import os

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import (
    _inotify,
    _inotify_sizing,
    _inotify_use,
    _user_namespaces,
)
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify import Scan
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
    "path": {"type": "path", "default": "/etc/sysctl.d/60-tracktion-inotify.conf"},
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
    engine = Engine(options["docker_root"])
    users = _inotify_use.count_users(scan, runtime, names)
    floors = _inotify_sizing.floors(options, runtime, memory, users)
    users = _inotify_use.with_holders([*users, *_inotify_use.count_namespaces(scan, runtime, names)], scan, engine)
    later = _settings_after(options["path"], options["sysctl_root"])
    limits = [
        {**describe_limit(name, runtime[name], floors.get(name), configuration, memory), **later[name]}
        for name in runtime
    ]
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
                "max_inotify_watches": _user_namespaces.own_limit("max_inotify_watches"),
                "max_inotify_instances": _user_namespaces.own_limit("max_inotify_instances"),
            },
            "users": _inotify_use.first(users, top),
            "users_total": len(users),
            "processes": _inotify_use.top_processes(scan, top, names, engine),
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


def _settings_after(path: str, root: str) -> dict[str, Part]:
    """Return for each limit ``later``, the setting that wins over the drop-in ``path``, and ``unread``.

    ``unread`` lists the settings that no boot reads.
    """
    keys = {name: key_of(name) for name in _inotify.LIMITS}
    reader = _sysctl.boot_reader(root)
    # As if the drop-in set all of them.
    assumed = "".join("%s = 1\n" % key for key in keys.values())
    configuration = _sysctl.read(keys.values(), root, reader, {path: assumed})
    ignored = _sysctl.unread(keys.values(), root, reader)
    found: dict[str, Part] = {}
    for name, key in keys.items():
        winner = configuration.winner(key)
        found[name] = {
            "later": winner.as_result() if winner and winner.file != path else None,
            "unread": [setting.as_result() for setting in ignored if setting.key == key][:5],
        }
    return found


def describe_limit(
    name: str, runtime: int, floor: int | None, configuration: _sysctl.Configuration, memory: int | None
) -> Part:
    """Return one limit: its current value, its value after a boot, and the file that sets it."""
    described = configuration.describe(key_of(name))
    settings, persisted = described["settings"], described["persisted"] or 0
    lowered = [each for each in settings[:-1] if is_of_administrator(each["file"]) and (each["value"] or 0) > persisted]
    winner = described["file"] or ""
    at_boot = described["persisted"] if described["file"] else kernel_default(name, runtime, memory)
    return {
        "name": name,
        "key": key_of(name),
        "runtime": runtime,
        "floor": floor,
        "at_boot": None if configuration.unreadable else at_boot,
        "lowers": max(lowered, key=lambda each: each["value"], default=None),
        "file_to_correct": winner if is_of_administrator(winner) and not described["by_pattern"] else None,
        "file_to_add": _sysctl.file_read_after(winner) if winner.endswith(".conf") and winner != _sysctl.CONF else None,
        **described,
    }


def is_of_administrator(file: str) -> bool:
    """Return whether a sysctl file is one of the administrator, not of a package or the running system."""
    return file.startswith(_sysctl.OF_ADMINISTRATOR)


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
