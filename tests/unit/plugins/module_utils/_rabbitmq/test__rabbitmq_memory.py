# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory limit of a process, on simulated file systems of both versions of control groups."""

from __future__ import annotations

import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_memory as memory

GIB = 2**30


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "%d\n" % GIB}, GIB),
        ("0::/a/b\n", {"a/b/memory.max": "%d\n" % (2 * GIB), "a/memory.max": "%d\n" % GIB}, GIB),
        ("0::/\n", {}, None),
        ("4:cpu,memory:/docker/x\n0::/\n", {"memory/docker/x/memory.limit_in_bytes": "%d\n" % GIB}, GIB),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("0::/x\n", {"unified/x/memory.max": "%d\n" % GIB}, GIB),
        ("0::/../x\n", {"x/memory.max": "%d\n" % GIB}, GIB),
        ("3:cpuset:/x\n", {"memory/x/memory.limit_in_bytes": "5\n"}, None),
        ("", {}, None),
    ],
)
def test_the_lowest_limit_of_the_group_and_its_parents_applies(tmp_path, membership, files, limit):
    assert memory.cgroup_limit(membership, write(tmp_path, files)) == limit


def process(pid, inner, started, name="beam.smp"):
    ticks = int(started * os.sysconf("SC_CLK_TCK"))
    fields = " ".join(["S"] + ["0"] * 18 + [str(ticks)] + ["0"] * 5)
    return {
        "%d/comm" % pid: name + "\n",
        "%d/status" % pid: "Name:\t%s\nNSpid:\t%d\t%d\n" % (name, pid, inner),
        "%d/stat" % pid: "%d (a) b) %s\n" % (pid, fields),
        "%d/cgroup" % pid: "0::/c%d\n" % pid,
    }


def test_the_node_is_distinguished_from_others_with_the_same_process_id(tmp_path):
    proc = write(
        tmp_path / "proc",
        {
            "uptime": "1000.00 1.00\n",
            "meminfo": "MemTotal:  4194304 kB\n",
            **process(10, 18, 100),
            **process(20, 18, 500),
            **process(30, 7, 500),
            **process(40, 18, 500, name="python3"),
        },
    )
    groups = write(tmp_path / "cgroup", {"c20/memory.max": "%d" % GIB, "c10/memory.max": "5"})
    assert memory.limit_of_node("18", 497.0, proc, groups) == (GIB, "cgroup")
    # Without a limit of its own, the memory of the machine applies.
    assert memory.limit_of_node("7", 497.0, proc, groups) == (4 * GIB, "host")
    # The node runs on another machine.
    assert memory.limit_of_node("18", 700.0, proc, groups) == (None, None)
    assert memory.limit_of_node("19", 497.0, proc, groups) == (None, None)
    assert memory.limit_of_node("18", None, proc, groups) == (None, None)


def test_a_process_that_ends_meanwhile_is_ignored(tmp_path):
    proc = write(tmp_path, {"uptime": "1000.00 1.00\n", "9/comm": "beam.smp\n"})
    assert memory.node_process("18", 500.0, proc) is None
