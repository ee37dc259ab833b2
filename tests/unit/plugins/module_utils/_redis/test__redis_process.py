# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process as process
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import ReplyError

INFO = {"process_id": "7", "uptime_in_seconds": "100", "executable": "/usr/bin/redis-server"}
TABLE_HEADER, ROW = "header\n", " 0: %s 00000000:00000000 00:00000000 00000000 0 0 4711\n"


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "proc/uptime", "1000.00 1900.00")
    return tmp_path


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def add_process(root, pid, inner="7", comm="redis-server", started=900.0, cgroup=""):
    ticks = int(started * os.sysconf("SC_CLK_TCK"))
    write(root, "proc/%d/comm" % pid, comm + "\n")
    write(root, "proc/%d/status" % pid, "Name:\t%s\nNSpid:\t%d\t%s\n" % (comm, pid, inner))
    write(root, "proc/%d/stat" % pid, "%d (a ) b) S %s %d 0 0\n" % (pid, " ".join(["0"] * 18), ticks))
    write(root, "proc/%d/cgroup" % pid, cgroup)


def test_the_server_is_found_in_its_own_pid_namespace(root):
    add_process(root, 4711)
    add_process(root, 4712, comm="bash")
    add_process(root, 4713, inner="8")
    add_process(root, 4714, started=500.0)
    assert process.find(Server(ReplyError("NOPERM no")), INFO, str(root)) == 4711


class Server:
    """A client whose server answers CLIENT LIST for the client only."""

    client_id = 3

    def __init__(self, reply):
        self.reply = reply

    def ask(self, *words):
        assert words == ("CLIENT", "LIST", "ID", 3)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


@pytest.mark.parametrize(("started", "found"), [(895.0, 4711), (400.0, 4711), (200.0, None), (905.0, None)])
def test_a_script_may_have_become_the_server(root, started, found):
    """The process starts with the container, and the server counts from its own start."""
    add_process(root, 4711, started=started)
    write(root, "proc/4711/net/tcp", TABLE_HEADER + ROW % "030014AC:18EB 010014AC:BADC 01")
    reply = b"id=3 addr=172.20.0.1:47836 laddr=172.20.0.3:6379 fd=8 name="
    assert process.find(Server(reply), INFO, str(root)) == found
    # Without the ends of the connection, it could be another one.
    assert process.find(Server(ReplyError("NOPERM no")), INFO, str(root)) is None


@pytest.mark.parametrize(
    ("table", "row", "reply"),
    [
        ("tcp", "030014AC:18EB 010014AC:BADC", b"id=3 addr=172.20.0.1:47836 laddr=172.20.0.3:6379 fd=8 name="),
        (
            "tcp6",
            "00000000000000000000000001000000:18EB 00000000000000000000000001000000:BADC",
            b"id=3 addr=[::1]:47836 laddr=[::1]:6379",
        ),
    ],
)
def test_of_two_equal_processes_the_one_with_the_connection_is_found(root, table, row, reply):
    add_process(root, 4711)
    add_process(root, 4712, started=901.0)
    write(root, "proc/4711/net/tcp", TABLE_HEADER + ROW % "030014AC:18EB 00000000:0000 0A")
    write(root, "proc/4712/net/" + table, TABLE_HEADER + ROW % "00000000:18EB 00000000:0000 0A" + ROW % (row + " 01"))
    assert process.find(Server(reply), INFO, str(root)) == 4712
    assert process.find(Server(b"addr=10.0.0.1:1 laddr=10.0.0.2:6379"), INFO, str(root)) is None
    assert process.find(Server(ReplyError("NOPERM no")), INFO, str(root)) is None


def test_a_server_on_another_host_is_not_found(root):
    assert process.find(None, INFO, str(root)) is None
    assert process.find(None, {}, str(root)) is None


