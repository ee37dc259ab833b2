# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One connection to a Redis server. Private to this collection.

redis-py connects, over TLS too, and packs commands; hiredis parses replies. They are joined here and not by redis-py's
own client, for that takes microseconds for each reply, hangs up where the server is loading, cuts the first word off
an error, limits each address of a name by itself and the name service not at all, and sends commands at log-in that a
restricted user may not run.

The connection has a name, so that what it sends can be left out of the slow log and of the list of clients. HELLO sets
it while it authenticates: like AUTH, HELLO needs no permission.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time

from ansible_collections.tracktion.ops.plugins.module_utils._libraries import require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    OutOfTime,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._redact import HIDDEN, redact
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import readable

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

# The name of our connections (CLIENT LIST, SLOWLOG GET).
CLIENT_NAME = "tracktion-ops"

# Where redis-cli connects to without options.
LOCAL_HOSTS = ("localhost", "127.0.0.1")
PORT = 6379

# Commands whose subcommands each have a permission of their own.
CONTAINERS = ("acl", "client", "config", "latency", "memory", "object", "slowlog")

# Where the kernel's struct tcp_info keeps the smoothed round trip time, in microseconds.
TCP_RTT_OFFSET, TCP_INFO_BYTES = 68, 104

# How much later than redis-py's own time limits, which say more, the limit on all of them ends a connecting.
GRACE_SECONDS = 0.2

_TLS_HINT = "Where the server speaks TLS on this port, set tls: true"

# First word of an error reply to PING -> what it means for those who use the server.
PING_STATUS = {
    "LOADING": "loading",
    "MISCONF": "misconf",
    "MASTERDOWN": "replica_without_primary",
    "NOREPLICAS": "too_few_replicas",
}

# Error replies after which this connection can do nothing: first word -> kind, hint. ``{}``: redis-cli's command.
REFUSALS = {
    "NOAUTH": ("no_password", "Set login_password, and login_user for an ACL user other than default"),
    "WRONGPASS": (
        "wrong_password",
        "Correct login_user and login_password; the user may also be disabled: `{} ACL LIST`",
    ),
    "DENIED": ("protected_mode", "Give the server a password or a bind address, or set login_host to its loopback one"),
    "BUSY": (
        "busy",
        "End the script or function that blocks the server, unless it has written: `{0} SCRIPT KILL` or "
        "`{0} FUNCTION KILL`",
    ),
}


class ReplyError(Exception):
    """An error reply of the server. ``code`` is its first word: NOPERM, LOADING, ERR, ..."""

    def __init__(self, text):
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


class DeadlineSpent(OutOfTime):
    """Our own time is over. This says nothing about the server."""

    def __init__(self, detail: str = ""):
        super().__init__(0.0)
        self.args = (self.args[0] + detail,)


def not_reached(parts, exc: CannotConnect) -> dict:
    """Return the measurement without a connection. ``reachable`` is null if only our own time was over."""
    measurement = unreachable(parts, exc)
    if isinstance(exc, DeadlineSpent):
        measurement["reachable"] = None
    return measurement


def permission(words) -> str:
    """Return the ACL rule of a command without its sign: ``info``, ``config|get``."""
    name = str(words[0]).lower()
    return "%s|%s" % (name, str(words[1]).lower()) if name in CONTAINERS else name


def redis_cli(options: dict) -> list:
    """Return the words of a command line that reaches the server; the password comes from REDISCLI_AUTH."""
    words = ["redis-cli"]
    if options["login_host"] not in LOCAL_HOSTS:
        words += ["-h", options["login_host"]]
    if options["login_port"] != PORT:
        words += ["-p", str(options["login_port"])]
    if options["tls"]:
        words.append("--tls")
        named = (("--cacert", "ca_certs"), ("--cert", "client_cert_file"), ("--key", "client_key_file"))
        for flag, option in named:
            if options[option]:
                words += [flag, options[option]]
        if not options["validate_certs"]:
            words.append("--insecure")
    return words


