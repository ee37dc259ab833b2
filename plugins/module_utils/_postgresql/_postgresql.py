# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One bounded connection to a PostgreSQL server. Private to this collection."""

from __future__ import annotations

import os
import re
import select
import socket
import threading

from ansible_collections.tracktion.ops.plugins.module_utils import _at_end
from ansible_collections.tracktion.ops.plugins.module_utils._libraries import require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Deadline,
    Failure,
    OutOfTime,
    cut,
)
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_rights as pg_rights

APPLICATION_NAME = "tracktion.ops"

# In every statement of this collection, so that statistics of statements can leave it out.
MARK = "/* tracktion.ops */"

# A diagnosis must not queue behind the lock it is there to find (nor make others queue behind it).
LOCK_TIMEOUT_MS = 50

# Sent in one message with the query: LOCAL leaves nothing behind in a session that a pooler hands on to others.
# Compiling a query over the catalogs of 15,000 indexes takes 0.7 s, running it 0.1 s.
SETTINGS = "".join(
    "SET %s %s; " % (MARK, setting)
    for setting in (
        "TRANSACTION READ ONLY",
        "LOCAL jit = off",
        "LOCAL statement_timeout = %d",
        "LOCAL lock_timeout = %d",
    )
)

# SQLSTATE classes whose messages name objects and settings of the server. All others may quote data.
WITHOUT_DATA = ("08", "0A", "23", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX")

# How often a command that takes its time is watched.
WATCH_SECONDS = 1.0

# How long past its statement_timeout a query may stay unanswered before the server counts as lost.
ANSWER_SLACK = 1.0

CONNECTION_SPEC = {
    "login_host": {"type": "str", "default": "localhost"},
    "login_port": {"type": "int", "default": 5432},
    "login_user": {"type": "str", "default": "postgres"},
    "login_password": {"type": "str", "default": "", "no_log": True},
    "login_db": {"type": "str", "default": "postgres"},
    "login_unix_socket": {"type": "path", "default": ""},
    "ssl_mode": {
        "type": "str",
        "default": "prefer",
        "choices": ["allow", "disable", "prefer", "require", "verify-ca", "verify-full"],
    },
    "ca_cert": {"type": "path", "default": ""},
    "ssl_cert": {"type": "path", "default": ""},
    "ssl_key": {"type": "path", "default": "", "no_log": False},
    "timeout": {"type": "float", "default": 3.0},
    "deadline": {"type": "float", "default": 15.0},
}

# kind, how the client library or the server words it, hint. What stands first in a message is its cause:
# the library tries again without TLS after some failures and appends what that gave.
CAUSES = tuple(
    (kind, re.compile(pattern, re.I), hint)
    for kind, pattern, hint in (
        (
            "too_many_clients",
            r"too many clients|connection slots are reserved|too many connections for",
            "End sessions that are not needed (end_sessions), make the pools smaller than max_connections, "
            "and look with a role that may use the reserved connections (login_user).",
        ),
        (
            "starting_up",
            r"database system is (starting up|shutting down|in recovery mode|not accepting)"
            r"|not yet accepting connections",
            "Wait for recovery to end and read the server's log; do not restart it again, that starts recovery anew.",
        ),
        (
            "no_hba_entry",
            r"no pg_hba\.conf entry|pg_hba\.conf rejects",
            "Add a line for this user, database and client address to pg_hba.conf and reload, "
            "or set ssl_mode to what the existing line asks for.",
        ),
        (
            "no_database",
            r'database ".*" does not exist|is not currently accepting connections|permission denied for database',
            "Set login_db to a database that exists and that login_user may connect to.",
        ),
        (
            "authentication",
            r"authentication failed|no password supplied|role \".*\" does not exist|is not permitted to log in"
            r"|password is empty|authentication method|channel binding",
            "Check login_user and login_password; the application has the same trouble if it uses the same ones.",
        ),
        (
            "tls",
            r"\bSSL\b|\bTLS\b|certificate|private key file",
            "Check ssl_mode against the server's setting ssl, and ca_cert, ssl_cert and ssl_key.",
        ),
        (
            "refused",
            r"connection refused|no such file or directory",
            "Nothing listens there: start the server, or correct login_host and login_port (login_unix_socket).",
        ),
        (
            "name",
            r"could not translate host name|name or service not known|name resolution",
            "Correct login_host, or the name resolution of the host that measures.",
        ),
        (
            "no_route",
            r"no route to host|network is unreachable|host is down",
            "Check the network between this host and login_host: routes, firewall, Docker networks.",
        ),
        (
            "protocol",
            r"invalid response|expected authentication request|unsupported frontend protocol",
            "Something other than PostgreSQL answers there: correct login_host and login_port.",
        ),
        (
            "timeout",
            r"timeout expired|timed out",
            "Packets get lost on the way: check firewalls and routes to login_host and login_port.",
        ),
        (
            "closed",
            r"closed the connection|connection reset|broken pipe|terminating connection|EOF detected",
            "The server, or a proxy in front of it, hung up: read its log for crashes and out-of-memory kills.",
        ),
    )
)


class QueryFailed(Failure):
    """One query gave no result: the reason is the message.

    ``sqlstate`` is the server's code and ``said`` its own words, or both are null.
    """

    kind = "query_failed"

    def __init__(self, message, sqlstate=None, said=None, hint=None):
        super().__init__(message, hint)
        self.sqlstate = sqlstate
        self.said = said


class _NoAnswer(Exception):
    """The server did not answer in time."""


def connect(options):
    """A ``Client`` for these options, whose deadline starts now.

    The connection, and equally the failure to make one, is kept for the process: the measuring functions of
    one area run one after the other and share it. Raises CannotConnect, MissingLibrary.
    """
    key = tuple(options[name] for name in CONNECTION_SPEC if name not in ("timeout", "deadline"))
    deadline = Deadline(options["deadline"])
    kept = _kept.get(key)
    if kept is None or isinstance(kept, OutOfTime):
        try:
            kept = Client(_open(options, deadline), options)
            _at_end.at_end(kept.connection.close)
        except CannotConnect as exc:
            kept = exc
        if not isinstance(kept, OutOfTime):
            _kept[key] = kept
    if isinstance(kept, CannotConnect):
        raise kept
    if kept.connection.closed:
        raise CannotConnect("closed", "The connection was lost while measuring", _hint("closed"))
    kept.timeout, kept.deadline = options["timeout"], deadline
    return kept


_kept = {}


def connect_apart(options):
    """A ``Client`` with a connection of its own, which the caller closes. Raises CannotConnect, MissingLibrary."""
    client = Client(_open(options, Deadline(options["deadline"])), options)
    client.deadline = Deadline(options["deadline"])
    return client


class Client:
    """Sends queries and commands, each in a transaction of its own, each bounded. Gives rows of plain JSON types."""

    def __init__(self, connection, options):
        self.connection = connection
        # The role in force, once a query has been sent.
        self.role = options["login_user"]
        # Both of the call that is being served: connect() sets them anew each time.
        self.timeout = options["timeout"]
        self.deadline = None
        self._denied = None

    def rows(self, sql, parameters=None):
        """All rows of ``sql`` as dictionaries. Raises QueryFailed.

        What the role may not use of the system catalog is not sent to the server.
        """
        if self._denied is None:
            # The query for what is denied needs no right beyond that of any other.
            self._denied = pg_rights.Denied(self.role, [])
            self.role = self._read("SELECT current_user::text AS role")[0]["role"]
            self._denied = pg_rights.Denied(self.role, self._read(pg_rights.DENIED))
            if self._denied.pattern:
                self._denied.add_views(self._read(pg_rights.VIEWS, {"functions": self._denied.pattern}))
        hint = self._denied.hint(sql)
        if hint:
            raise QueryFailed("the role %s may not read it" % self.role, hint=hint)
        return self._read(sql, parameters)

    def _read(self, sql, parameters=None):
        try:
            seconds = self.deadline.step(self.timeout)
        except OutOfTime as exc:
            raise QueryFailed(str(exc)) from exc
        settings = SETTINGS % (max(1, seconds * 1000), LOCK_TIMEOUT_MS)
        cursor = self._execute(settings + _marked(sql), parameters, seconds)
        names = [column[0] for column in cursor.description]
        try:
            return [dict(zip(names, row)) for row in cursor.fetchall()]
        except UnicodeDecodeError as exc:
            raise QueryFailed("a text is not in the encoding of this database: %s" % exc)

    def row(self, sql, parameters=None):
        """The only row of ``sql``. Raises QueryFailed."""
        return self.rows(sql, parameters)[0]

    def command(self, sql, seconds, settings, watch=None):
        """Runs ``sql``, which may not stand in a transaction, for at most ``seconds``. Raises QueryFailed.

        ``settings`` hold for the rest of the session. ``watch`` is called every second.
        Returns what the server had to complain about.
        """
        changed = dict(settings, statement_timeout="%dms" % max(1, seconds * 1000), client_min_messages="warning")
        assignments = ", ".join("set_config('%s', '%s', false)" % item for item in sorted(changed.items()))
        self._execute(_marked("SELECT " + assignments), None, self.timeout)
        del self.connection.notices[:]
        self._execute(_marked(sql), None, seconds, watch)
        # Any other may be a function's, and quote data.
        return [notice.strip() for notice in self.connection.notices if "skipping" in notice]

    def _execute(self, sql, parameters, seconds, watch=None):
        """The cursor that has run ``sql``. Raises QueryFailed."""
        psycopg2 = require("psycopg2")
        try:
            cursor = self.connection.cursor()
            cursor.execute(sql, parameters)
            _wait(self.connection, Deadline(seconds + ANSWER_SLACK), watch)
            return cursor
        except _NoAnswer:
            self.connection.close()
            raise QueryFailed("the server stopped answering (waited %.1f s); connection given up" % seconds)
        except psycopg2.Error as exc:
            raise QueryFailed(_reason(exc, seconds), exc.pgcode, message_of(exc), _hint_for(exc.pgcode, self.role))


def read(unknown, parts, function, *arguments):
    """What ``function`` returns, or null with each of ``parts`` noted in ``unknown`` where its query failed."""
    try:
        return function(*arguments)
    except QueryFailed as exc:
        for part in parts:
            unknown.add(part, exc, exc.hint)
        return None


def classify(message):
    """(kind, hint) of a failure to connect, from the first cause that its message names."""
    found = [
        (match.start(), kind, hint) for kind, pattern, hint in CAUSES for match in [pattern.search(message)] if match
    ]
    if not found:
        return "failed", "Read the message; check login_host, login_port, login_user and login_db."
    return min(found)[1:]


def _marked(sql):
    """``sql`` with our mark behind its first word: the server keeps comments within a statement."""
    word, rest = sql.split(None, 1)
    return "%s %s %s" % (word, MARK, rest)


def _hint(kind):
    return next(hint for name, unused, hint in CAUSES if name == kind)


def message_of(exc):
    """What a psycopg2.Error says, without values of rows: its first line, or only its name."""
    kind = (exc.pgcode or "")[:2]
    # What has a context comes from a function, which may raise anything.
    if exc.pgcode and (kind not in WITHOUT_DATA or (kind in ("23", "42") and exc.diag.context)):
        name = type(exc).__name__
        return "%s (SQLSTATE %s; the message in the server's log may quote data)" % (name, exc.pgcode)
    return str(exc).strip().split("\n", 1)[0]


def _reason(exc, seconds):
    if exc.pgcode == "55P03":
        return "behind a lock that someone else holds: %s" % message_of(exc)
    if exc.pgcode == "57014":
        return "not answered within %.1f s: %s" % (seconds, message_of(exc))
    return message_of(exc) or type(exc).__name__


def _hint_for(sqlstate, role):
    return pg_rights.SUPERUSER % ("`%s`" % pg_rights.grant("pg_monitor", role)) if sqlstate == "42501" else None


def _open(options, deadline):
    """A connection of the client library in asynchronous mode.

    Its own connect_timeout counts in whole seconds and does not cover a server that accepts and then keeps
    silent; asynchronously every step is ours to bound.
    """
    psycopg2 = require("psycopg2")
    where = options["login_unix_socket"] or options["login_host"]
    port = options["login_port"]
    hurried = deadline.too_short(options["timeout"])
    seconds = deadline.step(options["timeout"])
    attempt = Deadline(seconds)
    addresses = [] if where.startswith("/") or not where else _resolve(where, port, attempt, hurried)
    arguments = {
        "host": ",".join([where] * max(1, len(addresses))),
        "hostaddr": ",".join(addresses),
        "port": port,
        "user": options["login_user"],
        "password": options["login_password"],
        "dbname": options["login_db"],
        "sslmode": options["ssl_mode"],
        "sslrootcert": options["ca_cert"],
        "sslcert": options["ssl_cert"],
        "sslkey": options["ssl_key"],
        "application_name": APPLICATION_NAME,
        "client_encoding": "UTF8",
        "async_": 1,
    }
    connection = None
    try:
        connection = psycopg2.connect(**{name: value for name, value in arguments.items() if value != ""})
        _wait(connection, attempt)
    except _NoAnswer:
        established = _established(connection)
        connection.close()
        if hurried:
            # The deadline has cut the attempt short: a busy host is no outage of the server.
            raise OutOfTime(seconds)
        if established:
            raise CannotConnect(
                "no_answer",
                "%s:%s accepts connections but did not answer within %.1f s" % (where, port, seconds),
                "The server process is stopped or starved (paused container, no CPU, disk that hangs): look at its "
                "host and container, and at login_port for another program that listens there.",
            )
        raise CannotConnect(
            "timeout",
            "No answer from %s:%s to a connection attempt within %.1f s" % (where, port, seconds),
            _hint("timeout"),
        )
    except psycopg2.Error as exc:
        message = str(exc).strip() or "the server closed the connection"
        raise CannotConnect(classify(message)[0], "%s:%s: %s" % (where, port, message), classify(message)[1])
    return connection


def _wait(connection, deadline, watch=None):
    """Drives an asynchronous operation of ``connection`` to its end. Raises _NoAnswer, psycopg2.Error.

    ``watch`` is called whenever nothing has come for a while.
    """
    extensions = require("psycopg2.extensions")
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return
        left = deadline.remaining(at_most=WATCH_SECONDS if watch else None)
        if left <= 0:
            raise _NoAnswer
        wanted = [connection]
        ready = select.select(
            wanted if state == extensions.POLL_READ else [], wanted if state == extensions.POLL_WRITE else [], [], left
        )
        if watch and not any(ready):
            watch()


def _established(connection):
    """Whether the other end has accepted, for a connection that is still being made."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as copy:
            copy.getpeername()
        return True
    except Exception:  # pylint: disable=broad-except
        return False


def _resolve(host, port, deadline, hurried):
    """The addresses of ``host``. In a thread, because name resolution takes no timeout of its own."""
    found = []

    def resolve():
        try:
            found.append([entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except OSError as exc:
            found.append(exc)

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(deadline.remaining())
    if not found and hurried:
        raise OutOfTime(deadline.remaining())
    outcome = found[0] if found else "name resolution did not answer in time"
    if not isinstance(outcome, list):
        raise CannotConnect("name", cut("%s: %s" % (host, outcome), 200), _hint("name"))
    return list(dict.fromkeys(outcome))
