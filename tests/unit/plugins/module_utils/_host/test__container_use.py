# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers are found by their control groups, of both versions."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _container_use
from ansible_collections.tracktion.ops.plugins.module_utils._linux._cgroup import Hierarchies
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from tests.unit.plugins.module_utils._host.trees import context

ID = "126e9272ccad5f013e656348d3d5c0d5e3e724c610a990958f35b8afbc11f96b"
OTHER = ID[::-1]
VERSION_2 = "30 25 0:26 / {0} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
VERSION_1 = """\
30 25 0:26 / {0}/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 25 0:27 / {0}/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 25 0:29 / {0}/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


def groups(folder, mountinfo, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return _container_use.Groups(Hierarchies(mountinfo.format(folder)), Deadline(5))


@pytest.mark.parametrize(
    "path",
    [
        "system.slice/docker-%s.scope" % ID,
        "docker/%s" % ID,
        "kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-%s.scope" % ID,
        "user.slice/user-1000.slice/user@1000.service/user.slice/libpod-%s.scope" % ID,
    ],
)
def test_version_2(tmp_path, path):
    files = {
        "memory.current": "5000\n", "memory.max": "max\n", "memory.stat": "inactive_file 1000\n",
        "cpu.stat": "usage_usec 2500000\n", "memory.events": "oom_kill 2\n",
    }  # fmt: skip
    files = {"%s/%s" % (path, name): text for name, text in files.items()}
    found = groups(tmp_path, VERSION_2, {**files, "init.scope/cpu.stat": ""})
    reading = found.read()[ID]
    assert (reading["memory_bytes"], reading["memory_limit_bytes"], reading["cpu_seconds"]) == (4000, None, 2.5)


def test_version_1_beside_an_empty_version_2(tmp_path):
    found = groups(
        tmp_path, VERSION_1,
        {"memory/docker/%s/memory.usage_in_bytes" % ID: "5000\n",
         "memory/docker/%s/memory.limit_in_bytes" % ID: "9223372036854771712\n",
         "memory/docker/%s/memory.stat" % ID: "total_inactive_file 0\n",
         "cpu,cpuacct/docker/%s/cpuacct.usage" % ID: "1500000000\n",
         "unified/docker/%s/cgroup.procs" % ID: "",
         "memory/libpod-conmon-%s/memory.usage_in_bytes" % OTHER: "1\n"},
    )  # fmt: skip
    assert list(found.directories) == [ID]
    reading = found.read()[ID]
    assert (reading["memory_bytes"], reading["memory_limit_bytes"], reading["cpu_seconds"]) == (5000, None, 1.5)


def test_the_use_of_the_interval(tmp_path):
    empty = dict.fromkeys(("periods", "throttled_periods", "memory_limit_bytes", "pids"))
    first = {ID: {**empty, "cpu_seconds": 2.0, "memory_bytes": 5, "oom_kills": 1}}
    second = {
        ID: {**empty, "cpu_seconds": 5.0, "memory_bytes": 50, "oom_kills": 2},
        OTHER: {**empty, "cpu_seconds": 9.0, "memory_bytes": 100, "oom_kills": None},
    }
    found = _container_use.describe(context(tmp_path), first, second, 2.0, 4, 200)
    assert found["containers_total"] == 2
    one, other = found["containers"]
    assert (one["container"], one["cpu_ratio"], one["cpu_of_host_ratio"]) == (ID[:12], 1.5, 0.375)
    assert (one["memory_of_host_ratio"], one["new_oom_kills"]) == (0.25, 1)
    # It was started in the interval.
    assert (other["id"], other["cpu_ratio"], other["memory_of_host_ratio"]) == (OTHER, None, 0.5)


def test_the_list_has_the_largest_of_both_and_those_with_kills(tmp_path):
    empty = dict.fromkeys(("periods", "throttled_periods", "memory_limit_bytes", "pids"))
    names = ["%064x" % number for number in range(9)]
    first = {name: {**empty, "cpu_seconds": 0.0, "memory_bytes": 0, "oom_kills": 0} for name in names}
    second = {
        name: {**empty, "cpu_seconds": float(at), "memory_bytes": -at, "oom_kills": int(at == 4)}
        for at, name in enumerate(names)
    }
    found = _container_use.describe(context(tmp_path, top=1), first, second, 1.0, 4, 200)
    assert [item["id"] for item in found["containers"]] == [names[8], names[0], names[4]]


def test_kills_by_the_limit_of_a_container_are_counted():
    containers = [
        {"new_oom_kills": 2, "memory_limit_bytes": 5},
        {"new_oom_kills": 1, "memory_limit_bytes": None},
        {"new_oom_kills": None, "memory_limit_bytes": 5},
    ]
    assert _container_use.killed_by_limit(containers) == 2
