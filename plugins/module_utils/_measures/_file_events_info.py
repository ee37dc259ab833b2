# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures whether file events reach the watcher, and the watcher its broker. Private to this collection.

Fast measurements that cannot block come first; the directories are walked last, in the rest of the deadline.
"""

from __future__ import annotations

import os
import time
from typing import Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    Engine,
    age,
    container_id,
    writes_since,
)
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import (
    _budgets,
    _inotify,
    _user_namespaces,
    _watched_directory,
    _watcher,
    _watcher_cause,
    _watcher_log,
)
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._directories import (
    RESERVE_SECONDS,
    Directory,
    Place,
)
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._forecast import forecast
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify import Instance, Scan
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._watcher import Watcher
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._watcher_container import Container
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts, _processes
from ansible_collections.tracktion.ops.plugins.module_utils._linux._hung_mounts import HungMounts
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    Unknown,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC = {
    "directories": {"type": "list", "elements": "path", "default": []},
    "directory_settings": {"type": "list", "elements": "str", "default": []},
    "seen_by": {"type": "str", "choices": ["host", "watcher"], "default": "host"},
    "watcher_service": {"type": "str", "default": ""},
    "watcher_project": {"type": "str", "default": ""},
    "watcher_command": {"type": "str", "default": ""},
    "watcher_settings": {"type": "list", "elements": "str", "default": []},
    "broker_port": {"type": "int", "default": 5672},
    "sample_seconds": {"type": "float", "default": 1.0},
    "prove": {"type": "bool", "default": False},
    "max_directories": {"type": "int", "default": 1000000},
    "docker_root": {"type": "path"},
    "top": {"type": "int", "default": 20},
    "timeout": {"type": "float", "default": 3.0},
    "deadline": {"type": "float", "default": 10.0},
}

PARTS = ("watcher", "file_systems", "directories", "forecast")
# Containers of a scaled service whose mounts are read.
MAX_CONTAINERS = 20


def measure(options: Options) -> Measurement:
    """Return the measurement that the module tracktion.ops.file_events_info documents."""
    _check_options(options)
    deadline = Deadline(max(0.1, options["deadline"] - RESERVE_SECONDS))
    unknown = Unknown()
    try:
        limits = _inotify.limits()
    except CannotConnect as exc:
        return unreachable(PARTS, exc)
    names = _processes.user_names()
    engine = Engine(options["docker_root"])
    scan = _inotify.recent_scan(deadline)
    watcher = Watcher(options, engine)
    described = _watcher.describe(watcher, scan, options, names, unknown)
    sampled, connections = time.monotonic(), _watcher.broker_connections(watcher.pids, options["broker_port"])
    file_systems = _mounts.inode_use(_mounts.mounts(), options["timeout"], deadline, unknown, options["top"])
    places = _places(watcher, engine, scan)
    container = places[0].container
    paths, inside = _select_directories(options, watcher, container)
    directories = [Directory(path, places, inside, options) for path in paths]
    mounts = HungMounts()
    for directory in directories:
        directory.inspect(mounts, deadline, unknown)
    if not watcher.reason:
        described["unmounted"] = [
            {"path": directory.result["path"], "inside": inside}
            for directory in directories
            if directory.result["mounted"] is False
        ]
    described["mounts"] = ["%s on %s" % tuple(map(shown, mount)) for mount in container.mounts[: options["top"]]]
    # Without a running container, nothing is known about a path in it that is not mounted.
    directories = [each for each in directories if each.result["mounted"] is not False or each.result["answers"]]
    _describe_watchers(directories, watcher, scan, names, engine, unknown, options["top"])
    _walk(directories, watcher, scan, deadline, unknown, options["max_directories"])
    if watcher.pids:
        if connections:
            time.sleep(max(0.0, min(sampled + options["sample_seconds"] - time.monotonic(), deadline.remaining())))
        again = _watcher.broker_connections(watcher.pids, options["broker_port"])
        described["broker"] = _watcher.describe_broker(options["broker_port"], connections, again)
    described.update(_why_no_watch(watcher, container, directories, scan, limits, names, deadline))
    polls = described["polling"]["polls"]
    return reached(
        {
            "watcher": described,
            "file_systems": file_systems,
            "directories": [directory.result for directory in directories],
            # A watcher that polls needs no watches.
            "forecast": [] if polls else forecast(directories, watcher, scan, limits, names, unknown),
        },
        unknown,
    )


def _check_options(options: Options) -> None:
    for path in options["directories"]:
        if not path.startswith("/"):
            raise BadOption("directories: %r is not an absolute path" % path)
    if options["seen_by"] == "watcher" and not (options["watcher_service"] or options["watcher_command"]):
        raise BadOption("seen_by=watcher needs watcher_service or watcher_command, to find the watcher")


def _select_directories(options: Options, watcher: Watcher, container: Container) -> tuple[list[str], bool]:
    """Return the directories to measure, and whether their paths are those inside the watcher's container."""
    if options["directories"] or not options["directory_settings"]:
        return options["directories"], options["seen_by"] == "watcher"
    path = _watcher.directory(watcher.pids, options["directory_settings"])
    if not watcher.pids:
        path = container.setting(options["directory_settings"])
    return [path] if path else [], True


