# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both versions of control groups, read from files as the kernel writes them."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _cgroup

ID = "126e9272ccad5f013e656348d3d5c0d5e3e724c610a990958f35b8afbc11f96b"
MOUNTINFO_1 = """\
30 25 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
33 25 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
34 25 0:30 / /home rw - ext4 /dev/sda1 rw
"""
MOUNTINFO_2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_version_1_has_a_directory_for_each_controller():
    cgroup = "9:pids:/docker/{0}\n4:memory:/docker/{0}\n2:cpu,cpuacct:/docker/{0}\n0::/docker/{0}\n".format(ID)
    assert _cgroup.Hierarchies(MOUNTINFO_1).directories(cgroup, ID) == {
        "memory": "/sys/fs/cgroup/memory/docker/" + ID,
        "cpu": "/sys/fs/cgroup/cpu,cpuacct/docker/" + ID,
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/docker/" + ID,
        "pids": "/sys/fs/cgroup/pids/docker/" + ID,
    }


@pytest.mark.parametrize(
    ("cgroup", "directory"),
    [
        ("0::/docker/%s" % ID, "/docker/%s" % ID),
        ("0::/system.slice/docker-%s.scope" % ID, "/system.slice/docker-%s.scope" % ID),
        ("0::/user.slice/libpod-%s.scope/container" % ID, "/user.slice/libpod-%s.scope" % ID),
    ],
)
def test_version_2_has_one_directory_for_every_engine_and_driver(cgroup, directory):
    found = _cgroup.Hierarchies(MOUNTINFO_2).directories(cgroup, ID)
    assert set(found.values()) == {"/sys/fs/cgroup" + directory}
    assert set(found) == set(_cgroup.CONTROLLERS)


def written(path, files):
    for name, content in files.items():
        (path / name).write_text(content)
    return dict.fromkeys(_cgroup.CONTROLLERS, str(path))


VERSION_1 = {
    "memory.usage_in_bytes": "104857600\n",
    "memory.limit_in_bytes": "209715200\n",
    "memory.max_usage_in_bytes": "150000000\n",
    "memory.stat": "cache 1\ninactive_file 5\ntotal_inactive_file 4857600\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "cpu.stat": "nr_periods 100\nnr_throttled 40\nthrottled_time 2500000000\n",
    "cpuacct.usage": "14815268449\n",
    "pids.current": "28\n",
    "pids.max": "max\n",
}
VERSION_2 = {
    "memory.current": "104857600\n",
    "memory.max": "209715200\n",
    "memory.peak": "150000000\n",
    "memory.stat": "anon 1\ninactive_file 4857600\n",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 3\noom_kill 3\noom_group_kill 0\n",
    "cpu.stat": "usage_usec 14815268\nuser_usec 1\nnr_periods 100\nnr_throttled 40\nthrottled_usec 2500000\n",
    "pids.current": "28\n",
    "pids.max": "max\n",
}


@pytest.mark.parametrize("files", [VERSION_1, VERSION_2], ids=["1", "2"])
def test_both_versions_give_the_same_reading(tmp_path, files):
    found = _cgroup.reading(written(tmp_path, files))
    assert round(found.pop("cpu_seconds"), 3) == 14.815
    assert found == {
        "memory_bytes": 100000000,
        "memory_limit_bytes": 209715200,
        "memory_peak_bytes": 150000000,
        "oom_kills": 3,
        "periods": 100,
        "throttled_periods": 40,
        "throttled_seconds": 2.5,
        "pids": 28,
        "pids_limit": None,
    }


@pytest.mark.parametrize(
    "files", [{"memory.current": "1", "memory.max": "max"}, {"memory.limit_in_bytes": "9223372036854771712"}]
)
def test_no_limit_is_null(tmp_path, files):
    assert _cgroup.reading(written(tmp_path, files))["memory_limit_bytes"] is None


def test_missing_counters_are_null(tmp_path):
    assert _cgroup.reading(written(tmp_path, {})) == dict.fromkeys(_cgroup.FIELDS)
    assert _cgroup.reading({}) == dict.fromkeys(_cgroup.FIELDS)


def test_the_change_between_two_readings(tmp_path):
    first = _cgroup.reading(written(tmp_path, VERSION_2))
    second = dict(first, cpu_seconds=first["cpu_seconds"] + 0.5, periods=110, throttled_periods=49, oom_kills=4)
    assert _cgroup.change(first, second, 2.0) == {
        "cpu_ratio": 0.25,
        "throttled_ratio": 0.9,
        "sampled_periods": 10,
        "new_oom_kills": 1,
    }
    assert _cgroup.change(first, first, 1.0)["throttled_ratio"] == 0.0
    assert set(_cgroup.change(None, second, 1.0).values()) == {None}


def test_a_process_of_another_container_is_not_read():
    assert _cgroup.Hierarchies().read(1, ID) is None
