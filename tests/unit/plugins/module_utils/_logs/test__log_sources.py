# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parsing of the engine's and the journal's output, and the shares of the budget."""

from __future__ import annotations

import json
import struct

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_engine, _log_journal
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._measures._log_errors_info import share_budget


def entry(message, moment=1, priority="6", **fields):
    return json.dumps({"MESSAGE": message, "__REALTIME_TIMESTAMP": str(moment * 10**6), "PRIORITY": priority, **fields})


def test_journal_entries_become_lines_of_their_units():
    rows = [
        entry("second", 2, _SYSTEMD_UNIT="a.service"),
        entry("first\nmore", 1, _SYSTEMD_UNIT="a.service"),
        entry([104, 105, 255], 1, "3", SYSLOG_IDENTIFIER="cron"),
        entry(None, 1, "4"),
        entry("2026 ERROR x", 1, "6", _SYSTEMD_UNIT="b.service"),
        entry("of the kernel", _TRANSPORT="kernel"),
        entry("of a container", CONTAINER_NAME="c"),
        '{"cut in tw',
    ]
    units, taken = _log_journal.by_unit([row.encode() for row in rows], Deadline(60))
    assert taken == len(rows)
    assert units == {
        "a.service": b"1.000000 first\n1.000000 more\n2.000000 second\n",
        "cron": b"1.000000 [error] hi\xef\xbf\xbd\n",
        "(no unit)": b"1.000000 [warning] \n",
        "b.service": b"1.000000 2026 ERROR x\n",
    }


def test_parsing_of_the_journal_stops_at_the_deadline():
    ticks = iter(range(100))
    rows = [entry("%d" % number, 1000 - number, _SYSTEMD_UNIT="a.service").encode() for number in range(50)]
    units, taken = _log_journal.by_unit(rows, Deadline(4, clock=lambda: next(ticks)))
    assert (units, taken) == ({"a.service": b"998.000000 2\n999.000000 1\n1000.000000 0\n"}, 3)


def frame(kind, text):
    return struct.pack(">BxxxI", kind, len(text)) + text


def test_frames_of_the_engine_are_removed():
    stream = frame(1, b"2026-11-25T08:24:14.5Z out\n") + frame(2, b"2026-11-25T08:24:15.5Z err\n")
    text = b"2026-11-25T08:24:14.5Z out\n2026-11-25T08:24:15.5Z err\n"
    assert _log_engine.without_frames(stream) == text
    assert _log_engine.without_frames(text) == text
    assert _log_engine.without_frames(b"") == b""
    # The start was dropped in the middle of a frame.
    assert _log_engine.without_frames(stream[12:]) == text[27:]
    assert _log_engine.without_frames(stream[:-5]) == text[:-5]
    assert _log_engine.with_epoch(text) == b"1795595054.500000 out\n1795595055.500000 err\n"


def test_small_logs_are_served_first():
    options = {"max_bytes": 100, "max_total_bytes": 150}
    assert share_budget([10, 1000, 1000], options) == [10, 70, 70]
    assert share_budget([1000], options) == [100]
    assert share_budget([], options) == []
