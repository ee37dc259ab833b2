# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the resources of a host and who uses them. Private to this collection.

Two samples are taken, ``sample_seconds`` apart. What needs one sample only, or takes long, is measured in between.
"""

from __future__ import annotations

import time
from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._host import (
    _clock,
    _consumers,
    _container_use,
    _cpu,
    _descriptors,
    _disks,
    _files,
    _interfaces,
    _kernel,
    _listening,
    _memory,
    _pressure,
    _process_use,
    _trends,
    _zombies,
)
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._linux._cgroup import Hierarchies
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Deadline,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC: dict[str, Any] = {
    "sample_seconds": {"type": "float", "default": 1.0},
    "docker_root": {"type": "path"},
    "top": {"type": "int", "default": 10},
    "deadline": {"type": "float", "default": 10.0},
    **_files.ARGUMENT_SPEC,
    **_trends.ARGUMENT_SPEC,
}

PARTS = (
    *("sample_seconds", "cpu", "pressure", "memory", "disks", "disks_total", "interfaces", "interfaces_total"),
    *("kernel", "clock", "processes", "containers", "containers_total", "listeners", "listeners_total"),
    *("zombies", "zombies_total"),
    # File systems and files
    *(
        "file_systems",
        "file_systems_total",
        "deleted_open_files",
        "deleted_open_files_total",
        "deleted_open_files_bytes",
    ),
    *("largest", "container_logs", "container_logs_total", "container_logs_bytes"),
    # Trends
    "trends",
)
# Parts with a function sample(context), which is called twice.
SAMPLED = {"cpu": _cpu, "pressure": _pressure, "memory": _memory, "disks": _disks, "interfaces": _interfaces}
# Parts that lack what hidden processes have.
HIDDEN = ("processes.consumers[...]", "zombies[...]", "file_systems[...]", "deleted_open_files[...]")
# Seconds of the deadline that are kept for the second sample.
RESERVE_SECONDS = 0.5
NO_PROC = "Measure on a Linux host with /proc mounted"


def measure(options: Options) -> Measurement:
    """Return the measurement that the module tracktion.ops.host_resources_info documents."""
    _trends.check_options(options)
    seconds = options["deadline"]
    context = Context(options, Deadline(max(0.1, seconds - RESERVE_SECONDS)), Deadline(seconds))
    try:
        context.text("stat")
    except OSError as exc:
        return unreachable(PARTS, CannotConnect("cannot_measure", "/proc cannot be read: %s" % exc, NO_PROC))
    first, runnable = _sample(context), []
    context.first = context.read_processes()
    # From here to the second sample, work takes no time of its own.
    groups = context.part("containers", lambda context: _container_use.Groups(Hierarchies(), context.deadline))
    containers, began = groups.read() if groups else None, time.monotonic()
    sizes = _process_use.proportional(context)
    measured = _between(context)
    until = context.first.read_at + options["sample_seconds"]
    context.wait(until, lambda: runnable.append(_running(context)))
    second = _sample(context)
    context.second = context.read_processes()
    context.readings, interval = groups.read() if groups else {}, time.monotonic() - began
    measured.update(_describe(context, first, second, [each for each in runnable if each is not None]))
    measured.update(_attribute(context, containers, interval, sizes, measured))
    _note_hidden(context)
    measured.update(_trends.describe(context, measured))
    return reached({**dict.fromkeys(PARTS), **measured}, context.unknown)


def _sample(context: Context) -> Part:
    return {name: context.part(name, part.sample) for name, part in SAMPLED.items()}


def _between(context: Context) -> Part:
    """Return the parts that are measured between the samples."""
    found: Part = {"clock": context.part("clock", _clock.describe)}
    sockets = context.part("listeners", _listening.read) or []
    descriptors = _descriptors.walk(context, {each.inode for each in sockets})
    found.update(_listening.describe(context, sockets, descriptors))
    found.update(context.part("file_systems", _files.describe, descriptors) or {})
    return found


def _describe(context: Context, first: Part, second: Part, runnable: list[int]) -> Part:
    """Return the parts that compare both samples."""
    found: Part = {"sample_seconds": round(context.seconds, 3)}

    def compare(name: str, *arguments: object) -> Any:
        known = first[name] is not None and second[name] is not None
        return context.part(name, SAMPLED[name].describe, first[name], second[name], *arguments) if known else None

    found["cpu"] = compare("cpu", runnable)
    for name in ("pressure", "memory"):
        found[name] = compare(name)
    for name in ("disks", "interfaces"):
        found.update(compare(name) or {})
    found["kernel"] = context.part("kernel", _kernel.describe, first["interfaces"], second["interfaces"])
    found.update(context.part("zombies", _zombies.describe) or {})
    return found


def _attribute(
    context: Context,
    containers: _container_use.Sample | None,
    interval: float,
    sizes: Mapping[int, int],
    measured: Part,
) -> Part:
    """Return the parts that name who uses the CPU and the memory.

    ``containers`` are their first counters, ``interval`` seconds before the second ones; ``sizes`` are those of
    processes.
    """
    cores, memory = ((measured[part] or {}).get(name) for part, name in (("cpu", "cores"), ("memory", "total_bytes")))
    found: Part = {"processes": context.part("processes", _process_use.describe, sizes, cores, memory)}
    if containers is not None:
        found.update(_container_use.describe(context, containers, context.readings, interval, cores, memory))
    most: Part = {"cpu": None, "memory": None}
    if found["processes"] is not None:
        listed, hidden = found.get("containers") or [], context.restriction is not None
        per_core = (measured["cpu"] or {}).get("runnable_per_core")
        runnable = None if per_core is None else per_core * cores
        wanted = _consumers.demand(context)
        consumers = _consumers.by_cpu(found["processes"], listed, wanted, runnable, context.top)
        found["processes"]["consumers"] = consumers
        most["cpu"] = _consumers.certain(consumers, "demand", runnable, hidden)
        largest = _consumers.by_memory(found["processes"], listed, context.top)
        most["memory"] = _consumers.certain(largest, "memory_bytes", memory, hidden)
    for part, item in most.items():
        if measured[part] is not None:
            measured[part]["most"] = item
    if measured["memory"] is not None:
        killed = measured["memory"]["new_oom_kills"]
        limited = _container_use.killed_by_limit(found.get("containers") or [])
        measured["memory"]["new_oom_kills_outside"] = None if killed is None else max(0, killed - limited)
    return found


def _running(context: Context) -> int | None:
    try:
        return _cpu.parse_loadavg(context.text("loadavg"))["running"]
    except (OSError, ValueError):
        return None


def _note_hidden(context: Context) -> None:
    """Note that some processes are hidden from this account: what they use is then not attributed."""
    for part in HIDDEN if context.restriction else ():
        context.unknown.add(part, *(context.restriction or ()))
    if not context.second.complete:
        context.unknown.add("processes.consumers[...]", "the deadline expired after %d processes" % len(context.second))
