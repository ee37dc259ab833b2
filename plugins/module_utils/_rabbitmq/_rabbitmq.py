# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How this collection talks to RabbitMQ's management API: options, one keep-alive connection, failures by kind.

Only the standard library is needed. Private to this collection.
"""

from __future__ import annotations

import base64
import errno
import http.client
import json
import re
import socket
import ssl
from urllib.parse import quote, urlencode

from ansible_collections.tracktion.ops.plugins.module_utils import _at_end
from ansible_collections.tracktion.ops.plugins.module_utils._bounded_socket import BoundedSocket, remaining_timeout
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    OutOfTime,
    cut,
)
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote

CONNECTION_SPEC = {
    "login_host": {"type": "str", "default": "localhost"},
    "login_port": {"type": "int", "default": 15672},
    "login_user": {"type": "str", "default": "guest"},
    "login_password": {"type": "str", "no_log": True},
    "login_protocol": {"type": "str", "choices": ["http", "https"], "default": "http"},
    "ca_cert": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "vhost": {"type": "str", "default": "/"},
    "amqp_port": {"type": "int", "default": 5672},
    "amqp_tls": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 3.0},
    "deadline": {"type": "float", "default": 15.0},
    "top": {"type": "int", "default": 20},
    "max_queues": {"type": "int", "default": 20000},
}

# The name of our connections. They are left out of every list and count.
CLIENT_NAME = "tracktion-ops"

# That a service did not answer within less than this, or than ``timeout``, says nothing about the service.
LEAST_SECONDS = 1.0

# With one of these tags a user sees the nodes, all connections and the names of all vhosts.
SEES_ALL = ("monitoring", "administrator")

# The list of 100,000 queues with the columns we ask for is about 10 MiB. A reply beyond this bound is cut off unread.
MAX_REPLY_BYTES = 32 * 1024 * 1024

# The overview, with what the server remembers of unroutable messages (5 minutes: the window of the usual alert rule).
OVERVIEW = {
    "msg_rates_age": 300,
    "msg_rates_incr": 10,
    "columns": "management_version,rabbitmq_version,erlang_version,cluster_name,rates_mode,disable_stats,listeners,"
    "message_stats,object_totals,queue_totals",
}


class ReplyError(Exception):
    """The API answered one request with something other than the data asked for. ``kind`` is a stable word."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Management:
    """A keep-alive connection to the management API, every read of which is held to a deadline.

    ``get()`` raises CannotConnect where the server does not answer (in time), ReplyError where it refuses the request.
    """

    def __init__(self, options):
        self.options = options
        self._connection = None
        self._patient = False
        self._remembered = {}
        self.deadline = None
        self.tags = frozenset()
        credentials = "%s:%s" % (options["login_user"] or "", options["login_password"] or "")
        self._headers = {
            "Accept": "application/json",
            "User-Agent": CLIENT_NAME,
            "Authorization": "Basic " + base64.b64encode(credentials.encode("utf-8")).decode("ascii"),
        }

    def remaining_timeout(self):
        """Seconds the next step on the wire may take; raises socket.timeout where none are left."""
        return remaining_timeout(self.deadline, None if self._patient else self.options["timeout"])

    @property
    def monitors(self):
        """Whether the user sees what belongs to the whole broker, and not only its own vhosts and connections."""
        return not self.tags.isdisjoint(SEES_ALL)

    @property
    def administers(self):
        """Whether the user sees everything in every vhost, whatever its permissions."""
        return "administrator" in self.tags

    def get(self, *path, **query):
        """The JSON reply to ``GET /api/<path>``; every element of ``path`` is percent-encoded."""
        granted = self.deadline.remaining()
        if granted <= 0:
            raise OutOfTime(granted)
        target = "/api/" + "/".join(quote(element, safe="") for element in path)
        if query:
            target += "?" + urlencode(query)
        try:
            return self._exchange(target)
        except ReplyError as exc:
            if exc.kind == "too_large":
                # What has not been read would be taken for the next reply.
                self.close()
            raise
        except OutOfTime:
            self.close()
            raise
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            if is_timeout(exc) and granted < fair_seconds(self.options):
                raise OutOfTime(granted)
            raise explain(exc, self.options)

    def get_long(self, *path, **query):
        """As get(), for the lists that take a big broker seconds: only the deadline bounds it."""
        self._patient = True
        try:
            return self.get(*path, **query)
        finally:
            self._patient = False

    def remember(self, name, read):
        """What ``read()`` returned the first time: the modules of one area look at the same list of queues."""
        if name not in self._remembered:
            self._remembered[name] = read()
        return self._remembered[name]

    def forget(self):
        """Read anew from here on."""
        self._remembered.clear()

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, target):
        # A server may close an idle connection at any time; only a connection that has served before is tried twice.
        for attempt in (1, 2):
            reused = self._connection is not None
            if not reused:
                self._connection = _connection(self.options, self)
            try:
                self._connection.request("GET", target, headers=self._headers)
                response = self._connection.getresponse()
                break
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self.close()
                if not reused or attempt == 2:
                    raise
        body = response.read(MAX_REPLY_BYTES + 1)
        if len(body) > MAX_REPLY_BYTES:
            raise ReplyError("too_large", "the reply is larger than %d bytes" % MAX_REPLY_BYTES)
        return _decoded(response, body)


