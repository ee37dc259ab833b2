# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Goals of the benchmarks: a benchmark that misses one of its own fails."""

from __future__ import annotations

import sys


class Goals:
    """The figures of one benchmark that have a limit."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def check(self, text: str, value: float, *, at_most: float | None = None, at_least: float | None = None) -> None:
        """Print a figure with its limit, if it has one, and remember it if it misses the limit."""
        limits = {"at most": at_most, "at least": at_least}
        shown = ", ".join("%s %g" % (name, limit) for name, limit in limits.items() if limit is not None)
        missed = (at_most is not None and value > at_most) or (at_least is not None and value < at_least)
        print("  %-66s %6.2f   (%s)%s" % (text, value, shown or "-", "  MISSED" if missed else ""))
        if missed:
            self.missed.append("%s: %.2f, %s" % (text, value, shown))

    def exit(self) -> None:
        """End the benchmark with exit status 1 if it missed a goal."""
        if self.missed:
            sys.exit("missed: " + "; ".join(self.missed))
