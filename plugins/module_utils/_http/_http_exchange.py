# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One HTTP request over a connection of its own, every phase timed and held to a deadline. Private to this collection.

What goes wrong is raised as CannotConnect, whose ``kind`` tells apart what a person would do different things about.
What was learned until then stays in the exchange.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import socket
import ssl
import time

from ansible_collections.tracktion.ops.plugins.module_utils._bounded import Hung, bounded
from ansible_collections.tracktion.ops.plugins.module_utils._bounded_socket import BoundedSocket, remaining_timeout
from ansible_collections.tracktion.ops.plugins.module_utils._http import _certificate
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, cut
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote

# Addresses of one name that are tried.
MOST_ADDRESSES = 6
TLS_RECORD = (b"\x15\x03", b"\x16\x03")
# How OpenSSL's versions say that what came is no TLS at all.
NOT_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
# OpenSSL's numbers for why a certificate is refused.
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


# What the other side does to a connection, rather than this machine.
ANSWERS = (ConnectionRefusedError, socket.timeout)


class Stopwatch:
    """Seconds spent in each phase; a phase that never began is null."""

    PHASES = ("dns", "connect", "tls", "first_byte", "body")

    def __init__(self):
        self.seconds = dict.fromkeys(self.PHASES)
        self.phase = None
        self._began = time.monotonic()

    @contextlib.contextmanager
    def time(self, phase):
        """Add what happens in the context to ``phase``: an exchange that follows a redirect goes through each again."""
        self.phase = phase
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = round((self.seconds[phase] or 0.0) + time.monotonic() - began, 6)

    def total(self):
        return round(time.monotonic() - self._began, 6)


