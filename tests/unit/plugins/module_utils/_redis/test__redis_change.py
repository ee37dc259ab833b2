# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_change as change


def settings(most, policy="noeviction"):
    return {"maxmemory": str(most), "maxmemory-policy": policy}


@pytest.mark.parametrize(
    ("before", "after", "first"),
    [
        (settings(100), settings(200, "allkeys-lru"), "maxmemory"),
        (settings(100), settings(0, "allkeys-lru"), "maxmemory"),
        (settings(200, "allkeys-lru"), settings(100), "maxmemory-policy"),
        (settings(0, "allkeys-lru"), settings(100), "maxmemory-policy"),
    ],
)
def test_the_order_evicts_nothing_in_between(before, after, first):
    assert change.order_changes(before, after) == [first] + [name for name in change.SETTINGS if name != first]


def test_only_what_differs_is_set():
    assert change.order_changes(settings(1), settings(2)) == ["maxmemory"]


@pytest.mark.parametrize(("policy", "effect"), [("noeviction", "rejected"), ("allkeys-lru", "evicted")])
def test_less_than_the_memory_in_use_is_rejected(policy, effect):
    with pytest.raises(change.CannotChange, match=effect) as caught:
        change.reject_eviction(settings(500, policy), {"used_memory": "1000"}, 499)
    assert "allow_eviction" in caught.value.hint


@pytest.mark.parametrize(("most", "allowed"), [(1000, 0), (0, 0), (500, 500), (500, None)])
def test_settings_that_evict_nothing_or_may_evict_are_accepted(most, allowed):
    change.reject_eviction(settings(most), {"used_memory": "1100", "mem_not_counted_for_evict": "100"}, allowed)


@pytest.mark.parametrize("pattern", ["*", "**", "?*", "", "[a-z]*", "[^x]*?", "[x"])
def test_a_pattern_of_wildcards_only_is_rejected(pattern):
    with pytest.raises(BadOption, match="matches every key"):
        change.check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["cache:*", "a*", "*:tmp", "\\*", "[ab]x*"])
def test_a_pattern_with_a_character_is_accepted(pattern):
    change.check_pattern(pattern)


@pytest.mark.parametrize(
    ("file", "persisted"),
    [
        (None, None),
        ({"maxmemory": "1mb", "maxmemory-policy": "allkeys-lru"}, True),
        ({"maxmemory": "1048576", "maxmemory-policy": "ALLKEYS-LRU"}, True),
        ({"maxmemory": "1mb"}, False),
        ({"maxmemory": "lots", "maxmemory-policy": "allkeys-lru"}, False),
        ({}, False),
    ],
)
def test_settings_in_the_file_are_compared_by_value(file, persisted):
    assert change.is_persisted(file, settings(1048576, "allkeys-lru")) is persisted


def test_the_defaults_need_not_be_in_the_file():
    assert change.is_persisted({}, settings(0)) is True


@pytest.mark.parametrize(
    ("persisted", "file", "failure", "expected"),
    [
        (False, None, None, "--maxmemory 5 "),
        (False, "/etc/redis.conf", "ERR Permission denied", "Permission denied"),
        (None, "/etc/redis.conf", None, "cannot be read"),
        (False, "/etc/redis.conf", None, "`persist` is false"),
    ],
)
def test_the_hint_contains_the_file_or_the_flag(persisted, file, failure, expected):
    text = change.persist_hint(persisted, file, settings(5), failure)
    assert expected in text
    assert file is None or file in text


def test_persisted_settings_have_no_hint():
    assert change.persist_hint(True, "/etc/redis.conf", settings(5), None) is None


def test_a_wrong_size_names_its_option():
    with pytest.raises(BadOption, match="maxmemory"):
        change.wanted_settings("75%", None)
