# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What happens in a PostgreSQL server right now. Private to this collection."""

from __future__ import annotations

from collections import Counter

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Unknown,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_sessions as pg_sessions
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql

ARGUMENT_SPEC = dict(
    postgresql.CONNECTION_SPEC,
    top={"type": "int", "default": 20},
    query_length={"type": "int", "default": 300},
    show_literals={"type": "bool", "default": False},
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
)

OF_LIMITS = ("connections", "connection_limits", "pools")
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
    "blocking",
    "blocked_sessions_total",
)
PREPARED = ("prepared_transactions", "prepared_transactions_total")
PARTS = ("identity", "server") + OF_LIMITS + LOCKS + OF_SESSIONS + PREPARED

# A role or a database may have a limit of its own, which gives the same "too many connections".
LIMITS = """
SELECT current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int AS superuser_reserved,
       coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
       (SELECT coalesce(json_object_agg(rolname, rolconnlimit), '{}') FROM pg_roles WHERE rolconnlimit >= 0) AS roles,
       (SELECT coalesce(json_object_agg(datname, datconnlimit), '{}') FROM pg_database WHERE datconnlimit >= 0)
           AS databases
"""


HELD_LOCKS = """
SELECT current_setting('max_connections')::int AS max_connections,
       current_setting('max_locks_per_transaction')::int AS max_locks_per_transaction,
       current_setting('max_prepared_transactions')::int AS max_prepared_transactions,
       (SELECT count(*) FROM pg_locks l WHERE NOT l.fastpath AND l.mode <> 'SIReadLock' AND NOT EXISTS (
            SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.application_name = %(own)s))::int AS locks
"""


def measure(options):
    """What M(tracktion.ops.pg_activity) returns. Raises CannotMeasure."""
    try:
        client = postgresql.connect(options)
    except CannotConnect as exc:
        return unreachable(PARTS, exc)
    unknown = Unknown()
    parts = dict.fromkeys(PARTS)
    top = options["top"]
    # Nothing else can be read without the version.
    server = parts["server"] = postgresql.read(unknown, PARTS, pg_sessions.server, client)
    if server is None:
        return reached(parts, unknown)
    parts["identity"] = postgresql.read(unknown, ("identity",), pg_sessions.identity, client)
    limits = postgresql.read(unknown, OF_LIMITS, client.row, LIMITS)
    held = postgresql.read(unknown, LOCKS, client.row, HELD_LOCKS, {"own": postgresql.APPLICATION_NAME})
    prepared = postgresql.read(unknown, PREPARED, client.rows, pg_sessions.PREPARED_TRANSACTIONS)
    sessions = postgresql.read(
        unknown,
        OF_SESSIONS + ("connections.used", "connection_limits.*"),
        pg_sessions.sessions,
        client,
        server["version_num"],
        options["query_length"],
        options["show_literals"],
    )
    if prepared is not None:
        parts.update(prepared_transactions=prepared[:top], prepared_transactions_total=len(prepared))
    if sessions is not None:
        parts.update(of_sessions(sessions, prepared, top))
        sessions = [row for row in sessions if not row["own"]]
        name_hidden(parts, sessions, unknown)
    if held is not None:
        parts["locks"] = locks(held)
    if limits is not None:
        parts["connections"] = connections(limits, sessions)
        parts["connection_limits"] = connection_limits(limits, parts["connections"], sessions)
        parts["pools"] = pools(options["pools"], parts["connections"]["limit"])
    return reached(parts, unknown)


