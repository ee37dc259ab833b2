# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads a table or an index before and after its maintenance, without locking it.

Private to this collection.
"""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._pg_relations import LEFT_BEHIND
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import Client, Row
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import sql_identifier

# Lock modes that conflict with ShareUpdateExclusiveLock, which VACUUM, ANALYZE and REINDEX CONCURRENTLY take.
CONFLICTING = [
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
]

# As the last VACUUM or ANALYZE wrote them to the catalog. Before the first one, the number of rows is not known.
SIZE = """
       CASE WHEN {c}.reltuples > 0 OR {c}.relpages = 0 AND {c}.reltuples = 0 THEN {c}.reltuples::float8 END AS rows,
       ({c}.relpages * current_setting('block_size')::bigint)::float8 AS bytes
"""

OWNER = """
       n.nspname::text AS schema, pg_get_userbyid(t.relowner)::text AS owner,
       (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = t.relowner) AS superuser_owns,
       current_user::text AS role, has_schema_privilege(n.oid, 'USAGE') AS reaches_schema
"""

# Before PostgreSQL 17 there is no privilege to grant. The owner of the database may VACUUM and ANALYZE, not REINDEX.
HAS_MAINTAIN = "has_table_privilege(t.oid, 'MAINTAIN')"
OWNS_DATABASE = """
NOT t.relisshared AND (SELECT pg_has_role(d.datdba, 'USAGE') FROM pg_database d WHERE d.datname = current_database())
"""

TABLE = """
SELECT t.oid AS table_oid, t.oid, t.relname::text AS "table", t.relkind::text AS kind,
       t.relpersistence = 't' AS temporary, t.relname::text AS name,
       {owner}, {has_maintain} OR {owns_database} AS permitted,
       t.reltoastrelid AS toast_oid, {size},
       pg_stat_get_live_tuples(t.oid) AS live_rows, pg_stat_get_dead_tuples(t.oid) AS dead_rows,
       pg_stat_get_mod_since_analyze(t.oid) AS changed_rows,
       extract(epoch FROM greatest(pg_stat_get_last_vacuum_time(t.oid), pg_stat_get_last_autovacuum_time(t.oid)))
           ::float8 AS vacuumed,
       extract(epoch FROM greatest(pg_stat_get_last_analyze_time(t.oid), pg_stat_get_last_autoanalyze_time(t.oid)))
           ::float8 AS analyzed
FROM pg_class t
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = %(schema)s AND t.relname = %(name)s
"""

# unique_columns: to find duplicates before a REINDEX. Plain columns only, so that no function of a user runs.
INDEX = """
SELECT t.oid AS table_oid, c.oid, t.relname::text AS "table", c.relkind::text AS kind,
       c.relpersistence = 't' AS temporary, c.relname::text AS name,
       {owner}, {has_maintain} AS permitted,
       {size}, i.indisvalid AS valid, i.indisexclusion AS excludes,
       c.relname ~ '{left_behind}' AS left_behind,
       CASE WHEN i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND has_table_privilege(t.oid, 'SELECT')
               AND NOT row_security_active(t.oid)
           THEN (SELECT array_agg(a.attname::text ORDER BY k.ordinal)
                 FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, ordinal)
                 JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum
                 WHERE k.ordinal <= i.indnkeyatts) END AS unique_columns,
       {nulls_equal} AS nulls_equal
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s
"""

# Sessions that hold a conflicting lock, or wait for one before us. Every role may read pg_locks.
CONFLICTING_LOCK = """
SELECT l.pid, l.mode, l.granted, a.backend_type, a.usename::text AS "user", a.application_name AS application, a.state,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.query_start))::float8 AS seconds,
       l.pid IN (SELECT p.pid FROM unnest(%(commands)s::text[]) c (name), pg_stat_get_progress_info(c.name) p)
           AS maintains
FROM pg_locks l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation = ANY (%(oids)s::oid[]) AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.mode = ANY (%(modes)s)
ORDER BY maintains DESC NULLS LAST, l.granted DESC, l.pid
LIMIT 1
"""

# REINDEX CONCURRENTLY waits for all transactions that have locked the table, and for all older snapshots.
OLD_TRANSACTIONS = """
WITH touching AS (
    SELECT l.pid, min(l.mode) AS mode
    FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.relation = %(oid)s AND l.granted
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY l.pid
)
SELECT t.pid, t.mode, NULL AS "user", NULL AS application, NULL AS state, NULL::float8 AS seconds
FROM touching t
WHERE t.pid IS NULL
UNION ALL
SELECT a.pid, t.mode, a.usename::text, a.application_name, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8
FROM pg_stat_activity a
LEFT JOIN touching t ON t.pid = a.pid
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND clock_timestamp() - a.xact_start >= make_interval(secs => %(seconds)s)
  AND (t.pid IS NOT NULL OR a.backend_xmin IS NOT NULL AND a.backend_type <> 'autovacuum worker')
