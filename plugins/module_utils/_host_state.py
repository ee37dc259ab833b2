# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How busy the host is while it is measured: what is slow may be slow because of it. Private to this collection."""

from __future__ import annotations

import contextlib
import os
import time

# CPU time of one calibration, and of one whose first result is high: a single preemption must not decide.
CALIBRATION_SECONDS = 0.02
CONFIRMATION_SECONDS = 0.04
CONFIRM_AT = 3.0
# A host this slow is slow enough.
MOST_SECONDS = 1.0
PRESSURE = {"cpu_some": ("cpu", "some"), "memory_full": ("memory", "full"), "io_full": ("io", "full")}


def at_start():
    """What can be read before the measurement adds load of its own."""
    return {
        "started": time.time(),
        "cores": _cores(),
        "load": _load(),
        "pressure": {name: _pressure(*where) for name, where in PRESSURE.items()},
        "slowdown": slowdown(),
    }


def at_end(state, waited):
    """``state`` completed after the measurement.

    ``waited`` are pairs of the seconds that a measuring process was ready to run and had no CPU, and of its whole life.
    """
    most = max(waited, key=lambda each: each[0] / max(each[1], 0.001), default=(None, None))
    return {
        **state,
        "slowdown": max(state["slowdown"], slowdown()),
        "waited_seconds": most[0],
        "waited_of_seconds": most[1],
        "finished": time.time(),
    }


def slowdown():
    """Wall time of a fixed computation as a multiple of its CPU time: 1 on an idle host, more on a busy one."""
    found = _stretch(CALIBRATION_SECONDS)
    return found if found < CONFIRM_AT else _stretch(CONFIRMATION_SECONDS)


def _stretch(seconds):
    cpu, wall = time.process_time(), time.monotonic()
    used = passed = 0.0
    while used < seconds and passed < MOST_SECONDS:
        sum(range(2000))
        used, passed = time.process_time() - cpu, time.monotonic() - wall
    return round(max(1.0, passed / max(used, 0.001)), 2)


def run_delay(pid="self"):
    """Seconds that a process has been ready to run and had no CPU; null where the kernel does not count them."""
    try:
        with open("/proc/%s/schedstat" % pid, encoding="ascii") as handle:
            return int(handle.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


def _cores():
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count()


def _load():
    with contextlib.suppress(OSError, AttributeError):
        return [round(each, 2) for each in os.getloadavg()]
    return None


def _pressure(resource, kind):
    """The share of the last ten seconds in which some, or all, tasks waited for a resource; null where not counted."""
    try:
        with open("/proc/pressure/%s" % resource, encoding="ascii") as handle:
            for line in handle:
                words = line.split()
                if words[0] == kind:
                    return round(float(words[1].partition("=")[2]) / 100, 4)
    except (OSError, ValueError, IndexError):
        pass
    return None
