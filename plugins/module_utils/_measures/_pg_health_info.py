# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a PostgreSQL server that builds up over hours and days. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Unknown,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_relations as pg_relations
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_rights as pg_rights
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_server as pg_server
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_sessions as pg_sessions
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_statements as pg_statements
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import sql_identifier

ARGUMENT_SPEC = dict(
    postgresql.CONNECTION_SPEC,
    top={"type": "int", "default": 20},
    query_length={"type": "int", "default": 300},
    show_literals={"type": "bool", "default": False},
    statement_min_calls={"type": "int", "default": 1},
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
XMIN_HOLDERS = ("xmin_holders", "xmin_holders_total")
REPLICAS = ("replicas", "replicas_total")
SLOTS = ("slots", "slots_total")

PARTS = (
    ("server",)
    + STATEMENTS
    + TABLES
    + INDEXES
    + FOREIGN_KEYS
    + SEQUENCES
    + DATABASES
    + XMIN_HOLDERS
    + ("counters", "checkpoints")
    + REPLICAS
    + ("standby",)
    + SLOTS
    + ("archiver", "pending_restart")
)


def measure(options):
    """What M(tracktion.ops.pg_health_info) returns. Raises CannotMeasure."""
    try:
        client = postgresql.connect(options)
    except CannotConnect as exc:
        return unreachable(PARTS, exc)
    unknown = Unknown()
    parts = dict.fromkeys(PARTS)
    top, length = options["top"], options["query_length"]

    def read(names, function, *arguments):
        parts.update(postgresql.read(unknown, names, function, client, *arguments) or {})

    # Nothing else can be read without the version.
    read(PARTS, lambda connected: {"server": pg_sessions.server(connected)})
    if parts["server"] is None:
        return reached(parts, unknown)
    version_num, hint = parts["server"]["version_num"], parts["server"]["hint"]
    read(DATABASES, pg_server.ages, top)
    read(XMIN_HOLDERS, pg_server.xmin_holders, top)
    read(("counters",), pg_server.counters)
    read(("checkpoints",), pg_server.checkpoints, version_num)
    read(REPLICAS, pg_server.replication, top, unknown, hint)
    read(("standby",), pg_server.standby)
    read(SLOTS, pg_server.slots, version_num, top)
    read(("archiver",), pg_server.archiver)
    read(("pending_restart",), pg_server.pending_restart)
    calls, literals = options["statement_min_calls"], options["show_literals"]
    read(STATEMENTS, pg_statements.statements, top, calls, length, literals, unknown, hint)
    read(TABLES, pg_relations.tables, top)
    read(INDEXES, pg_relations.indexes, top)
    read(FOREIGN_KEYS, pg_relations.foreign_keys, top)
    read(SEQUENCES, pg_relations.sequences, top)
    name_hidden(parts, unknown)
    return reached(parts, unknown)


def name_hidden(parts, unknown):
    """Name in ``unknown`` what is missing because it is hidden from the role."""
    server = parts["server"]
    if not server["sees_settings"] and parts["pending_restart"] is not None:
        reason = "the settings that only superusers may see are hidden from %s" % server["role"]
        unknown.add("pending_restart[...]", reason, server["hint"])
    if any(row["building"] is None for row in parts["invalid_indexes"] or ()):
        reason = "which index is being built by a session of another role is hidden from %s" % server["role"]
        unknown.add("invalid_indexes.*", reason, server["hint"])
    if parts["sequences_hidden"]:
        reason = "%(sequences_hidden)d of %(sequences_total)d sequences are hidden" % parts
        schemas = ", ".join(sql_identifier(name) for name in parts["sequences_hidden_in"])
        command = pg_rights.grant("SELECT ON ALL SEQUENCES IN SCHEMA %s" % schemas, server["role"])
        unknown.add("sequences[...]", reason, "Run as their owner or a superuser: `%s`" % command)
