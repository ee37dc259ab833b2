# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the sockets of a network namespace and of a process from /proc. Private to this collection."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import struct
from typing import Collection, Iterator, NamedTuple

# States in /proc/net (include/net/tcp_states.h). A UDP socket without a peer has the state CLOSED.
ESTABLISHED, SYN_SENT, CLOSED, LISTEN = "01", "02", "07", "0A"
TCP, UDP = ("tcp", "tcp6"), ("udp", "udp6")
# Most bytes that are read of one table: about 100,000 sockets.
MOST_TABLE_BYTES = 16 * 1024 * 1024
DESCRIPTOR = re.compile(r"socket:\[(\d+)\]$")


class Socket(NamedTuple):
    """A socket of /proc/net/tcp or udp. One that listens has the remote port 0. ``protocol`` is ``tcp`` or ``udp``.

    ``receive_queue``: the bytes that its process has not read, or the connections that it has not accepted.
    """

    protocol: str
    state: str
    address: str
    port: int
    remote_address: str
    remote_port: int
    inode: str
    receive_queue: int = 0


def read(
    pid: int | str, tables: Collection[str] = TCP, states: Collection[str] | None = None, proc: str = "/proc"
) -> Iterator[Socket]:
    """Yield the sockets in the network namespace of a process, by default those of TCP in any state.

    A table that cannot be read has none.
    """
    for name in tables:
        try:
            with open(os.path.join(proc, str(pid), "net", name), encoding="utf-8", errors="replace") as stream:
                text = stream.read(MOST_TABLE_BYTES)
        except OSError:
            continue
        yield from parse(name, text, states)


def parse(table: str, text: str, states: Collection[str] | None = None) -> Iterator[Socket]:
    """Yield the sockets in the text of a table of /proc/net."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and (states is None or fields[3] in states):
            received = int(fields[4].partition(":")[2], 16)
            yield Socket(table[:3], fields[3], *_end(fields[1]), *_end(fields[2]), fields[9], received)


def _end(text: str) -> tuple[str, int]:
    address, _colon, port = text.partition(":")
    return readable_address(address), int(port, 16)


def readable_address(text: str) -> str:
    """Convert an address from the kernel's notation (words of 32 bits in the byte order of the machine)."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def plain(address: str) -> str:
    """Return an address without its zone, and without the prefix of one of IPv4 that a socket of IPv6 shows.

    Text that is no address is returned as it is.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def is_loopback(address: str) -> bool:
    """Return whether an address can be reached from its own machine only."""
    return ipaddress.ip_address(plain(address)).is_loopback


def of_process(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process has open. Raises OSError."""
    found = set()
    for name in os.listdir("/proc/%d/fd" % pid):
        try:
            match = DESCRIPTOR.match(os.readlink("/proc/%d/fd/%s" % (pid, name)))
        except FileNotFoundError:
            continue
        if match:
            found.add(match.group(1))
    return found
