# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parses a server's certificate without verifying it. Private to this collection.

Python's ``getpeercert()`` returns the fields of a certificate only after verification, so not those of an expired one.
"""

from __future__ import annotations

import calendar
import socket
import time
from typing import Iterator, List, Tuple, TypedDict

UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
VERSION, EXTENSIONS = 0xA0, 0xA3
DNS_NAME, IP_ADDRESS = 0x82, 0x87
ATTRIBUTES = {b"\x55\x04\x03": "CN", b"\x55\x04\x0a": "O"}
SUBJECT_ALTERNATIVE_NAME = b"\x55\x1d\x11"
# DER elements: tag and contents.
Elements = List[Tuple[int, bytes]]


class Certificate(TypedDict):
    """``subject`` and ``issuer`` as ``CN=..., O=...``, the alternative names, and the validity in epoch seconds."""

    subject: str
    issuer: str
    names: list[str]
    begins: float
    expires: float


def parse(der: bytes) -> Certificate:
    """Return the fields of a certificate. Raises ValueError for any other data."""
    try:
        fields = _children(_children(_children(der)[0][1])[0][1])
        if fields[0][0] == VERSION:
            fields = fields[1:]
        _serial, _algorithm, issuer, validity, subject = fields[:5]
        begins, expires = (_epoch(*field) for field in _children(validity[1]))
        return {
            "subject": _name(subject[1]),
            "issuer": _name(issuer[1]),
            "names": [name for tag, value in fields[5:] if tag == EXTENSIONS for name in _alternative_names(value)],
            "begins": begins,
            "expires": expires,
        }
    except (IndexError, UnicodeDecodeError) as exc:
        raise ValueError("not a certificate: %s" % exc) from exc


def _children(data: bytes) -> Elements:
    """Return the elements that a DER value is a sequence of."""
    found: Elements = []
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("not a certificate: truncated")
        found.append((tag, data[at : at + length]))
        at += length
    return found


def _name(data: bytes) -> str:
    """Return a distinguished name as ``CN=..., O=...``."""
    parts = []
    for _set, members in _children(data):
        for _sequence, member in _children(members):
            (_oid, attribute), (_string, value) = _children(member)[:2]
            if attribute in ATTRIBUTES:
                parts.append("%s=%s" % (ATTRIBUTES[attribute], value.decode("utf-8", "replace")))
    return ", ".join(parts)


def _alternative_names(data: bytes) -> Iterator[str]:
    """Yield the DNS names and IP addresses of the extension subjectAltName."""
    for extension in _children(_children(data)[0][1]):
        parts = _children(extension[1])
        if parts[0][1] == SUBJECT_ALTERNATIVE_NAME:
            for tag, value in _children(_children(parts[-1][1])[0][1]):
                if tag == DNS_NAME:
                    yield value.decode("ascii", "replace")
                elif tag == IP_ADDRESS and len(value) in (4, 16):
                    yield socket.inet_ntop(socket.AF_INET if len(value) == 4 else socket.AF_INET6, value)


def _epoch(tag: int, value: bytes) -> float:
    """Return a DER time as epoch seconds."""
    text = value.decode("ascii")
    if tag == UTC_TIME:
        # A year of two digits is 19xx from 50 on (RFC 5280).
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError("not a certificate: invalid time")
    return float(calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ")))
