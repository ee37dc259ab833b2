# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists the tables of nftables by netlink, without the program nft. Private to this collection."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Iterator

NETLINK_NETFILTER = 12
GET_TABLES = (10 << 8) | 1
REQUEST_ALL = 0x301
DONE, ERROR = 3, 2
NOT_THERE = (0, errno.ENOENT, errno.EINVAL, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP)
NAME = 1
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
HEADER, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
# A message of netfilter begins with its family, its version and two more bytes.
PREFIX = 4


def read(seconds: float) -> list[str]:
    """Return ``family name`` of all tables, none if the kernel has no nftables. Raises OSError without privilege."""
    found: list[str] = []
    try:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    except OSError:
        return found
    with netlink:
        netlink.settimeout(max(0.001, seconds))
        netlink.sendto(HEADER.pack(HEADER.size + PREFIX, GET_TABLES, REQUEST_ALL, 1, 0) + bytes(PREFIX), (0, 0))
        while True:
            for kind, payload in messages(netlink.recv(65536)):
                if kind == ERROR:
                    _check(struct.unpack("=i", payload[:4])[0])
                    return found
                if kind == DONE:
                    return found
                found.append("%s %s" % (FAMILIES.get(payload[0], payload[0]), name(payload[PREFIX:])))


def _check(code: int) -> None:
    """Raise OSError for an error other than that of a kernel without nftables."""
    if -code not in NOT_THERE:
        raise OSError(-code, os.strerror(-code))


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the payload of each netlink message in a datagram."""
    while len(data) >= HEADER.size:
        length, kind = HEADER.unpack_from(data)[:2]
        if length < HEADER.size:
            return
        yield kind, data[HEADER.size : length]
        data = data[_aligned(length) :]


def name(attributes: bytes) -> str:
    """Return the name from the attributes of a table."""
    while len(attributes) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(attributes)
        if kind == NAME:
            return attributes[ATTRIBUTE.size : length].rstrip(b"\0").decode("utf-8", "replace")
        attributes = attributes[_aligned(max(length, ATTRIBUTE.size)) :]
    return "?"


def _aligned(length: int) -> int:
    return (length + 3) & ~3
