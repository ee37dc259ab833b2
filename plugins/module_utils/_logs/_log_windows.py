# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the newest part of a log, back to a point in time or to a budget. Private to this collection.

A log is a chain of pieces, the newest first: the file that is written to, then those it was rotated to; or what an
engine or a journal has told, in memory. A piece is searched by its times for the windows that are wanted, so that what
is older is never read, and is then read backwards by blocks: what was written last is read first. Memory stays
constant, however long a line is.
"""

from __future__ import annotations

import os
import time

# Bytes of a block: small ones where the last took long, so that the deadline is kept, for whoever counts them takes
# a thousand times as long for an error as for another line.
SMALLEST, BLOCK = 1 << 15, 1 << 18
SLOW_SECONDS, FAST_SECONDS = 0.1, 0.03
# What is read of the start of a line that is longer than a block.
HEAD = 4096
# The bytes that are looked through for a line with a time, when a piece is searched.
STRIDE = 1 << 16
MOST_UNDATED = 4 << 20


class Memory:
    """A piece that is held in memory."""

    first = 0

    def __init__(self, data, time_of):
        self.data = data
        self.size = len(data)
        self.time_of = time_of

    def read(self, start, end):
        return self.data[start:end]

    def close(self):
        pass


class File:
    """A piece that is a file. What is written to it, or renamed, after it was opened is of no concern."""

    def __init__(self, path, time_of):
        self.path = path
        self.time_of = time_of
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(self.descriptor)
        self.size = status.st_size
        self.modified = status.st_mtime
        self.first = self._first()
        self.identity = (status.st_dev, status.st_ino)

    def _first(self):
        """Where its data begins: one that was truncated while a program went on writing begins with a hole."""
        try:
            return os.lseek(self.descriptor, 0, os.SEEK_DATA)
        except OSError:
            return 0

    def read(self, start, end):
        """The bytes from start to end; fewer where the file was truncated meanwhile."""
        return os.pread(self.descriptor, end - start, start)

    def close(self):
        os.close(self.descriptor)


def shifted(time_of, seconds):
    """``time_of`` for a program whose clock is set to another zone."""

    def shift(line):
        moment = time_of(line)
        return None if moment is None else moment + seconds

    return shift if seconds else time_of


def dated(piece, start, end):
    """``(offset, time)`` of the first line that begins in ``[start, end)`` and says its time; null for none.

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


def since(piece, moment):
    """The offset of the first line of ``moment`` or later.

    ``size`` where there is none, null where no line says its time.
    Lines are taken to be in the order of their times.
    """
    first = dated(piece, piece.first, piece.size)
    if first is None:
        return None if piece.size else 0
    if first[1] >= moment:
        return piece.first
    low, high = first[0], piece.size
    while high - low > 1:
        middle = (low + high) // 2
        found = dated(piece, middle, high)
        if found is None:
            high = middle
        elif found[1] < moment:
            low = found[0]
        else:
            high = middle
    found = dated(piece, low, piece.size)
    while found and found[1] < moment:
        found = dated(piece, found[0] + 1, piece.size)
    return found[0] if found else piece.size


def newest(piece):
    """The time of the last line that says one, among the last bytes of a piece."""
    last, found = None, dated(piece, max(0, piece.size - STRIDE), piece.size)
    while found:
        last = found[1]
        found = dated(piece, found[0] + 1, piece.size)
    return last


class Span:
    """The part ``[start, end)`` of a piece that belongs to one window."""

    def __init__(self, piece, start, end):
        self.piece = piece
        self.start = start
        self.end = end

    @property
    def size(self):
        return self.end - self.start


def spans(pieces, previous, current):
    """``(spans of the current window, spans of the one before, whether the chain reaches back far enough)``.

    ``pieces`` are the newest first; ``previous`` and ``current`` are when the windows begin. Raises Undated.
    """
    now, before = [], []
    for piece in pieces:
        begin = since(piece, current)
        if begin is None:
            raise Undated("its lines say no time that is understood")
        now.append(Span(piece, begin, piece.size))
        if begin <= piece.first:
            earlier = piece.first
        else:
            earlier = since(piece, previous)
            before.append(Span(piece, earlier, begin))
        if earlier > piece.first:
            return now, before, True
    return now, before, False


class Undated(Exception):
    """A log whose lines cannot be sorted into windows."""


class Reader:
    """Reads spans backwards by blocks of whole events, within a budget of bytes and until a deadline.

    ``joins(line)`` says whether a line goes on from the one before it: a block does not begin with such a line.
    ``is_partial(line)`` says whether the line after it is the rest of it, by how it ends.
    ``done`` counts what of the spans is behind us, ``read`` what was read for it: the head of a block that belongs to
    the block before is read twice.
    """

    def __init__(self, budget, deadline, joins, is_partial=lambda line: False):
        self.budget = budget
        self.deadline = deadline
        self.joins = joins
        self.is_partial = is_partial
        self.block = 1 << 16
        self.read = 0
        self.done = 0
        self.truncated = False
        # Where it stopped short of the end, as (piece, offset).
        self.stopped = None

    def blocks(self, chain):
        """The blocks of a chain of spans, the newest first; stops where the budget or the time is used up."""
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
                # Without any start of a line, it is the middle of one that is longer than a block. Its start is next,
                # with so much of it that its level can be told.
                beyond = HEAD if skip is None else 0
                if skip is not None:
                    began = time.monotonic()
                    yield block[skip:] if skip else block
                    self._adapt(time.monotonic() - began)

    def _adapt(self, seconds):
        if seconds > SLOW_SECONDS:
            self.block = max(SMALLEST, self.block // 2)
        elif seconds < FAST_SECONDS:
            self.block = min(BLOCK, self.block * 2)

    def _first_event(self, block):
        """Where the first event of a block begins, null for nowhere. What is before it belongs to the block before."""
        first, before = None, 0
        at = block.find(b"\n", 0, len(block) - 1) + 1
        for _line in range(300):
            if not at:
                break
            if not self.is_partial(block[before : at - 1]):
                if not self.joins(block[at : at + 300]):
                    return at
                first = first or at
            before, at = at, block.find(b"\n", at, len(block) - 1) + 1
        return first
