# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The forecast of watches, and invalid options."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _forecast
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _file_events_info


@pytest.mark.parametrize(
    ("left", "at_most", "needed", "complete", "expected"),
    [
        (10, 10, 5, True, True),
        (10, 10, 11, True, False),
        # An incomplete count that does not fit: the full one does not either.
        (10, 10, 11, False, False),
        (None, 10, 11, True, False),
        (None, 10, 5, True, None),
        (10, 10, 5, False, None),
        (10, 10, None, True, None),
    ],
)
def test_whether_the_watches_are_enough(left, at_most, needed, complete, expected):
    assert _forecast.fits(left, at_most, needed, complete) is expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"directories": ["music"]}, "directories"),
        ({"seen_by": "watcher"}, "seen_by"),
        ({"watcher_command": "("}, "watcher_command"),
    ],
)
def test_a_bad_option_is_named(options, named):
    defaults = {name: option.get("default") for name, option in _file_events_info.ARGUMENT_SPEC.items()}
    with pytest.raises(BadOption, match=named):
        _file_events_info.measure({**defaults, **options})


def test_the_limit_of_open_files_of_a_process_that_has_just_ended():
    ended = subprocess.Popen(["true"])
    ended.wait()
    container = SimpleNamespace(user=lambda: None, open_files=lambda: 64)
    assert _file_events_info._limits_of(ended.pid, container, None, {}) == ([], (None, 64))
