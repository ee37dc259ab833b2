# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _redis
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline


@pytest.fixture
def pair():
    """A client and the other end of its socket."""
    ours, theirs = socket.socketpair()
    client = _redis.Client(ours, 0.5, "redis:6379")
    client.deadline = Deadline(5)
    yield client, theirs
    ours.close()
    theirs.close()


def test_a_command_is_packed_by_bytes_not_characters():
    assert _redis.pack("GET", "é", 1, b"\r\n") == b"*4\r\n$3\r\nGET\r\n$2\r\n\xc3\xa9\r\n$1\r\n1\r\n$2\r\n\r\n\r\n"


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (b"+OK\r\n", b"OK"),
        (b":-2\r\n", -2),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"$6\r\na\r\nb\r\n\r\n", b"a\r\nb\r\n"),
        (b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n", [b"0", [b"a", b""]]),
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_a_reply_is_read_in_whatever_pieces_it_comes(pair, wire, value, piece):
    client, server = pair

    def send():
        for start in range(0, len(wire), piece):
            server.sendall(wire[start : start + piece])

    thread = threading.Thread(target=send)
    thread.start()
    assert client.read() == value
    thread.join()


def test_lines_leave_what_follows_them(pair):
    client, server = pair
    server.sendall(b":12\r\n-NOPERM no\r\n+string\r\n$3\r\nabc\r\n")
    assert client.read_lines(3) == [b":12", b"-NOPERM no", b"+string"]
    assert client.read() == b"abc"
    assert client.read_lines(0) == []


@pytest.mark.parametrize("names", [[], [b"a", b"track:12"], [b"a", b"\r\n", b"", b"a\r\n$1\r\nb", b"z"]])
def test_names_with_line_ends_are_read_by_the_letter(pair, names):
    client, server = pair
    framed = [b"$%d\r\n%b\r\n" % (len(name), name) for name in names]
    server.sendall(b"*2\r\n$2\r\n17\r\n*%d\r\n%b:5\r\n" % (len(names), b"".join(framed)))
    assert client.read_scan() == (17, framed, names)
    assert client.read() == 5


def test_an_error_reply_has_its_first_word_as_code(pair):
    client, server = pair
    server.sendall(b"-NOPERM User x has no permissions\r\n")
    with pytest.raises(_redis.ReplyError) as caught:
        client.ask("INFO")
    assert caught.value.code == "NOPERM"


def test_a_broken_client_fails_at_once_and_for_the_same_reason(pair):
    client, _server = pair
    client._timeout = 0.05
    with pytest.raises(CannotConnect) as first:
        client.ask("PING")
    assert first.value.kind == "timeout"
    client._timeout = 60
    with pytest.raises(CannotConnect) as second:
        client.ask("PING")
    assert second.value is first.value


def test_a_slow_dripping_server_does_not_outlast_the_deadline(pair):
    client, server = pair
    over = threading.Event()

    def drip():
        while not over.wait(0.02):
            server.send(b"x")

    server.sendall(b"$1000000\r\n")
    thread = threading.Thread(target=drip)
    thread.start()
    client.deadline = Deadline(0.2)
    try:
        with pytest.raises(CannotConnect, match="did not answer"):
            client.read()
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(
    "wire", [b"HTTP/1.1 400 Bad Request\r\n", b"AMQP\x00\x00\x09\x01", b"\x15\x03\x03\x00\x02\x02\x50"]
)
def test_another_protocol_is_recognised(pair, wire):
    client, server = pair
    server.sendall(wire)
    with pytest.raises(CannotConnect) as caught:
        client.read()
    assert caught.value.kind == "not_redis"
    assert "login_port" in caught.value.cure


@pytest.mark.parametrize(
    ("error", "kind", "option"),
    [
        (socket.gaierror(-2, "Name or service not known"), "name", "login_host"),
        (TimeoutError("timed out"), "timeout", "timeout"),
        (ConnectionRefusedError(111, "refused"), "refused", "login_port"),
        (ConnectionResetError(104, "reset"), "closed", "tls"),
        (OSError(113, "No route to host"), "network", "routes"),
        (ssl.SSLCertVerificationError("unable to get issuer"), "certificate", "ca_certs"),
    ],
)
def test_each_failure_of_a_socket_has_its_kind_and_names_what_to_look_at(error, kind, option):
    if kind == "certificate":
        error.verify_message = "unable to get issuer"
    found = _redis.cannot_connect(error, "redis:6379", 3)
    assert found.kind == kind
    assert option in found.cure


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("NOAUTH Authentication required.", "no_password"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "wrong_password"),
        ("DENIED Redis is running in protected mode", "protected_mode"),
        ("BUSY Redis is busy running a script.", "busy"),
        ("ERR max number of clients reached", "max_clients"),
        ("ERR something else", "error"),
    ],
)
def test_each_refusal_has_its_kind_and_a_cure(text, kind):
    found = _redis.refusal(_redis.ReplyError(text))
    assert found.kind == kind
    assert found.cure


def test_a_failure_to_connect_is_kept_for_the_process(monkeypatch):
    monkeypatch.setattr(_redis, "_kept", {})
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        options = {name: spec.get("default") for name, spec in _redis.CONNECTION_SPEC.items()}
        options.update(login_host="127.0.0.1", login_port=unused.getsockname()[1])
        with pytest.raises(CannotConnect) as first:
            _redis.connect(options)
        with pytest.raises(CannotConnect) as second:
            _redis.connect(options)
    assert first.value.kind == "refused"
    assert second.value is first.value


def test_a_name_service_that_does_not_answer_is_bounded(monkeypatch):
    monkeypatch.setattr(_redis.socket, "getaddrinfo", lambda *_args, **_kwargs: threading.Event().wait(5))
    with pytest.raises(socket.gaierror):
        _redis._resolve("redis", 6379, Deadline(0.05))
