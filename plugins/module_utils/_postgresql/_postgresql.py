# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One bounded connection to a PostgreSQL server. Private to this collection."""

from __future__ import annotations

import os
import select
import socket
import threading
from typing import Any, Callable, Dict, Iterable, Mapping, TypeVar

from ansible_collections.tracktion.ops.plugins.module_utils import _at_end
from ansible_collections.tracktion.ops.plugins.module_utils._libraries import require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Deadline,
    Failure,
    OutOfTime,
    Unknown,
    cut,
)
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_failures as pg_failures
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_rights as pg_rights
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

# A row of a query, by column.
Row = Dict[str, Any]
# Called while a command runs.
Watch = Callable[[], None]
Value = TypeVar("Value")

APPLICATION_NAME = "tracktion.ops"

# In every statement of this collection, so that it can be excluded from pg_stat_statements.
MARK = "/* tracktion.ops */"

# A measurement must not queue behind the lock that it is to report, nor make others queue behind it.
LOCK_TIMEOUT_MS = 50

# Sent in one message with the query: LOCAL leaves nothing behind in a session that a pooler reuses.
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

OWN_ROLE = """
SELECT current_user::text AS role, pg_has_role(current_user, 'pg_monitor', 'MEMBER') AS monitors,
       current_setting('is_superuser')::bool AS superuser
"""

