# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the routes of this machine and finds overlaps with other networks. Private to this collection."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import struct
from typing import Any, Iterable, Iterator, NamedTuple, Sequence, TypedDict, Union

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

# Types of routes that send packets to another machine; not unreachable, blackhole, local, ...
UNICAST = ("unicast",)
ALL_TABLES = ["route", "show", "table", "all"]
# Shorter prefixes are default routes, or the halves of one that a VPN adds. These overlap with everything.
SHORTEST_PREFIX = 2
REJECT_FLAG = 0x0200
ENGINES_BRIDGE = re.compile(r"^(docker0|docker_gwbridge|br-[0-9a-f]{12})$")

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class Route(NamedTuple):
    """One route of one table."""

    network: Network
    device: str | None
    table: str


class Overlap(TypedDict):
    """A route that contains addresses of a network, or the reverse.

    ``loser`` is ``containers`` or ``route``: the side that does not get the packets for the common addresses.
    """

    network: str
    subnet: str
    route: str
    device: str | None
    table: str
    loser: str


class Candidate(NamedTuple):
    """An overlap, and one of the common addresses."""

    overlap: Overlap
    address: str


def read(seconds: float) -> tuple[list[Route], str | None]:
    """Return the routes of all tables, and the reason if only those of the main table could be read, or null."""
    deadline = Deadline(seconds)
    try:
        texts = [_programs.output(["ip", "-json", each] + ALL_TABLES, deadline.remaining()) for each in ("-4", "-6")]
        return [route for text in texts for route in of_ip(json.loads(text or "[]"))], None
    except (_programs.Failed, ValueError) as exc:
        reason = "only the main table of routes was read: %s" % exc
    routes: list[Route] = []
    for path, parse in (("/proc/net/route", of_proc), ("/proc/net/ipv6_route", of_proc6)):
        try:
            with open(path, encoding="utf-8") as stream:
                routes += parse(stream.read())
        except OSError:
            continue
    return routes, reason


def of_ip(entries: Iterable[dict[str, Any]]) -> Iterator[Route]:
    """Yield the routes of ``ip -json route show table all``."""
    for entry in entries:
        if entry.get("type", "unicast") not in UNICAST:
            continue
        hops = entry.get("nexthops") or [entry]
        device = next((hop.get("dev") for hop in hops if hop.get("dev")), None)
        yield from _route(entry.get("dst", ""), device, str(entry.get("table", "main")))


def of_proc(text: str) -> Iterator[Route]:
    """Yield the routes of /proc/net/route, which has words of 32 bits in the byte order of the machine."""
    for line in text.splitlines()[1:]:
        device, destination, _gateway, flags, _refs, _use, _metric, mask = line.split()[:8]
        if int(flags, 16) & REJECT_FLAG:
            continue
        address = socket.inet_ntoa(struct.pack("=I", int(destination, 16)))
        yield from _route("%s/%d" % (address, bin(int(mask, 16)).count("1")), device)


def of_proc6(text: str) -> Iterator[Route]:
    """Yield the routes of /proc/net/ipv6_route."""
    for line in text.splitlines():
        fields = line.split()
        # Local addresses and unreachable routes have the loopback device.
        if int(fields[8], 16) & REJECT_FLAG or fields[9] == "lo":
            continue
        address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))
        yield from _route("%s/%d" % (address, int(fields[1], 16)), fields[9])


def _route(destination: str, device: str | None, table: str = "main") -> Iterator[Route]:
    """Yield the route, unless it is a default route or for link-local or multicast addresses."""
    try:
        network = ipaddress.ip_network(destination, strict=False)
    except ValueError:
        return
    if network.prefixlen >= SHORTEST_PREFIX and not network.is_link_local and not network.is_multicast:
        yield Route(network, device, table)


def overlaps(name: str, bridge: str, subnets: Iterable[Network], routes: Sequence[Route]) -> list[Candidate]:
    """Return the overlaps of routes with the network of a bridge.

    ``loser`` is the side with the shorter prefix. This is right within one table; rules may select another one first.
    """
    found = []
    for subnet in subnets:
        for route in routes:
            other = route.network
            if route.device == bridge or ENGINES_BRIDGE.match(route.device or ""):
                continue
            if other.version != subnet.version or not other.overlaps(subnet):
                continue
            common = max(subnet, other, key=lambda each: each.prefixlen)
            overlap: Overlap = {
                "network": name,
                "subnet": str(subnet),
                "route": str(other),
                "device": route.device,
                "table": route.table,
                "loser": "route" if subnet.prefixlen > other.prefixlen else "containers",
            }
            found.append(Candidate(overlap, str(common[common.num_addresses // 2])))
    return found


def device_to(address: str, seconds: float) -> str | None:
    """Return the device by which the kernel sends packets to an address; null if unknown."""
    try:
        found = json.loads(_programs.output(["ip", "-json", "route", "get", address], seconds))
        device: str | None = found[0].get("dev")
        return device
    except (_programs.Failed, ValueError, IndexError):
        return None
