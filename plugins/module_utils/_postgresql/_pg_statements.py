# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pg_stat_statements knows, whatever its version calls its columns. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import MARK, QueryFailed
from ansible_collections.tracktion.ops.plugins.module_utils._redact import hide_passwords

# The extension's columns, not the server's version, decide: after pg_upgrade an old extension lives on a new server.
EXTENSION = """
SELECT (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries') AS preloaded,
       e.extversion AS version, n.nspname::text AS schema, quote_ident(n.nspname) AS quoted_schema,
       (SELECT array_agg(a.attname::text) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = n.oid AND c.relname = 'pg_stat_statements' AND a.attnum > 0) AS columns,
       EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname = 'pg_stat_statements_info') AS has_info
FROM (SELECT) nothing
LEFT JOIN pg_extension e ON e.extname = 'pg_stat_statements'
LEFT JOIN pg_namespace n ON n.oid = e.extnamespace
"""

STATEMENTS = """
WITH statements AS MATERIALIZED (
    SELECT s.*, sum({total}) OVER () AS whole, count(*) OVER () AS number,
           row_number() OVER (ORDER BY {total} DESC) AS heavy,
           row_number() OVER (ORDER BY s.calls >= %(min_calls)s DESC, {mean} DESC) AS slow
    FROM {schema}.pg_stat_statements s
    WHERE s.query IS NULL OR position(%(mark)s IN s.query) = 0
)
SELECT s.queryid::text AS id, d.datname::text AS database, r.rolname::text AS "user",
       left(s.query, %(query_length)s) AS query, s.calls,
       ({mean} / 1000)::float8 AS mean_seconds, ({longest} / 1000)::float8 AS max_seconds,
       ({total} / 1000)::float8 AS total_seconds, ({total} / greatest(s.whole, 0.001))::float8 AS share,
       s.rows, s.shared_blks_hit AS blocks_hit, s.shared_blks_read AS blocks_read,
       (s.temp_blks_written * current_setting('block_size')::bigint)::float8 AS temp_bytes,
       ({read_time} / 1000)::float8 AS read_seconds,
       s.heavy, s.slow, s.number, (s.whole / 1000)::float8 AS whole_seconds
FROM statements s
LEFT JOIN pg_database d ON d.oid = s.dbid
LEFT JOIN pg_roles r ON r.oid = s.userid
WHERE s.heavy <= %(top)s OR s.slow <= %(top)s AND s.calls >= %(min_calls)s
"""

SINCE = """
SELECT greatest(0, extract(epoch FROM clock_timestamp() - stats_reset))::float8 AS seconds
FROM {schema}.pg_stat_statements_info()
"""

NOT_LOADED = "55000"


def statements(client, top, min_calls, query_length):
    """``statements``, ``slowest_statements``, ``heaviest_statements``.

    ``statements.state``: ``on``; ``not_created`` (the library may or may not be loaded, see ``loaded``: null where the
    role may not see it); ``not_loaded`` (the extension is there, its library is not).
    """
    extension = client.row(EXTENSION)
    loaded = None
    if extension["preloaded"] is not None:
        names = [name.strip(' "').rpartition("/")[2] for name in extension["preloaded"].split(",")]
        loaded = "pg_stat_statements" in names
    summary = {
        "state": "not_created",
        "loaded": loaded,
        "preloaded_libraries": extension["preloaded"],
        "version": extension["version"],
        "total": None,
        "total_seconds": None,
        "since_seconds": None,
    }
    parts = {"statements": summary, "slowest_statements": [], "heaviest_statements": []}
    if extension["version"] is None:
        return parts
    if loaded is False:
        # To ask it all the same would be an error in the server's log, at each diagnosis.
        summary["state"] = "not_loaded"
        return parts
    try:
        found = client.rows(
            STATEMENTS.format(schema=extension["quoted_schema"], **column_names(extension["columns"])),
            {"top": top, "min_calls": min_calls, "query_length": query_length, "mark": MARK},
        )
    except QueryFailed as exc:
        if exc.sqlstate != NOT_LOADED:
            raise
        summary.update(state="not_loaded", loaded=False)
        return parts
    summary.update(
        state="on",
        loaded=True,
        total=found[0]["number"] if found else 0,
        total_seconds=found[0]["whole_seconds"] if found else 0.0,
    )
    if extension["has_info"]:
        summary["since_seconds"] = client.row(SINCE.format(schema=extension["quoted_schema"]))["seconds"]
    slowest = sorted((row for row in found if row["calls"] >= min_calls), key=lambda row: row["slow"])[:top]
    heaviest = sorted(found, key=lambda row: row["heavy"])[:top]
    parts["slowest_statements"] = [_described(row) for row in slowest]
    parts["heaviest_statements"] = [_described(row) for row in heaviest]
    return parts


def column_names(columns):
    """The names that this version of the extension has for its times, in milliseconds.

    1.8 (PostgreSQL 13) split planning from execution, 1.11 (PostgreSQL 17) the kinds of blocks.
    """
    kind = "_exec_time" if "total_exec_time" in columns else "_time"
    reading = "shared_blk_read_time" if "shared_blk_read_time" in columns else "blk_read_time"
    return {
        "total": "s.total" + kind,
        "mean": "s.mean" + kind,
        "longest": "s.max" + kind,
        "read_time": "s." + reading,
    }


def _described(row):
    shown = {name: value for name, value in row.items() if name not in ("heavy", "slow", "number", "whole_seconds")}
    shown["query"] = hide_passwords(shown["query"])
    return shown
