# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counts the events of one log: by level, by signature, and by what is known of them. Private to this collection."""

from __future__ import annotations

import json
import re

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_levels, _log_signatures, _log_times
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable

CURRENT, PREVIOUS = 0, 1
# Kinds of events kept apart in one log; the rest is counted together.
MOST_SIGNATURES = 1000
OTHERS = "(other kinds of events)"
# Lines that are looked back through for the time of one that says none.
LOOK_BACK = 50

ENDS = b'\\n","stream":"'
ENTRY = re.compile(rb'^\{"log":"((?:[^"\\]|\\.)*)')
DIGITS = re.compile(r"\d+")


class Engine:
    """How the engine's json-file driver writes lines: each in JSON, one of more than 16 KiB in several entries."""

    time_of = staticmethod(_log_times.of_engine)

    @staticmethod
    def text(raw):
        # Also of an entry whose end is missing.
        found = ENTRY.match(raw[: 4 * _log_signatures.LINE_LENGTH])
        try:
            text = json.loads('"%s"' % found.group(1).decode("utf-8", "replace")) if found else ""
        except ValueError:
            text = ""
        return _log_signatures.shortened((text or raw.decode("utf-8", "replace")).rstrip("\r\n"))

    @staticmethod
    def count(block):
        # The rest of a long line may lie beyond.
        last = block[block.rfind(b"\n", 0, len(block) - 1) + 1 :]
        return block.count(ENDS) + Engine.is_partial(last)

    @staticmethod
    def is_partial(raw):
        """Whether the entry after this one goes on with its line."""
        return ENDS not in raw


class Text:
    """Lines as a program wrote them."""

    time_of = staticmethod(_log_times.of_text)

    @staticmethod
    def text(raw):
        return _log_signatures.shortened(raw).decode("utf-8", "replace").rstrip("\r\n")

    @staticmethod
    def count(block):
        return block.count(b"\n") + (not block.endswith(b"\n"))

    @staticmethod
    def is_partial(raw):
        return False


class Stamped(Text):
    """Lines with their time in epoch seconds before them, as we write down what an engine or a journal has told."""

    @staticmethod
    def time_of(line):
        try:
            return float(line[: line.index(b" ")])
        except ValueError:
            return None

    @staticmethod
    def text(raw):
        return Text.text(raw.partition(b" ")[2])


LOOK_CLOSER = [re.compile(pattern.encode()) for pattern in _log_levels.LOOK_CLOSER]


