# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

import hiredis
import pytest
import redis

from ansible_collections.tracktion.ops.plugins.module_utils import _libraries
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    MissingLibrary,
    OutOfTime,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis


def options(**changed):
    defaults = {name: spec.get("default") for name, spec in _redis.CONNECTION_SPEC.items()}
    return {**defaults, "login_host": "127.0.0.1", **changed}


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def pair(listener):
    """A client and the server's end of its socket."""
    chosen = options(login_port=listener.getsockname()[1], timeout=0.5)
    client = _redis.Client(_redis._open(redis, chosen, Deadline(5)), hiredis, chosen)
    client.redis_cli = ["redis-cli"]
    client.deadline = Deadline(5)
    server, _address = listener.accept()
    with server:
        yield client, server
    client.close()


@pytest.fixture
def no_connections(monkeypatch):
    monkeypatch.setattr(_redis, "_connections", {})


def test_a_command_is_packed_by_bytes_not_characters(pair):
    client, _server = pair
    packed = b"*4\r\n$3\r\nGET\r\n$2\r\n\xc3\xa9\r\n$1\r\n1\r\n$3\r\n\r\n\xff\r\n"
    assert client.pack([("GET", "é", 1, b"\r\n\xff")]) == packed
    assert client.pack([("GET", "é", 1, "\r\n\udcff")]) == packed
    assert client.pack([]) == b""


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
def test_a_reply_is_read_in_pieces_of_any_size(pair, wire, value, piece):
    client, server = pair

    def send():
        for start in range(0, len(wire), piece):
            server.sendall(wire[start : start + piece])

    thread = threading.Thread(target=send)
    thread.start()
    assert client.read(1) == [value]
    thread.join()


def test_reading_replies_leaves_the_next_ones(pair):
    client, server = pair
    server.sendall(b":0\r\n-NOPERM no\r\n+string\r\n$3\r\nabc\r\n")
    number, error, text = client.read(3)
    assert (number, error.code, str(error), text) == (0, "NOPERM", "NOPERM no", b"string")
    assert client.read(1) == [b"abc"]
    assert client.read(0) == []


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
    assert first.value.kind == "no_answer"
    client._timeout = 60
    with pytest.raises(CannotConnect) as second:
        client.ask("PING")
    assert second.value is first.value


def test_a_slow_dripping_server_does_not_outlast_the_deadline(pair):
    client, server = pair
    over = threading.Event()

    def drip():
        with contextlib.suppress(OSError):
            while not over.wait(0.02):
                server.send(b"x")

    server.sendall(b"$1000000\r\n")
    thread = threading.Thread(target=drip)
    thread.start()
    client.deadline = Deadline(0.2)
    try:
        with pytest.raises(CannotConnect, match="did not answer"):
            client.read(1)
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
        client.read(1)
    assert caught.value.kind == "protocol"
    assert "login_port" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "kind", "option"),
    [
        (socket.gaierror(-2, "Name or service not known"), "name_resolution", "login_host"),
        (TimeoutError("timed out"), "timeout", "timeout"),
        (ConnectionRefusedError(111, "refused"), "refused", "login_port"),
        (ConnectionResetError(104, "reset"), "closed", "tls"),
        (OSError(113, "No route to host"), "no_route", "routes"),
        (PermissionError(1, "Operation not permitted"), "no_route", "firewalls"),
        (OSError(24, "Too many open files"), "failed", "log"),
        (ssl.SSLCertVerificationError("unable to get issuer"), "certificate", "ca_certs"),
        (ssl.SSLError("wrong version number"), "tls", "tls: false"),
        (TimeoutError("_ssl.c:1: The handshake operation timed out"), "tls", "tls: false"),
    ],
)
def test_each_failure_of_a_socket_has_its_kind_and_a_hint(error, kind, option):
    if kind == "certificate":
        error.verify_message = "unable to get issuer"
    found = _redis.socket_failure(error, "redis:6379", 3)
    assert found.kind == kind
    assert option in found.hint
    assert "redis:6379" in str(found)


