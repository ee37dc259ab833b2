# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The progress of a long module, in a file that the controller reads. Private to this collection."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Callable

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import beside

SECONDS = 1.0
# The rate is that of the last seconds, so that it follows a change.
WINDOW_SECONDS = 20.0
NOTES_MOST = 10
NOTE_CHARACTERS = 200


class Progress:
    """Writes ``{step, bytes, total, rate, seconds_left, notes, updated}`` to a file, at most once a second.

    ``total`` is null if it is not known. ``notes`` are the last lines of text, as ``[number, text]``. ``path`` may be
    empty: nothing is written then. A progress that cannot be written never fails the work.
    """

    def __init__(self, path: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._step = ""
        self._total: int | None = None
        self._written = float("-inf")
        self._samples: list[tuple[float, int]] = []
        self._notes: list[tuple[int, str]] = []
        # That of a run that was killed.
        self.end()

    def step(self, name: str, total: int | None = None) -> None:
        """Begin a step: ``dump``, of ``total`` bytes."""
        self._step, self._total, self._samples = name, total, []
        self._written = float("-inf")
        self.update(0)

    def note(self, text: str) -> None:
        """Write a line of text, which is shown once."""
        number = self._notes[-1][0] + 1 if self._notes else 1
        self._notes = [*self._notes, (number, cut(text, NOTE_CHARACTERS))][-NOTES_MOST:]
        self._written = float("-inf")
        self.update(self._samples[-1][1] if self._samples else 0)

    def update(self, done: int) -> None:
        """Write that ``done`` bytes of the step are done."""
        now = self._clock()
        if not self._path or now - self._written < SECONDS:
            return
        self._written = now
        self._samples.append((now, done))
        while now - self._samples[0][0] > WINDOW_SECONDS and len(self._samples) > 2:
            self._samples.pop(0)
        values = progress_of(self._step, self._total, self._samples)
        content = json.dumps(dict(values, notes=self._notes, updated=time.time())).encode("ascii")
        with contextlib.suppress(OSError):
            directory, name = beside(self._path)
            with directory:
                directory.replace(name, content, sync=False, temporary=name + ".new")

    def end(self) -> None:
        """Remove the file."""
        if self._path:
            for path in (self._path, self._path + ".new"):
                with contextlib.suppress(OSError):
                    os.unlink(path)


def progress_of(step: str, total: int | None, samples: list[tuple[float, int]]) -> dict[str, object]:
    """Return the fields of the file but ``updated``. ``samples`` are (seconds, bytes), the latest last."""
    (first, before), (last, done) = samples[0], samples[-1]
    rate = (done - before) / (last - first) if last > first else None
    # A total is an estimate: what exceeds it has no time left that is known.
    left = (total - done) / rate if total and rate and total > done else None
    return {"step": step, "bytes": done, "total": total, "rate": rate, "seconds_left": left}


def bytes_below(folder: str) -> int:
    """Return the size of all files below a directory that another program is writing."""
    size = 0
    for path, _folders, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(path, name)).st_size
    return size
