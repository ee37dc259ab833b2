# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file with the progress of a module."""

from __future__ import annotations

import json

from ansible_collections.tracktion.ops.plugins.module_utils._recovery._progress import Progress, bytes_below


def test_rate_and_time_left_follow_the_last_seconds(tmp_path):
    now = [0.0]
    path = tmp_path / "progress"
    progress = Progress(str(path), lambda: now[0])
    progress.step("dump", 1000)
    assert json.loads(path.read_text())["rate"] is None
    for second in range(1, 61):
        now[0] = float(second)
        # It becomes slower after 30 s.
        progress.update(min(second, 30) * 10 + max(0, second - 30))
    found = json.loads(path.read_text())
    assert found["step"] == "dump"
    assert found["bytes"] == 330
    assert found["rate"] == 1
    assert found["seconds_left"] == 670
    progress.step("verify")
    found = json.loads(path.read_text())
    assert (found["step"], found["total"], found["seconds_left"]) == ("verify", None, None)
    progress.end()
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_estimate_has_no_time_left(tmp_path):
    now = [0.0]
    progress = Progress(str(tmp_path / "progress"), lambda: now[0])
    progress.step("dump", 10)
    now[0] = 5.0
    progress.update(20)
    assert json.loads((tmp_path / "progress").read_text())["seconds_left"] is None


def test_a_progress_that_cannot_be_written_fails_nothing(tmp_path):
    for path in (None, "", str(tmp_path / "missing" / "progress")):
        progress = Progress(path)
        progress.step("dump")
        progress.update(1)
        progress.end()


def test_bytes_below_a_directory(tmp_path):
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"345")
    assert bytes_below(str(tmp_path)) == 5


def test_lines_of_text_are_numbered(tmp_path):
    progress = Progress(str(tmp_path / "progress"))
    progress.note("stopping redis")
    for number in range(20):
        progress.note("step %d" % number)
    notes = json.loads((tmp_path / "progress").read_text())["notes"]
    assert notes[0] == [12, "step 10"]
    assert notes[-1] == [21, "step 19"]
