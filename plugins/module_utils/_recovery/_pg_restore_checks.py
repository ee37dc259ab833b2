# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reasons not to restore a backup of PostgreSQL into a server. Private to this collection."""

from __future__ import annotations

import os
from typing import Any, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_clients, _space
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_contents import literal
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_databases import Session, identifier
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

ENGINE_SECONDS = 10.0
# A restored database has no bloat, but is never exactly as large as its original.
GROWTH = 1.1
GLOBALS = "globals.sql"


class NotPossible(Failure):
    """The backup cannot be restored here. The message names all reasons; nothing was changed."""

    kind = "not_possible"


class Problem(NamedTuple):
    """A reason not to restore, and the next step."""

    reason: str
    hint: str


class Facts(NamedTuple):
    """What a server is and has. ``live`` is the row of the database, or null: ``oid, bytes, is_template``."""

    version_num: int
    in_recovery: bool
    superuser: bool
    role: str
    pooler: bool
    data_directory: str | None
    max_wal_bytes: int
    live: Mapping[str, Any] | None
    slots: list[str]
    subscriptions: list[str]
    prepared: list[str]
    roles: set[str]
    tablespaces: set[str]
    extensions: set[str]


SERVER = """
SELECT current_setting('server_version_num')::int AS version_num, pg_is_in_recovery() AS in_recovery,
       current_setting('is_superuser')::bool AS superuser, current_user::text AS role, pg_backend_pid() AS pid,
       CASE WHEN current_setting('is_superuser')::bool THEN current_setting('data_directory') END AS data_directory,
       (SELECT setting::int8 * 1048576 FROM pg_settings WHERE name = 'max_wal_size') AS max_wal_bytes
"""
LIVE = """
SELECT oid::int8 AS oid, pg_database_size(oid) AS bytes, datistemplate AS is_template
FROM pg_database WHERE datname = %s
"""
NAMES = {
    "slots": "SELECT slot_name::text AS name FROM pg_replication_slots WHERE database = %s ORDER BY 1",
    "subscriptions": (
        "SELECT subname::text AS name FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = %s"
        " ORDER BY 1"
    ),
    "prepared": "SELECT gid AS name FROM pg_prepared_xacts WHERE database = %s ORDER BY 1",
}
PRESENT = {
    "roles": "SELECT rolname::text AS name FROM pg_roles",
    "tablespaces": "SELECT spcname::text AS name FROM pg_tablespace",
    "extensions": "SELECT name::text AS name FROM pg_available_extensions",
}


def facts(session: Session, database: str) -> Facts:
    """Return what the checks need to know. Raises QueryFailed, OutOfTime."""
    server = session.rows(SERVER)[0]
    live = session.rows(LIVE % literal(database))
    fields: dict[str, Any] = {part: _names(session, sql % literal(database)) for part, sql in NAMES.items()}
    fields.update({part: set(_names(session, sql)) for part, sql in PRESENT.items()})
    fields["pooler"] = session.client.through_pooler(server.pop("pid"))
    fields.update(server)
    return Facts(live=live[0] if live else None, **fields)


def _names(session: Session, sql: str) -> list[str]:
    return [row["name"] for row in session.rows(sql)]


def of_server(found: Facts) -> list[Problem]:
    """Return why this server takes no database at all. Pure."""
    problems = []
    if found.pooler:
        problems.append(
            Problem("a pooler answers at the address", "Connect to the server itself: `login_host`, `login_port`.")
        )
    if found.in_recovery:
        problems.append(
            Problem(
                "the server is in recovery (a standby, or it is still starting)",
                "Connect to the primary: `SELECT pg_is_in_recovery()` returns false there.",
            )
        )
    if not found.superuser:
        problems.append(
            Problem(
                "the role %s is no superuser, so it cannot restore owners and privileges" % found.role,
                "Log in as a superuser: `login_user`.",
            )
        )
    return problems


