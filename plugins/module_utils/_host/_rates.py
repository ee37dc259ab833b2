# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rates of counters between two samples. Pure. Private to this collection."""

from __future__ import annotations

from typing import Mapping

# A ratio may exceed 1 by this much, because the counters of a sample are not read at the same moment.
SLACK = 0.1


def difference(before: float | None, after: float | None) -> float | None:
    """Return by how much a counter grew; null if it is unknown, wrapped or was reset by a reboot."""
    if before is None or after is None or after < before:
        return None
    return after - before


def per_second(before: float | None, after: float | None, seconds: float) -> float | None:
    """Return how much a counter grew a second; null if that is not known."""
    grown = difference(before, after)
    return None if grown is None or seconds <= 0 else round(grown / seconds, 4)


def ratio(part: float | None, whole: float | None) -> float | None:
    """Return ``part / whole``; null if one is unknown or the whole is 0."""
    return None if part is None or not whole else round(part / whole, 4)


def share(part: float | None, whole: float | None) -> float | None:
    """Return ``part / whole`` as a share of time, at most 1; null also for a value that no share can have."""
    found = ratio(part, whole)
    return None if found is None or not 0 <= found <= 1 + SLACK else min(1.0, found)


def growth(before: Mapping[str, int], after: Mapping[str, int], name: str) -> int | None:
    """Return by how much the counter ``name`` of two tables grew; null if that is not known."""
    found = difference(before.get(name), after.get(name))
    return None if found is None else int(found)
