# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a series of measured values rises steadily, and how fast. Pure. Private to this collection.

The slope is that of Theil and Sen, the median of the slopes between all pairs of points (Sen 1968, "Estimates of the
regression coefficient based on Kendall's tau"): a third of the points may be wrong. Its standard error is that of a
regression line, with the effective number of samples n (1 - r) / (1 + r) for the lag-1 autocorrelation r of the
residuals (Santer et al. 2000, "Statistical significance of trends and trend differences in layer-average atmospheric
temperature time series", section 4). r is corrected for its bias in short series with a fitted line, -(2 + 4 r) / n
(Marriott and Pope 1954, Kendall 1954). The Mann-Kendall test alone finds leaks in stationary memory (Machida et al.
2013, "On the effectiveness of Mann-Kendall test for detection of software aging").

A rise counts if it is still there in the later half of the time, with a good part of the speed: memory that is filled
after a start, and a saw tooth of a garbage collector, fail that. The constants were chosen by the simulation in
tests/bench/bench_trends.py.
"""

from __future__ import annotations

import math
from typing import List, NamedTuple, Sequence, Tuple

# Seconds by a clock that is not set, and the value at that time.
Point = Tuple[float, float]
Points = List[Point]

# Fewer points say nothing. Ten are the guide's loop.
MIN_POINTS = 10
# The number of pairs grows with the square: 64 points take 2 ms.
MAX_POINTS = 64
# Half the width of the confidence interval, in standard errors. For 48 samples it contains the true slope in 99.9 % of
# the cases without autocorrelation, and in 95 % with the coefficient 0.9.
ERRORS = 3.3
# The same for the later half, whose slope must be this share of the whole at least.
ERRORS_LATER = 2.0
SHARE_LATER = 0.6
# With more autocorrelation, a series of this length looks like a random walk.
MAX_AUTOCORRELATION = 0.95
DAY = 86400.0


class Trend(NamedTuple):
    """The slope of a series per second, with its confidence interval.

    ``shape``: ``rising`` (steadily), ``slowing`` (it rose, and has stopped or slowed down, or fell back), or ``none``.
    """

    slope: float
    low: float
    high: float
    autocorrelation: float
    shape: str


def trend(points: Sequence[Point]) -> Trend:
    """Return the trend of at least ``MIN_POINTS`` points in the order of time, at most ``MAX_POINTS``."""
    slope, low, high, correlation = interval(points, ERRORS)
    if low <= 0:
        return Trend(slope, low, high, correlation, "none")
    later = points[len(points) // 2 :]
    slope_later, low_later, _high, _correlation = interval(later, ERRORS_LATER)
    steady = low_later > 0 and slope_later >= SHARE_LATER * slope
    return Trend(slope, low, high, correlation, "rising" if steady else "slowing")


def interval(points: Sequence[Point], errors: float) -> tuple[float, float, float, float]:
    """Return the slope, the ends of its confidence interval, and the autocorrelation of the residuals."""
    count = len(points)
    slope = theil_sen(points)
    rests = [value - slope * time for time, value in points]
    middle = sum(rests) / count
    rests = [rest - middle for rest in rests]
    squares = sum(rest * rest for rest in rests)
    if squares <= 0:
        return slope, slope, slope, 0.0
    raw = sum(one * other for one, other in zip(rests, rests[1:])) / squares
    correlation = (raw + 2 / count) / (1 - 4 / count) if count > 4 else MAX_AUTOCORRELATION
    correlation = min(MAX_AUTOCORRELATION, max(0.0, correlation))
    mean = sum(time for time, _value in points) / count
    spread = sum((time - mean) ** 2 for time, _value in points)
    variance = squares / (count - 2) * (1 + correlation) / (1 - correlation)
    margin = errors * math.sqrt(variance / spread)
    return slope, slope - margin, slope + margin, correlation


def theil_sen(points: Sequence[Point]) -> float:
    """Return the median of the slopes between all pairs of points. No two points have the same time."""
    slopes = sorted(
        (value - before) / (time - earlier)
        for position, (time, value) in enumerate(points)
        for earlier, before in points[:position]
    )
    return median_of_sorted(slopes)


def median_of_sorted(values: Sequence[float]) -> float:
    """Return the median of values in ascending order."""
    count = len(values)
    return (values[count // 2] + values[(count - 1) // 2]) / 2


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return median_of_sorted(sorted(values))


def thin(points: Sequence[Point], most: int = MAX_POINTS) -> Points:
    """Return at most ``most`` points at similar distances, the last one among them.

    The autocorrelation is that of neighbours, so that a dense part of the series must not count more.
    """
    if len(points) < 2:
        return list(points)
    kept: Points = []
    step = (points[-1][0] - points[0][0]) / (most - 1) if len(points) > most else 0.0
    for point in reversed(points):
        # Half a step of slack, for samples that came a little early.
        if not kept or (kept[-1][0] - point[0] > 0 and kept[-1][0] - point[0] >= step * 0.95):
            kept.append(point)
    return kept[::-1][-most:]


def span(points: Sequence[Point]) -> float:
    """Return the seconds that the points stand for: from the first to the last, and one distance more."""
    if len(points) < 2:
        return 0.0
    return (points[-1][0] - points[0][0]) * len(points) / (len(points) - 1)


def whole_days(points: Sequence[Point], slack: float = 0.03) -> tuple[Points, bool]:
    """Return the latest points that span whole days, and true; all points and false, if they span less than a day.

    Over whole days, what repeats every day has no steady trend.
    """
    days = math.floor(span(points) / DAY + slack)
    if days < 1:
        return list(points), False
    step = (points[-1][0] - points[0][0]) / (len(points) - 1)
    first = points[-1][0] - days * DAY + step / 2
    return [point for point in points if point[0] >= first], True
