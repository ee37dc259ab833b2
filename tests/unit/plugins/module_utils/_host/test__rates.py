# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counters that grow, wrap and start again."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _rates


def test_a_counter_that_was_reset_has_no_rate():
    assert _rates.per_second(100, 300, 2.0) == 100
    assert _rates.per_second(2**32 - 10, 5, 1.0) is None
    assert _rates.per_second(None, 5, 1.0) is None
    assert _rates.per_second(1, 5, 0.0) is None
    assert _rates.growth({"a": 1}, {"a": 4}, "a") == 3
    assert _rates.growth({}, {"a": 4}, "a") is None


@pytest.mark.parametrize(("part", "expected"), [(0.5, 0.5), (1.05, 1.0), (1.5, None), (-0.1, None), (None, None)])
def test_a_share_of_time_is_between_0_and_1(part, expected):
    assert _rates.share(part, 1.0) == expected
