# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Formats numbers with units. Private to this collection."""

from __future__ import annotations


def size(number: float | str) -> str:
    """Return bytes with a unit: 1536 -> '1.5 KiB'."""
    number = float(number)
    if abs(number) < 1024:
        return "%.0f B" % number
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if abs(number) < 1024:
            return "%.1f %s" % (number, unit)
    return "%.1f TiB" % (number / 1024)


def duration(seconds: float | str) -> str:
    """Return seconds in the two largest units: 3725 -> '1 h 2 min'. Below ten seconds, with one decimal."""
    seconds = float(seconds)
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 1:
        return "%.0f ms" % (seconds * 1000)
    if seconds < 10:
        return "%.1f s" % seconds
    left = round(seconds)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append("%d %s" % (count, unit) if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def percent(ratio: float | str) -> str:
    """Return a ratio in percent: 0.915 -> '91.5 %'."""
    value = float(ratio) * 100
    return ("%.0f %%" if abs(value) >= 1000 else "%.3g %%") % value


def is_moment(name: str, value: object) -> bool:
    """Return whether a measured value is a time in seconds since 1970, which no reader can compare.

    Rates and sizes of the same magnitude have these words in their names.
    """
    return isinstance(value, float) and 1.5e9 <= value < 2.5e9 and "bytes" not in name and "per_second" not in name
