# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the probes of several areas in parallel, each area in a process of its own. Private to this collection.

A crash, a hang in the kernel or a slow service affects only its own area, and what the area measured before is kept:
a process reports probe by probe, one JSON line each.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import selectors
import signal
import time
from typing import Any, Callable, Iterator, List, Mapping, NoReturn, Sequence, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils import _at_end, _host_state
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotMeasure, cut, error
from ansible_collections.tracktion.ops.plugins.module_utils._types import AreaOutcome, ErrorInfo, Measurement

MAX_BYTES = 4 * 1024 * 1024
# How often the parent checks whether its result is still read.
LOOK_SECONDS = 0.5
# Signals that end the module by an exception (measure.end_with_signals).
ENDING = (signal.SIGTERM, signal.SIGHUP)

# Probe name -> a function that returns the measurement. They run in this order.
Probes = Mapping[str, Callable[[], Any]]
# Area -> its deadline in seconds, and its probes.
Areas = Mapping[str, Tuple[float, Probes]]
WaitedList = List[_host_state.Waited]


class _Area:
    """The process of one area, as the parent sees it."""

    def __init__(self, name: str, pid: int, pipe: int, seconds: float, started: float) -> None:
        self.name = name
        self.pid = pid
        self.pipe = pipe
        self.end = started + seconds
        self.seconds = seconds
        self.received = b""
        self.error: ErrorInfo | None = None
        self.finished: float | None = None
        # Seconds that it was ready to run and had no CPU; null if not known.
        self.waited: float | None = None

    def outcome(self, started: float) -> AreaOutcome:
        """Return what was received until now. ``started`` (of the monotonic clock) is the beginning of all areas."""
        probes: dict[str, Measurement] = {}
        for line in self.received.split(b"\n")[:-1]:
            record = json.loads(line)
            if "probe" in record:
                probes[record["probe"]] = record["measurement"]
            else:
                self.waited = record["waited"]
        return {"measurement": probes, "error": self.error, "seconds": round((self.finished or started) - started, 3)}


class Gone(SystemExit):
    """No process reads the result anymore."""


def run(
    areas: Areas,
    seconds: float | None = None,
    result: int | None = None,
    waited: WaitedList | None = None,
    delays: Mapping[str, float] | None = None,
) -> dict[str, AreaOutcome]:
    """Measure the areas and return the outcome of each.

    ``seconds`` limits all of them, whatever their deadlines are. ``result`` is the descriptor that the result will be
    written to: once no process reads from it, the areas are ended and Gone is raised. To the list ``waited`` is added,
    per area, how long its process waited for the CPU and how long it lived. ``delays`` are the seconds that an area
    waits before it measures, out of its own time.

    No process outlives this one, however it ends. Only a process in state D (an uninterruptible wait in the kernel, as
    on a dead network mount) ends no earlier than that wait.
    """
    started = time.monotonic()
    running: list[_Area] = []
    guard = None
    try:
        with _deferred_signals():
            for name, (own, probes) in areas.items():
                limit = own if seconds is None else min(own, seconds)
                running.append(_start(name, limit, probes, started, (delays or {}).get(name, 0.0)))
            guard = _Guard([area.pid for area in running])
        _collect(running, result)
    finally:
        for area in running:
            if area.finished is None:
                _give_up(area, "ended", "ended before it was finished")
            os.close(area.pipe)
            _reap(area)
        if guard:
            guard.dismiss()
    outcomes = {area.name: area.outcome(started) for area in running}
    if waited is not None:
        waited += [
            (area.waited, area.finished - started)
            for area in running
            if area.waited is not None and area.finished is not None
        ]
    return outcomes


