# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process as process
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import ReplyError

INFO = {"process_id": "7", "uptime_in_seconds": "100", "executable": "/usr/bin/redis-server"}


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
    write(root, "proc/4711/net/tcp", "header\n 0: 030014AC:18EB 00000000:0000 0A\n")
    write(root, "proc/4712/net/" + table, "header\n 0: 00000000:18EB 00000000:0000 0A\n 1: %s 01\n" % row)
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
    assert process.memory_limit(1, str(root)) == 536870912


def test_the_lowest_limit_of_version_2_applies(root):
    add_process(root, 1, cgroup="0::/system.slice/docker-abc.scope\n")
    write(root, "sys/fs/cgroup/system.slice/docker-abc.scope/memory.max", "268435456\n")
    write(root, "sys/fs/cgroup/system.slice/memory.max", "max\n")
    assert process.memory_limit(1, str(root)) == 268435456


def test_no_limit_is_null(root):
    add_process(root, 1, cgroup="0::/a\n")
    write(root, "sys/fs/cgroup/a/memory.max", "max\n")
    assert process.memory_limit(1, str(root)) is None


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
