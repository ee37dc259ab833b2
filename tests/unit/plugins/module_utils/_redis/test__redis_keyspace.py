# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_keyspace as keyspace


def answers(*rows):
    """Answers for keys, from (bytes, ttl in ms, type)."""
    return dict(zip(("bytes", "ttl", "type"), map(list, zip(*rows, strict=True)), strict=True))


def survey_of(names, found, top=2):
    result = keyspace.Survey(":", top, 1000, 10000)
    result.add(0, names, found)
    return result


def test_keys_are_summed_up_by_prefix_and_type():
    names = [b"a:1", b"a:2", b"a:3", b"plain"]
    result = survey_of(
        names, answers((100, -1, b"string"), (300, 60000, b"string"), (50, -1, b"hash"), (10, -1, b"string"))
    )
    rows = {
        (row["prefix"], row["type"]): row
        for row in (
            keyspace.add_names(keyspace.group_row(key, group, 4, 4, True), key, ":")
            for key, group in result.groups.items()
        )
    }
    assert rows["a", "string"]["bytes"] == rows["a", "string"]["bytes_low"] == rows["a", "string"]["bytes_high"] == 400
    assert rows["a", "string"]["ttl_ratio"] == 0.5
    assert rows["a", "string"]["mean_ttl_seconds"] == 60.0
    assert rows["a", "string"]["without_ttl_bytes"] == 100
    assert rows["a", "hash"]["key_count"] == 1
    assert rows["", "string"]["bytes"] == 10
    assert [entry[0] for entry in sorted(result.biggest, reverse=True)] == [300, 100]


@pytest.mark.parametrize("answer", [(None, -2, b"none"), (50, -2, b"none"), (50, 10, b"none"), (None, -1, b"string")])
def test_a_key_that_no_longer_exists_is_left_out(answer):
    result = survey_of([b"a:1"], answers(answer))
    assert (result.groups, result.biggest) == ({}, [])
    assert (result.drawn, result.seen) == ({0: 1}, {0: 0})


def test_a_denied_column_leaves_its_fields_null():
    result = survey_of([b"a:1"], {"ttl": [-1], "type": [b"string"]})
    key, group = next(iter(result.groups.items()))
    row = keyspace.group_row(key, group, 1, 1, True)
    assert row["bytes"] is row["bytes_low"] is row["without_ttl_bytes"] is None
    assert row["without_ttl_count"] == 1


def test_a_keyspace_without_prefixes_needs_bounded_memory(monkeypatch):
    monkeypatch.setattr(keyspace, "GROUPS_MOST", 3)
    names = [b"user%d:x" % number for number in range(10)]
    result = survey_of(names, answers(*[(10, -1, b"string")] * 10))
    assert len(result.groups) == 4
    assert result.groups[0, keyspace.OTHER, b"string"].seen == 7


def test_no_biggest_keys_are_kept_if_top_is_zero():
    assert survey_of([b"a:1"], answers((5, -1, b"string")), top=0).biggest == []


@pytest.mark.parametrize(
    ("prefix", "pattern"),
    [(b"a", "a:*"), (b"", None), (b"a*[b]?\\", "a\\*\\[b\\]\\?\\\\:*"), (b"a\xff", None), (b"a\n", None)],
)
def test_a_pattern_matches_the_prefix_and_nothing_else(prefix, pattern):
    assert keyspace.scan_pattern(prefix, ":") == pattern


def test_hidden_names_keep_prefix_and_identity():
    hidden = keyspace.key_name(b"session:alice", b":", False)
    assert hidden.startswith("session:#")
    assert "alice" not in hidden
    assert hidden == keyspace.key_name(b"session:alice", b":", False) != keyspace.key_name(b"session:bob", b":", False)
    assert keyspace.key_name(b"alice", b":", False)[0] == "#"
    assert keyspace.key_name(b"session:\x00", b":", True) == "session:\\x00"


def test_a_complete_reading_has_no_error():
    assert keyspace.interval(100, 100, 10, 50, 50, 3.0) == (100, 100)


def test_the_interval_of_a_single_big_key_in_the_sample_is_wide():
    group = keyspace.Group()
    group.seen = group.sized = 1
    group.bytes, group.squares = 1600000, 1600000**2
    row = keyspace.group_row((0, b"queue", b"list"), group, 30000, 1000000, False)
    assert row["bytes_low"] == 1600000
    assert row["key_count_low"] == 1
    assert row["bytes"] > 50000000