class Exchange:
    """A request to ``target`` and what came of it.

    ``contexts`` are two TLS contexts, one that verifies and one that does not, null where that must not be; or null for
    plain HTTP.
    """

    def __init__(self, target, contexts, family, deadline, watch):
        self.target = target
        self.deadline = deadline
        self.watch = watch
        self._contexts = contexts
        self._family = family
        self._addresses = []
        self._sock = None
        self.address = None
        self.tls = None
        self.status = None
        self.location = None
        self.body = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self._sock is not None:
            self._sock.close()

    def run(self, method, headers, body, most):
        """Fill in ``address, tls, status, location, body``; raises CannotConnect."""
        self._open()
        try:
            self._ask(method, headers, body, most)
        except CannotConnect as exc:
            if exc.kind in ("closed", "reset", "not_http") and self.status is None and self._should_speak_tls():
                raise CannotConnect(
                    "speaks_tls",
                    "%s speaks TLS, and was asked without" % self.target.where,
                    "Write https:// in its url.",
                )
            raise

    # The connection

    def _open(self):
        self._addresses = self._resolve()
        self._open_again()
        if self._contexts:
            self._secure()

    def _open_again(self):
        with self.watch.time("connect"):
            self._connect(self._addresses)

    def _resolve(self):
        host, port = self.target.host, self.target.port
        with self.watch.time("dns"):
            try:
                found = bounded(
                    socket.getaddrinfo, self.deadline.remaining(), host, port, self._family, socket.SOCK_STREAM
                )
            except Hung:
                raise CannotConnect(
                    "dns", "the name %s was not resolved in time" % host, "Look at the servers in /etc/resolv.conf."
                )
            except (socket.gaierror, UnicodeError) as exc:
                said = getattr(exc, "strerror", None) or exc
                raise CannotConnect(
                    "dns",
                    "the name %s cannot be resolved: %s" % (host, said),
                    "Check the url, and: `getent hosts %s%s`"
                    % ("-- " if host.startswith("-") else "", shell_quote(host)),
                )
        return list(dict.fromkeys((family, address) for family, _type, _protocol, _name, address in found))

    def _connect(self, addresses):
        addresses, refusals = addresses[:MOST_ADDRESSES], []
        for number, (family, address) in enumerate(addresses):
            self.address = address[0]
            try:
                # Behind an address that does not answer may stand another that does.
                self._sock = connected(family, address, self.remaining_timeout() / (len(addresses) - number))
                return
            except OSError as exc:
                refusals.append(exc)
        raise self._not_connected(refusals, addresses)

    def _not_connected(self, refusals, addresses):
        where = self.target.where
        if self.target.host not in (address[0] for _family, address in addresses):
            where += " (%s)" % ", ".join(address[0] for _family, address in addresses)
        # That there is no way to one address (::1, where IPv6 is off) says less than what another answers.
        exc = ([exc for exc in refusals if isinstance(exc, ANSWERS)] or refusals)[-1]
        if isinstance(exc, ConnectionRefusedError):
            return CannotConnect("refused", "nothing listens at %s" % where, "Is the service up, and at this port?")
        if isinstance(exc, socket.timeout) or exc.errno == errno.ETIMEDOUT:
            return CannotConnect(
                "timeout",
                "no connection to %s in time: whatever should answer is silent" % where,
                "Look at packet filters, routes, and whether the machine is up.",
            )
        return CannotConnect(
            "unreachable", "%s cannot be reached: %s" % (where, exc.strerror or exc), "Check the route."
        )

    def _secure(self):
        verifying, trusting = self._contexts
        try:
            self._handshake(verifying)
        except ssl.SSLCertVerificationError as exc:
            problem = CERTIFICATE_PROBLEMS.get(exc.verify_code, "untrusted")
            self.tls = {"verified": False, "problem": problem, "message": exc.verify_message}
            # Once more without verifying: to go on where that is wanted, else only to see the certificate.
            self._sock.close()
            if trusting:
                self._open_again()
                self._handshake(trusting)
                return
            with contextlib.suppress(CannotConnect):
                self._open_again()
                self._handshake(stranger())
            raise CannotConnect(
                "certificate",
                "the certificate of %s is refused: %s" % (self.target.where, exc.verify_message),
                "Try: %s" % self._look_by_hand(),
            )

    def _handshake(self, context):
        sock = self._sock
        with self.watch.time("tls"):
            try:
                self._sock = context.wrap_socket(sock, server_hostname=self.target.host, do_handshake_on_connect=False)
                self._sock.settimeout(self.remaining_timeout())
                self._sock.do_handshake()
            except ssl.SSLCertVerificationError:
                raise
            except ssl.SSLError as exc:
                raise self._no_tls(exc)
            except (OSError, UnicodeError) as exc:
                raise self._interrupted(exc)
        if self.tls is None:
            self.tls = {"verified": True, "problem": None, "message": None}
        self.tls["version"] = self._sock.version()
        self._look_at(self._sock.getpeercert(True))

    def _look_at(self, der):
        try:
            self.tls.update(_certificate.parse(der or b""))
        except ValueError as exc:
            self.tls["message"] = str(exc)

    def _no_tls(self, exc):
        if exc.reason in NOT_TLS:
            return CannotConnect(
                "not_tls", "%s does not speak TLS" % self.target.where, "Write http:// in its url, or check the port."
            )
        if "CERTIFICATE_REQUIRED" in (exc.reason or ""):
            return CannotConnect(
                "tls", "%s wants to see a certificate of ours" % self.target.where, "Name client_cert of the endpoint."
            )
        return CannotConnect(
            "tls",
            "no TLS with %s: %s" % (self.target.where, exc.reason or exc.strerror or exc),
            "Perhaps it wants to see a certificate (client_cert). Try: %s" % self._look_by_hand(),
        )

    def _look_by_hand(self):
        return "`openssl s_client -connect %s -showcerts </dev/null`" % shell_quote(self.target.where)

    # The request

    def remaining_timeout(self):
        """Seconds the next step on the wire may take; raises socket.timeout where none are left."""
        return remaining_timeout(self.deadline)

    def _ask(self, method, headers, body, most):
        connection = http.client.HTTPConnection(self.target.host, self.target.port)
        connection.default_port = self.target.default_port
        connection.sock = BoundedSocket(self._sock, self.remaining_timeout)
        try:
            with self.watch.time("first_byte"):
                with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
                    # Whoever hangs up before it has heard us out may have said why.
                    connection.request(method, self.target.path, body, headers)
                response = http.client.HTTPResponse(connection.sock, method=method)
                beginning = response.fp.peek(1)
                if beginning.startswith(TLS_RECORD) or (len(beginning) >= 5 and not beginning.startswith(b"HTTP/")):
                    raise self._not_http()
            with self.watch.time("body"):
                response.begin()
                self.status = response.status
                self.location = response.getheader("Location")
                self.body = self._read(response, most)
        except (OSError, http.client.HTTPException) as exc:
            raise self._interrupted(exc)

    def _read(self, response, most):
        body = response.read(most + 1)
        if len(body) > most:
            raise CannotConnect(
                "too_large",
                "%s sends more than %d bytes, and perhaps for ever" % (self.target.where, most),
                "Raise max_body_bytes where such an answer is right.",
            )
        if response.length:
            # Asked for a number of bytes, the library does not say that fewer came than were announced.
            raise http.client.IncompleteRead(body, response.length)
        return body

    def _not_http(self):
        message = "what %s answers is not HTTP" % self.target.where
        return CannotConnect("not_http", message, "Check the port in its url.")

    def _interrupted(self, exc):
        """Why a connection that was made came to nothing."""
        where, phase = self.target.where, self.watch.phase
        if isinstance(exc, (socket.timeout, TimeoutError)):
            if phase == "body":
                return CannotConnect(
                    "unfinished", "the answer of %s begins and does not end in time" % where, "See where it hangs."
                )
            return CannotConnect(
                "no_answer", "%s takes the connection and does not answer in time" % where, "See where it hangs."
            )
        if isinstance(exc, (ConnectionResetError, BrokenPipeError)) and not isinstance(
            exc, http.client.RemoteDisconnected
        ):
            return CannotConnect("reset", "%s resets the connection" % where, "See its log.")
        if isinstance(
            exc, (http.client.RemoteDisconnected, http.client.IncompleteRead, ConnectionError, ssl.SSLEOFError)
        ):
            # A port that Docker publishes takes connections as long as the container runs, whatever runs in it.
            part = "in the middle of the answer" if self.status else "without an answer"
            return CannotConnect("closed", "%s closes the connection %s" % (where, part), "See its log.")
        if isinstance(exc, ssl.SSLError):
            return self._no_tls(exc)
        if isinstance(exc, (http.client.BadStatusLine, http.client.UnknownProtocol)):
            return self._not_http()
        return CannotConnect("broken", "the exchange with %s failed: %s" % (where, cut(str(exc), 100)), "See its log.")

    def _should_speak_tls(self):
        """Whether the port that gave no answer in plain HTTP shakes hands in TLS."""
        if self._contexts or self.deadline.expired():
            return False
        try:
            with socket.create_connection((self.address, self.target.port), self.remaining_timeout()) as sock:
                sock.settimeout(self.remaining_timeout())
                with stranger().wrap_socket(sock, server_hostname=self.target.host):
                    return True
        except (OSError, UnicodeError):
            return False


def connected(family, address, seconds):
    """A socket that is connected. Raises OSError, also where this machine does not speak the family."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def stranger():
    """A context that trusts whatever it meets: to look at a certificate, never to send anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
