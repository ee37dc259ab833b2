# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _journal
from tests.mutations import damaged, mutated
from tests.slack import SLACK
from tests.users import as_other_user, shared_directory

ONE = {"run": "one", "who": "a@b"}
TWO = {"run": "two", "who": "c@d"}
ENTRY = {"action": "1", "remedy": "queues.purge", "target": "a", "host": "web"}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def journal(tmp_path, clock):
    return _journal.Journal(str(tmp_path / "state"), clock)


def begin(journal, run, lease=60, cooldown=0, **more):
    return journal.begin(run, {**run, **ENTRY}, lease, cooldown, **more)


def test_reading_an_empty_journal_creates_nothing(journal, tmp_path):
    assert journal.read() == {"lock": None, "unfinished": [], "done": []}
    assert not (tmp_path / "state").exists()


def test_the_lock_blocks_another_run_until_it_is_released(journal):
    assert begin(journal, ONE)["go"]
    answer = begin(journal, TWO)
    assert (answer["go"], answer["reason"], answer["lock"]["run"]) == (False, "locked", "one")
    assert begin(journal, ONE)["go"], "the run itself continues"
    journal.release(ONE)
    assert begin(journal, TWO)["go"]


def test_an_expired_lease_and_a_reboot_end_a_lock(journal, clock, tmp_path):
    begin(journal, ONE, lease=10)
    clock.now += 11
    assert journal.read()["lock"]["stale"] == "its lease has expired"
    assert begin(journal, TWO)["go"]
    lock = tmp_path / "state" / _journal.LOCK
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "boot_id": "another"}))
    assert journal.read()["lock"]["stale"] == "the machine has been rebooted since"
    assert begin(journal, ONE)["go"]


def test_each_step_renews_the_lease(journal, clock):
    begin(journal, ONE, lease=10)
    clock.now += 9
    journal.end(ONE, {**ONE, **ENTRY, "changed": True}, 10)
    clock.now += 9
    assert begin(journal, TWO)["reason"] == "locked"


def test_only_the_lock_of_the_run_known_to_be_dead_is_broken(journal):
    begin(journal, ONE)
    assert begin(journal, TWO, break_run="three")["reason"] == "locked"
    assert begin(journal, TWO, break_run="one")["go"]


def test_check_mode_reads_and_writes_nothing(journal, tmp_path):
    assert begin(journal, ONE, check_mode=True)["go"]
    assert not (tmp_path / "state").exists()
    begin(journal, ONE)
    before = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert begin(journal, TWO, check_mode=True)["reason"] == "locked"
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == before


def test_an_action_with_a_change_is_blocked_until_its_cooldown_ends(journal, clock):
    begin(journal, ONE)
    journal.end(ONE, {**ONE, **ENTRY, "changed": True}, 60)
    journal.release(ONE)
    clock.now += 100
    answer = begin(journal, TWO, cooldown=300)
    assert (answer["reason"], answer["until"]) == ("cooling", 1300.0)
    assert begin(journal, TWO, cooldown=50)["go"]


def test_an_action_without_a_change_has_no_cooldown(journal):
    begin(journal, ONE)
    journal.end(ONE, {**ONE, **ENTRY, "changed": False}, 60)
    assert begin(journal, ONE, cooldown=300)["go"]


def test_an_intent_without_an_outcome_is_returned_once(journal):
    begin(journal, ONE, lease=0)
    assert [entry["run"] for entry in journal.read()["unfinished"]] == ["one"]
    begin(journal, TWO, break_run="one")
    journal.end(TWO, {**TWO, **ENTRY, "changed": True}, 60)
    assert [entry["run"] for entry in journal.release(TWO)] == ["one"]
    assert journal.read()["unfinished"] == []


def test_a_run_does_not_release_the_lock_of_another_run(journal):
    begin(journal, ONE)
    assert journal.release(TWO) == []
    assert journal.read()["lock"]["run"] == "one"


def test_an_incomplete_line_does_not_affect_other_lines(journal, tmp_path):
    begin(journal, ONE)
    with open(tmp_path / "state" / _journal.AUDIT, "ab") as handle:
        handle.write(b'{"event": "outcome", "run": "on')
    journal.end(ONE, {**ONE, **ENTRY, "changed": True}, 60)
    assert journal.read()["unfinished"] == []
    assert len(journal.read()["done"]) == 1


def test_a_large_log_is_rotated(tmp_path, monkeypatch):
    monkeypatch.setattr(_journal, "ROTATE_BYTES", 2000)
    path = str(tmp_path / "audit.jsonl")
    for number in range(40):
        _journal.append(path, [{"number": number, "text": "x" * 60}])
    assert os.stat(path).st_size < 2200
    assert os.path.exists(path + ".1")


def test_an_unusable_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    journal = _journal.Journal(str(tmp_path / "file" / "state"))
    with pytest.raises(_journal.CannotKeep, match=r"directory: .*file/state cannot be used"):
        begin(journal, ONE)


