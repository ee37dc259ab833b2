# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One connection to a Redis server, over the standard library alone. Private to this collection.

The protocol (RESP2) is small and frozen. Speaking it directly means that managed hosts need no library, that an
import costs nothing, that no hidden retry multiplies a timeout, and that a whole keyspace can be read at the pace
of the server: the replies to MEMORY USAGE, PTTL and TYPE are single lines, which C code splits.
"""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotConnect, Deadline

CONNECTION_SPEC = {
    "login_host": {"type": "str", "default": "localhost"},
    "login_port": {"type": "int", "default": 6379},
    "login_user": {"type": "str"},
    "login_password": {"type": "str", "no_log": True},
    "tls": {"type": "bool", "default": False},
    "validate_certs": {"type": "bool", "default": True},
    "ca_certs": {"type": "path"},
    "client_cert_file": {"type": "path"},
    "client_key_file": {"type": "path"},
    "timeout": {"type": "float", "default": 3.0},
    "deadline": {"type": "float", "default": 15.0},
    "top": {"type": "int", "default": 20},
}

CHUNK = 262144

_TLS_HINT = "Where the server speaks TLS on this port, set tls: true"

# First word of an error reply to PING -> what it means for those who use the server.
PING_STATUS = {
    "LOADING": "loading",
    "MISCONF": "misconf",
    "MASTERDOWN": "replica_without_primary",
    "NOREPLICAS": "too_few_replicas",
    "NOPERM": "no_permission",
}

# Error replies after which this connection can do nothing: first word -> kind, cure.
REFUSALS = {
    "NOAUTH": ("no_password", "Set login_password, and login_user for an ACL user other than default"),
    "WRONGPASS": ("wrong_password", "Correct login_user and login_password; the user may also be disabled (ACL LIST)"),
    "DENIED": (
        "protected_mode",
        "Give the server a password or a bind address, or set login_host to its loopback address",
    ),
    "BUSY": (
        "busy",
        "A script or function blocks the server: SCRIPT KILL or FUNCTION KILL ends one that has not written yet",
    ),
}


class ReplyError(Exception):
    """An error reply of the server. ``code`` is its first word: NOPERM, LOADING, ERR, ..."""

    def __init__(self, text):
        super().__init__(text)
        self.code = text.split(" ", 1)[0]


def pack(*words):
    """One command in wire format. Words are bytes, str or int."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        if not isinstance(word, bytes):
            word = str(word).encode("utf-8", "surrogateescape")
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