@contextlib.contextmanager
def _deferred_signals() -> Iterator[None]:
    """Defer the ENDING signals: Python ignores an exception that a handler raises in a hook of os.fork()."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Guard:
    """A process that kills the areas, with all processes that they have started, when this process is gone.

    It waits for the end of a pipe that only this process holds open. A thread in each area would do too, but a
    process with threads cannot enter some namespaces.
    """

    def __init__(self, groups: Sequence[int]) -> None:
        watched, self._held = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._guard(watched, groups)
        os.close(watched)

    def _guard(self, watched: int, groups: Sequence[int]) -> NoReturn:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            # ssh waits until no process holds standard output open.
            os.setsid()
            os.dup2(watched, 0)
            os.closerange(1, 1024)
            if not os.read(0, 1):
                for group in groups:
                    with contextlib.suppress(OSError):
                        os.killpg(group, signal.SIGKILL)
        finally:
            os._exit(0)

    def dismiss(self) -> None:
        """End the guard without killing the areas, and collect its exit status."""
        with contextlib.suppress(OSError):
            os.write(self._held, b".")
        os.close(self._held)
        os.waitpid(self._pid, 0)


def _collect(running: Sequence[_Area], result: int | None) -> None:
    """Receive from the areas until each has ended or reached its deadline."""
    with selectors.DefaultSelector() as selector:
        for area in running:
            selector.register(area.pipe, selectors.EVENT_READ, area)
        while selector.get_map():
            now = time.monotonic()
            waiting = [key.data for key in selector.get_map().values()]
            for area in waiting:
                if now >= area.end:
                    _give_up(area, "deadline", "not finished after %g s" % area.seconds)
                    selector.unregister(area.pipe)
            if result is not None and _is_abandoned(result):
                raise Gone(1)
            pause = max(0.0, min([area.end for area in waiting]) - now)
            for key, _events in selector.select(pause if result is None else min(pause, LOOK_SECONDS)):
                if not _receive(key.data):
                    selector.unregister(key.data.pipe)


def _is_abandoned(descriptor: int) -> bool:
    """Return whether the other end of a pipe or socket is closed, as that of standard output is once ssh is gone."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _descriptor, event in poll.poll(0))


def _start(name: str, seconds: float, probes: Probes, started: float, delay: float) -> _Area:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _run_area(writing, probes, delay)
    os.close(writing)
    return _Area(name, pid, reading, seconds, started)


def _run_area(pipe: int, probes: Probes, delay: float) -> NoReturn:
    """Measure in the child, write a line per probe, and end the process."""
    try:
        # A group of its own, so that a deadline also ends what a client library started. Only the parent may write to
        # the module's standard output.
        os.setsid()
        for number in ENDING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        time.sleep(delay)
        before = _host_state.run_delay()
        for name, measure in probes.items():
            _write(pipe, _record(name, _measure(measure)) + b"\n")
        _at_end.run()
        after = _host_state.run_delay()
        if before is not None and after is not None:
            _write(pipe, json.dumps({"waited": round(after - before, 3)}).encode() + b"\n")
        os._exit(0)
    finally:
        os._exit(1)


def _record(name: str, measurement: Any) -> bytes:
    """Return one line. A measurement that is not JSON (nested too deeply, not a finite number) becomes an error."""
    try:
        return json.dumps({"probe": name, "measurement": measurement}, allow_nan=False).encode("ascii")
    except (ValueError, TypeError, RecursionError) as exc:
        return _record(name, _unmeasured("malformed", "the measurement is not JSON: %s" % exc))


def _measure(measure: Callable[[], Any]) -> Any:
    try:
        return measure()
    except CannotMeasure as exc:
        return {"reachable": None, "error": error(exc), "unknown": []}
    except Exception as exc:  # pylint: disable=broad-except
        return _unmeasured("crashed", "%s: %s" % (type(exc).__name__, exc))


def _unmeasured(kind: str, message: str) -> Measurement:
    return {"reachable": None, "error": {"kind": kind, "message": cut(message, 500), "hint": None}, "unknown": []}


def _write(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]


def _receive(area: _Area) -> bool:
    """Read what the area has written. Return whether more may follow."""
    chunk = os.read(area.pipe, 65536)
    area.received += chunk
    if len(area.received) > MAX_BYTES:
        _give_up(area, "too_large", "measured more than %d bytes" % MAX_BYTES)
        return False
    if chunk:
        return True
    area.finished = time.monotonic()
    return False


def _give_up(area: _Area, kind: str, message: str) -> None:
    area.error = {"kind": kind, "message": message, "hint": None}
    area.finished = time.monotonic()
    area.waited = _host_state.run_delay(area.pid)
    try:
        os.killpg(area.pid, signal.SIGKILL)
    except OSError:
        # It is between fork and setsid, or has ended.
        os.kill(area.pid, signal.SIGKILL)


def _reap(area: _Area) -> None:
    """Collect the exit status, and wait no more than half a second for a process in state D."""
    for _attempt in range(250):
        pid, status = os.waitpid(area.pid, os.WNOHANG)
        if pid:
            if status and area.error is None:
                area.error = {"kind": "died", "message": "the process ended with status %d" % status, "hint": None}
            return
        time.sleep(0.002)
