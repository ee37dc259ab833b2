# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the clock is synchronised, and by how much it is wrong, by adjtimex(2). Private to this collection."""

from __future__ import annotations

import ctypes
import os

from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# linux/timex.h
STA_UNSYNC, STA_NANO, TIME_ERROR = 0x0040, 0x2000, 5


class Timex(ctypes.Structure):
    """struct timex, with room for what later kernels add."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("rest", ctypes.c_char * 256),
    )


def describe(context: Context) -> Part:
    """Return the part ``clock``. Raises OSError if the call is not permitted, as by a seccomp filter."""
    now = Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(now))
    if state < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "adjtimex")
    return of_state(state, now.status, now.offset, now.esterror, now.maxerror)


def of_state(state: int, status: int, offset: int, estimated: int, maximum: int) -> Part:
    """Return the part of the values of adjtimex(2). Without synchronisation, its offset means nothing.

    A daemon that steers the clock by steps and frequency leaves the offset at 0 (chrony); the estimated error of the
    kernel is then what it notes.
    """
    synchronised = state != TIME_ERROR and not status & STA_UNSYNC
    unit = 1e9 if status & STA_NANO else 1e6
    return {
        "synchronised": synchronised,
        "offset_seconds": round(offset / unit, 9) if synchronised else None,
        "estimated_error_seconds": estimated / 1e6 if synchronised else None,
        # It grows while nothing corrects the clock, up to 16 s.
        "maximum_error_seconds": maximum / 1e6,
    }
