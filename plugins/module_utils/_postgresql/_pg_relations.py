# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads tables, indexes, foreign keys and sequences of one database without locking them.

Sizes are those that the last VACUUM or ANALYZE wrote to the catalog (relpages), and definitions are compared by the
catalog's columns: pg_relation_size() and pg_get_indexdef() would wait for an ACCESS EXCLUSIVE lock.
Private to this collection.
"""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import Client, Row
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import sql_identifier
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

USER_SCHEMA = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"

# Names that REINDEX CONCURRENTLY gives to the new and the old index. If it is interrupted, that index stays.
LEFT_BEHIND = "_cc(new|old)[0-9]*$"

# Uses the functions of the view pg_stat_all_tables: the view itself aggregates all indexes of the database.
# A table is listed if it is among the first in one of the orders that checks need.
TABLES = """
WITH settings AS (
    SELECT current_setting('block_size')::bigint AS block_size,
           current_setting('autovacuum')::bool AS autovacuum,
           current_setting('autovacuum_vacuum_threshold')::float8 AS vacuum_threshold,
           current_setting('autovacuum_vacuum_scale_factor')::float8 AS vacuum_scale,
           nullif(current_setting('autovacuum_vacuum_max_threshold', true)::float8, -1) AS vacuum_max,
           current_setting('autovacuum_analyze_threshold')::float8 AS analyze_threshold,
           current_setting('autovacuum_analyze_scale_factor')::float8 AS analyze_scale
), tables AS MATERIALIZED (
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relpages * s.block_size AS bytes,
           greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)::float8 AS rows,
           pg_stat_get_live_tuples(c.oid) AS live_rows,
           pg_stat_get_dead_tuples(c.oid) AS dead_rows,
           pg_stat_get_mod_since_analyze(c.oid) AS changed_rows,
           pg_stat_get_numscans(c.oid) AS sequential_scans,
           pg_stat_get_tuples_returned(c.oid) AS sequential_rows,
           greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) AS vacuumed,
           greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS analyzed,
           greatest(age(c.relfrozenxid), age(t.relfrozenxid)) AS xid_age,
           greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid)) AS multixact_age,
           s.autovacuum AND coalesce(o.enabled, true) AS autovacuum,
           EXISTS (SELECT FROM pg_stat_progress_vacuum p WHERE p.relid = c.oid AND p.datname = current_database())
               AS vacuuming,
           CASE WHEN NOT s.autovacuum THEN 'server' WHEN NOT o.enabled THEN 'table' END AS autovacuum_off_in,
           least(coalesce(o.vacuum_threshold, s.vacuum_threshold)
                 + coalesce(o.vacuum_scale, s.vacuum_scale) * greatest(c.reltuples, 0), s.vacuum_max)
               AS vacuum_threshold,
           coalesce(o.analyze_threshold, s.analyze_threshold)
               + coalesce(o.analyze_scale, s.analyze_scale) * greatest(c.reltuples, 0) AS analyze_threshold
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN settings s
    LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    LEFT JOIN LATERAL (
        SELECT bool_and(option_value::bool) FILTER (WHERE option_name = 'autovacuum_enabled') AS enabled,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold') AS vacuum_threshold,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor') AS vacuum_scale,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_analyze_threshold')
                   AS analyze_threshold,
               max(option_value::float8) FILTER (WHERE option_name = 'autovacuum_analyze_scale_factor') AS analyze_scale
        FROM pg_options_to_table(c.reloptions)
    ) o ON c.reloptions IS NOT NULL
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {user_schema}
), ranked AS (
    SELECT tables.*, count(*) OVER () AS total, sum(bytes) OVER () AS total_bytes,
           least(row_number() OVER (ORDER BY dead_rows DESC, oid), row_number() OVER (ORDER BY changed_rows DESC, oid),
                 row_number() OVER (ORDER BY dead_rows - vacuum_threshold DESC, oid),
                 row_number() OVER (ORDER BY changed_rows - analyze_threshold DESC, oid),
                 row_number() OVER (ORDER BY xid_age DESC, oid), row_number() OVER (ORDER BY sequential_rows DESC, oid)
           ) AS ordinal
    FROM tables
)
SELECT schema, name, bytes::float8 AS bytes, rows, live_rows, dead_rows,
       dead_rows / greatest(live_rows + dead_rows, 1)::float8 AS dead_ratio,
       changed_rows, autovacuum, vacuuming, autovacuum_off_in, vacuum_threshold, analyze_threshold, xid_age,
       multixact_age,
       extract(epoch FROM vacuumed)::float8 AS vacuumed, extract(epoch FROM analyzed)::float8 AS analyzed,
       CASE WHEN vacuumed IS NOT NULL THEN greatest(0, extract(epoch FROM clock_timestamp() - vacuumed)) END::float8
           AS vacuumed_seconds,
       CASE WHEN analyzed IS NOT NULL THEN greatest(0, extract(epoch FROM clock_timestamp() - analyzed)) END::float8
           AS analyzed_seconds,
       sequential_scans, sequential_rows,
       (SELECT coalesce(sum(pg_stat_get_numscans(i.indexrelid)), 0)::float8 FROM pg_index i
        WHERE i.indrelid = ranked.oid) AS index_scans,
       total, total_bytes::float8 AS total_bytes
