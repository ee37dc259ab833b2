# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests and answers of the socket client, with sockets that stand in for an engine."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_api
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline
from tests.slack import SLACK

OK = b"HTTP/1.0 200 OK\r\n\r\n"


@contextlib.contextmanager
def answering(path, *pieces, pause=0.0):
    """A socket that answers the first connection with ``pieces`` and closes it."""

    def talk():
        with contextlib.suppress(OSError), listener.accept()[0] as caller:
            caller.recv(65536)
            for piece in pieces:
                caller.sendall(piece)
                time.sleep(pause)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=talk)
        thread.start()
        yield
        thread.join(5)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "docker.sock")


def test_an_answer_is_data(path):
    with answering(path, OK, b'{"a": ', b"1}"):
        assert _docker_api.DockerApi(path, 2).read("info") == {"a": 1}
    with answering(path + "2", b"HTTP/1.1 204 No Content\r\n\r\n"):
        assert _docker_api.DockerApi(path + "2", 2).ask("DELETE", "networks", "x") is None


@pytest.mark.parametrize(
    ("timeout", "deadline", "kind"), [(0.4, 9, "no_answer"), (0.5, 0.4, "no_answer"), (9, 0.4, "deadline")]
)
def test_a_slow_answer_is_bounded_by_the_timeout(path, timeout, deadline, kind):
    with answering(path, OK, *[b" "] * 20, pause=0.1):
        began = time.monotonic()
        with pytest.raises(CannotConnect) as caught:
            _docker_api.DockerApi(path, timeout, Deadline(deadline)).read("info")
        assert time.monotonic() - began < 1.5 * SLACK
    assert caught.value.kind == kind
    assert (str(caught.value) == "not measured (0.4 s of the deadline left)") is (kind == "deadline")


def test_data_before_a_timeout_is_returned(path):
    api = _docker_api.DockerApi(path, 0.4)
    with answering(path, OK + b"a line\n", b"", pause=0.6), api.stream("GET", "x") as answer:
        assert answer.read_some(65536) == b"a line\n"
        with pytest.raises(CannotConnect, match="in time"):
            answer.read_some(65536)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message": "no such thing"}', "the Docker engine rejects GET /x: no such thing"),
        (b"plain words", "the Docker engine rejects GET /x: plain words"),
        (b"", "the Docker engine rejects GET /x: HTTP 404"),
    ],
)
def test_a_rejection_has_the_message_of_the_engine(path, body, message):
    with answering(path, b"HTTP/1.0 404 Not Found\r\n\r\n", body), pytest.raises(_docker_api.Rejected) as caught:
        _docker_api.DockerApi(path, 2).read("x")
    assert (str(caught.value), caught.value.kind, caught.value.status) == (message, "rejected", 404)


@pytest.mark.parametrize(
    ("pieces", "kind"), [((OK, b"<html>"), "protocol"), ((b"SSH-2.0\r\n",), "protocol"), ((), "closed")]
)
def test_an_answer_of_another_server_is_a_failure(path, pieces, kind):
    with answering(path, *pieces), pytest.raises(CannotConnect) as caught:
        _docker_api.DockerApi(path, 2).read("info")
    assert caught.value.kind == kind
    assert path in str(caught.value)


def test_an_answer_that_is_too_large_is_rejected(path, monkeypatch):
    monkeypatch.setattr(_docker_api, "MAX_BYTES", 1000)
    with answering(path, OK, b" " * 2000), pytest.raises(CannotConnect, match="more than 1000 bytes"):
        _docker_api.DockerApi(path, 2).read("info")


@contextlib.contextmanager
def counting(path, *, keep):
    """An engine that answers each request; yields the requests of each connection."""
    connections = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as caller:
                    connections.append([])
                    while request := caller.recv(65536):
                        connections[-1].append(request.split(b"\r\n")[0].decode())
                        body = b'{"ApiVersion": "1.50", "MinAPIVersion": "1.24"}'
                        close = b"" if keep else b"Connection: close\r\n"
                        caller.sendall(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (close, len(body), body))
                        if not keep:
                            break

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield connections
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_requests_share_a_connection_that_the_engine_keeps_open(path):
    with counting(path, keep=True) as connections:
        with _docker_api.DockerApi(path, 2) as api:
            for _number in range(3):
                api.read("info")
        _docker_api.DockerApi(path, 2).read("info")
    assert [len(requests) for requests in connections] == [3, 1]
    with counting(path + "2", keep=False) as connections, _docker_api.DockerApi(path + "2", 2) as api:
        for _number in range(3):
            api.read("info")
    assert [len(requests) for requests in connections] == [1, 1, 1]


def test_the_negotiated_version_is_used_from_then_on(path):
    with counting(path, keep=False) as connections:
        api = _docker_api.DockerApi(path, 2)
        assert api.negotiate()["ApiVersion"] == "1.50"
        api.read("info")
        api.another(2).read("containers", "json", all=1)
    requests = [request for listed in connections for request in listed]
    assert requests == [
        "GET /version HTTP/1.1",
        "GET /v1.41/info HTTP/1.1",
        "GET /v1.41/containers/json?all=1 HTTP/1.1",
    ]


def test_summary_of_a_container():
    labels = {"com.docker.compose.service": "web", "com.docker.compose.project": "app"}
    row = {"Id": "1" * 64, "Names": ["/other/alias", "/app-web-1"], "Labels": labels, "State": "running"}
    expected = {"id": "1" * 64, "name": "app-web-1", "service": "web", "project": "app", "state": "running"}
    assert _docker_api.summary(row) == expected
    assert _docker_api.summary({"Id": "1" * 64, "Names": None, "Labels": None})["name"] == "1" * 12
