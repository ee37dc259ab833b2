# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packets that pass, and those that do not."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network import _mtu


class Echo:
    """A link: packets up to ``mtu`` are answered, longer ones lost; ``known`` is the MTU after an ICMP error."""

    def __init__(self, mtu, known=None, lost=0):
        self.mtu, self.known, self.lost = mtu, known, lost
        self.sent = set()

    def send(self, size):
        if self.known is not None and size > self.known:
            return False
        self.sent.add(size)
        return True

    def known_mtu(self):
        return self.known

    def receive(self, _largest, _seconds):
        found = {size for size in self.sent if size <= self.mtu}
        self.sent.clear()
        if self.lost:
            self.lost -= 1
            return found - {max(found)}
        return found


@pytest.mark.parametrize(
    ("echo", "expected"),
    [
        (Echo(1500), (True, 1500, 1500)),
        (Echo(1400), (False, 1400, 1500)),
        (Echo(1410), (False, 1400, 1500)),
        # A lost packet is sent again.
        (Echo(1500, lost=2), (True, 1500, 1500)),
        # The kernel has adapted to the path, as it does for connections.
        (Echo(1400, known=1400), (True, 1400, 1400)),
        # Nothing is answered: ICMP is filtered.
        (Echo(0), (None, None, 1500)),
        # Only small requests are answered: a rule limits their length.
        (Echo(200), (None, 100, 1500)),
    ],
)
def test_packets_that_pass(echo, expected):
    part = {"packet_bytes": 1500, "path_bytes": 1500, "passes": None, "filtered": False, "largest_bytes": None}
    _mtu._probe(echo, part, Deadline(60), 1.0)
    assert (part["passes"], part["largest_bytes"], part["path_bytes"]) == expected
    assert part["filtered"] is (part["passes"] is None)


def test_checksum():
    assert _mtu.checksum(b"\x08\x00\x00\x00\x7a\x0c\x00\x00") == 0x7DF3
    assert _mtu.checksum(b"\x08\x00\x7d\xf3\x7a\x0c\x00\x00") == 0
    assert _mtu.checksum(b"\xff") == 0x00FF