ORDER BY seconds DESC NULLS FIRST
LIMIT 1
"""

# Invalid indexes of one table with such a name.
LEFT_BEHIND_INDEXES = """
SELECT n.nspname::text AS schema, c.relname::text AS name
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = %(oid)s AND NOT i.indisvalid AND c.relname ~ '{left_behind}'
ORDER BY 1, 2
""".format(left_behind=LEFT_BEHIND)

DUPLICATES = "SELECT EXISTS (SELECT FROM {table} {known} GROUP BY {columns} HAVING count(*) > 1) AS found"


def read_table(client: Client, named: Mapping[str, Any]) -> Row | None:
    """Return the table ``named``, or null if it does not exist. Raises QueryFailed."""
    sql = TABLE.format(
        owner=OWNER, has_maintain=_has_maintain(client), owns_database=OWNS_DATABASE, size=SIZE.format(c="t")
    )
    return _quoted(_first(client.rows(sql, _names(named))))


def read_index(client: Client, named: Mapping[str, Any]) -> Row | None:
    """Return the index ``named``, or null if it does not exist. Raises QueryFailed."""
    sql = INDEX.format(
        owner=OWNER,
        has_maintain=_has_maintain(client),
        size=SIZE.format(c="c"),
        left_behind=LEFT_BEHIND,
        nulls_equal="i.indnullsnotdistinct" if client.connection.server_version >= 150000 else "false",
    )
    return _quoted(_first(client.rows(sql, _names(named))))


def read_conflicting_lock(client: Client, relation: Row) -> Row | None:
    """Return a lock on ``relation``, held or waited for, that conflicts with its maintenance, or null."""
    commands = ["VACUUM", "CLUSTER", "CREATE INDEX"]
    if client.connection.server_version >= 130000:
        commands.append("ANALYZE")
    oids = [relation["table_oid"], relation["oid"]]
    return _first(client.rows(CONFLICTING_LOCK, {"oids": oids, "commands": commands, "modes": CONFLICTING}))


def read_old_transaction(client: Client, relation: Row, seconds: float) -> Row | None:
    """Return the oldest transaction that REINDEX would wait for and that is open for ``seconds`` already, or null."""
    return _first(client.rows(OLD_TRANSACTIONS, {"oid": relation["table_oid"], "seconds": seconds}))


def read_left_behind(client: Client, relation: Row) -> list[str]:
    """Return the quoted names of invalid indexes of the table that an interrupted REINDEX left behind."""
    return [
        _qualified(row["schema"], row["name"])
        for row in client.rows(LEFT_BEHIND_INDEXES, {"oid": relation["table_oid"]})
    ]


def has_duplicates(client: Client, relation: Row) -> bool | None:
    """Return whether rows of the table violate its unique index; null if only a build of the index can show it."""
    if not relation["unique_columns"]:
        return None
    columns = [sql_identifier(name) for name in relation["unique_columns"]]
    known = "" if relation["nulls_equal"] else "WHERE %s" % " AND ".join("%s IS NOT NULL" % each for each in columns)
    sql = DUPLICATES.format(table=relation["quoted_table"], known=known, columns=", ".join(columns))
    return client.row(sql)["found"]


def _has_maintain(client: Client) -> str:
    return HAS_MAINTAIN if client.connection.server_version >= 170000 else "pg_has_role(t.relowner, 'USAGE')"


def _names(named: Mapping[str, Any]) -> dict[str, str]:
    return {"schema": named["schema"], "name": named["name"]}


def _quoted(found: Row | None) -> Row | None:
    """Return ``found`` with its names quoted for SQL, except those of the table and of the object; null for null."""
    if found is None:
        return None
    return dict(
        found,
        quoted=_qualified(found["schema"], found["name"]),
        quoted_schema=sql_identifier(found["schema"]),
        quoted_table=_qualified(found["schema"], found["table"]),
        owner=sql_identifier(found["owner"]),
        role=sql_identifier(found["role"]),
    )


def _qualified(schema: str, name: str) -> str:
    return "%s.%s" % (sql_identifier(schema), sql_identifier(name))


def _first(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None
