# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths over the loopback device of this machine."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network import _network_path
from ansible_collections.tracktion.ops.plugins.module_utils._network._dns import Configuration

HERE = Configuration("", "127.0.0.1 here\n")
SO_LINGER_RESET = struct.pack("ii", 1, 0)


@contextlib.contextmanager
def server(serve):
    """A server on the loopback device that calls ``serve`` with each connection; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection = listening.accept()[0]
                    with connection:
                        serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]


def says(text):
    def serve(connection):
        connection.recv(4096)
        connection.sendall(text)

    return serve


def waits(connection):
    connection.recv(1)


def resets(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, SO_LINGER_RESET)


def follow(to, timeout=0.5, seconds=5.0, configuration=HERE):
    return _network_path.follow(_network_path.Target(to), configuration, timeout, Deadline(seconds))


@pytest.mark.parametrize(
    ("serve", "url", "kind"),
    [
        (waits, False, None),
        (lambda connection: connection.sendall(b"220 welcome"), False, None),
        (lambda connection: None, False, "closed"),
        (resets, False, "closed"),
        (says(b"HTTP/1.1 204 No Content\r\n\r\n"), True, None),
        (says(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n"), True, None),
        (says(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), True, "http_status"),
        (says(b"220 welcome\r\n"), True, "protocol"),
        (lambda connection: connection.recv(4096), True, "closed"),
        (lambda connection: (connection.recv(4096), connection.recv(1)), True, "no_answer"),
    ],
)
def test_the_result_of_a_path(serve, url, kind):
    with server(serve) as port:
        result = follow(("http://here:%d/health" if url else "here:%d") % port)
    assert (result["error"] or {}).get("kind") == kind
    assert result["ok"] is (kind is None)
    assert result["addresses"] == ["127.0.0.1"]


def test_a_server_without_tls():
    with server(says(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        assert follow("https://here:%d/" % port)["error"]["kind"] == "tls"


def test_refused():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = follow("here:%d" % port)
    assert (result["ok"], result["error"]["kind"], result["address"]) == (False, "refused", None)


def test_the_next_address_is_tried():
    with server(waits) as port:
        result = follow("here:%d" % port, configuration=Configuration("", "127.0.0.2 here\n127.0.0.1 here\n"))
    assert (result["ok"], result["address"]) == (True, "127.0.0.1")


@pytest.fixture
def silent():
    """A port of 127.0.0.2 that does not answer: the backlog of its server is full."""
    with socket.create_server(("127.0.0.2", 0), backlog=0) as listening, contextlib.ExitStack() as waiting:
        for _number in range(3):
            connection = waiting.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def test_a_silent_address_is_reported_beside_one_that_answers(silent):
    both = Configuration("", "127.0.0.2 here\n127.0.0.1 here\n")
    with socket.create_server(("127.0.0.1", silent)):
        result = follow("here:%d" % silent, timeout=0.4, configuration=both)
    assert (result["ok"], result["address"], result["silent_addresses"]) == (True, "127.0.0.1", ["127.0.0.2"])
    # No client waits for an address that refuses.
    result = follow("here:%d" % silent, timeout=0.4, configuration=both)
    assert (result["ok"], result["failure"], result["silent_addresses"]) == (False, "timeout", None)
    assert "other addresses, 1" in result["error"]["message"]


def test_a_duplicate_address_is_tested_once():
    with server(waits) as port:
        result = follow("here:%d" % port, configuration=Configuration("", "127.0.0.1 here\n127.0.0.1 here\n"))
    assert (result["ok"], result["silent_addresses"]) == (True, [])


def test_without_time_the_result_is_unknown():
    result = follow("here:1", seconds=0.1)
    assert (result["ok"], result["error"]) == (None, None)
    assert "deadline" in result["reason"]


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("redis:6379", ("tcp", "redis", 6379, None)),
        ("[fd00::1]:80", ("tcp", "fd00::1", 80, None)),
        ("http://web/health?token=x", ("http", "web", 80, "/health?token=x")),
        ("https://web:8443", ("https", "web", 8443, "/")),
    ],
)
def test_targets(to, expected):
    target = _network_path.Target(to)
    assert (target.scheme, target.host, target.port, target.url) == expected
    # The query of a URL may contain a secret.
    assert "token" not in target.to


@pytest.mark.parametrize(
    "to", ["redis", "redis:0", "redis:70000", "ftp://x/", "http://user:secret@x/", "http://x:port/", "::1:80"]
)
def test_an_invalid_target_is_rejected(to):
    with pytest.raises(BadOption) as raised:
        _network_path.Target(to)
    assert "secret" not in str(raised.value)
