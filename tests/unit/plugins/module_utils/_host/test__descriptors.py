# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Descriptors of processes, from a tree of links."""

from __future__ import annotations

import os

from ansible_collections.tracktion.ops.plugins.module_utils._host import _descriptors, _listening
from ansible_collections.tracktion.ops.plugins.module_utils._linux._sockets import Socket
from tests.unit.plugins.module_utils._host.trees import context, process, table


def link(folder, pid, fd, target):
    path = folder / "proc" / str(pid) / "fd"
    path.mkdir(parents=True, exist_ok=True)
    os.symlink(target, os.fsencode(path / str(fd)))


def made(folder):
    found = context(folder, {"proc/5/cmdline": b"/usr/sbin/nginx\0"})
    link(folder, 5, 3, "socket:[111]")
    link(folder, 5, 4, b"/var/log/\xf6\nx.log (deleted)")
    link(folder, 6, 3, "socket:[111]")
    link(folder, 6, 4, "socket:[222]")
    link(folder, 6, 5, "anon_inode:[eventfd] (deleted)")
    found.first = table(process(6, started=200), process(5, started=100), process(7), process(9, parent=2))
    return found


def test_the_oldest_process_holds_a_socket_and_deleted_files_are_listed(tmp_path):
    found = _descriptors.walk(made(tmp_path), {"111"})
    assert found.holders == {"111": 5}
    assert found.deleted == [_descriptors.Deleted(5, "4", "/var/log/\udcf6\nx.log")]
    assert (found.unreadable, found.complete) == (0, True)


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0050 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0100007F:1538 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
   3: 0100007F:1539 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 444 1 0 100 0 0 10 0
"""
UDP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   1: 0100007F:0035 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 555 2 0 0
   2: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 666 2 0 0
"""


def test_listening_sockets_are_at_the_beginning_of_a_table(tmp_path):
    found = _listening.read(context(tmp_path, {"proc/net/tcp": TCP, "proc/net/udp": UDP}))
    # The last line of TCP cannot be there: the kernel lists connections after all listening sockets.
    assert [(each.protocol, each.port, each.inode) for each in found] == [
        ("tcp", 80, "111"),
        ("tcp", 5432, "222"),
        ("udp", 53, "666"),
    ]


def test_listeners_have_their_process(tmp_path):
    context = made(tmp_path)
    sockets = [
        Socket("tcp", "0A", "0.0.0.0", 80, "0.0.0.0", 0, "111", 3),
        Socket("udp", "07", "127.0.0.1", 53, "0.0.0.0", 0, "333"),
    ]
    descriptors = _descriptors.walk(context, {"111", "333"})
    found = _listening.describe(context, sockets, descriptors)
    tcp, udp = found["listeners"]
    assert (tcp["pid"], tcp["command"], tcp["backlog"]) == (5, "nginx", 3)
    assert (udp["pid"], udp["backlog"]) == (None, None)
    # The kernel has sockets of its own: nothing is hidden here.
    assert context.unknown.parts == []
    descriptors.unreadable = 2
    _listening.describe(context, sockets, descriptors)
    (unknown,) = context.unknown.parts
    assert (unknown["part"], unknown["reason"]) == ("listeners.*", "the descriptors of 2 processes cannot be read")
