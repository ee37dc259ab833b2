# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One connection to a Redis server. Private to this collection.

redis-py connects (with or without TLS) and packs commands; hiredis parses replies. redis-py's own client is not used:
it takes microseconds for each reply, disconnects while the server is loading, removes the first word of an error,
applies its timeout to each address of a name and not to the name resolution, and sends commands at log-in that a
restricted user may not run.

The connection has a name, so that its commands can be left out of the slow log and its client out of the list of
clients. HELLO sets the name while it authenticates: like AUTH, HELLO needs no permission.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
import time
from typing import Any, Callable, Iterable, NamedTuple, NoReturn

from ansible_collections.tracktion.ops.plugins.module_utils import _failures
from ansible_collections.tracktion.ops.plugins.module_utils._libraries import require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    OutOfTime,
)
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._redact import HIDDEN, redact
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import readable
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Command, Ping, Reply, Word
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

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

# The name of the connections of this collection (CLIENT LIST, SLOWLOG GET).
CLIENT_NAME = "tracktion-ops"

# Where redis-cli connects to without options.
LOCAL_HOSTS = ("localhost", "127.0.0.1")
PORT = 6379

# Container commands: each of their subcommands has its own permission.
CONTAINERS = ("acl", "client", "cluster", "config", "latency", "memory", "object", "slowlog", "xinfo")

# Where the kernel's struct tcp_info keeps the smoothed round trip time, in microseconds.
TCP_RTT_OFFSET, TCP_INFO_BYTES = 68, 104

# redis-py's own timeouts give a more precise error, so they get this much longer than the limit on the whole attempt.
GRACE_SECONDS = 0.2

SERVICE = _failures.Service(
    name="Redis",
    address="`login_host` and `login_port`",
    credentials="`login_user` and `login_password`",
    tls="`ca_certs`, `client_cert_file` and `client_key_file`",
    start="systemctl start redis-server",
    log="tail -n 50 /var/log/redis/*.log",
    processes="-C redis-server",
)

_TLS_HINT = "Set `tls: true` if Redis uses TLS on this port."

# Kind of failure -> message, and what is appended to the common hint.
FAILURES = {
    "refused": ("Connection refused by {address}", ""),
    "timeout": ("No connection to {address} within {detail}", "Raise `timeout` if the network is slow."),
    "no_answer": ("{address} did not answer within {detail}", "Raise `timeout` if it is only slow."),
    "name_resolution": ("Cannot resolve the host name of {address}: {detail}", ""),
    "no_route": ("No route to {address}: {detail}", ""),
    "tls": (
        "TLS handshake with {address} failed: {detail}",
        "Set `tls: false` if Redis does not use TLS on this port; set `client_cert_file` and `client_key_file` if it "
        "requires a client certificate.",
    ),
    "certificate": (
        "The certificate of {address} is not trusted: {detail}",
        "Set `ca_certs` to the certificate of that authority, and `login_host` to a name in the certificate of Redis.",
    ),
    "protocol": ("{address} does not speak the Redis protocol: {detail}", _TLS_HINT),
    "closed": ("{address} closed the connection", _TLS_HINT),
    "failed": ("Cannot connect to {address}: {detail}", ""),
}

# First word of an error reply to PING -> status of the server.
PING_STATUS = {
    "LOADING": "loading",
    "MISCONF": "misconf",
    "MASTERDOWN": "replica_without_primary",
    "NOREPLICAS": "too_few_replicas",
}


class Rejection(NamedTuple):
    """What an error reply means that makes the connection useless.

    In ``hint``, ``{cli}`` stands for redis-cli with its options. ``message`` replaces the text of the server.
    """

    kind: str
    hint: str
    message: str = ""


# First word of an error reply -> its meaning. Two kinds exist for Redis only: ``protected_mode`` (the server has no
# password, so it accepts local connections only) and ``busy`` (a script or function blocks the server).
REJECTIONS = {
    # The server's own text explains the command HELLO.
    "NOAUTH": Rejection(
        "authentication",
        "Set `login_password`, and `login_user` for an ACL user other than default. Test: `{cli} --askpass PING`.",
        "NOAUTH Authentication required",
    ),
    "WRONGPASS": Rejection(
        "authentication",
        _failures.hint("authentication", SERVICE)
        + " Check as an administrator that the user is not disabled (off): `{cli} ACL LIST`.",
    ),
    "DENIED": Rejection(
        "protected_mode",
        "Set a password or a bind address on the server, or set `login_host` to its loopback address. Show what it is "
        "bound to, on its machine: `redis-cli CONFIG GET bind`.",
    ),
    "BUSY": Rejection(
        "busy",
        "End the script or function that blocks the server: `{cli} SCRIPT KILL` or `{cli} FUNCTION KILL`. One that has "
        "written cannot be ended.",
    ),
}
TOO_MANY_CLIENTS = Rejection(
    "too_many_connections", "Raise maxclients, or end clients that leak connections: `{cli} CLIENT LIST`."
)


