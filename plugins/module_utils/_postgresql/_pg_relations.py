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
    SELECT n.nspname::text AS schema, c.relname::text AS name,
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
      AND (c.reltuples < 0 OR has_table_privilege(c.oid, 'SELECT'))
      -- A standby does not know when its primary has analyzed a table, or will.
      AND NOT pg_is_in_recovery()
), described AS MATERIALIZED (
    -- Once for all tables: the view is slow.
    SELECT DISTINCT schemaname::text AS schema, tablename::text AS name FROM pg_stats
), large AS MATERIALIZED (
    -- Autovacuum analyzes the tables that are due by itself.
    SELECT * FROM tables t
    WHERE t.rows >= %(rows)s AND NOT t.is_due AND (t.schema, t.name) NOT IN (SELECT d.schema, d.name FROM described d)
)
SELECT count(*)::int AS tables, coalesce(sum(rows), 0)::float8 AS rows,
       coalesce((SELECT json_agg(l.schema || '.' || l.name)
                 FROM (SELECT schema, name FROM large ORDER BY rows DESC, schema, name LIMIT %(top)s) l), '[]')
           AS largest
FROM large
"""

# A sequence ends at its own limit or at that of a column that it fills, whichever comes first. It fills the column that
# owns it, and each with a DEFAULT that uses it. The narrowest counts.
SEQUENCES = """
WITH filled AS MATERIALIZED (
    SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number
    FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
      AND d.refobjsubid > 0
    UNION
    SELECT d.refobjid, f.adrelid, f.adnum
    FROM pg_depend d
    JOIN pg_attrdef f ON f.oid = d.objid
    WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
), sequences AS (
    SELECT n.nspname::text AS schema, c.relname::text AS name, o.table_schema, o."table", o."column",
           o.type IN ('int2'::regtype, 'int4'::regtype) AS narrow_column, s.seqincrement > 0 AS ascends,
           s.seqcycle AS cycles, s.seqmin::numeric AS lowest,
           least(s.seqmax, CASE o.type WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END)
               ::numeric AS highest,
           has_sequence_privilege(c.oid, 'SELECT, USAGE') AS readable,
           CASE WHEN has_sequence_privilege(c.oid, 'SELECT, USAGE') THEN pg_sequence_last_value(c.oid) END AS last
    FROM pg_sequence s
    JOIN pg_class c ON c.oid = s.seqrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN LATERAL (
        SELECT a.atttypid AS type, a.attname::text AS "column", t.relname::text AS "table",
               tn.nspname::text AS table_schema
        FROM filled f
        JOIN pg_attribute a ON a.attrelid = f.relation AND a.attnum = f.number
        JOIN pg_class t ON t.oid = f.relation
        JOIN pg_namespace tn ON tn.oid = t.relnamespace
        WHERE f.sequence = c.oid AND t.relkind IN ('r', 'p')
        ORDER BY CASE a.atttypid WHEN 'int2'::regtype THEN 1 WHEN 'int4'::regtype THEN 2 ELSE 3 END, t.relkind, t.oid
        LIMIT 1
    ) o ON true
    WHERE {user_schema} AND c.relpersistence <> 't' AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
)
SELECT schema, name, table_schema, "table", "column", narrow_column, last, ascends, cycles,
       (CASE WHEN ascends THEN highest ELSE lowest END)::float8 AS "limit",
       coalesce(CASE WHEN ascends THEN (last - lowest) / greatest(highest - lowest, 1)
            ELSE (highest - last) / greatest(highest - lowest, 1) END, 0)::float8 AS ratio,
       count(*) OVER () AS total,
       count(*) FILTER (WHERE NOT readable) OVER () AS hidden,
       (SELECT array_agg(DISTINCT schema ORDER BY schema) FROM sequences WHERE NOT readable) AS hidden_in
FROM sequences
ORDER BY readable DESC, ratio DESC, schema, name
LIMIT %(top)s
"""


def read_planner_statistics(client: Client, top: int, min_rows: int) -> Part:
    """Return ``planner_statistics``. Raises QueryFailed."""
    sql = PLANNER_STATISTICS.format(user_schema=USER_SCHEMA)
    return {"planner_statistics": client.row(sql, {"top": top, "rows": min_rows})}


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
        "sequences_total": found[0]["total"] if found else 0,
        "sequences_hidden": found[0]["hidden"] if found else 0,
        "sequences_hidden_in": (found[0]["hidden_in"] or [])[:top] if found else [],
    }


def _quoted(rows: list[Row]) -> list[Row]:
    return [dict(row, quoted="%s.%s" % (sql_identifier(row["schema"]), sql_identifier(row["name"]))) for row in rows]


def _without(rows: list[Row], *fields: str) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in fields} for row in rows]
