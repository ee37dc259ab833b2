# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counts problems in the kernel's log. Private to this collection.

Reads /dev/kmsg without blocking. Only the kernel's own records count: those of programs have another facility.
"""

from __future__ import annotations

import os
import re
import time
from typing import Iterable, Match, Optional, Protocol, Tuple, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

RECORD = 8192
# Characters of a record that are searched; records of the kernel are not longer.
LONGEST = 1024
# More than the largest ring buffer that kernels are configured with.
MOST_BYTES = 64 << 20

# Mounts, and links to the devices by their numbers.
MOUNTINFO = "/proc/self/mountinfo"
DEVICES = "/sys/dev/block"

DISK = r"(?P<object>[\w!/-]+)"
DEVICE = r"\((?:device )?%s(?: state \w+)?\)" % DISK
TASK = r"(?P<object>\S.*?)"
# Kind, and pattern with the object. The first that matches counts.
KINDS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("oom_kill", r"[Oo]ut of memory: Kill(?:ed)? process (?P<pid>\d+) \((?P<object>[^)]*)\)"),
        ("read_only_fs", DEVICE + r".*(?:Remounting filesystem read-only|forced readonly)"),
        ("read_only_fs", r"XFS " + DEVICE + r": .*(?:[Ff]ilesystem has been shut down|Shutting down filesystem)"),
        ("io_error", r"I/O error, dev " + DISK + r", (?:logical block|sector)"),
        ("io_error", r"critical (?:medium|target|space allocation|nexus) error, dev " + DISK),
        ("io_error", r"Buffer I/O error on dev(?:ice)? " + DISK + r"[,:]"),
        ("io_error", r"(?:EXT[234]-fs error|F2FS-fs error|BTRFS (?:error|critical)) " + DEVICE),
        ("io_error", r"XFS " + DEVICE + r": (?:metadata I/O error|log I/O error|Corruption)"),
        ("io_error", r"(?P<object>nvme\d+|ata\d+(?:\.\d+)?): (?:I/O \d+ .*timeout|failed command|exception Emask)"),
        ("hung_task", r"INFO: task " + TASK + r":(?P<pid>\d+) .*?blocked .*?for more than \d+ seconds"),
        ("segfault", TASK + r"\[(?P<pid>\d+)\]: segfault at "),
        ("segfault", r"traps: " + TASK + r"\[(?P<pid>\d+)\] (?:general protection|trap )"),
        ("conntrack_full", r"(?P<object>nf_conntrack): (?:nf_conntrack: )?table full, dropping packet"),
    )
)
# Precedes the record of a kill, and names the control group whose limit was reached.
OOM_GROUP = re.compile(r"oom-kill:.*oom_memcg=(?P<group>[^,]*).*pid=(?P<pid>\d+)")
CONTAINER = re.compile(r"([0-9a-f]{64})")


class KernelGroup(TypedDict):
    """Records of one kind about one object.

    ``container`` is null outside of containers. ``writable`` is whether a file system that became read-only is mounted
    read-write again; null if it is not mounted, and for other kinds.
    """

    kind: str
    object: str
    container: str | None
    count: int
    first: float
    last: float
    writable: bool | None
    sample: str


# Kind, object and container.
GroupKey = Tuple[str, str, Optional[str]]


class Containers(Protocol):
    """Finds a container by its id, such as ``_containers.Engine``."""

    def container(self, identity: str) -> Part | None:
        """Return its ``_containers.FIELDS``, the unknown ones null."""


class Unreadable(Exception):
    """The kernel's log cannot be read. ``hint`` is null if more rights are needed."""

    def __init__(self, path: str, exc: OSError) -> None:
        super().__init__("%s: %s" % (path, exc.strerror))
        wrong_path = "Correct `kernel_log`, or leave it empty."
        self.hint = None if isinstance(exc, PermissionError) else wrong_path


def measure(path: str, begin: float, containers: Containers, top: int) -> Part:
    """Return the part ``kernel``: the problems since ``begin``, in groups. Raises Unreadable."""
    return grouped(records_of(path), begin, boot_time(), containers, top)


def boot_time() -> float:
    """Return the epoch seconds at zero of the log's clock, CLOCK_MONOTONIC, which stops in suspend."""
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)


