# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the probes of several areas side by side, each area in a process of its own.

Private to this collection. A crash, a hang in the kernel or a slow service takes only its own area along, and
what the area had measured before is kept: a process reports probe by probe, one JSON line each.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import selectors
import signal
import time

from ansible_collections.tracktion.ops.plugins.module_utils import _at_end, _host_state
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotMeasure, cut, error

MAX_BYTES = 4 * 1024 * 1024
# How often the parent looks whether its result is still wanted.
LOOK_SECONDS = 0.5


class _Area:
    """One area's process, seen from the parent."""

    def __init__(self, name, pid, pipe, seconds, started):
        self.name = name
        self.pid = pid
        self.pipe = pipe
        self.end = started + seconds
        self.seconds = seconds
        self.received = b""
        self.error = None
        self.finished = None
        # Seconds that it waited for the CPU; null where that is not known.
        self.waited = None

    def outcome(self, started):
        probes = {}
        for line in self.received.split(b"\n")[:-1]:
            record = json.loads(line)
            if "probe" in record:
                probes[record["probe"]] = record["measurement"]
            else:
                self.waited = record["waited"]
        return {"measurement": probes, "error": self.error, "seconds": round((self.finished or started) - started, 3)}


class Gone(SystemExit):
    """No process reads the result any more."""


def run(areas, seconds=None, result=None, waited=None):
    """Measure the areas and return ``{area: {measurement, error, seconds}}``.

    ``areas`` maps an area to ``(seconds, probes)``: its deadline, and an ordered mapping of probe name to a
    callable that returns the measurement. ``error`` is null, or says why probes are missing from ``measurement``.
    ``seconds`` bounds all of them. With ``result``, the descriptor that the result will be written to, the areas are
    ended and Gone is raised once no process reads from it. To the list ``waited`` are added, by area, the seconds that
    its process waited for the CPU and those that it lived.

    No process outlives this one, however it ends. Only what the kernel keeps in an uninterruptible wait (state D, as
    on a dead network mount) ends no earlier than that wait.
    """
    started = time.monotonic()
    running = []
    guard = None
    try:
        for name, (own, probes) in areas.items():
            running.append(_start(name, own if seconds is None else min(own, seconds), probes, started))
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
        waited += [(area.waited, area.finished - started) for area in running if area.waited is not None]
    return outcomes


class _Guard:
    """A process that kills the areas, with all that they have started, when this process is gone.

    It waits for the end of a pipe that only this process holds open. A thread in each area would do the same, but a
    process with threads cannot enter some namespaces.
    """

    def __init__(self, groups):
        watched, self._held = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._guard(watched, groups)
        os.close(watched)

    def _guard(self, watched, groups):
        try:
            # Standard output stays open as long as any process holds it, and ssh waits for its end.
            os.setsid()
            os.dup2(watched, 0)
            os.closerange(1, 1024)
            if not os.read(0, 1):
                for group in groups:
                    with contextlib.suppress(OSError):
                        os.killpg(group, signal.SIGKILL)
        finally:
            os._exit(0)

    def dismiss(self):
        with contextlib.suppress(OSError):
            os.write(self._held, b".")
        os.close(self._held)
        os.waitpid(self._pid, 0)


def _collect(running, result):
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


def _is_abandoned(descriptor):
    """Whether the other end of a pipe or socket is closed, as that of standard output is once ssh is gone."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _descriptor, event in poll.poll(0))


def _start(name, seconds, probes, started):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_the_area(writing, probes)
    os.close(writing)
    return _Area(name, pid, reading, seconds, started)


def _be_the_area(pipe, probes):
    """The child: measures, writes a line per probe, and never returns."""
    try:
        # A group of its own, so that a deadline takes along whatever a client library started; and nothing but
        # the parent may write to the module's standard output.
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        before = _host_state.run_delay()
        for name, measure in probes.items():
            _write(pipe, _record(name, _measured(measure)) + b"\n")
        _at_end.run()
        after = _host_state.run_delay()
        if before is not None and after is not None:
            _write(pipe, json.dumps({"waited": round(after - before, 3)}).encode() + b"\n")
        os._exit(0)
    finally:
        os._exit(1)


def _record(name, measurement):
    """One line. A measurement that is no JSON (nested without end, not a finite number) is an error of its probe."""
    try:
        return json.dumps({"probe": name, "measurement": measurement}, allow_nan=False).encode("ascii")
    except (ValueError, TypeError, RecursionError) as exc:
        reason = {"kind": "malformed", "message": cut("the measurement is not JSON: %s" % exc, 500), "hint": None}
        return _record(name, {"reachable": None, "error": reason, "unknown": []})


def _measured(measure):
    try:
        return measure()
    except CannotMeasure as exc:
        reason = error(exc)
    except Exception as exc:  # pylint: disable=broad-except
        reason = {"kind": "crashed", "message": cut("%s: %s" % (type(exc).__name__, exc), 500), "hint": None}
    return {"reachable": None, "error": reason, "unknown": []}


def _write(pipe, data):
    while data:
        data = data[os.write(pipe, data) :]


def _receive(area):
    """Take what the area has written; False when there is nothing more to come."""
    chunk = os.read(area.pipe, 65536)
    area.received += chunk
    if len(area.received) > MAX_BYTES:
        _give_up(area, "too_large", "measured more than %d bytes" % MAX_BYTES)
        return False
    if chunk:
        return True
    area.finished = time.monotonic()
    return False


def _give_up(area, kind, message):
    area.error = {"kind": kind, "message": message, "hint": None}
    area.finished = time.monotonic()
    area.waited = _host_state.run_delay(area.pid)
    try:
        os.killpg(area.pid, signal.SIGKILL)
    except OSError:
        # Killed between fork and setsid, or gone already.
        os.kill(area.pid, signal.SIGKILL)


def _reap(area):
    """Collect the exit status, without waiting for a process the kernel does not let go of."""
    for _attempt in range(250):
        pid, status = os.waitpid(area.pid, os.WNOHANG)
        if pid:
            if status and area.error is None:
                area.error = {"kind": "died", "message": "the process ended with status %d" % status, "hint": None}
            return
        time.sleep(0.002)
