# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads which roles and databases accept no new connections although the server does. Private to this collection."""

from __future__ import annotations

from typing import Iterable

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_sessions as pg_sessions
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import Client, Row
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Roles that clients use (%(used)s), and all whose password expires. %(users)s and %(databases)s are the pairs of open
# sessions. The expiry counts for passwords only, not for certificates, peer or trust.
LOGINS = """
SELECT r.rolname::text AS role, r.rolcanlogin AS may_log_in, r.rolsuper AS superuser,
       nullif(r.rolconnlimit, -1) AS connection_limit,
       CASE WHEN r.rolvaliduntil < 'infinity' THEN extract(epoch FROM greatest(r.rolvaliduntil, 'epoch')) END::float8
           AS valid_until,
       CASE WHEN r.rolvaliduntil < 'infinity'
            THEN extract(epoch FROM greatest(r.rolvaliduntil, 'epoch') - clock_timestamp()) END::float8
           AS valid_seconds,
       coalesce((SELECT array_agg(DISTINCT d.datname::text ORDER BY d.datname::text)
                 FROM unnest(%(users)s::text[], %(databases)s::text[]) s ("user", database)
                 JOIN pg_database d ON d.datname = s.database
                 WHERE s."user" = r.rolname AND NOT has_database_privilege(r.oid, d.oid, 'CONNECT')), '{}')
           AS denied_databases
FROM pg_roles r
WHERE r.rolname = ANY (%(used)s::text[]) OR r.rolcanlogin AND r.rolvaliduntil < 'infinity'
"""

# Processes that connect with a role of their own.
CLIENTS = ("client backend", "walsender")


def read_logins(client: Client, sessions: Iterable[Row], service_roles: list[str], top: int) -> Part:
    """Return ``logins`` and its ``_total``: those that cannot log in first, then those that expire first.

    ``sessions`` are those of others. ``service_roles`` are roles that services use, whether they are connected or not.
    Raises QueryFailed.
    """
    of_clients = [row for row in sessions if row["backend_type"] in CLIENTS or pg_sessions.is_hidden(row)]
    pairs = sorted({(row["user"], row["database"]) for row in of_clients if row["user"] and row["database"]})
    used = {row["user"] for row in of_clients if row["user"]} | set(service_roles)
    parameters = {
        "used": sorted(used),
        "users": [user for user, _database in pairs],
        "databases": [database for _user, database in pairs],
    }
    found = client.rows(LOGINS, parameters)
    known = {row["role"] for row in found}
    missing = [dict(dict.fromkeys(found[0] if found else FIELDS), role=name) for name in service_roles]
    found += [row for row in missing if row["role"] not in known]
    for row in found:
        is_expired = row["valid_seconds"] is not None and row["valid_seconds"] <= 0
        row.update(
            sessions=sum(session["user"] == row["role"] for session in of_clients),
            logged_in_since=is_expired and row["role"] == client.role,
            in_use=row["role"] in used,
            obstacle=obstacle(row, known),
            denied_databases=row["denied_databases"] or [],
        )
    found.sort(key=lambda row: (row["obstacle"] == "none", not row["in_use"], _expiry(row), row["role"]))
    return {"logins": found[:top], "logins_total": len(found)}


FIELDS = ("role", "may_log_in", "superuser", "connection_limit", "valid_until", "valid_seconds", "denied_databases")


def obstacle(row: Row, known: Iterable[str]) -> str:
    """Return why the role cannot connect again: ``missing``, ``no_login``, ``limit``, ``connect`` or ``none``.

    ``limit``: its connection limit is 0. ``connect``: it has sessions in databases to which it may not connect again.
    """
    if row["role"] not in known:
        return "missing"
    if not row["may_log_in"]:
        return "no_login"
    if row["connection_limit"] == 0 and not row["superuser"]:
        return "limit"
    return "connect" if row["denied_databases"] else "none"


def _expiry(row: Row) -> float:
    return float("inf") if row["valid_seconds"] is None else row["valid_seconds"]
