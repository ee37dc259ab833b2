# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a series of used bytes is a leak, and when its limit is reached. Pure. Private to this collection.

What rises for a part of a day may fall in the rest of it, so that a series has to span whole days. It counts earlier
only if the limit is near: if it is reached within ``soon`` seconds even by the low end of the confidence interval.
"""

from __future__ import annotations

from typing import Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._host._statistics import (
    DAY,
    MAX_POINTS,
    MIN_POINTS,
    Point,
    Trend,
    median,
    span,
    thin,
    trend,
    whole_days,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Fewer points, or points of less time, cannot show that something does not grow (node-mixin looks at 6 h).
ENOUGH_POINTS = 24
ENOUGH_SECONDS = 6 * 3600.0
# The last points, in which a leak that began lately is sought. They must lie above all earlier ones.
RECENT_POINTS = 12
ABOVE_POINTS = 3
# Less growth in the whole time is none.
LEAST_BYTES = 1 << 20


def assess(points: Sequence[Point], room: float | None, soon: float, at_peak: bool | None = None) -> Part:
    """Return what a series in the order of time shows.

    ``room``: the bytes that are left until the limit, null if unknown. ``at_peak``: whether the last value is
    the highest since the start of the process, which the kernel counts; null if unknown. ``growing`` is null, with a
    ``reason``, if it cannot be decided. ``bytes_per_second`` and the ends of its interval are null without a trend.
    ``seconds_to_limit`` is by the slope, ``seconds_to_limit_at_most`` by the low end of its interval.
    """
    result: Part = {
        "growing": None,
        "reason": None,
        "samples": len(points),
        "span_seconds": round(points[-1][0] - points[0][0], 1) if points else 0.0,
        "bytes_per_second": None,
        "bytes_per_second_low": None,
        "bytes_per_second_high": None,
        "seconds_to_limit": None,
        "seconds_to_limit_at_most": None,
    }
    measured, points = points, thin(points)
    if len(points) < MIN_POINTS:
        result["reason"] = "%d of %d samples" % (len(points), MIN_POINTS)
        return result
    days, whole = whole_days(points)
    found = trend(days) if _grew(days) else None
    if found and found.shape == "rising" and len(days) < len(points) and trend(points).shape == "slowing":
        # The rise of the last days is the end of a longer one, that of a cache that fills.
        found = found._replace(shape="slowing")
    is_new = at_peak is not False
    if found and found.shape == "rising" and (whole or (is_new and _is_soon(found, room, soon))):
        return _with(result, found, room, True, None)
    recent = thin(measured[-RECENT_POINTS:])
    if is_new and len(measured) > len(recent) >= MIN_POINTS and _is_above(measured, recent) and _grew(recent):
        lately = trend(recent)
        if lately.shape == "rising" and _is_soon(lately, room, soon):
            return _with(result, lately, room, True, None)
    if found and found.shape == "rising":
        if not is_new:
            return _with(result, found, room, None, "it rises, but it was higher before: it may be a saw tooth")
        reason = "it rises, but the samples span %s of %s: it may repeat every day" % (_time(span(days)), _time(DAY))
        return _with(result, found, room, None, reason)
    lacking = missing(points)
    if lacking:
        return _with(result, found, room, None, lacking)
    if found and found.shape == "none" and room is not None and found.high > 0 and room / found.high <= soon:
        return _with(result, found, room, None, "too noisy: it may grow by %d bytes/s, or not at all" % found.high)
    return _with(result, found, room, False, None)


def _with(result: Part, found: Trend | None, room: float | None, growing: bool | None, reason: str | None) -> Part:
    result.update(growing=growing, reason=reason)
    if found:
        result.update(
            bytes_per_second=round(found.slope, 3),
            bytes_per_second_low=round(found.low, 3),
            bytes_per_second_high=round(found.high, 3),
        )
        if growing and room is not None:
            result["seconds_to_limit"] = round(room / found.slope, 1)
            result["seconds_to_limit_at_most"] = round(room / found.low, 1)
    return result


def _is_soon(found: Trend, room: float | None, soon: float) -> bool:
    return room is not None and room / found.low <= soon


def _is_above(points: Sequence[Point], recent: Sequence[Point]) -> bool:
    """Return whether the series is higher than ever: a saw tooth that rises again is not."""
    earlier = max(value for _time_, value in points[: -len(recent)])
    return all(value > earlier for _time_, value in points[-ABOVE_POINTS:])


def _grew(points: Sequence[Point]) -> bool:
    """Return whether the last third is higher than the first: only then, the pairs of points are worth their time."""
    third = max(1, len(points) // 3)
    values = [value for _time_, value in points]
    return median(values[-third:]) - median(values[:third]) >= LEAST_BYTES / 2


def missing(points: Sequence[Point]) -> str | None:
    """Return what is missing to say that a series does not grow."""
    if len(points) < min(ENOUGH_POINTS, MAX_POINTS):
        return "%d of %d samples" % (len(points), ENOUGH_POINTS)
    if span(points) < ENOUGH_SECONDS:
        return "the samples span %s of %s" % (_time(span(points)), _time(ENOUGH_SECONDS))
    return None


def _time(seconds: float) -> str:
    if seconds < 120:
        return "%d s" % round(seconds)
    return "%d min" % round(seconds / 60) if seconds < 7200 else "%.3g h" % (seconds / 3600)
