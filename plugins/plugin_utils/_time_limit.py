# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits the time and the memory of a task on the controller. Private to this collection."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator

# The unit of ``ru_maxrss`` in bytes.
UNIT = 1 if sys.platform == "darwin" else 1024
TICK_SECONDS = 0.25
# Memory that a task may add to its process: a connection plugin keeps all output of a host in memory.
MAX_BYTES = 256 * 1024 * 1024


class LimitExceeded(BaseException):
    """The limit is reached. A BaseException, so that no ``except Exception`` of a plugin catches it."""


@contextlib.contextmanager
def limited(seconds: float, max_bytes: int = MAX_BYTES) -> Iterator[None]:
    """Run the body within ``seconds`` and ``max_bytes`` of additional memory. Raises LimitExceeded.

    The body runs without a limit if the process cannot have a timer: in a task with ``timeout``, and with a strategy
    that uses threads.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return
    end, most = time.monotonic() + seconds, _most_resident() + max_bytes

    def tick(_signal: int, _frame: object) -> None:
        if time.monotonic() >= end:
            raise LimitExceeded("Timed out after %g second(s)." % seconds)
        if _most_resident() > most:
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


def _most_resident() -> int:
    """Return the most resident memory that this process has had, in bytes. Reading /proc takes 30 times as long."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
