# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resolving names: files, and messages of DNS."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns

POINTER = b"\xc0\x0c"


def record(kind, data):
    return POINTER + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def reply(query, *records, code=0, truncated=False):
    """The answer to a query, with the question repeated as servers do."""
    flags = 0x8180 | code | (0x0200 if truncated else 0)
    return query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + query[12:] + b"".join(records)


ADDRESS = record(_dns.A, bytes([172, 20, 3, 4]))
ADDRESS6 = record(_dns.AAAA, socket.inet_pton(socket.AF_INET6, "fd00::4"))
ALIAS = record(5, b"\x05other\x00")


class Server:
    """A DNS server on the loopback address, over UDP and TCP, whose replies a function returns."""

    def __init__(self, answer):
        self.answer = answer
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        for serve in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    def _serve_udp(self):
        while True:
            query, client = self.udp.recvfrom(4096)
            for message in self.answer(query, "udp"):
                self.udp.sendto(message, client)

    def _serve_tcp(self):
        while True:
            connection, _client = self.tcp.accept()
            with connection:
                query = connection.recv(4096)[2:]
                for message in self.answer(query, "tcp"):
                    connection.sendall(struct.pack("!H", len(message)) + message)

    def ask(self, seconds=1.0):
        return _dns.ask("redis", "127.0.0.1", seconds, self.port)


def kind(query):
    return struct.unpack("!H", query[-4:-2])[0]


def failure(answer, seconds=1.0):
    with pytest.raises(CannotConnect) as raised:
        Server(answer).ask(seconds)
    return raised.value.kind


def test_both_families_ipv4_first():
    both = {_dns.A: ADDRESS, _dns.AAAA: ADDRESS6}
    assert Server(lambda query, _over: [reply(query, ALIAS, both[kind(query)])]).ask() == ["172.20.3.4", "fd00::4"]


def test_a_reply_for_one_family_is_enough():
    found = Server(lambda query, _over: [reply(query, ADDRESS)] if kind(query) == _dns.A else []).ask(0.3)
    assert found == ["172.20.3.4"]


@pytest.mark.parametrize(
    ("code", "expected"), [(3, "nxdomain"), (2, "servfail"), (5, "dns_denied"), (0, "no_address"), (4, "servfail")]
)
def test_replies_without_an_address_have_kinds(code, expected):
    assert failure(lambda query, _over: [reply(query, code=code)]) == expected


def test_no_reply_is_a_timeout():
    assert failure(lambda query, _over: [], 0.3) == "dns_timeout"


def test_a_port_without_a_server_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(CannotConnect) as raised:
        _dns.ask("redis", "127.0.0.1", 0.5, port)
    assert raised.value.kind == "dns_refused"


def test_a_lost_packet_is_sent_again():
    seen = []

    def answer(query, _over):
        seen.append(query)
        return [reply(query, ADDRESS)] if len(seen) > 2 else []

    assert Server(answer).ask(0.6) == ["172.20.3.4"]


def test_a_truncated_reply_is_fetched_over_tcp():
    def answer(query, over):
        return [reply(query, ADDRESS)] if over == "tcp" else [reply(query, truncated=True)]

    assert Server(answer).ask() == ["172.20.3.4"]


def test_replies_to_other_queries_are_ignored():
    def answer(query, _over):
        other = struct.pack("!H", struct.unpack("!H", query[:2])[0] ^ 0x5555) + query[2:]
        return [
            b"",
            b"junk",
            query,
            reply(other, ADDRESS),
            reply(query[:12] + query[12:].replace(b"redis", b"other"), ADDRESS),
        ]

    assert failure(answer, 0.3) == "dns_timeout"


@pytest.mark.parametrize("length", range(12, 46))
def test_a_damaged_message_never_raises(length):
    whole = reply(_dns.query(1, "redis", _dns.A), ADDRESS)
    assert _dns.parse(whole) == (0, ["172.20.3.4"])
    assert _dns.parse(whole[:length]) in (None, (0, ["172.20.3.4"]))


def test_a_name_without_an_end_is_damaged():
    assert _dns.parse(b"\0\1\x81\x80\0\1\0\0\0\0\0\0" + b"\x3f" * 40) is None


@pytest.mark.parametrize("name", ["a..b", "x" * 64, "ä", ".".join(["abcdefgh"] * 30)])
def test_an_invalid_name_is_rejected(name):
    with pytest.raises(CannotConnect) as raised:
        _dns.ask(name, "127.0.0.1", 0.1, 1)
    assert raised.value.kind == "name_resolution"


def test_resolv_conf():
    text = """
    # comment
    nameserver 127.0.0.11
    nameserver fe80::1%eth0   ; another
    nameserver nonsense
    nameserver 192.0.2.3
    nameserver 192.0.2.4
    domain a.example
    search b.example c.example.
    options edns0 ndots:2 trust-ad
    """
    configuration = _dns.Configuration(text)
    assert configuration.servers == ("127.0.0.11", "fe80::1%eth0", "192.0.2.3")
    assert configuration.candidates("redis") == ["redis.b.example", "redis.c.example", "redis"]
    assert configuration.candidates("a.b.c") == ["a.b.c", "a.b.c.b.example", "a.b.c.c.example"]
    assert configuration.candidates("redis.") == ["redis"]


def test_without_resolv_conf_a_local_server_is_used():
    assert _dns.Configuration("").servers == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [({"resolv_conf": "search example\n"}, "names no server"), ({"unread": "no such file"}, "no such file")],
)
def test_a_failure_of_the_local_server_names_the_reason_for_its_use(monkeypatch, arguments, why):
    monkeypatch.setattr(_dns, "NO_SERVERS", ("127.0.0.9",))
    with pytest.raises(CannotConnect) as raised:
        _dns.resolve("redis", _dns.Configuration(**arguments), Deadline(0.5))
    assert raised.value.kind == "dns_refused"
    assert why in str(raised.value)


@pytest.mark.parametrize(
    ("codes", "expected"), [({"redis.broken": 2}, None), ({"redis.broken": 2, "redis": 3}, "servfail")]
)
def test_a_search_domain_that_fails_does_not_end_the_search(monkeypatch, codes, expected):
    def answer(query, _over):
        name = query[12:-5].replace(b"\x05", b".").replace(b"\x06", b".").strip(b".\0").decode()
        return [reply(query, code=codes[name])] if name in codes else [reply(query, ADDRESS)]

    configuration = _dns.Configuration("nameserver 127.0.0.1\nsearch broken\noptions ndots:5\n")
    ask = _dns.ask
    port = Server(answer).port
    monkeypatch.setattr(_dns, "ask", lambda name, server, seconds: ask(name, server, seconds, port))
    if expected is None:
        found = _dns.resolve("redis", configuration, Deadline(2))
        assert found == (["172.20.3.4"], "dns", "127.0.0.1", "redis")
        return
    with pytest.raises(CannotConnect) as raised:
        _dns.resolve("redis", configuration, Deadline(2))
    assert raised.value.kind == expected


def test_hosts_come_first_and_addresses_need_no_server():
    configuration = _dns.Configuration(
        "nameserver 127.0.0.9", "172.20.3.7  Redis cache # ours\nnonsense redis\n::1 redis\n"
    )
    assert _dns.resolve("redis", configuration, Deadline(0)) == (["172.20.3.7", "::1"], "hosts", None, None)
    assert _dns.resolve("cache.", configuration, Deadline(0)).addresses == ["172.20.3.7"]
    assert _dns.resolve("fd00::1", configuration, Deadline(0)) == (["fd00::1"], "address", None, None)
