# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the sessions of a PostgreSQL server and finds blocking chains. Private to this collection."""

from __future__ import annotations

from typing import Iterable, TypedDict, cast

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_cancel_effects as pg_cancel_effects
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
       pg_has_role(current_user, 'pg_monitor', 'MEMBER') AS member,
       pg_backend_pid() AS pid
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
# A prepared transaction has no pid. Its locks have the virtual transaction ID of its own transaction ID's lock.
SESSIONS = """
WITH locks AS MATERIALIZED (
    SELECT l.pid, l.granted, l.locktype, l.mode, l.relation, l.database, l.virtualtransaction, l.transactionid,
           {waitstart} AS waitstart,
           row(l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid,
               l.objsubid)::text AS object
    FROM pg_locks l
), waiting AS MATERIALIZED (
    SELECT DISTINCT ON (l.pid) l.pid, l.locktype, l.mode, l.waitstart, l.object,
           n.nspname || '.' || c.relname AS relation
    FROM locks l
    LEFT JOIN pg_class c ON c.oid = l.relation AND l.database IN (
        0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
    LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT l.granted
    ORDER BY l.pid
), held AS (
    SELECT w.pid, array_agg(DISTINCT g.mode) AS modes,
           array_agg(DISTINCT t.transactionid::text || ' ' || g.mode) FILTER (WHERE t.transactionid IS NOT NULL)
               AS prepared
    FROM waiting w
    JOIN locks g ON g.object = w.object AND g.granted AND g.pid IS DISTINCT FROM w.pid
    LEFT JOIN locks t ON g.pid IS NULL AND t.pid IS NULL AND t.granted AND t.locktype = 'transactionid'
        AND t.virtualtransaction = g.virtualtransaction
    GROUP BY w.pid
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
       a.pid IN (SELECT p.pid FROM unnest(%(maintenance)s::text[]) c (name), pg_stat_get_progress_info(c.name) p)
           AS maintenance,
       a.application_name IS NOT DISTINCT FROM %(own)s AS own,
       CASE WHEN a.wait_event_type = 'Lock' OR a.backend_type IS NULL AND w.pid IS NOT NULL
            THEN pg_blocking_pids(a.pid) ELSE '{{}}' END AS blocked_by,
       CASE WHEN (a.wait_event_type = 'Lock' OR a.backend_type IS NULL)
                 AND coalesce(w.waitstart, a.query_start) IS NOT NULL
            THEN greatest(0, extract(epoch FROM t.now - coalesce(w.waitstart, a.query_start))) END::float8
           AS wait_seconds,
       w.locktype AS lock_type,
       w.mode AS lock_mode,
       w.relation AS lock_relation,
       coalesce(h.modes, '{{}}') AS held_modes,
       coalesce(h.prepared, '{{}}') AS held_by_prepared
FROM pg_stat_activity a
CROSS JOIN (SELECT clock_timestamp() AS now) t
LEFT JOIN waiting w ON w.pid = a.pid
LEFT JOIN held h ON h.pid = a.pid
WHERE a.pid <> pg_backend_pid()
"""

PREPARED_TRANSACTIONS = """
SELECT gid, transaction::text AS xid, owner::text AS owner, database::text AS database,
       extract(epoch FROM prepared)::float8 AS prepared,
       greatest(0, extract(epoch FROM clock_timestamp() - prepared))::float8 AS seconds
FROM pg_prepared_xacts
ORDER BY prepared
"""

# Fields of a session that identify it to an operator and to the remedy that ends it.
IDENTITY = (
    "pid", "backend_start", "transaction_start", "state_start", "user", "database", "application", "client",
    "backend_type", "state", "wait_event_type", "wait_event", "waits_for", "transaction_seconds", "query_seconds",
    "state_seconds", "query", "muted", "maintenance", "cancel_effect",
)  # fmt: skip

# Commands of maintenance that report their progress. REINDEX reports that of CREATE INDEX.
MAINTENANCE = ["VACUUM", "CLUSTER", "CREATE INDEX"]
MAINTENANCE_13 = [*MAINTENANCE, "ANALYZE", "BASEBACKUP"]

# What a session waits for, by the type of its wait event. A commit waits for a standby with one event of the type IPC.
WAITS_FOR = {"Lock": "lock", "IO": "disk", "Client": "client"}
STANDBY_EVENT = "SyncRep"

# Lock modes of a relation that conflict, as in the manual's table "Conflicting Lock Modes".
_WEAKER = ["AccessShareLock", "RowShareLock", "RowExclusiveLock"]
_STRONGER = ["ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"]
CONFLICTS: dict[str, frozenset[str]] = {
    mode: frozenset(others)
    for mode, others in {
        "AccessShareLock": _STRONGER[2:],
        "RowShareLock": _STRONGER[1:],
        "RowExclusiveLock": ["ShareLock", *_STRONGER],
        "ShareUpdateExclusiveLock": ["ShareUpdateExclusiveLock", "ShareLock", *_STRONGER],
        "ShareLock": ["RowExclusiveLock", "ShareUpdateExclusiveLock", *_STRONGER],
        "ShareRowExclusiveLock": ["RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock", *_STRONGER],
        "ExclusiveLock": [*_WEAKER[1:], "ShareUpdateExclusiveLock", "ShareLock", *_STRONGER],
        "AccessExclusiveLock": [*_WEAKER, "ShareUpdateExclusiveLock", "ShareLock", *_STRONGER],
    }.items()
}


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
    through_pooler: bool
    hint: str | None


