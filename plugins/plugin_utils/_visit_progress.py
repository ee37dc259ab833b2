# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows which visits are going on while a run takes long. Private to this collection.

Workers are processes that share only the temporary directory of the run. Each notes there when its visit begins and
ends; the first one to see that EVERY seconds have passed shows a line for all of them.

The controller does not see which areas of a host are done before the visit ends. But an area ends at its deadline, so a
line names only those whose deadline has not passed.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from ansible import constants as C
from ansible_collections.tracktion.ops.plugins.plugin_utils import _claims, _text, _units

# Seconds between two lines of a run, and before the first one.
EVERY = 20.0
# Seconds of a visit before its areas begin: to connect, and to start Python.
START = 5.0
NAME = "tracktion-visits-"
BEGUN, ENDED = "+", "-"
# Bytes of the file that are read: 10,000 visits. Bytes of its first line.
MOST = 4 << 20
LONGEST = 1 << 16


class Visit(NamedTuple):
    """``task`` is the same for all hosts, ``total`` their number, ``limit`` the seconds after which a visit ends.

    ``areas`` maps an area to the seconds after which it ends.
    """

    task: str
    host: str
    total: int
    areas: Mapping[str, float]
    limit: float


class Entry(NamedTuple):
    """The begin or the end of a visit; ``areas`` are those of the host."""

    mark: str
    at: float
    host: str
    areas: Mapping[str, float]


@contextlib.contextmanager
def shown(visit: Visit, show: Callable[[str], object]) -> Iterator[None]:
    """Show lines about all visits of a task while this one goes on. ``show`` is called by a thread."""
    try:
        begun = _note(visit, BEGUN)
    except (OSError, ValueError, TypeError, LookupError):
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
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
            _note(visit, ENDED)


def _watch(visit: Visit, begun: float, over: threading.Event, show: Callable[[str], object]) -> None:
    """Show a line at each multiple of EVERY seconds since ``begun``, unless another worker shows it."""
    while True:
        # The begin is rounded, and may be a moment ahead.
        tick = int(max(0.0, time.time() - begun) // EVERY) + 1
        if over.wait(max(0.0, begun + tick * EVERY - time.time())):
            return
        if _claims.take("%s%s-%d" % (NAME, visit.task, tick)):
            with contextlib.suppress(OSError, ValueError, TypeError):
                show(line(visit, _read(visit), time.time()))


def line(visit: Visit, entries: Iterable[Entry], now: float) -> str:
    """Return the line about the visits of a run."""
    open_since: dict[str, list[Entry]] = {}
    first = now
    for entry in entries:
        first = min(first, entry.at)
        begun = open_since.setdefault(entry.host, [])
        if entry.mark == BEGUN:
            begun.append(entry)
        elif begun:
            begun.pop()
    going_on = sorted((begun[0] for begun in open_since.values() if begun), key=lambda entry: (entry.at, entry.host))
    names = [_described(entry, now) for entry in going_on]
    end = "each ends after at most %s" % _units.duration(visit.limit)
    if visit.total == 1:
        return "Still measuring %s; %s" % (_text.few(names), end)
    done = len(open_since) - len(going_on)
    taken = _units.duration(now - first)
    return "%d of %d hosts visited after %s; measuring: %s; %s" % (done, visit.total, taken, _text.few(names), end)


def _described(entry: Entry, now: float) -> str:
    """Return a host with the seconds since its visit began, and the areas that can still be measured."""
    elapsed = now - entry.at
    left = [area for area, deadline in entry.areas.items() if elapsed < deadline + START]
    since = _units.duration(elapsed)
    return "%s (%s%s)" % (_text.clean(entry.host), since, ": %s" % _text.clean(_text.few(left)) if left else "")


def _note(visit: Visit, mark: str) -> float:
    """Add a line to the file of the task; return when its first visit began.

    Raises OSError, ValueError, TypeError, LookupError.
    """
    entry = json.dumps([mark, round(time.time(), 3), visit.host, dict(visit.areas) if mark == BEGUN else {}])
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with os.fdopen(os.open(_path(visit), flags, 0o600), "r+b", buffering=0) as stream:
        # One write: those of several processes do not mix.
        stream.write(entry.encode("ascii") + b"\n")
        stream.seek(0)
        return float(json.loads(stream.read(LONGEST).split(b"\n")[0])[1])


def _read(visit: Visit) -> list[Entry]:
    with open(_path(visit), encoding="ascii") as stream:
        return [Entry(*json.loads(text)) for text in stream.read(MOST).splitlines()]


def _path(visit: Visit) -> str:
    return os.path.join(C.DEFAULT_LOCAL_TMP, NAME + os.path.basename(visit.task))
