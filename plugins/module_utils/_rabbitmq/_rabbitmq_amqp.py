# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How this collection talks AMQP 0-9-1: one vhost, calls bounded in time, failures by kind. Private to this collection.

The library is pika. Only passive declares are made when measuring: they change nothing on any version of the broker.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct

from ansible_collections.tracktion.ops.plugins.module_utils import _at_end
from ansible_collections.tracktion.ops.plugins.module_utils._libraries import require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, OutOfTime, cut
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import (
    CLIENT_NAME,
    explain,
    fair_seconds,
    grant,
    hint_for,
    is_timeout,
    rabbitmqctl,
    tls_context,
)

# pika answers heartbeats only while it is called: long enough for a file to be written and synced between two calls.
HEARTBEAT_SECONDS = 60

# AMQP reply codes that a declare or a get of one queue can be refused with.
_REFUSED = {403: "permission", 404: "not_found", 405: "exclusive", 406: "precondition_failed", 540: "not_supported"}

# The first failure to connect, by options: the second module of an area does not wait for it again.
_failures = {}
# The open connections that the modules of an area share, by options. One connection leads to one vhost.
_sessions = {}


class QueueError(Exception):
    """The broker refused to tell about one queue. ``kind``: not_found, exclusive, permission, ..."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Amqp:
    """A connection to one vhost. Everything it does on the wire ends with the deadline, or raises CannotConnect."""

    def __init__(self, options, deadline, vhost=None):
        self.vhost = options["vhost"] if vhost is None else vhost
        self._options = options
        self._deadline = deadline
        self.pika = require("pika")
        self._connection = None
        self._channel = None
        self._granted = 0.0

    def open(self):
        """Connect and log in. Raises CannotConnect; at once where the same has failed before in this process."""
        key = _key(self._options, self.vhost)
        if key in _failures:
            raise _failures[key]
        # Without a handler, pika's log lines would end up on a module's standard error.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        self._granted = self._deadline.step(self._options["timeout"])
        try:
            self._connection = self.pika.BlockingConnection(self._parameters(self._granted))
        except (self.pika.exceptions.AMQPError, OSError, _workflow_error(self.pika)) as exc:
            failure = self._explained(exc)
            if not isinstance(failure, OutOfTime):
                _failures[key] = failure
            raise failure
        return self

    @property
    def is_open(self):
        return self._connection is not None and self._connection.is_open

    def go_on(self, deadline):
        """Use the connection in another measurement, which has a deadline of its own."""
        self._deadline = deadline
        return self

    def _parameters(self, patience):
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
            socket_timeout=patience,
            stack_timeout=patience,
            blocked_connection_timeout=options["timeout"],
            heartbeat=HEARTBEAT_SECONDS,
            client_properties={"connection_name": CLIENT_NAME},
        )

    @contextlib.contextmanager
    def bounded(self, seconds=None):
        """Calls made inside end after ``seconds`` (default: the rest of the deadline), as CannotConnect.

        pika's blocking calls have no timeout of their own, but they run its loop, where a timer can end them.
        """
        self._granted = self._deadline.remaining(seconds)
        if self._granted <= 0:
            raise OutOfTime(0.0)
        loop = self._connection._impl.ioloop
        timer = loop.call_later(self._granted, _time_is_up)
        try:
            yield
        except self.pika.exceptions.ChannelClosedByBroker as exc:
            self._channel = None
            # A durable queue whose node is away is "not found" as well.
            kind = "down" if "down or inaccessible" in exc.reply_text else _REFUSED.get(exc.reply_code, "refused")
            raise QueueError(kind, exc.reply_text)
        except (self.pika.exceptions.AMQPError, OSError) as exc:
            raise self._explained(exc)
        finally:
            loop.remove_timeout(timer)

    def channel(self):
        """The channel; a new one where the broker has closed the last."""
        if self._channel is None or not self._channel.is_open:
            with self.bounded(self._options["timeout"]):
                self._channel = self._connection.channel()
        return self._channel

    def declare_passive(self, queue):
        """``(ready messages, consumers)`` of a queue that exists. Raises QueueError, CannotConnect."""
        channel = self.channel()
        with self.bounded(self._options["timeout"]):
            found = channel.queue_declare(queue, passive=True).method
        return found.message_count, found.consumer_count

    def close(self):
        """Say goodbye, so that the broker's log does not complain about a client that vanished."""
        if self.is_open:
            # Also where the deadline is spent.
            self._deadline = Deadline(1.0)
            with contextlib.suppress(CannotConnect, QueueError), self.bounded():
                self._connection.close()

    def __enter__(self):
        return self.open()

    def __exit__(self, *exc_info):
        self.close()

    def _explained(self, exc):
        """The CannotConnect for whatever pika raised."""
        errors = self.pika.exceptions
        on_the_wire = _operating_system_error(exc)
        if isinstance(exc, errors.ConnectionBlockedTimeout):
            return CannotConnect(
                "blocked", "the broker blocks publishers", "clear the memory or disk alarm first (`rabbitmqctl status`)"
            )
        if isinstance(exc, (errors.NackError, errors.UnroutableError)):
            return CannotConnect(
                "rejected", "the queue did not take a message", "look at max-length and overflow of the queue"
            )
        if on_the_wire is not None:
            return self._on_the_wire(on_the_wire)
        said = cut(" ".join(str(arg) for arg in exc.args) or type(exc).__name__, 300)
        if isinstance(exc, (errors.ProbableAuthenticationError, errors.AuthenticationError)):
            return CannotConnect("authentication", said, hint_for("authentication", self._options))
        if said.endswith('is down"'):
            restart = "%s restart_vhost --vhost=%s" % (rabbitmqctl(self.vhost), shell_quote(self.vhost))
            return CannotConnect("vhost_down", said, "Look at the broker's log, then: `%s`" % restart)
        if isinstance(exc, errors.ProbableAccessDeniedError) or "NOT_ALLOWED" in said:
            if "not found" in said:
                return no_such_vhost(said)
            return no_permission(self._options, self.vhost, said)
        if "Timeout" in type(exc).__name__:
            return self._on_the_wire(socket.timeout("timed out"))
        if isinstance(exc, (errors.IncompatibleProtocolError, errors.StreamLostError, errors.ConnectionClosed)):
            return self._on_the_wire(ConnectionResetError(said))
        return CannotConnect("failed", said, "look at the broker's log")

    def _on_the_wire(self, exc):
        if is_timeout(exc) and self._granted < fair_seconds(self._options):
            return OutOfTime(self._granted)
        return explain(exc, self._options, "amqp_port")


