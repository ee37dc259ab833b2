# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory, from recorded text of /proc/meminfo and /proc/vmstat."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._host import _memory
from ansible_collections.tracktion.ops.plugins.module_utils._host._process_table import PAGE
from tests.unit.plugins.module_utils._host.trees import context, table

MEMINFO = """\
MemTotal:        8000000 kB
MemFree:          100000 kB
MemAvailable:    6000000 kB
Buffers:          200000 kB
Cached:          5500000 kB
SwapTotal:       2000000 kB
SwapFree:         500000 kB
Shmem:            102512 kB
SReclaimable:     772444 kB
SUnreclaim:       161232 kB
Dirty:               556 kB
Committed_AS:    5428496 kB
HugePages_Total:       0
"""
# Before Linux 3.14 there is no MemAvailable, before 4.13 no oom_kill.
OLD_MEMINFO = "MemTotal:        8000000 kB\nMemFree:          100000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"
VMSTAT = "nr_free_pages 25000\npswpin %d\npswpout %d\npgmajfault %d\noom_kill %d\n"


def described(folder, first, second, memory=MEMINFO):
    made = context(folder)
    made.first, made.second = table(at=1.0), table(at=3.0)
    samples = [
        _memory.sample(context(folder / name, {"proc/meminfo": memory, "proc/vmstat": text}))
        for name, text in (("first", first), ("second", second))
    ]
    return _memory.describe(made, *samples)


def test_available_memory_counts_and_page_cache_is_available(tmp_path):
    found = described(tmp_path, VMSTAT % (10, 20, 30, 1), VMSTAT % (110, 20, 34, 3))
    assert found["available_ratio"] == 0.75
    assert found["swap_used_ratio"] == 0.75
    assert found["swap_used_bytes"] == 1500000 * 1024
    assert found["swap_in_bytes_per_second"] == 50 * PAGE
    assert found["swap_out_bytes_per_second"] == 0
    assert found["major_faults_per_second"] == 2
    assert (found["oom_kills"], found["new_oom_kills"]) == (3, 2)


def test_a_reboot_between_the_samples_gives_no_rate(tmp_path):
    found = described(tmp_path, VMSTAT % (10, 20, 30, 1), VMSTAT % (0, 0, 0, 0))
    assert found["swap_in_bytes_per_second"] is None
    assert found["new_oom_kills"] is None


def test_an_old_kernel_has_no_estimate_of_available_memory(tmp_path):
    found = described(tmp_path, "pswpin 1\n", "pswpin 1\n", OLD_MEMINFO)
    assert found["available_bytes"] is None
    assert found["available_ratio"] is None
    assert found["swap_used_ratio"] == 0
    assert found["oom_kills"] is None