def _decoded(response, body):
    """The JSON of a reply; raises ReplyError for every status but 200."""
    try:
        reply = json.loads(body.decode("utf-8"))
    except ValueError:
        reply = None
    if response.status == 200 and reply is not None:
        return reply
    reason = reply.get("reason") if isinstance(reply, dict) else None
    said = cut("HTTP %d: %s" % (response.status, reason or response.reason or "no reason given"), 300)
    if response.status == 404 and isinstance(reply, dict):
        raise ReplyError("not_found", said)
    if response.status in (401, 403):
        if reason and "localhost" in str(reason):
            raise ReplyError("loopback_only", said)
        # Wrong credentials: "Not_Authorized" (4.0) or "Login failed" (3.10). A user who may log in but lacks a tag or a
        # right: "Not management user", "Not monitor user", "User not authorised to access virtual host".
        raise ReplyError("permission" if str(reason).startswith(("Not ", "User ")) else "authentication", said)
    if response.status >= 500:
        raise ReplyError("server_error", said)
    raise ReplyError("protocol", said + " (is this RabbitMQ's management API?)")


def _connection(options, owner):
    if options["login_protocol"] == "https":
        connection = _BoundedHTTPSConnection(options["login_host"], options["login_port"], context=tls_context(options))
    else:
        connection = _BoundedHTTPConnection(options["login_host"], options["login_port"])
    connection.owner = owner
    return connection


class _Bounded:
    """An HTTP connection whose connect, writes and reads each get what is left of the deadline."""

    owner = None

    def connect(self):
        self.timeout = self.owner.remaining_timeout()
        super().connect()
        self.sock = BoundedSocket(self.sock, self.owner.remaining_timeout)


class _BoundedHTTPConnection(_Bounded, http.client.HTTPConnection):
    pass


class _BoundedHTTPSConnection(_Bounded, http.client.HTTPSConnection):
    pass


