# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watcher: its processes, container, event queues and broker connections. Private to this collection."""

from __future__ import annotations

import os
import re
from typing import Iterable, Iterator, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine, age, container_id
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify import Instance, Scan
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes, _sockets
from ansible_collections.tracktion.ops.plugins.module_utils._linux._sockets import Socket
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Unknown, cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact_setting
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# Established and starting connections.
CONNECTED = (_sockets.ESTABLISHED, _sockets.SYN_SENT)
# An event takes 16 bytes and its name, padded to a multiple of 16: 32 for a name of up to 15 bytes. With longer names
# there are fewer events than computed.
EVENT_BYTES = 32
SETTING_LENGTH = 200


class Connection(NamedTuple):
    """A TCP connection in /proc/net/tcp; ``remote`` is the address without the port."""

    state: str
    inode: str
    remote: str


class Watcher:
    """``pids`` are its processes, ``containers`` those of its service; ``reason`` says why they are not known."""

    def __init__(self, options: Options, engine: Engine) -> None:
        command, service = options["watcher_command"], options["watcher_service"]
        self.containers: list[Part] = []
        self.reason: str | None = None
        self.hint: str | None = None
        has_engine = bool(service) and self._find_containers(service, options["watcher_project"], engine)
        # On a host without an engine, no compose service is expected.
        self.configured = bool(command or has_engine)
        ids = {container["id"] for container in self.containers}
        self.pids = sorted(_find_processes(_compile(command), ids))
        if self.pids:
            self.reason = self.hint = None
        elif not self.reason:
            self.reason, self.hint = _inotify.view_restriction() or (None, None)
        running = [container for container in self.containers if container["state"] == "running"]
        self.container: Part = (running or self.containers or [{}])[0]

    def _find_containers(self, service: str, project: str, engine: Engine) -> bool:
        """Set ``containers``; return false if the host has no engine."""
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
    def running(self) -> bool | None:
        """Whether it runs; null if that is not known or no watcher is expected."""
        if self.pids:
            return True
        return None if self.reason or not self.configured else False

    def instances(self, scan: Scan) -> list[Instance]:
        """Return its inotify instances."""
        own = set(self.pids)
        return [instance for instance in scan.instances if any(pid in own for pid, _fd in instance.holders)]

    def main_process(self, scan: Scan, container: str | None = None) -> int | None:
        """Return its process (of a container, by its id) with the most watches, else the youngest; or null."""
        own = [pid for pid in self.pids if container is None or container_id(pid) == container]
        instances = [each for each in self.instances(scan) if not set(own).isdisjoint(pid for pid, _fd in each.holders)]
        fullest = max(instances, key=lambda instance: instance.watches, default=None)
        holders = [pid for pid, _fd in fullest.holders if pid in own] if fullest else own[-1:]
        return holders[0] if holders else None

    def readable(self, scan: Scan) -> bool:
        """Return whether the descriptors of all its processes were read."""
        hidden = {pid for pids in scan.unreadable.values() for pid in pids}
        return bool(self.pids) and not hidden.intersection(self.pids)


def _compile(command: str) -> re.Pattern[str] | None:
    if not command:
        return None
    try:
        return re.compile(command)
    except re.error as exc:
        raise BadOption("watcher_command: %r is not a regular expression: %s" % (command, exc)) from exc


def _find_processes(command: re.Pattern[str] | None, containers: set[str]) -> Iterator[int]:
    for pid in _processes.pids():
        if containers and container_id(pid) in containers:
            yield pid
        # The arguments of the measuring processes may contain the pattern.
        elif command and pid not in (os.getpid(), os.getppid()) and command.search(" ".join(_processes.arguments(pid))):
            yield pid


