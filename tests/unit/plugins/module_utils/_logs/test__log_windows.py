# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_sources, _log_times
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_tally import CURRENT, Engine, Stamped, Tally
from ansible_collections.tracktion.ops.plugins.module_utils._logs._log_windows import (
    BLOCK,
    File,
    Memory,
    Reader,
    Undated,
    first_dated,
    newest_time,
    offset_of,
    spans,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

MOMENT = 1795595054


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("line", "moment"),
    [
        (b"2026-11-25T08:24:14.5Z x", MOMENT + 0.5),
        (b"2026-11-25 08:24:14,500 UTC [3] LOG:  x", MOMENT + 0.5),
        (b"2026-11-25 09:24:14 +01:00 x", MOMENT),
        (b"2026-11-25T03:24:14-0500 x", MOMENT),
        (b"2026-11-25 09:24:14,250 INFO x", MOMENT + 0.25),
        (b"2026/11/25 09:24:14 [error] 7#7: x", MOMENT),
        (b'1.2.3.4 - - [25/Nov/2026:08:24:14 +0000] "GET /"', MOMENT),
        (b"7:M 25 Nov 2026 09:24:14.310 # x", MOMENT + 0.31),
        (b'{"level":"info","ts":1795595054.5}', MOMENT + 0.5),
        (b'{"time":1795595054500,"level":30}', MOMENT + 0.5),
        (b"1795595054.250 x", MOMENT + 0.25),
        (b"ts=1795595054 level=info", MOMENT),
        (b"  at 2026-11-25T08:24:14Z in a continuation", None),
        (b"no time", None),
        (b"2026-13-45 99:99:99 x", None),
        (b"Xyz 25 08:24:14 host x", None),
        (b"", None),
    ],
)
def test_time_of_a_line(berlin, line, moment):
    assert _log_times.of_text(line) == moment


def test_syslog_time_without_a_year(berlin):
    now = time.time()
    for age in (60, 86400 * 200):
        line = time.strftime("%b %e %H:%M:%S", time.localtime(now - age)).encode() + b" host x"
        assert abs(_log_times.of_text(line) - (now - age)) < 2


def test_time_of_an_entry_of_the_engine():
    line = b'{"log":"at \\"time\\":\\"2001-01-01T00:00:00Z\\"\\n","stream":"stdout",'
    line += b'"time":"2026-11-25T08:24:14.123456789Z"}'
    assert _log_times.of_engine(line) == pytest.approx(MOMENT + 0.123456789)
    assert _log_times.of_engine(line[:-3]) is None
    assert Stamped.time_of(b"12.5 text") == 12.5
    assert Stamped.time_of(b"text") is None


@pytest.mark.parametrize("moment", [0, 1000, 1000.5, 1001, 1500, 1999, 2000, 99999])
def test_window_begins_with_its_first_line(moment):
    piece = Memory(stamped(1000, 1000), Stamped.time_of)
    expected = next((at for at, time in offsets(piece.data) if time >= moment), piece.size)
    assert offset_of(piece, moment) == expected


def stamped(first, count):
    return b"".join(b"%.3f line %d%s\n" % (first + number, number, b"x" * (number % 50)) for number in range(count))


def offsets(data):
    at = 0
    for line in data.split(b"\n")[:-1]:
        yield at, float(line.split(b" ")[0])
        at += len(line) + 1


def test_lines_without_a_time_belong_to_the_line_before():
    data = b"1000.0 a\nTraceback\n  x\n2000.0 b\n  y\n3000.0 c\n"
    piece = Memory(data, Stamped.time_of)
    assert offset_of(piece, 1500) == data.index(b"2000.0")
    assert offset_of(piece, 2500) == data.index(b"3000.0")
    assert newest_time(piece) == 3000.0
    assert offset_of(Memory(b"", Stamped.time_of), 5) == 0
    assert offset_of(Memory(b"no time\n", Stamped.time_of), 5) is None


def test_pieces_are_split_into_windows():
    pieces = [Memory(stamped(first, 100), Stamped.time_of) for first in (1300, 1200, 1100, 1000)]
    current, previous, reaches = spans(pieces, 1150, 1250)
    assert (current[0].size, current[0].end) == (pieces[0].size, pieces[0].size)
    assert sum(span.piece.data[span.start : span.end].count(b"\n") for span in current) == 150
    assert sum(span.piece.data[span.start : span.end].count(b"\n") for span in previous) == 100
    assert reaches
    assert not spans(pieces, 500, 1250)[2]
    with pytest.raises(Undated):
        spans([Memory(b"when?\n", Stamped.time_of)], 1, 2)


def read(data, budget=1 << 30, continues=lambda raw: raw.startswith(b" ")):
    piece = Memory(data, Stamped.time_of)
    current, _previous, _reaches = spans([piece], 0, 0)
    reader = Reader(budget, Deadline(60), continues)
    return list(reader.blocks(current)), reader


def test_blocks_are_newest_first_and_hold_whole_events():
    data = b"".join(b"%d.0 event\n  more of it\n" % number for number in range(40000))
    blocks, reader = read(data)
    assert len(blocks) > 3
    assert b"".join(reversed(blocks)) == data
    assert all(block[:1].isdigit() for block in blocks)
    assert (reader.done, reader.stopped) == (len(data), None)


