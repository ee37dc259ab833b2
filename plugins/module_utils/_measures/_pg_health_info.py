# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures what changes slowly in a PostgreSQL server: vacuum, indexes, replication. Private to this collection."""

from __future__ import annotations

from typing import Any, Callable, Iterable

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Unknown,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import (
    _pg_harmful_settings as pg_harmful_settings,
)
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_relations as pg_relations
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_rights as pg_rights
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_server as pg_server
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_sessions as pg_sessions
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_statements as pg_statements
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import sql_identifier
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC: dict[str, Any] = dict(
    postgresql.MEASURING_SPEC,
    statement_min_calls={"type": "int", "default": 1},
    planner_statistics_min_rows={"type": "int", "default": 1000},
    **pg_server.HOLDER_SPEC,
)

STATEMENTS = ("statements", "slowest_statements", "heaviest_statements")
TABLES = ("tables", "tables_total", "tables_bytes")
INDEXES = (
    "unused_indexes",
    "unused_indexes_total",
    "duplicate_indexes",
    "duplicate_indexes_total",
    "invalid_indexes",
    "invalid_indexes_total",
)
FOREIGN_KEYS = ("foreign_keys_without_index", "foreign_keys_without_index_total")
SEQUENCES = ("sequences", "sequences_total", "sequences_hidden", "sequences_hidden_in")
DATABASES = ("databases", "databases_total")
PLANNER_STATISTICS = ("planner_statistics",)
COLLATIONS = ("collation_mismatches", "collation_mismatches_total")
CHECKSUMS = ("checksum_failures", "checksum_failures_total")
SUBSCRIPTIONS = ("subscriptions", "subscriptions_total")
XMIN_HOLDERS = ("xmin_holders", "xmin_holders_total")
REPLICAS = ("replicas", "replicas_total")
SLOTS = ("slots", "slots_total")
HARMFUL_SETTINGS = ("harmful_settings", "harmful_settings_total")

PARTS = (
    ("server",)
    + STATEMENTS
    + TABLES
    + INDEXES
    + FOREIGN_KEYS
    + SEQUENCES
    + DATABASES
    + XMIN_HOLDERS
    + ("horizon",)
    + PLANNER_STATISTICS
    + COLLATIONS
    + CHECKSUMS
    + SUBSCRIPTIONS
    + ("counters", "checkpoints")
    + REPLICAS
    + ("standby",)
    + SLOTS
    + ("archiver", "pending_restart")
    + HARMFUL_SETTINGS
)


def measure(options: Options) -> Measurement:
    """Return the measurement of M(tracktion.ops.pg_health_info). Raises CannotMeasure."""
    try:
        client = postgresql.connect(options)
    except CannotConnect as exc:
        return unreachable(PARTS, exc)
    unknown = Unknown()
    parts: Part = dict.fromkeys(PARTS)
    top, length = options["top"], options["query_length"]
    # All other queries depend on the version.
    server = parts["server"] = postgresql.read(unknown, PARTS, pg_sessions.read_server, client)
    if server is None:
        # A pooler may accept a client and give it no connection to the server.
        return unreachable(PARTS, client.lost) if client.lost else reached(parts, unknown)
    version_num, hint = server["version_num"], server["hint"]

    def read(names: Iterable[str], function: Callable[..., Part], *arguments: Any) -> None:
        parts.update(postgresql.read(unknown, names, function, client, *arguments) or {})

    read(DATABASES, pg_server.read_ages, top)
    read(XMIN_HOLDERS, pg_server.read_xmin_holders, top)
    read(("horizon",), pg_server.read_horizon_part)
    read(("counters",), pg_server.read_counters)
    read(("checkpoints",), pg_server.read_checkpoints, version_num)
    read(REPLICAS, pg_server.read_replicas, top, unknown, hint)
    read(("standby",), pg_server.read_standby, server["in_recovery"])
    read(SLOTS, pg_server.read_slots, version_num, top)
    read(("archiver",), pg_server.read_archiver)
    read(("pending_restart",), pg_server.read_pending_restart)
    read(HARMFUL_SETTINGS, pg_harmful_settings.read_harmful_settings, top)
    calls, literals = options["statement_min_calls"], options["show_literals"]
    read(STATEMENTS, pg_statements.read_statements, top, calls, length, literals, unknown, hint)
    read(COLLATIONS, pg_server.read_collations, version_num, top)
    read(CHECKSUMS, pg_server.read_checksum_failures, top)
    read(SUBSCRIPTIONS, pg_server.read_subscriptions, version_num, top)
    min_rows = options["planner_statistics_min_rows"]
    read(PLANNER_STATISTICS, pg_relations.read_planner_statistics, top, min_rows)
    read(TABLES, pg_relations.read_tables, top)
    read(INDEXES, pg_relations.read_indexes, top)
    read(FOREIGN_KEYS, pg_relations.read_foreign_keys, top)
    read(SEQUENCES, pg_relations.read_sequences, top)
    add_held_back(parts, options)
    add_hidden(parts, server, unknown)
    return reached(parts, unknown)


def add_held_back(parts: Part, options: Options) -> None:
    """Add to each table whether VACUUM is expected to remove nothing; null if that is not known."""
    for table in parts["tables"] or ():
        holder = parts["horizon"] and parts["horizon"]["holder"]
        limits = options["max_holder_seconds"], options["max_holder_xids"]
        is_held = holder is not None and pg_server.holds_back(holder, table["vacuumed"], *limits)
        table["held_back"] = is_held if parts["horizon"] else None


def add_hidden(parts: Part, server: pg_sessions.Server, unknown: Unknown) -> None:
    """Add to ``unknown`` what is hidden from the role."""
    if not server["sees_settings"] and parts["pending_restart"] is not None:
        reason = "settings that only superusers may see are hidden from %s" % server["role"]
        unknown.add("pending_restart[...]", reason, server["hint"])
    if any(row["building"] is None for row in parts["invalid_indexes"] or ()):
        reason = "which index a session of another role is building is hidden from %s" % server["role"]
        unknown.add("invalid_indexes.*", reason, server["hint"])
    if parts["sequences_hidden"]:
        reason = "%(sequences_hidden)d of %(sequences_total)d sequences are hidden" % parts
        schemas = ", ".join(sql_identifier(name) for name in parts["sequences_hidden_in"])
        command = pg_rights.grant("SELECT ON ALL SEQUENCES IN SCHEMA %s" % schemas, server["role"])
        unknown.add("sequences[...]", reason, "Run as their owner or a superuser: `%s`" % command)
