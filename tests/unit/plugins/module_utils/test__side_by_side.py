# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _host_visit, _side_by_side
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import MissingLibrary
from tests.slack import SLACK


def measured(value):
    return lambda: {"value": value}


def hang():
    time.sleep(60)


def test_each_area_returns_its_probes():
    result = _side_by_side.run({"a": (5, {"x": measured(1), "y": measured(2)}), "b": (5, {"z": measured(3)})})
    assert result["a"]["measurement"] == {"x": {"value": 1}, "y": {"value": 2}}
    assert result["b"]["measurement"] == {"z": {"value": 3}}
    assert result["a"]["error"] is None


def test_areas_run_in_parallel():
    # Each waits for the others.
    all_four = multiprocessing.Barrier(4)
    result = _side_by_side.run({name: (30, {"wait": lambda: {"number": all_four.wait()}}) for name in "abcd"})
    assert {each["measurement"]["wait"]["number"] for each in result.values()} == {0, 1, 2, 3}


def test_an_area_can_begin_later():
    started = time.monotonic()
    result = _side_by_side.run({"late": (30, {"x": lambda: {"value": time.monotonic()}})}, delays={"late": 0.2})
    assert result["late"]["measurement"]["x"]["value"] >= started + 0.2
    assert result["late"]["error"] is None


def test_areas_that_sample_begin_first():
    plan = {
        "cache": {"probes": {"service": {"options": {"sample_seconds": 1.0}}, "memory": {"options": {}}}},
        "logs": {"probes": {"errors": {"options": {}}}},
    }
    deadlines = {"cache": 15, "logs": 15, ".presence": 2}
    assert _host_visit.delays(plan, deadlines) == {"cache": 0.0, "logs": 0.3, ".presence": 0.1}
    plan["cache"]["probes"]["service"]["options"]["sample_seconds"] = 0.2
    assert _host_visit.delays(plan, deadlines)["logs"] == pytest.approx(0.06)
    # Nothing to wait for: no area samples, or the value is invalid, which its probe reports.
    assert set(_host_visit.delays({"logs": plan["logs"]}, deadlines).values()) == {0.0}
    plan["cache"]["probes"]["service"]["options"]["sample_seconds"] = "soon"
    assert set(_host_visit.delays(plan, deadlines).values()) == {0.0}


def test_an_area_that_hangs_is_ended_at_its_deadline_and_keeps_its_results():
    started = time.monotonic()
    result = _side_by_side.run({"slow": (2.0, {"first": measured(1), "second": hang}), "fine": (5, {"x": measured(2)})})
    assert time.monotonic() - started < 4 * SLACK
    assert result["slow"]["measurement"] == {"first": {"value": 1}}
    assert result["slow"]["error"]["kind"] == "deadline"
    assert result["fine"]["error"] is None


def test_the_deadline_ends_what_a_probe_has_started(tmp_path):
    pid_file = tmp_path / "pid"

    def start_another_and_hang():
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        pid_file.write_text(str(pid))
        hang()

    _side_by_side.run({"a": (0.3, {"x": start_another_and_hang})})
    status = Path("/proc/%s/stat" % pid_file.read_text())
    ended = time.monotonic() + 2
    while status.exists() and status.read_text().split()[2] != "Z" and time.monotonic() < ended:
        time.sleep(0.01)
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_a_crash_of_a_process_affects_only_its_area():
    def crash():
        os.kill(os.getpid(), signal.SIGKILL)

    result = _side_by_side.run({"bad": (5, {"x": crash}), "fine": (5, {"x": measured(1)})})
    assert result["bad"]["error"]["kind"] == "died"
    assert result["fine"]["measurement"] == {"x": {"value": 1}}


def test_an_exception_is_the_error_of_its_probe_only():
    def broken():
        raise KeyError("nosuch")

    result = _side_by_side.run({"a": (5, {"x": broken, "y": measured(1)})})
    assert result["a"]["measurement"]["x"]["error"] == {
        "kind": "crashed",
        "message": "KeyError: 'nosuch'",
        "hint": None,
    }
    assert result["a"]["measurement"]["x"]["reachable"] is None
    assert result["a"]["measurement"]["y"] == {"value": 1}


