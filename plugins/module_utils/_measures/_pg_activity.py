# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the current activity of a PostgreSQL server. Private to this collection."""

from __future__ import annotations

from collections import Counter
from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Unknown,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_logins as pg_logins
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_sessions as pg_sessions
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import Row
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC: dict[str, Any] = dict(
    postgresql.MEASURING_SPEC,
    pools={
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "service": {"type": "str", "required": True},
            "pool_size": {"type": "int", "default": 5},
            "max_overflow": {"type": "int", "default": 10},
            "workers": {"type": "int", "default": 1},
        },
    },
    service_roles={"type": "list", "elements": "str", "default": []},
)

OF_LIMITS = ("connections", "connection_limits", "pools", "closed_databases", "closed_databases_total")
LOCKS = ("locks",)
OF_SESSIONS = (
    "sessions_by_state",
    "sessions_by_state_total",
    "sessions_total",
    "sessions_hidden",
    "active_queries",
    "active_queries_total",
    "transactions",
    "transactions_total",
    "idle_in_transaction",
    "idle_in_transaction_total",
    "connections_by_application",
    "connections_by_application_total",
    "blocking",
    "blocked_sessions_total",
    "lock_queues",
    "synchronous_commits",
)
LOGINS = ("logins", "logins_total")
PREPARED = ("prepared_transactions", "prepared_transactions_total")
PARTS = ("identity", "server") + OF_LIMITS + LOCKS + OF_SESSIONS + LOGINS + PREPARED

# A role or a database may have its own limit. Beyond it, the error is the same: too many connections. The limit -2
# marks a database whose DROP DATABASE was interrupted.
LIMITS = """
SELECT current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int AS superuser_reserved,
       coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
       (SELECT coalesce(json_object_agg(rolname, rolconnlimit), '{}') FROM pg_roles WHERE rolconnlimit >= 0) AS roles,
       (SELECT coalesce(json_object_agg(datname, datconnlimit), '{}') FROM pg_database WHERE datconnlimit >= 0)
           AS databases,
       (SELECT coalesce(json_agg(json_build_object('name', name, 'sessions', sessions, 'reason', reason)
                                 ORDER BY sessions DESC, name), '[]')
        FROM (SELECT datname AS name, pg_stat_get_db_numbackends(oid) AS sessions,
                     CASE WHEN datconnlimit = -2 THEN 'invalid' WHEN datallowconn THEN 'limit' ELSE 'not_allowed' END
                         AS reason
              FROM pg_database
              WHERE datconnlimit IN (0, -2) OR NOT datallowconn AND NOT datistemplate) closed) AS closed
"""

STANDBY_NAMES = """
SELECT current_setting('synchronous_standby_names') AS standby_names,
       (SELECT source = 'command line' FROM pg_settings WHERE name = 'synchronous_standby_names') AS by_command_line
"""

HELD_LOCKS = """
SELECT current_setting('max_connections')::int AS max_connections,
       current_setting('max_locks_per_transaction')::int AS max_locks_per_transaction,
       current_setting('max_prepared_transactions')::int AS max_prepared_transactions,
       (SELECT count(*) FROM pg_locks l WHERE NOT l.fastpath AND l.mode <> 'SIReadLock' AND NOT EXISTS (
            SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.application_name = %(own)s))::int AS locks
"""


def measure(options: Options) -> Measurement:
    """Return the measurement of M(tracktion.ops.pg_activity). Raises CannotMeasure."""
    try:
        client = postgresql.connect(options)
    except CannotConnect as exc:
        return unreachable(PARTS, exc)
    unknown = Unknown()
    parts: Part = dict.fromkeys(PARTS)
    top = options["top"]
    # All other queries depend on the version.
    server = parts["server"] = postgresql.read(unknown, PARTS, pg_sessions.read_server, client)
    if server is None:
        # A pooler may accept a client and give it no connection to the server.
        return unreachable(PARTS, client.lost) if client.lost else reached(parts, unknown)
    parts["identity"] = postgresql.read(unknown, ("identity",), pg_sessions.read_identity, client)
    limits = postgresql.read(unknown, OF_LIMITS, client.row, LIMITS)
    held = postgresql.read(unknown, LOCKS, client.row, HELD_LOCKS, {"own": postgresql.APPLICATION_NAME})
    prepared = postgresql.read(unknown, PREPARED, client.rows, pg_sessions.PREPARED_TRANSACTIONS)
    sessions = postgresql.read(
        unknown,
        OF_SESSIONS + LOGINS + ("connections.used", "connection_limits.*"),
        pg_sessions.read_sessions,
        client,
        server["version_num"],
        options["query_length"],
        options["show_literals"],
    )
    names = postgresql.read(unknown, ("synchronous_commits",), client.row, STANDBY_NAMES)
    if prepared is not None:
        parts.update(prepared_transactions=prepared[:top], prepared_transactions_total=len(prepared))
    if sessions is not None:
        parts.update(summarize_sessions(sessions, prepared, top))
        sessions = [row for row in sessions if not row["own"]]
        parts["synchronous_commits"] = names and count_synchronous_commits(names, sessions)
        add_hidden(parts, server, sessions, unknown)
        roles = options["service_roles"]
        parts.update(postgresql.read(unknown, LOGINS, pg_logins.read_logins, client, sessions, roles, top) or {})
    if held is not None:
        parts["locks"] = count_locks(held)
    if limits is not None:
        parts["connections"] = count_connections(limits, sessions)
        parts["connection_limits"] = list_limits(limits, parts["connections"], sessions)
        parts["pools"] = add_up_pools(options["pools"], parts["connections"]["limit"])
        parts.update(closed_databases=limits["closed"][:top], closed_databases_total=len(limits["closed"]))
    return reached(parts, unknown)


