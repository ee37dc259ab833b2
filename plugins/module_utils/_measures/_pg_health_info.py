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
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_server as pg_server
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_sessions as pg_sessions
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_statements as pg_statements
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _postgresql as postgresql

ARGUMENT_SPEC = dict(
    postgresql.CONNECTION_SPEC,
    top={"type": "int", "default": 20},
    query_length={"type": "int", "default": 300},
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
SEQUENCES = ("sequences", "sequences_total", "sequences_hidden")
DATABASES = ("databases", "databases_total")
XMIN_HOLDERS = ("xmin_holders", "xmin_holders_total")
REPLICATION = ("replicas", "replicas_total", "standby")
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
    + REPLICATION
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

    read(("server",), lambda connected: {"server": pg_sessions.server(connected)})
    if parts["server"] is None:
        return reached(parts, unknown)
    version_num = parts["server"]["version_num"]
    read(DATABASES, pg_server.ages, top)
    read(XMIN_HOLDERS, pg_server.xmin_holders, top)
    read(("counters",), pg_server.counters)
    read(("checkpoints",), pg_server.checkpoints, version_num)
    read(REPLICATION, pg_server.replication, top)
    read(SLOTS, pg_server.slots, version_num, top)
    read(("archiver",), pg_server.archiver)
    read(("pending_restart",), pg_server.pending_restart)
    read(STATEMENTS, pg_statements.statements, top, options["statement_min_calls"], length)
    read(TABLES, pg_relations.tables, top)
    read(INDEXES, pg_relations.indexes, top)
    read(FOREIGN_KEYS, pg_relations.foreign_keys, top)
    read(SEQUENCES, pg_relations.sequences, top)
    _say_what_is_hidden(parts, unknown)
    return reached(parts, unknown)


def _say_what_is_hidden(parts, unknown):
    """Names what the server answered only in part, because the role may not see the rest."""
    server = parts["server"]
    if not server["sees_all"]:
        for part in ("slowest_statements", "heaviest_statements", "xmin_holders", "replicas"):
            unknown.add(
                part, "what other roles do is hidden from %s: GRANT pg_monitor TO %s" % (server["role"], server["role"])
            )
    if parts["sequences_hidden"]:
        unknown.add(
            "sequences_hidden",
            "%d of %d sequences cannot be read: GRANT SELECT ON ALL SEQUENCES IN SCHEMA ... TO %s"
            % (parts["sequences_hidden"], parts["sequences_total"], server["role"]),
        )