class ReplyError(Exception):
    """An error reply of the server. ``code`` is its first word: NOPERM, LOADING, ERR, ..."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.split(" ", 1)[0]

    @property
    def denied_command(self) -> bool:
        """Whether the ACL forbids the command itself, whatever its keys."""
        return self.code == "NOPERM" and " access " not in str(self)

    @property
    def denied_key(self) -> bool:
        """Whether the ACL forbids access to the key, not the command."""
        return self.code == "NOPERM" and " access " in str(self)


def permission(words: Command) -> str:
    """Return the ACL rule of a command without its sign: ``info``, ``config|get``."""
    name = str(words[0]).lower()
    return "%s|%s" % (name, str(words[1]).lower()) if name in CONTAINERS else name


def redis_cli(options: Options) -> list[str]:
    """Return the words of a redis-cli command line for the server and the user. It asks for the password."""
    words = ["redis-cli"]
    if options["login_host"] not in LOCAL_HOSTS:
        words += ["-h", options["login_host"]]
    if options["login_port"] != PORT:
        words += ["-p", str(options["login_port"])]
    if options["tls"]:
        words.append("--tls")
        for flag, option in (("--cacert", "ca_certs"), ("--cert", "client_cert_file"), ("--key", "client_key_file")):
            if options[option]:
                words += [flag, options[option]]
        if not options["validate_certs"]:
            words.append("--insecure")
    if options["login_password"]:
        words += ["--user", options["login_user"]] if options["login_user"] else []
        words.append("--askpass")
    return words


class Client:
    """A connection of redis-py. Every wait is bounded by the option ``timeout`` and by ``deadline``.

    After a timeout or a lost connection the client is ``broken``: replies would no longer match their commands, so
    every further call raises the same CannotConnect at once.
    """

    def __init__(self, connection: Any, hiredis: Any, options: Options) -> None:
        self._connection = connection
        # redis-py's own parsers take it from there: it has no public name in the versions of Debian.
        self._socket = connection._sock
        self._reader = hiredis.Reader(replyError=self._reply_error)
        self._protocol_error = hiredis.ProtocolError
        self._timeout = options["timeout"]
        self._address = address(options)
        self._password = options["login_password"]
        # Permission -> error reply. A denied command is sent once: the server logs each denial.
        self._denied: dict[str, ReplyError] = {}
        self.user = options["login_user"] or "default"
        self.redis_cli = redis_cli(options)
        self.deadline = Deadline(self._timeout)
        self.broken: CannotConnect | None = None
        self.ping: Ping = {"status": None, "message": None, "seconds": 0.0}
        self.database = 0
        # The number of the connection in CLIENT LIST; null if the server does not know HELLO.
        self.client_id: int | None = None
        # standalone, cluster or sentinel; null if the server does not know HELLO.
        self.mode: str | None = None
        # The result of _redis_process.find() in a tuple; null until then.
        self.local_pid: tuple[int | None] | None = None

    def ask(self, *words: Word) -> Reply:
        """Return the reply to one command. Raises ReplyError for an error reply, and CannotConnect."""
        reply = self.ask_all([words])[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def ask_all(self, commands: Iterable[Command]) -> list[Reply]:
        """Send commands at once and return their replies. An error reply is a ReplyError in its position."""
        commands = list(commands)
        rules = [permission(words) for words in commands]
        wanted = [words for words, rule in zip(commands, rules) if rule not in self._denied]
        self.send(self.pack(wanted))
        received = iter(self.read(len(wanted)))
        replies = [self._denied[rule] if rule in self._denied else next(received) for rule in rules]
        for rule, reply in zip(rules, replies):
            if isinstance(reply, ReplyError) and reply.denied_command:
                self._denied[rule] = reply
        return replies

    def command(self, *words: Word) -> str:
        """Return the command line of redis-cli for a command of an administrator, quoted for a shell."""
        cli = list(self.redis_cli)
        if "--user" in cli:
            del cli[cli.index("--user") : cli.index("--user") + 2]
        return " ".join(shell_quote(word) for word in [*cli, *words])

    def grant(self, *rules: str) -> str:
        """Return the hint that gives the ACL rules to the user of this connection."""
        return "Allow it: `%s`" % self.command("ACL", "SETUSER", self.user, *rules)

    def hint(self, exc: ReplyError, *words: Word) -> str | None:
        """Return the hint for an error reply to the command ``words``; null if the ACL is not the reason."""
        if exc.denied_key:
            return self.grant("%R~*")
        return self.grant("+" + permission(words)) if exc.denied_command else None

    def round_trip_seconds(self) -> float:
        """Return the kernel's round trip time of the connection, independent of the server's load; 0 if unknown."""
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
            return struct.unpack_from("I", info, TCP_RTT_OFFSET)[0] / 1e6
        except (AttributeError, OSError, struct.error):
            return 0.0

    def select(self, database: int) -> None:
        """Select a database. Raises ReplyError."""
        if database != self.database:
            self.ask("SELECT", database)
            self.database = database

    def pack(self, commands: Iterable[Command]) -> bytes:
        """Return commands in the wire format."""
        encoded = [
            [word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word for word in words]
            for words in commands
        ]
        return b"".join(self._connection.pack_commands(encoded))

    def send(self, packed: bytes) -> None:
        """Send packed commands. Raises CannotConnect."""
        self._wait()
        try:
            self._socket.sendall(packed)
        except OSError as exc:
            self._break(self._failure(exc))

    def read(self, count: int) -> list[Reply]:
        """Return the next ``count`` replies. An error reply is a ReplyError in its position. Raises CannotConnect."""
        replies: list[Reply] = []
        gets, append = self._reader.gets, replies.append
        try:
            for _reply in range(count):
                reply = gets()
                while reply is False:
                    self._receive()
                    reply = gets()
                append(reply)
        except self._protocol_error as exc:
            self._break(failure("protocol", self._address, exc))
        return replies

    def receive(self) -> bytes:
        """Return the next bytes from the server as they are, for a stream that is no reply. Raises CannotConnect."""
        try:
            self._wait()
            chunk = self._socket.recv(CHUNK)
            if not chunk:
                raise ConnectionResetError("the server closed the connection")
            return chunk
        except OutOfTime:
            # A reply is still to come.
            self._break(self._failure(socket.timeout()))
        except OSError as exc:
            self._break(self._failure(exc))

    def close(self) -> None:
        """Close the connection. It is not opened again."""
        self._connection.disconnect()

    def set_timeout(self, seconds: float) -> None:
        """Let the server be silent for ``seconds``, within the deadline."""
        self._timeout = seconds

    def reply_error(self, line: bytes) -> ReplyError:
        """Return the error reply in a line that was received as it is."""
        return self._reply_error(line.decode("utf-8", "surrogateescape"))

    def _reply_error(self, text: str) -> ReplyError:
        # A server may quote the arguments of a command that it does not know, and names that others chose.
        if self._password:
            text = text.replace(self._password, HIDDEN)
        return ReplyError(redact(readable(text.encode("utf-8", "surrogateescape"))))

    def _receive(self) -> None:
        self._reader.feed(self.receive())

    def _wait(self) -> None:
        """Bound the next wait by what is left of the deadline. Raises OutOfTime."""
        if self.broken:
            raise self.broken
        left = self.deadline.remaining(self._timeout)
        if left <= 0:
            raise OutOfTime()
        self._socket.settimeout(left)

    def _failure(self, exc: OSError) -> CannotConnect:
        if isinstance(exc, socket.timeout) and self.deadline.expired():
            return OutOfTime(0.0, "%s did not answer" % self._address)
        return socket_failure(exc, self._address, self._timeout, connected=True)

    def _break(self, reason: CannotConnect) -> NoReturn:
        self.broken = reason
        self.close()
        raise reason


# Connection options -> the client of this process, or the failure to connect.
_connections: dict[tuple, Client | CannotConnect] = {}


def connect(options: Options) -> Client:
    """Return the process's one client for these connection options, with a new deadline.

    Raises CannotConnect. A failure is kept for the next measuring module, so that it does not wait again; OutOfTime is
    not.
    """
    key = tuple((name, options[name]) for name in CONNECTION_SPEC if name not in ("timeout", "deadline", "top"))
    if key not in _connections:
        try:
            _connections[key] = _log_in(options)
        except OutOfTime:
            raise
        except CannotConnect as exc:
            _connections[key] = exc
    client = _connections[key]
    if isinstance(client, CannotConnect):
        raise client
    if client.broken:
        raise client.broken
    client.deadline = Deadline(options["deadline"])
    return client


def connect_anew(options: Options) -> Client:
    """Return a client of its own, which is not shared: for a stream. Raises CannotConnect."""
    return _log_in(options)


def connect_path(path: str, options: Options) -> Client:
    """Return a client of the server that listens at a Unix socket, without a log-in. Raises OSError, MissingLibrary.

    ``path`` may have any length, as its directory is opened first.
    """
    redis, hiredis = require("redis"), require("hiredis")
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(options["timeout"])
        sock.connect("/proc/self/fd/%d/%s" % (descriptor, name))
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(descriptor)
    connection = _connection(redis, dict(options, tls=False), options["timeout"])
    connection._sock = sock
    client = Client(connection, hiredis, dict(options, login_user=None, login_password=None))
    client.deadline = Deadline(options["deadline"])
    return client


def connect_without_password(client: Client, options: Options) -> Client:
    """Return a client that has not logged in, if the server accepts that. ``client`` is the one for the ``options``.

    Raises CannotConnect.
    """
    if not options["login_user"] and not options["login_password"]:
        return client
    left = client.deadline.remaining()
    return connect(dict(options, login_user=None, login_password=None, deadline=left))


def _log_in(options: Options) -> Client:
    """Return a new client that is logged in and has sent PING. Raises CannotConnect."""
    redis, hiredis = require("redis"), require("hiredis")
    timeout = options["timeout"]
    whole = Deadline(options["deadline"])
    # If the deadline shortens the attempt, a missing answer does not mean that the server failed.
    hurried = whole.too_short(timeout)
    seconds = whole.step(timeout)
    attempt = Deadline(seconds)
    if options["tls"]:
        _check_files(options)
    try:
        client = Client(_open(redis, options, attempt), hiredis, options)
    except (ConnectionResetError, ssl.SSLEOFError) as exc:
        # So far there was only the TLS handshake.
        raise failure("tls", address(options), exc)
    except OSError as exc:
        if hurried and attempt.expired() and isinstance(exc, (socket.timeout, socket.gaierror)):
            raise OutOfTime(0.0, "no connection to %s" % address(options))
        raise socket_failure(exc, address(options), seconds)
    client.deadline = attempt
    started = time.monotonic()
    try:
        _greet(client, options)
        status, message = _ping(client)
    except OutOfTime:
        client.close()
        if hurried:
            raise
        raise socket_failure(socket.timeout(), address(options), seconds, connected=True)
    except CannotConnect:
        client.close()
        raise
    client.ping = {"status": status, "message": message, "seconds": round(time.monotonic() - started, 6)}
    return client


class _Attempt:
    """A connection of redis-py, made in a thread of its own. ``error`` is what to raise now; null once connected."""

    def __init__(self) -> None:
        self.connection: Any = None
        self.error: BaseException | None = socket.gaierror(socket.EAI_AGAIN, "no answer from the name service in time")

    def run(self, redis: Any, options: Options, deadline: Deadline) -> None:
        """Resolve the name and connect, and set ``connection`` or ``error``. Raises nothing: it is a thread."""
        try:
            # redis-py resolves the name again, but does not report which of the two steps took the time.
            socket.getaddrinfo(options["login_host"], options["login_port"], type=socket.SOCK_STREAM)
            self.error = socket.timeout()
            self.connection = _connection(redis, options, deadline.remaining() or 0.001)
            self.connection.connect()
            self.error = None
        except UnicodeError as exc:
            self.error = socket.gaierror(socket.EAI_NONAME, str(exc))
        except Exception as exc:
            # redis-py replaces errors of the socket with errors of its own.
            self.error = exc if isinstance(exc, OSError) else exc.__context__ or OSError(str(exc))


def _open(redis: Any, options: Options, deadline: Deadline) -> Any:
    """Return a connection of redis-py, connected before ``deadline``. Raises OSError."""
    attempt = _Attempt()
    thread = threading.Thread(target=attempt.run, args=(redis, options, deadline), daemon=True)
    thread.start()
    thread.join(deadline.remaining() + GRACE_SECONDS)
    if isinstance(attempt.error, socket.timeout):
        # On a host without free CPU time the error is late.
        thread.join(1.0)
    if attempt.error:
        raise attempt.error
    return attempt.connection


def _connection(redis: Any, options: Options, seconds: float) -> Any:
    """Return a connection of redis-py, not connected. It tries once, and sends no command of its own."""
    common = {
        "host": options["login_host"],
        "port": options["login_port"],
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "redis_connect_func": lambda _connection: None,
    }
    if not options["tls"]:
        return redis.Connection(**common)
    return redis.SSLConnection(
        ssl_cert_reqs="required" if options["validate_certs"] else "none",
        ssl_check_hostname=options["validate_certs"],
        ssl_ca_certs=options["ca_certs"] or None,
        ssl_certfile=options["client_cert_file"] or None,
        ssl_keyfile=options["client_key_file"] or None,
        **common,
    )


def _check_files(options: Options) -> None:
    """Raise BadOption for a file that TLS cannot use: redis-py's error does not name the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    loaders: tuple[tuple[tuple[str, ...], Callable[..., None]], ...] = (
        (("ca_certs",), context.load_verify_locations),
        (("client_cert_file", "client_key_file"), context.load_cert_chain),
    )
    for names, load in loaders:
        files = [options[name] or None for name in names]
        try:
            if files[0]:
                load(*files)
        except (OSError, ValueError) as exc:
            raise BadOption("%s: %s cannot be used: %s" % (", ".join(names), files[0], exc))


