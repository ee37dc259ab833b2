# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Routes, and their overlaps with networks of containers."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._network import _network_routes

SUBNET = ipaddress.ip_network("172.20.3.0/24")
BRIDGE = "br-6d1aff69ed8c"


def overlaps(*routes):
    return _network_routes.overlaps("stack_default", BRIDGE, [SUBNET], list(_network_routes.of_ip(routes)))


@pytest.mark.parametrize(
    ("destination", "loser"),
    [
        ("172.20.0.0/16", "route"),
        ("172.20.3.128/25", "containers"),
        ("172.20.3.0/24", "containers"),
        ("172.20.3.9", "containers"),
    ],
)
def test_the_longer_prefix_wins(destination, loser):
    ((overlap, address),) = overlaps({"dst": destination, "dev": "tun0", "table": "main"})
    assert (overlap["network"], overlap["device"], overlap["loser"]) == ("stack_default", "tun0", loser)
    # A common address, to ask the kernel for its device.
    common = ipaddress.ip_address(address)
    assert common in SUBNET
    assert common in ipaddress.ip_network(destination)


@pytest.mark.parametrize(
    "route",
    [
        {"dst": "default", "dev": "eth0"},
        {"dst": "0.0.0.0/1", "dev": "tun0"},
        {"dst": "10.0.0.0/8", "dev": "tun0"},
        {"dst": "172.20.3.0/24", "dev": BRIDGE},
        {"dst": "172.20.3.0/24", "dev": "br-0123456789ab"},
        {"type": "unreachable", "dst": "172.16.0.0/12"},
        {"type": "blackhole", "dst": "172.20.3.0/24"},
        {"type": "local", "dst": "172.20.3.1", "dev": "lo", "table": "local"},
        {"dst": "fd00::/8", "dev": "eth0"},
    ],
)
def test_routes_without_an_overlap(route):
    assert overlaps(route) == []


def test_the_table_and_the_first_of_several_devices():
    ((overlap, _address),) = overlaps(
        {"dst": "172.20.0.0/16", "table": 100, "nexthops": [{"dev": "wg0"}, {"dev": "wg1"}]}
    )
    assert (overlap["table"], overlap["device"]) == ("100", "wg0")


def word(address):
    """Return an IPv4 address as the kernel prints it, in the byte order of this machine."""
    return "%08X" % struct.unpack("=I", socket.inet_aton(address))


def test_routes_of_proc():
    lines = [
        ("eth0", "0.0.0.0", "0003", "0.0.0.0"),
        ("*", "172.16.0.0", "0201", "255.240.0.0"),
        ("tun0", "172.20.0.0", "0001", "255.255.0.0"),
    ]
    text = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    for device, destination, flags, mask in lines:
        text += " ".join([device, word(destination), word("0.0.0.0"), flags, "0 0 0", word(mask), "0 0 0\n"])
    assert list(_network_routes.of_proc(text)) == [(ipaddress.ip_network("172.20.0.0/16"), "tun0", "main")]


def test_ipv6_routes_of_proc():
    address, none = "fd000000000000000000000000000000", "0" * 32
    line = "%s %s " + none + " 00 " + none + " 00000100 00000001 00000000 %s %s\n"
    text = line % (address, "08", "00000001", "eth0") + line % (address, "40", "00000201", "eth0")
    text += line % (none, "00", "00000001", "eth0") + line % (address, "80", "80000001", "lo")
    assert list(_network_routes.of_proc6(text)) == [(ipaddress.ip_network("fd00::/8"), "eth0", "main")]


def test_ip_and_proc_agree_on_this_machine():
    def from_proc():
        with open("/proc/net/route", encoding="utf-8") as stream:
            return {str(route.network) for route in _network_routes.of_proc(stream.read())}

    # Other processes may add and remove routes meanwhile.
    before = from_proc()
    routes, _reason = _network_routes.read(5)
    after = from_proc()
    assert before & after <= {str(route.network) for route in routes if route.table == "main"}