def tls_context(options):
    """The TLS context of both protocols, from ca_cert, client_cert, client_key and validate_certs."""
    try:
        context = ssl.create_default_context(cafile=options["ca_cert"])
        if not options["validate_certs"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if options["client_cert"]:
            context.load_cert_chain(options["client_cert"], options["client_key"])
    except (OSError, ssl.SSLError) as exc:
        raise BadOption(
            "ca_cert, client_cert or client_key cannot be loaded: %s" % exc, hint="name files that the host can read"
        )
    return context


def is_timeout(exc):
    """Whether an exception means that nothing came in time."""
    return isinstance(exc, (socket.timeout, TimeoutError)) or getattr(exc, "errno", None) == errno.ETIMEDOUT


def fair_seconds(options):
    """Seconds that a step must have been granted for its timeout to say something about the service."""
    return min(LEAST_SECONDS, options["timeout"])


def explain(exc, options, port_option="login_port"):
    """The CannotConnect for a failure on the wire: what happened, which options to look at, the next step."""
    where = "%s port %d" % (options["login_host"], options[port_option])
    amqp = port_option == "amqp_port"
    service = "AMQP" if amqp else "the management API"
    serve = "is the broker up?" if amqp else "is its plugin on (`rabbitmq-plugins enable rabbitmq_management`)?"

    def cannot(kind, message, hint):
        return CannotConnect(kind, message, hint)

    if isinstance(exc, socket.gaierror):
        return cannot(
            "name_resolution",
            "login_host %s cannot be resolved: %s" % (options["login_host"], exc.strerror),
            "check login_host",
        )
    if isinstance(exc, ssl.SSLError):
        tls = "amqp_tls" if amqp else "login_protocol"
        return cannot(
            "tls",
            "TLS with %s failed: %s" % (where, getattr(exc, "reason", None) or exc),
            "check %s and %s, ca_cert (which must name the server's CA), client_cert and validate_certs"
            % (port_option, tls),
        )
    if is_timeout(exc):
        return cannot(
            "timeout",
            "%s at %s did not answer in time (timeout %g s, deadline %g s)"
            % (service, where, options["timeout"], options["deadline"]),
            "check login_host and %s, packet filters, and whether the broker hangs or is starting" % port_option,
        )
    if isinstance(exc, ConnectionRefusedError):
        return cannot("refused", "nothing listens at %s" % where, "check login_host and %s; %s" % (port_option, serve))
    if isinstance(exc, (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead)):
        return cannot(
            "closed",
            "%s at %s closed the connection" % (service, where),
            # A port that Docker publishes is open as long as the container runs, whatever runs in it.
            "check %s; %s It may be starting or stopping: look at the broker's log" % (port_option, serve),
        )
    if isinstance(exc, http.client.HTTPException):
        return cannot(
            "protocol",
            "%s does not speak HTTP: %s" % (where, cut(str(exc), 80)),
            "check login_port (the management API listens at 15672) and login_protocol",
        )
    return cannot(
        "unreachable", "%s cannot be reached: %s" % (where, exc), "check login_host, routes and packet filters"
    )


_CURES = {
    "authentication": "Check login_user and login_password; the users are listed by `rabbitmqctl list_users`",
    "loopback_only": "Create another user and set login_user: guest may log in from the broker's own machine only",
    "permission": "Give the user the tag: `%(rabbitmqctl)s set_user_tags -- %(user)s%(tags)s monitoring`",
    "server_error": "Look at the broker's log; it may be starting",
    "protocol": "Check login_host and login_port (the management API listens at 15672)",
    "too_large": "Check login_port: this is not RabbitMQ's management API",
    "not_found": "Check login_port: this is not RabbitMQ's management API",
    "too_many": "Raise max_queues, and timeout and deadline with it",
}


def hint_for(kind, options, tags=()):
    """The hint for a kind of failure. ``tags`` are those that the user has, which a new list of tags must keep."""
    kept = "".join(" " + shell_quote(tag) for tag in sorted(tags))
    user = options["login_user"] or ""
    return _CURES[kind] % {"rabbitmqctl": rabbitmqctl(user, *tags), "user": shell_quote(user), "tags": kept}


def hint_of(exc, options):
    """The hint for a failed request, or null."""
    return hint_for(exc.kind, options) if isinstance(exc, ReplyError) else exc.hint


def needs_tag(client, options):
    """``(reason, hint)`` for what only a user with the tag ``monitoring`` is told."""
    tags = ", ".join(sorted(client.tags)) or "none"
    return (
        "the user %s does not have the tag monitoring (its tags: %s)" % (options["login_user"], tags),
        hint_for("permission", options, client.tags),
    )


# What a shell evaluates between double quotes, and what the script above loses.
EVALUATED = re.compile(r"[$`\\\n]")
# Vhosts named in one hint.
MOST_NAMED = 5


def needs_permissions(vhosts, options):
    """``(reason, hint)`` for what is hidden in these vhosts. Permissions that match nothing are enough to look."""
    named = ["`%s`" % grant(vhost, options) for vhost in vhosts[:MOST_NAMED]]
    more = len(vhosts) - len(named)
    names = ", ".join(cut(vhost, 40) for vhost in vhosts[:MOST_NAMED]) + (" and %d more" % more if more else "")
    return (
        "the user %s has no permissions in vhost %s" % (options["login_user"], names),
        "Grant permissions that match nothing: %s%s"
        % (", ".join(named), ", and so on for %d more vhosts" % more if more else ""),
    )


def grant(vhost, options):
    """The command that lets the user look into a vhost and change nothing there."""
    user = options["login_user"] or ""
    words = (rabbitmqctl(vhost, user), shell_quote(vhost), shell_quote(user))
    return "%s set_permissions --vhost=%s -- %s '^$' '^$' '^$'" % words


def rabbitmqctl(*names):
    """How to call rabbitmqctl with these names among its arguments.

    As root, the script of Debian's and RabbitMQ's packages hands them to a second shell, between double quotes.
    """
    return "runuser -u rabbitmq -- rabbitmqctl" if any(EVALUATED.search(name) for name in names) else "rabbitmqctl"


# A process measures one area: its modules share the connection, or the news that there is none.
_sessions = {}


def management(options, deadline):
    """The connected client of these options, its ``overview`` read. Raises CannotConnect, also when asked again."""
    key = tuple(
        sorted((name, options[name]) for name in CONNECTION_SPEC if name not in ("deadline", "top", "max_queues"))
    )
    known = _sessions.get(key)
    if known is None:
        known = _connect(options, deadline)
        if not isinstance(known, OutOfTime):
            _sessions[key] = known
    if isinstance(known, CannotConnect):
        raise known
    known.deadline = deadline
    return known


def _connect(options, deadline):
    client = Management(options)
    client.deadline = deadline
    _at_end.at_end(client.close)
    try:
        client.overview = client.get("overview", **OVERVIEW)
        if not isinstance(client.overview, dict) or "management_version" not in client.overview:
            raise ReplyError("protocol", "the reply to /api/overview is not RabbitMQ's")
        client.tags = _tags(client.get("whoami"))
        return client
    except ReplyError as exc:
        return CannotConnect(
            exc.kind,
            "the management API at %s port %d: %s" % (options["login_host"], options["login_port"], exc),
            hint_of(exc, options),
        )
    except CannotConnect as exc:
        return exc


def _tags(reply):
    """The tags in the reply to /api/whoami: a list, or a text with commas before RabbitMQ 3.9."""
    tags = reply.get("tags") if isinstance(reply, dict) else None
    if isinstance(tags, str):
        tags = tags.split(",")
    return frozenset(str(tag) for tag in tags or () if tag)


def check_options(options):
    """Options that no type can check. Raises BadOption naming the option."""
    for name in ("timeout", "deadline"):
        if not options[name] > 0:
            raise BadOption("%s: must be above 0 seconds, got %s" % (name, options[name]), hint="set %s" % name)
    if options["top"] < 1:
        raise BadOption("top: must be at least 1, got %s" % options["top"], hint="set top")
    for name in ("login_port", "amqp_port"):
        if not 0 < options[name] < 65536:
            raise BadOption("%s: must be a port number, got %s" % (name, options[name]), hint="set %s" % name)
    if options["client_key"] and not options["client_cert"]:
        raise BadOption("client_key: needs client_cert", hint="set client_cert")


def started(options):
    """The deadline of a measurement that starts now, its options checked."""
    check_options(options)
    return Deadline(options["deadline"])
