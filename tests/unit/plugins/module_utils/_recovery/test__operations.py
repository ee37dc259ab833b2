# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operation_records, _operations
from tests.mutations import damaged, mutated
from tests.slack import SLACK

RUN = {"who": "ann@control", "controller": "control 1 pid:[1]", "pid": 7, "pid_start": 70}
HOLDER = """
import subprocess, sys
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operations
operation = _operations.begin(sys.argv[1], sys.argv[2], sys.argv[3], {"who": "ann@control"})
operation.update(stopped=[%r])
if len(sys.argv) > 4:
    child = subprocess.Popen(["sleep", "600"], pass_fds=[operation.descriptor])
    print(child.pid, flush=True)
print("held", flush=True)
sys.stdin.read()
"""
STOPPED = {
    "id": "a" * 64, "name": "web-1", "project": "shop", "service": "web",
    "asked": 900.0, "grace": 10.0, "finished": None,
}  # fmt: skip


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def begin(state, kind="backup", target="postgresql:tracktion", **more):
    return _operations.begin(str(state), kind, target, RUN, **more)


def holder(state, kind="restart", target="shop", *more):
    """Return a process that holds an operation, and the lines that it printed before."""
    process = start(HOLDER % STOPPED, state, kind, target, *more)
    lines = []
    for line in process.stdout:
        if line == "held\n":
            return process, lines
        lines.append(line)
    raise AssertionError(lines)


