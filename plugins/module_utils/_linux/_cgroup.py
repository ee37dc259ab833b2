# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel counts for a container, read from the files of its control group. Private to this collection.

One reading of both versions of cgroups, whoever made the group (cgroupfs or systemd, Docker or Podman): its path is
that of the container's first process. That takes a millisecond, where the engine's own statistics take a second.
"""

from __future__ import annotations

import os

# The kernel's "no limit" of version 1 is the largest multiple of a page below 2^63.
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


class Hierarchies:
    """Where the control groups are mounted: by controller, and the one of version 2."""

    def __init__(self, mountinfo=None):
        self.of_controller = {}
        self.unified = None
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

    def directories(self, cgroup, identity):
        """The container's directory for each controller, out of the text of its process's /proc/<pid>/cgroup."""
        found = {}
        for line in cgroup.splitlines():
            _number, controllers, path = line.split(":", 2)
            path = _up_to(path, identity)
            if not controllers and self.unified:
                for controller in CONTROLLERS:
                    found.setdefault(controller, self.unified + path)
            for controller in controllers.split(","):
                if controller in self.of_controller:
                    found[controller] = self.of_controller[controller] + path
        return found

    def read(self, pid, identity):
        """What is counted for the container ``identity`` whose first process is ``pid``; null where it is gone."""
        cgroup = _read("/proc/%d/cgroup" % pid)
        # A process id that somebody else has by now leads to the wrong group.
        if cgroup is None or identity not in cgroup:
            return None
        return reading(self.directories(cgroup, identity))


def reading(directories):
    """The fields of ``FIELDS``, the unknown ones null, out of these directories by controller."""
    found = dict.fromkeys(FIELDS)
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
        # Cache of files that nobody uses is given back before anybody is killed for want of memory.
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


def change(first, second, seconds):
    """What happened between two readings of one container; ``cpu_ratio`` is of one core.

    Only periods in which the container wanted the processor are counted by the kernel, so that a few mean little.
    """
    found = {"cpu_ratio": None, "throttled_ratio": None, "sampled_periods": None, "new_oom_kills": None}
    if first is None or second is None or seconds <= 0:
        return found
    if None not in (first["cpu_seconds"], second["cpu_seconds"]):
        found["cpu_ratio"] = round(max(0.0, second["cpu_seconds"] - first["cpu_seconds"]) / seconds, 4)
    if None not in (first["periods"], second["periods"], first["throttled_periods"], second["throttled_periods"]):
        periods = second["periods"] - first["periods"]
        throttled = second["throttled_periods"] - first["throttled_periods"]
        found["sampled_periods"] = max(0, periods)
        found["throttled_ratio"] = round(throttled / periods, 4) if periods > 0 else 0.0
    if None not in (first["oom_kills"], second["oom_kills"]):
        found["new_oom_kills"] = max(0, second["oom_kills"] - first["oom_kills"])
    return found


def number(directory, name):
    """The number in a file; null where there is none, and for ``max``, no limit."""
    text = (_read(os.path.join(directory, name)) or "").strip() if directory else ""
    return int(text) if text.lstrip("-").isdigit() else None


def table(directory, name):
    """The lines ``name number`` of a file."""
    text = (_read(os.path.join(directory, name)) or "") if directory else ""
    pairs = [line.split() for line in text.splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdigit()}


def _up_to(path, identity):
    """A path of cgroups, cut behind the part that names the container: it may have groups of its own below."""
    parts = path.split("/")
    for place, part in enumerate(parts):
        if identity in part:
            return "/".join(parts[: place + 1])
    return path


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(1 << 20)
    except OSError:
        return None
