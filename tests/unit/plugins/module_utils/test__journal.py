# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import threading

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _journal

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


def test_a_host_without_a_past_has_no_lock_and_nothing_is_made_by_looking(journal, tmp_path):
    assert journal.read() == {"lock": None, "unfinished": [], "done": []}
    assert not (tmp_path / "state").exists()


def test_the_lock_keeps_another_run_out_until_it_is_given_back(journal):
    assert begin(journal, ONE)["go"]
    answer = begin(journal, TWO)
    assert (answer["go"], answer["reason"], answer["lock"]["run"]) == (False, "locked", "one")
    assert begin(journal, ONE)["go"], "the run itself goes on"
    journal.release(ONE)
    assert begin(journal, TWO)["go"]


def test_a_lease_that_is_over_and_another_boot_end_a_lock(journal, clock, tmp_path):
    begin(journal, ONE, lease=10)
    clock.now += 11
    assert journal.read()["lock"]["stale"] == "its lease is over"
    assert begin(journal, TWO)["go"]
    lock = tmp_path / "state" / _journal.LOCK
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "boot_id": "another"}))
    assert journal.read()["lock"]["stale"] == "the machine has been started anew since"
    assert begin(journal, ONE)["go"]


def test_a_lease_is_renewed_by_every_step(journal, clock):
    begin(journal, ONE, lease=10)
    clock.now += 9
    journal.end(ONE, {**ONE, **ENTRY, "changed": True}, 10)
    clock.now += 9
    assert begin(journal, TWO)["reason"] == "locked"


def test_only_the_run_that_is_known_to_be_dead_is_pushed_aside(journal):
    begin(journal, ONE)
    assert begin(journal, TWO, break_run="three")["reason"] == "locked"
    assert begin(journal, TWO, break_run="one")["go"]


def test_check_mode_looks_and_writes_nothing(journal, tmp_path):
    assert begin(journal, ONE, check_mode=True)["go"]
    assert not (tmp_path / "state").exists()
    begin(journal, ONE)
    before = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert begin(journal, TWO, check_mode=True)["reason"] == "locked"
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == before


def test_what_changed_something_rests_until_its_cooldown_is_over(journal, clock):
    begin(journal, ONE)
    journal.end(ONE, {**ONE, **ENTRY, "changed": True}, 60)
    journal.release(ONE)
    clock.now += 100
    answer = begin(journal, TWO, cooldown=300)
    assert (answer["reason"], answer["until"]) == ("cooling", 1300.0)
    assert begin(journal, TWO, cooldown=50)["go"]


def test_what_changed_nothing_does_not_rest(journal):
    begin(journal, ONE)
    journal.end(ONE, {**ONE, **ENTRY, "changed": False}, 60)
    assert begin(journal, ONE, cooldown=300)["go"]


def test_an_intent_without_an_outcome_is_told_once(journal):
    begin(journal, ONE, lease=0)
    assert [entry["run"] for entry in journal.read()["unfinished"]] == ["one"]
    begin(journal, TWO, break_run="one")
    journal.end(TWO, {**TWO, **ENTRY, "changed": True}, 60)
    assert [entry["run"] for entry in journal.release(TWO)] == ["one"]
    assert journal.read()["unfinished"] == []


def test_a_lock_of_another_run_is_not_given_back_by_ours(journal):
    begin(journal, ONE)
    assert journal.release(TWO) == []
    assert journal.read()["lock"]["run"] == "one"


def test_a_line_that_was_cut_off_costs_only_itself(journal, tmp_path):
    begin(journal, ONE)
    with open(tmp_path / "state" / _journal.AUDIT, "ab") as handle:
        handle.write(b'{"event": "outcome", "run": "on')
    journal.end(ONE, {**ONE, **ENTRY, "changed": True}, 60)
    assert journal.read()["unfinished"] == []
    assert len(journal.read()["done"]) == 1


def test_a_large_log_is_put_aside_and_read_at_its_end_only(tmp_path, monkeypatch):
    monkeypatch.setattr(_journal, "ROTATE_BYTES", 2000)
    path = str(tmp_path / "audit.jsonl")
    for number in range(40):
        _journal.append(path, [{"number": number, "text": "x" * 60}])
    assert os.stat(path).st_size < 2200
    assert os.path.exists(path + ".1")


def test_a_directory_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    journal = _journal.Journal(str(tmp_path / "file" / "state"))
    with pytest.raises(_journal.CannotKeep, match=r"directory: .*file/state cannot be used"):
        begin(journal, ONE)


def test_runs_that_begin_at_one_moment_see_each_other(tmp_path):
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
