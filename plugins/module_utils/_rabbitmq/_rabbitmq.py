# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Client of RabbitMQ's management API: options, one keep-alive connection, failures by kind.

Needs only the standard library. Private to this collection.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
from typing import Any, Callable, Iterable, NamedTuple
from urllib.parse import quote, urlencode

from ansible_collections.tracktion.ops.plugins.module_utils import _at_end, _failures
from ansible_collections.tracktion.ops.plugins.module_utils._bounded_socket import BoundedSocket, remaining_timeout
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    OutOfTime,
    cut,
)
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

CONNECTION_SPEC: dict[str, dict[str, Any]] = {
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

# The name of this collection's connections. They are left out of every list and count.
CLIENT_NAME = "tracktion-ops"

# A user with one of these tags sees the nodes, all connections and the names of all vhosts.
MONITOR_TAGS = ("monitoring", "administrator")

# The list of 100,000 queues with the requested columns is about 10 MiB. A longer reply is not read to its end.
MAX_REPLY_BYTES = 32 * 1024 * 1024

# The overview, with the counters of unroutable messages (5 minutes: the window of the usual alert rule).
OVERVIEW: dict[str, Any] = {
    "msg_rates_age": 300,
    "msg_rates_incr": 10,
    "columns": "management_version,rabbitmq_version,erlang_version,cluster_name,rates_mode,disable_stats,listeners,"
    "message_stats,object_totals,queue_totals",
}

ENABLE_PLUGIN = "Enable its plugin: `rabbitmq-plugins enable rabbitmq_management`."
_TLS_FILES = "`ca_cert`, `client_cert` and `validate_certs`"
_START = "systemctl start rabbitmq-server"
_LOG = "tail -n 50 /var/log/rabbitmq/*.log"
_PROCESSES = "-C beam.smp"
READ_LOG = "Read the log of RabbitMQ: `docker logs --tail 50 CONTAINER` or `%s`." % _LOG
API = _failures.Service(
    name="RabbitMQ's management API",
    address="`login_host` and `login_port`",
    credentials="`login_user` and `login_password`",
    tls="`login_port`, `login_protocol`, " + _TLS_FILES,
    start=_START,
    log=_LOG,
    processes=_PROCESSES,
)
AMQP = _failures.Service(
    name="RabbitMQ",
    address="`login_host` and `amqp_port`",
    credentials="`login_user` and `login_password`",
    tls="`amqp_port`, `amqp_tls`, " + _TLS_FILES,
    start=_START,
    log=_LOG,
    processes=_PROCESSES,
)


class Kind(NamedTuple):
    """What a kind of failure means, and its hint with the placeholders of ``hint_for()``."""

    meaning: str
    hint: str


# Kinds that only RabbitMQ has, and those of ``_failures.KINDS`` that have a hint of their own here.
KINDS = {
    "authentication": Kind(
        "the user or the password is wrong",
        _failures.hint("authentication", API) + " List the users: `rabbitmqctl list_users`.",
    ),
    "permission": Kind(
        "the user lacks the tag monitoring",
        "Give the user the tag: `%(rabbitmqctl)s set_user_tags -- %(user)s%(tags)s monitoring`",
    ),
    "loopback_only": Kind(
        "the user may log in from the machine of the broker only",
        "Create another user: `rabbitmqctl add_user NAME`, and set `login_user` and `login_password`. The user guest "
        "can log in from the machine of the broker only.",
    ),
    "protocol": Kind(
        "the reply is not one of the management API",
        "Correct `login_host` and `login_port`: the management API listens at port 15672 by default. Show its port: "
        "`rabbitmq-diagnostics listeners`.",
    ),
    "too_large": Kind(
        "the reply is larger than any of the management API",
        "Correct `login_host` and `login_port`: the management API does not send such a reply. Show its port: "
        "`rabbitmq-diagnostics listeners`.",
    ),
    "failed": Kind("the API failed (HTTP 5xx)", READ_LOG + " It may be starting."),
    "too_many": Kind(
        "the broker has more than max_queues queues", "Raise `max_queues`, and `timeout` and `deadline` too."
    ),
    "no_such_vhost": Kind("the vhost does not exist", "Correct `vhost`. List the vhosts: `rabbitmqctl list_vhosts`."),
    "too_many_connections": Kind(
        "a limit of the vhost, the user or the node is reached",
        "Find the client that opens connections or channels and does not close them, or raise the limit. "
        "List the limits: `%(rabbitmqctl)s list_vhost_limits --vhost=%(vhost)s`, "
        "`%(rabbitmqctl)s list_user_limits --user=%(user)s`",
    ),
    "vhost_down": Kind(
        "the vhost does not run",
        READ_LOG + " Then restart the vhost: `%(rabbitmqctl)s restart_vhost --vhost=%(vhost)s`",
    ),
    "not_found": Kind(
        "the queue does not exist",
        "Correct `name` and `vhost`. List the queues: `%(rabbitmqctl)s list_queues --vhost=%(vhost)s name`.",
    ),
    "exclusive": Kind(
        "the queue belongs to the connection that declared it",
        "Leave the queue to its owner: no other connection can use an exclusive queue. Show its owner: "
        "`%(rabbitmqctl)s list_queues --vhost=%(vhost)s name owner_pid`.",
    ),
    "down": Kind(
        "the node that holds the queue is down",
        "Start the node that holds the queue. List the nodes: `rabbitmqctl cluster_status`.",
    ),
    "precondition_failed": Kind("the queue has other properties", READ_LOG),
    "not_supported": Kind(
        "the type of the queue does not support the operation",
        "Set a retention instead: `%(rabbitmqctl)s set_policy --vhost=%(vhost)s --apply-to queues NAME PATTERN "
        '\'{"max-age": "7D"}\'`. A stream keeps its messages.',
    ),
    "blocked": Kind("an alarm blocks publishers", "Clear the memory or disk alarm first: `rabbitmqctl status`."),
    "rejected": Kind(
        "the queue rejected a message",
        "Check max-length and overflow: `%(rabbitmqctl)s list_queues --vhost=%(vhost)s name arguments policy`.",
    ),
}


class ReplyError(Exception):
    """The API replied to one request with something other than the data. ``kind`` is a key of ``KINDS``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Management:
    """A keep-alive connection to the management API; the deadline bounds every read.

    ``overview`` is the reply to /api/overview, ``tags`` are those of the user; ``management()`` fills both.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.overview: Part = {}
        self.tags: frozenset[str] = frozenset()
        self.deadline = Deadline(0.0)
        self._connection: _BoundedConnection | None = None
        # Whether the deadline alone bounds the request.
        self._long = False
        self._cache: dict[object, Any] = {}
        credentials = "%s:%s" % (options["login_user"] or "", options["login_password"] or "")
        self._headers = {
            "Accept": "application/json",
            "User-Agent": CLIENT_NAME,
            "Authorization": "Basic " + base64.b64encode(credentials.encode("utf-8")).decode("ascii"),
        }

    def remaining_timeout(self) -> float:
        """Return the seconds for the next connect, write or read. Raise socket.timeout if none are left."""
        return remaining_timeout(self.deadline, None if self._long else self.options["timeout"])

    @property
    def is_monitor(self) -> bool:
        """Whether the user sees the whole broker, and not only its own vhosts and connections."""
        return not self.tags.isdisjoint(MONITOR_TAGS)

    @property
    def is_administrator(self) -> bool:
        """Whether the user sees everything in every vhost, whatever its permissions."""
        return "administrator" in self.tags

    def get(self, *path: str, **query: Any) -> Any:
        """Return the JSON reply to ``GET /api/<path>``; every element of ``path`` is percent-encoded.

        Raise CannotConnect if the server does not answer in time, ReplyError if it rejects the request.
        """
        too_short = self.deadline.too_short(self.options["timeout"])
        left = self.deadline.step()
        target = _target(path)
        if query:
            target += "?" + urlencode(query)
        try:
            return self._exchange(target)
        except ReplyError as exc:
            if exc.kind == "too_large":
                # The unread rest would be taken for the next reply.
                self.close()
            raise
        except (OSError, http.client.HTTPException) as exc:
            connected = self._connection is not None and self._connection.connected
            self.close()
            if too_short and is_timeout(exc):
                raise OutOfTime(left)
            raise connection_failure(exc, self.options, connected=connected)

    def get_long(self, *path: str, **query: Any) -> Any:
        """Return the same as ``get()``, bounded by the deadline only: some lists take a big broker seconds."""
        self._long = True
        try:
            return self.get(*path, **query)
        finally:
            self._long = False

    def post_long(self, document: Any, *path: str) -> None:
        """Send JSON to ``/api/<path>``, once, bounded by the deadline only. Raise the same as ``get()``."""
        self._change("POST", _target(path), json.dumps(document).encode("utf-8"))

    def put_long(self, document: Any, *path: str) -> None:
        """Put JSON at ``/api/<path>``, once, bounded by the deadline only. Raise the same as ``get()``."""
        self._change("PUT", _target(path), json.dumps(document).encode("utf-8"))

    def delete(self, *path: str, **query: Any) -> None:
        """Send ``DELETE /api/<path>``, once, bounded by the deadline only. Raise the same as ``get()``."""
        self._change("DELETE", _target(path) + ("?" + urlencode(query) if query else ""), None)

    def _change(self, method: str, target: str, body: bytes | None) -> None:
        self.deadline.step()
        self.close()
        self._long = True
        try:
            connection = self._connection = _connection(self.options, self.remaining_timeout)
            # Some resources have no representation in JSON, and answer 406 if that is asked for.
            kinds = {"Accept": "*/*"} if body is None else {"Content-Type": "application/json"}
            connection.request(method, target, body=body, headers=dict(self._headers, **kinds))
            response = connection.getresponse()
            text = response.read(MAX_REPLY_BYTES)
            if response.status == 400:
                # What is asked for is not possible: the reason is in the reply.
                raise ReplyError("failed", cut("HTTP 400: %s" % text.decode("utf-8", "replace"), 500))
            if not 200 <= response.status < 300:
                _decode(response, text)
        except (OSError, http.client.HTTPException) as exc:
            connected = self._connection is not None and self._connection.connected
            raise connection_failure(exc, self.options, connected=connected)
        finally:
            self._long = False
            self.close()

    def cached(self, name: object, read: Callable[[], Any]) -> Any:
        """Return what ``read()`` returned the first time: the modules of one area use the same list of queues."""
        if name not in self._cache:
            self._cache[name] = read()
        return self._cache[name]

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, target: str) -> Any:
        # A server may close an idle connection at any time; only a reused connection is tried twice.
        while True:
            reused = self._connection is not None
            connection = self._connection = self._connection or _connection(self.options, self.remaining_timeout)
            try:
                connection.request("GET", target, headers=self._headers)
                response = connection.getresponse()
                break
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                if not reused:
                    raise
                self.close()
        body = response.read(MAX_REPLY_BYTES + 1)
        if len(body) > MAX_REPLY_BYTES:
            raise ReplyError("too_large", "the reply is larger than %d bytes" % MAX_REPLY_BYTES)
        return _decode(response, body)


