# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sends one HTTP request over a new connection, and times each phase. Private to this collection.

All phases share one deadline. Failures are raised as CannotConnect, with a kind of ``_failures.KINDS`` or of
``KINDS``. What was received before the failure stays in the exchange.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from typing import Any, Iterator, Mapping, Optional, Protocol, Tuple, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils import _failures
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import Hung, bounded
from ansible_collections.tracktion.ops.plugins.module_utils._bounded_socket import BoundedSocket, remaining_timeout
from ansible_collections.tracktion.ops.plugins.module_utils._http import _certificate, _proxy_answers
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, cut
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote

SERVICE = _failures.Service(
    name="the service",
    address="the host and port of `endpoints[].url`",
    credentials="`endpoints[].headers`, or the user and password in `endpoints[].url`",
    tls="`endpoints[].client_cert` and `endpoints[].client_key`",
)
# Kinds of failures that only HTTP has, and the hint for each.
KINDS = {
    # The answer begins and does not end within the timeout.
    "unfinished": "Check the process of the service: `ps -eo pid,stat,pcpu,args`. It does not finish an answer.",
    # The redirects return to a URL that they have been at.
    "redirect_loop": (
        "Correct the redirects of the service, or of the proxy in front of it. Show them: "
        "`curl -sIL --max-redirs 10 URL`."
    ),
    "too_many_redirects": (
        "Correct the redirects of the service, or raise `endpoints[].max_redirects`. Show them: "
        "`curl -sIL --max-redirs 30 URL`."
    ),
    # The target is not a URL of HTTP, or the request may not be sent to it.
    "bad_redirect": (
        "Set `endpoints[].url` to the target of the redirect, or correct the redirects of the service. Show it: "
        "`curl -sI URL`."
    ),
}
# Addresses of one name that are tried.
MOST_ADDRESSES = 6
TLS_RECORD = (b"\x15\x03", b"\x16\x03")
# OpenSSL's reasons, by version, for an answer that is not TLS.
NOT_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
# OpenSSL's verify codes.
CERTIFICATE_PROBLEMS = {
    9: "not_yet_valid",
    10: "expired",
    18: "self_signed",
    19: "untrusted",
    20: "untrusted",
    21: "untrusted",
    23: "revoked",
    62: "wrong_name",
    64: "wrong_name",
}
# Headers of an answer that are kept: who sent it, and what it is.
HEADERS = ("server", "content-type")
# Share of the time for a TLS handshake; the rest is for finding out whether the server expects plain HTTP.
HANDSHAKE = 0.8
HOSTS = "/etc/hosts"
BEGIN_WITH_HTTPS = "Begin `endpoints[].url` with https://. Show what listens there: {listening}."
BEGIN_WITH_HTTP = "Begin `endpoints[].url` with http://, or correct its port: {listening}."
# Errors that come from the address itself, not from this host.
ANSWERS = (ConnectionRefusedError, socket.timeout)

# Family and socket address, as getaddrinfo returns them.
Address = Tuple[socket.AddressFamily, Tuple[Any, ...]]
# A context that verifies certificates, and one that does not or null where verification is required.
Contexts = Tuple[ssl.SSLContext, Optional[ssl.SSLContext]]


class Target(Protocol):
    """The parts of a URL that an exchange needs. ``host_port`` is for messages and commands."""

    host: str
    port: int
    default_port: int
    path: str
    host_port: str


class Tls(TypedDict, total=False):
    """The TLS connection and the server's certificate, as far as the handshake got.

    ``problem`` is a value of ``CERTIFICATE_PROBLEMS``, ``message`` OpenSSL's text for it.
    """

    verified: bool
    problem: str | None
    message: str | None
    version: str | None
    subject: str
    issuer: str
    names: list[str]
    begins: float
    expires: float


def failure(kind: str, message: str) -> CannotConnect:
    """Return the failure of one of ``KINDS``."""
    return CannotConnect(kind, message, KINDS[kind])


