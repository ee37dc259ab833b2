# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes of mounts, read in processes that can be abandoned."""

from __future__ import annotations

import os
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes, _statvfs
from ansible_collections.tracktion.ops.plugins.module_utils._linux._statvfs import Target
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

STUCK = "/stuck"
# Numbers of devices of this process only: other processes run tests at the same time.
OWN = os.getpid() << 8


@pytest.fixture
def stuck(monkeypatch):
    """A path on which statvfs() does not return. SIGKILL ends the wait, other than on a real mount."""
    real = os.statvfs

    def statvfs(path):
        if path == STUCK:
            time.sleep(60)
        return real(path)

    monkeypatch.setattr(os, "statvfs", statvfs)


def children():
    me = str(os.getpid())
    found = []
    for pid in _processes.pids():
        try:
            fields = _processes.stat(pid)
        except OSError:
            continue
        if fields[1] == me and fields[0] != "Z":
            found.append(pid)
    return found


def test_sizes_are_those_of_statvfs(tmp_path):
    targets = [
        Target(OWN + 1, str(tmp_path), False),
        Target(OWN + 2, str(tmp_path), True),
        Target(OWN + 3, "/missing", False),
    ]
    answers = _statvfs.read(targets, 5.0, Deadline(20))
    now = os.statvfs(tmp_path)
    assert answers[0].sizes.bytes == answers[1].sizes.bytes == now.f_blocks * now.f_frsize
    assert answers[2].errno == 2


def test_a_mount_that_hangs_costs_only_itself(stuck, tmp_path):
    targets = [Target(OWN + number, str(tmp_path), False) for number in range(50)]
    targets.insert(7, Target(OWN + 99, STUCK, False))
    targets += [Target(OWN + 100 + number, STUCK, True) for number in range(3)]
    started = time.monotonic()
    answers = _statvfs.read(targets, 0.3, Deadline(30))
    hung = {position for position, answer in answers.items() if answer.hung_since}
    assert hung == {7, 51, 52, 53}
    assert len(answers) == len(targets)
    # Side by side, and one after the other only behind the one that hung.
    assert time.monotonic() - started < 15


def test_the_deadline_bounds_all_mounts(stuck):
    started = time.monotonic()
    assert _statvfs.read([Target(OWN + 1, STUCK, True)], 60.0, Deadline(0.3)) == {}
    assert time.monotonic() - started < 20


def test_no_process_is_left_that_can_be_ended(stuck):
    before = set(children())
    _statvfs.read([Target(OWN + 1, STUCK, True)], 0.2, Deadline(20))
    until = time.monotonic() + 20
    while set(children()) - before and time.monotonic() < until:
        time.sleep(0.02)
    assert not set(children()) - before


def test_a_process_that_was_left_behind_is_found(stuck, tmp_path):
    """Instead of a second one on the same mount."""
    reader = _statvfs._Reader([Target(OWN, STUCK, True)], [0])
    try:
        until = time.monotonic() + 20
        while OWN not in _statvfs._named() and time.monotonic() < until:
            time.sleep(0.02)
        before = set(children())
        answers = _statvfs.read([Target(OWN, STUCK, True), Target(OWN + 1, str(tmp_path), True)], 0.2, Deadline(20))
        assert answers[0].hung_since == pytest.approx(time.time(), abs=60)
        assert answers[1].sizes
        assert set(children()) <= before
    finally:
        reader.end()


def test_the_process_of_another_user_is_no_marker(monkeypatch, stuck):
    reader = _statvfs._Reader([Target(OWN, STUCK, True)], [0])
    try:
        until = time.monotonic() + 20
        while OWN not in _statvfs._named() and time.monotonic() < until:
            time.sleep(0.02)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert OWN not in _statvfs._named()
    finally:
        reader.end()


def test_a_process_holds_no_other_descriptor(stuck):
    """It would keep a pipe open that the visit reads to its end."""
    reading, writing = os.pipe()
    reader = _statvfs._Reader([Target(OWN, STUCK, True)], [0])
    try:
        os.close(writing)
        assert os.read(reading, 1) == b""
    finally:
        reader.end()
        os.close(reading)


def test_the_name_of_a_process_fits():
    assert len(_statvfs.NAME % 0xFFFFFFFF) <= 15
