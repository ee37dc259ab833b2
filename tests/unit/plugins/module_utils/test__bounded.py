# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._bounded import Hung, NotMeasured, bounded, within
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Deadline,
    NotAllowed,
    OutOfTime,
    unreachable,
)
from tests.slack import SLACK


def test_a_call_that_returns_gives_a_result_or_an_error():
    assert within(Deadline(5), 5, int, "3") == 3
    # Also with too little time to wait for one that hangs.
    assert within(Deadline(0.5), 5, int, "3") == 3
    with pytest.raises(ValueError, match="invalid literal"):
        within(Deadline(5), 5, int, "x")


def test_a_call_that_had_its_timeout_is_hung():
    with pytest.raises(Hung, match=r"no answer within 0\.1 s"):
        within(Deadline(5), 0.1, time.sleep, 1)
    with pytest.raises(Hung):
        within(Deadline(0.15), 0.2, time.sleep, 1)


def test_an_expired_deadline_proves_nothing_about_the_call():
    called = []
    for call in (lambda: bounded(called.append, 0, 1), lambda: within(Deadline(0), 3, called.append, 1)):
        with pytest.raises(NotMeasured) as caught:
            call()
        assert str(caught.value) == "not measured (0.0 s of the deadline left)"
    assert called == []
    with pytest.raises(NotMeasured, match=r"not measured \(0\.1 s of the deadline left\)"):
        within(Deadline(0.1), 3, time.sleep, 1)


@pytest.mark.parametrize(
    ("failure", "reachable"),
    [
        (CannotConnect("refused", "no"), False),
        (OutOfTime(0.0), None),
        (NotAllowed("permission denied", "Measure with become"), None),
    ],
)
def test_reachable_is_unknown_without_time_or_right(failure, reachable):
    measurement = unreachable(("a",), failure)
    assert (measurement["reachable"], measurement["a"]) == (reachable, None)
    assert measurement["error"]["message"] == str(failure)


def test_a_call_that_hangs_is_abandoned():
    started = time.monotonic()
    with pytest.raises(Hung, match="no answer within"):
        bounded(time.sleep, 0.1, 5)
    assert time.monotonic() - started < 2 * SLACK


def test_a_call_that_does_not_hang_returns_or_raises():
    assert bounded(sum, 5, (1, 2)) == 3
    with pytest.raises(FileNotFoundError):
        bounded(os.stat, 5, "/does/not/exist")