def test_budget_leaves_out_the_oldest():
    data = stamped(1, 50000)
    blocks, reader = read(data, budget=BLOCK + 1000)
    assert data.endswith(b"".join(reversed(blocks)))
    assert BLOCK < reader.done <= BLOCK + 1000
    piece, offset = reader.stopped
    assert len(data) - offset == reader.done
    assert first_dated(piece, offset - 1, piece.size)[0] - offset < 100


def test_line_longer_than_a_block():
    data = b"1.0 before\n2.0 long " + b"x" * (5 * BLOCK) + b"\n3.0 after\n"
    blocks, reader = read(data)
    assert b"".join(reversed(blocks)).startswith(b"1.0 before\n2.0 long xxx")
    assert blocks[0].endswith(b"3.0 after\n")
    assert max(map(len, blocks)) <= BLOCK
    assert reader.done == len(data)
    # One line without an end.
    assert sum(map(len, read(b"1.0 " + b"x" * (3 * BLOCK))[0])) <= BLOCK


def test_long_line_in_many_entries_is_one_event():
    """The engine writes a line of 1 MB in entries of 16 KiB, of which only the last has the end of the line."""
    entry = b'{"log":"%s%s","stream":"stdout","time":"2026-11-25T08:24:14Z"}\n'
    long = entry % (b"ERROR " + b"x error " * 2000, b"") + entry % (b"an error " * 1800, b"") * 70
    long += entry % (b"failed", b"\\n")
    data = entry % (b"INFO a", b"\\n") + long + entry % (b"ERROR b", b"\\n") + long
    piece = Memory(data, Engine.time_of)
    tally = Tally(Engine)
    reader = Reader(1 << 30, Deadline(60), tally.continues, Engine.is_partial)
    for block in reader.blocks(spans([piece], 0, 0)[0]):
        tally.feed(block, CURRENT)
    assert (tally.lines[CURRENT], tally.levels[CURRENT]["error"]) == (4, 3)


def test_expired_deadline_reads_nothing():
    piece = Memory(stamped(1, 10), Stamped.time_of)
    reader = Reader(1 << 20, Deadline(0), lambda raw: False)
    assert list(reader.blocks(spans([piece], 0, 0)[0])) == []
    assert reader.stopped == (piece, piece.size)


def test_file_truncated_meanwhile(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(stamped(1, 60000))
    piece = File(str(path), Stamped.time_of)
    reader = Reader(1 << 30, Deadline(60), lambda raw: False)
    blocks = reader.blocks(spans([piece], 0, 0)[0])
    next(blocks)
    os.truncate(path, 10)
    assert list(blocks) == []
    assert reader.truncated
    piece.close()


def test_file_rotated_meanwhile_is_read_to_its_end(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(stamped(1, 10))
    piece = File(str(path), Stamped.time_of)
    path.rename(tmp_path / "log.1")
    path.write_bytes(b"new\n")
    assert piece.read(0, piece.size) == stamped(1, 10)
    piece.close()


class Log:
    left_out, left_out_bytes = None, 0


def test_rotated_files_are_found_by_name_in_order_of_time(tmp_path):
    path = tmp_path / "app.log"
    for age, name in enumerate(
        ("app.log", "app.log.1", "app.log-20261124", "app.log.3.gz", "app.log.4", "app.log.bak")
    ):
        (tmp_path / name).write_bytes(b"1.0 %s\n" % name.encode())
        os.utime(tmp_path / name, (10000 - age, 10000 - age))
    log = Log()
    pieces = _log_sources.chain(str(path), Stamped.time_of, 0, log)
    assert [os.path.basename(piece.path) for piece in pieces] == ["app.log", "app.log.1", "app.log-20261124"]
    assert log.left_out == "app.log.3.gz is compressed"
    assert len(_log_sources.chain(str(path), Stamped.time_of, 9999.5, Log())) == 1
    assert [log.name for log in _log_sources.files({"files": [str(tmp_path / "app.log*")]}, 0)] == [
        str(path),
        str(path) + ".bak",
    ]


@pytest.mark.parametrize(("off", "found"), [(0, 0), (-3600, -3600), (19800, 19800), (30, 0), (500, 0), (10**7, 0)])
def test_zone_offset(tmp_path, off, found):
    """The last line differs from the time of the file by a multiple of 15 minutes."""
    path = tmp_path / "log"
    path.write_text("%.3f x\n" % (MOMENT - off))
    os.utime(path, (MOMENT, MOMENT))
    piece = File(str(path), Stamped.time_of)
    assert _log_sources.zone_offset(piece) == found
    piece.close()


def test_entries_of_the_engine():
    assert Engine.is_partial(b'{"log":"' + b"x" * 16384 + b'","stream":"stdout","time":"2026-11-25T08:24:14Z"}')
    assert not Engine.is_partial(b'{"log":"x\\n","stream":"stdout","time":"2026-11-25T08:24:14Z"}')
    assert Engine.text(b'{"log":"caf\\u00e9 \\"x\\"\\n","stream":"stdout"}') == 'caf\u00e9 "x"'
    assert Engine.text(b'{"log":"' + b"word " * 9000 + b'\\n","stream":"stdout"}').startswith("word word")
    assert Engine.text(b"no JSON \xff") == "no JSON \ufffd"
