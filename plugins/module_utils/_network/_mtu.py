# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests whether packets as large as those of a TCP connection pass. Private to this collection.

Handshakes and short requests pass where a link drops large packets without an ICMP error: connections are established,
and hang with the first long answer. Two kinds of packets that the kernel of the target answers, and no service sees,
are sent in both sizes. The replies to ICMP echo requests are as large as these. TCP segments of no connection are
answered with RST, also where ICMP is filtered.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import threading
from typing import TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

# Socket options of Linux that Python does not name: linux/in.h, linux/in6.h, linux/tcp.h.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, DO_NOT_FRAGMENT = 10, 23, 2
IP_MTU, IPV6_MTU = 14, 24
TCP_INFO_BYTES, OPTIONS_AT, MSS_AT = 104, 5, 16
HAS_TIMESTAMPS, TIMESTAMP_BYTES = 1, 12
TCP_HEADER, ICMP_HEADER = 20, 8
ACK, RST = 0x10, 0x04
# The identifier of our echo requests.
IDENTIFIER = 0x7A0C
ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
IP_HEADER = {socket.AF_INET: 20, socket.AF_INET6: 40}
SMALL_BYTES = 100
# Total lengths that are tried if the largest does not pass: of common links and tunnels.
LADDER = (
    8950,
    8900,
    4000,
    1492,
    1480,
    1472,
    1462,
    1450,
    1440,
    1420,
    1400,
    1380,
    1360,
    1340,
    1300,
    1280,
    1200,
    1000,
    576,
)
# Every link has this MTU (RFC 791). Where less passes, a rule limits ICMP.
LEAST_BYTES = 576
# Larger packets never leave this machine.
MOST_BYTES = 16000
ROUNDS = 3
LEAST_SECONDS, MOST_SECONDS, ROUND_TRIPS = 0.2, 1.0, 4


class MtuPart(TypedDict):
    """The lengths of packets, with the IP header.

    ``packet_bytes``: a full segment of the connection. ``passes``: whether such a packet is answered; null if that is
    not known. ``filtered``: whether it cannot be known, because short ones are not answered either. ``largest_bytes``:
    the largest that was answered. ``path_bytes``: the length after an ICMP error, to which the kernel adapts.
    ``host_bytes``: that of the route of this machine.
    """

    packet_bytes: int
    passes: bool | None
    filtered: bool
    largest_bytes: int | None
    path_bytes: int
    host_bytes: int | None


class RoutesOfHost:
    """Knows the MTU of routes in the network namespace in which it was created, also after another one was entered."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        for family in IP_HEADER:
            with contextlib.suppress(OSError):
                self._sockets[family] = socket.socket(family, socket.SOCK_DGRAM)

    def mtu_to(self, address: str) -> int | None:
        """Return the MTU of the route to an address; null if there is none. No packet is sent."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with self._lock:
                self._sockets[family].connect((address, 9))
                return _known_mtu(self._sockets[family], family)
        except (KeyError, OSError):
            return None


def probe(connection: socket.socket, address: str, routes: RoutesOfHost | None, seconds: float) -> MtuPart | None:
    """Return which packets pass to the peer of a connection; null for one on this machine."""
    try:
        size = segment_bytes(connection)
    except OSError:
        # It was closed in the meantime.
        return None
    if not SMALL_BYTES < size <= MOST_BYTES:
        return None
    part: MtuPart = {
        "packet_bytes": size,
        "passes": None,
        "filtered": False,
        "largest_bytes": None,
        "path_bytes": size,
        "host_bytes": routes.mtu_to(address) if routes else None,
    }
    # Without the right to send such packets, nothing is known.
    with contextlib.suppress(OSError):
        wait, deadline = _round_seconds(connection), Deadline(seconds)
        with _Echo(address) as echo:
            _probe(echo, part, deadline, wait)
        if connection.family == socket.AF_INET and part["passes"] is not False:
            of_segments: MtuPart = {**part, "passes": None, "filtered": False, "largest_bytes": None}
            with _Segments(connection) as segments:
                _probe(segments, of_segments, deadline, wait)
            if of_segments["passes"] is not None and part["passes"] is not of_segments["passes"]:
                part = of_segments
    return part


def segment_bytes(connection: socket.socket) -> int:
    """Return the length of a packet with a full segment of a connection. Raises OSError."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    (mss,) = struct.unpack_from("=I", info, MSS_AT)
    options = TIMESTAMP_BYTES if info[OPTIONS_AT] & HAS_TIMESTAMPS else 0
    return int(mss) + options + TCP_HEADER + IP_HEADER[connection.family]


def _round_seconds(connection: socket.socket) -> float:
    """Return how long to wait for an answer: some round trips of the handshake."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    (microseconds,) = struct.unpack_from("=I", info, 68)
    return min(MOST_SECONDS, max(LEAST_SECONDS, ROUND_TRIPS * microseconds / 1e6))


def _probe(packets: _Packets, part: MtuPart, deadline: Deadline, wait: float) -> None:
    """Fill in whether packets of the connection pass, the largest that do, and the length after an ICMP error."""
    answered: set[int] = set()
    for number in range(ROUNDS):
        for each in [SMALL_BYTES, *(each for each in LADDER if number and each < part["path_bytes"])]:
            packets.send(each)
        while not packets.send(part["path_bytes"]):
            # The kernel knows a smaller MTU of the path from an ICMP error, and so do connections.
            known = packets.known_mtu()
            if known is None or known >= part["path_bytes"]:
                return
            part["path_bytes"] = known
        found = packets.receive(part["path_bytes"], deadline.remaining(wait))
        answered |= found
        part["largest_bytes"] = max(answered, default=None)
        if part["path_bytes"] in found:
            part["passes"] = True
            return
        if SMALL_BYTES not in found:
            # It answers no such packets, or they get lost at random.
            part["filtered"] = True
            return
        if deadline.expired():
            return
    part["filtered"] = max(answered) < LEAST_BYTES
    part["passes"] = None if part["filtered"] else False


