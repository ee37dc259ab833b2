# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests one path through the network: name, connection, TLS, request. Private to this collection."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import select
import socket
import ssl
import time
from typing import NamedTuple, Sequence, TypedDict
from urllib.parse import urlsplit

from ansible_collections.tracktion.ops.plugins.module_utils import _failures
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    OutOfTime,
    cut,
    error,
    out_of_time,
)
from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns, _mtu
from ansible_collections.tracktion.ops.plugins.module_utils._network._mtu import MtuPart
from ansible_collections.tracktion.ops.plugins.module_utils._types import ErrorInfo

PORTS = {"http": 80, "https": 443}
TLS = "tls://"
WHAT = "neither host:port, nor tls://host:port, nor a URL of http or https"
HOST_AND_PORT = re.compile(r"^(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:/\s]+)):(\d{1,5})$")
# A proxy without a backend closes a connection as soon as it has accepted it.
CLOSED_AT_ONCE_SECONDS = 0.05
SILENCE = ("timeout", "no_route")
NO_ANSWER = ("timeout", "dns_timeout", "no_answer")
# Texts that say more than that of the system.
MEANINGS = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no host has this address in its network, or a rule rejects",
    errno.ENETUNREACH: "no route to it",
    errno.ECONNRESET: "the connection was reset",
    errno.EPIPE: "the connection was reset",
    errno.ETIMEDOUT: "no answer at all",
    errno.EACCES: "a rule of this machine forbids it",
    errno.EPERM: "a rule of this machine forbids it",
}


class PathResult(TypedDict):
    """The result of one path, all null at first.

    ``ok`` is null, with a ``reason``, if it was not measured. ``failure`` is the kind of ``error``.
    """

    ok: bool | None
    reason: str | None
    failure: str | None
    error: ErrorInfo | None
    addresses: list[str] | None
    name_source: str | None
    name_server: str | None
    found_as: str | None
    address: str | None
    silent_addresses: list[str] | None
    refusing_addresses: list[str] | None
    dns_seconds: float | None
    connect_seconds: float | None
    mtu: MtuPart | None
    http_status: int | None
    http_seconds: float | None


RESULT = tuple(PathResult.__annotations__)


def no_result(reason: str | None = None) -> PathResult:
    """Return the result of a path that was not measured."""
    return {
        "ok": None,
        "reason": reason,
        "failure": None,
        "error": None,
        "addresses": None,
        "name_source": None,
        "name_server": None,
        "found_as": None,
        "address": None,
        "silent_addresses": None,
        "refusing_addresses": None,
        "dns_seconds": None,
        "connect_seconds": None,
        "mtu": None,
        "http_status": None,
        "http_seconds": None,
    }


class Target:
    """The end of a path: ``host``, ``port`` and, for an HTTP request, ``url``.

    ``option`` is the option that it comes from. Raises BadOption.
    """

    def __init__(self, to: str, method: str = "GET", validate_certs: bool = True, option: str = "paths: to") -> None:
        self.to, self.method, self.validate_certs, self._option = to, method, validate_certs, option
        self.scheme = "tcp"
        self.url: str | None = None
        if "://" in to and not to.startswith(TLS):
            self._read_url(to)
        else:
            self.scheme = "tls" if to.startswith(TLS) else "tcp"
            match = HOST_AND_PORT.match(to[len(TLS) :] if self.scheme == "tls" else to)
            if not match:
                raise BadOption("%s: %r is %s" % (self._option, to, WHAT))
            self.host, self.port = match.group(1) or match.group(2), int(match.group(3))
        if not 0 < self.port < 65536:
            raise BadOption("%s: %r has no port between 1 and 65535" % (self._option, to))

    def _read_url(self, to: str) -> None:
        try:
            parts = urlsplit(to)
            port = parts.port or PORTS.get(parts.scheme, 0)
        except ValueError as exc:
            raise BadOption("%s: %r: %s" % (self._option, to, exc)) from exc
        if parts.scheme not in PORTS or not parts.hostname:
            raise BadOption("%s: %r is %s" % (self._option, to, WHAT))
        if parts.username is not None:
            reason = "a URL with a user or a password is not accepted; use a path that needs no login"
            raise BadOption("%s: %s" % (self._option, reason))
        self.scheme, self.host, self.port = parts.scheme, parts.hostname, port
        self.url = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        self.to = "%s://%s%s" % (self.scheme, parts.netloc, parts.path)

    def service(self, host: str | None = None) -> _failures.Service:
        """Return what hints call the target, and its ``host`` in commands: by default its name."""
        return _failures.Service(
            self.host,
            "`%s`" % self._option.partition(":")[0],
            tls="the port and the certificate",
            host=host or self.host,
            port=self.port,
        )


