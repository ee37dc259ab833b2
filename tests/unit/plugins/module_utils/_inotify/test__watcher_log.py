# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the log of a watcher's container says."""

from __future__ import annotations

import json

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _containers
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _watcher_log

STARTED = 1790000000.0


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("2026-09-21T14:13:20.500000000Z", True),
        # The engine noted the start after the program had written it.
        ("2026-09-21T14:13:19.700000000Z", True),
        # Of an earlier run.
        ("2026-09-21T14:13:10.000000000Z", False),
    ],
)
def test_a_line_of_this_run_is_found(tmp_path, written, found):
    log = tmp_path / "json.log"
    log.write_text(json.dumps({"log": "IN_Q_OVERFLOW\n", "stream": "stdout", "time": written}) + "\n")
    assert ("overflow" in _watcher_log.read(str(log), _containers.writes_since(STARTED))) is found
