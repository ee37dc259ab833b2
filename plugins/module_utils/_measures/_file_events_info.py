# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures whether file events reach the watcher, and the watcher its broker. Private to this collection.

Fast measurements that cannot block come first; the directories are walked last, in the rest of the deadline.
"""

from __future__ import annotations

import time
from typing import AbstractSet, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import Hung, NotMeasured, bounded, within
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine, container_id
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import (
    _directory_tree,
    _inotify,
    _watched_directory,
    _watcher,
)
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify import Instance, Scan
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._watcher import Watcher
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts, _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    ENOUGH,
    BadOption,
    CannotConnect,
    Deadline,
    Unknown,
    out_of_time,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._printable import raw, shown
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
# Time limit for the arrival of an event; the kernel needs microseconds.
EVENT_SECONDS = 1.0
# Kept from the deadline for processing the result of a walk.
RESERVE_SECONDS = 0.3


def measure(options: Options) -> Measurement:
    """Return the measurement that the module tracktion.ops.file_events_info documents."""
    _check_options(options)
    deadline = Deadline(max(0.1, options["deadline"] - RESERVE_SECONDS))
    unknown = Unknown()
    try:
        limit = _inotify.limits()["max_user_watches"]
    except CannotConnect as exc:
        return unreachable(PARTS, exc)
    names = _processes.user_names()
    engine = Engine(options["docker_root"])
    scan = _inotify.recent_scan(deadline)
    watcher = Watcher(options, engine)
    described = _watcher.describe(watcher, scan, options, names, unknown)
    sampled, connections = time.monotonic(), _watcher.broker_connections(watcher.pids, options["broker_port"])
    file_systems = _mounts.inode_use(_mounts.mounts(), options["timeout"], deadline, unknown, options["top"])
    main = watcher.main_process(scan)
    paths, inside = _select_directories(options, watcher, scan)
    directories = [Directory(path, main, inside, options) for path in paths]
    for directory in directories:
        directory.inspect(deadline, unknown)
    _describe_watchers(directories, watcher, scan, names, engine, unknown, options["top"])
    _walk(directories, watcher, scan, deadline, unknown, options["max_directories"])
    if watcher.pids:
        if connections:
            time.sleep(max(0.0, min(sampled + options["sample_seconds"] - time.monotonic(), deadline.remaining())))
        again = _watcher.broker_connections(watcher.pids, options["broker_port"])
        described["broker"] = _watcher.describe_broker(options["broker_port"], connections, again)
    return reached(
        {
            "watcher": described,
            "file_systems": file_systems,
            "directories": [directory.result for directory in directories],
            "forecast": _forecast(directories, watcher, scan, limit, names, unknown),
        },
        unknown,
    )


def _check_options(options: Options) -> None:
    for path in options["directories"]:
        if not path.startswith("/"):
            raise BadOption("directories: %r is not an absolute path" % path)
    if options["seen_by"] == "watcher" and not (options["watcher_service"] or options["watcher_command"]):
        raise BadOption("seen_by=watcher needs watcher_service or watcher_command, to find the watcher")


def _select_directories(options: Options, watcher: Watcher, scan: Scan) -> tuple[list[str], bool]:
    """Return the directories to measure, and whether their paths are those inside the watcher's container."""
    if options["directories"] or not options["directory_settings"]:
        return options["directories"], options["seen_by"] == "watcher"
    # A watcher without an inotify instance polls: its directory needs no watch.
    path = _watcher.directory(watcher.pids, options["directory_settings"]) if watcher.instances(scan) else None
    return [path] if path else [], True


