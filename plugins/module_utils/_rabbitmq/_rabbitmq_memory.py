# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory a broker may really use, where it runs on this machine. Private to this collection.

RabbitMQ sets its watermark from the memory of the machine. In a container with a lower limit the OOM killer comes
first.
"""

from __future__ import annotations

import os

# A control group without a limit has one that no machine reaches (v1 writes 2^63 rounded down to pages).
NO_LIMIT = 1 << 60

# A node's statistics are up to 5 s old, and its clock starts a little after its process. In containers, many nodes
# may have the same process id: the one that started when the node says it did is the node.
MOST_SECONDS_APART = 10.0


def limit_of_node(os_pid, uptime_seconds, proc="/proc", cgroups="/sys/fs/cgroup"):
    """``(bytes, "cgroup" or "host")`` of the broker's process, or ``(None, None)`` where it does not run here.

    ``os_pid`` is the process id as the node knows it: in a container, the one inside.
    """
    process = node_process(str(os_pid), uptime_seconds, proc)
    if process is None:
        return None, None
    limit = cgroup_limit(_read(os.path.join(process, "cgroup")) or "", cgroups)
    machine = machine_memory(_read(os.path.join(proc, "meminfo")) or "")
    if limit is not None and (machine is None or limit < machine):
        return limit, "cgroup"
    return (machine, "host") if machine is not None else (None, None)


def node_process(os_pid, uptime_seconds, proc="/proc"):
    """The directory of the node's process, or None."""
    if uptime_seconds is None:
        return None
    found = []
    for pid in os.listdir(proc):
        process = os.path.join(proc, pid)
        if pid.isdigit() and (_read(os.path.join(process, "comm")) or "").strip() == "beam.smp":
            age = _age(process, proc)
            if _inner_pid(process) == os_pid and age is not None:
                found.append((abs(age - uptime_seconds), process))
    apart, process = min(found, default=(None, None))
    return process if apart is not None and apart <= MOST_SECONDS_APART else None


def _inner_pid(process):
    """The process id in the innermost namespace, as text."""
    for line in (_read(os.path.join(process, "status")) or "").splitlines():
        if line.startswith("NSpid:"):
            return line.split()[-1]
    return None


def _age(process, proc):
    """Seconds since the process started."""
    stat = _read(os.path.join(process, "stat"))
    uptime = _read(os.path.join(proc, "uptime"))
    if not stat or not uptime:
        return None
    # The name of a program, in brackets, may hold anything.
    started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return float(uptime.split()[0]) - started


def cgroup_limit(membership, cgroups="/sys/fs/cgroup"):
    """The lowest memory limit on the way up from a process's group, or None. Control groups of both versions."""
    limits = []
    for line in membership.splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += _limits(cgroups, path, "memory.max") + _limits(
                os.path.join(cgroups, "unified"), path, "memory.max"
            )
        elif "memory" in controllers.split(","):
            limits += _limits(os.path.join(cgroups, "memory"), path, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits(root, path, name):
    limits = []
    parts = [part for part in path.split("/") if part and part != ".."]
    for depth in range(len(parts), -1, -1):
        text = (_read(os.path.join(root, *(parts[:depth] + [name]))) or "").strip()
        if text.isdigit() and int(text) < NO_LIMIT:
            limits.append(int(text))
    return limits


def machine_memory(meminfo):
    """MemTotal of /proc/meminfo in bytes, or None."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return None