def test_a_timeout_after_the_connection_is_no_answer():
    found = _redis.socket_failure(TimeoutError("timed out"), "redis:6379", 3, connected=True)
    assert (found.kind, str(found)) == ("no_answer", "redis:6379 did not answer within 3 s")
    assert "timeout" in found.hint


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("NOAUTH Authentication required.", "authentication"),
        ("WRONGPASS invalid username-password pair or user is disabled.", "authentication"),
        ("DENIED Redis is running in protected mode", "protected_mode"),
        ("BUSY Redis is busy running a script.", "busy"),
        ("ERR max number of clients reached", "too_many_connections"),
        ("ERR something else", "failed"),
    ],
)
def test_each_rejection_has_its_kind_and_a_hint(text, kind):
    found = _redis.reply_failure(_redis.ReplyError(text), "redis-cli -p 6380")
    assert found.kind == kind
    assert found.hint
    assert "{" not in found.hint


def test_a_hint_contains_the_command_line_of_the_server():
    found = _redis.reply_failure(_redis.ReplyError("BUSY Redis is busy running a script."), "redis-cli -p 6380")
    assert "`redis-cli -p 6380 SCRIPT KILL`" in found.hint


def test_a_failure_to_connect_is_kept_for_the_process(no_connections):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        chosen = options(login_port=unused.getsockname()[1])
        with pytest.raises(CannotConnect) as first:
            _redis.connect(chosen)
        with pytest.raises(CannotConnect) as second:
            _redis.connect(chosen)
    assert first.value.kind == "refused"
    assert second.value is first.value


def serve(listener, replies):
    """Answer the commands of one connection with ``replies``. Return the thread and the list of received commands."""
    received = []

    def work():
        connection, _address = listener.accept()
        with connection:
            for reply in replies:
                received.append(connection.recv(65536))
                connection.sendall(reply)
            received.append(connection.recv(65536))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, received


HELLO = b"*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$2\r\nid\r\n:7\r\n"


def test_a_log_in_sends_nothing_but_hello_with_a_name_and_ping(listener, no_connections):
    thread, received = serve(listener, [HELLO, b"+PONG\r\n"])
    client = _redis.connect(
        options(login_port=listener.getsockname()[1], login_user="someone", login_password="secret")
    )
    assert client.ping["status"] == "ok"
    assert client.client_id == 7
    client.close()
    thread.join(5)
    login = b"$4\r\nAUTH\r\n$7\r\nsomeone\r\n$6\r\nsecret\r\n"
    hello = b"*7\r\n$5\r\nHELLO\r\n$1\r\n2\r\n" + login + b"$7\r\nSETNAME\r\n$13\r\ntracktion-ops\r\n"
    assert received == [hello, b"*1\r\n$4\r\nPING\r\n", b""]


def test_auth_logs_in_if_hello_is_unknown_and_no_password_is_quoted(listener, no_connections):
    quoting = b"-ERR unknown command `%s`, with args beginning with: `2`, `AUTH`, `default`, `hunter2!`\r\n"
    thread, received = serve(listener, [quoting % b"HELLO", b"+OK\r\n", b"+PONG\r\n", quoting % b"INFO"])
    client = _redis.connect(options(login_port=listener.getsockname()[1], login_password="hunter2!"))
    with pytest.raises(_redis.ReplyError) as caught:
        client.ask("INFO")
    assert "hunter2" not in str(caught.value)
    client.close()
    thread.join(5)
    assert received[1] == b"*2\r\n$4\r\nAUTH\r\n$8\r\nhunter2!\r\n"


def test_a_denied_command_is_sent_once(pair):
    client, server = pair
    denial = b"-NOPERM User x has no permissions to run the 'info' command\r\n"
    server.sendall(denial + b":1\r\n")
    for _time in range(2):
        with pytest.raises(_redis.ReplyError, match="'info' command") as caught:
            client.ask("INFO", "default")
        assert client.hint(caught.value, "INFO") == "Allow it: `redis-cli ACL SETUSER default +info`"
    assert client.ask("DBSIZE") == 1


def test_names_in_an_error_are_escaped(pair):
    client, server = pair
    server.sendall(b"-NOPERM User a\xff\x1b[2J\xe2\x80\xae has no permissions to run the 'info' command\r\n")
    with pytest.raises(_redis.ReplyError) as caught:
        client.ask("INFO")
    assert str(caught.value).isprintable()
    assert "\\x1b[2J\\u202e has no" in str(caught.value)


