# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows which visits are going on while a run takes long. Private to this collection.

Workers are processes that share only the temporary directory of the run. Each notes there when its visit begins and
ends; the first one to see that EVERY seconds have passed shows a line for all of them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ansible import constants as C
from ansible_collections.tracktion.ops.plugins.plugin_utils import _claims, _text, _units

# Seconds between two lines of a run, and before the first one.
EVERY = 20.0
NAME = "tracktion-visits-"
BEGUN, ENDED = "+", "-"
# Bytes of the file that are read: 10,000 visits.
MOST = 2 << 20


class Visit(NamedTuple):
    """``task`` is the same for all hosts, ``total`` their number, ``limit`` the seconds after which a visit ends."""

    task: str
    host: str
    total: int
    areas: list[str]
    limit: float


@contextlib.contextmanager
def shown(visit: Visit, show: Callable[[str], object]) -> Iterator[None]:
    """Show lines about all visits of a task while this one goes on. ``show`` is called by a thread."""
    try:
        begun = _note(visit, BEGUN)
    except (OSError, ValueError, IndexError):
        # Without the directory, the visit goes on without progress.
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(visit, begun, over, show), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        # A worker that ends in the middle of a line would damage the queue of results.
        thread.join()
        with contextlib.suppress(OSError, ValueError, IndexError):
            _note(visit, ENDED)


def _watch(visit: Visit, begun: float, over: threading.Event, show: Callable[[str], object]) -> None:
    """Show a line at each multiple of EVERY seconds since ``begun``, unless another worker shows it."""
    while True:
        tick = int((time.time() - begun) // EVERY) + 1
        if over.wait(max(0.0, begun + tick * EVERY - time.time())):
            return
        if _claims.take("%s%s-%d" % (NAME, visit.task, tick)):
            with contextlib.suppress(OSError, ValueError):
                show(line(visit, _read(visit), time.time()))


def line(visit: Visit, entries: Iterable[tuple[str, float, str]], now: float) -> str:
    """Return the line about the visits of a run. ``entries``: BEGUN or ENDED, time, host."""
    open_since: dict[str, list[float]] = {}
    first = now
    for mark, at, host in entries:
        first = min(first, at)
        since = open_since.setdefault(host, [])
        if mark == BEGUN:
            since.append(at)
        elif since:
            since.pop()
    going_on = sorted((since[0], host) for host, since in open_since.items() if since)
    names = ["%s (%s)" % (_text.clean(host), _units.duration(now - since)) for since, host in going_on]
    end = "each ends after at most %s" % _units.duration(visit.limit)
    if visit.total == 1:
        return "Still measuring %s: %s; %s" % (_text.few(names), _text.few(visit.areas), end)
    done = len(open_since) - len(going_on)
    taken = _units.duration(now - first)
    return "%d of %d hosts visited after %s; measuring: %s; %s" % (done, visit.total, taken, _text.few(names), end)


def _note(visit: Visit, mark: str) -> float:
    """Add a line to the file of the task; return when its first visit began.

    Raises OSError, ValueError, IndexError.
    """
    entry = "%s %.3f %s\n" % (mark, time.time(), visit.host.replace("\n", " "))
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with os.fdopen(os.open(_path(visit), flags, 0o600), "r+b", buffering=0) as stream:
        # One write: those of several processes do not mix.
        stream.write(entry.encode("utf-8", "backslashreplace"))
        stream.seek(0)
        return float(stream.read(40).split(b" ")[1])


def _read(visit: Visit) -> list[tuple[str, float, str]]:
    with open(_path(visit), encoding="utf-8", errors="replace") as stream:
        parts = [entry.split(" ", 2) for entry in stream.read(MOST).splitlines()]
    return [(part[0], float(part[1]), part[2]) for part in parts if len(part) == 3]


def _path(visit: Visit) -> str:
    return os.path.join(C.DEFAULT_LOCAL_TMP, NAME + os.path.basename(visit.task))