def _places(watcher: Watcher, engine: Engine, scan: Scan) -> list[Place]:
    """Return the containers of the watcher, that of its main process first; one without a container if it has none."""
    main = watcher.main_process(scan)
    identities = [each["id"] for each in watcher.containers[:MAX_CONTAINERS]]
    of_main = container_id(main) if main is not None else watcher.container.get("id")
    if of_main not in identities:
        return [Place(main, Container(engine, None))]
    identities.sort(key=lambda identity: identity != of_main)
    return [Place(watcher.main_process(scan, identity), Container(engine, identity)) for identity in identities]


def _why_no_watch(
    watcher: Watcher,
    container: Container,
    directories: list[Directory],
    scan: Scan,
    limits: Mapping[str, int],
    names: Mapping[int, str],
    deadline: Deadline,
) -> Part:
    """Return the parts ``polling``, ``cause`` and ``overflow`` of the watcher."""
    main = watcher.main_process(scan)
    log = _watcher_log.read(container.log, writes_since(watcher.container.get("started")))
    instances = watcher.instances(scan)
    known = not watcher.configured or watcher.readable(scan) or watcher.running is False
    cause = None
    declared = observed = None
    if watcher.configured and known:
        budgets, files = _limits_of(main, container, scan, limits)
        cause = _watcher_cause.find(log, budgets, files, names)
        if watcher.pids and not instances:
            # Imported only for a watcher without inotify.
            from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _polling

            declared = _polling.declared(watcher.pids)
            real = next((directory.real for directory in directories if directory.real), None)
            if real and not declared:
                seconds = min(_polling.SECONDS, max(0.0, deadline.remaining()))
                observed = _polling.observed(watcher.pids, real, seconds)
    overflow = log.get("overflow")
    return {
        "cause": cause,
        "polling": _watcher_cause.polling(declared, observed, bool(instances), cause, log.get("fallback"))
        if known
        else dict.fromkeys(("declared", "observed", "polls", "fell_back")),
        "overflow": {"line": overflow.text, "seconds_ago": age(overflow.time)} if overflow else None,
    }


def _limits_of(
    main: int | None, container: Container, scan: Scan, limits: Mapping[str, int]
) -> tuple[list[_budgets.Budget], _watcher_cause.Files]:
    """Return the limits of inotify and of open files that apply to the watcher, also while it is down."""
    if main is not None:
        try:
            return _budgets.of_process(main, scan, limits), _watcher_cause.files_of(main)
        except (FileNotFoundError, ProcessLookupError):
            # It has ended meanwhile, as that of a container in a crash loop does.
            pass
        except OSError:
            return [], _watcher_cause.Files(None, None)
    user = container.user()
    budgets = [] if user is None else _budgets.of_user(user.uid, scan, limits)
    return budgets, _watcher_cause.Files(None, container.open_files())


def _describe_watchers(
    directories: list[Directory],
    watcher: Watcher,
    scan: Scan,
    names: Mapping[int, str],
    engine: Engine,
    unknown: Unknown,
    top: int,
) -> None:
    """Add to each directory which instances watch it."""
    found = _watched_directory.holders({directory.inode for directory in directories if directory.inode}, scan)
    if found and not scan.known:
        unknown.add("directories.*", scan.hidden_reason, scan.hidden_hint)
    own = set(watcher.instances(scan))
    is_users = _is_limit_of_watcher(watcher.main_process(scan))
    for directory in directories:
        error = (directory.result["event"] or {}).get("error")
        if error:
            error["of_watcher"] = is_users
        if not directory.inode:
            continue
        instances, result = found[directory.inode], directory.result
        of_watcher = [instance for instance in instances if instance in own]
        result.update(instances=len(instances) if scan.known else None, instances_at_least=len(instances))
        result["watchers"] = [_describe_holder(each, each in own, names, engine) for each in instances[:top]]
        if watcher.readable(scan):
            result.update(watched=bool(of_watcher), watcher_instances=len(of_watcher))
        elif watcher.running is False:
            result.update(watched=False, watcher_instances=0)
        elif not watcher.configured:
            # Without a configured watcher, any instance counts.
            result["watched"] = True if instances else False if scan.known else None


def _is_limit_of_watcher(main: int | None) -> bool | None:
    """Return whether a limit that the measuring user has reached is one of the watcher, too.

    True without a running watcher: nothing else could be affected.
    """
    if main is None:
        return True
    try:
        return _user_namespaces.charges(main)[-1].uid == _user_namespaces.charges(os.getpid())[-1].uid
    except OSError:
        return None


def _describe_holder(instance: Instance, is_watcher: bool, names: Mapping[int, str], engine: Engine) -> Part:
    container = engine.container(container_id(instance.pid)) or {}
    return {
        "pid": instance.pid,
        "user": names.get(instance.uid, str(instance.uid)),
        "command": _processes.label(_processes.arguments(instance.pid)),
        "container": container.get("name"),
        "service": container.get("service"),
        "is_watcher": is_watcher,
    }


def _walk(
    directories: list[Directory], watcher: Watcher, scan: Scan, deadline: Deadline, unknown: Unknown, most: int
) -> None:
    """Walk the trees, each in an equal share of the remaining deadline."""
    watched = None
    if watcher.readable(scan):
        watched = {inode for instance in watcher.instances(scan) for _device, inode in instance.watched()}
    pending = [directory for directory in directories if directory.real and directory.result["readable"]]
    for number, directory in enumerate(pending):
        # Without a watch on the root there is none below it: no examples are needed.
        known = watched if directory.result["watched"] else None
        directory.walk(deadline.remaining() / (len(pending) - number), most, known, unknown)
