# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures whether file events of some directories reach the watcher, and the broker. Private to this collection.

What is cheap and cannot hang comes first; the directories are walked last, in what is left of the deadline.
"""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import Hung, NotMeasured, bounded, within
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine, container_id
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import (
    _directory_tree,
    _inotify,
    _watched_directory,
    _watcher,
)
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts, _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    ENOUGH,
    BadOption,
    Deadline,
    Unknown,
    out_of_time,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measures._inotify_limits import (
    hint_to_see,
    no_inotify,
    why_unreadable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._printable import raw, shown

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
# How long an event may take; the kernel needs microseconds.
EVENT_SECONDS = 1.0
# What is left of the deadline for judging what a walk found.
RESERVE_SECONDS = 0.3


def measure(options):
    """The measurement that the module tracktion.ops.file_events_info documents."""
    check_options(options)
    deadline = Deadline(max(0.1, options["deadline"] - RESERVE_SECONDS))
    unknown = Unknown()
    try:
        limit = _inotify.limit("max_user_watches")
    except (OSError, ValueError) as exc:
        return unreachable(PARTS, no_inotify(exc))
    names = _processes.user_names()
    engine = Engine(options["docker_root"])
    scan = _inotify.recent_scan(deadline)
    watcher = _watcher.Watcher(options, engine)
    described = _watcher.describe(watcher, scan, options, names, unknown)
    sampled, connections = time.monotonic(), _watcher.broker(watcher.pids, options["broker_port"])
    file_systems = _mounts.inode_use(_mounts.mounts(), options["timeout"], deadline, unknown, options["top"])
    main = watcher.main(scan)
    paths, inside = wanted(options, watcher, scan)
    directories = [Directory(path, main, inside, options) for path in paths]
    for directory in directories:
        directory.look(deadline, unknown)
    find_holders(directories, watcher, scan, names, engine, unknown, options["top"])
    walk(directories, watcher, scan, deadline, unknown, options["max_directories"])
    if watcher.pids:
        if connections:
            time.sleep(max(0.0, min(sampled + options["sample_seconds"] - time.monotonic(), deadline.remaining())))
        again = _watcher.broker(watcher.pids, options["broker_port"])
        described["broker"] = _watcher.describe_broker(options["broker_port"], connections, again)
    return reached(
        {
            "watcher": described,
            "file_systems": file_systems,
            "directories": [directory.data for directory in directories],
            "forecast": forecast(directories, watcher, scan, limit, names, unknown),
        },
        unknown,
    )


def check_options(options):
    for path in options["directories"]:
        if not path.startswith("/"):
            raise BadOption("directories: %r is not an absolute path" % path)
    if options["seen_by"] == "watcher" and not (options["watcher_service"] or options["watcher_command"]):
        raise BadOption("seen_by=watcher needs watcher_service or watcher_command, which say who the watcher is")


def wanted(options, watcher, scan):
    """``(paths, inside)``: the directories to look at, and whether they are those that the watcher sees."""
    if options["directories"] or not options["directory_settings"]:
        return options["directories"], options["seen_by"] == "watcher"
    # One that holds no instance may look at them from time to time, which is its right.
    path = _watcher.directory(watcher.pids, options["directory_settings"]) if watcher.instances(scan) else None
    return [path] if path else [], True


class Directory:
    """One of the configured directories, on its way to ``data``."""

    def __init__(self, path, pid, inside, options):
        self.path = path.rstrip("/") or "/"
        self.options = options
        # The process that watches, or null.
        self.pid = pid
        self.real = None
        self.inode = None
        self.tree = None
        self.inside = inside
        self.root = "/proc/%d/root" % pid if self.inside and pid else ""
        self.data = dict.fromkeys(_watched_directory.FACTS)
        self.data.update(
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

    def look(self, deadline, unknown):
        """Learn the facts, in a thread that may be left behind where the mount is dead."""
        try:
            if self.inside and not self.root:
                raise OSError("seen_by=watcher: the watcher does not run, and so sees nothing")
            facts = within(deadline, self.options["timeout"], self._facts)
        except OSError as exc:
            self._fail(exc, unknown)
            return
        self.real, self.inode = facts.pop("real"), facts.pop("inode")
        self.data.update(facts, answers=True)
        if facts["is_directory"] and not facts["readable"]:
            unknown.add(
                "directories.%s" % self.data["path"],
                "this account may not list it",
                _rights.hint("CAP_DAC_READ_SEARCH"),
            )

    def _facts(self):
        trigger = "create" if self.options["prove"] else "open"
        table = _mounts.mounts(self.pid if self.root else "self")
        event_seconds = min(EVENT_SECONDS, self.options["timeout"] / 2)
        facts = _watched_directory.look(self.path, self.root, table, trigger, event_seconds)
        facts["watcher_readable"] = None
        if facts["real"] and self.pid:
            try:
                facts["watcher_readable"] = _watched_directory.readable_by(self.pid, facts["real"], self.root)
            except OSError:
                # The watcher ended, or its namespace is not ours to look at.
                pass
        return facts

    def walk(self, deadline, seconds, most, watched, unknown):
        """Count its directories within ``seconds``."""
        walking = Deadline(seconds)
        try:
            self.tree = bounded(_directory_tree.walk, seconds + RESERVE_SECONDS / 2, self.real, walking, most, watched)
        except OSError as exc:
            if isinstance(exc, Hung) and seconds < self.options["timeout"] * ENOUGH:
                exc = NotMeasured(out_of_time(seconds))
            self._fail(exc, unknown)
            return
        tree = self.tree
        if not tree.complete:
            unknown.add(
                "directories.%s" % self.data["path"], "not all of it was walked", "Raise `file_watching_deadline`"
            )
        self.data["tree"] = {
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

    def _shown(self, path):
        """A path as it is called where the directory is configured."""
        return shown(path[len(self.root) :])

    def _fail(self, exc, unknown):
        """Note why nothing, or not all, is known; what is due to us (time, rights) is no fault of the directory."""
        kind, message = "failed", exc.strerror or str(exc)
        part = "directories.%s" % self.data["path"]
        if isinstance(exc, NotMeasured):
            unknown.add(part, message)
            return
        if isinstance(exc, PermissionError):
            unknown.add(part, message, _rights.hint_of(exc))
            return
        if isinstance(exc, Hung):
            kind = "hung"
            mount = _mounts.mount_of(self.path, _mounts.mounts(self.pid if self.root else "self"))
            message += " (%s, %s from %s)" % tuple(map(_mounts.printable, (mount.point, mount.type, mount.source)))
        self.data["answers"] = False
        self.data["error"] = {"kind": kind, "message": message, "hint": None}
        unknown.add("directories", "%s: %s" % (self.data["path"], message))


def find_holders(directories, watcher, scan, names, engine, unknown, top):
    """Say for each directory who watches it."""
    found = _watched_directory.holders({directory.inode for directory in directories if directory.inode}, scan)
    hidden = None if scan.complete and not scan.unreadable else scan.reason or why_unreadable(scan)
    if hidden and found:
        unknown.add("directories.*", hidden, hint_to_see(scan))
    own = set(watcher.instances(scan))
    for directory in directories:
        if not directory.inode:
            continue
        instances = found[directory.inode]
        mine = [instance for instance in instances if instance in own]
        directory.data.update(instances=None if hidden else len(instances), instances_at_least=len(instances))
        directory.data["watchers"] = [holder(instance, mine, names, engine) for instance in instances[:top]]
        if watcher.readable(scan):
            directory.data.update(watched=bool(mine), watcher_instances=len(mine))
        elif watcher.running is False:
            directory.data.update(watched=False, watcher_instances=0)
        elif not watcher.configured:
            # Nobody in particular is meant to watch: anybody will do.
            directory.data["watched"] = True if instances else None if hidden else False


def holder(instance, mine, names, engine):
    container = engine.container(container_id(instance.pid)) or {}
    return {
        "pid": instance.pid,
        "user": names.get(instance.uid, str(instance.uid)),
        "command": _processes.label(_processes.arguments(instance.pid)),
        "container": container.get("name"),
        "service": container.get("service"),
        "is_watcher": instance in mine,
    }


def walk(directories, watcher, scan, deadline, unknown, most):
    """Walk the trees, sharing what is left of the deadline among them."""
    watched = None
    if watcher.readable(scan):
        watched = {inode for instance in watcher.instances(scan) for _device, inode in instance.watched()}
    waiting = [directory for directory in directories if directory.real and directory.data["readable"]]
    for number, directory in enumerate(waiting):
        # What nobody watches at the root is not watched below it either: no list of examples is needed for that.
        known = watched if directory.data["watched"] else None
        directory.walk(deadline, deadline.remaining() / (len(waiting) - number), most, known, unknown)


def forecast(directories, watcher, scan, limit, names, unknown):
    """Whether the watches that are left are enough for the directories that have none yet.

    A list of one entry; none where no directory could be walked or no watcher runs, as the budget is that of its user.
    Null where its processes are hidden.
    """
    main = watcher.main(scan)
    if main is None and watcher.configured and watcher.running is None and directories:
        unknown.add("forecast", watcher.reason, watcher.hint)
        return None
    trees = [directory for directory in directories if directory.tree]
    if not trees or main is None:
        return []
    try:
        uid = _inotify.charged_uid(main)
    except PermissionError:
        unknown.add("forecast", "its user namespace is not ours to look at", _rights.hint("CAP_SYS_PTRACE"))
        return None
    except OSError:
        return []
    held = sum(instance.watches for instance in scan.instances if instance.uid == uid)
    known = scan.complete and not scan.unreadable.get(uid)
    missing = [
        directory.data["tree"]["not_watched"] if directory.data["watched"] else directory.tree.directories
        for directory in trees
    ]
    needed = None if None in missing else sum(missing)
    existing = [directory for directory in directories if directory.data["exists"] is not False]
    complete = len(trees) == len(existing) and all(directory.tree.complete for directory in trees)
    at_most = limit - held
    left = at_most if known else None
    entry = {
        "uid": uid,
        "user": names.get(uid, str(uid)),
        "directories": sum(directory.tree.directories for directory in trees),
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
        unknown.add("forecast.*", scan.reason or why_unreadable(scan), hint_to_see(scan))
    return [entry]


def fits(left, at_most, needed, complete):
    """False as soon as it is certain, true only when everything is known, else null."""
    if needed is None:
        return None
    if needed > at_most:
        return False
    return left >= needed if left is not None and complete else None
