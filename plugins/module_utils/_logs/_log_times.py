# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parses the times of log lines. Private to this collection.

Lines are bytes as in the file. A time is in epoch seconds, null for a line without one.
"""

from __future__ import annotations

import calendar
import re
import time
from typing import Match

MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
# Bytes of a line in which its time is searched, and in which is_dated() expects it to begin.
WITHIN = 400
NEAR = 60

# A line of the engine's json-file driver ends with its time, in UTC.
ENGINE = re.compile(rb'"time":"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?Z"\}\s*$')

FORMS = re.compile(
    rb"(?P<year>\d{4})[-/](?P<month>\d\d)[-/](?P<day>\d\d)[T ]"
    rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?P<part>[.,]\d+)?\s?(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?"
    # nginx and Apache: 25/Nov/2026:08:24:07 +0000. Redis: 25 Nov 2026 08:24:07.310
    rb"|(?P<day2>\d\d)[/ ](?P<name2>[A-Z][a-z]{2})[/ ](?P<year2>\d{4})[: ]"
    rb"(?P<clock2>\d\d:\d\d:\d\d)(?P<part2>\.\d+)?\s?(?P<zone2>[+-]\d{4})?"
    # syslog: Nov 25 08:24:07, without a year
    rb"|(?P<name3>[A-Z][a-z]{2}) (?P<day3>[ \d]\d) (?P<clock3>\d\d:\d\d:\d\d)"
    # Epoch seconds, at the start of the line or in a field of JSON or logfmt
    rb"""|(?:^(?:(?:ts|time)=)?|["' ](?:ts|time|timestamp)["']?[=:] ?)"""
    rb"""(?P<epoch>[12]\d{9})(?:(?P<milli>\d{3})\b|(?P<part4>\.\d+))?"""
)


def of_engine(line: bytes) -> float | None:
    """Return the time of a line of the json-file driver."""
    found = ENGINE.search(line[-200:])
    if not found:
        return None
    year, month, day, hour, minute, second, part = found.groups()
    whole = calendar.timegm((int(year), int(month), int(day), int(hour), int(minute), int(second)))
    return whole + float(part or 0)


def of_text(line: bytes) -> float | None:
    """Return the time that a program wrote into its line. A time without a zone is local time."""
    # A time in an indented line, which continues the line before it, may be any other.
    if line[:1] in (b" ", b"\t"):
        return None
    found = FORMS.search(line[:WITHIN])
    if not found:
        return None
    try:
        return _epoch(found)
    except (ValueError, OverflowError, KeyError):
        return None


def is_dated(text: str) -> bool:
    """Return whether a line has a time near its start, without parsing it."""
    return bool(FORMS.search(text[:NEAR].encode("utf-8", "replace")))


def _epoch(found: Match[bytes]) -> float:
    """Return the epoch seconds of a match of ``FORMS``. Raises ValueError, OverflowError, KeyError."""
    if found.group("epoch"):
        part = found.group("part4") or b"0"
        milliseconds = int(found.group("milli") or 0)
        return int(found.group("epoch")) + float(part) + milliseconds / 1000.0
    if found.group("year"):
        date = [int(found.group(name)) for name in ("year", "month", "day", "hour", "minute", "second")]
        part, zone = found.group("part"), found.group("zone")
    elif found.group("year2"):
        date = [int(found.group("year2")), MONTHS[found.group("name2")], int(found.group("day2"))]
        date += _clock(found.group("clock2"))
        part, zone = found.group("part2"), found.group("zone2")
    else:
        date = [time.localtime().tm_year, MONTHS[found.group("name3")], int(found.group("day3"))]
        date += _clock(found.group("clock3"))
        part, zone = None, None
        if _local(date) > time.time() + 86400:
            # A line of last December.
            date[0] -= 1
    if not (1 <= date[1] <= 12 and 1 <= date[2] <= 31 and date[3] < 24 and date[4] < 60):
        raise ValueError("not a date")
    fraction = float((part or b"0").replace(b",", b"."))
    if zone is None:
        return _local(date) + fraction
    return calendar.timegm(tuple(date)) + fraction - _offset(zone)


def _clock(text: bytes) -> list[int]:
    return [int(part) for part in text.split(b":")]


def _local(date: list[int]) -> float:
    year, month, day, hour, minute, second = date
    return time.mktime((year, month, day, hour, minute, second, 0, 0, -1))


def _offset(zone: bytes) -> int:
    """Return the seconds that a zone is ahead of UTC."""
    if zone in (b"Z", b"UTC", b"GMT"):
        return 0
    digits = zone[1:].replace(b":", b"")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if zone[:1] == b"-" else seconds
