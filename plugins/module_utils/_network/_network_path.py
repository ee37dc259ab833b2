# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One way through the network, gone step by step: name, connection, request. Private to this collection."""

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
from urllib.parse import urlsplit

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    OutOfTime,
    cut,
    error,
    out_of_time,
)
from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns

PORTS = {"http": 80, "https": 443}
TLS = "tls://"
WHAT = "neither host:port, nor tls://host:port, nor a URL of http or https"
HOST_AND_PORT = re.compile(r"^(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:/\s]+)):(\d{1,5})$")
# A proxy that finds nobody behind it closes the connection as soon as it has opened it.
CLOSED_AT_ONCE_SECONDS = 0.05
# A step that is given less than this says nothing.
LEAST_SECONDS = 0.3
RESULT = ("ok", "reason", "failure", "error", "addresses", "address")
RESULT += ("silent_addresses", "dns_seconds", "connect_seconds", "http_status", "http_seconds")
SILENCE = ("timeout", "no_route")
NO_ANSWER = ("timeout", "dns_timeout", "http_timeout")
KINDS = {
    errno.ECONNREFUSED: ("refused", "connection refused"),
    errno.EHOSTUNREACH: ("no_route", "nobody has this address in its network, or a rule rejects"),
    errno.ENETUNREACH: ("no_route", "there is no route to it"),
    errno.ECONNRESET: ("reset", "the connection was reset"),
    errno.EPIPE: ("reset", "the connection was reset"),
    errno.ETIMEDOUT: ("timeout", "no answer at all"),
    errno.EACCES: ("forbidden", "a rule of this machine forbids it"),
    errno.EPERM: ("forbidden", "a rule of this machine forbids it"),
}


class Target:
    """Where a path leads: ``host``, ``port`` and, where a request is to be made, ``url``.

    ``option`` is the one that it comes from. Raises BadOption.
    """

    def __init__(self, to, method="GET", validate_certs=True, option="paths: to"):
        self.to, self.method, self.validate_certs, self._option = to, method, validate_certs, option
        self.scheme, self.url = "tcp", None
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

    def _read_url(self, to):
        try:
            parts = urlsplit(to)
            self.scheme, self.host, self.port = parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme, 0)
        except ValueError as exc:
            raise BadOption("%s: %r: %s" % (self._option, to, exc)) from exc
        if self.scheme not in PORTS or not self.host:
            raise BadOption("%s: %r is %s" % (self._option, to, WHAT))
        if parts.username is not None:
            said = "a URL with a user or a password in it is not accepted; ask a path that needs no login"
            raise BadOption("%s: %s" % (self._option, said))
        self.url = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        self.to = "%s://%s%s" % (self.scheme, parts.netloc, parts.path)


class Seconds:
    """The seconds that each step gets: ``timeout``, and no more than the deadline leaves."""

    def __init__(self, timeout, deadline):
        self._timeout = timeout
        self._deadline = deadline
        # What the last step got, if it is too little to call a target without an answer silent.
        self.too_short = None

    def next(self):
        """Return the seconds of the next step. Raises OutOfTime."""
        left = self._deadline.remaining()
        if left < min(self._timeout, LEAST_SECONDS):
            raise OutOfTime(left)
        self.too_short = left if self._deadline.too_short(self._timeout) else None
        return min(left, self._timeout)


def follow(target, configuration, timeout, deadline):
    """Go the way to ``target`` in the network namespace we are in. ``timeout`` bounds each step, ``deadline`` all.

    ``ok`` is null, with a ``reason``, where there was no time to find out.
    """
    result, seconds = dict.fromkeys(RESULT), Seconds(timeout, deadline)
    try:
        _go(target, configuration, seconds, result)
        result["ok"] = True
    except OutOfTime as exc:
        result["reason"] = str(exc)
    except CannotConnect as exc:
        if exc.kind in NO_ANSWER and seconds.too_short is not None:
            result["reason"] = out_of_time(seconds.too_short)
        else:
            result.update(ok=False, failure=exc.kind, error=error(exc))
    return result


def _go(target, configuration, seconds, result):
    started = time.monotonic()
    try:
        result["addresses"] = _dns.resolve(target.host, configuration, Deadline(seconds.next()))
    finally:
        result["dns_seconds"] = elapsed(started)
    started = time.monotonic()
    connection, result["address"], silent = connect(result["addresses"], target.port, Deadline(seconds.next()))
    # An address that had too little time for an answer is not a silent one.
    result["silent_addresses"] = None if silent and seconds.too_short is not None else silent
    result["connect_seconds"] = elapsed(started)
    with connection:
        if target.url is None:
            stays_open(connection, "%s port %d" % (result["address"], target.port))
            if target.scheme == "tls":
                end(secured(connection, target, seconds.next()))
            return
        started = time.monotonic()
        result["http_status"] = request(connection, target, seconds.next())
        result["http_seconds"] = elapsed(started)
    if result["http_status"] >= 400:
        raise CannotConnect("http_status", "%s answers HTTP %d" % (target.to, result["http_status"]))


def elapsed(started):
    return round(time.monotonic() - started, 6)