def no_such_vhost(said):
    """The failure to enter a vhost that does not exist."""
    return CannotConnect("no_such_vhost", said, "check vhost; the vhosts are listed by `rabbitmqctl list_vhosts`")


def no_permission(options, vhost, said):
    """The failure to enter a vhost without permissions in it; those that match nothing are enough."""
    return CannotConnect("permission", said, "Grant permissions in it: `%s`" % grant(vhost, options))


def _key(options, vhost):
    names = ("login_host", "amqp_port", "amqp_tls", "login_user", "login_password")
    return (vhost, *(options[name] for name in names))


def session(options, deadline, vhost=None):
    """The connection to a vhost that the modules of this process share. Raises CannotConnect, MissingLibrary."""
    vhost = options["vhost"] if vhost is None else vhost
    key = _key(options, vhost)
    if key not in _sessions or not _sessions[key].is_open:
        _sessions[key] = Amqp(options, deadline, vhost).open()
        _at_end.at_end(_sessions[key].close)
    return _sessions[key].go_on(deadline)


@contextlib.contextmanager
def exact_floats(pika):
    """As long as the context lasts, floating-point numbers in headers stay what they are.

    pika by itself cuts them down to whole numbers when it reads them, and cannot write them.
    """
    encode, decode = pika.data.encode_value, pika.data.decode_value

    def encode_value(pieces, value):
        if isinstance(value, float):
            pieces.append(struct.pack(">cd", b"d", value))
            return 9
        return encode(pieces, value)

    def decode_value(encoded, offset):
        form = {b"f": ">f", b"d": ">d"}.get(bytes(encoded[offset : offset + 1]))
        if form is None:
            return decode(encoded, offset)
        return struct.unpack_from(form, encoded, offset + 1)[0], offset + 1 + struct.calcsize(form)

    pika.data.encode_value, pika.data.decode_value = encode_value, decode_value
    try:
        yield
    finally:
        pika.data.encode_value, pika.data.decode_value = encode, decode


def _time_is_up():
    raise socket.timeout("timed out")


def _workflow_error(pika):
    # Not among pika.exceptions, though it is what a time-out of the handshake raises.
    return pika.adapters.utils.connection_workflow.AMQPConnectorException


def _operating_system_error(exc):
    """The OSError inside what pika raised, or None: it wraps them in several layers of exceptions."""
    layer = [exc]
    for _depth in range(5):
        for error in layer:
            if isinstance(error, OSError):
                return error
        layer = [
            inner
            for error in layer
            for inner in list(getattr(error, "args", ())) + [getattr(error, "exception", None), error.__cause__]
            if isinstance(inner, BaseException)
        ]
    return None


def declare_passive(options, deadline, wanted):
    """What AMQP alone tells about named queues, which changes nothing.

    ``wanted`` is a list of ``(vhost, name)``. Returns ``{(vhost, name): {"ready", "consumers", "error"}}``, where
    ``error`` is null or ``{kind, message}``. Raises CannotConnect where no vhost could be entered, and MissingLibrary.
    """
    found = {}
    failure = None
    for vhost in sorted({vhost for vhost, _name in wanted}):
        names = [name for its_vhost, name in wanted if its_vhost == vhost]
        try:
            amqp = session(options, deadline, vhost)
            for name in names:
                found[(vhost, name)] = _declared(amqp, name)
        except CannotConnect as exc:
            if exc.kind not in ("permission", "no_such_vhost", "vhost_down"):
                raise
            failure = exc
            for name in names:
                found[(vhost, name)] = _not_told(exc)
    if failure is not None and all(answer["error"] for answer in found.values()):
        raise failure
    return found


def _declared(amqp, name):
    try:
        ready, consumers = amqp.declare_passive(name)
    except QueueError as exc:
        return _not_told(exc)
    return {"ready": ready, "consumers": consumers, "error": None}


def _not_told(exc):
    return {"ready": None, "consumers": None, "error": {"kind": exc.kind, "message": cut(str(exc), 300)}}