class _Packets:
    """Packets to one address that must not be fragmented. Raises OSError, for example without the right."""

    def __init__(self, family: socket.AddressFamily, protocol: int, address: str) -> None:
        self.family = family
        self._socket = socket.socket(family, socket.SOCK_RAW, protocol)
        try:
            level, option = (
                (socket.IPPROTO_IP, IP_MTU_DISCOVER)
                if family == socket.AF_INET
                else (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)
            )
            self._socket.setsockopt(level, option, DO_NOT_FRAGMENT)
            self._socket.setblocking(False)
            self._socket.connect((address, 0))
        except OSError:
            self._socket.close()
            raise
        # The lengths by number.
        self._sent: list[int] = []

    def __enter__(self) -> _Packets:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._socket.close()

    def message(self, number: int, length: int) -> bytes:
        """Return the content of a packet, which has this length."""
        raise NotImplementedError

    def answered(self, message: bytes) -> int | None:
        """Return the number of the packet that a message answers; null for other messages."""
        raise NotImplementedError

    def send(self, size: int) -> bool:
        """Send a packet of this length. Return false if it is longer than the known MTU of the path."""
        self._sent.append(size)
        try:
            self._socket.send(self.message(len(self._sent) - 1, size - IP_HEADER[self.family]))
        except OSError as exc:
            if exc.errno == errno.EMSGSIZE:
                return False
            if exc.errno not in (errno.ENOBUFS, errno.EAGAIN):
                raise
        return True

    def known_mtu(self) -> int | None:
        """Return the MTU of the path that the kernel knows."""
        return _known_mtu(self._socket, self.family)

    def receive(self, largest: int, seconds: float) -> set[int]:
        """Return the lengths of the packets that are answered, as soon as the largest is."""
        found: set[int] = set()
        deadline = Deadline(seconds)
        while largest not in found and select.select([self._socket], [], [], deadline.remaining())[0]:
            try:
                message = self._socket.recv(65535)
            except OSError:
                continue
            if self.family == socket.AF_INET:
                message = message[(message[0] & 0xF) * 4 :]
            number = self.answered(message)
            if number is not None and number < len(self._sent):
                found.add(self._sent[number])
        return found


class _Echo(_Packets):
    """ICMP echo requests."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__(family, socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP, address)
        self._token = os.urandom(8)

    def message(self, number: int, length: int) -> bytes:
        """Return an echo request."""
        kind = ECHO[self.family][0]
        data = struct.pack("!HH", IDENTIFIER, number) + self._token.ljust(length - ICMP_HEADER, b"\0")
        # For IPv6, the kernel fills it in.
        known = checksum(struct.pack("!BBH", kind, 0, 0) + data) if self.family == socket.AF_INET else 0
        return struct.pack("!BBH", kind, 0, known) + data

    def answered(self, message: bytes) -> int | None:
        """Return the number of the request that an echo reply answers."""
        if len(message) < 16 or message[0] != ECHO[self.family][1] or message[8:16] != self._token:
            return None
        return int.from_bytes(message[6:8], "big")


class _Segments(_Packets):
    """TCP segments of IPv4 that belong to no connection, to the port of one. The kernel answers these with RST."""

    def __init__(self, connection: socket.socket) -> None:
        (address, self._port), own = connection.getpeername(), connection.getsockname()[0]
        super().__init__(socket.AF_INET, socket.IPPROTO_TCP, address)
        # No other program gets this port in the meantime.
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.bind((own, 0))
        self._own_port = self._reserved.getsockname()[1]
        self._ends = socket.inet_aton(own) + socket.inet_aton(address)
        (self._first,) = struct.unpack("!I", os.urandom(4))

    def __exit__(self, *_raised: object) -> None:
        self._reserved.close()
        super().__exit__()

    def message(self, number: int, length: int) -> bytes:
        """Return a segment with the flag ACK, whose acknowledgement is its number."""
        numbers = (self._first, (self._first + number) & 0xFFFFFFFF)
        start = struct.pack("!HHIIBBH", self._own_port, self._port, *numbers, TCP_HEADER // 4 << 4, ACK, 0)
        data = bytes(length - TCP_HEADER)
        known = checksum(self._ends + struct.pack("!HH", socket.IPPROTO_TCP, length) + start + bytes(4) + data)
        return start + struct.pack("!HH", known, 0) + data

    def answered(self, message: bytes) -> int | None:
        """Return the number of the segment that an RST answers: its sequence number is what was acknowledged."""
        if len(message) < TCP_HEADER or not message[13] & RST:
            return None
        source, destination, sequence = struct.unpack("!HHI", message[:8])
        if (source, destination) != (self._port, self._own_port):
            return None
        return (sequence - self._first) & 0xFFFFFFFF


def _known_mtu(connected: socket.socket, family: int) -> int | None:
    try:
        if family == socket.AF_INET:
            return connected.getsockopt(socket.IPPROTO_IP, IP_MTU)
        return connected.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
    except OSError:
        return None


def checksum(message: bytes) -> int:
    """Return the checksum of an ICMP message (RFC 1071)."""
    if len(message) % 2:
        message += b"\0"
    total = sum(struct.unpack("!%dH" % (len(message) // 2), message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