def read_server(client: Client) -> Server:
    """Return the server of the connection. Raises QueryFailed."""
    found = client.row(SERVER)
    member = found.pop("member")
    through_pooler = client.through_pooler(found.pop("pid"))
    complete = found["sees_all"] and found["sees_settings"]
    hint = None if complete else pg_rights.monitoring_hint(found["role"], member, found["version_num"])
    return cast(Server, dict(found, through_pooler=through_pooler, hint=hint))


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
    parameters = {
        "query_length": sql_text.FETCHED,
        "mute": MUTE_PATTERN,
        "own": APPLICATION_NAME,
        "maintenance": MAINTENANCE_13 if version_num >= 130000 else MAINTENANCE,
    }
    found = client.rows(sql, parameters)
    for session in found:
        running = session["query"] if session["state"] == "active" else None
        # By its progress, or by its text: DROP INDEX reports none, and a function shows no command of its own.
        session["maintenance"] = session["maintenance"] or pg_cancel_effects.is_maintenance(running)
        session["vacuum"] = pg_cancel_effects.is_vacuum(running)
        session["cancel_effect"] = pg_cancel_effects.cancel_effect(running)
        # The text of an autovacuum worker is not SQL: the server writes it, without quotes around names.
        keeps_literals = show_literals or session["backend_type"] == "autovacuum worker"
        session["query"] = sql_text.shown(session["query"], query_length, keeps_literals)
        session["waits_for"] = waits_for(session)
    return found


def waits_for(session: Row) -> str | None:
    """Return what ``session`` waits for; null for other events and if none runs.

    A session that runs no query always waits for its client.
    """
    if session["wait_event"] == STANDBY_EVENT:
        return "synchronous standby"
    found = WAITS_FOR.get(session["wait_event_type"] or "")
    return None if found == "client" and session["state"] != "active" else found


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
    graph = _Graph(found, prepared)
    behind: dict[int, set[int]] = {}
    for pid in graph.blockers:
        for root in graph.find_roots(pid):
            behind.setdefault(root, set()).add(pid)
    chains = [graph.chain(root, waiting - {root}, top) for root, waiting in behind.items()]
    return sorted(chains, key=lambda chain: (-chain["waiting"], -(chain["longest_wait_seconds"] or 0.0), chain["pid"]))


def find_lock_queues(found: list[Row], prepared: list[Row] | None, top: int) -> list[Row]:
    """Return the sessions that wait for a lock and make others queue behind them, longest queue first.

    The others wait for a lock that conflicts only with the one that is requested, such as readers behind a waiting
    ALTER TABLE. They continue when that request is cancelled.
    """
    graph = _Graph(found, prepared)
    queues = [graph.queue(pid, top) for pid in graph.heads]
    return sorted(queues, key=lambda queue: (-queue["waiting"], -(queue["wait_seconds"] or 0.0), queue["pid"]))


def is_only_queued(session: Row) -> bool:
    """Return whether the lock that ``session`` waits for conflicts with no lock that is held, only with requests."""
    conflicting = CONFLICTS.get(session["lock_mode"] or "", frozenset())
    return (
        session["lock_type"] == "relation"
        and bool(session["blocked_by"])
        and not conflicting.intersection(session["held_modes"])
    )


