# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from random import Random

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host._assessment import assess
from tests import simulated_series as simulated

SOON = 6 * 3600.0
MIB = 1 << 20
GIB = 1 << 30


def assessed(make, series, count=48, interval=1800, **how):
    """Return how many of the series are growing, and how many undecided."""
    random, growing, undecided = Random("seed"), 0, 0
    for _number in range(series):
        points, at_peak = simulated.observed(random, make, count, interval)
        found = assess(points, simulated.LIMIT - points[-1][1], SOON, at_peak, **how)["growing"]
        growing += found is True
        undecided += found is None
    return growing, undecided


def line(count, interval, rate, level=100 * MIB):
    return [(number * interval, level + rate * number * interval) for number in range(count)]


def test_of_1000_stationary_series_at_most_one_in_a_hundred_is_a_leak():
    growing = {make.__name__: assessed(make, 250)[0] for make in simulated.STATIONARY}
    assert sum(growing.values()) <= 10, growing


def test_of_1000_leaks_of_one_percent_an_hour_95_in_a_hundred_are_found():
    assert assessed(simulated.leak, 1000)[0] >= 950


def test_a_step_is_no_leak():
    assert assessed(simulated.step, 250)[0] <= 5


@pytest.mark.parametrize("make", [simulated.ar1, simulated.sawtooth, simulated.diurnal, simulated.warm_up])
def test_in_the_loop_of_the_guide_few_stationary_series_are_leaks(make):
    """Ten samples in five minutes: nearly nothing can be said."""
    growing, undecided = assessed(make, 200, count=10, interval=30)
    assert growing <= 8
    assert growing + undecided == 200


def test_a_fast_leak_is_found_in_the_loop_of_the_guide():
    found = assess(line(10, 30.0, MIB), GIB, SOON, at_peak=True)
    assert found["growing"] is True
    assert found["reason"] is None
    assert found["bytes_per_second"] == MIB
    assert found["seconds_to_limit"] == found["seconds_to_limit_at_most"] == 1024.0


def test_a_rise_below_an_earlier_peak_is_undecided_in_the_loop():
    found = assess(line(10, 30.0, MIB), GIB, SOON, at_peak=False)
    assert (found["growing"], found["reason"]) == (None, "it rises, but it was higher before: it may be a saw tooth")
    assert found["seconds_to_limit"] is None


def test_a_slow_leak_is_undecided_before_the_day_is_over():
    found = assess(line(30, 1800.0, 100.0), GIB, SOON)
    assert found["growing"] is None
    assert found["reason"] == "it rises, but the samples span 15 h of 24 h: it may repeat every day"


@pytest.mark.parametrize(
    ("count", "interval", "reason"),
    [
        (0, 30.0, "0 of 10 samples"),
        (8, 1800.0, "8 of 10 samples"),
        (20, 1800.0, "20 of 24 samples"),
        (30, 40.0, "the samples span 20 min of 6 h"),
    ],
)
def test_what_is_missing_is_named(count, interval, reason):
    found = assess(line(count, interval, 0.0), GIB, SOON)
    assert (found["growing"], found["reason"]) == (None, reason)


def test_enough_flat_samples_do_not_grow():
    found = assess(line(48, 1800.0, 0.0), GIB, SOON)
    assert (found["growing"], found["reason"], found["samples"]) == (False, None, 48)


def test_too_much_noise_near_the_limit_is_undecided():
    random = Random(2)
    points = [(number * 1800.0, 500 * MIB + random.gauss(0, 200 * MIB) + number * 3 * MIB) for number in range(28)]
    found = assess(points, 50 * MIB, 1e5)
    assert found["growing"] is None
    assert found["reason"].startswith("too noisy: it may grow by ")


def test_growth_of_less_than_a_mebibyte_is_none():
    found = assess(line(48, 1800.0, 5.0), GIB, SOON)
    assert (found["growing"], found["bytes_per_second"]) == (False, None)


def test_a_leak_that_began_lately_is_found():
    """Two flat days, then six hours at the speed that fills the rest in an hour."""
    flat = [(number * 1800.0, 100.0 * MIB) for number in range(96)]
    rising = [(flat[-1][0] + number * 1800.0, (100 + 20.0 * number) * MIB) for number in range(1, 13)]
    found = assess(flat + rising, 100 * MIB, SOON)
    assert found["growing"] is True
    assert found["bytes_per_second"] == pytest.approx(20 * MIB / 1800, rel=0.1)


def test_the_next_saw_tooth_is_no_leak():
    values = [(number % 20) * 20.0 * MIB for number in range(118)]
    found = assess([(number * 1800.0, value) for number, value in enumerate(values)], GIB, SOON)
    assert found["growing"] is False


def test_without_a_known_limit_a_leak_has_no_time():
    found = assess(line(48, 1800.0, 1000.0), None, SOON)
    assert (found["growing"], found["seconds_to_limit"]) == (True, None)
