# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watcher: its processes, its container, its queues, its way to the broker. Private to this collection."""

from __future__ import annotations

import os
import re

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import age, container_id
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._linux._listeners import readable_address, sockets_of
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact_setting

ESTABLISHED, SYN_SENT = "01", "02"
# An event is 16 bytes and its name, filled up to the next 16. Names of up to 15 bytes make 32; longer ones fewer events
# of the same bytes, so that this errs on the side of too many.
EVENT_BYTES = 32
SETTING_LENGTH = 200


class Watcher:
    """``pids`` are its processes, ``containers`` those of its service; ``reason`` says why they are not known."""

    def __init__(self, options, engine):
        command, service = options["watcher_command"], options["watcher_service"]
        self.containers = []
        self.reason = self.hint = None
        if service:
            service = self._find_containers(service, options["watcher_project"], engine)
        # Where there is no engine, no compose service is expected.
        self.configured = bool(command or service)
        ids = {container["id"] for container in self.containers}
        self.pids = sorted(_find_processes(_compiled(command), ids))
        blind = None if self.pids else _inotify.what_hides_processes()
        if self.pids:
            self.reason = self.hint = None
        elif blind and not self.reason:
            self.reason, self.hint = blind
        running = [container for container in self.containers if container["state"] == "running"]
        self.container = (running or self.containers or [None])[0]

    def _find_containers(self, service, project, engine):
        """Fill in ``containers``; false where there is no engine."""
        try:
            found = engine.of_service(service)
        except FileNotFoundError:
            return False
        if found is None:
            self.reason = "the files of the Docker engine cannot be read without privilege"
            self.hint = _rights.hint("CAP_DAC_READ_SEARCH")
        self.containers = [container for container in found or [] if not project or container["project"] == project]
        return True

    @property
    def running(self):
        """Whether it runs; null where that is not known."""
        if self.pids:
            return True
        return None if self.reason or not self.configured else False

    def instances(self, scan):
        """Its inotify instances."""
        mine = set(self.pids)
        return [instance for instance in scan.instances if any(pid in mine for pid, _fd in instance.holders)]

    def main(self, scan):
        """The process that watches: the one that holds the most watches, else the youngest; null where none runs."""
        mine = set(self.pids)
        fullest = max(self.instances(scan), key=lambda instance: instance.watches, default=None)
        holders = [pid for pid, _fd in fullest.holders if pid in mine] if fullest else self.pids[-1:]
        return holders[0] if holders else None

    def readable(self, scan):
        """Whether its descriptors could be read."""
        hidden = {pid for pids in scan.unreadable.values() for pid in pids}
        return bool(self.pids) and not hidden.intersection(self.pids)


def _compiled(command):
    if not command:
        return None
    try:
        return re.compile(command)
    except re.error as exc:
        raise BadOption("watcher_command: %r is not a regular expression: %s" % (command, exc)) from exc


def _find_processes(command, containers):
    for pid in _processes.pids():
        if containers and container_id(pid) in containers:
            yield pid
        # Whoever measures may carry the pattern in its own arguments.
        elif command and pid not in (os.getpid(), os.getppid()) and command.search(" ".join(_processes.arguments(pid))):
            yield pid


def describe(watcher, scan, options, names, unknown):
    """The part ``watcher`` of the measurement."""
    container = watcher.container or {}
    started = container.get("started") if watcher.container else None
    if started is None and watcher.pids:
        started = _processes.started(watcher.pids[0])
    readable = watcher.readable(scan)
    if watcher.reason:
        unknown.add("watcher.*", watcher.reason, watcher.hint)
    elif watcher.pids and not readable:
        reason = "the descriptors of its processes cannot be read"
        unknown.add("watcher.*", reason, _rights.hint("CAP_SYS_PTRACE"))
    instances = watcher.instances(scan)
    top = options["top"]
    return {
        "configured": watcher.configured,
        "name": options["watcher_service"] or options["watcher_command"],
        "running": watcher.running,
        "processes": [_process(pid, names) for pid in watcher.pids[:top]],
        "processes_total": len(watcher.pids),
        "container": container.get("name"),
        "containers": [_container(container) for container in watcher.containers[:top]],
        "state": container.get("state"),
        "exit_code": container.get("exit_code") if container.get("state") != "running" else None,
        "restarts": container.get("restarts"),
        "started": started,
        "uptime_seconds": age(started) if watcher.running else None,
        "watches": sum(instance.watches for instance in instances) if readable else None,
        "instances": len(instances) if readable else None,
        "queues": queues(instances, top) if readable or watcher.running is False or not watcher.configured else None,
        "broker": None,
        "settings": {
            name: redact_setting(name, None if value is None else shown(value))
            for name, value in settings(watcher.pids, options["watcher_settings"]).items()
        },
    }


