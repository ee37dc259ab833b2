# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real programs that fail, write a lot, read a password, or do not end."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, OutOfTime
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _run
from tests.slack import SLACK


def python(text):
    return [sys.executable, "-c", text]


def run(text, seconds=30.0 * SLACK, **how):
    return _run.run("program", python(text), Deadline(seconds), **how)


def test_the_beginning_of_the_output_is_returned_and_the_rest_is_read():
    assert run("print('x' * 3000000)", most=10) == "x" * 10


def test_a_failure_has_the_last_lines_without_the_secret():
    text = "import sys; sys.stderr.write('Password: ' + '\\n'.join('line %d' % n for n in range(99)) + '\\nhunter2\\n')"
    with pytest.raises(_run.ProgramFailed, match=r"program failed: line 95; .*; line 98; \*{8}$") as caught:
        run(text + "; sys.exit(3)", secret="hunter2")
    assert caught.value.status == 3
    assert "hunter2" not in repr(caught.value.lines)


def test_a_secret_is_sent_to_the_input_and_there_is_no_terminal():
    text = """
import os, sys
try:
    os.open("/dev/tty", os.O_RDWR)
    print("a terminal")
except OSError:
    print(sys.stdin.readline().strip()[::-1])
"""
    assert run(text, secret="hunter2").strip() == "2retnuh"


def test_a_program_that_ends_before_it_reads_its_input_is_no_error():
    assert run("import os; os.close(0)", secret="x" * 100000) == ""


def test_a_program_is_ended_with_its_children_at_the_deadline(tmp_path):
    pids = tmp_path / "pids"
    text = "import os, time; pid = os.fork(); open(%r, 'a').write('%%d ' %% os.getpid()); time.sleep(600)" % str(pids)
    with pytest.raises(OutOfTime):
        run(text, seconds=1.0)
    time.sleep(0.2)
    assert all(not Path("/proc/%s/exe" % pid).exists() for pid in pids.read_text().split())


def test_a_watch_that_raises_ends_the_program():
    def watch():
        raise ValueError("enough")

    begun = time.monotonic()
    with pytest.raises(ValueError, match="enough"):
        run("import time; time.sleep(600)", watch=watch)
    assert time.monotonic() - begun < 10 * SLACK


def test_a_program_ends_with_a_killed_parent(tmp_path):
    pid = tmp_path / "pid"
    child = os.fork()
    if child == 0:
        text = "import os, time; open(%r, 'w').write(str(os.getpid())); time.sleep(600)"
        run(text % str(pid))
        os._exit(1)
    end = time.monotonic() + 10 * SLACK
    while not (pid.exists() and pid.read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while Path("/proc/%s/exe" % pid.read_text()).exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path("/proc/%s/exe" % pid.read_text()).exists()


def test_output_to_a_file_is_private_and_never_replaces_one(tmp_path):
    target = tmp_path / "globals.sql"
    run("print('CREATE ROLE a;')", output=str(target))
    assert target.read_text() == "CREATE ROLE a;\n"
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        run("print('x')", output=str(target))


def test_a_missing_program_is_named():
    with pytest.raises(_run.ProgramFailed, match="pg_dump failed: No such file"):
        _run.run("pg_dump", ["/nowhere/pg_dump"], Deadline(30))