FROM ranked
WHERE ordinal <= %(top)s
ORDER BY bytes DESC, schema, name
"""

# A role without pg_read_all_stats cannot see which index a session builds, but sees its lock on the table.
# Indexes are duplicates if their definitions are equal, without the position of expressions in the text of the command.
# Of duplicates, the index that something depends on is kept.
INDEXES = """
WITH indexes AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, n.nspname::text AS schema, c.relname::text AS name, t.relname::text AS "table",
           c.relpages * current_setting('block_size')::bigint AS bytes,
           pg_stat_get_numscans(i.indexrelid) AS scans,
           i.indisvalid AS valid, i.indisunique AS is_unique, c.relname ~ '{left_behind}' AS left_behind,
           i.indisunique OR i.indisexclusion OR i.indisreplident OR i.indisclustered
               OR EXISTS (SELECT FROM pg_constraint con WHERE con.conindid = i.indexrelid) AS needed,
           EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid) AS of_partition,
           i.indisprimary AS is_primary,
           md5(concat_ws('|', i.indrelid, c.relam, i.indnatts, i.indnkeyatts,
               i.indkey, i.indclass, i.indcollation, i.indoption,
               regexp_replace(i.indexprs::text, ':location -?[0-9]+', '', 'g'), '|',
               regexp_replace(i.indpred::text, ':location -?[0-9]+', '', 'g'))) AS definition
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {user_schema} AND c.relkind = 'i' AND c.relpersistence <> 't'
), same AS (
    SELECT indexes.*, row_number() OVER kept AS ordinal, first_value(name) OVER kept AS duplicate_of
    FROM indexes
    WHERE valid
    WINDOW kept AS (PARTITION BY definition ORDER BY is_primary DESC, needed DESC, scans DESC, indexrelid)
), hidden_builds AS MATERIALIZED (
    SELECT l.relation
    FROM pg_stat_progress_create_index p JOIN pg_locks l ON l.pid = p.pid
    WHERE p.index_relid IS NULL AND l.locktype = 'relation' AND l.relation IS NOT NULL
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
), found AS (
    SELECT 'unused' AS kind, schema, name, "table", bytes, scans, NULL AS duplicate_of, is_unique, left_behind,
           false AS building, indexrelid
    FROM indexes
    WHERE valid AND scans = 0 AND NOT needed AND NOT of_partition
    UNION ALL
    SELECT 'duplicate', schema, name, "table", bytes, scans, duplicate_of, is_unique, left_behind, false, indexrelid
    FROM same
    WHERE ordinal > 1 AND NOT needed AND NOT of_partition
    UNION ALL
    SELECT 'invalid', schema, name, "table", bytes, scans, NULL, is_unique, left_behind,
           CASE WHEN indrelid NOT IN (SELECT relation FROM hidden_builds) THEN false END, indexrelid
    FROM indexes
    WHERE NOT valid AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = indexrelid)
), ranked AS (
    SELECT found.*, count(*) OVER (PARTITION BY kind) AS total,
           row_number() OVER (PARTITION BY kind ORDER BY bytes DESC, schema, name) AS ordinal
    FROM found
)
SELECT kind, schema, name, "table", bytes::float8 AS bytes, scans, duplicate_of, is_unique, left_behind, building,
       total,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = indexrelid)
           AS columns
FROM ranked
WHERE ordinal <= %(top)s
ORDER BY kind, ordinal
"""

# An index covers a foreign key if its first columns are those of the key, in any order. It may be partial on "IS NOT
# NULL".
FOREIGN_KEYS = """
SELECT n.nspname::text AS schema, c.relname::text AS "table", con.conname::text AS name,
       c.relkind = 'p' AS partitioned,
       (SELECT array_agg(a.attname::text ORDER BY k.ordinal)
        FROM unnest(con.conkey) WITH ORDINALITY k (attnum, ordinal)
        JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.attnum) AS columns,
       rn.nspname || '.' || r.relname AS referenced,
       greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)::float8 AS rows,
       pg_stat_get_tuples_deleted(r.oid) + pg_stat_get_tuples_updated(r.oid) AS referenced_changes,
       count(*) OVER () AS total
