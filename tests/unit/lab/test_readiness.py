# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a server serves: not while it starts. That it does is what every test with a server shows."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from tests.lab import readiness

STARTING = b"E\0\0\0\x30SFATAL\0C57P03\0Mthe database system is starting up\0\0"
REJECTED = b"E\0\0\0\x30SFATAL\0C28000\0Mno pg_hba.conf entry\0\0"


@contextlib.contextmanager
def answering(answer):
    """A port whose clients get this answer, and then the end, as from the proxy of the engine if there is no server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                if answer:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("answer", "expected"), [(b"", False), (STARTING, False), (REJECTED, True), (b"R\0\0\0\x17", True)]
)
def test_postgresql_serves_once_it_has_started(answer, expected):
    with answering(answer) as port:
        assert readiness.postgres_serves(port) is expected


@pytest.mark.parametrize(("answer", "expected"), [(b"", False), (b"-NOAUTH Authentication required.\r\n", True)])
def test_redis_serves_once_it_answers(answer, expected):
    with answering(answer) as port:
        assert readiness.redis_serves(port, tls=False) is expected


@pytest.mark.parametrize(
    ("status", "expected"), [(b"200 OK", True), (b"401 Unauthorized", False), (b"503 Service Unavailable", False)]
)
def test_rabbitmq_serves_once_its_listener_is_up(status, expected):
    with answering(b"HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\n{}" % status) as port:
        assert readiness.rabbitmq_serves(port, False, "lab", "lab") is expected


def test_a_closed_port_does_not_serve():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert not readiness.postgres_serves(port)
    assert not readiness.redis_serves(port, tls=True)
    assert not readiness.rabbitmq_serves(port, True, "lab", "lab")
