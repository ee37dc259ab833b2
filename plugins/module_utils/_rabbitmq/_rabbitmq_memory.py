# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory limit of a broker that runs on this machine. Private to this collection.

RabbitMQ computes its watermark from the memory of the machine. In a container with a lower limit, the OOM killer ends
it before the memory alarm is raised.
"""

from __future__ import annotations

import os
from typing import Any

# Control groups without a limit have one that no machine reaches (v1: 2^63 rounded down to pages).
NO_LIMIT = 1 << 60

# In containers, several nodes may have the same process id: the process whose age fits the uptime of the node is the
# node. Its statistics are up to 5 s old, and its uptime starts a little after its process.
MOST_SECONDS_APART = 10.0


def limit_of_node(
    os_pid: Any, uptime_seconds: float | None, proc: str = "/proc", cgroups: str = "/sys/fs/cgroup"
) -> tuple[int | None, str | None]:
    """Return ``(bytes, "cgroup" or "host")`` of the broker's process, or ``(None, None)`` if it does not run here.

    ``os_pid`` is the process id that the node reports: in a container, the one inside.
    """
    process = node_process(str(os_pid), uptime_seconds, proc)
    if process is None:
        return None, None
    limit = cgroup_limit(_read(os.path.join(process, "cgroup")) or "", cgroups)
    machine = machine_memory(_read(os.path.join(proc, "meminfo")) or "")
    if limit is not None and (machine is None or limit < machine):
        return limit, "cgroup"
    return (machine, "host") if machine is not None else (None, None)


def node_process(os_pid: str, uptime_seconds: float | None, proc: str = "/proc") -> str | None:
    """Return the directory of the node's process below ``proc``, or None."""
    if uptime_seconds is None:
        return None
    found = []
    for pid in os.listdir(proc):
        process = os.path.join(proc, pid)
        if pid.isdigit() and (_read(os.path.join(process, "comm")) or "").strip() == "beam.smp":
            age = _age(process, proc)
            if _inner_pid(process) == os_pid and age is not None:
                found.append((abs(age - uptime_seconds), process))
    apart, process = min(found, default=(MOST_SECONDS_APART + 1, ""))
    return process if apart <= MOST_SECONDS_APART else None


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
