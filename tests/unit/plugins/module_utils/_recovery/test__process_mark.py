# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which processes are known to have ended."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _process_mark


def test_this_process_works_and_the_same_number_of_another_boot_has_ended():
    mark = _process_mark.own()
    assert not _process_mark.is_dead(mark)
    pid, _colon, started = mark.partition(":")
    assert _process_mark.is_dead("%s:%s" % (pid, started[::-1][1:] + "x"))


def test_a_process_that_has_ended():
    with subprocess.Popen(["true"]) as process:
        pid = process.pid
    assert _process_mark.is_dead("%d:01234567" % pid)


@pytest.mark.parametrize("text", ["", "x:", "x:01234567", "12", "12:1"])
def test_what_is_no_mark_is_not_removed(text):
    assert not _process_mark.is_dead(text)
