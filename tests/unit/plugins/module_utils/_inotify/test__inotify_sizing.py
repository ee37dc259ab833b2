# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's default limits and the automatic floors."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify_sizing
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption

GIB = 1 << 30
RUNTIME = {"max_user_watches": 192536, "max_user_instances": 128, "max_queued_events": 16384}


@pytest.mark.parametrize(
    ("runtime", "memory", "expected"),
    [
        # The default of the kernel with 23.5 GiB.
        (192536, 25276502016, 192536),
        # Raised by hand: the lowest possible default.
        (524288, 25276502016, 25276502016 // 100 // 1800),
        (8192, GIB // 4, 8192),
        (1 << 20, 512 * GIB, 1 << 20),
        (5, None, None),
    ],
)
def test_the_default_of_max_user_watches(runtime, memory, expected):
    assert _inotify_sizing.kernel_default("max_user_watches", runtime, memory) == expected


def test_the_fixed_defaults():
    assert _inotify_sizing.kernel_default("max_user_instances", 999, GIB) == 128
    assert _inotify_sizing.kernel_default("max_queued_events", 999, GIB) == 16384


def user(name="tracktion", watches=0, instances=0):
    return {"name": name, "watches_at_least": watches, "instances_at_least": instances}


def automatic(name, users=(), memory=24 * GIB, runtime=None, **options):
    options = {"memory_share": 0.01, "headroom": 2.0, **options}
    return _inotify_sizing.automatic(name, options, RUNTIME[name] if runtime is None else runtime, memory, list(users))


@pytest.mark.parametrize(
    ("gib", "share", "expected"),
    [
        # One percent at 1800 bytes: never more than the default of the kernel.
        (24, 0.01, 24 * GIB // 100 // 1800),
        (24, 0.05, 24 * GIB // 20 // 1800),
        # The bounds of the kernel.
        (1, 0.01, 8192),
        (1024, 0.01, 1 << 20),
        (24, 0, 8192),
    ],
)
def test_the_floor_by_memory(gib, share, expected):
    found = automatic("max_user_watches", memory=gib * GIB, runtime=1, memory_share=share)
    assert (found["floor"], found["by_memory"]) == (expected, expected)


def test_the_default_of_the_kernel_is_not_raised():
    assert automatic("max_user_watches")["floor"] == RUNTIME["max_user_watches"]
    assert automatic("max_user_instances")["floor"] == 128
    assert automatic("max_queued_events")["floor"] == 16384


def test_the_current_value_is_a_floor():
    assert automatic("max_user_instances", runtime=9000)["floor"] == 9000
    assert automatic("max_user_instances", runtime=10)["floor"] == 128


def test_twice_the_highest_use():
    users = [user("a", watches=90000, instances=5), user("b", watches=120000, instances=300)]
    watches = automatic("max_user_watches", users)
    assert (watches["used_at_least"], watches["user"]) == (120000, "b")
    assert watches["floor"] == 262144
    instances = automatic("max_user_instances", users)
    assert (instances["used_at_least"], instances["user"], instances["floor"]) == (300, "b", 1024)


def test_growing_use_does_not_raise_the_floor_each_time():
    floors, runtime = [], 128
    for used in range(60, 260, 5):
        runtime = automatic("max_user_instances", [user(instances=used)], runtime=runtime)["floor"]
        assert runtime >= 2 * used
        floors.append(runtime)
    assert sorted(set(floors)) == [128, 256, 512]


def test_more_headroom():
    assert automatic("max_user_instances", [user(instances=65)], headroom=4)["floor"] == 512
    assert automatic("max_user_instances", [user(instances=32)], headroom=4)["floor"] == 128


def test_the_use_of_queued_events_is_ignored():
    assert automatic("max_queued_events", [user(watches=1 << 20)])["used_at_least"] == 0


def test_unknown_memory_gives_the_lowest_default():
    assert automatic("max_user_watches", memory=None, runtime=1)["floor"] == 8192


def test_no_floor_is_above_the_greatest_value_of_the_kernel():
    assert automatic("max_user_watches", [user(watches=(1 << 31) - 5)])["floor"] == (1 << 31) - 1


def test_floors_are_numbers_or_auto_or_absent():
    options = {"memory_share": 0.01, "headroom": 2.0, "max_user_watches": "524288", "max_user_instances": "auto"}
    assert _inotify_sizing.floors(options, RUNTIME, GIB, []) == {"max_user_watches": 524288, "max_user_instances": 128}


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_user_watches", "many"), ("headroom", 0.5), ("headroom", 1e9), ("memory_share", -1), ("memory_share", 1.5)],
)
def test_an_invalid_option_is_named(name, value):
    with pytest.raises(BadOption, match=name):
        _inotify_sizing.floors({"memory_share": 0.01, "headroom": 2.0, name: value}, RUNTIME, GIB, [])
