# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Functions in child processes that end as they should, fail, crash, hang or take too much memory."""

from __future__ import annotations

import faulthandler
import os
import signal
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._audio import _guard


def test_the_values_of_a_function():
    found = _guard.run(lambda emit: [emit({"number": number}) for number in range(3)], 20)
    assert (found.state, found.values) == ("ok", [{"number": 0}, {"number": 1}, {"number": 2}])
    assert found.peak_bytes > 1 << 20


def fails(_emit):
    raise ValueError("no\nway \udcf6")


def crashes(emit):
    emit({"number": 1})
    # That of pytest prints where it was.
    faulthandler.disable()
    os.abort()


def exits(_emit):
    os._exit(3)


def is_killed(_emit):
    os.kill(os.getpid(), signal.SIGKILL)


def aborts_for_memory(_emit):
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    faulthandler.disable()
    os.abort()


def takes_memory(_emit):
    kept = []
    while True:
        kept.append(bytearray(1 << 22))


@pytest.mark.parametrize(
    ("function", "state", "message"),
    [
        (fails, "error", "ValueError: no\nway \\udcf6"),
        (crashes, "crash", "ended by SIGABRT"),
        (exits, "crash", "ended with exit code 3"),
        (is_killed, "out_of_memory", "ended by SIGKILL"),
        (aborts_for_memory, "out_of_memory", "terminate called after throwing an instance of 'std::bad_alloc'"),
        (takes_memory, "out_of_memory", "MemoryError: "),
    ],
)
def test_how_a_function_ends(function, state, message):
    found = _guard.run(function, 30, 200 << 20)
    assert (found.state, found.message) == (state, message)


def test_what_was_emitted_before_a_crash_is_kept():
    assert _guard.run(crashes, 20).values == [{"number": 1}]


def test_a_function_that_hangs_ends_with_its_children(tmp_path):
    def hang(_emit):
        if not os.fork():
            # It keeps the pipes open.
            (tmp_path / "child").write_text(str(os.getpid()))
            time.sleep(600)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        while True:
            time.sleep(1)

    began = time.monotonic()
    assert _guard.run(hang, 1).state == "hang"
    assert time.monotonic() - began < 15
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_alive(child)


def is_alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_function_that_closes_its_pipes_and_stays_is_killed():
    def leave(_emit):
        os.closerange(0, 100)
        time.sleep(600)

    began = time.monotonic()
    assert _guard.run(leave, 1).state in ("out_of_memory", "hang")
    assert time.monotonic() - began < 15


def test_a_function_that_leaves_a_process_behind_has_ended(tmp_path):
    def leave(emit):
        if not os.fork():
            (tmp_path / "child").write_text(str(os.getpid()))
            time.sleep(600)
        while not (tmp_path / "child").exists():
            time.sleep(0.01)
        emit({"number": 1})

    began = time.monotonic()
    found = _guard.run(leave, 100)
    assert (found.state, found.values) == ("ok", [{"number": 1}])
    assert time.monotonic() - began < 50
    child = (tmp_path / "child").read_text()
    until = time.monotonic() + 10
    while child and is_alive(int(child)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not (child and is_alive(int(child)))


def test_a_child_of_a_child_crashes_alone():
    def outer(emit):
        emit({"state": _guard.run(crashes, 20).state})

    found = _guard.run(outer, 30)
    assert (found.state, found.values) == ("ok", [{"state": "crash"}])


def test_output_is_bounded():
    def loud(emit):
        os.write(1, b"x" * 100000)
        for _number in range(30):
            os.write(2, b"y" * 100000)
        for _number in range(600):
            emit({"text": "z" * 1000})

    found = _guard.run(loud, 30)
    assert found.state == "ok"
    assert 200 < len(found.values) < 300


def test_no_descriptor_is_left():
    before = len(os.listdir("/proc/self/fd"))
    for function in (crashes, fails, exits):
        _guard.run(function, 20)
    assert len(os.listdir("/proc/self/fd")) == before