def test_a_missing_library_names_its_hint():
    def without_library():
        raise MissingLibrary("no psycopg2", hint="install it")

    result = _side_by_side.run({"a": (5, {"x": without_library})})
    assert result["a"]["measurement"]["x"]["error"] == {
        "kind": "missing_library",
        "message": "no psycopg2",
        "hint": "install it",
    }


def test_output_of_a_probe_does_not_reach_standard_output_of_the_module(capfd):
    def noisy():
        os.write(1, b"not JSON")
        return {}

    _side_by_side.run({"a": (5, {"x": noisy})})
    assert capfd.readouterr().out == ""


def test_a_measurement_above_the_limit_is_rejected(monkeypatch):
    monkeypatch.setattr(_side_by_side, "MAX_BYTES", 1000)
    result = _side_by_side.run({"a": (5, {"x": measured("x" * 100000)})})
    assert result["a"]["error"]["kind"] == "too_large"


@pytest.mark.parametrize("value", ["\udcff", "\u2713", "a\nb"])
def test_any_text_passes(value):
    result = _side_by_side.run({"a": (5, {"x": measured(value)})})
    assert result["a"]["error"] is None
    assert "value" in result["a"]["measurement"]["x"]


def children():
    """The processes that this one has started and not collected; other tests may have left some."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(path.parent.name)
    return found


def test_no_process_is_left_behind():
    before = children()
    _side_by_side.run({name: (5, {"x": measured(1)}) for name in "abc"})
    assert children() <= before


# Runs an area that starts a program and hangs, in the same way as the module, and writes the id of the program.
MODULE = """
import subprocess, sys, time
sys.path.insert(0, %r)
from ansible_collections.tracktion.ops.plugins.module_utils import _host_visit, _side_by_side

def hang():
    program = subprocess.Popen(["sleep", "60"])
    with open(sys.argv[1], "w") as handle:
        handle.write(str(program.pid))
    time.sleep(60)

_host_visit.end_with_signals()
print(_side_by_side.run({"area": (30, {"hang": hang})}, result=1))
""" % str(Path(__file__).parents[4] / "playbooks" / "collections")


def is_running(pid):
    try:
        return Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def hanging(tmp_path):
    """Return a module in a process of its own, and the id of the program that its area has started."""
    pid_file = tmp_path / "pid"
    module = subprocess.Popen([sys.executable, "-c", MODULE, str(pid_file)], stdout=subprocess.PIPE)
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    yield module, int(pid_file.read_text())
    module.kill()
    module.wait()
    module.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_any_end_of_the_module_ends_all_that_it_has_started(hanging, number):
    module, program = hanging
    module.send_signal(number)
    module.wait(10)
    wait_for(lambda: not is_running(program))


def test_a_signal_during_a_fork_ends_the_module():
    """A process gets the signal in the hooks of os.fork(), in which Python ignores exceptions."""
    fork = "os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))"
    script = "import os, signal\n" + MODULE.replace("print(", fork + "\nprint(")
    done = subprocess.run([sys.executable, "-c", script, os.devnull], stdout=subprocess.PIPE, timeout=20, check=False)
    assert done.returncode == 128 + signal.SIGTERM


def test_the_module_ends_when_its_result_is_not_read_anymore(hanging):
    module, program = hanging
    module.stdout.close()
    assert module.wait(10) == 1
    wait_for(lambda: not is_running(program))


def test_the_seconds_of_the_visit_limit_every_deadline():
    started = time.monotonic()
    waited = []
    result = _side_by_side.run({"slow": (30, {"first": measured(1), "hang": hang})}, seconds=0.3, waited=waited)
    assert time.monotonic() - started < 5 * SLACK
    assert result["slow"]["measurement"] == {"first": {"value": 1}}
    assert result["slow"]["error"]["message"] == "not finished after 0.3 s"
    assert all(0 <= waiting <= lived for waiting, lived in waited)