def test_only_one_of_several_simultaneous_runs_gets_the_lock(tmp_path):
    answers, barrier = [], threading.Barrier(8)

    def attempt(number):
        journal = _journal.Journal(str(tmp_path))
        barrier.wait()
        answers.append(begin(journal, {"run": str(number), "who": "x"})["go"])

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 7 + [True]


PLANTED = {
    "link": lambda path, victim: path.symlink_to(victim),
    "dangling link": lambda path, victim: path.symlink_to(victim.with_name("cron.d")),
    "hard link": lambda path, victim: os.link(victim, path),
    "FIFO": lambda path, victim: os.mkfifo(path),
    "directory": lambda path, victim: path.mkdir(),
}
FILES = [_journal.LOCK, _journal.AUDIT, _journal.GUARD, _journal.AUDIT + ".1", _journal.LOCK + ".new"]


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("name", FILES)
def test_planted_files_are_never_written_to(tmp_path, clock, monkeypatch, name, kind):
    monkeypatch.setattr(_journal, "ROTATE_BYTES", 200)
    victim, state = tmp_path / "victim", tmp_path / "state"
    victim.write_text("untouched")
    state.mkdir()
    PLANTED[kind](state / name, victim)
    journal = _journal.Journal(str(state), clock)
    try:
        for _turn in range(3):
            assert begin(journal, ONE)["go"]
            journal.end(ONE, {**ONE, **ENTRY, "changed": True}, 60)
        journal.release(ONE)
        message = None
    except _journal.CannotKeep as exc:
        message = str(exc)
    # A name that is replaced atomically is not followed. Only a directory cannot be replaced.
    if kind == "directory" or not name.endswith((".1", ".new")):
        assert "tracktion_state_dir" in message
        assert "Run `mv -T %s" % (state / name) in message
    else:
        assert message is None
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "cron.d").exists()


@pytest.mark.parametrize("state", ["read", "begin", "release"])
def test_a_directory_that_another_user_can_write_is_rejected(state):
    with shared_directory(0o777) as shared:
        as_other_user(lambda: (shared / "audit.jsonl").symlink_to("/etc/passwd"))
        journal = _journal.Journal(str(shared))
        steps = {"read": journal.read, "begin": lambda: begin(journal, ONE), "release": lambda: journal.release(ONE)}
        with pytest.raises(_journal.CannotKeep, match=r"every user\. Run `chmod o-w .*tracktion_state_dir"):
            steps[state]()
        assert [path.name for path in shared.iterdir()] == ["audit.jsonl"]


def test_huge_files_do_not_delay_or_block_a_run(journal, tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    for name, size in ((_journal.AUDIT, 10 << 30), (_journal.LOCK, 1 << 30)):
        with open(tmp_path / "state" / name, "wb") as stream:
            stream.truncate(size)
    began = time.monotonic()
    assert journal.read() == {"lock": None, "unfinished": [], "done": []}
    assert begin(journal, ONE)["go"]
    assert time.monotonic() - began < 2 * SLACK
    assert len(journal.problems) == 2
    assert journal.read()["lock"]["run"] == "one"


LINE = {**ONE, **ENTRY, "event": "outcome", "time": 900.0, "changed": True}
BAD_LINES = [
    b"null", b"[]", b'"text"', b"1", b"{", b"\xff\xfe{}", b"[" * 100000, b'{"a":' * 100000,
    b'{"event": "outcome", "time": Infinity}', b"9" * 10000, b"{}", b"\0" * 1000,
    *(json.dumps({**LINE, **wrong}).encode() for wrong in (
        {"time": "x"}, {"time": None}, {"time": True}, {"time": 1e300}, {"time": -1}, {"time": []}, {"host": None},
        {"host": {}}, {"action": []}, {"run": {}}, {"remedy": 5}, {"target": ["a"]}, {"event": []}, {"event": "other"},
    )),
    *(json.dumps({key: value for key, value in LINE.items() if key != missing}).encode()
      for missing in ("time", "host", "action", "run", "remedy", "event", "who")),
]  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: repr(line[:40]))
def test_a_bad_line_does_not_affect_other_lines(journal, tmp_path, line):
    (tmp_path / "state").mkdir(mode=0o700)
    good = json.dumps({**LINE, "target": "b"}).encode()
    (tmp_path / "state" / _journal.AUDIT).write_bytes(b"\n".join([good, line, good, b""]))
    state = journal.read()
    assert [entry["target"] for entry in state["done"]] == ["b", "b"]
    assert len(journal.problems) == 1
    assert begin(journal, ONE, cooldown=300)["go"]


