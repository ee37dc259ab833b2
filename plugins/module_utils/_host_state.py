# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures how busy the host is during a visit: a slow answer may come from a busy host. Private to this collection."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Iterable, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Where the kernel does not count how long a process waits for a CPU, a computation is timed: CPU time of one, and of a
# second one if the first result is high, as one preemption must not decide.
CALIBRATION_SECONDS = 0.02
CONFIRMATION_SECONDS = 0.04
CONFIRM_AT = 3.0
# A computation ends after this wall time, whatever CPU time it got.
MOST_SECONDS = 1.0
PRESSURE = {"cpu_some": ("cpu", "some"), "memory_full": ("memory", "full"), "io_full": ("io", "full")}

# Seconds that a process was ready to run and had no CPU, and seconds of its whole life.
Waited = Tuple[float, float]


def at_start() -> Part:
    """Return what must be read before the measurement adds load of its own."""
    return {
        "started": time.time(),
        "cores": _cores(),
        "load": _load(),
        "pressure": {name: _pressure(resource, kind) for name, (resource, kind) in PRESSURE.items()},
        "slowdown": slowdown(),
    }


def at_end(state: Part, waited: Iterable[Waited]) -> Part:
    """Return ``state`` of at_start(), completed after the measurement.

    ``waited`` has an item per measuring process; the one with the largest share is reported.
    """
    most = max(waited, key=lambda each: each[0] / max(each[1], 0.001), default=(None, None))
    return {
        **state,
        "waited_seconds": most[0],
        "waited_of_seconds": most[1],
        "finished": time.time(),
    }


def slowdown() -> float:
    """Return the time that this process ran or waited for a CPU, as a multiple of the time it ran: 1 on an idle host.

    Until a visit measures, its process starts Python and imports code, which takes a tenth of a second of CPU time.
    """
    used, waited = _scheduled("self") or (0.0, 0.0)
    if used:
        return round(1 + waited / used, 2)
    found = _stretch(CALIBRATION_SECONDS)
    return found if found < CONFIRM_AT else _stretch(CONFIRMATION_SECONDS)


def _stretch(seconds: float) -> float:
    """Return the same of a fixed computation, from the clock."""
    cpu, wall = time.process_time(), time.monotonic()
    used = passed = 0.0
    while used < seconds and passed < MOST_SECONDS:
        sum(range(2000))
        used, passed = time.process_time() - cpu, time.monotonic() - wall
    return round(max(1.0, passed / max(used, 0.001)), 2)


def run_delay(pid: int | str = "self") -> float | None:
    """Return the seconds a process was ready to run and had no CPU; null if the kernel does not count them."""
    scheduled = _scheduled(pid)
    return scheduled[1] if scheduled else None


def _scheduled(pid: int | str) -> tuple[float, float] | None:
    """Return the seconds the main thread of a process ran, and those it waited for a CPU; null if not counted."""
    try:
        with open("/proc/%s/schedstat" % pid, encoding="ascii") as handle:
            used, waited = handle.read().split()[:2]
            return int(used) / 1e9, int(waited) / 1e9
    except (OSError, ValueError):
        return None


def _cores() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count()


def _load() -> list[float] | None:
    with contextlib.suppress(OSError, AttributeError):
        return [round(each, 2) for each in os.getloadavg()]
    return None


def _pressure(resource: str, kind: str) -> float | None:
    """Return the share of the last 10 s in which some, or all, tasks waited for a resource; null if not counted."""
    try:
        with open("/proc/pressure/%s" % resource, encoding="ascii") as handle:
            for line in handle:
                words = line.split()
                if words[0] == kind:
                    return round(float(words[1].partition("=")[2]) / 100, 4)
    except (OSError, ValueError, IndexError):
        pass
    return None
