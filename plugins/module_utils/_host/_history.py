# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps samples of earlier visits in a file on the host, if an option names one. Private to this collection.

One line of JSON for each sample: ``{"v": 1, "boot": ID, "wall": SECONDS, "up": SECONDS, "memory": {KEY: BYTES},
"files": {KEY: BYTES}}``. ``up`` is the time since boot, by the clock that cannot be set and that runs while the host
sleeps (CLOCK_BOOTTIME). A line is appended and flushed; the file is replaced, atomically, only to remove lines. If the
process is killed while it writes, it leaves an incomplete last line, which is ignored.
"""

from __future__ import annotations

import contextlib
import errno
import json
import time
from typing import Any, Iterable, List, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import Directory, Unsafe, beside

VERSION = 1
# Bounds of the file: lines, entries in one of them, and bytes. 80 processes and 60 containers are 4 KB.
MAX_SAMPLES = 300
MAX_ENTRIES = 200
MAX_KEY = 300
MAX_BYTES = 4 << 20
MAX_NUMBER = 1e18
# Lines over the bound that are accepted, so that not every visit writes the whole file.
SLACK_SAMPLES = 30
# Seconds between samples that are kept, by their age in seconds: the last hour whole, then fewer.
SPACING = ((3600, 0), (6 * 3600, 240), (2 * 86400, 1500), (14 * 86400, 3000))
# Another visit holds the lock for a few milliseconds.
LOCK_SECONDS = 2.0
# Clocks that differ by this much were set between two samples.
CLOCK_SECONDS = 60.0
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Sample(NamedTuple):
    """Values at one moment: ``memory`` of processes and containers, ``files``: used bytes of file systems, by key."""

    boot: str
    wall: float
    up: float
    memory: Mapping[str, int]
    files: Mapping[str, int]


Samples = List[Sample]


class History(NamedTuple):
    """The samples of the file in the order of time, and what is wrong with the file, one text each."""

    samples: Samples
    problems: list[str]


def now(memory: Mapping[str, int], files: Mapping[str, int]) -> Sample:
    """Return a sample of these values with the clocks of this moment."""
    return Sample(boot_id(), round(time.time(), 3), round(uptime(), 3), memory, files)


def uptime() -> float:
    """Return the seconds since boot."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def boot_id(path: str = BOOT_ID) -> str:
    """Return the id of this boot; empty if the kernel has none."""
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read(64).strip()
    except OSError:
        return ""


def visit(path: str, new: Iterable[Sample], read_only: bool = False) -> History:
    """Return the history without the ``new`` samples, and add these to the file. Never raises OSError.

    What cannot be read or written is in ``problems``; what could be read is returned nevertheless. ``read_only``: write
    nothing, not even the lock file.
    """
    history = History([], [])
    try:
        if read_only:
            _read_only(path, history)
        else:
            directory, name = beside(path, make=True)
            with directory, directory.locked(".%s.lock" % name, LOCK_SECONDS):
                _update(directory, name, list(new), history)
    except OSError as exc:
        if exc.errno == errno.EBUSY and not history.samples:
            with contextlib.suppress(OSError):
                _read_only(path, history)
        history.problems.insert(0, cut("history: %s" % (exc if isinstance(exc, Unsafe) else exc.strerror or exc), 300))
    return history


def _read_only(path: str, history: History) -> None:
    with contextlib.suppress(FileNotFoundError):
        directory, name = beside(path)
        with directory:
            _load(directory, name, history)


