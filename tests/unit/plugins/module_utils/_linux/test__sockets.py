# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables of /proc/net."""

from __future__ import annotations

import os
import socket

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _sockets


def test_addresses_of_both_families():
    assert _sockets.readable_address("0100007F") == "127.0.0.1"
    assert _sockets.readable_address("0000000000000000FFFF0000040014AC") == "::ffff:172.20.0.4"


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F41 0200007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 0100007F:1F42 0200007F:C0
"""
LISTENING = _sockets.Socket("tcp", _sockets.LISTEN, "127.0.0.1", 8000, "0.0.0.0", 0, "4711", 3)
CONNECTED = _sockets.Socket("tcp", _sockets.ESTABLISHED, "127.0.0.1", 8001, "127.0.0.2", 49152, "4712")


def test_sockets_of_a_table():
    # The last line of a table that is read in part is left out.
    assert list(_sockets.parse("tcp6", TCP)) == [LISTENING, CONNECTED]
    assert list(_sockets.parse("tcp", TCP, (_sockets.LISTEN,))) == [LISTENING]


def test_a_table_that_cannot_be_read_has_no_sockets(tmp_path):
    (tmp_path / "7/net").mkdir(parents=True)
    (tmp_path / "7/net/tcp6").write_text(TCP)
    assert list(_sockets.read(7, proc=str(tmp_path))) == [LISTENING, CONNECTED]
    assert list(_sockets.read(8, proc=str(tmp_path))) == []


def test_sockets_of_this_process():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = [each for each in _sockets.read("self", states=(_sockets.LISTEN,)) if each.port == port]
        assert found.inode in _sockets.of_process(os.getpid())