def connect(addresses, port, deadline):
    """``connection, address, silent``: an open connection to the first of the addresses that takes one.

    All are tried at once: ``silent`` are those that have a route and do not answer. Whoever meets one of these first
    waits for his own time-out. Raises CannotConnect.
    """
    # Addresses without a route come last, as the C library would have it.
    ordered = sorted(dict.fromkeys(addresses), key=lambda address: not has_route(address))
    outcomes = _try_all(ordered, port, deadline)
    connected = [address for address in ordered if isinstance(outcomes[address], socket.socket)]
    if not connected:
        failure, others = outcomes[ordered[0]], len(ordered) - 1
        if others:
            failure = CannotConnect(
                failure.kind, "%s (nor is there a way to its other addresses, %d)" % (failure, others)
            )
        raise failure
    for address in connected[1:]:
        outcomes[address].close()
    outcomes[connected[0]].setblocking(True)
    silent = [address for address in ordered if getattr(outcomes[address], "kind", None) in SILENCE]
    return outcomes[connected[0]], connected[0], [address for address in silent if has_route(address)]


def _try_all(addresses, port, deadline):
    """By address, an open connection (that does not block) or the CannotConnect that came of it."""
    seconds = deadline.remaining()
    outcomes, waiting = {}, {}
    for address in addresses:
        try:
            connection = socket.socket(_dns.family(address), socket.SOCK_STREAM)
        except OSError as exc:
            # A machine without IPv6, say.
            outcomes[address] = failed(exc, "%s port %d" % (address, port), seconds)
            continue
        connection.setblocking(False)
        waiting[connection] = address
        _note(outcomes, waiting, connection, connection.connect_ex((address, port)), port)
    while waiting:
        ready = select.select([], list(waiting), [], deadline.remaining())[1]
        if not ready:
            break
        for connection in ready:
            _note(outcomes, waiting, connection, connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), port)
    for connection, address in waiting.items():
        connection.close()
        outcomes[address] = failed(socket.timeout(), "%s port %d" % (address, port), seconds)
    return outcomes


def _note(outcomes, waiting, connection, code, port):
    """What became of one attempt, where that is known."""
    if code == errno.EINPROGRESS:
        return
    address = waiting.pop(connection)
    outcomes[address] = connection
    if code:
        connection.close()
        outcomes[address] = failed(OSError(code, os.strerror(code)), "%s port %d" % (address, port), 0)


def has_route(address):
    """Whether the kernel would know where to send a packet. None is sent."""
    try:
        with socket.socket(_dns.family(address), socket.SOCK_DGRAM) as udp:
            udp.connect((address, _dns.PORT))
    except OSError:
        return False
    return True


def failed(exc, where, seconds):
    """An error of the socket as one of our kinds, with what it means."""
    if isinstance(exc, socket.timeout):
        return CannotConnect("timeout", "%s: no answer within %.1f s" % (where, seconds))
    kind, meaning = KINDS.get(exc.errno, ("failed", exc.strerror or str(exc)))
    return CannotConnect(kind, "%s: %s" % (where, meaning))


def stays_open(connection, where):
    """Raises CannotConnect where the other side ends the connection at once, as a proxy without a backend does."""
    if not select.select([connection], [], [], CLOSED_AT_ONCE_SECONDS)[0]:
        return
    try:
        if connection.recv(1, socket.MSG_PEEK):
            return
    except OSError as exc:
        raise failed(exc, where, CLOSED_AT_ONCE_SECONDS) from exc
    raise CannotConnect("closed", "%s: the connection is closed as soon as it is open" % where)


def secured(connection, target, seconds):
    """Return the connection with TLS on it. Raises CannotConnect.

    A server that speaks TLS alone logs a connection that ends before the handshake as an error.
    """
    where = "%s port %d" % (target.host, target.port)
    connection.settimeout(max(0.001, seconds))
    try:
        return _tls(target).wrap_socket(connection, server_hostname=target.host)
    except socket.timeout as exc:
        raise CannotConnect("timeout", "%s: no answer within %.1f s" % (where, seconds)) from exc
    except ssl.SSLError as exc:
        said = getattr(exc, "verify_message", None) or exc.reason or exc
        raise CannotConnect("tls", "%s: TLS: %s" % (where, said)) from exc
    except OSError as exc:
        raise failed(exc, where, seconds) from exc


def end(connection):
    """Say goodbye, so that the server does not take the end of the connection for a failure."""
    with contextlib.suppress(OSError, ValueError):
        connection.settimeout(CLOSED_AT_ONCE_SECONDS)
        connection.unwrap()
    connection.close()


def request(connection, target, seconds):
    """The status of one HTTP request. Raises CannotConnect."""
    where = "%s port %d" % (target.host, target.port)
    connection.settimeout(max(0.001, seconds))
    try:
        if target.scheme == "https":
            connection = _tls(target).wrap_socket(connection, server_hostname=target.host)
        client = http.client.HTTPConnection(target.host, target.port)
        client.sock = connection
        client.request(target.method, target.url, headers={"Connection": "close", "User-Agent": "tracktion.ops"})
        return client.getresponse().status
    except socket.timeout as exc:
        raise CannotConnect("http_timeout", "%s: no answer within %.1f s" % (where, seconds)) from exc
    except (ConnectionResetError, BrokenPipeError) as exc:
        raise CannotConnect("http_closed", "%s: it hangs up without an answer" % where) from exc
    except ssl.SSLError as exc:
        said = getattr(exc, "verify_message", None) or exc.reason or exc
        raise CannotConnect("tls", "%s: TLS: %s" % (where, said)) from exc
    except OSError as exc:
        raise failed(exc, where, seconds) from exc
    except http.client.HTTPException as exc:
        message = "%s: what it answers is no HTTP (%s)" % (where, type(exc).__name__)
        raise CannotConnect("not_http", cut(message, 200)) from exc


def _tls(target):
    context = ssl.create_default_context()
    if not target.validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