def test_a_denied_key_does_not_deny_the_command(pair):
    client, server = pair
    server.sendall(b"-NOPERM No permissions to access a key\r\n+string\r\n")
    denied, kind = client.ask_all([("TYPE", "a"), ("TYPE", "b")])
    assert (denied.denied_key, denied.denied_command, kind) == (True, False, b"string")
    assert client.hint(denied, "TYPE") == "Allow it: `redis-cli ACL SETUSER default '%R~*'`"


@pytest.mark.parametrize(
    ("changed", "command"),
    [
        ({}, "redis-cli -h 127.0.0.2 PING"),
        ({"login_host": "localhost", "login_port": 6380}, "redis-cli -p 6380 PING"),
        (
            {"login_host": "a b;c", "tls": True, "ca_certs": "/tmp/c a", "validate_certs": False},
            "redis-cli -h 'a b;c' --tls --cacert '/tmp/c a' --insecure PING",
        ),
        # The command is for an administrator, who has another password.
        ({"login_user": "monitor", "login_password": "x"}, "redis-cli -h 127.0.0.2 --askpass PING"),
    ],
)
def test_a_command_line_reaches_the_server_and_is_quoted(pair, changed, command):
    client, _server = pair
    client.redis_cli = _redis.redis_cli(options(**{"login_host": "127.0.0.2", **changed}))
    assert client.command("PING") == command


def test_without_time_left_nothing_is_known_of_the_server(pair, no_connections):
    client, _server = pair
    client.deadline = Deadline(0.0)
    with pytest.raises(OutOfTime, match=r"not measured \(0.0 s of the deadline left\)") as caught:
        client.ask("PING")
    assert unreachable(["ping"], caught.value)["reachable"] is None
    # Nothing was sent: another probe can use the connection.
    assert client.broken is None
    with pytest.raises(OutOfTime):
        _redis.connect(options(login_port=1, deadline=0.0))


def test_a_server_that_does_not_answer_in_a_short_time_is_not_unreachable(listener, no_connections):
    with pytest.raises(OutOfTime):
        _redis.connect(options(login_port=listener.getsockname()[1], timeout=3.0, deadline=0.2))


def test_a_server_that_is_loading_is_connected_to(listener, no_connections):
    thread, _asked = serve(listener, [HELLO, b"-LOADING Redis is loading the dataset in memory\r\n", b":1\r\n"])
    client = _redis.connect(options(login_port=listener.getsockname()[1]))
    assert client.ping["status"] == "loading"
    assert client.ping["message"].startswith("LOADING Redis")
    assert client.ask("DBSIZE") == 1
    client.close()
    thread.join(5)


@pytest.mark.parametrize("tls", [False, True])
def test_a_server_that_does_not_answer_costs_one_timeout(listener, no_connections, tls):
    chosen = options(login_port=listener.getsockname()[1], timeout=1.5, tls=tls, validate_certs=False)
    # Less than two timeouts, and long enough for a busy machine.
    limit = Deadline(2.9)
    with pytest.raises(CannotConnect) as caught:
        _redis.connect(chosen)
    assert caught.value.kind == ("tls" if tls else "no_answer")
    assert not limit.expired()


@pytest.mark.parametrize("option", ["ca_certs", "client_cert_file"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_cannot_be_used_is_named(tmp_path, no_connections, option, content):
    path = tmp_path / "file.pem"
    if content:
        path.write_text(content)
    with pytest.raises(BadOption, match="%s.*file.pem" % option):
        _redis.connect(options(tls=True, **{option: str(path)}))


def test_a_name_service_that_does_not_answer_is_bounded(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(_redis.socket, "getaddrinfo", lambda *_args, **_kwargs: over.wait(5))
    with pytest.raises(socket.gaierror):
        _redis._open(redis, options(), Deadline(0.05))
    over.set()


def test_an_invalid_name_is_a_failure_of_name_resolution():
    with pytest.raises(socket.gaierror):
        _redis._open(redis, options(login_host="a" * 64), Deadline(5))


@pytest.mark.parametrize("name", ["redis", "hiredis"])
def test_a_missing_library_is_named_with_its_package(monkeypatch, no_connections, name):
    def import_module(wanted):
        if wanted == name:
            raise ImportError("No module named %s" % name)

    monkeypatch.setattr(_libraries.importlib, "import_module", import_module)
    with pytest.raises(MissingLibrary, match="library %s cannot" % name) as caught:
        _redis.connect(options())
    assert "python3-%s" % name in caught.value.hint
    assert not _redis._connections