def _process(pid, names):
    try:
        uid = _processes.effective_uid(_processes.status(pid))
    except OSError:
        uid = None
    return {
        "pid": pid,
        "uid": uid,
        "user": names.get(uid, uid if uid is None else str(uid)),
        "command": _processes.label(_processes.arguments(pid)),
        "started": _processes.started(pid),
    }


def _container(container):
    return {name: container[name] for name in ("id", "name", "project", "state", "exit_code", "restarts", "started")}


def queues(instances, top):
    """Events that wait in each instance, the fullest first."""
    most = _inotify.limit("max_queued_events")
    described = []
    for instance in instances:
        waiting = _inotify.queued_bytes(instance)
        events = None if waiting is None else min(-(-waiting // EVENT_BYTES), most)
        described.append(
            {
                "pid": instance.pid,
                "watches": instance.watches,
                "queued_bytes": waiting,
                "queued_events": events,
                "max_queued_events": most,
                "queued_ratio": None if events is None else round(events / most, 4) if most else 1.0,
            }
        )
    return sorted(described, key=lambda queue: -(queue["queued_bytes"] or 0))[:top]


def broker(pids, port):
    """TCP connections of these processes to a broker's port, seen from their own network namespace.

    A set of ``(state, inode, remote address)``; null where their descriptors cannot be read.
    """
    found = None
    for pid in pids:
        try:
            inodes = sockets_of(pid)
            found = found or set()
            for name in ("tcp", "tcp6"):
                with open("/proc/%d/net/%s" % (pid, name), encoding="utf-8") as stream:
                    found.update(entry for entry in connections(stream.read(), port) if entry[1] in inodes)
        except OSError:
            continue
    return found


def describe_broker(port, first, second):
    """The connections, from two samples: one that a refusing broker ends at once is no connection."""
    if first is None or second is None:
        return {"port": port, "connected": None, "connections": None, "connecting": None, "addresses": []}
    established = {entry for entry in first & second if entry[0] == ESTABLISHED}
    return {
        "port": port,
        "connected": bool(established),
        "connections": len(established),
        "connecting": len({inode for _state, inode, _remote in (first | second) - established}),
        "addresses": sorted({remote for _state, _inode, remote in established})[:10],
    }


def connections(table, port):
    """``(state, inode, remote address)`` of what is connected, or tries to be, to ``port``, out of /proc/net/tcp."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        address, _colon, remote_port = fields[2].partition(":")
        if fields[3] in (ESTABLISHED, SYN_SENT) and int(remote_port, 16) == port:
            yield fields[3], fields[9], readable_address(address)


def directory(pids, names):
    """The directory that the first of these variables names which the watcher has; null without an absolute path."""
    found = settings(pids, names, longest=os.pathconf("/", "PC_PATH_MAX"))
    path = next((found[name] for name in names if found[name]), "")
    return path if path.startswith("/") else None


def settings(pids, names, longest=SETTING_LENGTH):
    """The named variables of the watcher's environment; nothing else of it is looked at."""
    found = dict.fromkeys(names)
    for pid in pids:
        try:
            with open("/proc/%d/environ" % pid, "rb") as stream:
                words = stream.read(1 << 20).split(b"\0")
        except OSError:
            continue
        for word in words:
            name, _equals, value = word.decode("utf-8", "replace").partition("=")
            if name in found and found[name] is None:
                found[name] = cut(value, longest)
    return found
