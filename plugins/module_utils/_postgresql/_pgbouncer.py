# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the console of PgBouncer, and logs in through it. Private to this collection."""

from __future__ import annotations

from typing import Any, Iterable

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Unknown, error
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_failures as pg_failures
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import QueryFailed, Row
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# The database of the console, and of pools that have no server.
CONSOLE = "pgbouncer"

SETTINGS = ("max_client_conn", "default_pool_size", "query_wait_timeout", "pool_mode")

# States of the connections of a pool to the server, as columns of SHOW POOLS.
OPEN = ("sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login")


def read_console(options: Options, address: str, unknown: Unknown) -> tuple[Part, dict[str, list[Row]]]:
    """Return what a pooler shows of itself, and its ``pools`` and ``databases``.

    The user has to be one of ``stats_users`` or ``admin_users``.
    """
    entry: Part = dict.fromkeys(
        ("version", "max_clients", "clients", "clients_ratio", "query_wait_timeout", "pool_mode")
    )
    entry.update(pooler=address, reachable=True, error=None)
    shown: dict[str, list[Row]] = {"pools": [], "databases": []}
    try:
        client = postgresql.connect_apart(options)
    except CannotConnect as exc:
        entry.update(reachable=None if exc.kind == "deadline" else False, error=error(exc))
        for name in shown:
            unknown.add("%s[...]" % name, "%s cannot be reached" % address, exc.hint)
        return entry, shown
    try:
        entry["version"] = client.show("SHOW VERSION")[0]["version"]
        settings = {row["key"]: row["value"] for row in client.show("SHOW CONFIG") if row["key"] in SETTINGS}
        shown["databases"] = list_databases(client.show("SHOW DATABASES"), address)
        shown["pools"] = list_pools(client.show("SHOW POOLS"), shown["databases"], address)
        entry.update(of_settings(settings, shown["pools"]))
    except QueryFailed as exc:
        unknown.add("poolers.%s" % address, exc, exc.hint)
        for name in shown:
            unknown.add("%s[...]" % name, exc, exc.hint)
    finally:
        client.connection.close()
    return entry, shown


def test_login(options: Options) -> None:
    """Log in through the pooler, and run a query on the server behind it. Raises CannotConnect."""
    try:
        client = postgresql.connect_apart(options)
    except CannotConnect as exc:
        raise of_pooler(exc, options)
    try:
        client.show("SELECT 1")
    except QueryFailed as exc:
        kind = "no_answer" if client.connection.closed else "failed"
        raise of_pooler(client.lost or pg_failures.failure(kind, str(exc), options), options)
    finally:
        client.connection.close()


def of_pooler(exc: CannotConnect, options: Options) -> CannotConnect:
    """Return the failure of a login through a pooler, which hands on what the server says about the pooler's login.

    The pooler's own rejection of a password does not name the user.
    """
    message = str(exc)
    if exc.kind == "no_answer":
        message += " (a client waits for a connection of its pool until query_wait_timeout)"
        return pg_failures.failure("no_answer", message, options)
    if "password authentication failed" not in message:
        return exc
    if "for user" in message:
        return pg_failures.failure("pooler", message + " (cannot connect to server)", options)
    return pg_failures.failure("authentication", message + " (by the pooler)", options)


def of_settings(settings: dict[str, str], pools: Iterable[Row]) -> Part:
    """Return the limits of a pooler, in seconds and connections, and their use."""
    limit = int(settings["max_client_conn"])
    clients = sum(pool["clients_active"] + pool["clients_waiting"] for pool in pools)
    return {
        "max_clients": limit,
        "clients": clients,
        "clients_ratio": clients / max(limit, 1),
        "query_wait_timeout": float(settings["query_wait_timeout"]),
        "pool_mode": settings["pool_mode"],
    }


def list_databases(rows: Iterable[Row], address: str) -> list[Row]:
    """Return the databases of SHOW DATABASES without the console. A ``max_connections`` of 0 is no limit."""
    return [
        {
            "pooler": address,
            "name": row["name"],
            "host": row["host"],
            "port": row["port"],
            "database": row["database"],
            "pool_size": row["pool_size"],
            "connections": row["current_connections"],
            "max_connections": row["max_connections"] or None,
            "paused": bool(row["paused"]),
            "disabled": bool(row["disabled"]),
        }
        for row in rows
        if row["name"] != CONSOLE
    ]


def list_pools(rows: Iterable[Row], databases: Iterable[Row], address: str) -> list[Row]:
    """Return the pools of SHOW POOLS without that of the console."""
    by_name = {database["name"]: database for database in databases}
    return [
        {
            "pooler": address,
            "database": row["database"],
            "user": row["user"],
            "clients_active": row["cl_active"],
            "clients_waiting": row["cl_waiting"],
            "wait_seconds": row["maxwait"] + row.get("maxwait_us", 0) / 1e6,
            "servers": sum(row[state] for state in OPEN),
            "servers_active": row["sv_active"],
            "servers_logging_in": row["sv_login"],
            "pool_size": by_name.get(row["database"], {}).get("pool_size"),
            "paused": by_name.get(row["database"], {}).get("paused", False),
        }
        for row in rows
        if row["database"] != CONSOLE
    ]


def urgency(row: Row) -> tuple[Any, ...]:
    """Return the sort key of a pool or database: those with waiting clients, and those that are closed, first."""
    closed = row.get("paused") or row.get("disabled", False)
    return (-row.get("wait_seconds", 0.0), not closed, row["pooler"], row.get("name") or row["database"])