class Client:
    """A connected socket. Every wait is bounded by ``timeout`` and by the deadline set last.

    After a time-out or a lost connection the client is ``broken``: replies would no longer match their questions, so
    every further call raises the same CannotConnect at once.
    """

    def __init__(self, connection, timeout, address):
        self._socket = connection
        self._buffer = b""
        self._at = 0
        self._timeout = timeout
        self._address = address
        self.deadline = Deadline(timeout)
        self.broken = None
        self.ping = None
        self.database = 0

    def ask(self, *words):
        """The reply to one command; raises ReplyError where the server answers with an error."""
        reply = self.ask_all([words])[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def ask_all(self, commands):
        """The replies to many commands sent at once. An error reply is a ReplyError in its place."""
        self.send(b"".join([pack(*words) for words in commands]))
        return [self.read() for _command in commands]

    def select(self, database):
        if database != self.database:
            self.ask("SELECT", database)
            self.database = database

    def send(self, data):
        self._wait()
        try:
            self._socket.sendall(data)
        except OSError as exc:
            raise self._break(exc)

    def read(self):
        """The next reply: bytes, int, None, a list, or a ReplyError."""
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return self._bulk(int(rest))
        if kind == b"*":
            size = int(rest)
            return None if size < 0 else [self.read() for _item in range(size)]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode("utf-8", "replace"))
        raise self._not_redis(line)

    def read_lines(self, count):
        """The next ``count`` replies, each known to be one line, as raw lines without their line end."""
        chunks = [self._buffer[self._at :]]
        found = chunks[0].count(b"\n")
        while found < count:
            chunk = self._receive()
            chunks.append(chunk)
            found += chunk.count(b"\n")
        lines = b"".join(chunks).split(b"\r\n", count)
        self._buffer, self._at = lines.pop(), 0
        return lines

    def read_scan(self):
        """The reply to SCAN: the next cursor, the names framed as arguments of a command, and the names.

        Raises ReplyError. A name may hold a line end: its length does not fit then; the reply is read by the letter.
        """
        header = self._line()
        if header[:1] == b"-":
            raise ReplyError(header[1:].decode("utf-8", "replace"))
        cursor, count = int(self.read()), int(self._line()[1:])
        lines = self.read_lines(2 * count)
        lengths, names = lines[0::2], lines[1::2]
        if any(length != b"$%d" % size for length, size in set(zip(lengths, map(len, names)))):
            self._buffer, self._at = b"\r\n".join(lines + [self._buffer]), 0
            names = [self.read() for _name in range(count)]
            lengths = [b"$%d" % len(name) for name in names]
        return cursor, [b"%b\r\n%b\r\n" % framed for framed in zip(lengths, names)], names

    def close(self):
        self._socket.close()

    def _line(self):
        while True:
            end = self._buffer.find(b"\r\n", self._at)
            if end >= 0:
                line = self._buffer[self._at : end]
                self._at = end + 2
                return line
            if self._buffer[self._at : self._at + 1] not in b"+-:$*":
                raise self._not_redis(self._buffer[self._at :])
            self._more(1)

    def _bulk(self, size):
        if size < 0:
            return None
        self._more(size + 2 - (len(self._buffer) - self._at))
        start = self._at
        self._at = start + size + 2
        return self._buffer[start : start + size]

    def _more(self, missing):
        """Receives until ``missing`` more bytes are in the buffer."""
        if missing <= 0:
            return
        chunks = [self._buffer[self._at :]]
        while missing > 0:
            chunks.append(self._receive())
            missing -= len(chunks[-1])
        self._buffer, self._at = b"".join(chunks), 0

    def _receive(self):
        self._wait()
        try:
            chunk = self._socket.recv(CHUNK)
        except OSError as exc:
            raise self._break(exc)
        if not chunk:
            raise self._break(ConnectionResetError(errno.ECONNRESET, "the server closed the connection"))
        return chunk

    def _wait(self):
        """Bounds the next wait by what is left of the deadline."""
        if self.broken:
            raise self.broken
        left = self.deadline.remaining(self._timeout)
        if left <= 0:
            raise self._break(socket.timeout("the deadline has passed"))
        self._socket.settimeout(left)

    def _break(self, exc):
        self.broken = cannot_connect(exc, self._address, self._timeout)
        self.close()
        return self.broken

    def _not_redis(self, line):
        self.broken = CannotConnect(
            "not_redis",
            "%s answers, but not in Redis' protocol: %r" % (self._address, line[:40]),
            "Correct login_port. " + _TLS_HINT,
        )
        self.close()
        return self.broken


_kept = {}


def connect(options):
    """The process's one client for these connection options, its deadline set anew.

    Raises CannotConnect; a failure is kept as well, so that a second measuring module does not wait again.
    ``ping`` of the client is what the server answered to the first PING: ``status`` (``ok`` or a value of
    PING_STATUS), ``message``, ``seconds``.
    """
    key = tuple((name, options[name]) for name in CONNECTION_SPEC if name not in ("timeout", "deadline", "top"))
    if key not in _kept:
        try:
            _kept[key] = _log_in(options)
        except CannotConnect as exc:
            _kept[key] = exc
    client = _kept[key]
    if isinstance(client, CannotConnect):
        raise client
    if client.broken:
        raise client.broken
    client.deadline = Deadline(options["deadline"])
    return client


def _log_in(options):
    host, timeout = options["login_host"], options["timeout"]
    address = "%s:%d" % (host, options["login_port"])
    deadline = Deadline(min(timeout, options["deadline"]))
    context = _tls_context(options) if options["tls"] else None
    try:
        connection = _open(host, options["login_port"], deadline)
    except OSError as exc:
        raise cannot_connect(exc, address, timeout)
    if context:
        connection = _shake_hands(connection, context, host, address, timeout)
    client = Client(connection, timeout, address)
    client.deadline = deadline
    started = time.monotonic()
    try:
        if options["login_user"] or options["login_password"]:
            _authenticate(client, options)
        client.ping = _ping(client)
    except CannotConnect:
        client.close()
        raise
    client.ping["seconds"] = round(time.monotonic() - started, 6)
    return client


