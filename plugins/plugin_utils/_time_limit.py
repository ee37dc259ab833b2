# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bounds what a task does on the controller, in time and in memory. Private to this collection."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

PAGE = 4096
TICK_SECONDS = 0.25
# What a task may add to its process's memory. A connection plugin collects what a host sends until the host ends.
MAX_BYTES = 256 * 1024 * 1024


class LimitExceeded(BaseException):
    """The limit is reached. No ``except Exception`` of a plugin may catch it."""


@contextlib.contextmanager
def limited(seconds: float, max_bytes: int = MAX_BYTES) -> Iterator[None]:
    """Run the body within ``seconds`` and ``max_bytes`` of additional memory. Raises LimitExceeded.

    Where the process cannot have a timer of its own (a task with ``timeout``, a strategy that uses threads), the body
    runs without a limit.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return
    end, most = time.monotonic() + seconds, _resident() + max_bytes

    def tick(_signal: int, _frame: object) -> None:
        if time.monotonic() >= end:
            raise LimitExceeded("Timed out after %g second(s)." % seconds)
        if _resident() > most:
            raise LimitExceeded("The answer takes more than %d MiB of memory." % (max_bytes >> 20))

    before = signal.signal(signal.SIGALRM, tick)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)


def _resident() -> int:
    """The resident memory of this process in bytes, 0 where the system does not tell it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as handle:
            return int(handle.read().split()[1]) * PAGE
    except (OSError, ValueError, IndexError):
        return 0
