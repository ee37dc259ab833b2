# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connections of the watcher to the broker."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._inotify._watcher import (
    CONNECTED,
    Connection,
    connections,
    describe_broker,
)
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _sockets

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 020014AC:9C4E 040014AC:1628 01 00000000:00000000 02:000A 00000000     0        0 111 2 0 20 4 0 10 -1
   1: 020014AC:9C4F 040014AC:1628 02 00000001:00000000 01:0013 00000000     0        0 222 2 0 20 4 0 10 -1
   2: 020014AC:9C50 040014AC:1628 08 00000000:00000000 00:0000 00000000     0        0 333 2 0 20 4 0 10 -1
   3: 020014AC:1628 040014AC:9C51 01 00000000:00000000 00:0000 00000000     0        0 444 2 0 20 4 0 10 -1
"""


def test_connections_to_a_port():
    assert list(connections(_sockets.parse("tcp", TCP, CONNECTED), 5672)) == [
        Connection("01", "111", "172.20.0.4"),
        Connection("02", "222", "172.20.0.4"),
    ]


STAYS = Connection("01", "111", "10.0.0.1")
CLOSED = Connection("01", "222", "10.0.0.1")
CONNECTING = Connection("02", "333", "10.0.0.1")


@pytest.mark.parametrize(
    ("first", "second", "connected", "connecting"),
    [
        ({STAYS}, {STAYS}, True, 0),
        # Closed by the broker at once, and opened again.
        ({STAYS}, {CLOSED}, False, 2),
        ({CONNECTING}, {CONNECTING}, False, 1),
        (set(), set(), False, 0),
        (None, set(), None, None),
    ],
)
def test_a_connection_counts_if_it_is_in_both_samples(first, second, connected, connecting):
    broker = describe_broker(5672, first, second)
    assert (broker["connected"], broker["connecting"]) == (connected, connecting)