def describe(watcher: Watcher, scan: Scan, options: Options, names: dict[int, str], unknown: Unknown) -> Part:
    """Return the part ``watcher`` of the measurement, without ``broker``."""
    container = watcher.container
    started = container.get("started")
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
        "processes": [_describe_process(pid, names) for pid in watcher.pids[:top]],
        "processes_total": len(watcher.pids),
        "container": container.get("name"),
        "containers": [_describe_container(each) for each in watcher.containers[:top]],
        "state": container.get("state"),
        "exit_code": container.get("exit_code") if container.get("state") != "running" else None,
        "restarts": container.get("restarts"),
        "started": started,
        "uptime_seconds": age(started) if watcher.running else None,
        "watches": sum(instance.watches for instance in instances) if readable else None,
        "instances": len(instances) if readable else None,
        "queues": _queues(instances, top) if readable or watcher.running is False or not watcher.configured else None,
        "broker": None,
        "unmounted": None,
        "settings": {
            name: redact_setting(name, None if value is None else shown(value))
            for name, value in _settings(watcher.pids, options["watcher_settings"]).items()
        },
    }


def _describe_process(pid: int, names: dict[int, str]) -> Part:
    try:
        uid = _processes.effective_uid(_processes.status(pid))
    except OSError:
        uid = None
    return {
        "pid": pid,
        "uid": uid,
        "user": None if uid is None else names.get(uid, str(uid)),
        "command": _processes.label(_processes.arguments(pid)),
        "started": _processes.started(pid),
    }


def _describe_container(container: Part) -> Part:
    return {name: container[name] for name in ("id", "name", "project", "state", "exit_code", "restarts", "started")}


def _queues(instances: list[Instance], top: int) -> list[Part]:
    """Return the unread events of each instance, the fullest queue first."""
    capacity = _inotify.limit("max_queued_events")
    described: list[Part] = []
    for instance in instances:
        unread = _inotify.queued_bytes(instance)
        events = None if unread is None else min(-(-unread // EVENT_BYTES), capacity)
        described.append(
            {
                "pid": instance.pid,
                "watches": instance.watches,
                "queued_bytes": unread,
                "queued_events": events,
                "max_queued_events": capacity,
                "queued_ratio": None if events is None else round(events / capacity, 4) if capacity else 1.0,
            }
        )
    return sorted(described, key=lambda queue: -(queue["queued_bytes"] or 0))[:top]


def broker_connections(pids: Sequence[int], port: int) -> set[Connection] | None:
    """Return the connections of these processes to ``port``, from the tables of their own network namespaces.

    Null if their descriptors cannot be read.
    """
    found: set[Connection] | None = None
    for pid in pids:
        try:
            inodes = _sockets.of_process(pid)
        except OSError:
            continue
        found = found or set()
        found.update(each for each in connections(_sockets.read(pid, states=CONNECTED), port) if each.inode in inodes)
    return found


def describe_broker(port: int, first: set[Connection] | None, second: set[Connection] | None) -> Part:
    """Return the part ``watcher.broker`` from two samples.

    A connection counts only if it is in both: a broker that rejects the login closes it at once.
    """
    if first is None or second is None:
        return {"port": port, "connected": None, "connections": None, "connecting": None, "addresses": []}
    established = {entry for entry in first & second if entry.state == _sockets.ESTABLISHED}
    return {
        "port": port,
        "connected": bool(established),
        "connections": len(established),
        "connecting": len({entry.inode for entry in (first | second) - established}),
        "addresses": sorted({entry.remote for entry in established})[:10],
    }


def connections(sockets: Iterable[Socket], port: int) -> Iterator[Connection]:
    """Yield the sockets that are connected to ``port``."""
    for each in sockets:
        if each.remote_port == port:
            yield Connection(each.state, each.inode, each.remote_address)


def directory(pids: Sequence[int], names: Sequence[str]) -> str | None:
    """Return the value of the first of these variables that the watcher has set; null if it is no absolute path."""
    found = _settings(pids, names, longest=os.pathconf("/", "PC_PATH_MAX"))
    path = next((value for value in map(found.get, names) if value), "")
    return path if path.startswith("/") else None


def _settings(pids: Sequence[int], names: Sequence[str], longest: int = SETTING_LENGTH) -> dict[str, str | None]:
    """Return the named variables of the watcher's environment, and no others."""
    found: dict[str, str | None] = dict.fromkeys(names)
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
