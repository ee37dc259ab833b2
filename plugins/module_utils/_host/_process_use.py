# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The processes that use most of the CPU and of the memory. Private to this collection."""

from __future__ import annotations

import time
from typing import Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._host import _rates
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context, numbers
from ansible_collections.tracktion.ops.plugins.module_utils._host._process_table import TICKS, Process, Table
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# The kernel walks the pages of a process for its proportional size: only of a few, and not of huge ones.
MOST_SIZED = 5
MOST_BYTES = 4 << 30
MOST_SECONDS = 0.05


def describe(context: Context, sizes: Mapping[int, int], cores: int | None, total_memory: int | None) -> Part:
    """Return the part ``processes``. ``sizes`` are the proportional sizes of some of them."""
    table = context.second
    used = cpu(context.first, table, context.seconds)
    by_cpu = [pid for pid in sorted(used, key=lambda each: -used[each]) if used[pid] > 0][: context.top]
    by_memory = largest_resident(table, context.top)

    def item(pid: int) -> Part:
        process = table[pid]
        memory = sizes.get(pid, process.resident_bytes)
        return {
            **context.describe(pid, process.name),
            "state": process.state,
            "threads": process.threads,
            "own": pid in context.own,
            "cpu_ratio": used.get(pid),
            "cpu_of_host_ratio": _rates.ratio(used.get(pid), cores),
            "cpu_seconds": round(process.cpu_seconds, 2),
            "resident_bytes": process.resident_bytes,
            "proportional_bytes": sizes.get(pid),
            "memory_ratio": _rates.ratio(memory, total_memory),
        }

    states = [process.state for process in table.values()]
    return {
        "total": len(table),
        "kernel": sum(process.is_kernel for process in table.values()),
        "threads": sum(process.threads for process in table.values()),
        "complete": table.complete,
        "hidden": context.restriction is not None,
        "running": states.count("R"),
        "blocked": states.count("D"),
        "zombies": states.count("Z"),
        "cpu_ratio": round(sum(used.values()), 4) if used else None,
        "by_cpu": [item(pid) for pid in by_cpu],
        "by_memory": [item(process) for process in by_memory],
        "stuck": [context.describe(each.pid, each.name) for each in stuck(context.first, table)[: context.top]],
    }


def cpu(first: Table, second: Table, seconds: float) -> dict[int, float]:
    """Return the share of one core of each process in the interval; a process that started in it has all its time."""
    found = {}
    for pid, now in second.items():
        before = first.get(pid)
        earlier = before.ticks if before is not None and before.started == now.started else 0
        if seconds > 0 and now.ticks >= earlier:
            found[pid] = round((now.ticks - earlier) / TICKS / seconds, 4)
    return found


def largest_resident(table: Table, top: int) -> list[int]:
    """Return the processes with the most resident memory, the largest first."""
    sized = [process for process in table.values() if process.resident_bytes > 0]
    return [each.pid for each in sorted(sized, key=lambda each: -each.resident_bytes)[:top]]


def proportional(context: Context) -> dict[int, int]:
    """Return the memory of the largest processes with shared pages divided among their users, where it may be read.

    It is read between the samples, because the kernel walks their pages.
    """
    found: dict[int, int] = {}
    began = time.monotonic()
    for pid in largest_resident(context.first, MOST_SIZED):
        if context.first[pid].resident_bytes > MOST_BYTES or time.monotonic() - began > MOST_SECONDS:
            continue
        try:
            size = numbers(context.text("%d/smaps_rollup" % pid)).get("Pss")
        except OSError:
            continue
        if size is not None:
            found[pid] = size * 1024
    return found


def stuck(first: Table, second: Table) -> list[Process]:
    """Return the processes that waited for a disk or a server in both samples, and did nothing in between."""
    return [
        now
        for pid, now in second.items()
        if now.state == "D" and pid in first and first[pid].state == "D" and first[pid][4:6] == now[4:6]
    ]
