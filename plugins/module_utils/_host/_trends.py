# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Growth over time: how long until something is full, and what leaks. Private to this collection.

The samples are those of a history file, of a loop, or both. Without one of these options nothing is measured here.
"""

from __future__ import annotations

import time
from typing import Any, List, Mapping, NamedTuple, Sequence, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import id_in
from ansible_collections.tracktion.ops.plugins.module_utils._host import _growth, _history
from ansible_collections.tracktion.ops.plugins.module_utils._host._assessment import assess, missing
from ansible_collections.tracktion.ops.plugins.module_utils._host._container_use import Groups
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._growth import FileSystems, Subject, Subjects
from ansible_collections.tracktion.ops.plugins.module_utils._host._history import History, Sample
from ansible_collections.tracktion.ops.plugins.module_utils._host._statistics import Points
from ansible_collections.tracktion.ops.plugins.module_utils._linux._cgroup import Hierarchies
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

ARGUMENT_SPEC: dict[str, Any] = {
    "history": {"type": "path"},
    "read_only": {"type": "bool", "default": False},
    "samples": {"type": "int", "default": 1},
    "interval": {"type": "float", "default": 30.0},
    "warm_up_seconds": {"type": "float", "default": 600.0},
}

MAX_SAMPLES = 200
# A limit that is reached within this time counts before the samples span a day: memory, file systems (node-mixin).
SOON_MEMORY = 6 * 3600.0
SOON_FILE_SYSTEM = 24 * 3600.0
# The lock of another visit, and a busy disk.
HISTORY_SECONDS = 4.0
OFF = "needs the option history, or samples=10"

Timeline = List[Tuple[float, Sample]]


class Now(NamedTuple):
    """What is measured at one moment, and the sample of it."""

    subjects: Subjects
    systems: FileSystems
    sample: Sample


def describe(context: Context, measured: Mapping[str, Any]) -> Part:
    """Return the part ``trends``. ``measured`` are all other parts; it runs last."""
    return {"trends": context.part("trends", _describe, measured)}


def _describe(context: Context, measured: Mapping[str, Any]) -> Part:
    options = context.options
    path, count = options["history"], options["samples"]
    found: Part = {
        "samples": 0,
        "span_seconds": None,
        "missing": OFF,
        "history": None,
        "notes": [],
        "memory": [],
        "memory_total": 0,
        "file_systems": [],
        "file_systems_total": 0,
    }
    if not path and count <= 1:
        return found
    moments = _loop(context, measured, count, options["interval"])
    now = moments[-1]
    samples = [moment.sample for moment in moments]
    if path:
        history = _kept(context, path, now.sample)
        samples = history.samples + samples
        found["history"] = {"path": path, "problems": history.problems}
    timeline, found["notes"] = _history.timeline(samples)
    points = [(moment, 0.0) for moment, _sample in timeline]
    found.update(samples=len(points), span_seconds=round(points[-1][0] - points[0][0], 1), missing=missing(points))
    available = (measured.get("memory") or {}).get("available_bytes")
    memory = _memory(context, now, timeline, available)
    systems = _file_systems(now, timeline)
    found.update(
        memory=_most(memory, context.top),
        memory_total=len(memory),
        file_systems=_most(systems, context.top),
        file_systems_total=len(systems),
    )
    return found


def check_options(options: Mapping[str, Any]) -> None:
    """Raise BadOption for a number of samples, or an interval, that is out of range."""
    if not 1 <= options["samples"] <= MAX_SAMPLES:
        raise BadOption("samples: %d is not between 1 and %d" % (options["samples"], MAX_SAMPLES))
    if options["samples"] > 1 and not options["interval"] > 0:
        raise BadOption("interval: %s is not above 0" % options["interval"])


def _kept(context: Context, path: str, sample: Sample) -> History:
    """Return the history, and add the sample. A file system that hangs costs the history, not the measurement."""
    read_only = context.options["read_only"]
    try:
        return within(context.deadline, HISTORY_SECONDS, _history.visit, path, [sample], read_only)
    except OSError as exc:
        return History([], ["history: %s" % exc])


def _loop(context: Context, measured: Mapping[str, Any], count: int, interval: float) -> list[Now]:
    """Return the moments of the loop; the first one is that of the measurement. The deadline bounds each of them."""
    # It runs last, and may use what was kept for the second sample.
    context.deadline = context.end
    groups = Groups(Hierarchies(), context.deadline)
    systems = _growth.file_systems(measured.get("file_systems") or [])
    moments = [_now(context, groups, systems)]
    began = time.monotonic()
    if count > 1:
        context.deadline = context.end = Deadline((count - 1) * interval + max(1.0, context.end.remaining()))
    for number in range(1, count):
        time.sleep(max(0.0, min(began + number * interval - time.monotonic(), context.deadline.remaining())))
        if context.deadline.expired():
            context.unknown.add("trends", "the deadline expired after %d of %d samples" % (number, count))
            break
        context.second = context.read_processes()
        moments.append(_now(context, groups, _growth.again(context, systems, context.options["mount_timeout"])))
    return moments


def _now(context: Context, groups: Groups, systems: FileSystems) -> Now:
    subjects = _growth.containers(context, groups.directories, context.second)
    subjects += _growth.processes(context, context.second)
    memory = {subject.key: subject.used for subject in subjects}
    files = {system.key: system.used for system in systems}
    return Now(subjects, systems, _history.now(memory, files))


def _memory(context: Context, now: Now, timeline: Timeline, available: int | None) -> list[Part]:
    """Return the growth of each container and process."""
    warm_up = context.options["warm_up_seconds"]
    rooms: dict[str, tuple[int | None, int | None, str]] = {}
    growing: set[str] = set()
    found: list[Part] = []
    for subject in now.subjects:
        if context.deadline.expired():
            context.unknown.add("trends.memory[...]", "the deadline expired after %d trends" % len(found))
            break
        identity = subject.identity or id_in(context.group(subject.pid or 0))
        room, limit, limit_of = rooms.get(identity or "", (available, None, "host"))
        if subject.identity:
            room, limit, limit_of = _room(subject, available)
            rooms[subject.identity] = room, limit, limit_of
        points = memory_points(subject, now.sample, timeline, warm_up)
        every = memory_points(subject, now.sample, timeline, 0.0)
        result = assess(points, room, SOON_MEMORY, subject.at_peak)
        if result["growing"] is None and len(points) < len(every):
            result["reason"] += ", after a warm-up of %d s" % warm_up
        if subject.identity and result["growing"]:
            growing.add(subject.identity)
        found.append(
            {
                "kind": "container" if subject.identity else "process",
                **_name(context, subject, identity),
                "bytes": subject.used,
                "age_seconds": None if subject.started is None else round(now.sample.up - subject.started, 1),
                "limit_bytes": limit,
                "limit_of": limit_of,
                "room_bytes": room,
                "in_growing_container": subject.identity is None and identity in growing,
                **result,
            }
        )
    return found


def memory_points(subject: Subject, now: Sample, timeline: Timeline, warm_up: float) -> Points:
    """Return the series of a process or container, without the time after its start in which caches fill."""
    return [
        (moment, float(sample.memory[subject.key]))
        for moment, sample in timeline
        # Numbers of processes, and ticks from boot to their start, are the same after every boot.
        if sample.boot == now.boot
        and subject.key in sample.memory
        and (subject.started is None or sample.up - subject.started >= warm_up)
    ]


def _room(subject: Subject, available: int | None) -> tuple[int | None, int | None, str]:
    """Return the bytes that are left to a container, its limit, and whether this is its own or that of the host."""
    if subject.room is None or (available is not None and available < subject.room):
        return available, None, "host"
    return subject.room, subject.limit, "container"


def _name(context: Context, subject: Subject, identity: str | None) -> Part:
    process = context.second.get(subject.pid)
    if process is None:
        return {"pid": None, "user": None, "command": None, "unit": None, **context.named(identity)}
    return {**context.describe(process.pid, process.name), **context.named(identity)}


def _file_systems(now: Now, timeline: Timeline) -> list[Part]:
    """Return the growth of each file system."""
    found = []
    for system in now.systems:
        in_memory = system.part["in_memory"]
        points = [
            (moment, float(sample.files[system.key]))
            for moment, sample in timeline
            if system.key in sample.files and (sample.boot == now.sample.boot or not in_memory)
        ]
        usable = system.used + system.room
        found.append(
            {
                "mount_point": system.part["mount_point"],
                "source": system.part["source"],
                "container": system.part["container"],
                "service": system.part["service"],
                "bytes": system.used,
                "room_bytes": system.room,
                "free_ratio": round(system.room / usable, 4) if usable else 0.0,
                **assess(points, float(system.room), SOON_FILE_SYSTEM),
            }
        )
    return found


def _most(items: Sequence[Part], top: int) -> list[Part]:
    """Return what grows, the nearest limit first, then what is undecided, then the largest."""

    def rank(item: Part) -> tuple[bool, bool, float, int]:
        seconds = item["seconds_to_limit"]
        return not item["growing"], item["growing"] is False, 1e18 if seconds is None else seconds, -item["bytes"]

    return sorted(items, key=rank)[:top]