@pytest.mark.parametrize("share", [0.5, 0.05, 0.01])
@pytest.mark.parametrize("sizes", ["alike", "spread"])
def test_at_least_nine_of_ten_intervals_contain_the_true_value(share, sizes):
    """The confidence level is 95 %. In 400 samples of 2,000 from 20,000 keys, fewer than 90 % is 4 sigmas off."""
    chance = random.Random(7)
    total, sampled = 20000, 2000
    keys = [
        ((100 if sizes == "alike" else int(chance.lognormvariate(5, 1))) if chance.random() < share else None)
        for _each in range(total)
    ]
    truth = sum(size for size in keys if size)
    truth_count = sum(size is not None for size in keys)
    held = held_count = 0
    for _each in range(400):
        group = keyspace.Group()
        for size in chance.sample(keys, sampled):
            if size is not None:
                group.seen += 1
                group.sized += 1
                group.bytes += size
                group.squares += size * size
        row = keyspace.group_row((0, b"a", b"string"), group, sampled, total, False)
        held += row["bytes_low"] <= truth <= row["bytes_high"]
        held_count += row["key_count_low"] <= truth_count <= row["key_count_high"]
    assert held >= 0.90 * 400
    assert held_count >= 0.90 * 400


def test_rows_are_added_up_by_type():
    rows = [
        {"type": "string", "key_count": 2, "bytes": 5, "without_ttl_count": 1, "without_ttl_bytes": 3},
        {"type": "hash", "key_count": 1, "bytes": 50, "without_ttl_count": None, "without_ttl_bytes": None},
        {"type": "string", "key_count": 1, "bytes": None, "without_ttl_count": 1, "without_ttl_bytes": 4},
    ]
    assert [(row["type"], row["key_count"], row["bytes"]) for row in keyspace.sum_by_type(rows)] == [
        ("hash", 1, 50),
        ("string", 3, 5),
    ]


def test_prefixes_with_a_denied_key_are_left_out():
    result = survey_of([b"a:1", b"b:1", b"b:2"], answers(*[(10, -1, b"string")] * 3))
    result.skip(0, 1)
    result.drop(0, lambda prefix: prefix == b"b")
    found = keyspace.build_distribution(
        result,
        [{"database": 0, "key_count": 8}],
        100,
        {"distribution": "sampled", "prefix_separator": ":", "top": 2, "show_key_names": True},
        0.1,
    )
    assert [(row["prefix"], row["readable"], row["key_count"]) for row in found["prefixes"]] == [
        ("a", True, 2),
        (None, False, 6),
    ]
    assert found["biggest_keys"][-1]["bytes"] is found["explained_ratio"] is None
    assert found["biggest_keys"][-1]["readable"] is found["complete"] is False


def test_a_large_key_of_a_sample_counts_once():
    names = [b"a:%d" % number for number in range(100)]
    result = survey_of(names, answers((5000, -1, b"string"), *[(10, -1, b"string")] * 99))
    key = (0, b"a", b"string")
    row = keyspace.group_row(key, result.groups[key], 100, 1000, False, result.large[key], False)
    assert (row["seen_count"], row["key_count"], row["bytes"]) == (100, 991, 9900 + 5000)
    assert row["bytes_low"] <= row["bytes"] < 50000 < row["bytes_high"]
    # After a search, there are no others.
    result.add_large(0, b"a:0", 5000, -1, b"string")
    result.add_large(0, b"a:777", 20000, 90000, b"string")
    result.searched[0] = 34890
    assert result.sampled_of(0, 1000) == (99, 998)
    row = keyspace.group_row(key, result.groups[key], 99, 998, False, result.large[key], True)
    assert (row["key_count"], row["bytes"], row["without_ttl_count"]) == (1000, 9980 + 25000, 999)
    assert row["mean_ttl_seconds"] == 90.0
    assert row["bytes_high"] < 36000


def test_big_keys_are_summed_up_by_prefix_and_alone_without_one():
    result = keyspace.Survey(":", 5, 1000, 10000)
    for name, size in ((b"a:1", 10000), (b"a:2", 30000), (b"x", 50000), (b"y", 20000), (b"a:3", 9999)):
        result.add_large(0, name, size, -1, b"string")
    rows = [keyspace.big_group_row(key, group, ":", True) for key, group in result.big.items()]
    assert [(row["prefix"], row["key_count"], row["bytes"], row["largest_bytes"]) for row in rows] == [
        ("a", 2, 40000, 30000),
        ("", 1, 50000, 50000),
        ("", 1, 20000, 20000),
    ]
    assert [entry["name"] for entry in rows[0]["largest"]] == ["a:2", "a:1"]


@pytest.mark.parametrize(("size", "count", "least"), [(None, 0, 4096), (1000, 1000, 4096), (10**9, 10**5, 500000)])
def test_a_key_is_large_in_comparison_with_the_mean(size, count, least):
    assert keyspace.large_from(size, count) == least
