# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _statistics
from ansible_collections.tracktion.ops.plugins.module_utils._host._statistics import DAY
from tests import simulated_series


def line(count=48, step=1800.0, slope=2.0):
    return [(number * step, 1000 + slope * number * step) for number in range(count)]


def test_the_slope_of_a_line_is_exact():
    assert _statistics.trend(line()) == (2.0, 2.0, 2.0, 0.0, "rising")


def test_a_constant_has_no_trend():
    assert _statistics.trend(line(slope=0.0)).shape == "none"


def test_a_falling_line_is_no_rise():
    found = _statistics.trend(line(slope=-2.0))
    assert (found.slope, found.shape) == (-2.0, "none")


def test_wrong_points_do_not_change_the_slope():
    points = [(time, 1e9 if number % 5 == 2 else value) for number, (time, value) in enumerate(line())]
    assert _statistics.theil_sen(points) == pytest.approx(2.0, rel=0.35)


def test_the_interval_is_wider_with_autocorrelation():
    def width(coefficient):
        noise = simulated_series.autoregressive(Random(3), 48, coefficient, 1.0)
        _slope, low, high, _correlation = _statistics.interval(list(enumerate(noise)), 3.3)
        return high - low

    assert width(0.9) > 2 * width(0.0)


@pytest.mark.parametrize(("coefficient", "least"), [(0.0, 199), (0.5, 196), (0.9, 180)])
def test_the_interval_contains_the_true_slope(coefficient, least):
    """Almost always; with strong autocorrelation, 48 samples are worth three."""
    random, inside = Random(4), 0
    for _number in range(200):
        noise = simulated_series.autoregressive(random, 48, coefficient, 1.0)
        points = [(number, 0.1 * number + noise[number]) for number in range(48)]
        _slope, low, high, _correlation = _statistics.interval(points, _statistics.ERRORS)
        inside += low <= 0.1 <= high
    assert inside >= least


def test_a_rise_that_has_stopped_is_slowing():
    points = [(number * 1800.0, min(number, 20) * 1e6) for number in range(48)]
    assert _statistics.trend(points).shape in ("slowing", "none")


def test_points_are_thinned_to_similar_distances():
    dense = [(1000000.0 + number, 1.0) for number in range(500)]
    points = _statistics.thin([(number * 10000.0, 1.0) for number in range(100)] + dense)
    assert len(points) <= _statistics.MAX_POINTS
    assert points[-1] == dense[-1]
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(points)]
    assert min(gaps) > 0.3 * max(gaps)


def test_points_of_one_moment_count_once():
    assert len(_statistics.thin([(1.0, 1.0), (1.0, 2.0), (2.0, 3.0)])) == 2


@pytest.mark.parametrize(
    ("count", "kept", "whole"), [(24, 24, False), (46, 46, False), (48, 48, True), (72, 48, True), (96, 96, True)]
)
def test_whole_days(count, kept, whole):
    """Of samples every 30 minutes, of which 48 are a day."""
    points, is_whole = _statistics.whole_days(line(count))
    assert (len(points), is_whole) == (kept, whole)
    assert not points or points[-1] == line(count)[-1]


def test_what_repeats_every_day_has_no_trend_over_whole_days():
    random = Random(5)
    for _number in range(100):
        values = simulated_series.diurnal(random, 48, 1800)
        points = [(number * 1800.0, value) for number, value in enumerate(values)]
        assert points[-1][0] - points[0][0] < DAY
        assert _statistics.trend(points).shape != "rising"
