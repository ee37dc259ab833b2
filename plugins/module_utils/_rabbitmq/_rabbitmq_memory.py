# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only the machine of a broker shows: its memory limit, the size of its disk, its configuration files.

RabbitMQ computes its watermark from the memory of the machine. In a container with a lower limit, the OOM killer ends
it before the memory alarm is raised. Private to this collection.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Collection, Iterable, NamedTuple, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _sockets
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_types import ApiEntry

# Control groups without a limit have one that no machine reaches (v1: 2^63 rounded down to pages).
NO_LIMIT = 1 << 60

# In containers, several nodes may have the same process id: the process whose age fits the uptime of the node may be
# the node. Its statistics are up to 5 s old, and its uptime starts a little after its process.
MOST_SECONDS_APART = 10.0
# Longer configuration files are not read.
MOST_CONFIGURATION_BYTES = 1024 * 1024

# Address and port of the broker, then of its client.
Endpoints = Tuple[str, int, str, int]


class NodeProcess(NamedTuple):
    """The directory of the node's process below /proc; null if it does not run here, or if several could be it."""

    path: str | None
    candidates: int


def limit_of_node(
    found: NodeProcess, proc: str = "/proc", cgroups: str = "/sys/fs/cgroup"
) -> tuple[int | None, str | None]:
    """Return ``(bytes, "cgroup" or "host")`` of the node's process, or ``(None, None)`` if it is not known."""
    if found.path is None:
        return None, None
    limit = cgroup_limit(_read(os.path.join(found.path, "cgroup")) or "", cgroups)
    machine = machine_memory(_read(os.path.join(proc, "meminfo")) or "")
    if limit is not None and (machine is None or limit < machine):
        return limit, "cgroup"
    return (machine, "host") if machine is not None else (None, None)


def node_process(
    os_pid: Any, uptime_seconds: float | None, connections: Collection[Endpoints] = (), proc: str = "/proc"
) -> NodeProcess:
    """Return the process of a node on this machine.

    ``os_pid`` is the process id that the node reports: in a container, the one inside. Brokers in containers that were
    started together have the same one and the same age. Then only one of the ``connections`` that the node reports
    proves which of them it is: its network namespace has the same.
    """
    found: list[str] = []
    for pid in os.listdir(proc) if uptime_seconds is not None else ():
        process = os.path.join(proc, pid)
        if pid.isdigit() and (_read(os.path.join(process, "comm")) or "").strip() == "beam.smp":
            age = _age(process, proc)
            if (
                _inner_pid(process) == str(os_pid)
                and age is not None
                and abs(age - (uptime_seconds or 0.0)) <= MOST_SECONDS_APART
            ):
                found.append(process)
    if connections:
        proven = [process for process in found if not _tcp_connections(process, proc).isdisjoint(connections)]
        # The connections may have been closed in the meantime: they prove nothing then.
        found = proven or found
    return NodeProcess(found[0] if len(found) == 1 else None, len(found))


def process_of(entry: ApiEntry, entries: Iterable[ApiEntry]) -> NodeProcess:
    """Return the process of a node, if it runs on this host. ``entries`` are connections to the cluster."""
    connected = {
        (
            _sockets.plain(each["host"]),
            each["port"],
            _sockets.plain(each["peer_host"]),
            each["peer_port"],
        )
        for each in entries
        if each.get("node") == entry["name"]
        and all(isinstance(each.get(name), str) for name in ("host", "peer_host"))
        and all(isinstance(each.get(name), int) for name in ("port", "peer_port"))
    }
    return node_process(entry.get("os_pid"), uptime_of(entry), connected)


def uptime_of(entry: ApiEntry) -> float | None:
    """Return the seconds since the start of a node. Null if the broker keeps no statistics."""
    uptime = entry.get("uptime")
    return uptime / 1000.0 if isinstance(uptime, (int, float)) else None


def _tcp_connections(process: str, proc: str) -> set[Endpoints]:
    """Return the TCP connections in the network namespace of a process, a directory below ``proc``."""
    return {
        (_sockets.plain(each.address), each.port, _sockets.plain(each.remote_address), each.remote_port)
        for each in _sockets.read(os.path.basename(process), states=(_sockets.ESTABLISHED,), proc=proc)
    }


def disk_of_node(found: NodeProcess, directory: Any) -> tuple[int | None, int | None]:
    """Return size and device number of the file system with a directory of the node, or None for both."""
    if found.path is None or not isinstance(directory, str) or not directory.startswith("/"):
        return None, None
    path = os.path.join(found.path, "root", directory.lstrip("/"))
    try:
        size, device = os.statvfs(path), os.stat(path).st_dev
    except OSError:
        return None, None
    return size.f_blocks * size.f_frsize, device


def consumer_timeout(found: NodeProcess, files: Iterable[Any]) -> float | None:
    """Return the consumer_timeout in seconds that the node's configuration files set; None if they cannot be read.

    The last file wins, as in the broker. 0 means that there is none (``undefined``), -1 that no file sets it.
    """
    seconds = -1.0
    if found.path is None:
        return None
    for name in files:
        text = _regular_file(os.path.join(found.path, "root", str(name).lstrip("/")))
        if text is None:
            return None
        for value in _TIMEOUT.findall(text):
            seconds = 0.0 if value == "undefined" else int(value) / 1000.0
    return seconds


# A line of rabbitmq.conf, or a term of advanced.config.
_TIMEOUT = re.compile(
    r"^\s*(?:consumer_timeout\s*=|[^%\n]*\{\s*consumer_timeout\s*,)\s*'?(\d+|undefined)\b", re.MULTILINE
)


def _regular_file(path: str) -> str | None:
    """Return the text of a file of another root directory; None if it is a link, which would lead out of it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(descriptor, encoding="utf-8", errors="replace") as handle:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return handle.read(MOST_CONFIGURATION_BYTES)


def _inner_pid(process: str) -> str | None:
    """Return the process id in the innermost namespace, as text."""
    for line in (_read(os.path.join(process, "status")) or "").splitlines():
        if line.startswith("NSpid:"):
            return line.split()[-1]
    return None


def _age(process: str, proc: str) -> float | None:
    """Return the seconds since the process started."""
    stat = _read(os.path.join(process, "stat"))
    uptime = _read(os.path.join(proc, "uptime"))
    if not stat or not uptime:
        return None
    # The name of the program, in parentheses, may contain spaces and parentheses.
    started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return float(uptime.split()[0]) - started


def cgroup_limit(membership: str, cgroups: str = "/sys/fs/cgroup") -> int | None:
    """Return the lowest memory limit of a process's control group and its parents (v1 and v2), or None.

    ``membership`` is the text of /proc/PID/cgroup.
    """
    limits: list[int] = []
    for line in membership.splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += _limits(cgroups, path, "memory.max") + _limits(
                os.path.join(cgroups, "unified"), path, "memory.max"
            )
        elif "memory" in controllers.split(","):
            limits += _limits(os.path.join(cgroups, "memory"), path, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits(root: str, path: str, name: str) -> list[int]:
    limits: list[int] = []
    parts = [part for part in path.split("/") if part and part != ".."]
    for depth in range(len(parts), -1, -1):
        text = (_read(os.path.join(root, *(parts[:depth] + [name]))) or "").strip()
        if text.isdigit() and int(text) < NO_LIMIT:
            limits.append(int(text))
    return limits


def machine_memory(meminfo: str) -> int | None:
    """Return MemTotal of the text of /proc/meminfo in bytes, or None."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return None