def start(program, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait(60 * SLACK)
    process.stdin.close()
    process.stdout.close()


def interrupt(operation, **fields):
    """Let an operation fail after it has noted something."""
    operation.update(**fields)
    operation.__exit__(RuntimeError, RuntimeError(), None)


def test_nothing_is_left_of_an_operation_that_ended(state):
    with begin(state) as operation:
        assert _operations.read(str(state)) == ([operation.record], [])
        assert (operation.record["who"], operation.record["pid"]) == ("ann@control", os.getpid())
    assert _operations.read(str(state)) == ([], [])
    assert os.listdir(state) == [_operations.GUARD]


def test_reading_creates_nothing(state):
    assert _operations.read(str(state)) == ([], [])
    assert _operations.check(str(state), "restart", "shop") == []
    assert not state.exists()


@pytest.mark.parametrize(
    ("first", "second", "is_allowed"),
    [
        (("backup", "a"), ("backup", "b"), True),
        (("backup", "a"), ("proof", "b"), True),
        (("backup", "a"), ("proof", "a"), False),
        (("backup", "a"), ("backup", "a"), False),
        (("backup", "a"), ("restart", "b"), False),
        (("restart", "a"), ("backup", "b"), False),
        (("restore", "a"), ("proof", "b"), False),
        (("restart", "a"), ("restart", "b"), False),
        (("restart", "a"), ("restore", "b"), False),
    ],
)
def test_what_excludes_what(state, first, second, is_allowed):
    with begin(state, *first):
        if is_allowed:
            begin(state, *second).__exit__(None, None, None)
            return
        with pytest.raises(_operations.Busy) as caught:
            begin(state, *second)
        with pytest.raises(_operations.Busy):
            _operations.check(str(state), *second)
    assert "%s of %s by ann@control, since 2" % first in str(caught.value)
    assert "`ps -ww -o pid,etime,args -p %d`" % os.getpid() in caught.value.hint
    begin(state, *second).__exit__(None, None, None)


def test_a_killed_process_blocks_nothing_and_its_record_remains(state):
    process, _lines = holder(state)
    with pytest.raises(_operations.Busy, match="restart of shop by ann@control"):
        begin(state)
    kill(process)
    with begin(state) as operation:
        (interrupted,) = operation.interrupted
        assert (interrupted["kind"], interrupted["stopped"]) == ("restart", [STOPPED])
    # A backup does not finish a restart.
    assert [each["stopped"] for each in _operations.check(str(state), "restart", "shop")] == [[STOPPED]]
    with begin(state, "restart", "shop") as restart:
        restart.adopt(restart.interrupted[0])
        assert (restart.record["stopped"], restart.interrupted) == ([STOPPED], [])
        assert _operations.read(str(state)) == ([restart.record], [])
        restart.update(stopped=[])
    assert os.listdir(state) == [_operations.GUARD]


def test_a_restart_leaves_what_only_a_restore_can_use(state):
    interrupt(begin(state, "restore", "db"), stopped=[STOPPED], data={"old": "db_old"})
    with begin(state, "restart", "shop") as restart:
        restart.adopt(restart.interrupted[0])
        restart.update(stopped=[])
    (restore,) = _operations.check(str(state), "restore", "db")
    assert (restore["kind"], restore["stopped"], restore["data"]) == ("restore", [], {"old": "db_old"})


def test_a_program_that_outlives_its_killed_process_still_holds_the_operation(state):
    process, lines = holder(state, "backup", "postgresql:tracktion", "with a child")
    kill(process)
    try:
        with pytest.raises(_operations.Busy):
            begin(state)
    finally:
        os.kill(int(lines[0]), signal.SIGKILL)
    assert eventually(lambda: not _operations.read(str(state))[0])
    begin(state).__exit__(None, None, None)


def eventually(condition, seconds=30 * SLACK):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_a_lease_holds_an_operation_between_two_modules(state, clock):
    with begin(state, "restore", "db", clock=clock) as operation:
        operation.update(stopped=[STOPPED])
        operation.keep(60)
    with pytest.raises(_operations.Busy) as caught:
        begin(state, "restart", "shop", clock=clock)
    assert "after 1970-01-01T00:17:40Z, when its lease ends" in caught.value.hint
    with begin(state, "restore", "db", join=operation.id, clock=clock) as joined:
        assert (joined.id, joined.record["stopped"]) == (operation.id, [STOPPED])
        joined.keep(60)
    clock.now += 61
    with begin(state, "restart", "shop", clock=clock) as restart:
        assert [each["stopped"] for each in restart.interrupted] == [[STOPPED]]
        # The restore goes on too late.
        with pytest.raises(_operations.Busy, match="restart of shop"):
            begin(state, "restore", "db", join=operation.id, clock=clock)


def test_a_joined_operation_whose_lease_ended_goes_on_if_nothing_else_runs(state, clock):
    with begin(state, "restore", "db", clock=clock) as operation:
        operation.update(data={"old": "db_old"})
        operation.keep(60)
    clock.now += 61
    with begin(state, "restore", "db", join=operation.id, clock=clock) as joined:
        assert joined.record["data"] == {"old": "db_old"}


def test_a_process_of_the_joined_operation_that_still_runs_excludes_the_next_module(state, monkeypatch):
    monkeypatch.setattr(_operations, "TEST_SECONDS", 0.1)
    with begin(state, "restore", "db") as operation, pytest.raises(_operations.Busy):
        begin(state, "restore", "db", join=operation.id)


def test_only_the_lease_of_the_operation_known_to_be_dead_is_broken(state, clock):
    with begin(state, "restore", "db", clock=clock) as operation:
        operation.keep(60)
    with pytest.raises(_operations.Busy) as caught:
        begin(state, "restart", "shop", broken=["another"], clock=clock)
    assert (caught.value.holders[0]["controller_pid"], caught.value.holders[0]["controller_start"]) == (7, 70)
    with begin(state, "restart", "shop", broken=[operation.id], clock=clock) as running:
        assert _operations.read(str(state)) == ([running.record], [])
    # A process that runs is not dead, whatever the controller knows.
    with begin(state, "restart", "shop") as running, pytest.raises(_operations.Busy):
        begin(state, "restart", "shop", broken=[running.id])


def test_what_a_dead_controller_has_left_to_do_is_that_of_the_next_run(state, clock):
    with begin(state, "restore", "db", clock=clock) as operation:
        operation.update(stopped=[STOPPED], data={"old": "db_old"})
        operation.keep(60)
    dead = [operation.id]
    assert [each["id"] for each in _operations.check(str(state), "restore", "db", broken=dead)] == dead
    with begin(state, "restore", "db", broken=dead, clock=clock) as running:
        (record,) = running.interrupted
        running.adopt(record)
        assert (running.record["stopped"], record["data"]) == ([STOPPED], {"old": "db_old"})
    # Its data remain for an operation of its kind, without the lease.
    assert [each["id"] for each in _operations.check(str(state), "restart", "shop")] == dead


def test_a_reboot_ends_a_lease(state, clock, monkeypatch):
    with begin(state, "restore", "db", clock=clock) as operation:
        operation.update(stopped=[STOPPED])
        operation.keep(60)
    monkeypatch.setattr(_operations, "boot_id", lambda: "after")
    with begin(state, "restart", "shop", clock=clock) as restart:
        assert [each["stopped"] for each in restart.interrupted] == [[STOPPED]]


def test_a_clock_that_was_set_back_makes_no_lease_endless(state, clock):
    clock.now += 10 * _operation_records.LEASE_MOST
    with begin(state, "restore", "db", clock=clock) as operation:
        operation.keep(60)
    clock.now = 1000.0
    begin(state, "restart", "shop", clock=clock).__exit__(None, None, None)


def test_a_failed_operation_keeps_its_record_only_if_something_is_left_to_do(state):
    interrupt(begin(state, "restart", "shop"))
    assert os.listdir(state) == [_operations.GUARD]
    operation = begin(state, "restart", "shop")
    interrupt(operation, stopped=[STOPPED])
    assert [each["id"] for each in _operations.read(str(state))[1]] == [operation.id]
    with begin(state, "restart", "shop") as restart:
        restart.forget(restart.interrupted[0])
    assert os.listdir(state) == [_operations.GUARD]


def test_invalid_fields_are_not_written(state):
    with begin(state, "restart", "shop") as operation:
        for fields in ({"stopped": [{"id": 1}]}, {"data": {"text": "x" * (1 << 17)}}, {"who": None}):
            with pytest.raises(_operations.CannotKeep, match="invalid or too large"):
                operation.update(**fields)
        assert _operations.read(str(state))[0] == [operation.record]


@pytest.mark.parametrize("damage", ["removed", "empty", "text", "list", "huge"])
def test_a_process_excludes_others_also_if_its_record_is_lost(state, damage, monkeypatch):
    monkeypatch.setattr(_operations, "MOST_BYTES", 4096)
    process, _lines = holder(state)
    path = state / _operations.RECORDS
    if damage == "removed":
        path.unlink()
    else:
        path.write_text({"empty": "", "text": "{", "list": "[1]", "huge": "x" * 5000}[damage])
    with pytest.raises(_operations.Busy, match="its record is lost"):
        begin(state)
    kill(process)
    begin(state).__exit__(None, None, None)
    assert os.listdir(state) == [_operations.GUARD], "the lock of the dead process was removed"


def test_damaged_and_mutated_records_raise_nothing(state):
    interrupt(begin(state, "restart", "shop"), stopped=[STOPPED], data={"a": [1, None, {"b": "c"}]})
    path = state / _operations.RECORDS
    good = path.read_bytes()
    chance = random.Random(7)
    for number in range(300):
        document = json.loads(good)
        content = damaged(good, chance) if number % 2 else json.dumps(mutated(document, chance)).encode()
        path.write_bytes(content)
        live, interrupted = _operations.read(str(state))
        assert live == []
        for each in interrupted:
            assert _operation_records.record(each) == each
    begin(state, "restart", "shop").__exit__(None, None, None)


@pytest.mark.parametrize(
    "field", [{"id": "../../etc/passwd"}, {"id": ""}, {"kind": "other"}, {"since": -1}, {"until": "soon"}, {"who": 1}]
)
def test_forged_records_are_ignored(state, field):
    operation = begin(state, "restart", "shop")
    interrupt(operation, stopped=[STOPPED])
    path = state / _operations.RECORDS
    document = json.loads(path.read_text())
    document["operations"][0].update(field)
    path.write_text(json.dumps(document))
    assert _operations.read(str(state)) == ([], [])


def test_planted_links_are_rejected(state, tmp_path):
    with begin(state):
        pass
    (state / _operations.RECORDS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(_operations.CannotKeep, match="is a symbolic link") as caught:
        begin(state)
    assert caught.value.kind == "cannot_keep"
    with pytest.raises(_operations.CannotKeep):
        _operations.read(str(state))


def test_a_directory_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(_operations.CannotKeep) as caught:
        begin(tmp_path / "file")
    assert "Run with become: true" in caught.value.hint


def contend(state, number, results):
    try:
        with _operations.begin(state, "restart", "shop", {"who": str(number)}):
            results.put(("held", number))
            # Until all others have tried.
            assert eventually(lambda: results.qsize() >= 8)
    except _operations.Busy:
        results.put(("busy", number))


def test_one_of_several_that_start_at_once_gets_the_operation(state):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=contend, args=(str(state), number, results)) for number in range(8)]
    for process in processes:
        process.start()
    outcomes = sorted(results.get(timeout=60 * SLACK)[0] for _process in processes)
    for _process in processes:
        results.put(None)
    for process in processes:
        process.join(60 * SLACK)
    assert outcomes == ["busy"] * 7 + ["held"]


def test_a_process_that_is_killed_while_it_writes_leaves_whole_records(state):
    """The next operation always reads all containers that were noted before."""
    program = (
        "import sys\n"
        "from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operations\n"
        "operation = _operations.begin(sys.argv[1], 'restart', 'shop', {})\n"
        "stopped = []\n"
        "for number in range(100000):\n"
        "    stopped = (stopped + [dict(%r, id='%%064d' %% number)])[-20:]\n"
        "    operation.update(stopped=stopped)\n"
        "    print(number, flush=True)\n" % STOPPED
    )
    chance = random.Random(11)
    for _round in range(8):
        process = start(program, state)
        seen = 0
        for _line in range(chance.randrange(1, 40)):
            seen = int(process.stdout.readline())
        kill(process)
        with begin(state, "restart", "shop") as operation:
            (interrupted,) = operation.interrupted
            assert int(interrupted["stopped"][-1]["id"]) >= seen
            operation.forget(interrupted)
        assert os.listdir(state) == [_operations.GUARD]
