# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pressure stall information, recorded from Linux 6.18, and of kernels without it."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._host import _pressure
from tests.unit.plugins.module_utils._host.trees import context, table

CPU = """\
some avg10=28.44 avg60=16.40 avg300=14.11 total=28941898560
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
"""
# Before Linux 5.13, there is no line "full" of the CPU.
OLD_CPU = "some avg10=1.00 avg60=0.50 avg300=0.25 total=1000000\n"


def described(folder, first, second):
    made = context(folder)
    made.first, made.second = table(at=1.0), table(at=2.0)
    before, now = (
        _pressure.sample(context(folder / name, {"proc/pressure/cpu": text} if text else {}))
        for name, text in (("first", first), ("second", second))
    )
    return _pressure.describe(made, before, now)


def test_shares_are_ratios_and_times_are_seconds(tmp_path):
    found = described(tmp_path, CPU, CPU.replace("28941898560", "28942398560"))
    assert (found["available"], found["reason"]) == (True, None)
    assert found["cpu"]["some"] == {
        "avg10": 0.2844, "avg60": 0.164, "avg300": 0.1411, "interval": 0.5, "total_seconds": 28942.39856,
    }  # fmt: skip
    assert found["memory"] is None


def test_an_older_kernel_has_no_full_line_of_the_cpu(tmp_path):
    found = described(tmp_path, OLD_CPU, OLD_CPU)
    assert found["cpu"]["full"] is None
    assert found["cpu"]["some"]["interval"] == 0


def test_a_kernel_without_it_is_named(tmp_path):
    found = described(tmp_path, None, None)
    assert found == {"available": False, "reason": _pressure.ABSENT, "cpu": None, "memory": None, "io": None}


def test_a_total_that_was_reset_gives_no_interval(tmp_path):
    assert described(tmp_path, CPU, OLD_CPU)["cpu"]["some"]["interval"] is None