def add_hidden(parts: Part, server: pg_sessions.Server, sessions: list[Row], unknown: Unknown) -> None:
    """Add to ``unknown`` what is missing because sessions are hidden from the role."""
    hidden = sum(pg_sessions.is_hidden(row) for row in sessions)
    if hidden:
        reason = "the states and queries of %d sessions of other roles are hidden from %s" % (hidden, server["role"])
        for part in ("active_queries[...]", "transactions[...]", "idle_in_transaction[...]"):
            unknown.add(part, reason, server["hint"])
        reason = "the types of %d sessions are hidden from %s" % (hidden, server["role"])
        for part in ("connections.used", "connection_limits.*", "synchronous_commits.waiting"):
            unknown.add(part, reason, server["hint"])
    for chain in parts["blocking"]:
        if chain["safe_action"] == "unknown":
            wait = "" if chain["longest_wait_seconds"] is None else " for up to %.0f s" % chain["longest_wait_seconds"]
            blocker = "%s, %s" % (chain["user"] or "role unknown", chain["application"] or "no application name")
            reason = "%d sessions wait%s behind pid %d (%s), whose state is hidden from %s or which is gone" % (
                chain["waiting"], wait, chain["pid"], blocker, server["role"]
            )  # fmt: skip
            unknown.add("blocking.pid %d" % chain["pid"], reason, server["hint"])
    for queue in parts["lock_queues"]:
        if queue["backend_type"] is None:
            reason = "the type of pid %d, behind which %d sessions queue, is hidden from %s" % (
                queue["pid"], queue["waiting"], server["role"]
            )  # fmt: skip
            unknown.add("lock_queues.pid %d" % queue["pid"], reason, server["hint"])


def summarize_sessions(found: list[Row], prepared: list[Row] | None, top: int) -> Part:
    """Return the parts that come from the list of sessions. ``found`` includes those of this collection."""
    # A session of this collection is listed only if it blocks others.
    sessions = [row for row in found if not row["own"]]
    # Parallel workers repeat the query of their leader.
    clients = [row for row in sessions if row["backend_type"] == "client backend"]
    active = _oldest([row for row in clients if row["state"] == "active"], "query_seconds")
    # An idle session is briefly in a transaction while it processes changes of the catalog.
    open_transactions = _oldest([row for row in clients if row["state"] != "idle"], "transaction_seconds")
    idle = _oldest([row for row in clients if (row["state"] or "").startswith("idle in transaction")], "state_seconds")
    groups = Counter((row["backend_type"], row["state"], row["application"]) for row in sessions)
    return {
        "sessions_by_state": [
            {"backend_type": kind, "state": state, "application": application, "count": count}
            for (kind, state, application), count in groups.most_common(top)
        ],
        "sessions_by_state_total": len(groups),
        "sessions_total": len(sessions),
        "sessions_hidden": sum(row["backend_type"] is None for row in sessions),
        "active_queries": [pg_sessions.select_fields(row) for row in active[:top]],
        "active_queries_total": len(active),
        "transactions": [pg_sessions.select_fields(row) for row in open_transactions[:top]],
        "transactions_total": len(open_transactions),
        "idle_in_transaction": [pg_sessions.select_fields(row) for row in idle[:top]],
        "idle_in_transaction_total": len(idle),
        **group_connections(sessions, top),
        "blocking": pg_sessions.find_blocking(found, prepared, top)[:top],
        "blocked_sessions_total": sum(len(row["blocked_by"]) > 0 for row in sessions),
        "lock_queues": pg_sessions.find_lock_queues(found, prepared, top)[:top],
    }


