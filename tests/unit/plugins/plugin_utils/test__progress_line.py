# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The line that shows the progress of a module."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _progress_line


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        ({}, ""),
        ({"step": 7}, ""),
        ({"step": "dump", "bytes": 0, "total": None, "rate": None, "seconds_left": None}, "dump"),
        (
            {"step": "dump", "bytes": 1 << 30, "total": 2 << 30, "rate": 1 << 20, "seconds_left": 1024},
            "dump: 1.0 GiB of about 2.0 GiB, 1.0 MiB/s, 17 min 4 s left",
        ),
        ({"step": "dump", "bytes": 1536, "total": True, "rate": "x", "seconds_left": float("nan")}, "dump: 1.5 KiB"),
    ],
)
def test_the_line_has_what_is_known(progress, text):
    assert _progress_line.line(progress) == text


def test_lines_of_text_are_shown_once():
    progress = {"notes": [[1, "stopping redis"], [2, "starting redis"], ["3", "x"], [4, 5], None, [6]]}
    assert _progress_line.notes(progress, 0) == [(1, "stopping redis"), (2, "starting redis")]
    assert _progress_line.notes(progress, 1) == [(2, "starting redis")]
    assert _progress_line.notes({"notes": "x"}, 0) == []
