# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a server serves, as its published port shows it: a command in its container would cost ten times as much."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import struct
import urllib.request

TIMEOUT = 5


def postgres_serves(port: int) -> bool:
    """Whether PostgreSQL asks a client to log in, or rejects it for another reason than its start."""
    options = b"user\0postgres\0database\0postgres\0application_name\0lab\0\0"
    answer = exchange(port, False, struct.pack(">ii", 8 + len(options), 196608) + options)
    # 57P03: cannot connect now.
    return answer[:1] == b"R" or (answer[:1] == b"E" and b"C57P03" not in answer)


def redis_serves(port: int, tls: bool) -> bool:
    """Whether Redis answers, be it that the client has to log in."""
    return bool(exchange(port, tls, b"PING\r\n"))


def rabbitmq_serves(port: int, tls: bool, user: str, password: str) -> bool:
    """Whether RabbitMQ's management API says that its listener of AMQP is up."""
    scheme, listener = ("https", 5671) if tls else ("http", 5672)
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{port}/api/health/checks/port-listener/{listener}")
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    request.add_header("Authorization", f"Basic {login}")
    context = trusting() if tls else None
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as reply:
            return reply.status == 200
    # An answer that is cut or is none is an HTTPException.
    except (OSError, http.client.HTTPException):
        return False


def exchange(port: int, tls: bool, request: bytes) -> bytes:
    """Return the first bytes of the answer; none if there is no connection or no answer."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
        connection = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT))
        if tls:
            connection = opened.enter_context(trusting().wrap_socket(connection))
        connection.sendall(request)
        return connection.recv(4096)
    return b""


def trusting() -> ssl.SSLContext:
    """A context that accepts any certificate: that it is the right server is no question here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