class Directory:
    """One configured directory; ``result`` is its entry in the measurement."""

    def __init__(self, path: str, pid: int | None, inside: bool, options: Options) -> None:
        self.path = path.rstrip("/") or "/"
        self.options = options
        # The main process of the watcher, or null.
        self.pid = pid
        self.real: str | None = None
        self.inode: _watched_directory.Inode | None = None
        self.tree: _directory_tree.Tree | None = None
        self.inside = inside
        self.root = "/proc/%d/root" % pid if self.inside and pid else ""
        self.result: Part = dict.fromkeys(_watched_directory.FACTS)
        self.result.update(
            path=shown(self.path),
            path_hex=raw(self.path),
            answers=None,
            error=None,
            watcher_readable=None,
            watched=None,
            instances=None,
            instances_at_least=None,
            watcher_instances=None,
            watchers=None,
            tree=None,
        )

    @property
    def part(self) -> str:
        """Its path in the measurement, as ``unknown`` names it."""
        return "directories.%s" % self.result["path"]

    def inspect(self, deadline: Deadline, unknown: Unknown) -> None:
        """Read the facts, in a thread that is abandoned if the mount does not answer."""
        try:
            if self.inside and not self.root:
                raise OSError("seen_by=watcher needs a running watcher, and it does not run")
            found = within(deadline, self.options["timeout"], self._inspect)
        except OSError as exc:
            self._fail(exc, unknown)
            return
        self.real, self.inode = found.real, found.inode
        self.result.update(found.facts, answers=True)
        if found.facts["is_directory"] and not found.facts["readable"]:
            unknown.add(self.part, "this account may not list it", _rights.hint("CAP_DAC_READ_SEARCH"))

    def _inspect(self) -> _watched_directory.Inspected:
        trigger = "create" if self.options["prove"] else "open"
        event_seconds = min(EVENT_SECONDS, self.options["timeout"] / 2)
        found = _watched_directory.inspect(self.path, self.root, self._mount_table(), trigger, event_seconds)
        found.facts["watcher_readable"] = None
        if found.real and self.pid:
            try:
                found.facts["watcher_readable"] = _watched_directory.readable_by(self.pid, found.real, self.root)
            except OSError:
                # The watcher has ended, or its namespace cannot be read.
                pass
        return found

    def walk(self, seconds: float, most: int, watched: AbstractSet[int] | None, unknown: Unknown) -> None:
        """Count its directories within ``seconds``."""
        limit = Deadline(seconds)
        try:
            tree = bounded(_directory_tree.walk, seconds + RESERVE_SECONDS / 2, self.real, limit, most, watched)
        except OSError as exc:
            if isinstance(exc, Hung) and seconds < self.options["timeout"] * ENOUGH:
                exc = NotMeasured(out_of_time(seconds))
            self._fail(exc, unknown)
            return
        self.tree = tree
        if not tree.complete:
            unknown.add(self.part, "not all of it was walked", _inotify.RAISE_DEADLINE)
        self.result["tree"] = {
            "directories": tree.directories,
            "entries": tree.entries,
            "unreadable": tree.unreadable,
            "complete": tree.complete,
            "not_watched": tree.not_watched if watched is not None else None,
            "not_watched_examples": [self._shown(path) for path in tree.not_watched_examples],
            "fullest": [
                {"path": self._shown(path), "entries": entries} for entries, path in sorted(tree.fullest, reverse=True)
            ],
        }

    def _shown(self, path: str) -> str:
        """Return a path in the form of the configured directory, without the root of the watcher."""
        return shown(path[len(self.root) :])

    def _mount_table(self) -> list[_mounts.Mount]:
        return _mounts.mounts(self.pid if self.root and self.pid else "self")

    def _fail(self, exc: OSError, unknown: Unknown) -> None:
        """Record why it is not, or not fully, measured. A lack of time or rights says nothing about the directory."""
        kind, message = "failed", exc.strerror or str(exc)
        if isinstance(exc, NotMeasured):
            unknown.add(self.part, message)
            return
        if isinstance(exc, PermissionError):
            unknown.add(self.part, message, _rights.hint_of(exc))
            return
        if isinstance(exc, Hung):
            kind = "no_answer"
            mount = _mounts.mount_of(self.path, self._mount_table())
            if mount:
                message += " (%s, %s from %s)" % tuple(map(_mounts.printable, (mount.point, mount.type, mount.source)))
        self.result["answers"] = False
        self.result["error"] = {"kind": kind, "message": message, "hint": None}
        unknown.add("directories", "%s: %s" % (self.result["path"], message))


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
    for directory in directories:
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


def _forecast(
    directories: list[Directory], watcher: Watcher, scan: Scan, limit: int, names: Mapping[int, str], unknown: Unknown
) -> list[Part] | None:
    """Return whether the watches left are enough for the directories without one.

    A list of one entry, for the user of the watcher; empty if no directory could be walked or no watcher runs; null if
    the processes of the watcher are hidden.
    """
    main = watcher.main_process(scan)
    if main is None and watcher.configured and watcher.running is None and directories:
        unknown.add("forecast", watcher.reason, watcher.hint)
        return None
    walked = [(directory, directory.tree) for directory in directories if directory.tree]
    if not walked or main is None:
        return []
    try:
        uid = _inotify.charged_uid(main)
    except PermissionError:
        unknown.add("forecast", "the user namespace of the watcher cannot be read", _rights.hint("CAP_SYS_PTRACE"))
        return None
    except OSError:
        return []
    held = sum(instance.watches for instance in scan.instances if instance.uid == uid)
    known = scan.complete and not scan.unreadable.get(uid)
    missing = [
        directory.result["tree"]["not_watched"] if directory.result["watched"] else tree.directories
        for directory, tree in walked
    ]
    needed = None if None in missing else sum(missing)
    existing = [directory for directory in directories if directory.result["exists"] is not False]
    complete = len(walked) == len(existing) and all(tree.complete for _directory, tree in walked)
    at_most = limit - held
    left = at_most if known else None
    entry = {
        "uid": uid,
        "user": names.get(uid, str(uid)),
        "directories": sum(tree.directories for _directory, tree in walked),
        "complete": complete,
        "watches_limit": limit,
        "watches_held": held if known else None,
        "watches_left": left,
        "watches_left_at_most": at_most,
        "watches_needed": needed,
        "directories_left": left - needed if left is not None and needed is not None and complete else None,
        "fits": fits(left, at_most, needed, complete),
    }
    if not known:
        unknown.add("forecast.*", scan.hidden_reason, scan.hidden_hint)
    return [entry]


def fits(left: int | None, at_most: int, needed: int | None, complete: bool) -> bool | None:
    """Return whether the watches are enough: false as soon as that is certain, true only if all is known, else null."""
    if needed is None:
        return None
    if needed > at_most:
        return False
    return left >= needed if left is not None and complete else None
