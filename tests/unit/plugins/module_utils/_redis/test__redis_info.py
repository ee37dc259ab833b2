# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_info as info

TEXT = (
    b"# Server\r\nredis_version:7.0.15\r\nexecutable:/usr/bin/a:b\r\n\r\n"
    b"# Keyspace\r\ndb0:keys=10,expires=4,avg_ttl=1500\r\ndb12:keys=1,expires=0\r\n"
)


def test_info_is_read_by_field():
    fields = info.parse_info(TEXT)
    assert fields["redis_version"] == "7.0.15"
    assert fields["executable"] == "/usr/bin/a:b"


def test_databases_are_distinguished_from_other_fields():
    fields = info.parse_info(TEXT + b"db0_distrib_lists_items:1=2\r\n")
    assert info.databases(fields) == [
        {"database": 0, "key_count": 10, "expiring_count": 4, "average_ttl_seconds": 1.5},
        {"database": 12, "key_count": 1, "expiring_count": 0, "average_ttl_seconds": 0.0},
    ]


@pytest.mark.parametrize(("text", "value"), [("1.5", 1.5), ("nan", None), ("inf", None), ("x", None)])
def test_an_invalid_number_is_null(text, value):
    assert info.decimal({"a": text}, "a") == value


def test_a_counter_that_was_reset_has_no_negative_difference():
    assert info.difference(3, 10) == 0
    assert info.difference(None, 10) is None


def test_a_ratio_of_zero_or_unknown_is_null():
    assert info.ratio(1, 0) is None
    assert info.ratio(None, 5) is None
    assert info.ratio(1, 4) == 0.25


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("100", 100), (" 1GB ", 1024**3), ("1g", 1000**3), ("512mb", 512 * 1024**2), ("64 kb", 65536)],
)
def test_sizes_are_those_of_redis_conf(text, size):
    assert info.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "1.5gb", "-1", "75%", "lots", "1tb"])
def test_an_invalid_size_is_rejected(text):
    with pytest.raises(ValueError, match="not a size"):
        info.parse_bytes(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"track:1", "track:1"),
        ("größe".encode(), "größe"),
        (b"a\x00b\xff", "a\\x00b\\xff"),
        (b"a\\x00b", "a\\\\x00b"),
        (b"a\r\nb\x1b[2J", "a\\r\\nb\\x1b[2J"),
        ("a\u202eb".encode(), "a\\u202eb"),
    ],
)
def test_names_are_shown_without_control_characters(name, text):
    assert info.readable(name) == text
    assert info.readable(name).isprintable()
