# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _last_words


def test_equal_lines_of_several_runs_are_shown_once_where_they_are_last():
    text = "starting\nno such file\nstarting\nno such file\n\n"
    assert _last_words.shown(text) == ["starting", "no such file"]
    assert _last_words.shown("first\n" + text, 2) == ["starting", "no such file"]