def _update(directory: Directory, name: str, new: Samples, history: History) -> None:
    try:
        keep = _load(directory, name, history)
    except FileNotFoundError:
        keep = True
    if not keep:
        # The file is of another version, or none of this collection: set it aside, once.
        directory.rename(name, name + ".old")
        history.problems.append("it was renamed to %s.old, and a new history begins" % name)
    lines = [encode(sample) for sample in new]
    size = directory.size(name)
    complete = keep and not history.problems
    if complete and len(history.samples) < MAX_SAMPLES + SLACK_SAMPLES and size + sum(map(len, lines)) < MAX_BYTES:
        directory.append(name, b"".join(lines))
        return
    kept = [encode(sample) for sample in retained(history.samples + new)]
    while sum(map(len, kept)) > MAX_BYTES * 3 // 4:
        kept = kept[len(kept) // 4 + 1 :]
    directory.replace(name, b"".join(kept), temporary=".%s.new" % name)


def _load(directory: Directory, name: str, history: History) -> bool:
    """Add the content of the file to ``history``; return whether it is a history of this version."""
    content = directory.tail(name, MAX_BYTES)
    samples, invalid, others = parse(content)
    history.samples.extend(samples)
    if invalid:
        history.problems.append(
            "history: %d of %d lines are damaged, and were skipped" % (invalid, invalid + len(samples))
        )
    if others:
        history.problems.append("history: %d lines are of another version (%s)" % (others[0], others[1]))
    return bool(samples or not content) and not others


def parse(content: bytes) -> tuple[Samples, int, tuple[int, str] | None]:
    """Return the samples, the number of invalid lines, and the number of lines of another version with that version."""
    samples: Samples = []
    invalid = other = 0
    version = ""
    for line in content.split(b"\n"):
        if not line.strip():
            continue
        try:
            entry = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            invalid += 1
            continue
        if isinstance(entry, dict) and "v" in entry and entry["v"] != VERSION:
            other, version = other + 1, cut(str(entry["v"]), 20)
            continue
        sample = _sample(entry)
        if sample is None:
            invalid += 1
        else:
            samples.append(sample)
    return samples, invalid, (other, version) if other else None


def _sample(entry: Any) -> Sample | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("boot"), str):
        return None
    if not all(_is_number(entry.get(name)) for name in ("wall", "up")):
        return None
    values = []
    for name in ("memory", "files"):
        table = entry.get(name)
        if not isinstance(table, dict) or len(table) > MAX_ENTRIES:
            return None
        if not all(_is_number(value) for value in table.values()):
            return None
        values.append(table)
    return Sample(entry["boot"], entry["wall"], entry["up"], values[0], values[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MAX_NUMBER


def encode(sample: Sample) -> bytes:
    """Return a sample as a line, with at most ``MAX_ENTRIES`` entries in each table."""
    tables = [
        {key[:MAX_KEY]: value for key, value in list(table.items())[:MAX_ENTRIES]}
        for table in (sample.memory, sample.files)
    ]
    entry = {"v": VERSION, "boot": sample.boot, "wall": sample.wall, "up": sample.up}
    entry.update(memory=tables[0], files=tables[1])
    return json.dumps(entry, separators=(",", ":")).encode("ascii") + b"\n"


def retained(samples: Sequence[Sample]) -> Samples:
    """Return what is kept of samples in the order of time: the last ones, and fewer of the older ones.

    The age is counted backwards from the last sample, over reboots by the wall clock, so that a clock that was set
    removes nothing.
    """
    kept: Samples = []
    age = since_kept = 0.0
    later = None
    for sample in reversed(samples):
        if later is not None:
            step = later.up - sample.up if sample.boot == later.boot else later.wall - sample.wall
            age, since_kept = age + max(0.0, step), since_kept + max(0.0, step)
        later = sample
        spacing = next((gap for most, gap in SPACING if age <= most), None)
        if spacing is None or len(kept) == MAX_SAMPLES:
            break
        if not kept or since_kept >= spacing:
            kept.append(sample)
            since_kept = 0.0
    return kept[::-1]


def timeline(samples: Sequence[Sample]) -> tuple[list[tuple[float, Sample]], list[str]]:
    """Return the samples with the seconds of one clock, and notes about reboots and clocks that were set.

    Within a boot the time is that since boot, whatever the wall clock was set to. Over a reboot only the wall clock is
    left: if it went backwards, what is earlier is left out. Samples of one moment, and of a boot id that came before
    another, are left out too.
    """
    found: list[tuple[float, Sample]] = []
    notes: list[str] = []
    reboots = 0
    for sample in samples:
        if not found:
            found.append((sample.wall, sample))
            continue
        time_before, before = found[-1]
        if sample.boot == before.boot:
            step = sample.up - before.up
            moved = sample.wall - before.wall - step
            if abs(moved) > CLOCK_SECONDS:
                notes.append("the clock of the host was set by %+d s" % moved)
        else:
            reboots += 1
            step = sample.wall - before.wall
            if step <= 0:
                notes.append("the clock of the host went backwards over a reboot: earlier samples are left out")
                found = [(sample.wall, sample)]
                continue
        if step > 0:
            found.append((time_before + step, sample))
    if reboots:
        notes.append("%d reboot%s" % (reboots, "s" if reboots > 1 else ""))
    return found, notes[-5:]
