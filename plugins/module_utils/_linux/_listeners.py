# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the processes that listen on the ports of this machine. Private to this collection."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import struct
from typing import Dict, Iterable, Iterator, List, Tuple, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

SOCKET = re.compile(r"socket:\[(\d+)\]$")
LISTEN, CLOSED = "0A", "07"
ANY_IPV4 = str(ipaddress.IPv4Address(0))
ANY = (ANY_IPV4, str(ipaddress.IPv6Address(0)))
# (protocol, port) -> [(address, inode)]
Listeners = Dict[Tuple[str, int], List[Tuple[str, str]]]


class Holder(TypedDict):
    """The process that holds a socket."""

    pid: int
    command: str | None


def listeners() -> Listeners:
    """Return all listening sockets of this network namespace."""
    found: Listeners = {}
    for name in ("tcp", "tcp6", "udp", "udp6"):
        try:
            with open("/proc/self/net/" + name, encoding="utf-8") as stream:
                table = stream.read()
        except OSError:
            continue
        for protocol, address, port, inode in parse(name, table):
            found.setdefault((protocol, port), []).append((address, inode))
    return found


def parse(name: str, table: str) -> Iterator[tuple[str, str, int, str]]:
    """Yield ``(protocol, address, port, inode)`` of each listener in a table of /proc/net."""
    protocol = name[:3]
    wanted = LISTEN if protocol == "tcp" else CLOSED
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == wanted:
            address, _colon, port = fields[1].partition(":")
            yield protocol, readable_address(address), int(port, 16), fields[9]


def overlap(one: str, other: str) -> bool:
    """Return whether two addresses cannot listen on the same port."""
    return one == other or one in ANY or other in ANY


def holder(inode: str) -> Holder | None:
    """Return the oldest process that has a socket open, from which the others inherit it; null if none is visible."""
    found = []
    for pid in _processes.pids():
        try:
            if inode in sockets_of(pid):
                found.append((_processes.started(pid) or 0, pid))
        except OSError:
            continue
    if not found:
        return None
    _started, pid = min(found)
    return {"pid": pid, "command": _processes.label(_processes.arguments(pid))}


def taken(container: Part, listening: Listeners, running: Iterable[Part]) -> list[Part]:
    """Return the ports of the stopped ``container`` that another process or container holds.

    ``running`` are the facts of the running containers: the engine's proxy listens on their ports.
    """
    found: list[Part] = []
    for wanted in container["ports"]:
        inodes = [
            inode
            for address, inode in listening.get((wanted["protocol"], wanted["port"]), ())
            if overlap(address, wanted["address"])
        ]
        if not inodes:
            continue
        by = next((other["name"] for other in running if publishes(other, wanted)), None)
        process = None if by else holder(inodes[0])
        found.append(
            {
                "container": container["name"],
                "service": container["service"],
                "address": wanted["address"],
                "port": wanted["port"],
                "protocol": wanted["protocol"],
                "held_by_container": by,
                "held_by_pid": process["pid"] if process else None,
                "held_by_command": process["command"] if process else None,
            }
        )
    return found


def publishes(container: Part, wanted: Part) -> bool:
    """Return whether a container publishes the port, on an address that overlaps with the wanted one."""
    return any(
        (port["port"], port["protocol"]) == (wanted["port"], wanted["protocol"])
        and overlap(port["address"], wanted["address"])
        for port in container["ports"]
    )


def is_local(docker_host: str) -> bool:
    """Return whether the engine runs on this machine, so that /proc shows the processes of its containers."""
    return docker_host.split("://", 1)[0] in ("unix", "http+unix")


def sockets_of(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process has open."""
    found = set()
    for name in os.listdir("/proc/%d/fd" % pid):
        try:
            match = SOCKET.match(os.readlink("/proc/%d/fd/%s" % (pid, name)))
        except FileNotFoundError:
            continue
        if match:
            found.add(match.group(1))
    return found


def readable_address(text: str) -> str:
    """Convert an address from the kernel's notation (words of 32 bits in the byte order of the machine)."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
