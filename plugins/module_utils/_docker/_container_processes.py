# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Zombies and open files of the processes of containers, from /proc. Private to this collection."""

from __future__ import annotations

import os
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import container_id
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

FIELDS = ("has_init", "zombies", "open_files", "open_files_limit", "open_files_ratio", "open_files_command")
# Processes of which open files are counted, and seconds that are left for other parts.
MAX_PROCESSES = 2000
RESERVE_SECONDS = 0.5
OPEN_FILES = "Max open files"


class Process(NamedTuple):
    """A process as in /proc/<pid>/stat. ``start`` distinguishes it from a later one with the same id."""

    pid: int
    parent: int
    state: str
    start: str


class Processes:
    """Takes the first reading when it is created, and the second in ``finish``: a zombie may be about to be reaped."""

    def __init__(self, inspected: Iterable[Mapping[str, Any]]) -> None:
        self.first_pids = {data["Id"]: data["State"].get("Pid") for data in inspected if data["State"].get("Pid")}
        self.inits = {data["Id"]: bool((data.get("HostConfig") or {}).get("Init")) for data in inspected}
        self.zombies = zombies(processes()) if self.first_pids else set()

    def finish(self, containers: Sequence[Part], deadline: Deadline, unknown: Unknown) -> None:
        """Add ``FIELDS`` to the facts of the running containers."""
        if not self.first_pids:
            return
        now = processes()
        of_container = {process.pid: container_id(process.pid) for process in now if process.state != "Z"}
        lasting = self.zombies & zombies(now)
        members: dict[str, list[int]] = {}
        counts: dict[str, int] = {}
        for process in now:
            # A zombie has left its control groups.
            identity = of_container.get(process.parent if process.state == "Z" else process.pid)
            if identity is not None:
                if process in lasting:
                    counts[identity] = counts.get(identity, 0) + 1
                elif process.state != "Z":
                    members.setdefault(identity, []).append(process.pid)
        left = MAX_PROCESSES
        denied = False
        for container in containers:
            mine = members.get(container["id"])
            if container["id"] not in self.first_pids or not mine:
                continue
            container.update(has_init=self.inits[container["id"]], zombies=counts.get(container["id"], 0))
            if deadline.remaining() <= RESERVE_SECONDS:
                unknown.add("containers.open_files_ratio", "there was no time to count the open files")
                return
            found = [each for each in map(open_files, mine[:left]) if each is not None]
            left = max(0, left - len(mine))
            if found:
                container.update(max(found, key=lambda each: each["open_files_ratio"]))
            denied = denied or not found
        if denied:
            hint = _rights.hint("view of the processes of the host")
            unknown.add("containers.open_files_ratio", "the open files of processes cannot be counted", hint)


def processes() -> list[Process]:
    """Return all processes."""
    found = []
    for pid in _processes.pids():
        try:
            fields = _processes.stat(pid)
            found.append(Process(pid, int(fields[1]), fields[0], fields[19]))
        except (OSError, ValueError, IndexError):
            continue
    return found


def zombies(everyone: Iterable[Process]) -> set[Process]:
    """Return the processes that have ended and that their parents have not waited for."""
    return {process for process in everyone if process.state == "Z"}


def open_files(pid: int) -> Part | None:
    """Return the open files of a process beside its limit; null if it has ended or may not be read."""
    try:
        count = len(os.listdir("/proc/%d/fd" % pid))
        with open("/proc/%d/limits" % pid, encoding="utf-8") as stream:
            line = next(line for line in stream if line.startswith(OPEN_FILES))
    except (OSError, StopIteration):
        return None
    soft = line[len(OPEN_FILES) :].split()[0]
    limit = int(soft) if soft.isdigit() else None
    return {
        "open_files": count,
        "open_files_limit": limit,
        "open_files_ratio": round(count / limit, 4) if limit else 0.0,
        "open_files_command": _processes.label(_processes.arguments(pid)),
    }
