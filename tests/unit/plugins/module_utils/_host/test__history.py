# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import resource
import signal
import stat
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _history
from ansible_collections.tracktion.ops.plugins.module_utils._host._history import Sample
from tests.slack import SLACK


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "history" / "host.jsonl")


def sample(number, boot="a", **how):
    found = Sample(boot, 1000.0 + number * 60, 10.0 + number * 60, {"p:1:5": 100 + number}, {"/": 7})
    return found._replace(**how)


def lines(path):
    with open(path, encoding="utf-8") as stream:
        return stream.read().splitlines()


def test_samples_come_back_in_order(path):
    assert _history.visit(path, [sample(0)]) == ([], [])
    assert _history.visit(path, [sample(1), sample(2)]) == ([sample(0)], [])
    assert _history.visit(path, []) == ([sample(0), sample(1), sample(2)], [])
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def test_reading_writes_nothing(path, tmp_path):
    assert _history.visit(path, [sample(0)], read_only=True) == ([], [])
    assert os.listdir(tmp_path) == []
    _history.visit(path, [sample(0)])
    before = sorted(os.listdir(os.path.dirname(path)))
    assert _history.visit(path, [sample(1)], read_only=True) == ([sample(0)], [])
    assert sorted(os.listdir(os.path.dirname(path))) == before
    assert len(lines(path)) == 1


def test_an_incomplete_last_line_is_skipped_and_removed(path):
    _history.visit(path, [sample(0), sample(1)])
    with open(path, "ab") as stream:
        stream.write(_history.encode(sample(2))[:-20])
    found = _history.visit(path, [sample(3)])
    assert found.samples == [sample(0), sample(1)]
    assert found.problems == ["history: 1 of 3 lines are damaged, and were skipped"]
    assert _history.visit(path, []) == ([sample(0), sample(1), sample(3)], [])


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\xff\xfe",
        b"[1, 2]",
        b"null",
        b'{"v": 1}',
        b'{"v": 1, "boot": "a", "wall": NaN, "up": 1, "memory": {}, "files": {}}',
        b'{"v": 1, "boot": "a", "wall": 1, "up": true, "memory": {}, "files": {}}',
        b'{"v": 1, "boot": "a", "wall": 1, "up": 1, "memory": {"k": "1"}, "files": {}}',
        b'{"v": 1, "boot": "a", "wall": 1, "up": 1, "memory": {"k": -1}, "files": {}}',
        b'{"v": 1, "boot": "a", "wall": 1, "up": 1, "memory": {"k": 1%s}, "files": {}}' % (b"0" * 400),
        b'{"v": 1, "boot": "a", "wall": 1, "up": 1, "memory": [], "files": {}}',
        b"[" * 100000,
    ],
)
def test_an_invalid_line_is_skipped(path, line):
    _history.visit(path, [sample(0)])
    with open(path, "ab") as stream:
        stream.write(line + b"\n")
    found = _history.visit(path, [])
    assert found.samples == [sample(0)]
    assert found.problems == ["history: 1 of 2 lines are damaged, and were skipped"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"not a history\n", "history: 1 of 1 lines are damaged, and were skipped"),
        (b'{"v":1,"boot":"a"', "history: 1 of 1 lines are damaged, and were skipped"),
        (b'{"v":2,"boot":"a"}\n', "history: 1 lines are of another version (2)"),
    ],
)
def test_another_file_is_set_aside(path, content, problem):
    os.mkdir(os.path.dirname(path), 0o700)
    with open(path, "wb") as stream:
        stream.write(content)
    assert problem in _history.visit(path, [], read_only=True).problems
    found = _history.visit(path, [sample(1)])
    assert found.problems == [problem, "it was renamed to host.jsonl.old, and a new history begins"]
    with open(path + ".old", "rb") as stream:
        assert stream.read() == content
    assert _history.visit(path, []) == ([sample(1)], [])


def test_samples_of_this_version_in_the_file_of_another_are_kept(path):
    _history.visit(path, [sample(0)])
    with open(path, "ab") as stream:
        stream.write(b'{"v":"x","boot":"a"}\n')
    assert _history.visit(path, [sample(1)]).problems[0] == "history: 1 lines are of another version (x)"
    assert len(lines(path + ".old")) == 2
    assert _history.visit(path, []) == ([sample(0), sample(1)], [])


