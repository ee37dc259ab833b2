# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the events of a log have in common: their signature. Private to this collection.

Two events are of one kind where they read the same once times, numbers, addresses and paths are masked. A traceback
is one event, and its signature is its last line, which names the exception.
"""

from __future__ import annotations

import re

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

SIGNATURE_LENGTH = 160
# Characters of a line that are looked at, and lines and characters of one event.
LINE_LENGTH = 2000
EVENT_LINES = 400
EVENT_LENGTH = 8000
# Lines of one event that nothing but their place tells to be of it.
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
# What stands before a message: its time, level, process and the like.
PREFIX = re.compile(
    r"^(?:<time>|<n>|<ip>|<pid>|\*\*\*|\[\w+ *\]|[\s,|:\[\]()-]|"
    r"(?:UTC|TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|SEVERE|CRITICAL|CRIT|FATAL|PANIC|ALERT)(?=[\s:|\]<-]))+"
)

TRACE = re.compile(
    r"^\s*(?:\+ )?(?:Exception Group )?Traceback \(most recent call last\)|^During handling of the above exception|"
    r"^The above exception was the direct cause|^Caused by: |^goroutine \d+ \[|^\s+at |^\s+\.\.\. \d+ more|"
    r"^stack backtrace:|"
    # RabbitMQ writes its time and level before each line of an event.
    r"^[\d-]{10} [\d:.+]+ \[\w+\] <\d+\.\d+\.\d+>(?:  |\s*$)"
)
# Go and Rust, before they trace.
PANIC = re.compile(r"(?:panic|fatal error): |thread '")
BEGINS_TRACE = re.compile(r"Traceback \(most recent call last\)")
CHAINED = re.compile(r"During handling of the above exception|The above exception was the direct cause")
# Of a group of exceptions it stands behind a bar.
EXCEPTION = re.compile(r"^(?:\s+\| )?(?P<name>[A-Za-z_][\w.]*(?::\s.*)?$)", re.S)


def shortened(raw):
    """The start of a line, in bytes or as text, that is looked at.

    A word that is cut in two goes: half a secret does not look like one.
    """
    if len(raw) <= LINE_LENGTH:
        return raw
    whole, space, _rest = raw[:LINE_LENGTH].rpartition(b" " if isinstance(raw, bytes) else " ")
    return whole if space else raw[:LINE_LENGTH]


def joins(text):
    """Whether a line goes on from the one before it."""
    return text[:1] in (" ", "\t") or bool(TRACE.match(text)) or not text.strip()


def fold(first, following, headed):
    """``(lines of the event that begins with first, the line that names its exception or null)``.

    ``following`` gives the lines after it. ``headed(line)`` says whether a line begins an event for sure, as it says
    its time or its level: where the first does, or the event has a trace, a line that does not goes on from it.
    """
    event = _Event(first, headed)
    for line in following:
        if not event.goes_on_with(line):
            break
        event.add(line)
        if len(event.lines) >= EVENT_LINES or event.size >= EVENT_LENGTH:
            break
    return event.lines, event.exception


class _Event:
    """An event as its lines come in."""

    def __init__(self, first, headed):
        self.lines = [first]
        self.size = len(first)
        self.exception = None
        self.headed = headed
        # Whether its tracebacks are Python's, whose last line names the exception.
        self.python = bool(BEGINS_TRACE.search(first))
        self.loose = self.under_head = headed(first) or bool(PANIC.match(first))
        self.bare = 0

    def goes_on_with(self, line):
        if not line.strip():
            return self.python or self.under_head
        if BEGINS_TRACE.search(line) and TRACE.match(line):
            # One that nothing links to the one before is another event.
            return self.exception is None or any(CHAINED.search(earlier) for earlier in self.lines[-3:])
        if line[:1] in (" ", "\t") or TRACE.match(line):
            return True
        if self._names_exception(line):
            return True
        return self.loose and self.bare < BARE_LINES and not self.headed(line)

    def add(self, line):
        traced = bool(TRACE.match(line))
        if traced and BEGINS_TRACE.search(line):
            self.python, self.exception = True, None
        elif self._names_exception(line):
            self.exception = EXCEPTION.match(line).group("name")
        # After an empty line, only what is under a head goes on.
        self.loose = self.under_head or traced or self.exception is not None or (self.loose and bool(line.strip()))
        self.bare += line[:1] not in (" ", "\t")
        self.lines.append(line)
        self.size += len(line)

    def _names_exception(self, line):
        return (
            self.python
            and self.exception is None
            and self.lines[-1][:1] in (" ", "\t")
            and EXCEPTION.match(line) is not None
        )


def signature(message):
    """What all events like this one have in common."""
    text = redact(" ".join(message.split()))
    for pattern, mask in MASKS:
        text = pattern.sub(mask, text)
    return cut(PREFIX.sub("", text) or text, SIGNATURE_LENGTH)


def sample(lines, exception, length):
    """One event, redacted, in at most ``length`` characters: how it begins, and the exception it comes to."""
    text = redact("\n".join(lines))
    if exception is None:
        return cut(" ".join(text.split()), length)
    head = "" if BEGINS_TRACE.match(lines[0]) else " ".join(redact(lines[0]).split())
    tail = " ".join(redact(exception).split())
    place = next((" ".join(line.split()) for line in reversed(lines) if line.lstrip().startswith("File ")), None)
    tail = "%s [%s]" % (tail, redact(place)) if place else tail
    return cut("%s \u2026 %s" % (cut(head, length // 2), tail) if head else tail, length)
