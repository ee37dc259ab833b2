# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel has complained about lately. Private to this collection.

Read from /dev/kmsg without waiting. Only the kernel's own records count: what programs write there carries a facility
of theirs.
"""

from __future__ import annotations

import os
import re
import time

from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_tally import widen
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

RECORD = 8192
# Characters of a record that are looked at; the kernel's own have no more.
LONGEST = 1024
# More than the largest ring that kernels are configured with.
MOST_BYTES = 64 << 20

DISK = r"(?P<object>[\w!/-]+)"
DEVICE = r"\((?:device )?%s(?: state \w+)?\)" % DISK
TASK = r"(?P<object>\S.*?)"
# Kind, and pattern with what the group of it is named for. The first that fits counts.
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
# The line before a kill by a control group names the group.
OOM_GROUP = re.compile(r"oom-kill:.*oom_memcg=(?P<group>[^,]*).*pid=(?P<pid>\d+)")
CONTAINER = re.compile(r"([0-9a-f]{64})")


class Unreadable(Exception):
    """The kernel's log cannot be read; the message says why, and ``hint`` what helps, if not more rights."""

    def __init__(self, path, exc):
        super().__init__("%s: %s" % (path, exc.strerror))
        missing = "Name the log of the kernel, or none (logs_kernel_log)"
        self.hint = None if isinstance(exc, PermissionError) else missing


def measure(path, begin, engine, top):
    """The part ``kernel`` of the measurement: what has happened since ``begin``, in groups. Raises Unreadable."""
    return grouped(records_of(path), begin, boot_time(), engine, top)


def boot_time():
    """The epoch seconds that are 0 in the kernel's log: its clock stands still while the machine sleeps."""
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)


def records_of(path):
    """The records, as text, without the fields that follow each."""
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


def _drain(descriptor):
    parts, size = [], 0
    while size < MOST_BYTES:
        try:
            # One record at a time, as the device gives them.
            part = os.read(descriptor, RECORD)
        except BlockingIOError:
            break
        except BrokenPipeError:
            # Overwritten while we read: the next is the oldest that is left.
            continue
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def parse(record):
    """``(seconds since boot, text)`` of a record ``priority,sequence,microseconds,flags;text``.

    Null where it is not the kernel's own.
    """
    head, semicolon, text = record.partition(";")
    fields = head.split(",")
    if not semicolon or len(fields) < 3 or not all(field.isdigit() for field in fields[:3]):
        return None
    if int(fields[0]) >> 3:
        return None
    return int(fields[2]) / 1e6, _unescaped(text[:LONGEST])


def _unescaped(text):
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found.group(1), 16)), text) if "\\x" in text else text


def grouped(records, begin, boot, engine, top):
    groups, killed, first, oldest = {}, {}, None, None
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
                _count(groups, kind, found, moment, text, killed, engine)
                break
    listed = sorted(groups.values(), key=lambda entry: -entry["last"])
    # The ring begins with record 0 as long as nothing was dropped.
    complete = oldest is None or oldest.split(",")[1:2] == ["0"] or (first is not None and first <= begin)
    return {"complete": complete, "oldest": first, "groups": listed[:top], "groups_total": len(listed)}


def _count(groups, kind, found, moment, text, killed, engine):
    named = found.groupdict()
    name = cut(printable(named["object"]), 80)
    container = _container(killed.get(named.get("pid")), engine) if kind == "oom_kill" else None
    entry = groups.setdefault(
        (kind, name, container),
        {
            "kind": kind,
            "object": name,
            "container": container,
            "count": 0,
            "first": None,
            "last": None,
            "sample": cut(redact(printable(text)), 300),
        },
    )
    entry["count"] += 1
    widen(entry, round(moment, 3))


def _container(group, engine):
    """The name of the container whose control group was out of memory; of one that is gone, the start of its id."""
    found = CONTAINER.search(group or "")
    if not found:
        return None
    return (engine.container(found.group(1)) or {}).get("name") or found.group(1)[:12]