class Client:
    """A connection of redis-py. Every wait is bounded by ``timeout`` and by the deadline set last.

    After a time-out or a lost connection the client is ``broken``: replies would no longer match their questions, so
    every further call raises the same CannotConnect at once.
    """

    def __init__(self, connection, hiredis, timeout, address, options=None):
        self._connection = connection
        # redis-py's own parsers take it from there: it has no public name in the versions of Debian.
        self._socket = connection._sock
        self._reader = hiredis.Reader(replyError=self._reply_error)
        self._protocol_error = hiredis.ProtocolError
        self._timeout = timeout
        self._address = address
        self._password = (options or {}).get("login_password")
        # Permission -> the error reply: each forbidden command is sent once, as the server notes it each time.
        self._forbidden = {}
        self.user = (options or {}).get("login_user") or "default"
        self.redis_cli = redis_cli(options) if options else ["redis-cli"]
        self.deadline = Deadline(timeout)
        self.broken = None
        self.ping = None
        self.database = 0
        # The number of the connection in CLIENT LIST; null where the server does not know HELLO.
        self.client_id = None
        # What is read once for the process: see _redis_process.
        self.local_pid = None

    def ask(self, *words):
        """The reply to one command; raises ReplyError where the server answers with an error."""
        reply = self.ask_all([words])[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def ask_all(self, commands):
        """The replies to many commands sent at once: bytes, int, None, a list, or a ReplyError."""
        rules = [permission(words) for words in commands]
        wanted = [words for words, rule in zip(commands, rules) if rule not in self._forbidden]
        self.send(self.pack(wanted))
        replies = iter(self.read(len(wanted)))
        answers = [self._forbidden[rule] if rule in self._forbidden else next(replies) for rule in rules]
        for rule, answer in zip(rules, answers):
            if isinstance(answer, ReplyError) and answer.denied_command:
                self._forbidden[rule] = answer
        return answers

    def command(self, *words) -> str:
        """Return a command as a person types it into a shell."""
        return " ".join(shell_quote(word) for word in [*self.redis_cli, *words])

    def grant(self, *rules) -> str:
        """Return the hint that gives our user these ACL rules."""
        return "Allow it: `%s`" % self.command("ACL", "SETUSER", self.user, *rules)

    def hint(self, exc: ReplyError, *words):
        """Return the hint for the refusal of the command ``words``; null where no ACL rule is in the way."""
        if exc.denied_key:
            return self.grant("%R~*")
        return self.grant("+" + permission(words)) if exc.denied_command else None

    def network_seconds(self) -> float:
        """Return the network's round trip time by the kernel's measure, however busy the server is; 0 if unknown."""
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
            return struct.unpack_from("I", info, TCP_RTT_OFFSET)[0] / 1e6
        except (AttributeError, OSError, struct.error):
            return 0.0

    def _reply_error(self, text: str) -> ReplyError:
        """A server may quote the arguments of a command that it does not know, and names that others chose."""
        if self._password:
            text = text.replace(self._password, HIDDEN)
        return ReplyError(redact(readable(text.encode("utf-8", "surrogateescape"))))

    def select(self, database):
        if database != self.database:
            self.ask("SELECT", database)
            self.database = database

    def pack(self, commands):
        """Commands as they are sent. Their words are bytes, str or int."""
        encoded = [
            [word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word for word in words]
            for words in commands
        ]
        return b"".join(self._connection.pack_commands(encoded))

    def send(self, packed):
        self._wait()
        try:
            self._socket.sendall(packed)
        except OSError as exc:
            raise self._break(self._failure(exc))

    def read(self, count):
        """The next ``count`` replies. An error reply is a ReplyError in its place."""
        replies = []
        gets, append = self._reader.gets, replies.append
        try:
            for _reply in range(count):
                reply = gets()
                while reply is False:
                    self._receive()
                    reply = gets()
                append(reply)
        except self._protocol_error as exc:
            raise self._break(
                CannotConnect(
                    "not_redis",
                    "%s answers, but not in Redis' protocol: %s" % (self._address, exc),
                    "Correct login_port. " + _TLS_HINT,
                )
            )
        return replies

    def close(self):
        self._connection.disconnect()

    def _receive(self):
        try:
            self._wait()
            chunk = self._socket.recv(CHUNK)
            if not chunk:
                raise ConnectionResetError("the server closed the connection")
        except DeadlineSpent:
            # A reply is still to come.
            raise self._break(self._failure(socket.timeout()))
        except OSError as exc:
            raise self._break(self._failure(exc))
        self._reader.feed(chunk)

    def _wait(self):
        """Bounds the next wait by what is left of the deadline."""
        if self.broken:
            raise self.broken
        left = self.deadline.remaining(self._timeout)
        if left <= 0:
            raise DeadlineSpent()
        self._socket.settimeout(left)

    def _failure(self, exc: OSError) -> CannotConnect:
        if isinstance(exc, socket.timeout) and self.deadline.expired():
            return DeadlineSpent(": %s did not answer by then" % self._address)
        return cannot_connect(exc, self._address, self._timeout)

    def _break(self, reason):
        self.broken = reason
        self.close()
        return reason


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
        except OutOfTime:
            raise
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
    redis, hiredis = require("redis"), require("hiredis")
    timeout = options["timeout"]
    address = "%s:%d" % (options["login_host"], options["login_port"])
    ours = Deadline(options["deadline"])
    deadline = Deadline(min(timeout, options["deadline"]))
    if ours.expired():
        raise DeadlineSpent()
    if options["tls"]:
        _check_files(options)
    try:
        client = Client(_open(redis, options, deadline), hiredis, timeout, address, options)
    except ConnectionResetError as exc:
        # Nothing but a handshake is answered so far.
        raise cannot_connect(ssl.SSLError(str(exc)), address, timeout)
    except OSError as exc:
        if ours.expired() and isinstance(exc, (socket.timeout, socket.gaierror)):
            raise DeadlineSpent(": no connection to %s by then" % address)
        raise cannot_connect(exc, address, timeout)
    client.deadline = ours if options["deadline"] < timeout else deadline
    started = time.monotonic()
    try:
        _greet(client, options)
        client.ping = _ping(client)
    except DeadlineSpent as exc:
        client.close()
        # Within the deadline the time-out has been reached, which is the server's fault.
        raise exc if client.deadline is ours else cannot_connect(socket.timeout(), address, timeout)
    except CannotConnect:
        client.close()
        raise
    client.ping["seconds"] = round(time.monotonic() - started, 6)
    return client


def _open(redis, options, deadline):
    """A connection of redis-py, connected before ``deadline``. Raises OSError."""
    # What is to be said where the time is over, or what went wrong; None in the end.
    state = {"error": socket.gaierror(socket.EAI_AGAIN, "no answer from the name service in time")}

    def work():
        try:
            # redis-py looks the name up again, but would not tell which of the two took the time.
            socket.getaddrinfo(options["login_host"], options["login_port"], type=socket.SOCK_STREAM)
            state["error"] = socket.timeout()
            state["connection"] = _connection(redis, options, deadline.remaining() or 0.001)
            state["connection"].connect()
            state["error"] = None
        except UnicodeError as exc:
            state["error"] = socket.gaierror(socket.EAI_NONAME, str(exc))
        except Exception as exc:
            # redis-py raises errors of its own in place of those of the socket.
            state["error"] = exc if isinstance(exc, OSError) else exc.__context__ or OSError(str(exc))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(deadline.remaining() + GRACE_SECONDS)
    if isinstance(state["error"], socket.timeout):
        # A host without CPU time to spare is late with the reason.
        thread.join(1.0)
    if state["error"]:
        raise state["error"]
    return state["connection"]


def _connection(redis, options, seconds):
    """A connection of redis-py, not connected. It tries once, and sends no command of its own."""
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


def _check_files(options):
    """Raises BadOption for a file that TLS cannot use: while it connects, redis-py does not tell which one it was."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for names, load in (
        (("ca_certs",), context.load_verify_locations),
        (("client_cert_file", "client_key_file"), context.load_cert_chain),
    ):
        files = [options[name] or None for name in names]
        try:
            if files[0]:
                load(*files)
        except (OSError, ValueError) as exc:
            raise BadOption("%s: %s cannot be used: %s" % (", ".join(names), files[0], exc))


def _greet(client, options):
    """Log in and name the connection, with one command. Raises CannotConnect."""
    named = bool(options["login_user"] or options["login_password"])
    login = ["AUTH", client.user, options["login_password"] or ""] if named else []
    try:
        fields = client.ask("HELLO", 2, *login, "SETNAME", CLIENT_NAME)
        client.client_id = dict(zip(fields[::2], fields[1::2])).get(b"id")
    except ReplyError as exc:
        if exc.code in REFUSALS or "max number of clients" in str(exc):
            raise refusal(exc, client)
        # A proxy, or a server without HELLO.
        if named:
            _authenticate(client, options)


def _authenticate(client, options):
    user = [options["login_user"]] if options["login_user"] else []
    try:
        client.ask("AUTH", *user, options["login_password"] or "")
    except ReplyError as exc:
        # The server has no password: we are in already.
        if "without any password configured" not in str(exc):
            raise refusal(exc, client)


def _ping(client):
    """What the server answers to PING. ``status`` is null where the ACL forbids it."""
    try:
        client.ask("PING")
    except ReplyError as exc:
        if exc.denied_command:
            return {"status": None, "message": str(exc)}
        if exc.code in PING_STATUS:
            return {"status": PING_STATUS[exc.code], "message": str(exc)}
        raise refusal(exc, client)
    return {"status": "ok", "message": None}


def refusal(exc, client=None):
    """The CannotConnect for an error reply after which the connection is of no use."""
    cli = client.command() if client else "redis-cli"
    if exc.code in REFUSALS:
        # (The server's own text for NOAUTH explains the command HELLO.)
        message = "NOAUTH Authentication required" if exc.code == "NOAUTH" else str(exc)
        return CannotConnect(REFUSALS[exc.code][0], message, REFUSALS[exc.code][1].format(cli))
    if "max number of clients" in str(exc):
        hint = "Raise maxclients, or end the clients that leak: `%s CLIENT LIST`" % cli
        return CannotConnect("max_clients", str(exc), hint)
    return CannotConnect("error", str(exc), "Look at the log of the Redis server")


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
    # A plain server takes the greeting for the start of a command and waits for the rest of it.
    if isinstance(exc, ssl.SSLError) or "handshake" in str(exc):
        return CannotConnect(
            "tls",
            "No TLS with %s: %s" % (address, exc),
            "Set tls: false where the port speaks plain text; client_cert_file and client_key_file where it wants a "
            "certificate",
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
        hint = "Look at the log of the server. " + _TLS_HINT
        return CannotConnect("closed", "%s closed the connection" % address, hint)
    hint = "Look at routes and firewalls on the way"
    return CannotConnect("network", "%s cannot be reached: %s" % (address, exc), hint)
