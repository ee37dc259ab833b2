# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import multiprocessing
import queue
import threading
import time

import pytest

from ansible import constants as C
from ansible_collections.tracktion.ops.plugins.plugin_utils import _visit_progress

AREAS = {"cache": 15.0, "containers": 15.0, "database": 15.0, "network": 15.0, "audio_processing": 50.0}
Entry = _visit_progress.Entry


def visit(host="web1", total=3, task="t1"):
    return _visit_progress.Visit(task, host, total, AREAS, 60.0)


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    return tmp_path


def test_a_short_visit_shows_nothing(directory):
    shown, before = [], threading.active_count()
    with _visit_progress.shown(visit(), shown.append):
        pass
    assert shown == []
    assert threading.active_count() == before
    marks = [entry.mark for entry in _visit_progress._read(visit())]
    assert marks == ["+", "-"]


def test_a_visit_that_begins_a_moment_after_it_is_noted_shows_nothing(directory, monkeypatch):
    """Times are noted in milliseconds, rounded."""
    note = _visit_progress._note
    monkeypatch.setattr(_visit_progress, "_note", lambda *arguments: note(*arguments) + 0.05)
    shown = []
    with _visit_progress.shown(visit(), shown.append):
        time.sleep(0.1)
    assert shown == []


def test_a_long_visit_shows_lines(monkeypatch):
    monkeypatch.setattr(_visit_progress, "EVERY", 0.01)
    shown = queue.Queue()
    with _visit_progress.shown(visit(total=1), shown.put):
        first, second = (shown.get(timeout=60) for _turn in range(2))
    assert first.startswith("Still measuring web1 (")
    assert first.endswith(": cache, containers, database and 2 more); each ends after at most 1 min")
    assert second.startswith("Still measuring web1 (")


def _of_process(number, lines, barrier):
    _visit_progress.EVERY = 0.05
    with _visit_progress.shown(visit("web%d" % number, total=6), lines.put):
        barrier.wait(60)


def test_one_worker_shows_the_line_of_all(directory):
    context = multiprocessing.get_context("fork")
    lines, barrier = context.Queue(), context.Barrier(5)
    workers = [context.Process(target=_of_process, args=(number, lines, barrier)) for number in range(4)]
    for worker in workers:
        worker.start()
    shown = [lines.get(timeout=60), lines.get(timeout=60)]
    barrier.wait(60)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    # One line for each multiple of EVERY that a worker has seen.
    claimed = list(directory.glob("tracktion-claim-*"))
    shown += [lines.get(timeout=60) for _line in claimed[2:]]
    assert lines.empty()
    assert all(" of 6 hosts visited after " in line for line in shown)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (
            [("+", 100.0, "a"), ("+", 105.0, "b"), ("-", 120.0, "a"), ("+", 121.0, "c")],
            "1 of 3 hosts visited after 40 s; measuring: b (35 s), c (19 s); each ends after at most 1 min",
        ),
        # A host is visited once for each of its probe hosts.
        (
            [("+", 100.0, "a"), ("-", 110.0, "a"), ("+", 110.0, "a")],
            "0 of 3 hosts visited after 40 s; measuring: a (30 s); each ends after at most 1 min",
        ),
        (
            [("+", 100.0, name) for name in "abcdefg"] + [("+", 101.0, "\x1b[1m\u202ex")],
            "0 of 3 hosts visited after 40 s; measuring: a (40 s), b (40 s), c (40 s) and 5 more; each ends after at "
            "most 1 min",
        ),
        ([("-", 100.0, "a"), ("+", 100.0, "\x1b[1m")],
         "1 of 3 hosts visited after 40 s; measuring: \\x1b[1m (40 s); each ends after at most 1 min"),
    ],
)  # fmt: skip
def test_the_line(entries, expected):
    assert _visit_progress.line(visit(), [Entry(*entry, {}) for entry in entries], 140.0) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (110.0, "web1 (10 s: cache, containers, database and 2 more)"),
        # An area ends at its deadline; the first ones began within five seconds.
        (119.9, "web1 (20 s: cache, containers, database and 2 more)"),
        (120.0, "web1 (20 s: audio_processing)"),
        (155.0, "web1 (55 s)"),
    ],
)
def test_the_line_names_the_areas_that_are_not_over(now, expected):
    entries = [Entry("+", 100.0, "web1", AREAS)]
    assert _visit_progress.line(visit(total=1), entries, now) == (
        "Still measuring %s; each ends after at most 1 min" % expected
    )
    assert "measuring: %s; each ends" % expected in _visit_progress.line(visit(), entries, now)


def test_without_a_directory_the_visit_goes_on(monkeypatch, directory):
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(directory / "missing"))
    with _visit_progress.shown(visit(), pytest.fail):
        pass
    (directory / "tracktion-visits-t1").mkdir()
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(directory))
    with _visit_progress.shown(visit(), pytest.fail):
        pass


def test_a_damaged_file_costs_the_progress_only(directory):
    (directory / "tracktion-visits-t1").write_text("nothing\n")
    with _visit_progress.shown(visit(), pytest.fail):
        pass


def test_an_error_ends_the_thread():
    with pytest.raises(KeyError), _visit_progress.shown(visit(), pytest.fail):
        raise KeyError
    assert [entry.mark for entry in _visit_progress._read(visit())] == ["+", "-"]