LOCKED = {**ONE, "since": 990.0, "until": 2000.0, "boot_id": _journal.boot_id(), "controller": "c", "pid": 4711}
BAD_LOCKS = [
    b"", b"null", b"[]", b"\xff", b"[" * 100000, b'{"run": Infinity}',
    *(json.dumps({**LOCKED, **wrong}).encode() for wrong in (
        {"until": "soon"}, {"until": 1e300}, {"until": 2e11}, {"until": None}, {"until": True},
        {"since": []}, {"run": {}}, {"run": ""},
        {"who": 5}, {"boot_id": None},
    )),
    *(json.dumps({key: value for key, value in LOCKED.items() if key != missing}).encode()
      for missing in ("run", "who", "since", "until", "boot_id")),
]  # fmt: skip


@pytest.mark.parametrize("content", BAD_LOCKS, ids=lambda content: repr(content[:60]))
def test_an_invalid_lock_blocks_no_run(journal, tmp_path, content):
    (tmp_path / "state").mkdir(mode=0o700)
    path = tmp_path / "state" / _journal.LOCK
    path.write_bytes(content)
    assert journal.read()["lock"] is None
    assert journal.problems == ["%s: it is not a lock and was ignored" % path]
    assert begin(journal, ONE)["go"]
    assert journal.read()["lock"]["run"] == "one"


def test_a_lock_with_the_needed_fields_is_valid(journal, tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    lock = {**LOCKED, "pid": "4711", "pid_start": -1, "surplus": 1}
    (tmp_path / "state" / _journal.LOCK).write_text(json.dumps(lock))
    found = journal.read()["lock"]
    assert (found["run"], found["pid"], found["pid_start"], "surplus" in found) == ("one", None, None, False)
    assert begin(journal, TWO)["reason"] == "locked"


def test_no_damage_of_the_files_blocks_a_run(tmp_path):
    """Random damage of bytes, values and keys. A run still begins, unless a well-formed lock forbids it."""
    chance = random.Random(20261128)
    state = tmp_path / "state"
    journal = _journal.Journal(str(state), Clock())
    for _turn in range(300):
        state.mkdir(mode=0o700, exist_ok=True)
        (state / _journal.LOCK).write_bytes(damaged(json.dumps(mutated(LOCKED, chance)).encode(), chance))
        lines = [damaged(json.dumps(mutated(LINE, chance)).encode(), chance) for _line in range(8)]
        (state / _journal.AUDIT).write_bytes(b"\n".join(lines))
        found = journal.read()
        json.dumps(found, allow_nan=False)
        answer = begin(journal, TWO, cooldown=10)
        assert answer["go"] is (answer["reason"] is None)
        journal.end(TWO, {**TWO, **ENTRY, "changed": True}, 60)
        journal.release(TWO, break_run=found["lock"] and found["lock"]["run"])


def test_a_run_can_be_killed_at_any_step(tmp_path):
    """Kill a run at each of its system calls on files: the next run continues, and knows what was begun."""
    step, killed, unfinished = 0, True, 0
    while killed:
        step += 1
        state = str(tmp_path / str(step))
        killed = killed_at(step, lambda state=state: whole_run(state))
        journal = _journal.Journal(state)
        found = journal.read()
        assert journal.problems == []
        unfinished += len(found["unfinished"])
        assert found["lock"] is None or found["lock"]["run"] == "one"
        done = os.path.exists(state + ".acted")
        # The intent is written before the action, so a completed action is known as done or as begun.
        assert not done or found["unfinished"] or found["done"]
        assert begin(journal, TWO, break_run="one")["go"]
        journal.end(TWO, {**TWO, **ENTRY, "changed": True}, 60)
        assert [entry["run"] for entry in journal.release(TWO)] == [entry["run"] for entry in found["unfinished"]]
        assert journal.read()["unfinished"] == []
        assert set(os.listdir(state)) <= {_journal.GUARD, _journal.AUDIT}
    assert step > 25
    assert unfinished > 5


def whole_run(state):
    journal = _journal.Journal(state)
    begin(journal, ONE)
    with open(state + ".acted", "w"):
        pass
    journal.end(ONE, {**ONE, **ENTRY, "changed": True}, 60)
    journal.release(ONE)


def killed_at(step, work):
    """Return whether ``work()``, in a process of its own, was killed before its system call number ``step``."""
    child = os.fork()
    if child == 0:
        left = [step]

        def counted(call):
            def counting(*args, **options):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **options)

            return counting

        for name in ("open", "mkdir", "write", "fsync", "rename", "unlink", "fchmod"):
            setattr(os, name, counted(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    _pid, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_an_outcome_in_the_future_does_not_block_a_remedy(journal, clock):
    clock.now = 200000.0
    begin(journal, ONE)
    journal.end(ONE, {**ONE, **ENTRY, "changed": True}, 60)
    clock.now = 100.0
    assert begin(journal, ONE, cooldown=3600)["go"]
    clock.now = 200001.0
    assert begin(journal, ONE, cooldown=3600)["reason"] == "cooling"