# SQLSTATE classes whose messages name objects and settings of the server. All others may quote data.
WITHOUT_DATA = ("08", "0A", "23", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX")

# Seconds between two calls of a watch.
WATCH_SECONDS = 1.0

# Seconds past its statement_timeout after which a query without a reply counts as a lost server.
ANSWER_SLACK = 1.0

CONNECTION_SPEC: dict[str, Any] = {
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

MEASURING_SPEC: dict[str, Any] = dict(
    CONNECTION_SPEC,
    top={"type": "int", "default": 20},
    query_length={"type": "int", "default": 300},
    show_literals={"type": "bool", "default": False},
)


class QueryFailed(Failure):
    """A query returned no result; the message is the reason.

    ``sqlstate`` and ``server_message`` are from the server. Both are null for a failure on the way to it.
    """

    kind = "query_failed"

    def __init__(
        self, message: str, sqlstate: str | None = None, server_message: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint)
        self.sqlstate = sqlstate
        self.server_message = server_message


class _NoAnswer(Exception):
    """The server did not answer in time."""


def connect(options: Options) -> Client:
    """Return a ``Client`` for ``options``, whose deadline starts now. Raises CannotConnect, MissingLibrary.

    The connection, or the failure to connect, is kept for the process: the measuring functions of one area run one
    after the other and share it.
    """
    key = tuple(options[name] for name in CONNECTION_SPEC if name not in ("timeout", "deadline"))
    deadline = Deadline(options["deadline"])
    kept = _kept.get(key)
    if kept is None:
        try:
            kept = Client(_open(options, deadline), options, deadline)
            _at_end.at_end(kept.connection.close)
        except OutOfTime:
            raise
        except CannotConnect as exc:
            kept = exc
        _kept[key] = kept
    if isinstance(kept, CannotConnect):
        raise kept
    if kept.lost or kept.connection.closed:
        raise kept.lost or pg_failures.failure("closed", "The connection was lost while measuring", options)
    kept.timeout, kept.deadline = options["timeout"], deadline
    return kept


_kept: dict[tuple, Client | CannotConnect] = {}


def connect_apart(options: Options) -> Client:
    """Return a ``Client`` with its own connection, which the caller closes. Raises CannotConnect, MissingLibrary."""
    connection = _open(options, Deadline(options["deadline"]))
    return Client(connection, options, Deadline(options["deadline"]))


class Client:
    """Sends queries and commands, each bounded and in its own transaction. Rows hold plain JSON types."""

    def __init__(self, connection: Any, options: Options, deadline: Deadline) -> None:
        self.connection = connection
        # The role in force, once a query has been sent.
        self.role: str = options["login_user"]
        # Of the current measurement: connect() sets both each time.
        self.timeout: float = options["timeout"]
        self.deadline = deadline
        self._denied: pg_rights.DeniedObjects | None = None
        # Whether the role is a member of pg_monitor.
        self._monitors = False
        self._options = options
        # Why the server, or a pooler in front of it, ended the connection or answers no query.
        self.lost: CannotConnect | None = None

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Return all rows of ``sql``. Raises QueryFailed.

        A query that needs what the role may not use of the system catalog is not sent.
        """
        if self._denied is None:
            # These queries need no right beyond those that every query needs.
            self._denied = pg_rights.DeniedObjects(self.role, [])
            own = self._read(OWN_ROLE)[0]
            self.role, self._monitors = own["role"], own["monitors"]
            denied = [] if own["superuser"] else self._read(pg_rights.DENIED)
            self._denied = pg_rights.DeniedObjects(self.role, denied)
            if self._denied.pattern:
                self._denied.add_views(self._read(pg_rights.VIEWS, {"functions": self._denied.pattern}))
        hint = self._denied.hint(sql)
        if hint:
            raise QueryFailed("the role %s may not read it" % self.role, hint=hint)
        return self._read(sql, parameters)

    def _read(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
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

    def through_pooler(self, pid: int) -> bool:
        """Return whether a pooler answers at the address, as the session has the process ID ``pid``.

        A pooler gives its client a process ID of its own, for requests to cancel.
        """
        return pid != self.connection.get_backend_pid()

    def row(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row:
        """Return the only row of ``sql``. Raises QueryFailed."""
        return self.rows(sql, parameters)[0]

    def show(self, sql: str) -> list[Row]:
        """Return all rows of a command without settings before it, which the console of a pooler rejects.

        Raises QueryFailed.
        """
        try:
            seconds = self.deadline.step(self.timeout)
        except OutOfTime as exc:
            raise QueryFailed(str(exc)) from exc
        cursor = self._execute(sql, None, seconds)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]

    def statement(self, sql: str, seconds: float) -> list[Row]:
        """Run ``sql`` in the transaction that is open, if one is, for at most ``seconds``; return its rows.

        Statements may be several, of which the last returns the rows. Raises QueryFailed.
        """
        timeout = "SET %s statement_timeout = %d; " % (MARK, max(1, seconds * 1000))
        cursor = self._execute(timeout + (_marked(sql) if " " in sql else sql), None, seconds)
        if cursor.description is None:
            return []
        names = [column[0] for column in cursor.description]
        try:
            return [dict(zip(names, row)) for row in cursor.fetchall()]
        except UnicodeDecodeError as exc:
            raise QueryFailed("a text is not in the encoding of this database: %s" % exc)

    def command(self, sql: str, seconds: float, settings: Mapping[str, str], watch: Watch | None = None) -> list[str]:
        """Run ``sql``, which cannot run in a transaction block, for at most ``seconds``. Raises QueryFailed.

        ``settings`` stay in force for the session. ``watch`` is called every second.
        Returns the server's notices about objects that it skipped.
        """
        changed = dict(settings, statement_timeout="%dms" % max(1, seconds * 1000), client_min_messages="warning")
        assignments = ", ".join("set_config('%s', '%s', false)" % item for item in sorted(changed.items()))
        self._execute(_marked("SELECT " + assignments), None, self.timeout)
        del self.connection.notices[:]
        self._execute(_marked(sql), None, seconds, watch)
        # Other notices may come from functions, and quote data.
        return [notice.strip() for notice in self.connection.notices if "skipping" in notice]

    def _execute(
        self, sql: str, parameters: Mapping[str, Any] | None, seconds: float, watch: Watch | None = None
    ) -> Any:
        """Return the cursor after running ``sql``. Raises QueryFailed."""
        psycopg2 = require("psycopg2")
        try:
            cursor = self.connection.cursor()
            cursor.execute(sql, parameters)
            _wait(self.connection, Deadline(seconds + ANSWER_SLACK), watch)
            return cursor
        except _NoAnswer:
            self.connection.close()
            raise QueryFailed("the server stopped answering (waited %.1f s); connection closed" % seconds)
        except psycopg2.Error as exc:
            if pg_failures.CONSOLE.search(str(exc)):
                message = "the database %s is the console of a pooler, use SHOW HELP" % self._options["login_db"]
                self.lost = pg_failures.failure("pooler", message, self._options)
            elif self.connection.closed:
                message = str(exc).strip() or "the server closed the connection"
                self.lost = pg_failures.failure(pg_failures.classify(message), message.split("\n", 1)[0], self._options)
            raise QueryFailed(_reason(exc, seconds), exc.pgcode, message_of(exc), self._hint_for(exc.pgcode))

    def _hint_for(self, sqlstate: str | None) -> str | None:
        """Return the command that permits a query. A member of ``pg_monitor`` lacks something else."""
        if sqlstate != "42501" or self._monitors:
            return None
        return pg_rights.SUPERUSER % ("`%s`" % pg_rights.grant("pg_monitor", self.role))


def read(unknown: Unknown, parts: Iterable[str], function: Callable[..., Value], *arguments: Any) -> Value | None:
    """Return what ``function`` returns. If its query fails, add ``parts`` to ``unknown`` and return null."""
    try:
        return function(*arguments)
    except QueryFailed as exc:
        for part in parts:
            unknown.add(part, exc, exc.hint)
        return None


def _marked(sql: str) -> str:
    """Return ``sql`` with MARK behind its first word: the server keeps comments within a statement."""
    word, rest = sql.split(None, 1)
    return "%s %s %s" % (word, MARK, rest)


def message_of(exc: Any) -> str:
    """Return the first line of a psycopg2.Error, or only its name if the message may quote values of rows."""
    kind = (exc.pgcode or "")[:2]
    # An error with a context comes from a function, which may raise anything.
    if exc.pgcode and (kind not in WITHOUT_DATA or (kind in ("23", "42") and exc.diag.context)):
        name = type(exc).__name__
        return "%s (SQLSTATE %s; the message in the server's log may quote data)" % (name, exc.pgcode)
    return str(exc).strip().split("\n", 1)[0]


def _reason(exc: Any, seconds: float) -> str:
    if exc.pgcode == "55P03":
        return "waits for a lock of another session: %s" % message_of(exc)
    if exc.pgcode == "57014":
        return "no answer within %.1f s: %s" % (seconds, message_of(exc))
    return message_of(exc) or type(exc).__name__


def _open(options: Options, deadline: Deadline) -> Any:
    """Return a connection of the client library in asynchronous mode. Raises CannotConnect.

    The library's own connect_timeout counts in whole seconds and does not cover a server that accepts a connection
    and does not answer. In asynchronous mode each step is bounded here.
    """
    psycopg2 = require("psycopg2")
    where = options["login_unix_socket"] or options["login_host"]
    port = options["login_port"]
    is_short = deadline.too_short(options["timeout"])
    seconds = deadline.step(options["timeout"])
    attempt = Deadline(seconds)
    addresses = [] if where.startswith("/") or not where else _resolve(options, attempt, is_short)
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
    connection: Any = None
    try:
        connection = psycopg2.connect(**{name: value for name, value in arguments.items() if value != ""})
        _wait(connection, attempt)
    except _NoAnswer:
        established = _is_established(connection)
        connection.close()
        if is_short:
            # The deadline ended the attempt early, which says nothing about the server.
            raise OutOfTime(seconds)
        if established:
            message = "%s:%s accepts connections but did not answer within %.1f s" % (where, port, seconds)
            raise pg_failures.failure("no_answer", message, options)
        raise pg_failures.failure("timeout", "No connection to %s:%s within %.1f s" % (where, port, seconds), options)
    except psycopg2.Error as exc:
        message = str(exc).strip() or "the server closed the connection"
        raise pg_failures.failure(pg_failures.classify(message), "%s:%s: %s" % (where, port, message), options)
    return connection


def _wait(connection: Any, deadline: Deadline, watch: Watch | None = None) -> None:
    """Wait until an asynchronous operation of ``connection`` is finished. Raises _NoAnswer, psycopg2.Error.

    ``watch`` is called after each WATCH_SECONDS without data.
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


def _is_established(connection: Any) -> bool:
    """Return whether the peer has accepted a connection that is still being made."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as copy:
            copy.getpeername()
        return True
    except Exception:  # pylint: disable=broad-except
        return False


def _resolve(options: Options, deadline: Deadline, is_short: bool) -> list[str]:
    """Return the addresses of ``login_host``. In a thread, because name resolution takes no timeout."""
    host, port = options["login_host"], options["login_port"]
    found: list[list[str] | OSError] = []

    def resolve() -> None:
        try:
            found.append([str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except OSError as exc:
            found.append(exc)

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(deadline.remaining())
    if not found and is_short:
        raise OutOfTime(deadline.remaining())
    outcome = found[0] if found else "name resolution did not answer in time"
    if not isinstance(outcome, list):
        raise pg_failures.failure("name_resolution", cut("%s: %s" % (host, outcome), 200), options)
    return list(dict.fromkeys(outcome))