def _target(path: Iterable[str]) -> str:
    return "/api/" + "/".join(quote(element, safe="") for element in path)


def _decode(response: Any, body: bytes) -> Any:
    """Return the JSON of a reply. Raise ReplyError for every status but 200."""
    try:
        reply = json.loads(body.decode("utf-8"))
    except ValueError:
        reply = None
    if response.status == 200 and reply is not None:
        return reply
    reason = reply.get("reason") if isinstance(reply, dict) else None
    message = cut("HTTP %d: %s" % (response.status, reason or response.reason or "no reason given"), 300)
    if response.status == 404 and isinstance(reply, dict):
        raise ReplyError("not_found", message)
    if response.status in (401, 403):
        if reason and "localhost" in str(reason):
            raise ReplyError("loopback_only", message)
        # Wrong credentials: "Not_Authorized" (4.0) or "Login failed" (3.10). A user who may log in but lacks a tag or a
        # right: "Not management user", "Not monitor user", "User not authorised to access virtual host".
        raise ReplyError("permission" if str(reason).startswith(("Not ", "User ")) else "authentication", message)
    if response.status >= 500:
        raise ReplyError("failed", message)
    raise ReplyError("protocol", message + " (not a reply of RabbitMQ's management API)")


class _BoundedConnection(http.client.HTTPConnection):
    """An HTTP connection whose connect, writes and reads each get what is left of the deadline."""

    remaining_timeout: Callable[[], float]
    # Whether TCP is connected, perhaps without TLS yet.
    connected = False

    def connect(self) -> None:
        self.timeout = self.remaining_timeout()
        try:
            super().connect()
        finally:
            self.connected = self.sock is not None
        self.sock = BoundedSocket(self.sock, self.remaining_timeout)


