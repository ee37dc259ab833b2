# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads pg_stat_statements in all its versions. Private to this collection."""

from __future__ import annotations

import re
from typing import Iterable

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_rights as pg_rights
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _sql_text as sql_text
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import (
    MARK,
    Client,
    QueryFailed,
    Row,
)
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import sql_identifier
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# The columns of the extension decide, not the server's version: pg_upgrade keeps an old extension on a new server.
# A preloaded library defines its settings, which every role may see.
EXTENSION = """
SELECT (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries') AS preloaded,
       (SELECT source = 'command line' FROM pg_settings WHERE name = 'shared_preload_libraries') AS by_command_line,
       EXISTS (SELECT FROM pg_settings WHERE name = 'pg_stat_statements.max') AS loaded,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements') AS installed,
       e.extversion AS version, n.nspname::text AS schema, quote_ident(n.nspname) AS quoted_schema,
       (SELECT array_agg(a.attname::text) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = n.oid AND c.relname = 'pg_stat_statements' AND a.attnum > 0) AS columns,
       EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname = 'pg_stat_statements_info')
           AS has_info,
       has_schema_privilege(n.oid, 'USAGE') AS reaches_schema,
       (SELECT has_table_privilege(c.oid, 'SELECT') FROM pg_class c
        WHERE c.relnamespace = n.oid AND c.relname = 'pg_stat_statements') AS reads_view,
       (SELECT array_agg(p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')') FROM pg_proc p
        WHERE p.pronamespace = n.oid AND p.proname IN ('pg_stat_statements', 'pg_stat_statements_info')
          AND NOT has_function_privilege(p.oid, 'EXECUTE')) AS denied_functions
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
SELECT s.queryid::text AS id, s.queryid IS NULL AS hidden, d.datname::text AS database, r.rolname::text AS "user",
       CASE WHEN s.queryid IS NOT NULL THEN left(s.query, %(query_length)s) END AS query, s.calls,
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

# One entry of a list of names, with or without quotes.
LIBRARY = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


def read_statements(
    client: Client,
    top: int,
    min_calls: int,
    query_length: int,
    show_literals: bool,
    unknown: Unknown,
    hint: str | None,
) -> Part:
    """Return ``statements``, ``slowest_statements`` and ``heaviest_statements``. Raises QueryFailed.

    ``statements.state`` is ``on``, ``not_created`` (the extension does not exist; ``loaded`` says whether its library
    is loaded) or ``not_loaded`` (the extension exists, its library is not loaded). Texts that are hidden from the role
    are added to ``unknown``, with ``hint``.
    """
    extension = client.row(EXTENSION)
    summary: Part = {
        "state": "not_created",
        "loaded": extension["loaded"],
        "installed": extension["installed"],
        "by_command_line": bool(extension["by_command_line"]),
        "preloaded_libraries": split_libraries(extension["preloaded"]),
        "version": extension["version"],
        "total": None,
        "total_seconds": None,
        "since_seconds": None,
    }
    parts: Part = {"statements": summary, "slowest_statements": [], "heaviest_statements": []}
    if extension["version"] is None:
        return parts
    if not extension["loaded"]:
        # A query would be an error in the server's log, at each diagnosis.
        summary["state"] = "not_loaded"
        return parts
    summary["state"] = "on"
    try:
        missing = missing_rights(extension, client.role)
        if missing:
            raise QueryFailed("the role %s may not read pg_stat_statements" % client.role, hint=missing)
        found = client.rows(
            STATEMENTS.format(schema=extension["quoted_schema"], **column_names(extension["columns"])),
            {"top": top, "min_calls": min_calls, "query_length": sql_text.FETCHED, "mark": MARK},
        )
    except QueryFailed as exc:
        for part in ("slowest_statements", "heaviest_statements"):
            parts[part] = None
            unknown.add(part, exc, exc.hint)
        return parts
    summary.update(
        total=found[0]["number"] if found else 0,
        total_seconds=found[0]["whole_seconds"] if found else 0.0,
    )
    if extension["has_info"]:
        summary["since_seconds"] = client.row(SINCE.format(schema=extension["quoted_schema"]))["seconds"]
    slowest = sorted((row for row in found if row["calls"] >= min_calls), key=lambda row: row["slow"])[:top]
    heaviest = sorted(found, key=lambda row: row["heavy"])[:top]
    for part, rows in (("slowest_statements", slowest), ("heaviest_statements", heaviest)):
        if any(row["hidden"] for row in rows):
            unknown.add(part + ".*", "the texts of statements of other roles are hidden from %s" % client.role, hint)
        parts[part] = [_shown(row, query_length, show_literals) for row in keep_first_hidden(rows)]
    return parts


def keep_first_hidden(rows: Iterable[Row]) -> list[Row]:
    """Return ``rows`` with only the first hidden one of each database and role: the others are indistinguishable."""
    kept, seen = [], set()
    for row in rows:
        key = (row["database"], row["user"])
        if not row["hidden"] or key not in seen:
            kept.append(row)
        if row["hidden"]:
            seen.add(key)
    return kept


def split_libraries(setting: str | None) -> list[str] | None:
    """Return the names in the setting shared_preload_libraries; null for null."""
    if setting is None:
        return None
    return [quoted.replace('""', '"') or plain for quoted, plain in LIBRARY.findall(setting)]


def missing_rights(extension: Row, role: str) -> str | None:
    """Return the commands that let ``role`` read the view, or null if it may."""
    schema = sql_identifier(extension["schema"])
    wanted = []
    if not extension["reaches_schema"]:
        wanted.append("USAGE ON SCHEMA %s" % schema)
    if not extension["reads_view"]:
        wanted.append("SELECT ON %s.pg_stat_statements" % schema)
    if extension["denied_functions"]:
        names = ["%s.%s" % (schema, signature) for signature in sorted(extension["denied_functions"])]
        wanted.append("EXECUTE ON FUNCTION %s" % ", ".join(names))
    commands = ["`%s`" % pg_rights.grant(each, role) for each in wanted]
    return pg_rights.SUPERUSER % " and ".join(commands) if commands else None


def column_names(columns: Iterable[str]) -> dict[str, str]:
    """Return the columns with times, in milliseconds, in this version of the extension.

    1.8 (PostgreSQL 13) separated planning from execution, 1.11 (PostgreSQL 17) the kinds of blocks.
    """
    kind = "_exec_time" if "total_exec_time" in columns else "_time"
    reading = "shared_blk_read_time" if "shared_blk_read_time" in columns else "blk_read_time"
    return {
        "total": "s.total" + kind,
        "mean": "s.mean" + kind,
        "longest": "s.max" + kind,
        "read_time": "s." + reading,
    }


def _shown(row: Row, query_length: int, show_literals: bool) -> Row:
    dropped = ("hidden", "heavy", "slow", "number", "whole_seconds")
    shown = {name: value for name, value in row.items() if name not in dropped}
    shown["query"] = sql_text.shown(shown["query"], query_length, show_literals)
    return shown
