# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the newest part of a log, back to a point in time or to a budget of bytes. Private to this collection.

A log is a chain of pieces, newest first: the current file, then the rotated ones; or text in memory from the Docker
engine or the journal. A binary search over the times in a piece finds the windows, so older parts are not read. The
windows are then read backwards in blocks, newest first. Memory is bounded, however long a line is.
"""

from __future__ import annotations

import os
import time
from typing import Callable, Iterable, Iterator, NamedTuple, Optional, Protocol, Sequence, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

# Returns the time that a line holds in epoch seconds; null for none.
TimeOf = Callable[[bytes], Optional[float]]
# Offset and time of a line.
DatedLine = Tuple[int, float]

# Bytes of a block. Blocks shrink if the last one took long, so that the deadline holds: counting an error takes a
# thousand times as long as counting another line.
SMALLEST, BLOCK = 1 << 15, 1 << 18
SLOW_SECONDS, FAST_SECONDS = 0.1, 0.03
# Bytes that are read of the start of a line that is longer than a block.
HEAD = 4096
# Bytes per step, and at most, in the search for a line with a time.
STRIDE = 1 << 16
MOST_UNDATED = 4 << 20


class Piece(Protocol):
    """A part of a log. ``first`` is the offset of its first byte, ``size`` that after its last."""

    first: int
    size: int
    time_of: TimeOf

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` to ``end``, offsets as in ``first`` and ``size``."""

    def close(self) -> None:
        """Release the file, if it is one."""


