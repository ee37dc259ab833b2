# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times of events: whether they still occur, and how many in the worst minute. Private to this collection.

A log is read in blocks, the newest first. Events are in order within a block.
"""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Most entries of a histogram of one window; with longer windows than this in seconds, an entry stands for more of them.
MOST_BUCKETS = 3600
MINUTE = 60
# Fewest events of a burst, the smallest share of all events, and how many times the mean rate it has.
FEWEST = 10
SHARE = 0.2
TIMES_MEAN = 2
# Events are not over before this many times the longest time without one.
GAPS = 3


class Series:
    """Times of similar events. ``first`` and ``last`` are those in the current window."""

    __slots__ = ("_begin", "_block", "_end", "_gap", "_newer", "first", "last", "latest", "oldest")

    def __init__(self) -> None:
        self.first: float | None = None
        self.last: float | None = None
        # Of both windows.
        self.oldest: float | None = None
        self.latest: float | None = None
        # Longest gap so far; the block, with its first and last event; the first event of the newer blocks.
        self._gap: float | None = None
        self._block = 0
        self._begin: float | None = None
        self._end: float | None = None
        self._newer: float | None = None

    def add(self, moment: float | None, block: int = 0, is_current: bool = True) -> None:
        """Add an event of the block with this number. An event without a time is left out."""
        if moment is None:
            return
        if is_current:
            self.first = moment if self.first is None else min(moment, self.first)
            self.last = moment if self.last is None else max(moment, self.last)
        self.oldest = moment if self.oldest is None else min(moment, self.oldest)
        self.latest = moment if self.latest is None else max(moment, self.latest)
        if self._end is None or self._begin is None:
            self._block, self._begin, self._end = block, moment, moment
        elif block != self._block:
            self._gap = self.longest_gap
            self._newer = self._begin if self._newer is None else min(self._begin, self._newer)
            self._block, self._begin, self._end = block, moment, moment
        else:
            self._gap = max(self._gap or 0.0, moment - self._end)
            self._begin, self._end = min(moment, self._begin), max(moment, self._end)

    @property
    def longest_gap(self) -> float | None:
        """The longest time in seconds between two events of both windows; null with fewer than two."""
        if self._newer is None or self._end is None:
            return self._gap
        return max(self._gap or 0.0, self._newer - self._end)


class Source(NamedTuple):
    """What is known about the program that writes a log, for ``is_ongoing()``."""

    runs: bool
    started: float | None
    # Time of its newest line.
    newest: float | None


def is_ongoing(times: Series, source: Source, now: float, over: float, over_once: float) -> bool:
    """Return whether events have to be expected again: whether the log has been silent about them for too short a time.

    ``over`` seconds of silence are enough if the program was restarted since, or if the events came during a longer
    time and it writes other lines since; otherwise ``over_once``. The silence has to be a multiple of the longest gap,
    so that what happens rarely is not over between two events. Silence of a program that does not run proves nothing.
    """
    if times.last is None:
        return False
    if not source.runs:
        return True
    silent_since = times.last
    is_restarted = source.started is not None and source.started > times.last
    if is_restarted and source.started is not None:
        silent_since = source.started
    lasted = times.last - (times.oldest or times.last) >= over
    writes = source.newest is not None and source.newest > times.last + 1
    enough = over if is_restarted or (lasted and writes) else over_once
    return now - silent_since < max(enough, GAPS * (times.longest_gap or 0.0))


class Histogram:
    """Number of events by time, for one window of ``seconds``."""

    def __init__(self, seconds: float) -> None:
        # Seconds of an entry.
        self.width = max(1, -(-int(seconds) // MOST_BUCKETS))
        self.counts: dict[int, int] = {}

    def add(self, moment: float | None) -> None:
        """Count an event."""
        if moment is not None:
            key = int(moment // self.width)
            self.counts[key] = self.counts.get(key, 0) + 1

    def worst_minute(self) -> int:
        """Return the largest number of events within a minute."""
        most, within, keys = 0, 0, sorted(self.counts)
        start, length = 0, max(1, MINUTE // self.width)
        for key in keys:
            within += self.counts[key]
            while key - keys[start] >= length:
                within -= self.counts[keys[start]]
                start += 1
            most = max(most, within)
        return most

    def burst(self, seconds: float) -> Part | None:
        """Return the time in which the events exceed the mean rate over ``seconds`` most; null if there is none.

        With ``count``, ``begin`` and ``end`` in epoch seconds, and ``seconds``.
        """
        total = sum(self.counts.values())
        if total < FEWEST or seconds <= 0:
            return None
        usual = TIMES_MEAN * total * self.width / seconds
        best, excess, count, begin, before = None, 0.0, 0, 0, 0
        most = 0.0
        for key in sorted(self.counts):
            # The largest sum of neighbours, by Kadane's algorithm.
            excess -= usual * (key - before - 1)
            if excess <= 0:
                excess, count, begin = 0.0, 0, key
            excess += self.counts[key] - usual
            count += self.counts[key]
            if excess > most:
                most, best = excess, (begin, key, count)
            before = key
        if best is None or best[2] < max(FEWEST, SHARE * total):
            return None
        lasted = (best[1] - best[0] + 1) * self.width
        if 2 * lasted >= seconds:
            return None
        return {
            "count": best[2],
            "begin": float(best[0] * self.width),
            "end": float((best[1] + 1) * self.width),
            "seconds": float(lasted),
        }
