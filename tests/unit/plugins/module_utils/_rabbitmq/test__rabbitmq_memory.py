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

    def limit(os_pid, uptime):
        return memory.limit_of_node(memory.node_process(os_pid, uptime, (), proc), proc, groups)

    assert limit("18", 497.0) == (GIB, "cgroup")
    # Without a limit of its own, the memory of the machine applies.
    assert limit("7", 497.0) == (4 * GIB, "host")
    # The node runs on another machine.
    assert limit("18", 700.0) == limit("19", 497.0) == limit("18", None) == (None, None)


TCP = "  sl  local_address rem_address   st\n   0: %s %s %s 00000000:00000000 00:00000000 00000000 0 0 4711\n"


def test_of_two_brokers_with_the_same_process_id_and_age_a_connection_proves_which_it_is(tmp_path):
    tables = {
        # 10.0.0.1:5672 from 10.0.0.9:41000, established, and a listening socket.
        "10/net/tcp": TCP % ("0100000A:1628", "0900000A:A028", "01"),
        "20/net/tcp": TCP % ("00000000:1628", "00000000:0000", "0A"),
        # [::ffff:10.0.0.2]:5672 from [::ffff:10.0.0.9]:41001
        "20/net/tcp6": TCP % ("0000000000000000FFFF00000200000A:1628", "0000000000000000FFFF00000900000A:A029", "01"),
    }
    files = {"uptime": "1000.00 1.00\n", **process(10, 18, 500), **process(20, 18, 502), **tables}
    proc = write(tmp_path / "proc", files)
    assert memory.node_process("18", 499.0, (), proc) == memory.NodeProcess(None, 2)
    first = {("10.0.0.1", 5672, "10.0.0.9", 41000)}
    assert memory.node_process("18", 499.0, first, proc).path == os.path.join(proc, "10")
    second = {("10.0.0.2", 5672, "10.0.0.9", 41001), ("10.0.0.2", 5672, "10.0.0.9", 7)}
    assert memory.node_process("18", 499.0, second, proc).path == os.path.join(proc, "20")
    # A connection that was closed in the meantime proves nothing.
    assert memory.node_process("18", 499.0, {("10.0.0.3", 5672, "10.0.0.9", 1)}, proc).path is None


@pytest.mark.parametrize(
    ("texts", "seconds"),
    [
        (["consumer_timeout = 60000\n"], 60.0),
        (["# consumer_timeout = 60000\nlisteners.tcp.default = 5672\n"], -1.0),
        (["consumer_timeout=60000\n", "consumer_timeout = 90000\n"], 90.0),
        (["[{rabbit, [{consumer_timeout, 3600000}]}].\n"], 3600.0),
        (["[{rabbit, [\n  %% {consumer_timeout, 1000}\n  {consumer_timeout, undefined}\n]}].\n"], 0.0),
        ([], -1.0),
    ],
)
def test_the_consumer_timeout_of_the_configuration_files(tmp_path, texts, seconds):
    names = ["/etc/rabbitmq/%d.conf" % number for number in range(len(texts))]
    write(tmp_path, {"root" + name: text for name, text in zip(names, texts, strict=True)})
    found = memory.NodeProcess(str(tmp_path), 1)
    assert memory.consumer_timeout(found, names) == seconds
    # Neither a missing file nor a link, which would lead out of the container, is read.
    assert memory.consumer_timeout(found, [*names, "/etc/missing"]) is None
    (tmp_path / "root").mkdir(exist_ok=True)
    (tmp_path / "root" / "link").symlink_to("/etc/hostname")
    assert memory.consumer_timeout(found, [*names, "/link"]) is None
    assert memory.consumer_timeout(memory.NodeProcess(None, 0), names) is None


def test_a_process_that_ends_meanwhile_is_ignored(tmp_path):
    proc = write(tmp_path, {"uptime": "1000.00 1.00\n", "9/comm": "beam.smp\n"})
    assert memory.node_process("18", 500.0, (), proc) == memory.NodeProcess(None, 0)