def group_connections(sessions: list[Row], top: int) -> Part:
    """Return ``connections_by_application`` and its ``_total``: connections of clients, most first."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sessions:
        if row["backend_type"] == "client backend" or pg_sessions.is_hidden(row):
            groups.setdefault((row["application"] or "", row["user"]), []).append(row)
    found = [
        {
            "application": application,
            "user": user,
            "count": len(rows),
            "active": sum(row["state"] == "active" for row in rows),
            "idle": sum(row["state"] == "idle" for row in rows),
            "idle_in_transaction": sum((row["state"] or "").startswith("idle in transaction") for row in rows),
            "waiting_for_lock": sum(row["waits_for"] == "lock" for row in rows),
            "hidden": sum(pg_sessions.is_hidden(row) for row in rows),
            "clients": len({row["client"] for row in rows}),
        }
        for (application, user), rows in groups.items()
    ]
    found.sort(key=lambda group: (-group["count"], group["application"], group["user"]))
    return {"connections_by_application": found[:top], "connections_by_application_total": len(found)}


def count_synchronous_commits(names: Row, sessions: list[Row]) -> Part:
    """Return the commits that wait for a synchronous standby. ``waiting`` is null if a session may be hidden."""
    found = [row for row in sessions if row["waits_for"] == "synchronous standby"]
    is_complete = found or not any(pg_sessions.is_hidden(row) for row in sessions)
    # The start of the wait is not recorded. That of the statement is never later.
    seconds = [row["query_seconds"] or row["state_seconds"] or 0.0 for row in found]
    return {
        "standby_names": names["standby_names"],
        "by_command_line": bool(names["by_command_line"]),
        "waiting": len(found) if is_complete else None,
        "longest_seconds": max(seconds, default=0.0),
    }


def _oldest(sessions: list[Row], age: str) -> list[Row]:
    return sorted((row for row in sessions if row[age] is not None), key=lambda row: -row[age])


def count_connections(limits: Row, sessions: list[Row] | None) -> Part:
    """Return the use of the connections for ordinary roles. ``used`` is null if sessions of clients are hidden."""
    limit = limits["max_connections"] - limits["superuser_reserved"] - limits["reserved"]
    used = _count_clients(sessions)
    return {
        "max_connections": limits["max_connections"],
        "superuser_reserved": limits["superuser_reserved"],
        "reserved": limits["reserved"],
        "limit": limit,
        "used": used,
        "ratio": _ratio(used, limit),
    }


def list_limits(limits: Row, server: Part, sessions: list[Row] | None) -> list[Part]:
    """Return the use of all limits: of the server, and of databases and roles with their own limit."""
    found = [{"scope": "server", "name": "server", "limit": server["limit"], "used": server["used"]}]
    for scope, column, own in (("database", "database", limits["databases"]), ("role", "user", limits["roles"])):
        for name, limit in sorted(own.items()):
            used = None if sessions is None else _count_clients([row for row in sessions if row[column] == name])
            found.append({"scope": scope, "name": name, "limit": limit, "used": used})
    for row in found:
        row["ratio"] = _ratio(row["used"], row["limit"])
    return found


def _count_clients(sessions: list[Row] | None) -> int | None:
    """Return the number of client sessions; null if the role cannot see it."""
    if sessions is None or any(pg_sessions.is_hidden(row) for row in sessions):
        return None
    return sum(row["backend_type"] == "client backend" for row in sessions)


def add_up_pools(pools: list[Mapping[str, Any]], limit: int) -> Part:
    """Return how many connections the pools of the services can open, and the limit of the server."""
    services = [
        {
            "service": pool["service"],
            "openable": (pool["pool_size"] + pool["max_overflow"]) * pool["workers"],
        }
        for pool in pools
    ]
    openable = sum(service["openable"] for service in services)
    return {"services": services, "openable": openable, "limit": limit, "ratio": _ratio(openable, limit)}


def count_locks(held: Row) -> Part:
    """Return the entries in the shared lock table, and its capacity."""
    capacity = held["max_locks_per_transaction"] * (held["max_connections"] + held["max_prepared_transactions"])
    return {"held": held["locks"], "capacity": capacity, "ratio": _ratio(held["locks"], capacity)}


def _ratio(part: int | None, whole: int) -> float | None:
    if part is None:
        return None
    # A limit of 0 allows no connection: it is used up.
    return part / whole if whole > 0 else 1.0
