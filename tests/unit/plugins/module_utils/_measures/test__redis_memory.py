# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _redis_memory as memory

FOUND = [{"database": 0, "key_count": 90, "expiring_count": 30}, {"database": 1, "key_count": 10, "expiring_count": 0}]


@pytest.mark.parametrize(
    ("policy", "count"), [("allkeys-lru", 100), ("volatile-ttl", 30), ("noeviction", 0), (None, None)]
)
def test_the_policy_determines_the_evictable_keys(policy, count):
    assert memory.evictable_count(policy, FOUND) == count


@pytest.mark.parametrize(
    ("group", "limit", "source"), [(500, 500, "cgroup"), (None, 1000, "system"), (2000, 1000, "system")]
)
def test_the_lowest_limit_applies(group, limit, source):
    found = memory.build_memory({"used_memory_rss": "100", "total_system_memory": "1000", "maxmemory": "0"}, [], group)
    assert (found["limit_bytes"], found["limit_source"]) == (limit, source)
    assert found["maxmemory_ratio"] is None
    assert found["evictable_ratio"] is None


def test_memory_that_does_not_count_for_eviction_is_subtracted():
    found = memory.build_memory(
        {"used_memory": "600", "mem_not_counted_for_evict": "100", "maxmemory": "1000"}, FOUND, None
    )
    assert found["maxmemory_ratio"] == 0.5
    assert found["limit_bytes"] is None


def test_fragmentation_has_a_row_for_each_cause():
    rows = memory.build_fragmentation(
        {
            "used_memory": "1000",
            "used_memory_rss": "400",
            "used_memory_peak": "1500",
            "allocator_frag_ratio": "1.20",
            "allocator_frag_bytes": "200",
            "rss_overhead_ratio": "nan",
        }
    )
    by_cause = {row["cause"]: (row["ratio"], row["bytes"]) for row in rows}
    assert by_cause == {
        "allocator": (1.2, 200),
        "allocator_rss": (None, None),
        "process_rss": (None, None),
        "swap": (2.5, 600),
        "peak": (1.5, 500),
    }


@pytest.mark.parametrize(("count", "slots"), [(0, 0), (1, 1), (4, 4), (5, 8), (1000001, 1048576)])
def test_the_size_of_a_table_is_a_power_of_two(count, slots):
    assert memory.slots(count) == slots


def test_keys_take_the_memory_that_nothing_else_takes():
    info = {"used_memory": "10000", "used_memory_startup": "1000", "mem_clients_normal": "500"}
    tables = (128 + 16) * 8 + 32 * 8 + 30 * 24
    assert memory.keyspace_bytes(info, FOUND) == 10000 - 1500 - tables
    assert memory.keyspace_bytes({}, FOUND) is None
