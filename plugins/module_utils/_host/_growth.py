# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory of processes and containers, and used bytes of file systems, for trends. Private to this collection.

The memory of a process is its anonymous memory with what is swapped out: the resident size also counts pages of files
and of shared memory, which grows without a leak. That of a container is what the kernel cannot reclaim without swap.
"""

from __future__ import annotations

import heapq
import os
from typing import Iterable, List, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context, numbers
from ansible_collections.tracktion.ops.plugins.module_utils._host._process_table import TICKS, Process, Table
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _cgroup, _statvfs
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Processes, containers and file systems in one sample: those with the most memory. A history keeps 200 of them.
MOST_PROCESSES = 80
MOST = 60
# A process at this share of its largest resident size is at its peak.
PEAK = 0.98

# Directories of the control groups by controller, of each container by its id.
Groups = Mapping[str, Mapping[str, str]]


class Subject(NamedTuple):
    """A process, or a container with ``identity``, that uses ``used`` bytes.

    ``key`` is the same until it is restarted. ``started`` are the seconds from boot to its start.
    ``at_peak``: whether it never used more. ``pid`` is that of the process, or of the largest one of the container.
    ``room`` are the bytes until the limit of the container; null without a limit.
    """

    key: str
    used: int
    started: float | None
    at_peak: bool | None
    pid: int | None
    identity: str | None
    limit: int | None
    room: int | None


class FileSystem(NamedTuple):
    """A file system that uses ``used`` bytes and has ``room`` left. ``part`` is its entry in the measurement."""

    key: str
    used: int
    room: int
    part: Part


Subjects = List[Subject]
FileSystems = List[FileSystem]


def processes(context: Context, table: Table) -> Subjects:
    """Return the processes with the most resident memory, without those of this diagnosis."""
    candidates = [each for each in table.values() if not each.is_kernel and each.pid not in context.own]
    found = []
    for process in heapq.nlargest(MOST_PROCESSES, candidates, key=lambda each: each.resident_bytes):
        try:
            fields = numbers(context.text("%d/status" % process.pid))
        except OSError:
            continue
        used = private_bytes(fields)
        if used is not None:
            started = process.started / TICKS
            peak = is_at_peak(fields)
            key = "p:%d:%d" % (process.pid, process.started)
            found.append(Subject(key, used, started, peak, process.pid, None, None, None))
    return found


def private_bytes(status: Mapping[str, int]) -> int | None:
    """Return the anonymous memory of a process with its swap, from /proc/<pid>/status in KiB; null if not known.

    Linux before 4.5 knows only the resident size.
    """
    resident = status.get("RssAnon", status.get("VmRSS"))
    return None if resident is None else (resident + status.get("VmSwap", 0)) * 1024


def is_at_peak(status: Mapping[str, int]) -> bool | None:
    """Return whether a process is at the largest size of its life; null if the kernel does not count that."""
    if "VmHWM" not in status or "VmRSS" not in status:
        return None
    return status["VmRSS"] + status.get("VmSwap", 0) >= PEAK * status["VmHWM"]


def containers(context: Context, groups: Groups, table: Table) -> Subjects:
    """Return the containers with the most memory that cannot be reclaimed."""
    found = []
    for identity, directories in groups.items():
        memory = directories.get("memory")
        usage = unreclaimable(memory) if memory else None
        if memory is None or usage is None:
            continue
        used, swapped, limit = usage
        members = members_of(directories.values(), table)
        first = min((each.started for each in members), default=None)
        largest = max(members, key=lambda each: each.resident_bytes, default=None)
        try:
            # A restart makes a new directory.
            key = "c:%s:%d" % (identity[:12], os.stat(memory).st_ino)
        except OSError:
            continue
        found.append(
            Subject(
                key,
                used + swapped,
                None if first is None else first / TICKS,
                None if largest is None else peak_of(context, largest),
                None if largest is None else largest.pid,
                identity,
                limit,
                None if limit is None else max(0, limit - used),
            )
        )
    return heapq.nlargest(MOST, found, key=lambda each: each.used)


def members_of(directories: Iterable[str], table: Table) -> list[Process]:
    """Return the processes in the control groups of a container, without groups below them."""
    found: dict[int, Process] = {}
    for directory in set(directories):
        try:
            with open(os.path.join(directory, "cgroup.procs"), encoding="ascii") as stream:
                pids = stream.read(1 << 16).split()
        except (OSError, ValueError):
            continue
        found.update({int(pid): table[int(pid)] for pid in pids if pid.isdigit() and int(pid) in table})
    return list(found.values())


def peak_of(context: Context, process: Process) -> bool | None:
    """Return whether a process is at the largest size of its life; null if that cannot be read."""
    try:
        return is_at_peak(numbers(context.text("%d/status" % process.pid)))
    except OSError:
        return None


def unreclaimable(memory: str) -> tuple[int, int, int | None] | None:
    """Return the bytes of a control group that the kernel cannot reclaim, those swapped out, and the limit.

    ``memory`` is its directory, of version 1 or 2. Null if it has gone.
    """
    stat = _cgroup.table(memory, "memory.stat")
    usage, limit = _cgroup.number(memory, "memory.current"), _cgroup.number(memory, "memory.max")
    names: tuple[str, ...] = ("inactive_file", "active_file", "slab_reclaimable")
    swapped = _cgroup.number(memory, "memory.swap.current") or 0
    if usage is None:
        usage, limit = _cgroup.number(memory, "memory.usage_in_bytes"), _cgroup.number(memory, "memory.limit_in_bytes")
        names = ("total_inactive_file", "total_active_file")
        swapped = stat.get("total_swap", 0)
    if usage is None:
        return None
    used = max(0, usage - sum(stat.get(name, 0) for name in names))
    return used, swapped, limit if limit is not None and limit < _cgroup.NO_LIMIT else None


def file_systems(parts: Sequence[Part]) -> FileSystems:
    """Return the file systems of the measurement that can fill."""
    found = []
    for part in parts:
        used, room = part["used_bytes"], part["available_bytes"]
        if used is not None and room is not None and not part["read_only"]:
            found.append(FileSystem(key_of(part), used, room, part))
    return found[:MOST]


def key_of(part: Part) -> str:
    """Return what identifies a file system: that in memory ends with the boot."""
    kind = "memory" if part["in_memory"] else "disk"
    return "%s %s %s %s" % (kind, part["mount_point"], part["source"], part["container"] or "")


def again(context: Context, systems: FileSystems, timeout: float) -> FileSystems:
    """Return the same file systems now. Those that only a container sees, or that do not answer, are left out."""
    own = [system for system in systems if not system.part["container"]]
    targets = [
        _statvfs.Target(part["device"], part["mount_point"], part["type"] not in _statvfs.LOCAL)
        for _key, _used, _room, part in own
    ]
    answers = _statvfs.read(targets, timeout, context.deadline)
    found = []
    for position, system in enumerate(own):
        sizes = answers[position].sizes if position in answers else None
        if sizes:
            found.append(system._replace(used=sizes.bytes - sizes.free, room=sizes.available))
    return found
