# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that ended and whose parent does not wait for them. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._process_table import TICKS, Process, Table
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

MOST_EXAMPLES = 5


def lasting(first: Table, second: Table) -> list[Process]:
    """Return the zombies of both samples: one that its parent collects at once is none."""
    return [
        now
        for pid, now in second.items()
        if now.state == "Z" and pid in first and first[pid].state == "Z" and first[pid].started == now.started
    ]


def describe(context: Context) -> Part:
    """Return the parts ``zombies``, by parent, and ``zombies_total``, the number of processes."""
    found = lasting(context.first, context.second)
    by_parent: dict[int, list[Process]] = {}
    for zombie in found:
        by_parent.setdefault(zombie.parent, []).append(zombie)
    uptime = float(context.text("uptime").split()[0])
    items = []
    for parent, children in sorted(by_parent.items(), key=lambda item: -len(item[1]))[: context.top]:
        process = context.second.get(parent)
        oldest = min(child.started for child in children)
        items.append(
            {
                **context.describe(parent, process.name if process else "pid %d" % parent),
                "count": len(children),
                "names": sorted({child.name for child in children})[:MOST_EXAMPLES],
                "pids": sorted(child.pid for child in children)[:MOST_EXAMPLES],
                # They started at least this long ago; the kernel does not note when they ended.
                "oldest_seconds": round(max(0.0, uptime - oldest / TICKS), 1),
            }
        )
    return {"zombies": items, "zombies_total": len(found)}
