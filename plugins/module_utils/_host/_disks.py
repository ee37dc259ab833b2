# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Use, queue and latency of the disks, from /proc/diskstats. Private to this collection.

The formulas are those of iostat (sysstat): https://docs.kernel.org/admin-guide/iostats.html
"""

from __future__ import annotations

import os
import re
from typing import Dict, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._host import _rates
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import first as largest
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

SECTOR = 512
# Devices without a disk behind them (node_exporter leaves them out too), and parts of others.
NOT_A_DISK = re.compile(r"(?:ram|fd|sr|zram)\d+")
# Devices that pass requests on to others, whose figures are reported: a request would be counted twice.
STACKED = re.compile(r"(?:loop|dm-|md|drbd|bcache)\d*")


class Counters(NamedTuple):
    """The counters of one device: requests, sectors, and milliseconds. ``in_flight`` is a number of requests."""

    reads: int
    read_sectors: int
    read_ms: int
    writes: int
    written_sectors: int
    write_ms: int
    in_flight: int
    busy_ms: int
    weighted_ms: int


Sample = Dict[str, Counters]


def sample(context: Context) -> Sample:
    """Return the counters of whole devices now. Raises OSError."""
    found = parse(context.text("diskstats"))
    return {name: counters for name, counters in found.items() if is_whole(context.sys, name)}


def parse(text: str) -> Sample:
    """Return the counters of all devices and partitions in the text of /proc/diskstats."""
    found: Sample = {}
    for line in text.splitlines():
        words = line.split()
        # Partitions of old kernels have fewer columns.
        if len(words) >= 14:
            values = [int(word) for word in words[3:14]]
            found[words[2]] = Counters(values[0], *values[2:5], *values[6:11])
    return found


def is_whole(sys: str, name: str) -> bool:
    """Return whether a device is a disk, not a partition of one or a device of memory."""
    return not NOT_A_DISK.fullmatch(name) and os.path.isdir(os.path.join(sys, "block", name.replace("/", "!")))


def describe(context: Context, first: Sample, second: Sample) -> Part:
    """Return the parts ``disks``, the busiest first, and ``disks_total``. Devices that were never used are left out."""
    used = {name: now for name, now in second.items() if now.reads or now.writes}
    found = [
        {**rates(first.get(name), now, context.seconds), **device(context.sys, name), "name": name.replace("!", "/")}
        for name, now in used.items()
    ]
    return {"disks": largest(found, "utilisation_ratio", context.top), "disks_total": len(found)}


def rates(before: Counters | None, now: Counters, seconds: float) -> Part:
    """Return the figures of one device. They are null if a counter was reset, latencies also without a request."""
    valid = before is not None and all(a <= b for a, b in zip(before[:6], now[:6])) and seconds > 0
    old = before if valid and before else now

    def grown(name: str) -> int:
        return getattr(now, name) - getattr(old, name)

    reads, writes = grown("reads"), grown("writes")
    busy, weighted = grown("busy_ms"), grown("weighted_ms")
    return {
        "utilisation_ratio": _rates.share(busy / 1000, seconds) if valid and busy >= 0 else None,
        "queue_length": round(weighted / 1000 / seconds, 4) if valid and weighted >= 0 else None,
        "in_flight": now.in_flight,
        "reads_per_second": round(reads / seconds, 2) if valid else None,
        "writes_per_second": round(writes / seconds, 2) if valid else None,
        "read_bytes_per_second": round(grown("read_sectors") * SECTOR / seconds, 1) if valid else None,
        "written_bytes_per_second": round(grown("written_sectors") * SECTOR / seconds, 1) if valid else None,
        "requests": reads + writes if valid else None,
        "read_latency_seconds": _latency(grown("read_ms"), reads) if valid else None,
        "write_latency_seconds": _latency(grown("write_ms"), writes) if valid else None,
        "latency_seconds": _latency(grown("read_ms") + grown("write_ms"), reads + writes) if valid else None,
    }


def _latency(milliseconds: int, requests: int) -> float | None:
    return round(milliseconds / 1000 / requests, 6) if requests > 0 and milliseconds >= 0 else None


def device(sys: str, name: str) -> Part:
    """Return what a device is: ``rotational``, ``size_bytes``, ``stacked``, and ``parallel``.

    A device is parallel if it serves several requests at once, so that its utilisation says little (iostat(1)): all but
    rotating disks. A virtual disk may claim to rotate.
    """
    folder = os.path.join(sys, "block", name)
    rotational, sectors = _number(folder, "queue/rotational"), _number(folder, "size")
    virtual = name.startswith(("vd", "xvd", "nvme"))
    return {
        "rotational": None if rotational is None else rotational == 1 and not virtual,
        "parallel": None if rotational is None else rotational == 0 or virtual,
        "stacked": bool(STACKED.match(name)),
        "size_bytes": None if sectors is None else sectors * SECTOR,
    }


def _number(folder: str, name: str) -> int | None:
    try:
        with open(os.path.join(folder, name), encoding="ascii", errors="replace") as stream:
            return int(stream.read(64))
    except (OSError, ValueError):
        return None