class Memory:
    """A piece in memory."""

    def __init__(self, data: bytes, time_of: TimeOf) -> None:
        self.data = data
        self.first = 0
        self.size = len(data)
        self.time_of = time_of

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` to ``end``."""
        return self.data[start:end]

    def close(self) -> None:
        """Do nothing: there is no file."""


class File:
    """A piece that is a file. What is appended after it was opened is ignored, and so is a rename."""

    def __init__(self, path: str, time_of: TimeOf) -> None:
        self.path = path
        self.time_of = time_of
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(self.descriptor)
        self.size = status.st_size
        self.modified = status.st_mtime
        self.first = self._first()
        self.identity = (status.st_dev, status.st_ino)

    def _first(self) -> int:
        """Return where the data begins: after a hole if the file was truncated while a program kept writing."""
        try:
            return os.lseek(self.descriptor, 0, os.SEEK_DATA)
        except OSError:
            return 0

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from start to end; fewer if the file was truncated meanwhile."""
        return os.pread(self.descriptor, end - start, start)

    def close(self) -> None:
        """Close the descriptor of the file."""
        os.close(self.descriptor)


def shifted(time_of: TimeOf, seconds: float) -> TimeOf:
    """Return ``time_of`` for a program in another time zone."""

    def shift(line: bytes) -> float | None:
        moment = time_of(line)
        return None if moment is None else moment + seconds

    return shift if seconds else time_of


def first_dated(piece: Piece, start: int, end: int) -> DatedLine | None:
    """Return the first line with a time that begins in ``[start, end)``; null for none.

    ``start`` need not be the start of a line, unless it is 0.
    """
    position, rest = start, b""
    skip = start > 0
    limit = min(end, start + MOST_UNDATED)
    while position < limit:
        block = piece.read(position, min(position + STRIDE, piece.size))
        if not block:
            return None
        base = position - len(rest)
        data = rest + block
        lines = data.split(b"\n")
        rest = lines.pop()
        if position + len(block) >= piece.size:
            lines.append(rest)
        offset = base
        for line in lines:
            if skip:
                skip = False
            elif offset < end:
                moment = piece.time_of(line)
                if moment is not None:
                    return offset, moment
            offset += len(line) + 1
        position += len(block)
    return None


def offset_of(piece: Piece, moment: float) -> int | None:
    """Return the offset of the first line at ``moment`` or later, by binary search.

    ``size`` if there is none, null if no line has a time. Lines are assumed to be in the order of their times.
    """
    first = first_dated(piece, piece.first, piece.size)
    if first is None:
        return None if piece.size else 0
    if first[1] >= moment:
        return piece.first
    low, high = first[0], piece.size
    while high - low > 1:
        middle = (low + high) // 2
        found = first_dated(piece, middle, high)
        if found is None:
            high = middle
        elif found[1] < moment:
            low = found[0]
        else:
            high = middle
    found = first_dated(piece, low, piece.size)
    while found and found[1] < moment:
        found = first_dated(piece, found[0] + 1, piece.size)
    return found[0] if found else piece.size


def newest_time(piece: Piece) -> float | None:
    """Return the time of the last line that has one, within the last ``STRIDE`` bytes of a piece."""
    last, found = None, first_dated(piece, max(0, piece.size - STRIDE), piece.size)
    while found:
        last = found[1]
        found = first_dated(piece, found[0] + 1, piece.size)
    return last


class Span(NamedTuple):
    """The part ``[start, end)`` of a piece that belongs to one window."""

    piece: Piece
    start: int
    end: int

    @property
    def size(self) -> int:
        """Its number of bytes."""
        return self.end - self.start


def spans(pieces: Sequence[Piece], previous: float, current: float) -> tuple[list[Span], list[Span], bool]:
    """Return the spans of the current window, those of the one before, and whether the log reaches back that far.

    ``pieces`` are newest first; ``previous`` and ``current`` are the beginnings of the windows. Raises Undated.
    """
    now, before = [], []
    for piece in pieces:
        begin = offset_of(piece, current)
        if begin is None:
            raise Undated("its lines have no time in a known format")
        now.append(Span(piece, begin, piece.size))
        if begin <= piece.first:
            earlier = piece.first
        else:
            # Not null: the piece has a line with a time.
            earlier = offset_of(piece, previous) or 0
            before.append(Span(piece, earlier, begin))
        if earlier > piece.first:
            return now, before, True
    return now, before, False


class Undated(Exception):
    """A log whose lines cannot be assigned to windows."""


class Reader:
    """Reads spans backwards in blocks of whole events, within a budget of bytes and a deadline.

    ``continues(line)`` returns whether a line belongs to the event before it: no block begins with such a line.
    ``is_partial(line)`` returns whether the next line is the rest of this one.
    ``done`` counts the bytes of the spans that are finished, ``read`` those that were read: the start of a block that
    belongs to the block before it is read twice.
    """

    def __init__(
        self,
        budget: int,
        deadline: Deadline,
        continues: Callable[[bytes], bool],
        is_partial: Callable[[bytes], bool] = lambda line: False,
    ) -> None:
        self.budget = budget
        self.deadline = deadline
        self.continues = continues
        self.is_partial = is_partial
        self.block = 1 << 16
        self.read = 0
        self.done = 0
        self.truncated = False
        # Piece and offset at which it stopped early; null if it read everything.
        self.stopped: tuple[Piece, int] | None = None

    def blocks(self, chain: Iterable[Span]) -> Iterator[bytes]:
        """Yield the blocks of a chain of spans, newest first, until the budget or the time is used up."""
        for span in chain:
            end, beyond = span.end, 0
            while end > span.start:
                if self.done >= self.budget or self.deadline.expired():
                    self.stopped = (span.piece, end)
                    return
                begin = max(span.start, end - min(self.block, self.budget - self.done))
                block = span.piece.read(begin, min(end + beyond, span.end))
                self.read += end - begin
                if len(block) < end - begin:
                    self.truncated = True
                    self.stopped = (span.piece, end)
                    return
                skip = 0 if begin == span.start else self._first_event(block)
                self.done += end - begin - (skip or 0)
                end = begin + (skip or 0)
                # Without the start of a line, the block is the middle of a long one. The next block holds its start,
                # and is read with enough of the line to find its level.
                beyond = HEAD if skip is None else 0
                if skip is not None:
                    began = time.monotonic()
                    yield block[skip:] if skip else block
                    self._adapt(time.monotonic() - began)

    def _adapt(self, seconds: float) -> None:
        if seconds > SLOW_SECONDS:
            self.block = max(SMALLEST, self.block // 2)
        elif seconds < FAST_SECONDS:
            self.block = min(BLOCK, self.block * 2)

    def _first_event(self, block: bytes) -> int | None:
        """Return the offset of the first event; null for none. What is before it belongs to the block before."""
        first, before = None, 0
        at = block.find(b"\n", 0, len(block) - 1) + 1
        for _line in range(300):
            if not at:
                break
            if not self.is_partial(block[before : at - 1]):
                if not self.continues(block[at : at + 300]):
                    return at
                first = first or at
            before, at = at, block.find(b"\n", at, len(block) - 1) + 1
        return first