class Tally:
    """The counts of one log over two windows."""

    def __init__(self, form, known=(), progress=None, sample_length=300):
        self.form = form
        # Patterns of events that mean something, the first that fits counts.
        self.patterns = known
        self.progress = progress
        self.sample_length = sample_length
        self.lines = [0, 0]
        self.levels = [dict.fromkeys(_log_levels.COUNTED, 0), dict.fromkeys(_log_levels.COUNTED, 0)]
        self.completed = [0, 0]
        self.groups = {}
        self.known = {}
        self._by_text = {}

    def joins(self, raw):
        """Whether a line, of which this is the start, goes on from the one before it."""
        return _log_signatures.joins(self.form.text(raw))

    def feed(self, block, window):
        """Count the events of a block of whole lines."""
        self.lines[window] += self.form.count(block)
        if self.progress:
            self.completed[window] += lines_with(self.progress, block)
        taken = 0
        lowered = block.lower()
        places = sorted(found.start() for pattern in LOOK_CLOSER for found in pattern.finditer(lowered))
        for place in places:
            if place >= taken:
                taken = self._event(block, block.rfind(b"\n", 0, place) + 1, window)

    def _event(self, block, start, window):
        """Count the event whose line begins at ``start``; returns where the next one may begin."""
        end = _line_end(block, start)
        before = block.rfind(b"\n", 0, max(0, start - 1)) + 1
        if start and self.form.is_partial(block[before : start - 1]):
            return end
        first = printable(self.form.text(block[start:end]))
        level, message = _log_levels.read(first)
        if level not in _log_levels.COUNTED or (first[:1] in (" ", "\t") and self._has_head(block, start)):
            return end
        ends = [end]
        lines, exception = _log_signatures.fold(first, self._following(block, ends), headed)
        # The generator is one line ahead of what belongs to the event.
        taken = ends[len(lines) - 1]
        if "\n" in message:
            # A structured line carries its traceback in a field.
            lines = message.split("\n")[: _log_signatures.EVENT_LINES]
            lines, exception = _log_signatures.fold(lines[0], iter(lines[1:]), headed)
        moment = self._time(block, start)
        self.levels[window][level] += 1
        group, number = self._kind(level, exception or message, lines, exception)
        group["counts"][window] += 1
        if window == CURRENT:
            widen(group, moment)
            if number is not None:
                self.known[number]["count"] += 1
                widen(self.known[number], moment)
        return taken

    def _has_head(self, block, start):
        """Whether the line that begins at ``start``, which is indented, goes on from one that says its level.

        That one has been counted, or is none that counts, as PostgreSQL's STATEMENT.
        """
        for _line in range(LOOK_BACK):
            if not start:
                return False
            start = block.rfind(b"\n", 0, start - 1) + 1
            line = printable(self.form.text(block[start : _line_end(block, start)]))
            if line[:1] not in (" ", "\t"):
                return _log_levels.says_level(line)
        return False

    def _following(self, block, ends):
        at = ends[0]
        while at < len(block):
            end = _line_end(block, at)
            ends.append(end)
            yield printable(self.form.text(block[at:end].rstrip(b"\n")))
            at = end

    def _kind(self, level, message, lines, exception):
        """``(the group of events like this one, the number of the pattern that knows them or null)``."""
        key = (level, DIGITS.sub("0", message))
        if key in self._by_text:
            return self._by_text[key]
        name = _log_signatures.signature(message) if len(self.groups) < MOST_SIGNATURES else OTHERS
        if (level, name) not in self.groups:
            self.groups[(level, name)] = {
                "level": level,
                "signature": name,
                "counts": [0, 0],
                "first": None,
                "last": None,
                "sample": _log_signatures.sample(lines, exception, self.sample_length),
            }
        whole = "\n".join(lines)
        number = next((number for number, pattern in enumerate(self.patterns) if pattern.search(whole)), None)
        if number is not None and number not in self.known:
            line = next((line for line in lines if self.patterns[number].search(line)), lines[0])
            shown = _log_signatures.sample([line], None, self.sample_length)
            self.known[number] = {"count": 0, "first": None, "last": None, "sample": shown}
        if len(self._by_text) < 20 * MOST_SIGNATURES:
            self._by_text[key] = self.groups[(level, name)], number
        return self.groups[(level, name)], number

    def _time(self, block, start):
        """When the line that begins at ``start`` was written; where it says none, when the one before it was."""
        for _line in range(LOOK_BACK):
            moment = self.form.time_of(block[start : _line_end(block, start)].rstrip(b"\n"))
            if moment is not None or not start:
                return moment
            start = block.rfind(b"\n", 0, start - 1) + 1
        return None


def headed(line):
    """Whether a line says its level or its time, and so begins an event."""
    # Most lines say their time, and that is found at once.
    return _log_times.is_dated(line) or _log_levels.says_level(line)


def widen(entry, moment):
    """Stretch ``first`` and ``last`` so that they hold ``moment``."""
    if moment is not None:
        entry["first"] = moment if entry["first"] is None else min(moment, entry["first"])
        entry["last"] = moment if entry["last"] is None else max(moment, entry["last"])


def lines_with(pattern, block):
    """How many lines of a block hold a pattern."""
    count, found = 0, pattern.search(block)
    while found:
        count += 1
        end = block.find(b"\n", found.end())
        if end < 0:
            break
        found = pattern.search(block, end)
    return count


def _line_end(block, start):
    """Where the line after the one that begins at ``start`` begins."""
    end = block.find(b"\n", start)
    return len(block) if end < 0 else end + 1
