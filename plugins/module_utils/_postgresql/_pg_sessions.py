# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the sessions of a PostgreSQL server and finds blocking chains. Private to this collection."""

from __future__ import annotations

from typing import Iterable, TypedDict, cast

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_rights as pg_rights
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _sql_text as sql_text
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import APPLICATION_NAME, Client, Row

# A comment in a query that is expected to take long: /* no-alert */ or -- no-alert.
MUTE_PATTERN = r"(/\*(?:(?!\*/).)*no-alert.*?\*/|--[^\n]*no-alert)"

SERVER = """
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::int AS version_num,
       pg_is_in_recovery() AS in_recovery,
       extract(epoch FROM pg_postmaster_start_time())::float8 AS started,
       current_user::text AS role,
       current_database()::text AS database,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all,
       pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') AS sees_settings,
       pg_has_role(current_user, 'pg_monitor', 'MEMBER') AS member
"""

# A standby has the system identifier of its primary, but is another server.
IDENTITY_OF_SERVER = """
SELECT 'postgresql:' || system_identifier
       || CASE WHEN pg_is_in_recovery() THEN ':standby:' || extract(epoch FROM pg_postmaster_start_time()) ELSE '' END
       AS identity
FROM pg_control_system()
"""

# pg_blocking_pids() locks the lock manager exclusively for a moment, so it is called for waiting sessions only.
# Ages are relative to the clock, not to the start of this transaction.
# The role, database, application and locks of a session are visible even if its state is hidden.
SESSIONS = """
WITH waiting AS (
    SELECT DISTINCT ON (l.pid) l.pid, l.locktype, l.mode, {waitstart} AS waitstart,
           n.nspname || '.' || c.relname AS relation
    FROM pg_locks l
    LEFT JOIN pg_class c ON c.oid = l.relation AND l.database IN (
        0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
    LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT l.granted
    ORDER BY l.pid
)
SELECT a.pid,
       extract(epoch FROM a.backend_start)::float8 AS backend_start,
       a.usename::text AS "user",
       a.datname::text AS database,
       a.application_name AS application,
       host(a.client_addr) AS client,
       a.backend_type,
       {leader_pid} AS leader_pid,
       a.state,
       a.wait_event_type,
       a.wait_event,
       extract(epoch FROM a.xact_start)::float8 AS transaction_start,
       CASE WHEN a.xact_start IS NOT NULL THEN greatest(0, extract(epoch FROM t.now - a.xact_start)) END::float8
           AS transaction_seconds,
       CASE WHEN a.state = 'active' THEN greatest(0, extract(epoch FROM t.now - a.query_start)) END::float8
           AS query_seconds,
       extract(epoch FROM a.state_change)::float8 AS state_start,
       CASE WHEN a.state_change IS NOT NULL THEN greatest(0, extract(epoch FROM t.now - a.state_change)) END::float8
           AS state_seconds,
       CASE WHEN a.backend_type IS NOT NULL AND (a.state <> 'idle' OR a.state IS NULL)
            THEN left(a.query, %(query_length)s) END AS query,
       coalesce(a.query ~ %(mute)s, false) AS muted,
       a.application_name IS NOT DISTINCT FROM %(own)s AS own,
       CASE WHEN a.wait_event_type = 'Lock' OR a.backend_type IS NULL AND w.pid IS NOT NULL
            THEN pg_blocking_pids(a.pid) ELSE '{{}}' END AS blocked_by,
       CASE WHEN (a.wait_event_type = 'Lock' OR a.backend_type IS NULL)
                 AND coalesce(w.waitstart, a.query_start) IS NOT NULL
            THEN greatest(0, extract(epoch FROM t.now - coalesce(w.waitstart, a.query_start))) END::float8
           AS wait_seconds,
       w.locktype AS lock_type,
       w.mode AS lock_mode,
       w.relation AS lock_relation
FROM pg_stat_activity a
CROSS JOIN (SELECT clock_timestamp() AS now) t
LEFT JOIN waiting w ON w.pid = a.pid
WHERE a.pid <> pg_backend_pid()
"""

PREPARED_TRANSACTIONS = """
SELECT gid, owner::text AS owner, database::text AS database,
       extract(epoch FROM prepared)::float8 AS prepared,
       greatest(0, extract(epoch FROM clock_timestamp() - prepared))::float8 AS seconds
FROM pg_prepared_xacts
ORDER BY prepared
"""

# Fields of a session that identify it to an operator and to the remedy that ends it.
IDENTITY = (
    "pid", "backend_start", "transaction_start", "state_start", "user", "database", "application", "client",
    "backend_type", "state", "wait_event_type", "wait_event", "transaction_seconds", "query_seconds", "state_seconds",
    "query", "muted",
)  # fmt: skip


class Server(TypedDict):
    """The server, and the role and database of the connection. ``hint`` shows the role the rest, or is null."""

    version: str
    version_num: int
    in_recovery: bool
    started: float
    role: str
    database: str
    sees_all: bool
    sees_settings: bool
    hint: str | None


def read_server(client: Client) -> Server:
    """Return the server of the connection. Raises QueryFailed."""
    found = client.row(SERVER)
    member = found.pop("member")
    complete = found["sees_all"] and found["sees_settings"]
    hint = None if complete else pg_rights.monitoring_hint(found["role"], member, found["version_num"])
    return cast(Server, dict(found, hint=hint))


def read_identity(client: Client) -> str:
    """Return a text that identifies this server. Raises QueryFailed."""
    return client.row(IDENTITY_OF_SERVER)["identity"]


