# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resolves names by resolv.conf and hosts, within a deadline. Private to this collection.

The resolver of the system has no deadline, reads the files of the machine instead of those of a container, and reports
as one error what this module reports as several, with different hints.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import Iterable, Iterator, Mapping, NamedTuple, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline

A, AAAA = 1, 28
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
PORT = 53
# Limits and defaults of the C library: resolv.conf(5).
MAX_SERVERS = 3
NO_SERVERS = ("127.0.0.1",)
MAX_CANDIDATES = 8
BEHIND_ENGINE = "# ExtServers:"
MAX_ADDRESSES = 16

# Addresses by the id of the query, with the response code.
Reply = Tuple[int, "list[str]"]


class DnsFailure(NamedTuple):
    """What a kind of failure means, and the hint for it."""

    meaning: str
    hint: str


_SERVER = "Check the DNS servers: `cat /etc/resolv.conf`; 127.0.0.11 in a container is the Docker engine."
# Kinds of failures of DNS, beside those of ``_failures.KINDS``.
FAILURES = {
    "nxdomain": DnsFailure(
        "the name does not exist", "Correct the name, or start the container that has it: `docker ps --all`."
    ),
    "no_address": DnsFailure(
        "the name exists and has no address",
        "Correct the name, or add an address to its records: `getent ahosts NAME`.",
    ),
    "servfail": DnsFailure("the DNS server fails (SERVFAIL or another code)", _SERVER),
    "dns_denied": DnsFailure("the DNS server replies REFUSED", _SERVER),
    "dns_refused": DnsFailure("nothing listens on the port of the DNS server", _SERVER),
    "dns_timeout": DnsFailure("the DNS server does not reply within the timeout", _SERVER),
    "dns_no_route": DnsFailure("the DNS server cannot be reached", _SERVER),
}
# The server replied: the name has no address. Other servers reply the same.
FINAL = ("nxdomain", "no_address")


def failure(kind: str, message: str) -> CannotConnect:
    """Return a failure of one of the kinds in FAILURES, with its hint."""
    return CannotConnect(kind, message, FAILURES[kind].hint)


class Answer(NamedTuple):
    """The addresses of a name, and where they come from.

    ``source`` is ``address`` (the name is one), ``hosts`` (the hosts file) or ``dns``. ``server`` is the DNS
    server that replied; ``found_as`` is the name for which it did, which may end in a search domain.
    """

    addresses: list[str]
    source: str
    server: str | None = None
    found_as: str | None = None


class Configuration:
    """How a machine or a container resolves names: the text of its resolv.conf and of its hosts file.

    ``unread`` is the reason why resolv.conf could not be read. The C library then asks a server on the same machine, as
    with a file that names no server.
    """

    def __init__(self, resolv_conf: str = "", hosts: str = "", unread: str | None = None) -> None:
        servers: list[str] = []
        # The servers that the engine's server queries and whether it does so from this machine; null if not written.
        self.behind_engine: list[tuple[str, bool]] | None = None
        self.search: list[str] = []
        self.ndots = 1
        for line in resolv_conf.splitlines():
            if line.startswith(BEHIND_ENGINE):
                self.behind_engine = list(_behind_engine(line))
            words = line.split("#")[0].split(";")[0].split()
            if len(words) < 2:
                continue
            if words[0] == "nameserver" and is_address(words[1].partition("%")[0]):
                servers.append(words[1])
            elif words[0] in ("search", "domain"):
                self.search = words[1:]
            elif words[0] == "options":
                self.ndots = next((int(word[6:]) for word in words if _is_ndots(word)), self.ndots)
        self.servers = tuple(servers[:MAX_SERVERS]) or NO_SERVERS
        self.problem = None if servers else unread or "/etc/resolv.conf names no server"
        self.hosts = parse_hosts(hosts)

    def candidates(self, name: str) -> list[str]:
        """Return the names to query one after the other."""
        if name.endswith("."):
            return [name.rstrip(".")]
        longer = ["%s.%s" % (name, domain.strip(".")) for domain in self.search if domain.strip(".")]
        names = [name, *longer] if name.count(".") >= self.ndots else [*longer, name]
        return names[:MAX_CANDIDATES]

    def explained(self, exc: CannotConnect) -> CannotConnect:
        """Return a failure of a server, with the reason why this server is used."""
        if self.problem is None or exc.kind in FINAL:
            return exc
        return CannotConnect(
            exc.kind, "%s, so a DNS server on the same machine is used: %s" % (self.problem, exc), exc.hint
        )


