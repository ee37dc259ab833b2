# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the kernel's counters of a container from its control groups. Private to this collection.

Covers versions 1 and 2 of cgroups, whether cgroupfs or systemd, Docker or Podman made the group: its path is that of
the container's first process. Reading takes a millisecond; the statistics of the engine take a second.
"""

from __future__ import annotations

import os
from typing import Dict, Mapping, Union

# Version 1 writes "no limit" as the largest multiple of a page below 2^63.
NO_LIMIT = 1 << 60
CONTROLLERS = ("memory", "cpu", "cpuacct", "pids")
FIELDS = (
    "memory_bytes",
    "memory_limit_bytes",
    "memory_peak_bytes",
    "oom_kills",
    "cpu_seconds",
    "periods",
    "throttled_periods",
    "throttled_seconds",
    "pids",
    "pids_limit",
)
# Field of ``FIELDS`` or of ``change`` -> value, null if unknown. Counters are whole numbers, times are seconds.
Reading = Dict[str, Union[int, float, None]]


class Hierarchies:
    """The mount points of the control groups: of each controller of version 1, and of version 2 (``unified``)."""

    def __init__(self, mountinfo: str | None = None) -> None:
        self.of_controller: dict[str, str] = {}
        self.unified: str | None = None
        for line in (mountinfo or _read("/proc/self/mountinfo") or "").splitlines():
            before, _dash, after = line.partition(" - ")
            fields, kind = before.split(), after.split()
            if len(fields) < 5 or len(kind) < 3:
                continue
            if kind[0] == "cgroup":
                for controller in set(kind[2].split(",")) & set(CONTROLLERS):
                    self.of_controller[controller] = fields[4]
            elif kind[0] == "cgroup2":
                self.unified = fields[4]

    def directories(self, cgroup: str, identity: str) -> dict[str, str]:
        """Return the container's directory by controller, from the text of /proc/<pid>/cgroup of its process."""
        found: dict[str, str] = {}
        for line in cgroup.splitlines():
            _number, controllers, path = line.split(":", 2)
            path = _container_path(path, identity)
            if not controllers and self.unified:
                for controller in CONTROLLERS:
                    found.setdefault(controller, self.unified + path)
            for controller in controllers.split(","):
                if controller in self.of_controller:
                    found[controller] = self.of_controller[controller] + path
        return found

    def read(self, pid: int, identity: str) -> Reading | None:
        """Return the counters of the container ``identity`` with first process ``pid``; null if it has ended."""
        cgroup = _read("/proc/%d/cgroup" % pid)
        # The pid may belong to another process by now.
        if cgroup is None or identity not in cgroup:
            return None
        return reading(self.directories(cgroup, identity))


def reading(directories: Mapping[str, str]) -> Reading:
    """Return the ``FIELDS`` from these directories by controller."""
    found: Reading = dict.fromkeys(FIELDS)
    memory, cpu = directories.get("memory", ""), directories.get("cpu", "")
    cpuacct, pids = directories.get("cpuacct", ""), directories.get("pids", "")
    if os.path.exists(os.path.join(memory, "memory.current")):
        usage, limit = number(memory, "memory.current"), number(memory, "memory.max")
        cache = table(memory, "memory.stat").get("inactive_file")
        found["memory_peak_bytes"] = number(memory, "memory.peak")
        found["oom_kills"] = table(memory, "memory.events").get("oom_kill")
    else:
        usage, limit = number(memory, "memory.usage_in_bytes"), number(memory, "memory.limit_in_bytes")
        cache = table(memory, "memory.stat").get("total_inactive_file")
        found["memory_peak_bytes"] = number(memory, "memory.max_usage_in_bytes")
        found["oom_kills"] = table(memory, "memory.oom_control").get("oom_kill")
    if usage is not None and cache is not None:
        # The kernel reclaims inactive file cache before it kills a process for lack of memory.
        found["memory_bytes"] = max(0, usage - cache)
    found["memory_limit_bytes"] = limit if limit is not None and limit < NO_LIMIT else None
    counted = table(cpu, "cpu.stat")
    found["periods"], found["throttled_periods"] = counted.get("nr_periods"), counted.get("nr_throttled")
    if "usage_usec" in counted:
        found["cpu_seconds"] = counted["usage_usec"] / 1e6
        found["throttled_seconds"] = counted.get("throttled_usec", 0) / 1e6
    else:
        used = number(cpuacct, "cpuacct.usage")
        found["cpu_seconds"] = None if used is None else used / 1e9
        found["throttled_seconds"] = counted["throttled_time"] / 1e9 if "throttled_time" in counted else None
    found["pids"], found["pids_limit"] = number(pids, "pids.current"), number(pids, "pids.max")
    return found


def change(first: Reading | None, second: Reading | None, seconds: float) -> Reading:
    """Return what changed between two readings of one container that are ``seconds`` apart.

    ``cpu_ratio`` is a share of one core. The kernel counts only periods in which the container had work for the CPU, so
    that a ratio of few periods means little.
    """
    found: Reading = {"cpu_ratio": None, "throttled_ratio": None, "sampled_periods": None, "new_oom_kills": None}
    if first is None or second is None or seconds <= 0:
        return found
    used = _difference(first, second, "cpu_seconds")
    if used is not None:
        found["cpu_ratio"] = round(max(0.0, used) / seconds, 4)
    periods, throttled = _difference(first, second, "periods"), _difference(first, second, "throttled_periods")
    if periods is not None and throttled is not None:
        found["sampled_periods"] = max(0, periods)
        found["throttled_ratio"] = round(throttled / periods, 4) if periods > 0 else 0.0
    killed = _difference(first, second, "oom_kills")
    if killed is not None:
        found["new_oom_kills"] = max(0, killed)
    return found


def _difference(first: Reading, second: Reading, field: str) -> int | float | None:
    before, after = first[field], second[field]
    return None if before is None or after is None else after - before


def number(directory: str, name: str) -> int | None:
    """Return the number in a file; null for a missing file and for ``max``, which is no limit."""
    text = (_read(os.path.join(directory, name)) or "").strip() if directory else ""
    return int(text) if text.lstrip("-").isdigit() else None


def table(directory: str, name: str) -> dict[str, int]:
    """Return the lines ``name number`` of a file."""
    text = (_read(os.path.join(directory, name)) or "") if directory else ""
    pairs = [line.split() for line in text.splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdigit()}


def _container_path(path: str, identity: str) -> str:
    """Return a path of cgroups up to the part that names the container: it may have child groups."""
    parts = path.split("/")
    for position, part in enumerate(parts):
        if identity in part:
            return "/".join(parts[: position + 1])
    return path


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(1 << 20)
    except OSError:
        return None