def read_sessions(client: Client, version_num: int, query_length: int, show_literals: bool = False) -> list[Row]:
    """Return all sessions but the own one, each with the process IDs that block it. Raises QueryFailed.

    ``own`` marks other sessions of this collection.
    """
    sql = SESSIONS.format(
        # Before PostgreSQL 14 the start of a wait is not recorded; the start of the query is never later.
        waitstart="l.waitstart" if version_num >= 140000 else "NULL::timestamptz",
        leader_pid="a.leader_pid" if version_num >= 130000 else "NULL::int",
    )
    parameters = {"query_length": sql_text.FETCHED, "mute": MUTE_PATTERN, "own": APPLICATION_NAME}
    found = client.rows(sql, parameters)
    for session in found:
        # The text of an autovacuum worker is not SQL: the server writes it, without quotes around names.
        keeps_literals = show_literals or session["backend_type"] == "autovacuum worker"
        session["query"] = sql_text.shown(session["query"], query_length, keeps_literals)
    return found


def is_hidden(session: Row) -> bool:
    """Return whether the state of ``session`` is hidden from the role, and it may be the session of a client."""
    return session["backend_type"] is None and session["user"] is not None and session["database"] is not None


def select_fields(session: Row, *more: str) -> Row:
    """Return the fields of ``session`` that a measurement holds, and the fields ``more``."""
    return {field: session[field] for field in IDENTITY + more}


def find_blocking(found: list[Row], prepared: list[Row] | None, top: int) -> list[Row]:
    """Return the root blockers of the sessions ``found``, those with most waiting sessions first.

    A root blocks others and waits for no lock. ``waiting`` counts all sessions behind it, directly or not; a session
    behind two roots counts for both. A cycle (a deadlock that the server has not resolved yet) has no root: its member
    that waits longest represents it. ``prepared`` are the prepared transactions, which have the pid 0 as blockers.
    """
    by_pid = {session["pid"]: session for session in found}
    blockers: dict[int, set[int]] = {}
    for session in found:
        if session.get("own"):
            continue
        for pid in session["blocked_by"]:
            # A parallel worker counts as its leader.
            blockers.setdefault(session["leader_pid"] or session["pid"], set()).add(pid)
    behind: dict[int, set[int]] = {}
    for pid in blockers:
        for root in _find_roots(pid, blockers, by_pid):
            behind.setdefault(root, set()).add(pid)
    chains = [_chain(root, waiting - {root}, blockers, by_pid, prepared, top) for root, waiting in behind.items()]
    return sorted(chains, key=lambda chain: (-chain["waiting"], -(chain["longest_wait_seconds"] or 0.0), chain["pid"]))


def _find_roots(pid: int, blockers: dict[int, set[int]], by_pid: dict[int, Row]) -> set[int]:
    reached, todo = {pid}, [pid]
    while todo:
        for blocker in blockers.get(todo.pop(), ()):
            if blocker not in reached:
                reached.add(blocker)
                todo.append(blocker)
    roots = {candidate for candidate in reached if candidate not in blockers}
    return roots or {max(reached, key=lambda member: (_wait_seconds(by_pid, member), member))}


def _wait_seconds(by_pid: dict[int, Row], pid: int) -> float:
    return by_pid.get(pid, {}).get("wait_seconds") or 0.0


def _longest_wait(waiting: Iterable[int], by_pid: dict[int, Row]) -> float | None:
    """Return the longest wait in seconds; null if the wait of a session is hidden from the role."""
    hidden = any(pid in by_pid and is_hidden(by_pid[pid]) and by_pid[pid]["wait_seconds"] is None for pid in waiting)
    return None if hidden else max([_wait_seconds(by_pid, pid) for pid in waiting] or [0.0])


def _chain(
    root: int,
    waiting: set[int],
    blockers: dict[int, set[int]],
    by_pid: dict[int, Row],
    prepared: list[Row] | None,
    top: int,
) -> Row:
    """Return the root blocker with the sessions that wait behind it."""
    session = by_pid.get(root)
    chain = select_fields(session) if session else dict.fromkeys(IDENTITY)
    waiters = sorted(waiting, key=lambda pid: (-_wait_seconds(by_pid, pid), pid))
    chain.update(
        pid=root,
        waiting=len(waiting),
        waiting_directly=sum(root in blockers[pid] for pid in waiting),
        longest_wait_seconds=_longest_wait(waiting, by_pid),
        in_circle=root in blockers,
        prepared_gids=[row["gid"] for row in prepared or []][:top] if root == 0 else [],
        safe_action=safe_action(root, session),
        waiters=[
            dict(
                select_fields(by_pid[pid], "wait_seconds", "lock_type", "lock_mode", "lock_relation"),
                blocked_by=sorted(blockers[pid]),
            )
            for pid in waiters[:top]
            if pid in by_pid
        ],
    )
    return chain


def safe_action(pid: int, session: Row | None) -> str:
    """Return the least harmful action that releases the locks of a root blocker.

    ``cancel`` ends the running query. ``terminate`` ends the session, if no query runs. ``resolve`` is COMMIT PREPARED
    or ROLLBACK PREPARED. ``wait`` is for processes of the server: an autovacuum yields by itself, unless it prevents
    transaction ID wraparound, and then it must not be cancelled.
    """
    if pid == 0:
        return "resolve"
    if session is None or session["backend_type"] is None:
        return "unknown"
    if session["backend_type"] != "client backend":
        return "wait"
    return "cancel" if session["state"] == "active" else "terminate"