def _behind_engine(line: str) -> Iterator[tuple[str, bool]]:
    """Yield the servers of the engine's comment in resolv.conf: ``# ExtServers: [host(192.0.2.53) 192.0.2.54]``."""
    for word in line[len(BEHIND_ENGINE) :].strip(" []").split():
        is_of_host = word.startswith("host(")
        address = word[5:-1] if is_of_host else word
        if is_address(address.partition("%")[0]):
            yield address, is_of_host


def _is_ndots(word: str) -> bool:
    return word.startswith("ndots:") and word[6:].isdigit()


def parse_hosts(text: str) -> dict[str, list[str]]:
    """Return the addresses by name from a hosts file."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if len(words) > 1 and is_address(words[0]):
            for name in words[1:]:
                found.setdefault(name.lower(), []).append(words[0])
    return found


def is_address(text: str) -> bool:
    """Return whether ``text`` is a numeric address, IPv4 or IPv6."""
    return family(text) is not None


def family(text: str) -> socket.AddressFamily | None:
    """Return the family of a numeric address; null for a name."""
    for each in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(each, text)
            return each
        except (OSError, ValueError):
            pass
    return None


def resolve(name: str, configuration: Configuration, deadline: Deadline) -> Answer:
    """Return the addresses of ``name`` with their source. Raises CannotConnect.

    The order is that of the C library: hosts, then each candidate, also after one for which the servers fail
    (SERVFAIL). After a server that fails or does not reply, the next one is asked.
    """
    if is_address(name):
        return Answer([name], "address")
    known = configuration.hosts.get(name.lower().rstrip("."))
    if known:
        return Answer(known[:MAX_ADDRESSES], "hosts")
    candidates = configuration.candidates(name)
    first: CannotConnect | None = None
    for number, candidate in enumerate(candidates):
        part = Deadline(deadline.remaining() / (len(candidates) - number))
        try:
            return _ask_servers(candidate, configuration.servers, part)
        except CannotConnect as exc:
            # A name without an address is more specific than a name that does not exist.
            if first is None or first.kind == "nxdomain":
                first = exc
            if exc.kind not in (*FINAL, "servfail"):
                break
    raise configuration.explained(first or failure("nxdomain", "%r is not a name" % name))


def _ask_servers(name: str, servers: tuple[str, ...], deadline: Deadline) -> Answer:
    first: CannotConnect | None = None
    for number, server in enumerate(servers):
        try:
            addresses = ask(name, server, deadline.remaining() / (len(servers) - number))
            return Answer(addresses, "dns", server, name.rstrip("."))
        except CannotConnect as exc:
            if exc.kind in FINAL:
                raise
            # Clients wait for the first server, so its failure is reported.
            first = first or exc
    raise first or failure("dns_no_route", "there is no DNS server")


def ask(name: str, server: str, seconds: float, port: int = PORT) -> list[str]:
    """Return the addresses that a server returns for ``name``, IPv4 first. Raises CannotConnect."""
    try:
        queries = {number: query(number, name, kind) for number, kind in _numbered((A, AAAA))}
    except ValueError as exc:
        raise CannotConnect("name_resolution", "%s is not a valid name: %s" % (name, exc), "Correct the name.") from exc
    deadline = Deadline(seconds)
    try:
        replies = _exchange(queries, server, port, deadline)
    except ConnectionRefusedError as exc:
        raise failure("dns_refused", "no DNS server listens on %s port %d" % (server, port)) from exc
    except OSError as exc:
        raise failure("dns_no_route", "the DNS server %s: %s" % (server, exc.strerror or exc)) from exc
    return _addresses_in(name, server, replies, seconds)


def _addresses_in(name: str, server: str, replies: Mapping[int, Reply], seconds: float) -> list[str]:
    """Return the addresses in the replies to both queries. Raises CannotConnect if there are none."""
    found = [address for _code, addresses in replies.values() for address in addresses]
    if found:
        return sorted(dict.fromkeys(found), key=lambda address: ":" in address)[:MAX_ADDRESSES]
    codes = {code for code, _addresses in replies.values()}
    if NXDOMAIN in codes:
        raise failure("nxdomain", "%s has no name %s" % (server, name))
    if SERVFAIL in codes:
        raise failure("servfail", "%s replies SERVFAIL to a query for %s" % (server, name))
    if REFUSED in codes:
        raise failure("dns_denied", "%s replies REFUSED to a query for %s" % (server, name))
    if len(replies) < 2:
        raise failure("dns_timeout", "%s did not answer for %s within %.1f s" % (server, name, seconds))
    if codes == {NOERROR}:
        raise failure("no_address", "%s has the name %s, but no address of it" % (server, name))
    raise failure("servfail", "%s replies with code %d to a query for %s" % (server, max(codes), name))


def _numbered(kinds: Iterable[int]) -> list[tuple[int, int]]:
    """Return each record type with an unpredictable query id."""
    first = struct.unpack("!H", os.urandom(2))[0]
    return [((first + offset) & 0xFFFF, kind) for offset, kind in enumerate(kinds)]


def _exchange(queries: Mapping[int, bytes], server: str, port: int, deadline: Deadline) -> dict[int, Reply]:
    """Return the replies that came in time, by query id. A query without a reply is sent twice."""
    replies: dict[int, Reply] = {}
    with socket.socket(family(server.partition("%")[0]) or socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.connect((server, port))
        for share in (0.4, 1.0):
            for unanswered in queries.keys() - replies.keys():
                udp.send(queries[unanswered])
            waiting = Deadline(deadline.remaining() * share)
            while len(replies) < len(queries) and select.select([udp], [], [], waiting.remaining())[0]:
                datagram = udp.recv(65535)
                number = _query_of(datagram, queries)
                if number is None or number in replies:
                    continue
                message: bytes | None = datagram
                if is_truncated(datagram):
                    message = _over_tcp(queries[number], server, port, deadline)
                reply = parse(message) if message else None
                if reply:
                    replies[number] = reply
            if len(replies) == len(queries):
                break
    return replies


def _over_tcp(text: bytes, server: str, port: int, deadline: Deadline) -> bytes | None:
    """Return the reply to a query whose reply is too large for a datagram; null if it does not come."""
    try:
        with socket.create_connection((server, port), max(0.001, deadline.remaining())) as stream:
            stream.sendall(struct.pack("!H", len(text)) + text)
            received = b""
            while len(received) < 2 or len(received) < 2 + struct.unpack("!H", received[:2])[0]:
                stream.settimeout(max(0.001, deadline.remaining()))
                chunk = stream.recv(65535)
                if not chunk:
                    return None
                received += chunk
    except OSError:
        return None
    return received[2:] if _query_of(received[2:], {struct.unpack("!H", text[:2])[0]: text}) is not None else None


def query(number: int, name: str, kind: int) -> bytes:
    """Return the message of one query with recursion desired. Raises ValueError for an invalid name."""
    labels = name.rstrip(".").encode("ascii").split(b".")
    if not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        raise ValueError("a part of it is empty or too long")
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0" + struct.pack("!HH", kind, 1)
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + question


def _query_of(message: bytes, queries: Mapping[int, bytes]) -> int | None:
    """Return the id of the query that a message replies to; null for other messages."""
    if len(message) < 12:
        return None
    number, flags = struct.unpack("!HH", message[:4])
    asked = queries.get(number)
    if asked is None or not flags & 0x8000:
        return None
    # Servers may leave the question out of a failure.
    question = message[12 : len(asked)].lower()
    return number if question in (b"", asked[12:].lower()) or flags & 0xF else None


def is_truncated(message: bytes) -> bool:
    """Return whether a reply has the flag TC (RFC 1035, section 4.1.1): the whole is available over TCP."""
    return bool(struct.unpack("!H", message[2:4])[0] & 0x0200)


def parse(message: bytes) -> Reply | None:
    """Return the response code and the addresses of a reply; null if it is damaged."""
    try:
        flags, questions, answers = struct.unpack("!HHH", message[2:8])
        at = 12
        for _number in range(questions):
            at = _after_name(message, at) + 4
        addresses = []
        for _number in range(answers):
            at = _after_name(message, at)
            kind, _class, _ttl, length = struct.unpack("!HHIH", message[at : at + 10])
            data = message[at + 10 : at + 10 + length]
            if (kind, length) in ((A, 4), (AAAA, 16)):
                addresses.append(socket.inet_ntop(socket.AF_INET if kind == A else socket.AF_INET6, data))
            at += 10 + length
    except (struct.error, IndexError, ValueError):
        return None
    return flags & 0xF, addresses


def _after_name(message: bytes, at: int) -> int:
    """Return the offset after a name. A name may end in a pointer, which is not followed."""
    while True:
        length = message[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if not length:
            return at
