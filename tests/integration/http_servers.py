# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP servers on loopback, in threads, that answer or fail in different ways."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import struct
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Served:
    """A running server, and the requests that it received."""

    port: int
    requests: list = field(default_factory=list)
    scheme: str = "http"

    def url(self, path="/", host="127.0.0.1"):
        return "%s://%s:%d%s" % (self.scheme, host, self.port, path)


@contextlib.contextmanager
def serving(pages, certificate=None, host="127.0.0.1", clients=None, newest=None):
    """Run an HTTP server of ``pages``: path -> ``page(query)``, which returns ``(status, headers, body)``.

    With a ``certificate`` it uses TLS; with ``clients``, a file of authorities, it requires a client certificate, and
    ``newest`` is the highest version of TLS.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            received = {"method": self.command, "path": self.path, "headers": dict(self.headers)}
            served.requests.append({**received, "body": self.rfile.read(length).decode()})
            parts = urlsplit(self.path)
            status, headers, body = pages[parts.path](dict(parse_qsl(parts.query)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_HEAD = do_POST = do_GET  # noqa: N815 (the library's names)

        def log_message(self, *arguments):
            """Do not log requests."""

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        # With the default of 5, the sixth parallel client waits a second until the kernel retries.
        request_queue_size = 64

        def handle_error(self, request, client_address):
            """Do not log clients that disconnect."""

    server = Server((host, 0), Handler)
    served = Served(server.server_address[1])
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
            context.maximum_version = newest
        server.socket = context.wrap_socket(server.socket, server_side=True)
        served.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


def page(status=200, body='{"status": "healthy"}', seconds=0.0, **headers):
    """Return a page with a fixed answer after some seconds."""

    def answer(_query):
        time.sleep(seconds)
        return status, headers, body

    return answer


def sometimes(*statuses):
    """Return a page that answers with these statuses in turn."""
    number = iter(range(1 << 30))
    return lambda _query: (statuses[next(number) % len(statuses)], {}, "")


def redirect(to, status=302):
    return page(status, "", Location=to)


def echo(_query):
    """Answer with an error that holds secrets."""
    secrets = {"password": "hunter2", "dsn": "postgres://app:hunter2@db/x", "note": "correct-horse"}
    return 500, {}, json.dumps(secrets)


@contextlib.contextmanager
def behaving(behave):
    """Run a raw server: ``behave(connection, stop)`` in a thread for each connection."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def accept():
            while not stop.is_set():
                with contextlib.suppress(socket.timeout, OSError):
                    connection, _address = listener.accept()
                    connection.settimeout(5)
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        def serve(connection):
            with connection, contextlib.suppress(OSError):
                behave(connection, stop)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield Served(listener.getsockname()[1])
        finally:
            stop.set()
            thread.join(5)


def never_answer(_connection, stop):
    stop.wait(30)


def stream_for_ever(connection, stop):
    """Send a body without an end, as fast as possible."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not stop.is_set():
        connection.sendall(b"x" * 65536)


def drip_for_ever(connection, stop):
    """Send a body one byte at a time."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not stop.wait(0.05):
        connection.sendall(b"x")


def drip_headers_for_ever(connection, stop):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not stop.wait(0.05):
        connection.sendall(b"X-Y: z\r\n")


def close_without_an_answer(connection, _stop):
    connection.recv(65536)


def close_in_the_middle(connection, _stop):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


def reset(connection, _stop):
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def greet_as_ssh(connection, stop):
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    stop.wait(5)


def answer_lines(connection, stop):
    """Answer a request of plain HTTP, and wait for one as long as no empty line has come."""
    received = b""
    while not stop.is_set() and b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@contextlib.contextmanager
def full_backlog():
    """Run a listener with a full accept queue: the kernel lets further connections wait."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _number in range(4):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield Served(listener.getsockname()[1])


def answers(url):
    """Return the status of the answer to a request; null without an answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as exc:
        return exc.code
    except OSError:
        return None


def free_port():
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