def _greet(client: Client, options: Options) -> None:
    """Log in and name the connection, with one command. Raises CannotConnect."""
    has_login = bool(options["login_user"] or options["login_password"])
    login = ["AUTH", client.user, options["login_password"] or ""] if has_login else []
    try:
        fields = client.ask("HELLO", 2, *login, "SETNAME", CLIENT_NAME)
        about = dict(zip(fields[::2], fields[1::2]))
        client.client_id = about.get(b"id")
        client.mode = about.get(b"mode", b"").decode("ascii", "replace") or None
    except ReplyError as exc:
        if find_rejection(exc):
            raise reply_failure(exc, client.command())
        # A proxy, or a server without HELLO.
        if has_login:
            _authenticate(client, options)


def _authenticate(client: Client, options: Options) -> None:
    """Log in with AUTH. Raises CannotConnect."""
    user = [options["login_user"]] if options["login_user"] else []
    try:
        client.ask("AUTH", *user, options["login_password"] or "")
    except ReplyError as exc:
        # Without a password on the server, the connection is logged in already.
        if "without any password configured" not in str(exc):
            raise reply_failure(exc, client.command())


def _ping(client: Client) -> tuple[str | None, str | None]:
    """Return the status and the error message that PING is answered with. Raises CannotConnect."""
    try:
        client.ask("PING")
    except ReplyError as exc:
        if exc.denied_command:
            return None, str(exc)
        if exc.code in PING_STATUS:
            return PING_STATUS[exc.code], str(exc)
        raise reply_failure(exc, client.command())
    return "ok", None


