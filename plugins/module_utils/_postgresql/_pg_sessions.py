# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sessions of a PostgreSQL server, and who of them blocks whom. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_rights as pg_rights
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _sql_text as sql_text
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import APPLICATION_NAME

# What a client may write into a query that is meant to take long, in a comment of SQL: /* no-alert */ or -- no-alert.
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

# A standby has the identifier of its primary, and is another server all the same.
IDENTITY_OF_SERVER = """
SELECT 'postgresql:' || system_identifier
       || CASE WHEN pg_is_in_recovery() THEN ':standby:' || extract(epoch FROM pg_postmaster_start_time()) ELSE '' END
       AS identity
FROM pg_control_system()
"""

# pg_blocking_pids() takes the lock manager for itself for a moment, so it is asked about waiting sessions only.
# Ages are taken from the clock, not from the start of this transaction.
# Of a session that is hidden from the role, its role, database and application are visible, and so are its locks.
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

# What identifies a session to a person and to the remedy that would end it.
IDENTITY = (
    "pid", "backend_start", "transaction_start", "state_start", "user", "database", "application", "client",
    "backend_type", "state", "wait_event_type", "wait_event", "transaction_seconds", "query_seconds", "state_seconds",
    "query", "muted",
)  # fmt: skip


def server(client):
    """Version, role and database of the connection, and the ``hint`` for what is hidden from the role, or null."""
    found = client.row(SERVER)
    member = found.pop("member")
    complete = found["sees_all"] and found["sees_settings"]
    hint = None if complete else pg_rights.monitoring_hint(found["role"], member, found["version_num"])
    return dict(found, hint=hint)


def identity(client):
    """What tells this server from all others."""
    return client.row(IDENTITY_OF_SERVER)["identity"]


def sessions(client, version_num, query_length, show_literals=False):
    """Every session but this one, with whom it waits for. ``own``: it is another one of this collection."""
    sql = SESSIONS.format(
        # 14 notes when a wait began; before, the start of the query stands for it: never too short a wait.
        waitstart="l.waitstart" if version_num >= 140000 else "NULL::timestamptz",
        leader_pid="a.leader_pid" if version_num >= 130000 else "NULL::int",
    )
    parameters = {"query_length": sql_text.FETCHED, "mute": MUTE_PATTERN, "own": APPLICATION_NAME}
    found = client.rows(sql, parameters)
    for session in found:
        # That of an autovacuum is no SQL: the server writes it, without quotes around names.
        shows = show_literals or session["backend_type"] == "autovacuum worker"
        session["query"] = sql_text.shown(session["query"], query_length, shows)
    return found


def is_hidden(session):
    """Whether it is a session of a client, for all that the role may see, whose state is hidden from the role."""
    return session["backend_type"] is None and session["user"] is not None and session["database"] is not None


def described(session, *more):
    """The fields of ``session`` that a report shows, and the fields ``more``."""
    return {field: session[field] for field in IDENTITY + more}


def blocking(found, prepared, top):
    """The root blockers among the sessions ``found``, who holds up most first.

    A root blocks others and waits for no lock itself. Its ``waiting`` counts every session behind it, however many
    lie between; a session behind two roots counts for both. A circle (a deadlock the server has not broken yet)
    has no root: its member that waits longest stands for it. ``prepared`` is the list of prepared transactions:
    the server names them as blockers by the pid 0.
    """
    by_pid = {session["pid"]: session for session in found}
    # A parallel worker waits in the name of its leader.
    blockers = {}
    for session in found:
        if session.get("own"):
            continue
        for pid in session["blocked_by"]:
            blockers.setdefault(session["leader_pid"] or session["pid"], set()).add(pid)
    behind = {}
    for pid in blockers:
        for root in _roots(pid, blockers, by_pid):
            behind.setdefault(root, set()).add(pid)
    trees = [_tree(root, waiting - {root}, blockers, by_pid, prepared, top) for root, waiting in behind.items()]
    return sorted(trees, key=lambda tree: (-tree["waiting"], -(tree["longest_wait_seconds"] or 0.0), tree["pid"]))


def _roots(pid, blockers, by_pid):
    reached, todo = {pid}, [pid]
    while todo:
        for blocker in blockers.get(todo.pop(), ()):
            if blocker not in reached:
                reached.add(blocker)
                todo.append(blocker)
    roots = {candidate for candidate in reached if candidate not in blockers}
    return roots or {max(reached, key=lambda member: (_waited(by_pid, member), member))}


def _waited(by_pid, pid):
    return (by_pid.get(pid) or {}).get("wait_seconds") or 0.0


def _longest_wait(waiting, by_pid):
    """The longest wait in seconds; null where that of a session is hidden from the role."""
    hidden = any(pid in by_pid and is_hidden(by_pid[pid]) and by_pid[pid]["wait_seconds"] is None for pid in waiting)
    return None if hidden else max([_waited(by_pid, pid) for pid in waiting] or [0.0])


def _tree(root, waiting, blockers, by_pid, prepared, top):
    session = by_pid.get(root)
    tree = described(session) if session else dict.fromkeys(IDENTITY)
    tree["pid"] = root
    waiters = sorted(waiting, key=lambda pid: (-_waited(by_pid, pid), pid))
    tree.update(
        waiting=len(waiting),
        waiting_directly=sum(root in blockers[pid] for pid in waiting),
        longest_wait_seconds=_longest_wait(waiting, by_pid),
        in_circle=root in blockers,
        prepared_gids=[row["gid"] for row in prepared or []][:top] if root == 0 else [],
        safe_action=safe_action(root, session),
        waiters=[
            dict(
                described(by_pid[pid], "wait_seconds", "lock_type", "lock_mode", "lock_relation"),
                blocked_by=sorted(blockers[pid]),
            )
            for pid in waiters[:top]
            if pid in by_pid
        ],
    )
    return tree


def safe_action(pid, session):
    """What frees the others with the least harm.

    ``cancel`` ends the running query; ``terminate`` ends the session, where nothing runs that could be cancelled;
    ``resolve`` is COMMIT PREPARED or ROLLBACK PREPARED; ``wait`` is for the server's own processes: an autovacuum gives
    way by itself, unless it prevents transaction ID wraparound, and then it must be left alone.
    """
    if pid == 0:
        return "resolve"
    if session is None or session["backend_type"] is None:
        return "unknown"
    if session["backend_type"] != "client backend":
        return "wait"
    return "cancel" if session["state"] == "active" else "terminate"
