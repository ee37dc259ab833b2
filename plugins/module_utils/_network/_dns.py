# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names to addresses, as resolv.conf and hosts say, and within a deadline. Private to this collection.

The system's own resolver cannot be given a deadline, reads the files of the machine instead of those of a container,
and makes one error of five that have different hints.
"""

from __future__ import annotations

import os
import select
import socket
import struct

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline

A, AAAA = 1, 28
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
FAILURES = ((SERVFAIL, "servfail", "fails (SERVFAIL)"), (REFUSED, "dns_denied", "refuses to answer (REFUSED)"))
PORT = 53
# What the C library goes by: resolv.conf(5).
MAX_SERVERS = 3
NO_SERVERS = ("127.0.0.1",)
MAX_CANDIDATES = 8
MAX_ADDRESSES = 16


class Configuration:
    """How names are resolved somewhere: the text of its resolv.conf and of its hosts.

    ``unread`` says why there is no resolv.conf: the C library asks its own machine then, as where one names no server.
    """

    def __init__(self, resolv_conf="", hosts="", unread=None):
        servers, self.search, self.ndots = [], [], 1
        for line in resolv_conf.splitlines():
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

    def candidates(self, name):
        """The names that are asked for in turn."""
        if name.endswith("."):
            return [name.rstrip(".")]
        longer = ["%s.%s" % (name, domain.strip(".")) for domain in self.search if domain.strip(".")]
        names = [name, *longer] if name.count(".") >= self.ndots else [*longer, name]
        return names[:MAX_CANDIDATES]

    def explained(self, exc):
        """A failure of a server, with why it was asked at all."""
        if self.problem is None or exc.kind in ("nxdomain", "no_address"):
            return exc
        return CannotConnect(exc.kind, "%s, and so this machine itself is asked: %s" % (self.problem, exc))


def _is_ndots(word):
    return word.startswith("ndots:") and word[6:].isdigit()


def parse_hosts(text):
    """Addresses by name, out of a hosts file."""
    found = {}
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if len(words) > 1 and is_address(words[0]):
            for name in words[1:]:
                found.setdefault(name.lower(), []).append(words[0])
    return found


def is_address(text):
    return family(text) is not None


def family(text):
    """The family of a numeric address; null for a name."""
    for each in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(each, text)
            return each
        except (OSError, ValueError):
            pass
    return None


def resolve(name, configuration, deadline):
    """The addresses of ``name``. Raises CannotConnect with the kind of failure.

    Like the C library: hosts first, then each candidate, also after one that servers fail to answer for (SERVFAIL); a
    server that is silent or fails is left for the next one.
    """
    if is_address(name):
        return [name]
    known = configuration.hosts.get(name.lower().rstrip("."))
    if known:
        return known[:MAX_ADDRESSES]
    candidates = configuration.candidates(name)
    failure = None
    for number, candidate in enumerate(candidates):
        part = Deadline(deadline.remaining() / (len(candidates) - number))
        try:
            return _ask_servers(candidate, configuration.servers, part)
        except CannotConnect as exc:
            # That one of the names has no address says more than that another does not exist.
            if failure is None or failure.kind == "nxdomain":
                failure = exc
            if exc.kind not in ("nxdomain", "no_address", "servfail"):
                break
    raise configuration.explained(failure)


def _ask_servers(name, servers, deadline):
    failure = None
    for number, server in enumerate(servers):
        try:
            return ask(name, server, deadline.remaining() / (len(servers) - number))
        except CannotConnect as exc:
            if exc.kind in ("nxdomain", "no_address"):
                raise
            # The first failure is the one that everybody waits for.
            failure = failure or exc
    raise failure


def ask(name, server, seconds, port=PORT):
    """The addresses that one server gives for ``name``, IPv4 first. Raises CannotConnect."""
    try:
        queries = {number: query(number, name, kind) for number, kind in _numbered((A, AAAA))}
    except ValueError as exc:
        raise CannotConnect("bad_name", "%s is no name that can be asked for: %s" % (name, exc)) from exc
    deadline = Deadline(seconds)
    try:
        replies = _exchange(queries, server, port, deadline)
    except ConnectionRefusedError as exc:
        raise CannotConnect("dns_refused", "no DNS server answers on %s port %d" % (server, port)) from exc
    except OSError as exc:
        raise CannotConnect("dns_no_route", "the DNS server %s: %s" % (server, exc.strerror or exc)) from exc
    return _judged(name, server, replies, seconds)


def _judged(name, server, replies, seconds):
    """The addresses in the replies to both questions, or why there are none."""
    found = [address for _code, addresses in replies.values() for address in addresses]
    if found:
        return sorted(dict.fromkeys(found), key=lambda address: ":" in address)[:MAX_ADDRESSES]
    codes = {code for code, _addresses in replies.values()}
    if NXDOMAIN in codes:
        raise CannotConnect("nxdomain", "%s says that there is no %s" % (server, name))
    for code, kind, said in FAILURES:
        if code in codes:
            raise CannotConnect(kind, "%s %s when asked for %s" % (server, said, name))
    if len(replies) < 2:
        raise CannotConnect("dns_timeout", "%s did not answer for %s within %.1f s" % (server, name, seconds))
    if codes == {NOERROR}:
        raise CannotConnect("no_address", "%s knows %s, but no address of it" % (server, name))
    raise CannotConnect("servfail", "%s answers with code %d when asked for %s" % (server, max(codes), name))


def _numbered(kinds):
    """Two different numbers that nobody can guess."""
    first = struct.unpack("!H", os.urandom(2))[0]
    return [((first + offset) & 0xFFFF, kind) for offset, kind in enumerate(kinds)]


def _exchange(queries, server, port, deadline):
    """``{number: (code, addresses)}`` of the queries that were answered in time. Asks once more where nothing comes."""
    replies = {}
    with socket.socket(family(server.partition("%")[0]), socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.connect((server, port))
        for share in (0.4, 1.0):
            for number in queries.keys() - replies.keys():
                udp.send(queries[number])
            waiting = Deadline(deadline.remaining() * share)
            while len(replies) < len(queries) and select.select([udp], [], [], waiting.remaining())[0]:
                message = udp.recv(65535)
                number = _answers(message, queries)
                if number is None or number in replies:
                    continue
                if is_truncated(message):
                    message = _over_tcp(queries[number], server, port, deadline)
                reply = parse(message) if message else None
                if reply:
                    replies[number] = reply
            if len(replies) == len(queries):
                break
    return replies


def _over_tcp(text, server, port, deadline):
    """The reply to a query whose answer does not fit into a datagram; null where it does not come."""
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
    return received[2:] if _answers(received[2:], {struct.unpack("!H", text[:2])[0]: text}) is not None else None


def query(number, name, kind):
    """One question, recursion desired. Raises ValueError for what is no name."""
    labels = name.rstrip(".").encode("ascii").split(b".")
    if not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        raise ValueError("a part of it is empty or too long")
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0" + struct.pack("!HH", kind, 1)
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + question


def _answers(message, queries):
    """The number of the query that a message answers, null where it answers none of them."""
    if len(message) < 12:
        return None
    number, flags = struct.unpack("!HH", message[:4])
    asked = queries.get(number)
    if asked is None or not flags & 0x8000:
        return None
    # Servers that refuse or fail may leave the question out.
    question = message[12 : len(asked)].lower()
    return number if question in (b"", asked[12:].lower()) or flags & 0xF else None


def is_truncated(message):
    return bool(struct.unpack("!H", message[2:4])[0] & 0x0200)


def parse(message):
    """``(code, addresses)`` of a reply; null for one that is damaged."""
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


def _after_name(message, at):
    """Where a name ends. It may end in a pointer to another place, which we need not follow."""
    while True:
        length = message[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if not length:
            return at
