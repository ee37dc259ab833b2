# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Numbers as people read them. Private to this collection."""

from __future__ import annotations


def bytes(number):  # pylint: disable=redefined-builtin
    """1536 -> '1.5 KiB'."""
    number = float(number)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(number) < 1024 or unit == "TiB":
            return "%.0f %s" % (number, unit) if unit == "B" else "%.1f %s" % (number, unit)
        number /= 1024


def duration(seconds):
    """3725 -> '1 h 2 min'; the two largest units are enough for a person. Below ten seconds, one decimal."""
    seconds = float(seconds)
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 1:
        return "%.0f ms" % (seconds * 1000)
    if seconds < 10:
        return "%.1f s" % seconds
    left = int(round(seconds))
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append("%d %s" % (count, unit) if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def percent(ratio):
    """0.915 -> '91.5 %'."""
    return "%.3g %%" % (float(ratio) * 100)
