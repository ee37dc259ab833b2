# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counts the events of one log by level, by signature and by known message. Private to this collection."""

from __future__ import annotations

import json
import re
from typing import Collection, Iterator, Pattern, Sequence, Type, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_levels, _log_signatures, _log_times
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_health_checks import Allowance
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_known import Messages
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_series import Histogram, Series
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable

CURRENT, PREVIOUS = 0, 1
# Signatures of one log that are counted apart; all others are counted as OTHERS.
MOST_SIGNATURES = 1000
OTHERS = "(other kinds of events)"
# Lines before a line that are searched for its time or its head.
LOOK_BACK = 50

# The end of a line in an entry of the json-file driver.
ENDS = b'\\n","stream":"'
ENTRY = re.compile(rb'^\{"log":"((?:[^"\\]|\\.)*)')
DIGITS = re.compile(r"\d+")
# The address and port of a client; the first in a message.
PEER = re.compile(r"(?<!laddr=)(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:]{3,45}\]):\d{1,5}\b")
MOST_PEERS = 5
# Values of each group of a known message.
MOST_NAMES = 10
# PostgreSQL writes what belongs to a message in further lines with a time. Its statement has values of users.
CONTEXT = re.compile(r"^.{0,120}?\b(?:DETAIL|HINT|CONTEXT):  ")
CONTEXT_LINES = 3
# Python shows where it is above it, without a traceback if the program itself cannot be compiled.
UNCOMPILED = re.compile(r"(?:SyntaxError|IndentationError|TabError): ")
LOCATION_LINES = 5


class Text:
    """Lines as a program writes them. A form parses time and text of a line, and counts the lines of a block."""

    @staticmethod
    def time_of(line: bytes) -> float | None:
        """Return the time of a line in epoch seconds; null if it has none."""
        return _log_times.of_text(line)

    @staticmethod
    def text(raw: bytes) -> str:
        """Return the text of a line without its end, shortened; bytes that are not UTF-8 are replaced."""
        return _log_signatures.shorten(raw).decode("utf-8", "replace").rstrip("\r\n")

    @staticmethod
    def count(block: bytes) -> int:
        """Return the number of lines in a block, which ends with a line or with the end of the log."""
        return block.count(b"\n") + (not block.endswith(b"\n"))

    @staticmethod
    def is_partial(raw: bytes) -> bool:
        """Return whether the next line is the rest of this one."""
        return False


class Stamped(Text):
    """Lines that begin with epoch seconds, as this collection writes those of the engine's API and of the journal."""

    @staticmethod
    def time_of(line: bytes) -> float | None:
        try:
            return float(line[: line.index(b" ")])
        except ValueError:
            return None

    @staticmethod
    def text(raw: bytes) -> str:
        return Text.text(raw.partition(b" ")[2])


class Engine(Text):
    """Entries of the engine's json-file driver: a line each, or several entries for a line of more than 16 KiB."""

    @staticmethod
    def time_of(line: bytes) -> float | None:
        return _log_times.of_engine(line)

    @staticmethod
    def text(raw: bytes) -> str:
        # Matches an entry whose end is missing, too.
        found = ENTRY.match(raw[: 4 * _log_signatures.LINE_LENGTH])
        try:
            text = json.loads('"%s"' % found.group(1).decode("utf-8", "replace")) if found else ""
        except ValueError:
            text = ""
        return _log_signatures.shorten((text or raw.decode("utf-8", "replace")).rstrip("\r\n"))

    @staticmethod
    def count(block: bytes) -> int:
        # The rest of a long line may be in the next block.
        last = block[block.rfind(b"\n", 0, len(block) - 1) + 1 :]
        return block.count(ENDS) + Engine.is_partial(last)

    @staticmethod
    def is_partial(raw: bytes) -> bool:
        return ENDS not in raw


Form = Type[Text]


class Group(TypedDict):
    """Events with one signature.

    ``counts`` are those of the two windows, ``known`` is the number of the known message of the first of them.
    """

    level: str
    signature: str
    counts: list[int]
    times: Series
    known: int | None
    example: str
    sample: str


class Known(TypedDict):
    """Events that match one known pattern. ``peers`` are the addresses of the clients, if probes cause them.

    ``names`` are what the groups of the pattern match, by the name of the group.
    """

    counts: list[int]
    times: Series
    sample: str
    peers: set[str]
    names: dict[str, set[str]]


CANDIDATES = [re.compile(pattern.encode()) for pattern in _log_levels.CANDIDATES]