class _Graph:
    """Which session waits for which. A prepared transaction that is known has a number below 0 as its pid."""

    def __init__(self, found: list[Row], prepared: list[Row] | None) -> None:
        self.by_pid = {session["pid"]: session for session in found}
        self.gids = {-number: row["gid"] for number, row in enumerate(prepared or [], 1)}
        self.numbers = {row["xid"]: -number for number, row in enumerate(prepared or [], 1)}
        # Blockers by waiting session. A parallel worker counts as its leader.
        self.blockers: dict[int, set[int]] = {}
        only_queued: dict[int, bool] = {}
        for session in found:
            if session.get("own"):
                continue
            pid = session["leader_pid"] or session["pid"]
            for blocker in session["blocked_by"]:
                self.blockers.setdefault(pid, set()).update(self._prepared(session) if blocker == 0 else {blocker})
            if session["blocked_by"]:
                only_queued[pid] = only_queued.get(pid, True) and is_only_queued(session)
        queued = {pid for pid, is_queued in only_queued.items() if is_queued}
        blocking_queued = {blocker for pid in queued for blocker in self.blockers[pid]}
        self.heads = {pid for pid in blocking_queued - queued if pid in self.blockers and pid in self.by_pid}
        self.freed = self._find_freed()

    def _prepared(self, session: Row) -> set[int]:
        """Return the prepared transactions that hold the lock for which ``session`` waits; 0 if it is not known."""
        numbers = set()
        for each in session["held_by_prepared"]:
            xid, mode = each.split(" ", 1)
            is_relation = session["lock_type"] == "relation"
            if xid in self.numbers and (not is_relation or mode in CONFLICTS.get(session["lock_mode"], ())):
                numbers.add(self.numbers[xid])
        return numbers or {0}

    def _find_freed(self) -> set[int]:
        """Return the sessions that continue, one after the other, when all ``heads`` are cancelled."""
        freed: set[int] = set()
        while True:
            more = {
                pid
                for pid, blockers in self.blockers.items()
                if pid not in freed and pid not in self.heads and blockers <= self.heads | freed
            }
            if not more:
                return freed
            freed |= more

    def find_roots(self, pid: int) -> set[int]:
        """Return the roots of the chains in which ``pid`` waits."""
        reached = self._reachable(pid)
        roots = {candidate for candidate in reached if candidate not in self.blockers}
        return roots or {max(reached, key=lambda member: (self._wait_seconds(member), member))}

    def _reachable(self, pid: int) -> set[int]:
        reached, todo = {pid}, [pid]
        while todo:
            for blocker in self.blockers.get(todo.pop(), ()):
                if blocker not in reached:
                    reached.add(blocker)
                    todo.append(blocker)
        return reached

    def _wait_seconds(self, pid: int) -> float:
        return self.by_pid.get(pid, {}).get("wait_seconds") or 0.0

    def _longest_wait(self, waiting: Iterable[int]) -> float | None:
        """Return the longest wait in seconds; null if the wait of a session is hidden from the role."""
        sessions = [self.by_pid[pid] for pid in waiting if pid in self.by_pid]
        hidden = any(is_hidden(session) and session["wait_seconds"] is None for session in sessions)
        return None if hidden else max([session["wait_seconds"] or 0.0 for session in sessions] or [0.0])

    def _waiters(self, waiting: Iterable[int], top: int) -> list[Row]:
        """Return the sessions that wait longest."""
        ordered = sorted(waiting, key=lambda pid: (-self._wait_seconds(pid), pid))
        return [
            dict(
                select_fields(self.by_pid[pid], "wait_seconds", "lock_type", "lock_mode", "lock_relation"),
                blocked_by=sorted({max(blocker, 0) for blocker in self.blockers[pid]}),
            )
            for pid in ordered[:top]
            if pid in self.by_pid
        ]

    def chain(self, root: int, waiting: set[int], top: int) -> Row:
        """Return the root blocker with the sessions that wait behind it."""
        session = self.by_pid.get(root)
        chain = select_fields(session) if session else dict.fromkeys(IDENTITY)
        directly = [pid for pid in waiting if root in self.blockers[pid]]
        gids = list(self.gids.values()) if root == 0 else [self.gids[root]] if root < 0 else []
        chain.update(
            pid=max(root, 0),
            waiting=len(waiting),
            waiting_directly=len(directly),
            queued=len(waiting & self.freed),
            queue_heads=len(waiting & self.heads),
            longest_wait_seconds=self._longest_wait(waiting),
            in_circle=root in self.blockers,
            lock_types=sorted({self.by_pid[pid]["lock_type"] or "unknown" for pid in directly if pid in self.by_pid}),
            prepared_gids=gids[:top],
            safe_action=safe_action(root, session),
            waiters=self._waiters(waiting, top),
        )
        return chain

    def queue(self, head: int, top: int) -> Row:
        """Return a session that waits for a lock with the sessions that queue behind it."""
        behind = {pid for pid in self.blockers if pid != head and head in self._reachable(pid)}
        session = self.by_pid[head]
        holders = sorted(self.blockers[head] - self.heads)
        return dict(
            select_fields(session, "wait_seconds", "lock_type", "lock_mode", "lock_relation"),
            waiting=len(behind),
            longest_wait_seconds=self._longest_wait(behind),
            holders=[select_fields(self.by_pid[pid]) for pid in holders if pid in self.by_pid][:top],
            prepared_gids=[self.gids[pid] for pid in holders if pid in self.gids][:top],
            waiters=self._waiters(behind, top),
        )


def safe_action(pid: int, session: Row | None) -> str:
    """Return the least harmful action that releases the locks of a root blocker.

    ``cancel`` ends the running query. ``terminate`` ends the session, if no query runs. ``resolve`` is COMMIT PREPARED
    or ROLLBACK PREPARED. ``standby`` is to repair the synchronous standby: a cancelled commit is complete on this
    server only. ``wait`` is for processes of the server: an autovacuum yields by itself, unless it prevents
    transaction ID wraparound, and then it must not be cancelled. It is also for the VACUUM of a client, which blocks
    changes of the table's definition only.
    """
    if pid <= 0:
        return "resolve"
    if session is None or session["backend_type"] is None:
        return "unknown"
    if session["waits_for"] == "synchronous standby":
        return "standby"
    if session["backend_type"] != "client backend" or session["vacuum"]:
        return "wait"
    return "cancel" if session["state"] == "active" else "terminate"
