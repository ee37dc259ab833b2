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

from ansible_collections.tracktion.ops.plugins.module_utils._libraries import require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, cut
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import explain, tls_context

# pika answers heartbeats only while it is called: long enough for a file to be written and synced between two calls.
HEARTBEAT_SECONDS = 60

# AMQP reply codes that a declare or a get of one queue can be refused with.
_REFUSED = {403: "permission", 404: "not_found", 405: "exclusive", 406: "precondition_failed", 540: "not_supported"}

# The first failure to connect, by options: the second module of an area does not wait for it again.
_failures = {}


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

    def open(self):
        """Connect and log in. Raises CannotConnect; at once where the same has failed before in this process."""
        key = (self.vhost,) + tuple(
            self._options[name] for name in ("login_host", "amqp_port", "amqp_tls", "login_user", "login_password")
        )
        if key in _failures:
            raise _failures[key]
        # Without a handler, pika's log lines would end up on a module's standard error.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        patience = self._deadline.step(self._options["timeout"])
        try:
            self._connection = self.pika.BlockingConnection(self._parameters(patience))
        except (self.pika.exceptions.AMQPError, OSError, _workflow_error(self.pika)) as exc:
            _failures[key] = self._explained(exc)
            raise _failures[key]
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
            client_properties={"connection_name": "tracktion.ops"},
        )

    @contextlib.contextmanager
    def bounded(self, seconds=None):
        """Calls made inside end after ``seconds`` (default: the rest of the deadline), as CannotConnect.

        pika's blocking calls have no timeout of their own, but they run its loop, where a timer can end them.
        """
        loop = self._connection._impl.ioloop
        timer = loop.call_later(self._deadline.remaining(seconds), _time_is_up)
        try:
            yield
        except self.pika.exceptions.ChannelClosedByBroker as exc:
            self._channel = None
            raise QueueError(_REFUSED.get(exc.reply_code, "refused"), exc.reply_text)
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
        if self._connection is not None and self._connection.is_open:
            with contextlib.suppress(CannotConnect, QueueError), self.bounded(1.0):
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
                "blocked", "the broker blocks publishers", "clear the memory or disk alarm first (rabbitmqctl status)"
            )
        if isinstance(exc, (errors.NackError, errors.UnroutableError)):
            return CannotConnect(
                "rejected", "the queue did not take a message", "look at max-length and overflow of the queue"
            )
        if on_the_wire is not None:
            return explain(on_the_wire, self._options, "amqp_port")
        said = cut(" ".join(str(arg) for arg in exc.args) or type(exc).__name__, 300)
        if isinstance(exc, (errors.ProbableAuthenticationError, errors.AuthenticationError)):
            return CannotConnect("authentication", said, "check login_user and login_password")
        if said.endswith('is down"'):
            return CannotConnect("vhost_down", said, "rabbitmqctl restart_vhost -p <vhost>, after a look at the log")
        if isinstance(exc, errors.ProbableAccessDeniedError) or "NOT_ALLOWED" in said:
            if "not found" in said:
                return CannotConnect("no_such_vhost", said, "check vhost (rabbitmqctl list_vhosts)")
            return CannotConnect(
                "permission", said, "rabbitmqctl set_permissions -p <vhost> <login_user> <configure> <write> <read>"
            )
        if "Timeout" in type(exc).__name__:
            return explain(socket.timeout("timed out"), self._options, "amqp_port")
        if isinstance(exc, (errors.IncompatibleProtocolError, errors.StreamLostError, errors.ConnectionClosed)):
            return explain(ConnectionResetError(said), self._options, "amqp_port")
        return CannotConnect("failed", said, "look at the broker's log")


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
            with Amqp(options, deadline, vhost) as amqp:
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
