# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab ends the engine that it started, and no other process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.lab import engine


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without containers, whose routes and real engine are out of reach."""
    monkeypatch.setattr(engine, "PID_FILE", tmp_path / "dockerd.pid")
    monkeypatch.setattr(engine, "LOCK_FILE", tmp_path / "lock")
    monkeypatch.setattr(engine, "attempt", lambda *words: None)
    monkeypatch.setattr(engine, "docker", lambda *words: "")
    return tmp_path


@pytest.fixture
def process(machine):
    """Starts a process with these arguments, and writes its id where the engine's would be."""
    started = []

    def start(*arguments):
        program = [sys.executable, "-c", "print(flush=True); input()", *arguments]
        child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(child)
        # Only when it speaks is it sure to show its arguments.
        child.stdout.readline()
        engine.PID_FILE.write_text(f"{child.pid}\n", encoding="ascii")
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def test_its_own_engine_is_stopped(process):
    daemon = process(f"--pidfile={engine.PID_FILE}")
    assert engine.own_pid() == daemon.pid

    engine.stop()
    assert daemon.wait(5) != 0
    assert not engine.PID_FILE.exists()


def test_a_process_that_got_the_engines_old_id_is_left_alone(process):
    other = process("--pidfile=/somewhere/else")
    assert engine.own_pid() is None

    engine.stop()
    assert other.poll() is None


def test_an_engine_with_containers_is_left_running(process, monkeypatch):
    monkeypatch.setattr(engine, "docker", lambda *words: "another-project\n")
    daemon = process(f"--pidfile={engine.PID_FILE}")

    engine.stop()
    assert daemon.poll() is None
