# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory that is available, swapping, and kills for lack of memory. Private to this collection."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._host import _rates
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context, numbers
from ansible_collections.tracktion.ops.plugins.module_utils._host._process_table import PAGE
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Field -> name in /proc/meminfo, in KiB.
FIELDS = {
    "total_bytes": "MemTotal",
    "available_bytes": "MemAvailable",
    "free_bytes": "MemFree",
    "buffers_bytes": "Buffers",
    "cached_bytes": "Cached",
    "shared_bytes": "Shmem",
    "reclaimable_slab_bytes": "SReclaimable",
    "unreclaimable_slab_bytes": "SUnreclaim",
    "dirty_bytes": "Dirty",
    "swap_bytes": "SwapTotal",
    "swap_free_bytes": "SwapFree",
    "committed_bytes": "Committed_AS",
}


class Sample(NamedTuple):
    """The numbers of /proc/meminfo and of /proc/vmstat."""

    memory: dict[str, int]
    counters: dict[str, int]


def sample(context: Context) -> Sample:
    """Return the numbers now. Raises OSError."""
    return Sample(numbers(context.text("meminfo")), numbers(context.text("vmstat")))


def describe(context: Context, first: Sample, second: Sample) -> Part:
    """Return the part ``memory``."""
    memory, counters = second
    found: Part = {field: memory[name] * 1024 if name in memory else None for field, name in FIELDS.items()}
    seconds = context.seconds

    def pages(name: str) -> float | None:
        rate = _rates.per_second(first.counters.get(name), counters.get(name), seconds)
        return None if rate is None else round(rate * PAGE, 1)

    swap_used = _rates.difference(found["swap_free_bytes"], found["swap_bytes"])
    return {
        **found,
        "available_ratio": _rates.ratio(found["available_bytes"], found["total_bytes"]),
        "swap_used_bytes": swap_used,
        "swap_used_ratio": 0.0 if found["swap_bytes"] == 0 else _rates.ratio(swap_used, found["swap_bytes"]),
        "swap_in_bytes_per_second": pages("pswpin"),
        "swap_out_bytes_per_second": pages("pswpout"),
        "major_faults_per_second": _rates.per_second(
            first.counters.get("pgmajfault"), counters.get("pgmajfault"), seconds
        ),
        # Since Linux 4.13; also those in control groups with a limit.
        "oom_kills": counters.get("oom_kill"),
        "new_oom_kills": _rates.growth(first.counters, counters, "oom_kill"),
    }