class Stopwatch:
    """Seconds spent in each phase; null for a phase that was not reached."""

    PHASES = ("dns", "connect", "tls", "first_byte", "body")

    def __init__(self) -> None:
        self.seconds: dict[str, float | None] = dict.fromkeys(self.PHASES)
        self.phase: str | None = None
        self._began = time.monotonic()

    @contextlib.contextmanager
    def time(self, phase: str) -> Iterator[None]:
        """Add the time of the context to ``phase``: redirects go through the phases again."""
        self.phase = phase
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = round((self.seconds[phase] or 0.0) + time.monotonic() - began, 6)

    def total(self) -> float:
        """Return the seconds since the stopwatch was made, with the time between the phases."""
        return round(time.monotonic() - self._began, 6)


class Exchange:
    """A request to ``target`` and its answer. ``contexts`` is null for plain HTTP."""

    def __init__(
        self, target: Target, contexts: Contexts | None, family: int, deadline: Deadline, watch: Stopwatch
    ) -> None:
        self.target = target
        self.deadline = deadline
        self.watch = watch
        self._contexts = contexts
        self._family = family
        self._addresses: list[Address] = []
        self._sock: Any = None
        self.address: str | None = None
        self.tls: Tls | None = None
        self.status: int | None = None
        self.location: str | None = None
        # Those of HEADERS that the answer has, by their names in lower case.
        self.headers: dict[str, str] = {}
        self.body = b""

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._sock is not None:
            self._sock.close()

    def run(self, method: str, headers: Mapping[str, str], body: bytes | None, most: int) -> None:
        """Set ``address, tls, status, location, body``. Raises CannotConnect; ``too_large`` above ``most`` bytes."""
        self._open()
        try:
            self._request(method, headers, body, most)
        except CannotConnect as exc:
            if exc.kind in ("closed", "protocol") and self.status is None and self._accepts_tls():
                message = "%s expects TLS, and the url has http://" % self.target.host_port
                raise CannotConnect("protocol", message, self._hint(BEGIN_WITH_HTTPS))
            raise
        if not self._contexts and _proxy_answers.expects_tls(self.status, self.body):
            message = "%s expects TLS, and the url has http://" % self.target.host_port
            raise CannotConnect("protocol", message, self._hint(BEGIN_WITH_HTTPS))

    # Connection

    def _open(self) -> None:
        self._addresses = self._resolve()
        self._connect()
        if self._contexts:
            self._start_tls(*self._contexts)

    def _resolve(self) -> list[Address]:
        host, port = self.target.host, self.target.port
        with self.watch.time("dns"):
            try:
                found = bounded(
                    socket.getaddrinfo, self.deadline.remaining(), host, port, self._family, socket.SOCK_STREAM
                )
            except Hung:
                message = "the name %s was not resolved within the timeout" % host
                more = "Check the DNS servers: `cat /etc/resolv.conf`."
            except (socket.gaierror, UnicodeError) as exc:
                message = "the name %s cannot be resolved: %s" % (host, getattr(exc, "strerror", None) or exc)
                temporary = getattr(exc, "errno", None) == socket.EAI_AGAIN
                more = "Check the DNS servers, which do not answer: `cat /etc/resolv.conf`." if temporary else ""
            else:
                return list(dict.fromkeys((family, address) for family, _type, _protocol, _name, address in found))
        raise self._failure("name_resolution", message, more)

    def _connect(self) -> None:
        """Connect to the first address that accepts. Raises CannotConnect."""
        with self.watch.time("connect"):
            addresses, errors = self._addresses[:MOST_ADDRESSES], []
            for number, (family, address) in enumerate(addresses):
                self.address = address[0]
                try:
                    # An address that does not answer leaves time for the next ones.
                    self._sock = connected(family, address, self.remaining_timeout() / (len(addresses) - number))
                    return
                except OSError as exc:
                    errors.append(exc)
            raise self._not_connected(errors, [address[0] for _family, address in addresses])

    def _not_connected(self, errors: list[OSError], addresses: list[str]) -> CannotConnect:
        where = self.target.host_port
        if self.target.host not in addresses:
            where += " (%s%s)" % (", ".join(addresses), " by %s" % HOSTS if in_hosts(self.target.host) else "")
        # The answer of an address explains more than no route to another (::1, where IPv6 is off).
        exc = ([exc for exc in errors if isinstance(exc, ANSWERS)] or errors)[-1]
        kind = _failures.of_os_error(exc)
        if kind == "refused":
            message = "nothing listens at %s" % where
        elif kind == "timeout":
            message = "no connection to %s within the timeout" % where
        else:
            # Such as a packet that this host's firewall rejects, or an address family that it lacks.
            kind, message = "no_route", "no route to %s: %s" % (where, exc.strerror or exc)
        return self._failure(kind, message)

    def _start_tls(self, verifying: ssl.SSLContext, trusting: ssl.SSLContext | None) -> None:
        try:
            self._handshake(verifying)
        except ssl.SSLCertVerificationError as exc:
            problem = CERTIFICATE_PROBLEMS.get(exc.verify_code, "untrusted")
            self.tls = {"verified": False, "problem": problem, "message": exc.verify_message}
            # Connect again without verification: to go on, or only to read the certificate.
            self._sock.close()
            if trusting:
                self._connect()
                self._handshake(trusting)
                return
            with contextlib.suppress(CannotConnect):
                self._connect()
                self._handshake(unverified_context())
            message = "the certificate of %s is rejected: %s" % (self.target.host_port, exc.verify_message)
            raise CannotConnect("certificate", message, "Show the certificate: %s" % self._show_certificate())

    def _handshake(self, context: ssl.SSLContext) -> None:
        sock = self._sock
        with self.watch.time("tls"):
            try:
                self._sock = context.wrap_socket(sock, server_hostname=self.target.host, do_handshake_on_connect=False)
                self._sock.settimeout(self.remaining_timeout() * HANDSHAKE)
                self._sock.do_handshake()
            except ssl.SSLCertVerificationError:
                raise
            except (OSError, UnicodeError) as exc:
                if _failures.of_os_error(exc) in ("timeout", "closed") and self._accepts_http():
                    raise self._expects_http()
                raise self._no_tls(exc) if isinstance(exc, ssl.SSLError) else self._interrupted(exc)
        if self.tls is None:
            self.tls = {"verified": True, "problem": None, "message": None}
        self.tls["version"] = self._sock.version()
        try:
            self.tls.update(_certificate.parse(self._sock.getpeercert(True) or b""))
        except ValueError as exc:
            self.tls["message"] = str(exc)

    def _no_tls(self, exc: ssl.SSLError) -> CannotConnect:
        where, reason = self.target.host_port, exc.reason or ""
        if reason in NOT_TLS:
            return self._expects_http()
        if "CERTIFICATE_REQUIRED" in reason:
            message = "%s requires a client certificate" % where
            return CannotConnect("tls", message, "Set `endpoints[].client_cert` and `endpoints[].client_key`.")
        message = "the TLS handshake with %s failed: %s" % (where, reason or exc.strerror or exc)
        return self._failure("tls", message, "The service may require a client certificate.")

    def _expects_http(self) -> CannotConnect:
        message = "%s does not answer with TLS" % self.target.host_port
        return CannotConnect("protocol", message, self._hint(BEGIN_WITH_HTTP))

    def _show_certificate(self) -> str:
        return "`openssl s_client -connect %s -showcerts </dev/null`" % shell_quote(self.target.host_port)

    # Request

    def remaining_timeout(self) -> float:
        """Return the seconds for the next step on the wire. Raises socket.timeout if none are left."""
        return remaining_timeout(self.deadline)

    def _request(self, method: str, headers: Mapping[str, str], body: bytes | None, most: int) -> None:
        connection: Any = http.client.HTTPConnection(self.target.host, self.target.port)
        connection.default_port = self.target.default_port
        connection.sock = BoundedSocket(self._sock, self.remaining_timeout)
        try:
            with self.watch.time("first_byte"):
                with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
                    # A server that closes before it has read the request may have sent an answer.
                    connection.request(method, self.target.path, body, headers)
                response: Any = http.client.HTTPResponse(connection.sock, method=method)
                beginning = response.fp.peek(1)
                if beginning.startswith(TLS_RECORD) or (len(beginning) >= 5 and not beginning.startswith(b"HTTP/")):
                    raise self._not_http()
            with self.watch.time("body"):
                response.begin()
                self.status = response.status
                self.location = response.getheader("Location")
                self.headers = {name: response.getheader(name) or "" for name in HEADERS}
                self.body = self._read(response, most)
        except (OSError, http.client.HTTPException) as exc:
            raise self._interrupted(exc)

    def _read(self, response: http.client.HTTPResponse, most: int) -> bytes:
        body = response.read(most + 1)
        if len(body) > most:
            message = "%s sends more than %d bytes" % (self.target.host_port, most)
            raise CannotConnect("too_large", message, "Raise `max_body_bytes` if answers of this size are expected.")
        if response.length:
            # read(n) does not raise where fewer bytes come than Content-Length announces.
            raise http.client.IncompleteRead(body, response.length)
        return body

    def _failure(self, kind: str, message: str, more: str = "") -> CannotConnect:
        return _failures.failure(kind, message, self._service(), more)

    def _hint(self, text: str) -> str:
        return _failures.filled_in(text, self._service())

    def _service(self) -> _failures.Service:
        return SERVICE._replace(host=self.target.host, port=self.target.port)

    def _not_http(self) -> CannotConnect:
        return self._failure("protocol", "%s does not answer with HTTP" % self.target.host_port)

    def _interrupted(self, exc: Exception) -> CannotConnect:
        """Return why an open connection failed."""
        where, kind = self.target.host_port, _failures.of_os_error(exc)
        if kind == "timeout":
            if self.watch.phase == "body":
                return failure("unfinished", "the answer of %s begins and does not end within the timeout" % where)
            message = "%s accepts the connection and does not answer within the timeout" % where
            return self._failure("no_answer", message)
        if kind == "closed" or isinstance(exc, http.client.IncompleteRead):
            # A port that Docker publishes accepts connections while the container runs, also if nothing listens in it.
            part = "in the middle of the answer" if self.status else "without an answer"
            reset = isinstance(exc, (ConnectionResetError, BrokenPipeError)) and not isinstance(
                exc, http.client.RemoteDisconnected
            )
            message = "%s %s the connection %s" % (where, "resets" if reset else "closes", part)
            return self._failure("closed", message)
        if isinstance(exc, ssl.SSLError):
            return self._no_tls(exc)
        if isinstance(exc, (http.client.BadStatusLine, http.client.UnknownProtocol)):
            return self._not_http()
        message = "the exchange with %s failed: %s" % (where, cut(str(exc), 100))
        return self._failure("failed", message)

    def _accepts_tls(self) -> bool:
        """Return whether a port that does not answer plain HTTP completes a TLS handshake."""
        if self._contexts or self.deadline.expired():
            return False
        try:
            with socket.create_connection((self.address, self.target.port), self.remaining_timeout()) as sock:
                sock.settimeout(self.remaining_timeout())
                with unverified_context().wrap_socket(sock, server_hostname=self.target.host):
                    return True
        except (OSError, UnicodeError):
            return False

    def _accepts_http(self) -> bool:
        """Return whether a port that does not answer with TLS answers plain HTTP, without sending anything secret."""
        try:
            with socket.create_connection((self.address, self.target.port), self.remaining_timeout()) as sock:
                sock.settimeout(self.remaining_timeout())
                sock.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
                return sock.recv(5).startswith(b"HTTP")
        except OSError:
            return False


def in_hosts(name: str) -> bool:
    """Return whether the hosts file of this machine has a name."""
    try:
        with open(HOSTS, encoding="utf-8", errors="replace") as stream:
            lines = stream.read(1 << 20).splitlines()
    except OSError:
        return False
    return any(name.lower() in line.partition("#")[0].lower().split()[1:] for line in lines)


def connected(family: socket.AddressFamily, address: tuple[Any, ...], seconds: float) -> socket.socket:
    """Return a connected socket. Raises OSError, also if this host does not support the family."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def unverified_context() -> ssl.SSLContext:
    """Return a context that accepts any certificate: to read the certificate, not to send data."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
