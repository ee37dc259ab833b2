# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Series of used memory that do not leak, and series that do, for the unit tests and the benchmark of trends.

All values are bytes below a limit of 1 GiB. Each series is drawn from ``random``: its level, noise, period and phase.
"""

from __future__ import annotations

import math

LIMIT = 1 << 30
HOUR, DAY = 3600.0, 86400.0


def autoregressive(random, count, coefficient, deviation):
    """Return stationary AR(1) noise: the neighbours of a value have the correlation ``coefficient`` with it."""
    value = random.gauss(0, deviation)
    found = []
    for _number in range(count):
        found.append(value)
        value = coefficient * value + random.gauss(0, deviation * math.sqrt(1 - coefficient * coefficient))
    return found


def ar1(random, count, _interval):
    """AR(1) with a coefficient up to 0.9; standard deviation 2 % of the limit."""
    return autoregressive(random, count, random.uniform(0, 0.9), 0.02)


def ar1_at_most(random, count, _interval):
    """AR(1) with the coefficient 0.9."""
    return autoregressive(random, count, 0.9, 0.02)


def sawtooth(random, count, _interval):
    """A garbage collector or cache that is cleared every 4 to 32 samples; amplitude 2 to 20 % of the limit."""
    period, height, phase = random.uniform(4, 32), random.uniform(0.02, 0.2), random.random()
    noise = autoregressive(random, count, 0.3, 0.005)
    return [height * ((phase + number / period) % 1.0) + noise[number] for number in range(count)]


def diurnal(random, count, interval):
    """The load of a day as a sine; amplitude 2 to 15 % of the limit."""
    height, phase = random.uniform(0.02, 0.15), random.uniform(0, 2 * math.pi)
    noise = autoregressive(random, count, random.uniform(0, 0.6), 0.005)
    return [height * math.sin(2 * math.pi * number * interval / DAY + phase) + noise[number] for number in range(count)]


def warm_up(random, count, _interval):
    """Growth by 5 to 40 % of the limit that reaches 95 % of it within the samples: the plateau of a cache."""
    height = random.uniform(0.05, 0.4)
    constant = count * math.exp(random.uniform(math.log(0.02), math.log(0.33)))
    noise = autoregressive(random, count, random.uniform(0, 0.9), 0.01)
    return [height * (1 - math.exp(-number / constant)) + noise[number] for number in range(count)]


def step(random, count, _interval):
    """One step up by 3 to 30 % of the limit, as by a library that is loaded later."""
    height, at = random.uniform(0.03, 0.3), random.randrange(count)
    noise = autoregressive(random, count, random.uniform(0, 0.9), 0.01)
    return [(height if number >= at else 0) + noise[number] for number in range(count)]


STATIONARY = (ar1, sawtooth, diurnal, warm_up)
KINDS = (*STATIONARY, ar1_at_most, step)


def leak(random, count, interval, rate=0.01, deviation=0.01, teeth=0.0):
    """Growth by ``rate`` of the limit each hour, with AR(1) noise up to 0.9 and a saw tooth of the height ``teeth``."""
    noise = autoregressive(random, count, random.uniform(0, 0.9), deviation)
    period = random.uniform(3, 8)
    return [
        rate * number * interval / HOUR + noise[number] + teeth * ((number / period) % 1.0) for number in range(count)
    ]


def observed(random, make, count, interval):
    """Return the last points of time and bytes of a process, and whether it is at the peak of its life.

    Its level is 20 to 50 % of the limit. What repeats has lived for three times as long as it is observed.
    """
    lived = 1 if make in (warm_up, step) or make not in KINDS else 3
    level = random.uniform(0.2, 0.5)
    values = [max(0.0, (level + share) * LIMIT) for share in make(random, lived * count, interval)]
    seen = values[-count:]
    return [(number * interval, value) for number, value in enumerate(seen)], seen[-1] >= 0.99 * max(values)
