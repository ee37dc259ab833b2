# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What there is to know about a table or an index before it is maintained, without a lock on it.

Private to this collection.
"""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._pg_relations import LEFT_BEHIND
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import sql_identifier

# Locks that do not go together with the one that VACUUM, ANALYZE and REINDEX CONCURRENTLY take.
CONFLICTING = [
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
]

# Numbers that the last VACUUM or ANALYZE wrote into the catalog; before there was one, rows are not known.
SIZE = """
       CASE WHEN {c}.reltuples > 0 OR {c}.relpages = 0 AND {c}.reltuples = 0 THEN {c}.reltuples::float8 END AS rows,
       ({c}.relpages * current_setting('block_size')::bigint)::float8 AS bytes
"""

WHOSE = """
       n.nspname::text AS schema, pg_get_userbyid(t.relowner)::text AS owner,
       (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = t.relowner) AS superuser_owns,
       current_user::text AS role, has_schema_privilege(n.oid, 'USAGE') AS reaches_schema
"""

# Before PostgreSQL 17 there is no privilege that can be granted. Only REINDEX is not for the owner of the database.
MAINTAINS = "has_table_privilege(t.oid, 'MAINTAIN')"
OWNS_DATABASE = """
NOT t.relisshared AND (SELECT pg_has_role(d.datdba, 'USAGE') FROM pg_database d WHERE d.datname = current_database())
"""

TABLE = """
SELECT t.oid AS table_oid, t.oid, t.relname::text AS "table", t.relkind::text AS kind,
       t.relpersistence = 't' AS temporary, t.relname::text AS name,
       {whose}, {maintains} OR {owns_database} AS permitted,
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

# What could tell before a REINDEX that it is in vain: plain columns alone, whose functions are the server's own.
INDEX = """
SELECT t.oid AS table_oid, c.oid, t.relname::text AS "table", c.relkind::text AS kind,
       c.relpersistence = 't' AS temporary, c.relname::text AS name,
       {whose}, {maintains} AS permitted,
       {size}, i.indisvalid AS valid, i.indisexclusion AS excludes,
       c.relname ~ '{left_behind}' AS left_behind,
       CASE WHEN i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND has_table_privilege(t.oid, 'SELECT')
               AND NOT row_security_active(t.oid)
           THEN (SELECT array_agg(a.attname::text ORDER BY k.place)
                 FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
                 JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum
                 WHERE k.place <= i.indnkeyatts) END AS unique_columns,
       {nulls_equal} AS nulls_equal
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s
"""

# Whose locks we would have to wait for, and who waits for one that we would come behind. Everybody may see pg_locks.
IN_THE_WAY = """
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

# REINDEX CONCURRENTLY waits for every transaction that has touched the table, and for every older snapshot.
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

# Invalid ones that bear such a name, of one table.
LEFT_BEHIND_INDEXES = """
SELECT n.nspname::text AS schema, c.relname::text AS name
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = %(oid)s AND NOT i.indisvalid AND c.relname ~ '{left_behind}'
ORDER BY 1, 2
""".format(left_behind=LEFT_BEHIND)

DUPLICATES = "SELECT EXISTS (SELECT FROM {table} {known} GROUP BY {columns} HAVING count(*) > 1) AS found"


def table(client, named):
    """The table ``named``, or null where there is none. Raises QueryFailed."""
    sql = TABLE.format(whose=WHOSE, maintains=_maintains(client), owns_database=OWNS_DATABASE, size=SIZE.format(c="t"))
    return _quoted(_one(client.rows(sql, _names(named))))


def index(client, named):
    """The index ``named``, or null where there is none. Raises QueryFailed."""
    sql = INDEX.format(
        whose=WHOSE,
        maintains=_maintains(client),
        size=SIZE.format(c="c"),
        left_behind=LEFT_BEHIND,
        nulls_equal="i.indnullsnotdistinct" if client.connection.server_version >= 150000 else "false",
    )
    return _quoted(_one(client.rows(sql, _names(named))))


def in_the_way(client, relation):
    """Who holds, or waits for, a lock that keeps us from ``relation``, or null."""
    commands = ["VACUUM", "CLUSTER", "CREATE INDEX"]
    if client.connection.server_version >= 130000:
        commands.append("ANALYZE")
    oids = [relation["table_oid"], relation["oid"]]
    return _one(client.rows(IN_THE_WAY, {"oids": oids, "commands": commands, "modes": CONFLICTING}))


def old_transaction(client, relation, seconds):
    """The oldest transaction that REINDEX would wait for and that has been open for so long already, or null."""
    return _one(client.rows(OLD_TRANSACTIONS, {"oid": relation["table_oid"], "seconds": seconds}))


def left_behind(client, relation):
    """The invalid indexes of the table that an unfinished REINDEX has left behind, quoted."""
    return [
        _qualified(row["schema"], row["name"])
        for row in client.rows(LEFT_BEHIND_INDEXES, {"oid": relation["table_oid"]})
    ]


def has_duplicates(client, relation):
    """Whether rows of the table contradict its unique index; null where that cannot be found out beforehand."""
    if not relation["unique_columns"]:
        return None
    columns = [sql_identifier(name) for name in relation["unique_columns"]]
    known = "" if relation["nulls_equal"] else "WHERE %s" % " AND ".join("%s IS NOT NULL" % each for each in columns)
    sql = DUPLICATES.format(table=relation["quoted_table"], known=known, columns=", ".join(columns))
    return client.row(sql)["found"]


def _maintains(client):
    return MAINTAINS if client.connection.server_version >= 170000 else "pg_has_role(t.relowner, 'USAGE')"


def _names(named):
    return {"schema": named["schema"], "name": named["name"]}


def _quoted(found):
    """``found`` with all names as SQL has them, but for those of the table and the object alone; null for null."""
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


def _qualified(schema, name):
    return "%s.%s" % (sql_identifier(schema), sql_identifier(name))


def _one(rows):
    return rows[0] if rows else None