def test_the_lowest_limit_of_version_1_applies(root):
    add_process(root, 1, cgroup="8:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n")
    write(root, "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "9223372036854771712\n")
    write(root, "sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "536870912\n")
    write(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert process.memory_limit(process.memory_groups(1, str(root))) == 536870912


def test_the_lowest_limit_of_version_2_applies(root):
    add_process(root, 1, cgroup="0::/system.slice/docker-abc.scope\n")
    write(root, "sys/fs/cgroup/system.slice/docker-abc.scope/memory.max", "268435456\n")
    write(root, "sys/fs/cgroup/system.slice/memory.max", "max\n")
    assert process.memory_limit(process.memory_groups(1, str(root))) == 268435456


def test_no_limit_is_null(root):
    add_process(root, 1, cgroup="0::/a\n")
    write(root, "sys/fs/cgroup/a/memory.max", "max\n")
    assert process.memory_limit(process.memory_groups(1, str(root))) is None


def test_what_other_processes_leave_is_available(root):
    """The parent group has 400 MB left, the host 1 GB."""
    add_process(root, 1, cgroup="0::/slice/redis\n")
    write(root, "proc/meminfo", "MemFree: 1 kB\nMemAvailable:    1000000 kB\n")
    assert process.available_bytes([], 50, str(root)) == 50 + 1024000000
    assert process.available_bytes([], None, str(root)) is None
    for path, limit, current in (("slice/redis", 900, 100), ("slice", 1000, 700)):
        write(root, "sys/fs/cgroup/%s/memory.max" % path, "%d000000\n" % limit)
        write(root, "sys/fs/cgroup/%s/memory.current" % path, "%d000000\n" % current)
        write(root, "sys/fs/cgroup/%s/memory.stat" % path, "anon 1\ninactive_file 100000000\n")
    groups = process.memory_groups(1, str(root))
    assert groups == [(900000000, 0), (1000000000, 600000000)]
    assert process.available_bytes(groups, 50, str(root)) == 50 + 400000000
    (root / "sys/fs/cgroup/slice/memory.stat").unlink()
    assert process.memory_groups(1, str(root))[1] == (1000000000, 0)


@pytest.mark.parametrize(
    ("mounts", "bits", "expected"),
    [
        ("1 0 0:1 / / rw - overlay o rw\n", 0o755, "user 5 may not write to /etc/redis"),
        ("1 0 0:1 / / rw - overlay o rw\n", 0o777, None),
        ("1 0 0:1 / / ro,noatime - overlay o rw\n", 0o777, "its file system is read-only"),
        ("1 0 0:1 / / ro - o o rw\n2 1 0:2 / /etc rw - o o rw\n", 0o777, None),
        (
            "1 0 0:1 / / rw - o o rw\n2 1 0:2 /x /etc/redis/redis.conf rw - o o rw\n",
            0o777,
            "the file is a mount of its own",
        ),
    ],
)
def test_what_is_in_the_way_of_a_rewrite_is_known_before(root, mounts, bits, expected):
    write(root, "proc/5/mountinfo", mounts)
    write(root, "proc/5/status", "Uid:\t0\t5\t5\t5\n")
    write(root, "proc/5/root/etc/redis/redis.conf", "")
    (root / "proc/5/root/etc/redis").chmod(bits)
    found = process.rewrite_obstacle(5, "/etc/redis/redis.conf", str(root))
    assert found == expected or found.startswith(expected)
    assert process.rewrite_obstacle(6, "/etc/redis/redis.conf", str(root)) is None


def test_the_configuration_file_is_read_in_the_servers_mount_namespace(root):
    write(root, "proc/5/root/etc/redis.conf", '# maxmemory 1\nMaxMemory 2\nmaxmemory 200mb\nlogfile ""\nport 6379\n')
    assert process.configured(5, "/etc/redis.conf", str(root)) == {"maxmemory": "200mb", "logfile": "", "port": "6379"}
    assert process.configured(5, "/etc/none.conf", str(root)) is None
    assert process.configured(5, None, str(root)) is None


def test_missing_settings_of_the_kernel_are_null(root):
    assert process.kernel(str(root)) == {"transparent_hugepage": None, "overcommit_memory": None}
    write(root, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    write(root, "proc/sys/vm/overcommit_memory", "1\n")
    assert process.kernel(str(root)) == {"transparent_hugepage": "madvise", "overcommit_memory": 1}