class Connected(NamedTuple):
    """An open connection, its address, the addresses that have a route and do not answer, and those that refuse.

    Servers often listen on addresses of one family only, and clients go on to the next address at once: only those of
    IPv4 beside another one of IPv4 count as refusing.
    """

    connection: socket.socket
    address: str
    silent: list[str]
    refusing: list[str]


class Seconds:
    """The seconds for each step: at most ``timeout``, and no more than the deadline leaves."""

    def __init__(self, timeout: float, deadline: Deadline) -> None:
        self._timeout = timeout
        self._deadline = deadline
        # The seconds of the last step, if a target that does not answer in them is not proven to be silent.
        self.too_short: float | None = None

    def left(self) -> float:
        """Return the seconds for a step that is left out if there are none."""
        return self._deadline.remaining(self._timeout)

    def next(self) -> float:
        """Return the seconds for the next step. Raises OutOfTime."""
        seconds = self._deadline.step(self._timeout)
        self.too_short = seconds if self._deadline.too_short(self._timeout) else None
        return seconds


def follow(
    target: Target,
    configuration: _dns.Configuration,
    timeout: float,
    deadline: Deadline,
    routes: _mtu.RoutesOfHost | None = None,
) -> PathResult:
    """Test the path to ``target`` in the network namespace of this thread.

    ``timeout`` limits each step, ``deadline`` all of them. ``routes`` are those of the machine.
    """
    result, seconds = no_result(), Seconds(timeout, deadline)
    try:
        _follow(target, configuration, seconds, result, routes)
        result["ok"] = True
    except OutOfTime as exc:
        result["reason"] = str(exc)
    except CannotConnect as exc:
        if exc.kind in NO_ANSWER and seconds.too_short is not None:
            result["reason"] = out_of_time(seconds.too_short)
        else:
            result["ok"], result["failure"], result["error"] = False, exc.kind, error(exc)
    return result


def _follow(
    target: Target,
    configuration: _dns.Configuration,
    seconds: Seconds,
    result: PathResult,
    routes: _mtu.RoutesOfHost | None,
) -> None:
    started = time.monotonic()
    try:
        answer = _dns.resolve(target.host, configuration, Deadline(seconds.next()))
        result["addresses"], result["name_source"] = answer.addresses, answer.source
        result["name_server"], result["found_as"] = answer.server, answer.found_as
    finally:
        result["dns_seconds"] = _elapsed(started)
    started = time.monotonic()
    connection, address, silent, refusing = connect(answer.addresses, target, Deadline(seconds.next()))
    result["address"], result["refusing_addresses"] = address, refusing
    # An address that had too little time to answer is not proven to be silent.
    result["silent_addresses"] = None if silent and seconds.too_short is not None else silent
    result["connect_seconds"] = _elapsed(started)
    with connection:
        result["mtu"] = _mtu.probe(connection, address, routes, seconds.left())
        if target.url is None:
            _check_open(connection, address, target)
            if target.scheme == "tls":
                _close_tls(_start_tls(connection, target, seconds.next()))
            return
        started = time.monotonic()
        status = result["http_status"] = _request(connection, target, target.url, seconds.next())
        result["http_seconds"] = _elapsed(started)
    if status >= 400:
        raise CannotConnect(
            "http_status", "%s answers HTTP %d" % (target.to, status), _failures.hint("failed", target.service())
        )


def _elapsed(started: float) -> float:
    return round(time.monotonic() - started, 6)


def connect(addresses: Sequence[str], target: Target, deadline: Deadline) -> Connected:
    """Return a connection to the first of the addresses that accepts one. Raises CannotConnect.

    All are tried at the same time, to find the silent ones. A client that tries one of these first waits for its
    timeout.
    """
    # Addresses without a route come last, as in the C library.
    ordered = sorted(dict.fromkeys(addresses), key=lambda address: not _has_route(address))
    connections, failures = _connect_all(ordered, target, deadline)
    open_addresses = [address for address in ordered if address in connections]
    if not open_addresses:
        failure, others = failures[ordered[0]], len(ordered) - 1
        if others:
            text = "%s (its other addresses, %d, cannot be reached either)" % (failure, others)
            failure = CannotConnect(failure.kind, text, failure.hint)
        raise failure
    for address in open_addresses[1:]:
        connections[address].close()
    address = open_addresses[0]
    connections[address].setblocking(True)
    silent = [each for each in ordered if each in failures and failures[each].kind in SILENCE]
    refusing = [each for each in ordered if each in failures and failures[each].kind == "refused" and ":" not in each]
    one_family = any(":" not in each for each in open_addresses)
    silent = [each for each in silent if _has_route(each)]
    return Connected(connections[address], address, silent, refusing if one_family else [])


