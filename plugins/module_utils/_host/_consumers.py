# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What uses the most: containers, and processes outside of containers. Private to this collection."""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import id_in
from ansible_collections.tracktion.ops.plugins.module_utils._host import _rates
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import first as first_by
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

OF_PROCESS = ("pid", "user", "command", "unit")
# Runnable processes whose container is looked up.
MOST_RUNNABLE = 1000


class Demand(NamedTuple):
    """Mean number of processes that ran or waited for a processor in the samples, without this diagnosis.

    A container with a small weight gets little CPU time, however many of its processes want it. ``example`` is one of
    them, by the id of the container.
    """

    of_container: dict[str, float]
    of_process: dict[int, float]
    example: dict[str, Part]


def demand(context: Context) -> Demand:
    """Return the demand of each container by its id, and of each process outside of containers."""
    found = Demand({}, {}, {})
    share = 1 / max(1, len(context.tables))
    for table in context.tables:
        runnable = [each.pid for each in table.values() if each.state == "R" and each.pid not in context.own]
        for pid in runnable[:MOST_RUNNABLE]:
            identity = id_in(context.group(pid))
            if identity is None:
                found.of_process[pid] = found.of_process.get(pid, 0.0) + share
            else:
                found.of_container[identity] = found.of_container.get(identity, 0.0) + share
                if identity not in found.example:
                    found.example[identity] = context.describe(pid, table[pid].name)
    return found


def by_cpu(processes: Part, containers: Sequence[Part], wanted: Demand, of_all: float | None, top: int) -> list[Part]:
    """Return what asks for the most CPU time: used processors, or runnable processes if they are more.

    ``of_all`` is the number of runnable threads of the host. The processes of this diagnosis are left out.
    """
    found = []
    for item in _items(processes["by_cpu"], containers):
        identity = item.pop("id")
        if identity is None:
            runnable = wanted.of_process.get(item["pid"])
        else:
            runnable = wanted.of_container.get(identity)
            if item["pid"] is None and identity in wanted.example:
                item.update((field, wanted.example[identity][field]) for field in OF_PROCESS)
        asked = max(item["cpu_ratio"] or 0.0, runnable or 0.0)
        # Rounding, and two looks that differ.
        ratio = _rates.ratio(asked, max(of_all, asked) if of_all is not None else None)
        found.append({**item, "runnable": round(runnable or 0.0, 2), "demand": round(asked, 4), "demand_ratio": ratio})
    return first_by([item for item in found if item["demand"]], "demand", top)


def by_memory(processes: Part, containers: Sequence[Part], top: int) -> list[Part]:
    """Return what has the most memory. The processes of this diagnosis are left out."""
    found = _items(processes["by_memory"], containers)
    for item in found:
        item.pop("id")
    return first_by([item for item in found if item["memory_bytes"]], "memory_bytes", top)


def certain(items: Sequence[Part], key: str, of_all: float | None, hidden: bool) -> Part | None:
    """Return the first item, the largest; null without one, or if a hidden process may use more.

    ``of_all`` is the use of all: no other uses more than an item with half of it.
    """
    if not items or (hidden and (of_all is None or 2 * (items[0][key] or 0) < of_all)):
        return None
    return items[0]


def _items(listed: Sequence[Part], containers: Sequence[Part]) -> list[Part]:
    """Return containers, each with its first process of ``listed``, and the processes outside of containers."""
    others = [process for process in listed if not process["own"]]
    found = []
    for container in containers:
        largest = next((each for each in others if each["container"] == container["container"]), None)
        item = _consumer("container", container["container"], container, largest, container["memory_bytes"])
        found.append({**item, "id": container["id"]})
    for process in others:
        if process["container"] is None:
            name = "%s (pid %d)" % (process["command"], process["pid"])
            memory = process["proportional_bytes"] or process["resident_bytes"]
            found.append({**_consumer("process", name, process, process, memory), "id": None})
    return found


def _consumer(kind: str, name: str, use: Part, process: Part | None, memory: int | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": name,
        **{field: use[field] for field in ("service", "project", "cpu_ratio", "cpu_of_host_ratio")},
        **{field: process[field] if process else None for field in OF_PROCESS},
        "memory_bytes": memory,
    }
