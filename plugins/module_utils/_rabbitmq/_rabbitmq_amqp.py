# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Client for AMQP 0-9-1: one vhost, calls bounded in time, failures by kind. Private to this collection.

The library is pika. Measurements use passive declares only, which change nothing on any version of the broker.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import struct
from typing import Any, Iterable, Iterator, NoReturn, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils import _at_end
from ansible_collections.tracktion.ops.plugins.module_utils._libraries import require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, OutOfTime, cut
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import (
    CLIENT_NAME,
    READ_LOG,
    connection_failure,
    grant_command,
    hint_for,
    is_timeout,
    tls_context,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_messages import RawTable
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_types import (
    Declared,
    QueueName,
    QueueProblem,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

# pika answers heartbeats only while it is called: long enough for a file to be written and synced between two calls.
HEARTBEAT_SECONDS = 60

# AMQP reply codes with which the broker rejects a declare or a get of one queue.
_REPLY_CODES = {403: "permission", 404: "not_found", 405: "exclusive", 406: "precondition_failed", 540: "not_supported"}

# The broker closes a connection for a limit with the same code as for a missing permission.
_LIMIT = re.compile(r"limit (?:of )?\(\d+\)")

# The vhost and the options that lead to it.
_Key = Tuple[Any, ...]
# The first failure to connect: the second module of an area does not wait for it again.
_failures: dict[_Key, CannotConnect] = {}
# The open connections that the modules of an area share. One connection leads to one vhost.
_sessions: dict[_Key, Amqp] = {}


class QueueError(Exception):
    """The broker rejected a request for one queue. ``kind`` is a key of ``_rabbitmq.KINDS``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Amqp:
    """A connection to one vhost. Every call ends with the deadline, or raises CannotConnect."""

    def __init__(self, options: Options, deadline: Deadline, vhost: str | None = None) -> None:
        self.vhost: str = options["vhost"] if vhost is None else vhost
        self._options = options
        self._deadline = deadline
        self.pika = require("pika")
        self._connection: Any = None
        self._channel: Any = None
        # Seconds that the current step was granted, and whether those are too few for a timeout to prove anything.
        self._granted = 0.0
        self._too_short = False

    def open(self) -> Amqp:
        """Connect and log in. Raise CannotConnect, at once if the same has failed before in this process."""
        key = _key(self._options, self.vhost)
        if key in _failures:
            raise _failures[key]
        # Without a handler, pika's log lines go to the standard error of the module.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        self._start_step(self._options["timeout"])
        try:
            self._connection = self.pika.BlockingConnection(self._parameters(self._granted))
        except (self.pika.exceptions.AMQPError, OSError, _workflow_errors(self.pika).AMQPConnectorException) as exc:
            failure = self._explain(exc)
            if not isinstance(failure, OutOfTime):
                _failures[key] = failure
            raise failure
        return self

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, as far as pika has noticed."""
        return self._connection is not None and self._connection.is_open

    def set_deadline(self, deadline: Deadline) -> Amqp:
        """Use the connection in another measurement, which has a deadline of its own."""
        self._deadline = deadline
        return self

    def _start_step(self, at_most: float | None = None) -> None:
        self._too_short = self._deadline.too_short(self._options["timeout"])
        self._granted = self._deadline.step(at_most)

    def _parameters(self, timeout: float) -> Any:
        options = self._options
        tls = self.pika.SSLOptions(tls_context(options), options["login_host"]) if options["amqp_tls"] else None
        return self.pika.ConnectionParameters(
            host=options["login_host"],
            port=options["amqp_port"],
            virtual_host=self.vhost,
            credentials=self.pika.PlainCredentials(options["login_user"] or "", options["login_password"] or ""),
            ssl_options=tls,
            connection_attempts=1,
            retry_delay=0,
            socket_timeout=timeout,
            stack_timeout=timeout,
            blocked_connection_timeout=options["timeout"],
            heartbeat=HEARTBEAT_SECONDS,
            client_properties={"connection_name": CLIENT_NAME},
        )

    @contextlib.contextmanager
    def bounded(self, seconds: float | None = None) -> Iterator[None]:
        """End the calls of the context after ``seconds`` (default: the rest of the deadline) with CannotConnect.

        pika's blocking calls have no timeout of their own, but they run its loop, where a timer can end them.
        """
        self._start_step(seconds)
        if not self.is_open:
            # The broker closed it in an earlier call: its loop has ended, too.
            raise self._network_failure(ConnectionResetError("the connection was closed"), [])
        loop = self._connection._impl.ioloop
        timer = loop.call_later(self._granted, _raise_timeout)
        try:
            yield
        except self.pika.exceptions.ChannelClosedByBroker as exc:
            self._channel = None
            # A durable queue whose node is down is "not found" as well.
            kind = "down" if "down or inaccessible" in exc.reply_text else _REPLY_CODES.get(exc.reply_code, "failed")
            raise QueueError(kind, exc.reply_text)
        except (self.pika.exceptions.AMQPError, OSError) as exc:
            raise self._explain(exc)
        finally:
            loop.remove_timeout(timer)

    def channel(self) -> Any:
        """Return the channel, a new one if the broker has closed the last."""
        if self._channel is None or not self._channel.is_open:
            with self.bounded(self._options["timeout"]):
                self._channel = self._connection.channel()
        return self._channel

    def declare_passive(self, queue: str) -> tuple[int, int]:
        """Return ``(ready messages, consumers)`` of an existing queue. Raise QueueError, CannotConnect."""
        channel = self.channel()
        with self.bounded(self._options["timeout"]):
            found = channel.queue_declare(queue, passive=True).method
        return found.message_count, found.consumer_count

    def close(self) -> None:
        """Close the connection with AMQP's handshake: without it, the broker logs a warning."""
        if self.is_open:
            # Also if the deadline has passed.
            self._deadline = Deadline(1.0)
            with contextlib.suppress(CannotConnect, QueueError), self.bounded():
                self._connection.close()

    def __enter__(self) -> Amqp:
        return self.open()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _explain(self, exc: BaseException) -> CannotConnect:
        """Return the failure for an exception that pika raised."""
        errors = self.pika.exceptions
        if isinstance(exc, errors.ConnectionBlockedTimeout):
            return self._failure("blocked", "an alarm of the broker blocks publishers")
        if isinstance(exc, (errors.NackError, errors.UnroutableError)):
            return self._failure("rejected", "the queue rejected a message")
        layers = list(_layers(exc))
        for error in layers:
            if isinstance(error, OSError):
                return self._network_failure(error, layers)
        message = cut(" ".join(str(arg) for arg in exc.args) or type(exc).__name__, 300)
        if isinstance(exc, (errors.ProbableAuthenticationError, errors.AuthenticationError)):
            return self._failure("authentication", message)
        if message.endswith('is down"'):
            return self._failure("vhost_down", message)
        if _LIMIT.search(message):
            return self._failure("too_many_connections", message)
        if isinstance(exc, errors.ProbableAccessDeniedError) or "NOT_ALLOWED" in message:
            if "not found" in message:
                return no_such_vhost(message, self._options)
            return no_permission(self._options, self.vhost, message)
        if any("Timeout" in type(error).__name__ for error in layers):
            return self._network_failure(socket.timeout("timed out"), layers)
        if isinstance(exc, (errors.IncompatibleProtocolError, errors.StreamLostError, errors.ConnectionClosed)):
            return self._network_failure(ConnectionResetError(message), layers)
        return CannotConnect("failed", message, READ_LOG)

    def _failure(self, kind: str, message: str) -> CannotConnect:
        return CannotConnect(kind, message, hint_for(kind, self._options, vhost=self.vhost))

    def _network_failure(self, exc: OSError, layers: list[BaseException]) -> CannotConnect:
        if self._too_short and is_timeout(exc):
            return OutOfTime(self._granted)
        connecting = _workflow_errors(self.pika).AMQPConnectorSocketConnectError
        connected = not any(isinstance(error, connecting) for error in layers)
        return connection_failure(exc, self._options, amqp=True, connected=connected)


def no_such_vhost(message: str, options: Options) -> CannotConnect:
    """Return the failure for a vhost that does not exist."""
    return CannotConnect("no_such_vhost", message, hint_for("no_such_vhost", options))


def no_permission(options: Options, vhost: str, message: str) -> CannotConnect:
    """Return the failure for a vhost in which the user has no permissions; those that match nothing are enough."""
    return CannotConnect("permission", message, "Grant permissions in it: `%s`" % grant_command(vhost, options))


def _key(options: Options, vhost: str) -> _Key:
    names = ("login_host", "amqp_port", "amqp_tls", "login_user", "login_password")
    return (vhost, *(options[name] for name in names))


def session(options: Options, deadline: Deadline, vhost: str | None = None) -> Amqp:
    """Return the connection to a vhost that the modules of this process share.

    Raise CannotConnect, MissingLibrary.
    """
    vhost = options["vhost"] if vhost is None else vhost
    key = _key(options, vhost)
    if key not in _sessions or not _sessions[key].is_open:
        _sessions[key] = Amqp(options, deadline, vhost).open()
        _at_end.at_end(_sessions[key].close)
    return _sessions[key].set_deadline(deadline)


@contextlib.contextmanager
def exact_headers(pika: Any) -> Iterator[None]:
    """Read and write tables of headers byte by byte while the context lasts: each that is read becomes a RawTable.

    pika knows fewer types than AMQP: it turns numbers of every width into two, and byte strings into others.
    """
    data = pika.data
    original = {name: getattr(data, name) for name in ("encode_table", "decode_table", "encode_value", "decode_value")}

    def decode_table(encoded: bytes, offset: int) -> tuple[RawTable, int]:
        end = offset + 4 + struct.unpack_from(">I", encoded, offset)[0]
        try:
            values = original["decode_table"](encoded, offset)[0]
        except (pika.exceptions.AMQPError, ValueError, struct.error):
            # A value that Python cannot represent, such as a timestamp after the year 9999.
            values = {}
        return RawTable(values, bytes(encoded[offset:end])), end

    def encode_table(pieces: list[bytes], table: Any) -> int:
        if not isinstance(table, RawTable):
            return original["encode_table"](pieces, table)
        pieces.append(table.raw)
        return len(table.raw)

    # pika truncates floating-point numbers to whole numbers when it reads them, and cannot write them.
    def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
        form = {b"f": ">f", b"d": ">d"}.get(bytes(encoded[offset : offset + 1]))
        if form is None:
            return original["decode_value"](encoded, offset)
        return struct.unpack_from(form, encoded, offset + 1)[0], offset + 1 + struct.calcsize(form)

    def encode_value(pieces: list[bytes], value: Any) -> int:
        if isinstance(value, float):
            pieces.append(struct.pack(">cd", b"d", value))
            return 9
        return original["encode_value"](pieces, value)

    data.decode_table, data.encode_table = decode_table, encode_table
    data.decode_value, data.encode_value = decode_value, encode_value
    try:
        yield
    finally:
        for name, function in original.items():
            setattr(data, name, function)


def _raise_timeout() -> NoReturn:
    raise socket.timeout("timed out")


def _workflow_errors(pika: Any) -> Any:
    # Not among pika.exceptions, but raised on a timeout of the handshake.
    return pika.adapters.utils.connection_workflow


def _layers(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it wraps: pika wraps an OSError in several layers."""
    layer = [exc]
    for _depth in range(5):
        yield from layer
        layer = [
            inner
            for error in layer
            for inner in [*error.args, getattr(error, "exception", None), error.__cause__]
            if isinstance(inner, BaseException)
        ]


def declare_passive(options: Options, deadline: Deadline, wanted: Iterable[QueueName]) -> dict[QueueName, Declared]:
    """Return the reply to a passive declare of each queue, which changes nothing.

    Raise CannotConnect if no vhost could be entered, and MissingLibrary.
    """
    wanted = list(wanted)
    found: dict[QueueName, Declared] = {}
    failure = None
    for vhost in sorted({vhost for vhost, _name in wanted}):
        names = [name for its_vhost, name in wanted if its_vhost == vhost]
        try:
            amqp = session(options, deadline, vhost)
            for name in names:
                found[(vhost, name)] = _declare(amqp, name)
        except CannotConnect as exc:
            if exc.kind not in ("permission", "no_such_vhost", "vhost_down"):
                raise
            failure = exc
            for name in names:
                found[(vhost, name)] = _not_declared(exc)
    if failure is not None and all(reply["error"] for reply in found.values()):
        raise failure
    return found


def _declare(amqp: Amqp, name: str) -> Declared:
    try:
        ready, consumers = amqp.declare_passive(name)
    except QueueError as exc:
        return _not_declared(exc)
    return {"ready": ready, "consumers": consumers, "error": None}


def _not_declared(exc: QueueError | CannotConnect) -> Declared:
    error: QueueProblem = {"kind": exc.kind, "message": cut(str(exc), 300)}
    return {"ready": None, "consumers": None, "error": error}
