# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _units


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 * 1024**3, "5.0 GiB"),
        (3 * 1024**5, "3072.0 TiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_size(number, text):
    assert _units.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (1.25, "1.2 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3725, "1 h 2 min"),
        (90061, "1 d 1 h"),
        (-90, "-1 min 30 s"),
    ],
)
def test_duration(seconds, text):
    assert _units.duration(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.915, "91.5 %"), (1, "100 %"), (0.00042, "0.042 %"), (0, "0 %"), (13.727, "1373 %")]
)
def test_percent(ratio, text):
    assert _units.percent(ratio) == text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("last", 1795984501.5, True),
        ("last", 17.0, False),
        ("retained_bytes", 1795984501, False),
        ("read_bytes_per_second", 1795984501.5, False),
    ],
)
def test_a_time_is_no_rate_or_size(name, value, expected):
    assert _units.is_moment(name, value) is expected