def name_hidden(parts, sessions, unknown):
    """Name in ``unknown`` what is missing because sessions are hidden from the role."""
    server = parts["server"]
    hidden = sum(pg_sessions.is_hidden(row) for row in sessions)
    if hidden:
        reason = "what %d sessions of other roles do is hidden from %s" % (hidden, server["role"])
        for part in ("active_queries[...]", "transactions[...]", "idle_in_transaction[...]"):
            unknown.add(part, reason, server["hint"])
        for part in ("connections.used", "connection_limits.*"):
            unknown.add(part, "of %d sessions the kind is hidden from %s" % (hidden, server["role"]), server["hint"])
    for tree in parts["blocking"]:
        if tree["safe_action"] == "unknown":
            wait = "" if tree["longest_wait_seconds"] is None else " for up to %.0f s" % tree["longest_wait_seconds"]
            whose = "%s, %s" % (tree["user"] or "role unknown", tree["application"] or "no application name")
            reason = "%d sessions wait%s behind pid %d (%s), whose state is hidden from %s or which is gone" % (
                tree["waiting"], wait, tree["pid"], whose, server["role"]
            )  # fmt: skip
            unknown.add("blocking.pid %d" % tree["pid"], reason, server["hint"])


def of_sessions(everybody, prepared, top):
    """The parts that come from the list of sessions."""
    # Of this collection's own, only one that others wait for is of interest.
    sessions = [row for row in everybody if not row["own"]]
    # A parallel worker is its leader's query over again.
    clients = [row for row in sessions if row["backend_type"] == "client backend"]
    active = _oldest([row for row in clients if row["state"] == "active"], "query_seconds")
    # An idle session has a transaction for the moment in which it catches up with changes of the catalog.
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
        "active_queries": [pg_sessions.described(row) for row in active[:top]],
        "active_queries_total": len(active),
        "transactions": [pg_sessions.described(row) for row in open_transactions[:top]],
        "transactions_total": len(open_transactions),
        "idle_in_transaction": [pg_sessions.described(row) for row in idle[:top]],
        "idle_in_transaction_total": len(idle),
        "blocking": pg_sessions.blocking(everybody, prepared, top)[:top],
        "blocked_sessions_total": sum(len(row["blocked_by"]) > 0 for row in sessions),
    }


def _oldest(sessions, age):
    return sorted((row for row in sessions if row[age] is not None), key=lambda row: -row[age])


def connections(limits, sessions):
    """Use of the connections an ordinary role may open. ``used`` is null where sessions of clients are hidden."""
    limit = limits["max_connections"] - limits["superuser_reserved"] - limits["reserved"]
    # Our own sessions take some too, but are gone when this is read.
    used = _clients(sessions)
    return {
        "max_connections": limits["max_connections"],
        "superuser_reserved": limits["superuser_reserved"],
        "reserved": limits["reserved"],
        "limit": limit,
        "used": used,
        "ratio": _ratio(used, limit),
    }


def connection_limits(limits, server, sessions):
    """The use of every limit there is: of the server, of databases and of roles that have one of their own."""
    found = [{"scope": "server", "name": "server", "limit": server["limit"], "used": server["used"]}]
    for scope, column, own in (("database", "database", limits["databases"]), ("role", "user", limits["roles"])):
        for name, limit in sorted(own.items()):
            used = None if sessions is None else _clients([row for row in sessions if row[column] == name])
            found.append({"scope": scope, "name": name, "limit": limit, "used": used})
    for row in found:
        row["ratio"] = _ratio(row["used"], row["limit"])
    return found


def _clients(sessions):
    """How many of ``sessions`` are those of clients; null where the role may not see that."""
    if sessions is None or any(pg_sessions.is_hidden(row) for row in sessions):
        return None
    return sum(row["backend_type"] == "client backend" for row in sessions)


def pools(wanted, limit):
    """How many connections the services' pools can open between them, against the limit of the server."""
    services = [
        {
            "service": pool["service"],
            "openable": (pool["pool_size"] + pool["max_overflow"]) * pool["workers"],
        }
        for pool in wanted
    ]
    openable = sum(service["openable"] for service in services)
    return {"services": services, "openable": openable, "limit": limit, "ratio": _ratio(openable, limit)}


def locks(held):
    """Entries in the shared lock table against the number it is made for."""
    capacity = held["max_locks_per_transaction"] * (held["max_connections"] + held["max_prepared_transactions"])
    return {"held": held["locks"], "capacity": capacity, "ratio": _ratio(held["locks"], capacity)}


def _ratio(part, whole):
    if part is None:
        return None
    # A limit of 0 lets nobody in: it is used up, and would be divided by.
    return part / whole if whole > 0 else 1.0