def records_of(path: str) -> list[str]:
    """Return the records as text, without the continuation lines of each. Raises Unreadable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise Unreadable(path, exc) from exc
    try:
        data = _drain(descriptor)
    except OSError as exc:
        raise Unreadable(path, exc) from exc
    finally:
        os.close(descriptor)
    return [line for line in data.decode("utf-8", "replace").split("\n") if line and line[:1] != " "]


def _drain(descriptor: int) -> bytes:
    """Return all data that can be read without blocking."""
    parts, size = [], 0
    while size < MOST_BYTES:
        try:
            # The device returns one record for each read.
            part = os.read(descriptor, RECORD)
        except BlockingIOError:
            break
        except BrokenPipeError:
            # The next record was overwritten; continue with the oldest that is left.
            continue
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def parse(record: str) -> tuple[float, str] | None:
    """Return the seconds since boot and the text of a record ``priority,sequence,microseconds,flags;text``.

    Null for a record that is not the kernel's own.
    """
    head, semicolon, text = record.partition(";")
    fields = head.split(",")
    if not semicolon or len(fields) < 3 or not all(field.isdigit() for field in fields[:3]):
        return None
    if int(fields[0]) >> 3:
        return None
    return int(fields[2]) / 1e6, _unescaped(text[:LONGEST])


def _unescaped(text: str) -> str:
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found.group(1), 16)), text) if "\\x" in text else text


def grouped(records: Iterable[str], begin: float, boot: float, containers: Containers, top: int) -> Part:
    """Return the part ``kernel`` for these records. ``boot`` is the epoch time at zero of their clock."""
    groups: dict[GroupKey, KernelGroup] = {}
    killed: dict[str, str] = {}
    first, oldest = None, None
    for record in records:
        if oldest is None:
            oldest = record
        parsed = parse(record)
        if parsed is None:
            continue
        moment, text = boot + parsed[0], parsed[1]
        first = moment if first is None else first
        if moment < begin:
            continue
        group = OOM_GROUP.search(text)
        if group:
            killed[group.group("pid")] = group.group("group")
            continue
        for kind, pattern in KINDS:
            found = pattern.search(text)
            if found:
                container = None
                if kind == "oom_kill":
                    container = _container_name(killed.get(found.group("pid")), containers)
                _count(groups, kind, found, container, moment)
                break
    listed = sorted(groups.values(), key=lambda entry: -entry["last"])
    # The ring buffer begins with record 0 until records are overwritten.
    complete = oldest is None or oldest.split(",")[1:2] == ["0"] or (first is not None and first <= begin)
    return {"complete": complete, "oldest": first, "groups": listed[:top], "groups_total": len(listed)}


def _count(
    groups: dict[GroupKey, KernelGroup], kind: str, found: Match[str], container: str | None, moment: float
) -> None:
    """Count a record in its group."""
    name = cut(printable(found.group("object")), 80)
    entry = groups.setdefault(
        (kind, name, container),
        {
            "kind": kind,
            "object": name,
            "container": container,
            "count": 0,
            "first": round(moment, 3),
            "last": round(moment, 3),
            "writable": is_writable(name) if kind == "read_only_fs" else None,
            "sample": cut(redact(printable(found.string)), 300),
        },
    )
    entry["count"] += 1
    entry["last"] = round(moment, 3)


def is_writable(disk: str, mountinfo: str = MOUNTINFO, devices: str = DEVICES) -> bool | None:
    """Return whether the file system of a disk is mounted read-write; null if it is not mounted, or not known."""
    try:
        with open(mountinfo, encoding="utf-8", errors="replace") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return None
    found = None
    for line in lines:
        fields = line.split(" ")
        # The options of the file system, which the kernel changes, are the last field.
        if len(fields) > 6 and os.path.basename(os.path.realpath(os.path.join(devices, fields[2]))) == disk:
            found = "ro" not in fields[-1].split(",")
            if not found:
                return False
    return found


def _container_name(group: str | None, containers: Containers) -> str | None:
    """Return the name of the container of a control group; for a removed container the start of its id."""
    found = CONTAINER.search(group or "")
    if not found:
        return None
    return (containers.container(found.group(1)) or {}).get("name") or found.group(1)[:12]