def _connect_all(
    addresses: Sequence[str], target: Target, deadline: Deadline
) -> tuple[dict[str, socket.socket], dict[str, CannotConnect]]:
    """Return open non-blocking connections and failures by address."""
    seconds = deadline.remaining()
    connections: dict[str, socket.socket] = {}
    failures: dict[str, CannotConnect] = {}
    waiting: dict[socket.socket, str] = {}

    def settle(connection: socket.socket, code: int) -> None:
        """Record the result of an attempt unless it is still in progress."""
        if code == errno.EINPROGRESS:
            return
        address = waiting.pop(connection)
        if code:
            connection.close()
            failures[address] = failed(OSError(code, os.strerror(code)), address, target, 0)
        else:
            connections[address] = connection

    for address in addresses:
        try:
            connection = socket.socket(_dns.family(address) or socket.AF_INET, socket.SOCK_STREAM)
        except OSError as exc:
            # For example, the machine has no IPv6.
            failures[address] = failed(exc, address, target, seconds)
            continue
        connection.setblocking(False)
        waiting[connection] = address
        settle(connection, connection.connect_ex((address, target.port)))
    while waiting:
        ready = select.select([], list(waiting), [], deadline.remaining())[1]
        if not ready:
            break
        for connection in ready:
            settle(connection, connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    for connection, address in waiting.items():
        connection.close()
        failures[address] = failed(socket.timeout(), address, target, seconds)
    return connections, failures


def _where(host: str, target: Target) -> str:
    return "%s port %d" % (host, target.port)


def _has_route(address: str) -> bool:
    """Return whether the kernel has a route to an address. No packet is sent."""
    try:
        with socket.socket(_dns.family(address) or socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.connect((address, _dns.PORT))
    except OSError:
        return False
    return True


def failed(exc: OSError, host: str, target: Target, seconds: float, timeout: str = "timeout") -> CannotConnect:
    """Return the failure for an error of a socket or of TLS.

    ``host`` is the name or an address of the target. ``timeout`` is the kind if there was no answer.
    """
    service, where = target.service(host), _where(host, target)
    if isinstance(exc, socket.timeout):
        return _failures.failure(timeout, "%s: no answer within %.1f s" % (where, seconds), service)
    kind = _failures.of_os_error(exc)
    if isinstance(exc, ssl.SSLEOFError):
        meaning = "the connection was closed during the TLS handshake"
    elif isinstance(exc, ssl.SSLError):
        meaning = "TLS: %s" % (getattr(exc, "verify_message", None) or exc.reason or exc)
    else:
        meaning = MEANINGS.get(exc.errno or 0, exc.strerror or str(exc))
    message = "%s: %s" % (where, meaning)
    return _failures.failure(kind, message, service)


def _check_open(connection: socket.socket, address: str, target: Target) -> None:
    """Raise CannotConnect if the other side closes the connection at once, as a proxy without a backend does."""
    where = _where(address, target)
    if not select.select([connection], [], [], CLOSED_AT_ONCE_SECONDS)[0]:
        return
    try:
        if connection.recv(1, socket.MSG_PEEK):
            return
    except OSError as exc:
        raise failed(exc, address, target, CLOSED_AT_ONCE_SECONDS) from exc
    message = "%s: the connection is closed as soon as it is open" % where
    raise _failures.failure("closed", message, target.service())


def _start_tls(connection: socket.socket, target: Target, seconds: float) -> ssl.SSLSocket:
    """Return the connection after the TLS handshake. Raises CannotConnect.

    A TLS server logs a connection that ends before the handshake as an error.
    """
    connection.settimeout(max(0.001, seconds))
    try:
        return _tls_context(target).wrap_socket(connection, server_hostname=target.host)
    except OSError as exc:
        raise failed(exc, target.host, target, seconds, timeout="no_answer") from exc


def _close_tls(connection: ssl.SSLSocket) -> None:
    """Close a TLS connection with a close alert, so that the server does not log an error."""
    with contextlib.suppress(OSError, ValueError):
        connection.settimeout(CLOSED_AT_ONCE_SECONDS)
        connection.unwrap()
    connection.close()


def _request(connection: socket.socket, target: Target, url: str, seconds: float) -> int:
    """Return the status of one HTTP request. Raises CannotConnect."""
    where = _where(target.host, target)
    connection.settimeout(max(0.001, seconds))
    try:
        if target.scheme == "https":
            connection = _tls_context(target).wrap_socket(connection, server_hostname=target.host)
        client = http.client.HTTPConnection(target.host, target.port)
        client.sock = connection
        client.request(target.method, url, headers={"Connection": "close", "User-Agent": "tracktion.ops"})
        return client.getresponse().status
    except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError) as exc:
        message = "%s: the connection was closed without an answer" % where
        raise _failures.failure("closed", message, target.service()) from exc
    except OSError as exc:
        raise failed(exc, target.host, target, seconds, timeout="no_answer") from exc
    except http.client.HTTPException as exc:
        message = cut("%s: the answer is not HTTP (%s)" % (where, type(exc).__name__), 200)
        raise _failures.failure("protocol", message, target.service()) from exc


def _tls_context(target: Target) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not target.validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