def test_a_link_is_not_followed(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    os.mkdir(os.path.dirname(path), 0o700)
    os.symlink(victim, path)
    for read_only in (False, True):
        found = _history.visit(path, [sample(0)], read_only)
        assert found.samples == []
        assert "is a symbolic link, not a regular file" in found.problems[0]
    assert victim.read_text() == "untouched"
    assert os.path.islink(path)


def test_a_fifo_and_a_directory_are_rejected(path):
    os.mkdir(os.path.dirname(path), 0o700)
    os.mkfifo(path)
    assert "is a FIFO" in _history.visit(path, [sample(0)]).problems[0]
    os.unlink(path)
    os.mkdir(path)
    assert "is a directory" in _history.visit(path, [sample(0)]).problems[0]


def test_a_file_that_may_not_grow(path):
    """The kernel refuses to write more, as on a full file system: what is there stays readable."""
    _history.visit(path, [sample(0)])
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        found = _history.visit(path, [sample(1, memory={"k%d" % number: 1 for number in range(50)})])
        os._exit(0 if found.samples == [sample(0)] and found.problems == ["history: File too large"] else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert _history.visit(path, []).samples == [sample(0)]
    assert _history.visit(path, []) == ([sample(0)], [])


def test_a_directory_that_others_can_write_is_rejected(path):
    os.mkdir(os.path.dirname(path))
    os.chmod(os.path.dirname(path), 0o777)
    found = _history.visit(path, [sample(0)])
    assert "can be written by every user" in found.problems[0]
    assert not os.path.exists(path)


def test_the_file_is_bounded_in_samples(path):
    _history.visit(path, [sample(number) for number in range(_history.MAX_SAMPLES + _history.SLACK_SAMPLES)])
    _history.visit(path, [sample(400)])
    assert len(lines(path)) <= _history.MAX_SAMPLES
    assert _history.visit(path, []).samples[-1] == sample(400)


def test_the_file_is_bounded_in_bytes(path, monkeypatch):
    monkeypatch.setattr(_history, "MAX_BYTES", 20000)
    table = {"key %d" % number: number for number in range(100)}
    for number in range(40):
        _history.visit(path, [sample(number, memory=table)])
        assert os.path.getsize(path) < 20000
    assert _history.visit(path, []).samples[-1].up == sample(39).up


def test_a_sample_is_bounded():
    found = json.loads(_history.encode(sample(0, memory={"k" * 1000 + str(number): 1 for number in range(1000)})))
    assert len(found["memory"]) <= _history.MAX_ENTRIES
    assert max(map(len, found["memory"])) == _history.MAX_KEY


def test_a_huge_file_is_read_in_part(path):
    os.mkdir(os.path.dirname(path), 0o700)
    one = _history.encode(sample(0, memory={str(number): number for number in range(200)}))
    with open(path, "wb") as stream:
        stream.write(one * (2 * _history.MAX_BYTES // len(one)))
    found = _history.visit(path, [sample(1)])
    assert 0 < len(found.samples) <= _history.MAX_BYTES // len(one)
    assert os.path.getsize(path) < _history.MAX_BYTES


def test_old_samples_are_kept_at_greater_distances():
    """Every five minutes for twenty days."""
    every = [Sample("a", number * 300.0, number * 300.0, {}, {}) for number in range(20 * 288)]
    kept = _history.retained(every)
    assert len(kept) <= _history.MAX_SAMPLES
    assert kept[-1] == every[-1]
    ages = [every[-1].up - one.up for one in kept]
    assert ages == sorted(ages, reverse=True)
    # A day at half an hour, and six hours at five minutes.
    assert sum(age <= 6 * 3600 for age in ages) == 73
    assert sum(age <= 86400 for age in ages) >= 73 + 35
    assert ages[0] > 5 * 86400


def test_a_clock_that_was_set_back_removes_nothing():
    every = [sample(number) for number in range(20)] + [sample(20, wall=1.0)]
    assert _history.retained(every) == every


def test_time_within_a_boot_is_that_since_boot():
    jumped = [sample(0), sample(1), sample(2, wall=sample(2).wall + 86400), sample(3, wall=sample(3).wall + 86400)]
    found, notes = _history.timeline(jumped)
    assert [time - found[0][0] for time, _sample in found] == [0, 60, 120, 180]
    assert notes == ["the clock of the host was set by +86400 s"]


def test_time_over_a_reboot_is_that_of_the_wall_clock():
    found, notes = _history.timeline(
        [sample(0), sample(1), sample(10, boot="b", up=5.0), sample(11, boot="b", up=65.0)]
    )
    assert [time - found[0][0] for time, _sample in found] == [0, 60, 600, 660]
    assert notes == ["1 reboot"]


def test_a_clock_that_went_back_over_a_reboot_starts_anew():
    found, notes = _history.timeline([sample(5), sample(6), sample(0, boot="b", up=5.0), sample(1, boot="b", up=65.0)])
    assert [one.boot for _time, one in found] == ["b", "b"]
    assert notes == ["the clock of the host went backwards over a reboot: earlier samples are left out", "1 reboot"]


def test_the_clocks_of_this_machine():
    found = _history.now({"k": 1}, {})
    assert len(found.boot) == 36
    assert found.up > 0
    assert abs(found.wall - time.time()) < 60


def visit_many(path, number):
    for step in range(20):
        _history.visit(path, [sample(step, memory={"by %d" % number: step})])


def test_visits_at_the_same_time_lose_nothing(path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=visit_many, args=(path, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = _history.visit(path, [])
    assert found.problems == []
    assert len(found.samples) == 80


def test_a_lock_that_is_held_costs_a_bounded_time(path, monkeypatch):
    monkeypatch.setattr(_history, "LOCK_SECONDS", 0.1)
    _history.visit(path, [sample(0)])
    with open(os.path.join(os.path.dirname(path), ".host.jsonl.lock"), "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        started = time.monotonic()
        found = _history.visit(path, [sample(1)])
        assert time.monotonic() - started < 0.5 * SLACK
    assert "has been busy" in found.problems[0]
    assert found.samples == [sample(0)]


def write_until_killed(path, started):
    one = _history.now({"p:%d" % number: number for number in range(100)}, {})
    started.set()
    while True:
        _history.visit(path, [one])


def test_a_writer_that_is_killed_leaves_a_readable_file(path):
    """Killed at ten different moments, while the file is appended to and replaced."""
    context = multiprocessing.get_context("fork")
    for number in range(10):
        started = context.Event()
        writer = context.Process(target=write_until_killed, args=(path, started))
        writer.start()
        assert started.wait(10 * SLACK)
        time.sleep(0.01 + 0.013 * number)
        writer.kill()
        writer.join()
        before = _history.visit(path, [], read_only=True)
        assert not before.problems or before.problems[0].startswith("history: 1 of ")
        found = _history.visit(path, [sample(0)])
        assert found.samples == before.samples
        assert _history.visit(path, [], read_only=True).problems == []
