# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collects the lines of events, and derives their signatures. Private to this collection.

Events have the same signature if they are equal once times, numbers, addresses and paths are masked. A traceback is one
event; its signature is the line that names the exception.
"""

from __future__ import annotations

import re
from typing import AnyStr, Callable, Iterable, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

SIGNATURE_LENGTH = 160
# Limits: characters of a line, lines and characters of an event.
LINE_LENGTH = 2000
EVENT_LINES = 400
EVENT_LENGTH = 8000
# Lines of an event that belong to it only because they follow it.
BARE_LINES = 30

MASKS = tuple(
    (re.compile(pattern), mask)
    for pattern, mask in (
        (r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?\s?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)?", "<time>"),
        (r"\d\d[/ ][A-Z][a-z]{2}[/ ]\d{4}[: ]\d\d:\d\d:\d\d(?:\.\d+)?(?: [+-]\d{4})?", "<time>"),
        (r"\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d\b", "<time>"),
        # Erlang's processes
        (r"<\d+\.\d+\.\d+>", "<pid>"),
        (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "<uuid>"),
        (r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?![\w.])", "<ip>"),
        (r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F]{1,4}(?![\w:])", "<ip>"),
        (r"(?<![\w<:/])(?:~|\.{1,2})?/(?:[\w.+@%=,~#-]+/)*[\w.+@%=,~#-]+/?", "<path>"),
        (r"\b0x[0-9a-fA-F]+\b|\b(?=[0-9]*[a-fA-F])(?=[a-fA-F]*[0-9])[0-9a-fA-F]{8,}\b", "<hex>"),
        (r"\d+(?:[.,]\d+)*", "<n>"),
    )
)
# The first masks are for times; a line may begin with epoch seconds.
TIMES = 3
EPOCH = re.compile(r"^[12]\d{9}(?:\.\d+)? ")
# What precedes a message: time, level, process and the like.
PREFIX = re.compile(
    r"^(?:<time>|<n>|<ip>|<pid>|\*\*\*|\[\w+ *\]|[\s,|:\[\]()-]|"
    r"(?:UTC|TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|SEVERE|CRITICAL|CRIT|FATAL|PANIC|ALERT)(?=[\s:|\]<-]))+"
)

TRACE = re.compile(
    r"^\s*(?:\+ )?(?:Exception Group )?Traceback \(most recent call last\)|^During handling of the above exception|"
    r"^The above exception was the direct cause|^Caused by: |^goroutine \d+ \[|^\s+at |^\s+\.\.\. \d+ more|"
    r"^stack backtrace:|"
    # RabbitMQ repeats time and level on each line of an event.
    r"^[\d-]{10} [\d:.+]+ \[\w+\] <\d+\.\d+\.\d+>(?:  |\s*$)"
)
# RabbitMQ writes time, level and process before each line of an event.
BROKER = re.compile(r"\d{4}-\d\d-\d\d [\d:.+]+ \[\w+\] <\d+\.\d+\.\d+> ")
# The line before a trace of Go or Rust.
PANIC = re.compile(r"(?:panic|fatal error): |thread '")
# Lines of a traceback in a frame, as structlog and rich draw it.
FRAME = ("\u256d", "\u2502", "\u2570")
BEGINS_TRACE = re.compile(r"Traceback \(most recent call last\)")
CHAINED = re.compile(r"During handling of the above exception|The above exception was the direct cause")
# In an exception group, the name follows a bar.
EXCEPTION = re.compile(r"^(?:\s+\| )?(?P<name>[A-Za-z_][\w.]*(?::\s.*)?$)", re.S)


def shorten(line: AnyStr) -> AnyStr:
    """Return the start of a line, at most ``LINE_LENGTH``, without a cut word: half a secret is not redacted."""
    if len(line) <= LINE_LENGTH:
        return line
    whole, space, _rest = line[:LINE_LENGTH].rpartition(b" " if isinstance(line, bytes) else " ")
    return whole if space else line[:LINE_LENGTH]


def continues_event(text: str) -> bool:
    """Return whether a line continues the event before it."""
    return text[:1] in (" ", "\t", *FRAME) or bool(TRACE.match(text)) or not text.strip()


def collect(first: str, following: Iterable[str], begins_event: Callable[[str], bool]) -> tuple[list[str], str | None]:
    """Return the lines of the event that begins with ``first``, and the line that names its exception or null.

    ``following`` yields the lines after it. ``begins_event(line)`` returns whether a line has a time or a level, and so
    begins an event. If ``first`` has one, or the event has a trace, lines without one belong to the event.
    """
    event = _Event(first, begins_event)
    for line in following:
        if not event.includes(line):
            break
        event.add(line)
        if len(event.lines) >= EVENT_LINES or event.size >= EVENT_LENGTH:
            break
    return event.lines, event.exception


class _Event:
    """An event, to which lines are added one by one."""

    def __init__(self, first: str, begins_event: Callable[[str], bool]) -> None:
        self.lines = [first]
        self.size = len(first)
        self.exception: str | None = None
        self.begins_event = begins_event
        broker = BROKER.match(first)
        self.repeated = broker.group() if broker else None
        # Whether it has a traceback of Python, whose last line names the exception.
        self.python = bool(BEGINS_TRACE.search(first))
        # Whether its first line is a head, and whether lines without a mark may follow now.
        self.headed = begins_event(first) or bool(PANIC.match(first))
        self.open = self.headed
        self.bare = 0

    def includes(self, line: str) -> bool:
        """Return whether the next line belongs to the event."""
        if not line.strip():
            return self.python or self.headed
        if self.repeated and line.startswith(self.repeated.rstrip()):
            return True
        if BEGINS_TRACE.search(line) and (TRACE.match(line) or line[:1] == FRAME[0]):
            # A second traceback that is not chained to the first is another event.
            return self.exception is None or any(CHAINED.search(earlier) for earlier in self.lines[-3:])
        if line[:1] in (" ", "\t", *FRAME) or TRACE.match(line):
            return True
        if self._exception_in(line):
            return True
        return self.open and self.bare < BARE_LINES and not self.begins_event(line)

    def add(self, line: str) -> None:
        """Add a line, for which ``includes()`` is true, and note the exception that it names."""
        if self.repeated and line.startswith(self.repeated):
            line = line[len(self.repeated) :]
        traced = bool(TRACE.match(line)) or line[:1] == FRAME[0]
        exception = self._exception_in(line)
        if traced and BEGINS_TRACE.search(line):
            self.python, self.exception = True, None
        elif exception:
            self.exception = exception
        # After an empty line, only an event with a head continues.
        self.open = self.headed or traced or self.exception is not None or (self.open and bool(line.strip()))
        self.bare += line[:1] not in (" ", "\t", *FRAME)
        self.lines.append(line)
        self.size += len(line)

    def _exception_in(self, line: str) -> str | None:
        """Return the exception that the line after a traceback of Python names; null for other lines."""
        if not self.python or self.exception is not None or self.lines[-1][:1] not in (" ", "\t", FRAME[2]):
            return None
        found = EXCEPTION.match(line)
        return found.group("name") if found else None


def whole_message(message: str, lines: Sequence[str]) -> str:
    """Return the message of an event: with its second line, if the first only announces that, as RabbitMQ does."""
    if len(lines) > 1 and message.endswith(":") and BROKER.match(lines[0]):
        return "%s %s" % (message, lines[1].strip())
    return message


def signature(message: str) -> str:
    """Return the message with its variable parts masked, and without its time and level."""
    text = redact(" ".join(message.split()))
    for pattern, mask in MASKS:
        text = pattern.sub(mask, text)
    return cut(PREFIX.sub("", text) or text, SIGNATURE_LENGTH)


def example(message: str, details: str = "") -> str:
    """Return the message as it is written, redacted, without its time and level.

    ``details`` follow it if the message does not contain them.
    """
    if details and details.partition("=")[2] not in message:
        message = "%s (%s)" % (message, details)
    text = EPOCH.sub("", redact(" ".join(message.split())))
    for pattern, mask in MASKS[:TIMES]:
        text = pattern.sub(mask, text, count=1)
    return cut(PREFIX.sub("", text) or text, SIGNATURE_LENGTH)


def sample(lines: Sequence[str], exception: str | None, length: int) -> str:
    """Return an event, redacted, in at most ``length`` characters: its first line, its exception and where it is."""
    text = redact("\n".join(lines))
    if exception is None:
        return cut(" ".join(text.split()), length)
    head = "" if BEGINS_TRACE.match(lines[0]) else " ".join(redact(lines[0]).split())
    tail = " ".join(redact(exception).split())
    location = next((" ".join(line.split()) for line in reversed(lines) if line.lstrip().startswith("File ")), None)
    tail = "%s [%s]" % (tail, redact(location)) if location else tail
    return cut("%s \u2026 %s" % (cut(head, length // 2), tail) if head else tail, length)