def _shake_hands(connection, context, host, address, timeout):
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except OSError as exc:
        connection.close()
        if isinstance(exc, ssl.SSLCertVerificationError):
            raise cannot_connect(exc, address, timeout)
        # A plain server takes the greeting for the start of a command and waits for the rest of it.
        raise CannotConnect(
            "tls",
            "No TLS with %s: %s" % (address, exc),
            "Set tls: false where the port speaks plain text; client_cert_file and client_key_file where it wants a "
            "certificate",
        )


def _authenticate(client, options):
    words = ["AUTH", options["login_password"] or ""]
    if options["login_user"]:
        words.insert(1, options["login_user"])
    try:
        client.ask(*words)
    except ReplyError as exc:
        # The server has no password: we are in already.
        if "without any password configured" not in str(exc):
            raise refusal(exc)


def _ping(client):
    try:
        client.ask("PING")
    except ReplyError as exc:
        if exc.code in PING_STATUS:
            return {"status": PING_STATUS[exc.code], "message": str(exc)}
        raise refusal(exc)
    return {"status": "ok", "message": None}


def refusal(exc):
    """The CannotConnect for an error reply after which the connection is of no use."""
    if exc.code in REFUSALS:
        return CannotConnect(REFUSALS[exc.code][0], str(exc), REFUSALS[exc.code][1])
    if "max number of clients" in str(exc):
        return CannotConnect(
            "max_clients", str(exc), "Raise maxclients, or end clients that leak connections (CLIENT LIST)"
        )
    return CannotConnect("error", str(exc), "Look at the log of the Redis server")


def _open(host, port, deadline):
    """A connected TCP socket. All addresses of a name share one time-out."""
    failure = None
    for family, kind, protocol, _name, address in _resolve(host, port, deadline):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(deadline.remaining() or 0.001)
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError as exc:
            connection.close()
            failure = exc
    raise failure


def _resolve(host, port, deadline):
    """getaddrinfo() with a time limit, which it does not have of itself. Raises OSError."""
    answer = []

    def look_up():
        try:
            answer.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as exc:
            answer.append(exc)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(deadline.remaining())
    if not answer:
        raise socket.gaierror(socket.EAI_AGAIN, "no answer from the name service in time")
    if isinstance(answer[0], OSError):
        raise answer[0]
    return answer[0]


def _tls_context(options):
    try:
        context = ssl.create_default_context(cafile=options["ca_certs"] or None)
    except (OSError, ValueError) as exc:
        raise BadOption("ca_certs: %s cannot be used: %s" % (options["ca_certs"], exc))
    if not options["validate_certs"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options["client_cert_file"]:
        try:
            context.load_cert_chain(options["client_cert_file"], options["client_key_file"] or None)
        except (OSError, ValueError) as exc:
            raise BadOption(
                "client_cert_file, client_key_file: %s cannot be used: %s" % (options["client_cert_file"], exc)
            )
    return context


def cannot_connect(exc, address, timeout):
    """The CannotConnect for an OSError of the socket, with its kind and the option to look at."""
    if isinstance(exc, socket.gaierror):
        return CannotConnect(
            "name", "The name in %s cannot be resolved: %s" % (address, exc), "Correct login_host or the name service"
        )
    if isinstance(exc, ssl.SSLCertVerificationError):
        return CannotConnect(
            "certificate",
            "The certificate of %s is not trusted: %s" % (address, exc.verify_message),
            "Set ca_certs to the authority that signed it, and login_host to a name in it",
        )
    if isinstance(exc, socket.timeout):
        return CannotConnect(
            "timeout",
            "%s did not answer within %g s" % (address, timeout),
            "The server hangs, is paused, or packets are dropped on the way: look at the process and the firewall, "
            "or raise timeout",
        )
    if isinstance(exc, ConnectionRefusedError):
        return CannotConnect(
            "refused", "Nothing listens on %s" % address, "Start Redis, or correct login_host and login_port"
        )
    if isinstance(exc, (ConnectionResetError, BrokenPipeError)):
        return CannotConnect(
            "closed", "%s closed the connection" % address, "Look at the log of the server. " + _TLS_HINT
        )
    return CannotConnect(
        "network", "%s cannot be reached: %s" % (address, exc), "Look at routes and firewalls on the way"
    )
