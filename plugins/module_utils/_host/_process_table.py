# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process table: /proc/<pid>/stat of all processes, and nothing else. Private to this collection."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, OutOfTime
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable, shown

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# Longest line of /proc/<pid>/stat: 52 fields of at most 20 digits.
MAX_STAT = 2048
MAX_ARGUMENTS = 65536
# Processes between two looks at the deadline.
AT_ONCE = 500
KTHREADD = 2


class Process(NamedTuple):
    """A process. ``ticks`` is its CPU time, ``started`` the ticks from boot to its start: its identity with the pid."""

    pid: int
    name: str
    state: str
    parent: int
    ticks: int
    started: int
    threads: int
    resident_bytes: int

    @property
    def is_kernel(self) -> bool:
        """Whether it is a thread of the kernel."""
        return KTHREADD in (self.pid, self.parent)

    @property
    def cpu_seconds(self) -> float:
        """CPU time in seconds, of all its threads."""
        return self.ticks / TICKS


class Table(dict):
    """Process by pid. ``read_at`` is the moment by the monotonic clock; ``complete``: the deadline did not expire."""

    read_at = 0.0
    complete = True


def read(proc: str, deadline: Deadline) -> Table:
    """Return the table of all visible processes; a part of it if the deadline expires."""
    table = Table()
    table.read_at = time.monotonic()
    root = os.open(proc, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for position, name in enumerate(filter(str.isdigit, os.listdir(proc))):
            if position % AT_ONCE == 0 and deadline.expired():
                table.complete = False
                break
            try:
                descriptor = os.open(name + "/stat", os.O_RDONLY, dir_fd=root)
            except OSError:
                continue
            try:
                found = parse(os.read(descriptor, MAX_STAT))
            except OSError:
                continue
            finally:
                os.close(descriptor)
            if found:
                table[found.pid] = found
    finally:
        os.close(root)
    return table


def parse(stat: bytes) -> Process | None:
    """Return the process of a line of /proc/<pid>/stat; null if it is malformed. The name may contain anything."""
    pid, _bracket, rest = stat.partition(b" (")
    name, _bracket, rest = rest.rpartition(b") ")
    fields = rest.split(None, 22)
    if len(fields) < 22 or not pid.isdigit():
        return None
    return Process(
        int(pid),
        readable(name),
        fields[0].decode("ascii", "replace"),
        int(fields[1]),
        int(fields[11]) + int(fields[12]),
        int(fields[19]),
        int(fields[17]),
        int(fields[21]) * PAGE,
    )


def readable(name: bytes) -> str:
    """Return a name that the host chose as text of one line."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and " " not in text:
        return text
    return printable(" ".join(shown(text).split()))


def arguments(proc: str, pid: int) -> list[str]:
    """Return the command line of a process, empty if it has ended. It may contain passwords: do not report it."""
    try:
        with open("%s/%d/cmdline" % (proc, pid), "rb") as stream:
            words = stream.read(MAX_ARGUMENTS).rstrip(b"\0").split(b"\0")
    except OSError:
        return []
    return [shown(word.decode("utf-8", "surrogateescape")) for word in words]


def family(table: Table, root: int) -> frozenset[int]:
    """Return ``root`` and all processes that descend from it; nothing for the first process, the parent of all."""
    if root <= 1:
        return frozenset()
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    found, waiting = set(), [root]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, ())
    return frozenset(found)


def complete(table: Table) -> None:
    """Raise OutOfTime if the deadline expired before all processes were read."""
    if not table.complete:
        raise OutOfTime(0.0, "%d processes read" % len(table))
