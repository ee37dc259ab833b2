# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How busy a host is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _host_state

ROOT = Path(__file__).resolve().parents[4]
COUNTED = """
import os
os.sched_setaffinity(0, {%d})
from ansible_collections.tracktion.ops.plugins.module_utils import _host_state
while os.times().user < 0.1: pass
print(_host_state.slowdown())
"""


@pytest.fixture
def core():
    """A core of this machine, with two processes that do not stop to compute on it."""
    core = min(os.sched_getaffinity(0))
    endless = "import os; os.sched_setaffinity(0, {%d})\nwhile True: pass" % core
    busy = [subprocess.Popen([sys.executable, "-c", endless]) for _process in range(2)]
    yield core
    for process in busy:
        process.kill()
        process.wait()


def test_a_process_that_waits_for_a_core_is_slowed_down(core):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "playbooks" / "collections")}
    done = subprocess.run(
        [sys.executable, "-c", COUNTED % core], capture_output=True, text=True, check=True, env=environment
    )
    assert float(done.stdout) > 1.5


def test_a_computation_is_timed_if_the_kernel_does_not_count(monkeypatch):
    for counted in (None, (0.0, 0.0)):
        monkeypatch.setattr(_host_state, "_scheduled", lambda _pid, counted=counted: counted)
        monkeypatch.setattr(_host_state, "_stretch", {0.02: 2.5}.__getitem__)
        assert _host_state.slowdown() == 2.5
        # One that was interrupted does not decide.
        monkeypatch.setattr(_host_state, "_stretch", {0.02: 9.0, 0.04: 1.1}.__getitem__)
        assert _host_state.slowdown() == 1.1
    monkeypatch.undo()
    assert _host_state._stretch(0.001) >= 1


def test_a_process_that_ended_is_not_counted():
    assert _host_state.run_delay(2**22 + 1) is None
    assert _host_state.run_delay() >= 0
