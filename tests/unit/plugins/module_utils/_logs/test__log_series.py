# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import random

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_series import (
    Histogram,
    Series,
    Source,
    is_ongoing,
)

NOW = 10000.0


def series(ages, blocks=3):
    """Return events of these ages in seconds, added as a log is read: in blocks, the newest first."""
    times = sorted(NOW - age for age in ages)
    found = Series()
    size = -(-len(times) // blocks)
    parts = [times[at : at + size] for at in range(0, len(times), size)]
    for number, part in enumerate(reversed(parts)):
        for moment in part:
            found.add(moment, number, moment > NOW - 900)
    return found


def test_the_longest_gap_does_not_depend_on_the_blocks():
    random.seed(7)
    for blocks in range(1, 12):
        ages = random.sample(range(1800), 12)
        ordered = sorted(ages)
        found = series(ages, blocks)
        assert found.longest_gap == max(two - one for one, two in itertools.pairwise(ordered))
        assert found.oldest == NOW - ordered[-1]
        assert found.last == NOW - ordered[0]


def test_an_event_without_a_time_is_left_out():
    found = Series()
    found.add(None)
    assert (found.last, found.longest_gap) == (None, None)


STEADY = range(120, 500, 5)


@pytest.mark.parametrize(
    ("ages", "source", "expected"),
    [
        # A steady fault that has ended, in a program that writes other lines.
        (STEADY, Source(True, None, NOW - 1), False),
        (range(50, 500, 5), Source(True, None, NOW - 1), True),
        # It writes nothing else, or does not run: silence proves nothing.
        (STEADY, Source(True, None, NOW - 120), True),
        (range(301, 500, 5), Source(True, None, NOW - 301), False),
        (range(301, 500, 5), Source(False, None, NOW - 1), True),
        # Once, or many within a moment: it takes longer to be over.
        ([200], Source(True, None, NOW - 1), True),
        ([200 + number / 100 for number in range(40)], Source(True, None, NOW - 1), True),
        ([301], Source(True, None, NOW - 1), False),
        # Unless the program was restarted since.
        ([200], Source(True, NOW - 100, NOW - 1), False),
        ([200], Source(True, NOW - 30, NOW - 1), True),
        # Every six minutes: not over between two events, also after a restart.
        ([350, 710, 1070], Source(True, None, NOW - 1), True),
        ([350, 710, 1070], Source(True, NOW - 100, NOW - 1), True),
        # A crash loop: each start writes it, and the container has been up for some seconds only.
        (range(20, 400, 60), Source(True, NOW - 15, NOW - 15), True),
        ([], Source(True, None, NOW), False),
        # A clock that is ahead.
        ([-100], Source(True, None, NOW + 100), True),
    ],
)
def test_what_still_happens(ages, source, expected):
    assert is_ongoing(series(ages) if ages else Series(), source, NOW, 60, 300) is expected


def histogram(times, seconds=900):
    found = Histogram(seconds)
    for moment in times:
        found.add(moment)
    return found


def test_the_rate_and_the_length_of_a_burst_are_apart():
    """20 errors per second for 20 s are 25 per minute of 15 minutes."""
    burst = [NOW + 300 + number / 20 for number in range(400)]
    others = [NOW + number * 8 for number in range(112)]
    found = histogram(burst + others)
    assert found.worst_minute() == pytest.approx(407, abs=2)
    found_burst = found.burst(900)
    assert found_burst["seconds"] == 20
    assert found_burst["begin"] == NOW + 300
    assert found_burst["end"] == NOW + 320
    assert found_burst["count"] == pytest.approx(402, abs=1)


@pytest.mark.parametrize(
    "times",
    [
        [NOW + number * 3 for number in range(300)],
        [NOW + number / 20 for number in range(18000)],
        [NOW + number for number in range(9)],
        [NOW],
        [],
    ],
)
def test_steady_and_few_errors_are_no_burst(times):
    assert histogram(times).burst(900) is None


def test_random_errors_are_no_burst():
    random.seed(3)
    for _try in range(20):
        assert histogram([NOW + random.random() * 900 for _event in range(900)]).burst(900) is None


def test_a_long_window_has_few_entries():
    found = histogram([NOW + number for number in range(86400)], 86400)
    assert len(found.counts) <= 3601
    assert found.worst_minute() == pytest.approx(60, abs=24)
