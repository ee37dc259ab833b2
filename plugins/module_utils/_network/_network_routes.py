# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The routes of this machine, and what they have to do with other networks. Private to this collection."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import struct

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

# Routes that send packets somewhere; the others (unreachable, blackhole, local, ...) claim no addresses for anybody.
UNICAST = ("unicast",)
ALL_TABLES = ["route", "show", "table", "all"]
# A default route, or the halves of one that a VPN puts before it, is no claim either.
SHORTEST_PREFIX = 2
REJECT_FLAG = 0x0200
ENGINES_BRIDGE = re.compile(r"^(docker0|docker_gwbridge|br-[0-9a-f]{12})$")


def read(seconds):
    """``(routes, reason)``: mappings of ``network, device, table``; why not all tables were read, or null."""
    deadline = Deadline(seconds)
    try:
        texts = [_programs.output(["ip", "-json", each] + ALL_TABLES, deadline.remaining()) for each in ("-4", "-6")]
        return [route for text in texts for route in of_ip(json.loads(text or "[]"))], None
    except (_programs.Failed, ValueError) as exc:
        reason = "only the main table of routes was read: %s" % exc
    routes = []
    for path, parse in (("/proc/net/route", of_proc), ("/proc/net/ipv6_route", of_proc6)):
        try:
            with open(path, encoding="utf-8") as stream:
                routes += parse(stream.read())
        except OSError:
            continue
    return routes, reason


def of_ip(entries):
    """Routes out of what ``ip -json route show table all`` prints."""
    for entry in entries:
        if entry.get("type", "unicast") not in UNICAST:
            continue
        hops = entry.get("nexthops") or [entry]
        route = _route(entry.get("dst", ""), next((hop.get("dev") for hop in hops if hop.get("dev")), None))
        if route:
            yield dict(route, table=str(entry.get("table", "main")))


def of_proc(text):
    """Routes out of /proc/net/route: words of 32 bits in the machine's own order."""
    for line in text.splitlines()[1:]:
        device, destination, _gateway, flags, _refs, _use, _metric, mask = line.split()[:8]
        if int(flags, 16) & REJECT_FLAG:
            continue
        address = socket.inet_ntoa(struct.pack("=I", int(destination, 16)))
        route = _route("%s/%d" % (address, bin(int(mask, 16)).count("1")), device)
        if route:
            yield dict(route, table="main")


def of_proc6(text):
    """Routes out of /proc/net/ipv6_route."""
    for line in text.splitlines():
        fields = line.split()
        # Local addresses and routes to nowhere lie on the loopback device.
        if int(fields[8], 16) & REJECT_FLAG or fields[9] == "lo":
            continue
        address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))
        route = _route("%s/%d" % (address, int(fields[1], 16)), fields[9])
        if route:
            yield dict(route, table="main")


def _route(destination, device):
    try:
        network = ipaddress.ip_network(destination, strict=False)
    except ValueError:
        return None
    if network.prefixlen < SHORTEST_PREFIX or network.is_link_local or network.is_multicast:
        return None
    return {"network": network, "device": device}


def overlaps(name, bridge, subnets, routes):
    """Where routes claim addresses of a bridge's network, as ``network, subnet, route, device, table, loser, address``.

    ``loser`` is whoever does not get the packets for the common addresses, as the longer prefix wins: within one table,
    and others may be asked first. ``address`` is one of them.
    """
    found = []
    for subnet in subnets:
        for route in routes:
            other = route["network"]
            if route["device"] == bridge or ENGINES_BRIDGE.match(route["device"] or ""):
                continue
            if other.version != subnet.version or not other.overlaps(subnet):
                continue
            common = max(subnet, other, key=lambda each: each.prefixlen)
            found.append(
                {
                    "network": name,
                    "subnet": str(subnet),
                    "route": str(other),
                    "device": route["device"],
                    "table": route["table"],
                    "loser": "route" if subnet.prefixlen > other.prefixlen else "containers",
                    "address": str(common[common.num_addresses // 2]),
                }
            )
    return found


def device_to(address, seconds):
    """The device by which the kernel sends packets to an address; null where it does not say."""
    try:
        found = json.loads(_programs.output(["ip", "-json", "route", "get", address], seconds))
        return found[0].get("dev")
    except (_programs.Failed, ValueError, IndexError):
        return None