def of_backup(found: Facts, manifest: Mapping[str, Any], path: str, options: Options) -> list[Problem]:
    """Return why this backup does not fit into this server. Pure."""
    contents, problems = manifest["contents"], []
    dumped = contents["version_num"]
    if found.version_num // 10000 < dumped // 10000:
        problems.append(
            Problem(
                "the server is PostgreSQL %d, the backup is one of PostgreSQL %d"
                % (found.version_num // 10000, dumped // 10000),
                "Restore into a server of PostgreSQL %d or newer." % (dumped // 10000),
            )
        )
    roles = sorted(name for name in contents["roles"] if name not in found.roles)
    if roles:
        problems.append(
            Problem("roles are missing: %s" % ", ".join(roles), _create_roles(roles, manifest, path, options))
        )
    wanted = (contents["sections"].get("tablespaces") or {}).values()
    tablespaces = sorted(set(wanted) - found.tablespaces)
    if tablespaces:
        hint = "Create them, for example: `CREATE TABLESPACE %s LOCATION '/DIRECTORY'`." % identifier(tablespaces[0])
        problems.append(Problem("tablespaces are missing: %s" % ", ".join(tablespaces), hint))
    extensions = sorted(set(contents["sections"].get("extensions") or {}) - found.extensions)
    if extensions:
        hint = "Install their packages on the server, then test: `SELECT * FROM pg_available_extensions`."
        problems.append(Problem("extensions are not installed: %s" % ", ".join(extensions), hint))
    return problems


def of_database(found: Facts, database: str) -> list[Problem]:
    """Return why the database cannot be replaced. Pure."""
    problems = []
    if found.slots:
        drop = "SELECT pg_drop_replication_slot(%s)" % literal(found.slots[0])
        problems.append(
            Problem(
                "replication slots of %s would be lost: %s" % (database, ", ".join(found.slots)),
                "Drop them if their consumers can start anew: `%s`." % drop,
            )
        )
    if found.subscriptions:
        name = identifier(found.subscriptions[0])
        problems.append(
            Problem(
                "subscriptions of %s would be lost: %s" % (database, ", ".join(found.subscriptions)),
                "Drop them, and create them again after the restore: `DROP SUBSCRIPTION %s`." % name,
            )
        )
    if found.prepared:
        problems.append(
            Problem(
                "prepared transactions keep %s open: %s" % (database, ", ".join(found.prepared)),
                "End them: `COMMIT PREPARED %s`, or ROLLBACK PREPARED." % literal(found.prepared[0]),
            )
        )
    if found.live and found.live["is_template"]:
        hint = "Set it to a normal one: `ALTER DATABASE %s IS_TEMPLATE false`." % identifier(database)
        problems.append(Problem("%s is a template database" % database, hint))
    return problems


def _create_roles(roles: Sequence[str], manifest: Mapping[str, Any], path: str, options: Options) -> str:
    """Return the hint with the command that creates the missing roles."""
    names = [each["path"] for each in manifest["files"]]
    file = next((name for name in names if os.path.basename(name) == GLOBALS), None)
    if file:
        host = options["login_unix_socket"] or options["login_host"]
        command = "psql -h %s -p %d -U %s -d %s -f %s" % (
            *(shell_quote(host), options["login_port"], shell_quote(options["login_user"])),
            *(shell_quote(options["maintenance_db"]), shell_quote(os.path.join(path, file))),
        )
        return "Create them, with all others of the backup, and set their passwords: `%s`." % command
    return "Create them: `%s`." % "; ".join("CREATE ROLE %s" % identifier(role) for role in roles[:5])


def require(problems: Sequence[Problem], what: str) -> None:
    """Raise NotPossible if there are problems."""
    if problems:
        reasons = "; ".join(problem.reason for problem in problems)
        raise NotPossible("%s: %s" % (what, reasons), " ".join(problem.hint for problem in problems))


# Space


def needed(manifest: Mapping[str, Any], max_wal_bytes: int) -> int | None:
    """Return the bytes that the restored database and its WAL take beside the current one, or null."""
    source = manifest["source_bytes"]
    if source is None:
        return None
    return int(source * GROWTH) + min(source, max_wal_bytes) + _space.LEAST_BYTES


def require_space(path: str | None, wanted: int | None) -> dict[str, Any]:
    """Return ``path, free, needed`` of the space for a copy. Null: not known. Raises NotPossible."""
    space: dict[str, Any] = {"path": path, "free": None, "needed": wanted}
    if path is not None and os.path.isdir(path):
        space["free"] = _space.free(path).bytes
        if wanted is not None and space["free"] < wanted:
            text = "a copy of the database needs about %s beside it, and %s are free at %s"
            raise NotPossible(
                text % (_space.shown(wanted), _space.shown(space["free"]), shell_quote(path)),
                "Free space there: `df -h -- %s`." % shell_quote(path),
            )
    return space


def data_path(found: Facts, options: Options, deadline: Deadline) -> str | None:
    """Return the path of the server's data directory as this host sees it, or null if it is not on this host."""
    if not found.data_directory:
        return None
    try:
        server = _pg_clients.server_container(options, deadline)
        if server:
            with DockerApi(_engine.address(dict(options, tls=False)), deadline.step(ENGINE_SECONDS), deadline) as api:
                pid = api.read("containers", server.identity, "json")["State"]["Pid"]
            return "/proc/%d/root%s" % (pid, found.data_directory)
    except CannotConnect:
        return None
    local = options["login_unix_socket"] or _pg_clients._is_local(options["login_host"])
    return found.data_directory if local and os.path.isdir(found.data_directory) else None
