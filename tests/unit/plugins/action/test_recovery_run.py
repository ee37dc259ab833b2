# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the controller learns of a job in the background. The command that it runs on the host is the real one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ansible_collections.tracktion.ops.plugins.action import recovery_run
from ansible_collections.tracktion.ops.plugins.action.recovery_run import ActionModule

JOB = "j918273645546372.4711"


class Display:
    def __init__(self):
        self.lines = []

    def display(self, text):
        self.lines.append(text)


@pytest.fixture
def action(monkeypatch):
    """An action of this host, whose job never has a result."""
    monkeypatch.setattr(recovery_run, "FIRST_SECONDS", 0.001)
    found = ActionModule.__new__(ActionModule)
    found._longest_seconds = 0.001
    found._display = Display()
    found._job = lambda mode, job, task_vars: {"started": 1, "finished": 0}
    found._low_level_execute_command = lambda command: {
        "stdout": subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True, check=True).stdout
    }
    return found


@pytest.fixture
def process():
    """A process with the first part of the job's id as an argument."""
    arguments = [sys.executable, "-c", "input()", JOB.partition(".")[0]]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE) as found:
        yield found
        found.kill()


def test_a_job_with_a_process_is_alive_and_its_progress_is_read(action, process, tmp_path):
    progress = tmp_path / "with a space"
    progress.write_text('{"step": "dump", "bytes": 5}')
    found, boot, is_alive = action._look(str(progress), JOB)
    assert (found, is_alive) == ({"step": "dump", "bytes": 5}, True)
    assert len(boot) == 36
    assert action._look(str(tmp_path / "absent"), JOB) == ({}, boot, True)


def test_a_job_that_was_killed_ends_the_task(action, process, tmp_path):
    looks = []
    look = action._look

    def counted(*arguments):
        looks.append(look(*arguments))
        if len(looks) == 2:
            process.kill()
            process.wait()
        return looks[-1]

    action._look = counted
    ended = action._follow(JOB, str(tmp_path / "progress"), "host: backup", 60, {})
    assert ended["failed"]
    assert "its process was killed" in ended["msg"]
    assert len(looks) == 2 + recovery_run.LOOKS_MOST


def test_a_host_that_was_started_again_ends_the_task(action):
    boots = iter(["one", *["two"] * recovery_run.LOOKS_MOST])
    action._look = lambda path, job: ({}, next(boots), False)
    ended = action._follow(JOB, "/progress", "host: backup", 60, {})
    assert "the host was started again meanwhile" in ended["msg"]
    assert "Run the playbook again" in ended["msg"]


def test_a_look_that_fails_proves_nothing(action):
    action._low_level_execute_command = lambda command: {"stdout": "\n--\n"}
    assert action._look("/progress", JOB) == ({}, "", True)
