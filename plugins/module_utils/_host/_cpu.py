# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use of the processors, and the processes that wait for one. Private to this collection."""

from __future__ import annotations

from typing import Dict, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._host import _rates
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context, numbers
from ansible_collections.tracktion.ops.plugins.module_utils._host._process_table import TICKS
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# The columns of /proc/stat. Those after them, of guests, are part of user and nice.
FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
# The kernel may count idle and iowait down by a little (proc_stat(5)); node_exporter accepts as much.
MAY_FALL = ("idle", "iowait")
FALL_SECONDS = 3.0
SCHEDULER_VERSIONS = ("14", "15", "16", "17")

Times = Dict[str, int]


class Sample(NamedTuple):
    """Counters of one sample. ``waited``: seconds that tasks waited for a CPU since boot, null if not counted."""

    times: Times
    cores: int
    context_switches: int | None
    forks: int | None
    running: int | None
    blocked: int | None
    waited: float | None


def sample(context: Context) -> Sample:
    """Return the counters now. Raises OSError, or ValueError for a text that is not of /proc/stat."""
    times, cores = parse_stat(context.text("stat"))
    counted = numbers(context.text("stat"))
    try:
        waited = parse_schedstat(context.text("schedstat"))
    except OSError:
        waited = None
    return Sample(
        times,
        cores,
        counted.get("ctxt"),
        counted.get("processes"),
        counted.get("procs_running"),
        counted.get("procs_blocked"),
        waited,
    )


def parse_stat(text: str) -> tuple[Times, int]:
    """Return the ticks by field, and the number of processors, of the text of /proc/stat. Raises ValueError."""
    lines = [line.split() for line in text.splitlines() if line.startswith("cpu")]
    total = next((line[1:] for line in lines if line[0] == "cpu"), [])
    # Old kernels have fewer columns.
    if len(total) < 4:
        raise ValueError("no line cpu in /proc/stat")
    times = dict.fromkeys(FIELDS, 0)
    times.update((name, int(value)) for name, value in zip(FIELDS, total))
    return times, max(1, len(lines) - 1)


def parse_schedstat(text: str) -> float | None:
    """Return the seconds that all tasks waited for a CPU, of the text of /proc/schedstat; null for another version."""
    version, found = "", []
    for line in text.splitlines():
        words = line.split()
        if line.startswith("version"):
            version = words[1]
        elif line.startswith("cpu") and len(words) >= 10:
            # The 8th number of a processor (Documentation/scheduler/sched-stats.rst).
            found.append(int(words[8]))
    return sum(found) / 1e9 if found and version in SCHEDULER_VERSIONS else None


def parse_loadavg(text: str) -> Part:
    """Return ``one``, ``five``, ``fifteen`` and the ``running`` and ``total`` threads of the text of /proc/loadavg."""
    one, five, fifteen, threads = text.split()[:4]
    running, _slash, total = threads.partition("/")
    return {
        "one": float(one),
        "five": float(five),
        "fifteen": float(fifteen),
        "running": int(running),
        "total": int(total),
    }


def ratios(first: Times, second: Times) -> dict[str, float | None]:
    """Return the share of all processors by field; all null if a counter was reset or no time has passed."""
    grown: dict[str, int] = {}
    for name in FIELDS:
        found = second[name] - first[name]
        if found < 0 and (name not in MAY_FALL or found < -FALL_SECONDS * TICKS):
            return dict.fromkeys(FIELDS)
        grown[name] = max(0, found)
    total = sum(grown.values())
    return {name: _rates.ratio(value, total) for name, value in grown.items()}


def describe(context: Context, first: Sample, second: Sample, runnable: list[int]) -> Part:
    """Return the part ``cpu``. ``runnable`` are numbers of runnable threads, this one included, during the interval.

    Those of both samples are added: the work between them may take the whole interval.
    """
    runnable = [*(each.running for each in (first, second) if each.running), *runnable]
    shares = ratios(first.times, second.times)
    load = parse_loadavg(context.text("loadavg"))
    busy = added(*(shares[name] for name in FIELDS if name not in MAY_FALL))
    own = own_use(context)
    return {
        "cores": second.cores,
        "load": {name: load[name] for name in ("one", "five", "fifteen")},
        "load_per_core": round(load["one"] / second.cores, 4),
        "load_five_per_core": round(load["five"] / second.cores, 4),
        "threads": load["total"],
        "runnable": mean(runnable),
        "runnable_per_core": demand(context, first, second, runnable),
        "blocked": second.blocked,
        "busy_ratio": busy,
        "own_ratio": None if own is None else round(min(1.0, own / second.cores), 4),
        "user_ratio": added(shares["user"], shares["nice"]),
        "nice_ratio": shares["nice"],
        "system_ratio": added(shares["system"], shares["irq"], shares["softirq"]),
        "softirq_ratio": shares["softirq"],
        "iowait_ratio": shares["iowait"],
        "steal_ratio": shares["steal"],
        "idle_ratio": shares["idle"],
        "context_switches_per_second": _rates.per_second(
            first.context_switches, second.context_switches, context.seconds
        ),
        "forks_per_second": _rates.per_second(first.forks, second.forks, context.seconds),
    }


def demand(context: Context, first: Sample, second: Sample, runnable: list[int]) -> float | None:
    """Return the threads per processor that ran or waited for one, without this diagnosis; null if not known.

    From the kernel's sum of waiting times if it keeps one, else the mean of ``runnable``.
    """
    own = [[table[pid].state for pid in context.own if pid in table] for table in context.tables]
    own_running = mean([states.count("R") for states in own])
    waited = _rates.difference(first.waited, second.waited)
    if waited is not None and context.seconds > 0:
        busy = sum(second.times[name] - first.times[name] for name in FIELDS if name not in MAY_FALL) / TICKS
        mine = own_use(context) or 0.0
        # Those of the diagnosis wait in proportion to what they run.
        threads = max(0.0, busy + waited) / context.seconds
        threads *= 1 - min(1.0, mine * context.seconds / busy) if busy > 0 else 1
    elif runnable:
        threads = max(0.0, (mean(runnable) or 0.0) - max(1.0, own_running or 0.0))
    else:
        return None
    return round(threads / second.cores, 4)


def own_use(context: Context) -> float | None:
    """Return the processors that this diagnosis used in the interval; null if that is not known."""
    if context.seconds <= 0:
        return None
    used = 0
    for pid in context.own:
        now, before = context.second.get(pid), context.first.get(pid)
        if now:
            same = before is not None and before.started == now.started
            used += max(0, now.ticks - (before.ticks if same and before else 0))
    return used / TICKS / context.seconds


def added(*shares: float | None) -> float | None:
    """Return the sum of shares; null if one is."""
    found = 0.0
    for share in shares:
        if share is None:
            return None
        found += share
    return round(min(1.0, found), 4)


def mean(values: list[int]) -> float | None:
    """Return the mean of numbers; null without one."""
    return round(sum(values) / len(values), 2) if values else None
