# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The privileges that the role needs in PostgreSQL. PUBLIC has those of REVOKED by default."""

from __future__ import annotations

from . import Right

# Sessions, statements and index builds of other roles, and replicas.
OF_SESSIONS = (
    "connections_used", "long_query", "long_transaction", "idle_in_transaction", "aborted_transaction",
    "synchronous_standby",
)  # fmt: skip
# These have no fault in the tests, and are unknown if no session can be read.
OF_ALL_SESSIONS = ("lock_queue", "role_expired", "role_locked_out")
BLOCKING = ("blocked_sessions", "blocked_by_server")
STATEMENTS = ("slow_statement", "heavy_statement")
OF_OTHERS = (*OF_SESSIONS, *BLOCKING, *STATEMENTS, "replication_lag", "invalid_index", "left_behind_index")
INDEXES = ("unused_index", "duplicate_index", "invalid_index", "left_behind_index")

# Name -> what follows GRANT in the hint, and the checks that need it.
REVOKED = {
    "pg_stat_activity": (
        "SELECT ON pg_catalog.pg_stat_activity",
        (*OF_SESSIONS, *OF_ALL_SESSIONS, *BLOCKING, "locks_used", "xmin_held", "subscription_failing"),
    ),
    "pg_stat_get_activity()": (
        "EXECUTE ON FUNCTION pg_catalog.pg_stat_get_activity(integer)",
        (
            *OF_SESSIONS, *OF_ALL_SESSIONS, *BLOCKING, "locks_used", "xmin_held", "replication_lag",
            "subscription_failing",
        ),
    ),
    "pg_blocking_pids()": (
        "EXECUTE ON FUNCTION pg_catalog.pg_blocking_pids(integer)", (*OF_SESSIONS, *OF_ALL_SESSIONS, *BLOCKING),
    ),
    "pg_locks": ("SELECT ON pg_catalog.pg_locks", (*OF_SESSIONS, *OF_ALL_SESSIONS, *BLOCKING, "locks_used", *INDEXES)),
    "pg_prepared_xacts": ("SELECT ON pg_catalog.pg_prepared_xacts", ("prepared_transaction_old", "xmin_held")),
    "pg_stat_replication": ("SELECT ON pg_catalog.pg_stat_replication", ("replication_lag", "xmin_held")),
    "pg_replication_slots": (
        "SELECT ON pg_catalog.pg_replication_slots", ("inactive_slot", "slot_wal_retained", "xmin_held"),
    ),
    "pg_stat_archiver": ("SELECT ON pg_catalog.pg_stat_archiver", ("archive_failures",)),
    "pg_settings": (
        "SELECT ON pg_catalog.pg_settings", (
            "harmful_setting", "pending_restart", "statements_off", "synchronous_standby", "writes_off", *STATEMENTS,
        ),
    ),
    "pg_stat_progress_create_index": ("SELECT ON pg_catalog.pg_stat_progress_create_index", INDEXES),
    "pg_sequence_last_value()": (
        "EXECUTE ON FUNCTION pg_catalog.pg_sequence_last_value(regclass)", ("sequence_exhaustion", "sequences_hidden"),
    ),
    "pg_stat_statements": ('SELECT ON "public".pg_stat_statements', STATEMENTS),
    # No check needs these.
    "pg_control_system()": ("EXECUTE ON FUNCTION pg_catalog.pg_control_system()", ()),
    "CONNECT": ("CONNECT ON DATABASE postgres", ()),
}  # fmt: skip

RIGHTS = [
    Right("database", "pg_monitor", "GRANT pg_monitor TO", (*OF_OTHERS, "pending_restart")),
    Right("database", "pg_read_all_stats", "GRANT pg_monitor TO", OF_OTHERS),
    Right("database", "pg_read_all_settings", "GRANT pg_monitor TO", ("pending_restart",)),
    Right("database", "pg_stat_scan_tables", "GRANT pg_monitor TO", ()),
    Right("database", "SELECT ON SEQUENCE", "GRANT SELECT ON ALL SEQUENCES IN SCHEMA", ("sequence_exhaustion",)),
    *(Right("database", name, "GRANT %s TO" % what, checks) for name, (what, checks) in REVOKED.items()),
]