def address(options: Options) -> str:
    """Return the address of the server as messages name it."""
    return "%s:%d" % (options["login_host"], options["login_port"])


def find_rejection(exc: ReplyError) -> Rejection | None:
    """Return what an error reply means for the connection; null if it is not known to make it useless."""
    return TOO_MANY_CLIENTS if "max number of clients" in str(exc) else REJECTIONS.get(exc.code)


def reply_failure(exc: ReplyError, cli: str) -> CannotConnect:
    """Return the failure for an error reply that makes the connection useless. ``cli``: redis-cli with its options."""
    rejection = find_rejection(exc)
    if rejection is None:
        return _failures.failure("failed", str(exc), SERVICE)
    return CannotConnect(rejection.kind, rejection.message or str(exc), rejection.hint.format(cli=cli))


def socket_failure(exc: OSError, address: str, seconds: float, connected: bool = False) -> CannotConnect:
    """Return the failure for an error of the socket, or of TLS on it.

    ``seconds`` is the timeout. ``connected`` is true if the error came after the connection was established.
    """
    kind = _failures.of_os_error(exc)
    if kind == "permission":
        # A firewall of this host rejects the connection.
        kind = "no_route"
    if kind == "timeout":
        # A server without TLS takes the handshake for the start of a command and waits for the rest of it.
        if "handshake" in str(exc):
            kind = "tls"
        else:
            return failure("no_answer" if connected else "timeout", address, "%g s" % seconds)
    return failure(kind, address, exc.verify_message if isinstance(exc, ssl.SSLCertVerificationError) else exc)


def failure(kind: str, address: str, detail: object) -> CannotConnect:
    """Return the failure of a kind in FAILURES. ``address`` is host and port."""
    message, more = FAILURES[kind]
    host, _colon, port = address.rpartition(":")
    service = SERVICE._replace(host=host, port=int(port))
    return _failures.failure(kind, message.format(address=address, detail=detail), service, more)
