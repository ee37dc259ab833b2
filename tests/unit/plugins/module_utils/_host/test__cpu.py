# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The processors, from recorded text of /proc/stat, /proc/schedstat and /proc/loadavg."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _cpu
from tests.unit.plugins.module_utils._host.trees import context, process, table

# Linux 6.1, two processors.
FIRST = """\
cpu  5366749 334627 2499055 2035861 47538 0 52869 8493 0 0
cpu0 2683374 167313 1249527 1017930 23769 0 26434 4246 0 0
cpu1 2683375 167314 1249528 1017931 23769 0 26435 4247 0 0
intr 2499055 0 9 0 0 0
ctxt 9000000
btime 1795400000
processes 120000
procs_running 3
procs_blocked 1
softirq 100 1 2 3
"""
SECOND = """\
cpu  5366849 334627 2499075 2035911 47548 0 52874 8508 0 0
cpu0 2683424 167313 1249537 1017955 23774 0 26436 4253 0 0
cpu1 2683425 167314 1249538 1017956 23774 0 26438 4255 0 0
ctxt 9002500
btime 1795400000
processes 120012
procs_running 5
procs_blocked 0
"""
SCHEDSTAT = """\
version %s
timestamp 4302345678
cpu0 0 0 0 0 0 0 81234567890 %d000000000 1000
domain0 00000003 1 2 3
cpu1 0 0 0 0 0 0 91234567890 %d000000000 1000
"""
# Linux 2.6.32 counts neither steal nor what came later.
OLD = "cpu  100 0 50 1000\ncpu0 100 0 50 1000\n"
LOADAVG = "8.01 7.5 4.00 5/474 19013\n"


def sampled(folder, stat, schedstat=None):
    files = {"proc/stat": stat, "proc/loadavg": LOADAVG}
    if schedstat:
        files["proc/schedstat"] = schedstat
    return _cpu.sample(context(folder, files))


def described(folder, first, second, runnable=(4, 6), schedstats=(None, None)):
    made = context(folder, {"proc/loadavg": LOADAVG})
    made.first, made.second = table(process(1), at=10.0), table(process(1), at=11.0)
    made.__dict__["own"] = frozenset()
    before, now = (sampled(folder / str(at), *each) for at, each in enumerate(zip((first, second), schedstats)))
    return _cpu.describe(made, before, now, list(runnable))


def test_ratios_are_shares_of_all_processors_in_the_interval(tmp_path):
    found = described(tmp_path, FIRST, SECOND)
    assert found["cores"] == 2
    # 200 ticks passed.
    assert found["user_ratio"] == 0.5
    assert found["system_ratio"] == 0.125
    assert found["steal_ratio"] == 0.075
    assert found["iowait_ratio"] == 0.05
    assert found["idle_ratio"] == 0.25
    assert found["busy_ratio"] == 0.7
    assert found["context_switches_per_second"] == 2500
    assert found["forks_per_second"] == 12
    assert found["load"] == {"one": 8.01, "five": 7.5, "fifteen": 4.0}
    assert found["load_per_core"] == 4.005
    assert found["threads"] == 474


def test_without_the_sum_of_waiting_times_runnable_threads_are_counted_without_this_one(tmp_path):
    # 3 and 5 in the samples, 10 and 14 between them.
    assert described(tmp_path, FIRST, SECOND, runnable=(10, 14))["runnable_per_core"] == 3.5
    assert described(tmp_path / "work", FIRST, SECOND, runnable=())["runnable_per_core"] == 1.5
    without = [text.replace("procs_running", "procs_hidden") for text in (FIRST, SECOND)]
    assert described(tmp_path / "none", *without, runnable=())["runnable_per_core"] is None


def test_the_sum_of_waiting_times_counts_the_threads_that_wait(tmp_path):
    # In one second, 6 s were waited and 1.4 s used (with stolen time).
    schedstats = (SCHEDSTAT % (15, 100, 50), SCHEDSTAT % (15, 103, 53))
    assert described(tmp_path, FIRST, SECOND, (), schedstats)["runnable_per_core"] == 3.7


@pytest.mark.parametrize(("version", "expected"), [(15, 1.5), (17, 1.5), (99, None)])
def test_another_version_of_schedstat_is_not_read(version, expected):
    assert _cpu.parse_schedstat(SCHEDSTAT % (version, 1, 0) + "cpu2 0 0 0 0 0 0 1 500000000 1\n") == expected


def test_a_reset_counter_gives_no_ratio(tmp_path):
    found = described(tmp_path, SECOND, FIRST)
    for name in ("user_ratio", "busy_ratio", "steal_ratio", "idle_ratio", "context_switches_per_second"):
        assert found[name] is None, name


def test_idle_and_iowait_may_fall_by_a_little():
    first, _cores = _cpu.parse_stat(FIRST)
    second = {**first, "user": first["user"] + 100, "iowait": first["iowait"] - 2}
    assert _cpu.ratios(first, second)["iowait"] == 0
    assert _cpu.ratios(first, second)["user"] == 1
    assert _cpu.ratios(first, {**second, "iowait": first["iowait"] - 20000})["user"] is None
    assert _cpu.ratios(first, {**second, "steal": 0})["user"] is None


def test_an_old_kernel_has_fewer_columns():
    times, cores = _cpu.parse_stat(OLD)
    assert (times["steal"], times["idle"], cores) == (0, 1000, 1)
    with pytest.raises(ValueError, match="no line cpu"):
        _cpu.parse_stat("intr 1\n")


def test_what_this_diagnosis_uses_is_known(tmp_path):
    made = context(tmp_path)
    made.first = table(process(5, ticks=100), process(6, ticks=3, started=7), at=10.0)
    made.second = table(process(5, ticks=150), process(6, ticks=30, started=9), process(7, ticks=999), at=12.0)
    made.__dict__["own"] = frozenset((5, 6, 8))
    # The pid 6 is that of another process now.
    assert _cpu.own_use(made) == (50 + 30) / _cpu.TICKS / 2
