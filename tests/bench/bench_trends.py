#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How often trends call a stationary series a leak, and how often they find one: 1,000 series of each, and tables.

python tests/bench/bench_trends.py [SERIES]
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils._host._assessment import assess  # noqa: E402
from tests import simulated_series as simulated  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402

SOON = 6 * 3600.0
# Half an hour over a day is the primary case.
SHAPES = ((48, 1800), (48, 900), (48, 300), (72, 1800), (96, 1800), (288, 600), (24, 1800), (12, 1800), (10, 30))


def share(make, count, interval, series):
    """Return the share of series that are assessed as growing, and of those about which nothing is said."""
    random = Random("%s %d %d" % (getattr(make, "__name__", "leak"), count, interval))
    growing = unknown = 0
    for _number in range(series):
        points, at_peak = simulated.observed(random, make, count, interval)
        found = assess(points, simulated.LIMIT - points[-1][1], SOON, at_peak)["growing"]
        growing += found is True
        unknown += found is None
    return growing / series, unknown / series


def table(kinds, series):
    print("samples  every  " + "".join("%18s" % name for name in kinds))
    for count, interval in SHAPES:
        line = "%7d %4.4g min " % (count, interval / 60)
        for make in kinds.values():
            growing, unknown = share(make, count, interval, series)
            line += "%18s" % ("%.1f%% (%.0f%%)" % (100 * growing, 100 * unknown))
        print(line)


def main() -> None:
    series = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    goals = Goals()
    stationary = [share(make, 48, 1800, series // 4)[0] for make in simulated.STATIONARY]
    goals.check("stationary series called a leak, 48 samples of 30 min, in %", 25 * sum(stationary), at_most=1)
    found = share(simulated.leak, 48, 1800, series)[0]
    goals.check("leaks of 1 % of the limit an hour that are found, in %", 100 * found, at_least=95)

    print("\nshare of %d stationary series called a leak (and undecided)" % (series // 4))
    table({kind.__name__: kind for kind in simulated.KINDS}, series // 4)
    print("\nshare of %d leaks that are found (and undecided): rate an hour and noise, of the limit" % (series // 4))
    leaks = {
        "1 %, noise 1 %": simulated.leak,
        "1 %, noise 2 %": partial(simulated.leak, deviation=0.02),
        "1 %, teeth 5 %": partial(simulated.leak, teeth=0.05),
        "0.5 %, noise 1 %": partial(simulated.leak, rate=0.005),
        "5 %, noise 1 %": partial(simulated.leak, rate=0.05),
    }
    table(leaks, series // 4)

    random = Random(1)
    points, _at_peak = simulated.observed(random, simulated.leak, 64, 1800)
    started = time.perf_counter()
    for _number in range(20):
        assess(points, simulated.LIMIT, SOON)
    print("\none series of 64 samples: %.1f ms" % ((time.perf_counter() - started) * 50))
    goals.exit()


if __name__ == "__main__":
    main()