FROM pg_constraint con
JOIN pg_class c ON c.oid = con.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = con.confrelid
JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE con.contype = 'f' AND con.conparentid = 0
  AND NOT EXISTS (
      SELECT FROM pg_index i
      WHERE i.indrelid = con.conrelid AND i.indisvalid
        AND (i.indpred IS NULL OR i.indpred::text ~ '^\\{NULLTEST .*:nulltesttype 1 ')
        AND (string_to_array(i.indkey::text, ' ')::int2[])[1:cardinality(con.conkey)] @> con.conkey)
ORDER BY rows DESC, schema, "table", name
LIMIT %(top)s
"""

# A table that has been neither analyzed nor vacuumed has the row count -1 (0 before PostgreSQL 14). pg_stats shows the
# statistics of the tables that the role may read. The number of rows of a table without statistics is that of the last
# VACUUM or, after an upgrade, the number that a sequential scan has read.
PLANNER_STATISTICS = """
WITH tables AS MATERIALIZED (
    SELECT c.oid, c.reltuples, n.nspname AS schema, c.relname AS name,
           greatest(c.reltuples, pg_stat_get_live_tuples(c.oid),
                    pg_stat_get_tuples_returned(c.oid) / greatest(pg_stat_get_numscans(c.oid), 1))::float8 AS rows,
           s.enabled AND coalesce((SELECT bool_and(option_value::bool) FROM pg_options_to_table(c.reloptions)
                                   WHERE option_name = 'autovacuum_enabled'), true)
               AND pg_stat_get_mod_since_analyze(c.oid) > s.threshold + s.scale * greatest(c.reltuples, 0) AS is_due
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN (SELECT current_setting('autovacuum')::bool AS enabled,
                       current_setting('autovacuum_analyze_threshold')::float8 AS threshold,
                       current_setting('autovacuum_analyze_scale_factor')::float8 AS scale) s
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {user_schema}
      AND pg_stat_get_last_analyze_time(c.oid) IS NULL AND pg_stat_get_last_autoanalyze_time(c.oid) IS NULL
      -- A standby does not know when its primary has analyzed a table, or will.
      AND NOT pg_is_in_recovery()
), large AS (
    -- Autovacuum analyzes the tables that are due by itself.
    SELECT * FROM tables t
    WHERE rows >= %(rows)s AND NOT is_due AND (reltuples < 0 OR has_table_privilege(oid, 'SELECT')) {without_statistics}
)
SELECT count(*)::int AS tables, coalesce(sum(rows), 0)::float8 AS rows,
       coalesce((SELECT json_agg(l.schema || '.' || l.name)
                 FROM (SELECT schema, name FROM large ORDER BY rows DESC, schema, name LIMIT %(top)s) l), '[]')
           AS largest
FROM large
"""

# For one table at a time: as a join, the view would be read for all columns of the database, or once for each table.
WITHOUT_STATISTICS = """
      AND (SELECT true FROM pg_stats p WHERE p.schemaname = t.schema AND p.tablename = t.name LIMIT 1) IS NULL