class _BoundedTLSConnection(_BoundedConnection, http.client.HTTPSConnection):
    pass


def _connection(options: Options, remaining: Callable[[], float]) -> _BoundedConnection:
    host, port = options["login_host"], options["login_port"]
    if options["login_protocol"] == "https":
        connection: _BoundedConnection = _BoundedTLSConnection(host, port, context=tls_context(options))
    else:
        connection = _BoundedConnection(host, port)
    connection.remaining_timeout = remaining
    return connection


def tls_context(options: Options) -> ssl.SSLContext:
    """Return the TLS context for both protocols, from ca_cert, client_cert, client_key and validate_certs."""
    try:
        context = ssl.create_default_context(cafile=options["ca_cert"])
        if not options["validate_certs"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if options["client_cert"]:
            context.load_cert_chain(options["client_cert"], options["client_key"])
    except (OSError, ssl.SSLError) as exc:
        raise BadOption(
            "ca_cert, client_cert or client_key cannot be loaded: %s" % exc,
            hint="Set `ca_cert`, `client_cert` and `client_key` to files that the user of this task can read.",
        )
    return context


def is_timeout(exc: BaseException) -> bool:
    """Return whether an error of a socket means that a time limit was reached."""
    return _failures.of_os_error(exc) == "timeout"


def connection_failure(
    exc: BaseException, options: Options, amqp: bool = False, connected: bool = False
) -> CannotConnect:
    """Return the failure for an error of the network, of TLS or of HTTP.

    ``connected``: TCP was connected, so that a timeout is one of the answer, not of the connection.
    """
    service, name = (AMQP, "RabbitMQ") if amqp else (API, "the management API")
    service = service._replace(host=options["login_host"], port=options["amqp_port" if amqp else "login_port"])
    where = "%s port %d" % (service.host, service.port)
    kind = _failures.of_os_error(exc)
    if kind == "timeout" and connected:
        kind = "no_answer"
    elif kind == "permission":
        # A rule of the local firewall, not a right of the account.
        kind = "failed"
    elif isinstance(exc, http.client.IncompleteRead):
        kind = "closed"
    elif isinstance(exc, http.client.HTTPException) and kind == "failed":
        kind = "protocol"
    limits = "(timeout %g s, deadline %g s)" % (options["timeout"], options["deadline"])
    messages = {
        "name_resolution": "cannot resolve %s: %s" % (options["login_host"], getattr(exc, "strerror", None) or exc),
        "certificate": "TLS with %s failed: %s" % (where, getattr(exc, "reason", None) or exc),
        "tls": "TLS with %s failed: %s" % (where, getattr(exc, "reason", None) or exc),
        "timeout": "cannot connect to %s in time %s" % (where, limits),
        "no_answer": "%s at %s did not answer in time %s" % (name, where, limits),
        "refused": "connection refused: nothing listens at %s" % where,
        "closed": "%s at %s closed the connection" % (name, where),
        "protocol": "the reply from %s is not HTTP: %s" % (where, cut(str(exc), 80)),
    }
    more = ""
    if kind in ("no_answer", "closed", "failed"):
        more = _failures.filled_in("Correct {address} if another service listens there: {listening}.", service)
    if kind in ("refused", "closed") and not amqp:
        # A port that Docker publishes is open as long as the container runs, whether or not the plugin is enabled.
        more = ("%s %s" % (ENABLE_PLUGIN, more)).strip()
    return _failures.failure(kind, messages.get(kind, "cannot connect to %s: %s" % (where, exc)), service, more)


def hint_for(kind: str, options: Options, tags: Iterable[str] = (), vhost: str = "") -> str:
    """Return the hint for a key of ``KINDS``.

    ``tags`` are those of the user, which a new list of tags must keep. Without a ``vhost``, commands name the option's.
    """
    user, vhost = options["login_user"] or "", vhost or options.get("vhost") or "/"
    values = {
        "rabbitmqctl": rabbitmqctl(user, *tags) if kind == "permission" else rabbitmqctl(vhost, user),
        "user": shell_quote(user),
        "tags": "".join(" " + shell_quote(tag) for tag in sorted(tags)),
        "vhost": shell_quote(vhost),
    }
    return KINDS[kind].hint % values


def hint_of(exc: ReplyError | CannotConnect, options: Options) -> str | None:
    """Return the hint for a failed request, or null."""
    return hint_for(exc.kind, options) if isinstance(exc, ReplyError) else exc.hint


def missing_tag(client: Management, options: Options) -> tuple[str, str]:
    """Return ``(reason, hint)`` for what the API shows to users with the tag ``monitoring`` only."""
    tags = ", ".join(sorted(client.tags)) or "none"
    return (
        "the user %s does not have the tag monitoring (its tags: %s)" % (options["login_user"], tags),
        hint_for("permission", options, client.tags),
    )


# What a shell evaluates between double quotes, and the newline, which rabbitmqctl's script loses.
EVALUATED = re.compile(r"[$`\\\n]")
# Vhosts named in one hint.
MOST_NAMED = 5


def missing_permissions(vhosts: list[str], options: Options) -> tuple[str, str]:
    """Return ``(reason, hint)`` for what is hidden in these vhosts. Permissions that match nothing are enough."""
    commands = ["`%s`" % grant_command(vhost, options) for vhost in vhosts[:MOST_NAMED]]
    more = len(vhosts) - len(commands)
    names = ", ".join(cut(vhost, 40) for vhost in vhosts[:MOST_NAMED]) + (" and %d more" % more if more else "")
    return (
        "the user %s has no permissions in vhost %s" % (options["login_user"], names),
        "Grant permissions that match nothing: %s%s"
        % (", ".join(commands), ", and the same for %d more vhosts" % more if more else ""),
    )


def grant_command(vhost: str, options: Options) -> str:
    """Return the command that lets the user read a vhost and change nothing there."""
    user = options["login_user"] or ""
    words = (rabbitmqctl(vhost, user), shell_quote(vhost), shell_quote(user))
    return "%s set_permissions --vhost=%s -- %s '^$' '^$' '^$'" % words


def rabbitmqctl(*names: str) -> str:
    """Return how to call rabbitmqctl with these names among its arguments.

    As root, the script of Debian's and RabbitMQ's packages passes them to a second shell, between double quotes.
    """
    return "runuser -u rabbitmq -- rabbitmqctl" if any(EVALUATED.search(name) for name in names) else "rabbitmqctl"


# One process measures one area: its modules share the connection, or the failure to connect.
_sessions: dict[tuple[Any, ...], Management | CannotConnect] = {}


def management(options: Options, deadline: Deadline) -> Management:
    """Return the connected client for these options. Raise CannotConnect, also again on the next call."""
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


def _connect(options: Options, deadline: Deadline) -> Management | CannotConnect:
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
        kind = "protocol" if exc.kind == "not_found" else exc.kind
        return CannotConnect(
            kind,
            "the management API at %s port %d: %s" % (options["login_host"], options["login_port"], exc),
            hint_for(kind, options),
        )
    except CannotConnect as exc:
        return exc


def _tags(reply: Any) -> frozenset[str]:
    """Return the tags in the reply to /api/whoami: a list, or a text with commas before RabbitMQ 3.9."""
    tags = reply.get("tags") if isinstance(reply, dict) else None
    if isinstance(tags, str):
        tags = tags.split(",")
    return frozenset(str(tag) for tag in tags or () if tag)


def check_options(options: Options) -> None:
    """Check what no type can check. Raise BadOption, whose message begins with the name of the option."""
    for name in ("timeout", "deadline"):
        if not options[name] > 0:
            raise BadOption("%s: must be above 0 seconds, got %s" % (name, options[name]), hint="Set `%s`." % name)
    if options["top"] < 1:
        raise BadOption("top: must be at least 1, got %s" % options["top"], hint="Set `top`.")
    for name in ("login_port", "amqp_port"):
        if not 0 < options[name] < 65536:
            raise BadOption("%s: must be a port number, got %s" % (name, options[name]), hint="Set `%s`." % name)
    if options["client_key"] and not options["client_cert"]:
        raise BadOption("client_key: needs client_cert", hint="Set `client_cert`.")


def start_deadline(options: Options) -> Deadline:
    """Check the options and return the deadline of a measurement that starts now."""
    check_options(options)
    return Deadline(options["deadline"])
