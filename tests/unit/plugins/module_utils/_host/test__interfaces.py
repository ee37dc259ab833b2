# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The network interfaces, from recorded text of /proc/net/dev and /proc/net/netstat."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._host import _interfaces
from tests.unit.plugins.module_utils._host.trees import context, table

DEV = """\
Inter-| Receive                                        | Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 62022891006 17952304 0 0 0 0 0 0 62022891006 17952304 0 0 0 0 0 0
  eth0:%d %d    %d   %d    0     0          0         0 15309872  115393    %d    0    0     0       2          0
 a:b\xf6: 10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0
"""
NETSTAT = """\
TcpExt: SyncookiesSent ListenOverflows ListenDrops
TcpExt: 0 %d 763
IpExt: InNoRoutes InTruncatedPkts
IpExt: 0 0
"""


def described(folder, *texts):
    eth0 = {"speed": "1000\n", "operstate": "up\n", "carrier": "1\n", "carrier_changes": "2\n", "device/vendor": ""}
    files = {"sys/class/net/eth0/" + name: text for name, text in eth0.items()}
    files["sys/class/net/lo/speed"] = "-1\n"
    made = context(folder, files)
    made.first, made.second = table(at=1.0), table(at=3.0)
    samples = [
        _interfaces.sample(context(folder, {"proc/net/dev": text.encode("latin-1"), "proc/net/netstat": NETSTAT % at}))
        for at, text in enumerate(texts, 5)
    ]
    assert samples[0].tcp["ListenOverflows"] == 5
    found = _interfaces.describe(made, *samples)
    assert found["interfaces_total"] == 3
    return {item["name"]: item for item in found["interfaces"]}


def test_errors_and_drops_of_the_interval_and_since_boot(tmp_path):
    found = described(tmp_path, DEV % (1000, 100, 3, 7, 1), DEV % (5000, 190, 8, 12, 1))
    assert next(iter(found)) == "eth0"
    eth0 = found["eth0"]
    assert (eth0["receive_errors"], eth0["new_receive_errors"]) == (8, 5)
    assert (eth0["receive_drops"], eth0["new_receive_drops"]) == (12, 5)
    assert (eth0["send_errors"], eth0["new_send_errors"]) == (1, 0)
    assert (eth0["new_faults"], eth0["new_packets"], eth0["new_fault_ratio"]) == (10, 90, 0.1)
    assert eth0["received_bytes_per_second"] == 2000
    assert (eth0["state"], eth0["carrier"], eth0["virtual"], eth0["bits_per_second"]) == ("up", True, False, 10**9)
    assert (eth0["carrier_changes"], eth0["new_carrier_changes"], eth0["carrier_losses"]) == (2, 0, 2)
    assert found["lo"]["bits_per_second"] is None


def test_a_name_may_contain_a_colon_and_bytes_that_are_not_utf_8(tmp_path):
    assert "a:b\\xf6" in described(tmp_path, DEV % (1, 1, 0, 0, 0), DEV % (1, 1, 0, 0, 0))


def test_a_counter_that_wraps_at_32_bits_gives_no_rate(tmp_path):
    eth0 = described(tmp_path, DEV % (2**32 - 5, 100, 3, 7, 1), DEV % (5, 101, 3, 7, 1))["eth0"]
    assert eth0["received_bytes_per_second"] is None
    assert eth0["bytes_per_second"] is None
    assert eth0["new_faults"] == 0