"""

# A sequence ends at its own limit or at that of a column that it fills, whichever comes first. It fills the column that
# owns it, and each with a DEFAULT that uses it. The narrowest counts. Columns are looked up for sequences in use only.
# The lists of privileges are read as has_sequence_privilege() reads them, which would look up each sequence once more.
SEQUENCES = """
WITH role AS MATERIALIZED (
    SELECT coalesce(bool_or(pg_has_role(r.oid, 'USAGE')), false) OR current_setting('is_superuser')::bool AS reads_all
    FROM pg_roles r WHERE r.rolname = 'pg_read_all_data'
), permitted AS MATERIALIZED (
    SELECT s.*, c.relname::text AS name, n.nspname::text AS schema,
           role.reads_all OR EXISTS (
               SELECT FROM aclexplode(coalesce(c.relacl, acldefault('s', c.relowner))) a
               WHERE a.privilege_type IN ('SELECT', 'USAGE') AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
               AS readable
    FROM pg_sequence s
    JOIN pg_class c ON c.oid = s.seqrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN role
    WHERE {user_schema} AND c.relpersistence <> 't' AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
), used AS MATERIALIZED (
    SELECT found.*
    FROM (SELECT p.*, CASE WHEN p.readable THEN pg_sequence_last_value(p.seqrelid) END AS last FROM permitted p) found
    WHERE found.last IS NOT NULL
), filled AS (
    SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number
    FROM used
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = used.seqrelid
    WHERE d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
    UNION
    SELECT d.refobjid, f.adrelid, f.adnum
    FROM used
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = used.seqrelid
    JOIN pg_attrdef f ON f.oid = d.objid
    WHERE d.classid = 'pg_attrdef'::regclass
), columns AS (
    SELECT DISTINCT ON (f.sequence) f.sequence, a.atttypid AS type, a.attname::text AS "column",
           t.relname::text AS "table", t.relnamespace AS namespace
    FROM filled f
    JOIN pg_attribute a ON a.attrelid = f.relation AND a.attnum = f.number
    JOIN pg_class t ON t.oid = f.relation
    WHERE t.relkind IN ('r', 'p')
    ORDER BY f.sequence, CASE a.atttypid WHEN 'int2'::regtype THEN 1 WHEN 'int4'::regtype THEN 2 ELSE 3 END, t.relkind,
             t.oid
), sequences AS (
    SELECT used.schema, used.name, o.namespace, o."table", o."column",
           o.type IN ('int2'::regtype, 'int4'::regtype) AS narrow_column, used.seqincrement > 0 AS ascends,
           used.seqcycle AS cycles, used.seqmin::numeric AS lowest,
           least(used.seqmax, CASE o.type WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END)
               ::numeric AS highest,
           used.last
    FROM used
    LEFT JOIN columns o ON o.sequence = used.seqrelid
), ranked AS (
    SELECT sequences.*, (CASE WHEN ascends THEN highest ELSE lowest END)::float8 AS "limit",
           (CASE WHEN ascends THEN (last - lowest) / greatest(highest - lowest, 1)
                 ELSE (highest - last) / greatest(highest - lowest, 1) END)::float8 AS ratio
    FROM sequences
    ORDER BY ratio DESC, schema, name
    LIMIT %(top)s
)
SELECT r.schema, r.name, (SELECT nspname::text FROM pg_namespace WHERE oid = r.namespace) AS table_schema, r."table",
       r."column", r.narrow_column, r.last, r.ascends, r.cycles, r."limit", r.ratio,
       counted.total, counted.hidden, counted.hidden_in
FROM (SELECT count(*) AS total, count(*) FILTER (WHERE NOT readable) AS hidden,
             array_agg(DISTINCT schema ORDER BY schema) FILTER (WHERE NOT readable) AS hidden_in
      FROM permitted) counted
LEFT JOIN ranked r ON true
ORDER BY r.ratio DESC, r.schema, r.name
"""


def read_planner_statistics(client: Client, top: int, min_rows: int) -> Part:
    """Return ``planner_statistics``. Raises QueryFailed."""
    parameters = {"top": top, "rows": min_rows}
    found = client.row(PLANNER_STATISTICS.format(user_schema=USER_SCHEMA, without_statistics=""), parameters)
    if found["tables"]:
        sql = PLANNER_STATISTICS.format(user_schema=USER_SCHEMA, without_statistics=WITHOUT_STATISTICS)
        found = client.row(sql, parameters)
    return {"planner_statistics": found}


def read_tables(client: Client, top: int) -> Part:
    """Return ``tables``, ``tables_total`` and ``tables_bytes``. Raises QueryFailed."""
    found = client.rows(TABLES.format(user_schema=USER_SCHEMA), {"top": top})
    return {
        "tables": _quoted(_without(found, "total", "total_bytes")),
        "tables_total": found[0]["total"] if found else 0,
        "tables_bytes": found[0]["total_bytes"] if found else 0.0,
    }


def read_indexes(client: Client, top: int) -> Part:
    """Return unused, duplicate and invalid indexes, each list with its ``_total``. Raises QueryFailed."""
    found = client.rows(INDEXES.format(user_schema=USER_SCHEMA, left_behind=LEFT_BEHIND), {"top": top})
    parts: Part = {}
    for kind in ("unused", "duplicate", "invalid"):
        of_kind = [row for row in found if row["kind"] == kind]
        parts["%s_indexes" % kind] = _quoted(_without(of_kind, "kind", "total"))
        parts["%s_indexes_total" % kind] = of_kind[0]["total"] if of_kind else 0
    return parts


def read_foreign_keys(client: Client, top: int) -> Part:
    """Return ``foreign_keys_without_index`` and its ``_total``. Raises QueryFailed."""
    found = client.rows(FOREIGN_KEYS, {"top": top})
    return {
        "foreign_keys_without_index": _without(found, "total"),
        "foreign_keys_without_index_total": found[0]["total"] if found else 0,
    }


def read_sequences(client: Client, top: int) -> Part:
    """Return ``sequences``, its ``_total``, and those hidden from the role. Raises QueryFailed."""
    found = client.rows(SEQUENCES.format(user_schema=USER_SCHEMA), {"top": top})
    used = [row for row in found if row["last"] is not None]
    return {
        "sequences": _without(used, "total", "hidden", "hidden_in"),
        "sequences_total": found[0]["total"],
        "sequences_hidden": found[0]["hidden"],
        "sequences_hidden_in": (found[0]["hidden_in"] or [])[:top],
    }


def _quoted(rows: list[Row]) -> list[Row]:
    return [dict(row, quoted="%s.%s" % (sql_identifier(row["schema"]), sql_identifier(row["name"]))) for row in rows]


def _without(rows: list[Row], *fields: str) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in fields} for row in rows]
