# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who listens on the ports of this machine. Private to this collection."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import struct

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes

SOCKET = re.compile(r"socket:\[(\d+)\]$")
LISTEN, CLOSED = "0A", "07"
ANY_IPV4 = str(ipaddress.IPv4Address(0))
ANY = (ANY_IPV4, str(ipaddress.IPv6Address(0)))


def listeners():
    """``(protocol, port) -> [(address, inode)]`` of everything that listens in our network namespace."""
    found = {}
    for name in ("tcp", "tcp6", "udp", "udp6"):
        try:
            with open("/proc/self/net/" + name, encoding="utf-8") as stream:
                table = stream.read()
        except OSError:
            continue
        for protocol, address, port, inode in parse(name, table):
            found.setdefault((protocol, port), []).append((address, inode))
    return found


def parse(name, table):
    """``protocol, address, port, inode`` of each listener in a table of /proc/net."""
    protocol = name[:3]
    wanted = LISTEN if protocol == "tcp" else CLOSED
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == wanted:
            address, _colon, port = fields[1].partition(":")
            yield protocol, readable_address(address), int(port, 16), fields[9]


def overlap(one, other):
    """Whether two addresses cannot both be listened on, with one port."""
    return one == other or one in ANY or other in ANY


def holder(inode):
    """The process that has a socket open, as ``pid`` and ``command``; null where nobody can be seen.

    Of several, the oldest: the others have it from that one.
    """
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


def taken(container, heard, running):
    """Ports that ``container``, which does not run, would get from nobody: each with who holds it.

    ``running`` are the facts of the containers that run: the engine's proxy listens in their place.
    """
    found = []
    for wanted in container["ports"]:
        held = [
            inode
            for address, inode in heard.get((wanted["protocol"], wanted["port"]), ())
            if overlap(address, wanted["address"])
        ]
        if not held:
            continue
        by = next((other["name"] for other in running if publishes(other, wanted)), None)
        process = None if by else holder(held[0])
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


def publishes(container, wanted):
    return any(
        (port["port"], port["protocol"]) == (wanted["port"], wanted["protocol"])
        and overlap(port["address"], wanted["address"])
        for port in container["ports"]
    )


def is_local(docker_host):
    """Whether the engine is on this machine: its containers' processes and ports are ours to look at."""
    return docker_host.split("://", 1)[0] in ("unix", "http+unix")


def sockets_of(pid):
    """The inodes of the sockets that a process has open."""
    found = set()
    for name in os.listdir("/proc/%d/fd" % pid):
        try:
            match = SOCKET.match(os.readlink("/proc/%d/fd/%s" % (pid, name)))
        except FileNotFoundError:
            continue
        if match:
            found.add(match.group(1))
    return found


def readable_address(text):
    """An address as the kernel prints it (words of 32 bits in the machine's own order), as people write it."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
