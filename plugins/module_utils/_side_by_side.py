# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the probes of several areas side by side, each area in a process of its own.

Private to this collection. A crash, a hang in the kernel or a slow service takes only its own area along, and
what the area had measured before is kept: a process reports probe by probe, one JSON line each.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import time

from ansible_collections.tracktion.ops.plugins.module_utils import _at_end
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotMeasure, cut, error

MAX_BYTES = 4 * 1024 * 1024


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

    def outcome(self, started):
        probes = {}
        for line in self.received.split(b"\n")[:-1]:
            record = json.loads(line)
            probes[record["probe"]] = record["measurement"]
        return {"measurement": probes, "error": self.error, "seconds": round((self.finished or started) - started, 3)}


def run(areas):
    """Measure the areas and return ``{area: {measurement, error, seconds}}``.

    ``areas`` maps an area to ``(seconds, probes)``: its deadline, and an ordered mapping of probe name to a
    callable that returns the measurement. ``error`` is null, or says why probes are missing from ``measurement``.
    """
    started = time.monotonic()
    running = [_start(name, seconds, probes, started) for name, (seconds, probes) in areas.items()]
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
            patience = max(0.0, min([area.end for area in waiting]) - now)
            for key, _events in selector.select(patience):
                if not _receive(key.data):
                    selector.unregister(key.data.pipe)
    for area in running:
        os.close(area.pipe)
        _reap(area)
    return {area.name: area.outcome(started) for area in running}


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
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        for name, measure in probes.items():
            record = {"probe": name, "measurement": _measured(measure)}
            _write(pipe, json.dumps(record).encode("utf-8", "backslashreplace") + b"\n")
        _at_end.run()
        os._exit(0)
    finally:
        os._exit(1)


def _measured(measure):
    try:
        return measure()
    except CannotMeasure as exc:
        reason = error(exc)
    except Exception as exc:  # pylint: disable=broad-except
        reason = {"kind": "crashed", "message": cut("%s: %s" % (type(exc).__name__, exc), 500), "cure": None}
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
    area.error = {"kind": kind, "message": message, "cure": None}
    area.finished = time.monotonic()
    try:
        os.killpg(area.pid, signal.SIGKILL)
    except OSError:
        # Killed between fork and setsid, or gone already.
        os.kill(area.pid, signal.SIGKILL)


def _reap(area):
    """Collect the exit status, without waiting for a process the kernel does not let go of."""
    for _attempt in range(50):
        pid, status = os.waitpid(area.pid, os.WNOHANG)
        if pid:
            if status and area.error is None:
                area.error = {"kind": "died", "message": "the process ended with status %d" % status, "cure": None}
            return
        time.sleep(0.002)