class Tally:
    """The counts of one log over two windows."""

    def __init__(
        self,
        form: Form,
        known: Messages | None = None,
        progress: Pattern[bytes] | None = None,
        sample_length: int = 300,
        seconds: tuple[float, float] = (900.0, 900.0),
        probes: Collection[int] = (),
        checks: Sequence[Allowance] = (),
    ) -> None:
        self.form = form
        # Patterns of known messages; the first that matches counts.
        self.messages = known or Messages()
        # Numbers of those that monitors and health checks cause, and health checks that cause errors in this log.
        self.probes = probes
        self.checks = checks
        self.progress = progress
        self.sample_length = sample_length
        self.lines = [0, 0]
        self.levels = [dict.fromkeys(_log_levels.COUNTED, 0), dict.fromkeys(_log_levels.COUNTED, 0)]
        self.completed = [0, 0]
        # Times of the errors: of both windows, and of each.
        self.times = Series()
        self.histograms = [Histogram(each) for each in seconds]
        self._block = 0
        # By level and signature.
        self.groups: dict[tuple[str, str], Group] = {}
        # By the number of the pattern.
        self.known: dict[int, Known] = {}
        # By the number of the health check.
        self.explained: dict[int, Known] = {}
        # Group and pattern by level and message, as a cache.
        self._by_text: dict[tuple[str, str], tuple[Group, int | None]] = {}

    def continues(self, raw: bytes) -> bool:
        """Return whether a line, of which this is the start, continues the event before it."""
        return _log_signatures.continues_event(self.form.text(raw))

    def feed(self, block: bytes, window: int) -> None:
        """Count the events of a block of whole lines."""
        self._block += 1
        self.lines[window] += self.form.count(block)
        if self.progress:
            self.completed[window] += count_lines(self.progress, block)
        taken = 0
        lowered = block.lower()
        for at in sorted(found.start() for pattern in CANDIDATES for found in pattern.finditer(lowered)):
            if at >= taken:
                taken = self._count_event(block, block.rfind(b"\n", 0, at) + 1, window)

    def _count_event(self, block: bytes, start: int, window: int) -> int:
        """Count the event whose line begins at ``start``. Return where the next one may begin."""
        end = _line_end(block, start)
        before = block.rfind(b"\n", 0, max(0, start - 1)) + 1
        if start and self.form.is_partial(block[before : start - 1]):
            return end
        first = printable(self.form.text(block[start:end]))
        level, message = _log_levels.read(first)
        if level not in _log_levels.COUNTED or (first[:1] in (" ", "\t") and self._has_head(block, start)):
            return end
        ends = [end]
        lines, exception = _log_signatures.collect(first, self._following(block, ends), begins_event)
        # The generator is one line ahead of the event.
        taken = ends[len(lines) - 1]
        if UNCOMPILED.match(first):
            lines.append(self._location(block, start))
        if "\n" in message:
            # A structured line holds its traceback in a field.
            lines = message.split("\n")[: _log_signatures.EVENT_LINES]
            lines, exception = _log_signatures.collect(lines[0], lines[1:], begins_event)
        message = _log_signatures.whole_message(message, lines)
        moment = self._time(block, start)
        for position, check in enumerate(self.checks):
            if check.explains(first, moment):
                entry = self.explained.setdefault(position, self._known(first))
                self._count(entry, moment, window)
                return taken
        group, number = self._group(level, exception or message, lines, exception, self._context(block, taken))
        if number in self.probes and number is not None:
            entry = self.known[number]
            found = PEER.search(message) if len(entry["peers"]) < MOST_PEERS else None
            entry["peers"].update(found.groups() if found else ())
            self._count(entry, moment, window)
            return taken
        self.levels[window][level] += 1
        if level != _log_levels.WARNING:
            self.times.add(moment, self._block, window == CURRENT)
            self.histograms[window].add(moment)
        self._count(group, moment, window)
        if number is not None:
            self._count(self.known[number], moment, window)
        return taken

    def _count(self, entry: Group | Known, moment: float | None, window: int) -> None:
        entry["counts"][window] += 1
        entry["times"].add(moment, self._block, window == CURRENT)

    def _known(self, line: str) -> Known:
        shown = _log_signatures.sample([line], None, self.sample_length)
        return {"counts": [0, 0], "times": Series(), "sample": shown, "peers": set(), "names": {}}

    def _location(self, block: bytes, start: int) -> str:
        """Return the line with file and number before the source text that Python shows above a SyntaxError."""
        for _line in range(LOCATION_LINES):
            if not start:
                break
            start = block.rfind(b"\n", 0, start - 1) + 1
            line = printable(self.form.text(block[start : _line_end(block, start)]))
            if line.startswith("  File "):
                return line
        return ""

    def _has_head(self, block: bytes, start: int) -> bool:
        """Return whether the indented line that begins at ``start`` continues a line with a level.

        That line is counted already, or does not count, such as PostgreSQL's STATEMENT.
        """
        for _line in range(LOOK_BACK):
            if not start:
                return False
            start = block.rfind(b"\n", 0, start - 1) + 1
            line = printable(self.form.text(block[start : _line_end(block, start)]))
            if line[:1] not in (" ", "\t"):
                return _log_levels.has_level(line)
        return False

    def _following(self, block: bytes, ends: list[int]) -> Iterator[str]:
        """Yield the lines after ``ends[0]``, and append the end of each to ``ends``."""
        at = ends[0]
        while at < len(block):
            end = _line_end(block, at)
            ends.append(end)
            yield printable(self.form.text(block[at:end].rstrip(b"\n")))
            at = end

    def _context(self, block: bytes, start: int) -> list[str]:
        """Return the lines from ``start`` that belong to the message before them."""
        found: list[str] = []
        while start < len(block) and len(found) < CONTEXT_LINES:
            end = _line_end(block, start)
            # To decode the line after each event would cost a seventh of all time.
            if block.find(b":  ", start, end) < 0:
                break
            line = printable(self.form.text(block[start:end]))
            if not CONTEXT.match(line):
                break
            found.append(line)
            start = end
        return found

    def _group(
        self, level: str, message: str, lines: Sequence[str], exception: str | None, context: Sequence[str]
    ) -> tuple[Group, int | None]:
        """Return the group of an event, and the number of the known pattern that matches it or null.

        ``context`` are further lines in which known patterns are searched.
        """
        key = (level, DIGITS.sub("0", "\n".join([message, *context])))
        if key in self._by_text:
            return self._by_text[key]
        name = _log_signatures.signature(message) if len(self.groups) < MOST_SIGNATURES else OTHERS
        searched = [*lines, *context]
        number = self.messages.first_match("\n".join(searched))
        if (level, name) not in self.groups:
            self.groups[(level, name)] = {
                "level": level,
                "signature": name,
                "counts": [0, 0],
                "times": Series(),
                "known": number,
                "example": _log_signatures.example(message, _log_levels.details(lines[0])),
                "sample": _log_signatures.sample(lines, exception, self.sample_length),
            }
        if number is not None:
            if number not in self.known:
                self.known[number] = self._known(self.messages.line_of(number, searched))
            self._note_names(self.known[number]["names"], number, "\n".join(searched))
        if len(self._by_text) < 20 * MOST_SIGNATURES:
            self._by_text[key] = self.groups[(level, name)], number
        return self.groups[(level, name)], number

    def _note_names(self, names: dict[str, set[str]], number: int, text: str) -> None:
        """Add what the groups of a known pattern match in an event."""
        for group, value in self.messages.names(number, text).items():
            values = names.setdefault(group, set())
            if len(values) < MOST_NAMES:
                values.add(_log_signatures.sample([value], None, self.sample_length))

    def _time(self, block: bytes, start: int) -> float | None:
        """Return the time of the line that begins at ``start``, or that of the line before it."""
        for _line in range(LOOK_BACK):
            moment = self.form.time_of(block[start : _line_end(block, start)].rstrip(b"\n"))
            if moment is not None or not start:
                return moment
            start = block.rfind(b"\n", 0, start - 1) + 1
        return None


def begins_event(line: str) -> bool:
    """Return whether a line has a time or a level."""
    # The time first: most lines have one, and the search is fast.
    return _log_times.is_dated(line) or _log_levels.has_level(line)


def count_lines(pattern: Pattern[bytes], block: bytes) -> int:
    """Return the number of lines of a block that match a pattern."""
    count, found = 0, pattern.search(block)
    while found:
        count += 1
        end = block.find(b"\n", found.end())
        if end < 0:
            break
        found = pattern.search(block, end)
    return count


def _line_end(block: bytes, start: int) -> int:
    """Return the offset of the line after the one that begins at ``start``."""
    end = block.find(b"\n", start)
    return len(block) if end < 0 else end + 1
