# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of the clock, by values of adjtimex(2)."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _clock
from tests.unit.plugins.module_utils._host.trees import context


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        # chrony: synchronised, in nanoseconds.
        (0, 0x2001, (True, 0.0015)),
        # ntpd of an old kernel: in microseconds.
        (0, 0x0001, (True, 1.5)),
        (5, 0x0040, (False, None)),
        (0, 0x0040, (False, None)),
        (5, 0x2001, (False, None)),
    ],
)
def test_the_offset_of_a_clock_that_is_not_synchronised_means_nothing(state, status, expected):
    found = _clock.of_state(state, status, 1500000, 300, 16000000)
    assert (found["synchronised"], found["offset_seconds"]) == expected
    assert found["maximum_error_seconds"] == 16


def test_the_clock_of_this_machine_can_be_read(tmp_path):
    found = _clock.describe(context(tmp_path))
    assert found["synchronised"] in (True, False)
    assert 0 <= found["maximum_error_seconds"] <= 16
