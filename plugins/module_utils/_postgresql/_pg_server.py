# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the state of a PostgreSQL server: ages, xmin horizon, counters, checkpoints, replication, archiving, settings.

Private to this collection.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import (
    APPLICATION_NAME,
    Client,
    Row,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# From which age a transaction keeps VACUUM from removing the dead rows that are to be removed.
HOLDER_SPEC: dict[str, Any] = {
    "max_holder_seconds": {"type": "float", "default": 1.0},
    "max_holder_xids": {"type": "int", "default": 1000},
}

# Transaction IDs are compared modulo 2^32, so an age cannot exceed 2^31.
AGES = """
SELECT datname::text AS name, age(datfrozenxid) AS xid_age, age(datfrozenxid) / 2147483648.0::float8 AS xid_ratio,
       current_setting('autovacuum_freeze_max_age')::int AS freeze_max_age,
       mxid_age(datminmxid) AS multixact_age, mxid_age(datminmxid) / 2147483648.0::float8 AS multixact_ratio,
       current_setting('autovacuum_multixact_freeze_max_age')::int AS multixact_freeze_max_age,
       count(*) OVER () AS total
FROM pg_database
ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC, datname
LIMIT %(top)s
"""

# A session, slot or prepared transaction that needs old row versions keeps VACUUM from removing them in all tables.
# VACUUM itself does not.
XMIN_HOLDERS = """
WITH holders AS (
    SELECT CASE WHEN pid IN (SELECT r.pid FROM pg_stat_replication r) THEN 'standby' ELSE 'session' END AS kind,
           pid, extract(epoch FROM backend_start)::float8 AS backend_start,
           extract(epoch FROM xact_start)::float8 AS transaction_start,
           concat_ws(' ', usename, nullif(application_name, '')) AS name,
           greatest(age(backend_xmin), age(backend_xid)) AS xid_age,
           CASE WHEN xact_start IS NOT NULL
                THEN greatest(0, extract(epoch FROM clock_timestamp() - xact_start)) END::float8 AS seconds,
           state, backend_type, datname::text AS database
    FROM pg_stat_activity
    WHERE application_name IS DISTINCT FROM %(own)s AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
      AND pid NOT IN (SELECT v.pid FROM pg_stat_get_progress_info('VACUUM') v WHERE v.pid IS NOT NULL)
    UNION ALL
    SELECT 'slot', NULL, NULL, NULL, slot_name::text, greatest(age(xmin), age(catalog_xmin)), NULL,
           CASE WHEN active THEN 'active' ELSE 'inactive' END, NULL, database::text
    FROM pg_replication_slots
    WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
    UNION ALL
    SELECT 'prepared transaction', NULL, NULL, NULL, gid, age(transaction),
           extract(epoch FROM clock_timestamp() - prepared)::float8, 'prepared', NULL, database::text
    FROM pg_prepared_xacts
)
SELECT holders.*, count(*) OVER () AS total FROM holders ORDER BY xid_age DESC, kind, name LIMIT %(top)s
"""

# What holds back VACUUM in the tables of this database. Sessions and prepared transactions of other databases do not,
# and neither does the catalog_xmin of a logical slot. A standby reports its oldest snapshot if it sends feedback.
HORIZON = """
WITH holders AS (
    SELECT CASE WHEN a.backend_type = 'walsender' THEN 'standby' ELSE 'session' END AS kind, a.pid,
           concat_ws(' ', a.usename, nullif(a.application_name, '')) AS name,
           greatest(age(a.backend_xmin), age(a.backend_xid)) AS xid_age,
           CASE WHEN a.xact_start IS NOT NULL
                THEN greatest(0, extract(epoch FROM clock_timestamp() - a.xact_start)) END::float8 AS seconds,
           extract(epoch FROM a.xact_start)::float8 AS since, a.state
    FROM pg_stat_activity a
    WHERE a.application_name IS DISTINCT FROM %(own)s AND a.pid <> pg_backend_pid()
      AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
      AND (a.datname = current_database() OR a.datname IS NULL)
      AND a.pid NOT IN (SELECT v.pid FROM pg_stat_get_progress_info('VACUUM') v WHERE v.pid IS NOT NULL)
    UNION ALL
    SELECT 'slot', NULL, slot_name::text, age(xmin), NULL, NULL, CASE WHEN active THEN 'active' ELSE 'inactive' END
    FROM pg_replication_slots
    WHERE xmin IS NOT NULL
    UNION ALL
    SELECT 'prepared transaction', NULL, gid, age(transaction),
           extract(epoch FROM clock_timestamp() - prepared)::float8, extract(epoch FROM prepared)::float8, 'prepared'
    FROM pg_prepared_xacts
    WHERE database = current_database()
)
SELECT * FROM holders WHERE xid_age > 0
ORDER BY xid_age DESC, kind, name
LIMIT 1
"""

# Counters start at their last reset. Hourly rates are taken over at least one hour.
COUNTERS = """
WITH counted AS (
    SELECT s.*, extract(epoch FROM clock_timestamp() - coalesce(s.stats_reset, b.stats_reset))::float8 AS seconds
    FROM pg_stat_database s CROSS JOIN pg_stat_bgwriter b
    WHERE s.datname = current_database()
)
SELECT seconds AS statistics_seconds, blks_hit AS blocks_hit, blks_read AS blocks_read,
       blks_hit / nullif(blks_hit + blks_read, 0)::float8 AS cache_hit_ratio,
       deadlocks, deadlocks / greatest(seconds / 3600, 1) AS deadlocks_hourly,
       temp_files, temp_bytes::float8 AS temp_bytes, temp_bytes / greatest(seconds / 3600, 1) AS temp_bytes_hourly,
       xact_commit AS commits, xact_rollback AS rollbacks
FROM counted
"""

# The WAL that was written since the last reset allows only so many checkpoints because of max_wal_size: at most one for
# each max_wal_size / (1 + checkpoint_completion_target), in whole segments. A command, CREATE DATABASE or a base backup
# requested the others. The WAL is counted since a reset of its own.
CHECKPOINTS = """
WITH counted AS (
    SELECT {timed} AS timed, {requested} AS requested, ({write} / 1000)::float8 AS write_seconds,
           ({sync} / 1000)::float8 AS sync_seconds,
           extract(epoch FROM clock_timestamp() - stats_reset)::float8 AS statistics_seconds,
           pg_size_bytes(current_setting('wal_segment_size')) AS segment_bytes,
           pg_size_bytes(current_setting('max_wal_size')) AS max_bytes,
           current_setting('checkpoint_completion_target')::float8 AS target
    FROM {view}
), bounded AS (
    SELECT counted.*, segment_bytes * greatest(1, floor(max_bytes / segment_bytes / (1 + target))) AS distance_bytes,
           {wal_bytes_hourly}::float8 AS wal_bytes_hourly
    FROM counted
), estimated AS (
    SELECT bounded.*, least(requested, wal_bytes_hourly * statistics_seconds / 3600 / distance_bytes)::float8
               AS requested_by_wal
    FROM bounded
)
SELECT timed, requested, requested / nullif(timed + requested, 0)::float8 AS requested_ratio, requested_by_wal,
       requested_by_wal / nullif(timed + requested, 0)::float8 AS requested_by_wal_ratio, wal_bytes_hourly,
       write_seconds, sync_seconds, statistics_seconds, current_setting('max_wal_size') AS max_wal_size,
       (max_bytes / 1048576 * 2)::int AS doubled_max_wal_size_megabytes
FROM estimated
"""

WAL_BYTES_HOURLY = """
(SELECT w.wal_bytes * 3600 / greatest(0.001, extract(epoch FROM clock_timestamp() - w.stats_reset)) FROM pg_stat_wal w)
"""

CHECKPOINTER_17 = {
    "view": "pg_stat_checkpointer",
    "timed": "num_timed",
    "requested": "num_requested",
    "write": "write_time",
    "sync": "sync_time",
}

BGWRITER_BEFORE_17 = {
    "view": "pg_stat_bgwriter",
    "timed": "checkpoints_timed",
    "requested": "checkpoints_req",
    "write": "checkpoint_write_time",
    "sync": "checkpoint_sync_time",
}

# The last WAL position that this server has written or, on a standby, received.
HERE = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END"

# A receiver such as pg_receivewal replays nothing and has no replay position.
REPLICAS = """
SELECT application_name AS application, host(client_addr) AS client, usename::text AS "user", state, sync_state,
       pg_wal_lsn_diff({here}, coalesce(replay_lsn, flush_lsn, write_lsn, sent_lsn))::float8 AS lag_bytes,
       extract(epoch FROM replay_lag)::float8 AS lag_seconds
FROM pg_stat_replication
ORDER BY lag_bytes DESC NULLS LAST, application
""".format(here=HERE)

# A delayed standby waits with each commit on purpose. A standby that only reads an archive receives nothing, and cannot
# know whether the primary has written more. pg_settings lacks the settings that are hidden from the role.
STANDBY = """
SELECT true AS in_recovery, EXISTS (SELECT FROM pg_stat_wal_receiver) AS receiving,
       pg_is_wal_replay_paused() AS replay_paused, r.delay AS delay_seconds,
       (SELECT setting = '' FROM pg_settings WHERE name = 'primary_conninfo') AS from_archive,
       CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            WHEN EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'RecoveryApplyDelay') THEN 0
            WHEN pg_last_xact_replay_timestamp() IS NOT NULL
            THEN greatest(0, extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) - r.delay)
            END::float8 AS replay_seconds
FROM (SELECT (SELECT setting::float8 / 1000 FROM pg_settings WHERE name = 'recovery_min_apply_delay') AS delay) r
"""

# On a primary, the functions fail, and it needs none of the rights.
NO_STANDBY: Row = {
    "in_recovery": False,
    "receiving": None,
    "replay_paused": None,
    "delay_seconds": None,
    "from_archive": None,
    "replay_seconds": None,
}

SLOTS = """
SELECT slot_name::text AS name, slot_type AS type, database::text AS database, active, temporary,
       {synced} AS synced, {wal_status} AS wal_status, {safe_bytes}::float8 AS safe_bytes,
       {inactive_seconds}::float8 AS inactive_seconds,
       CASE WHEN restart_lsn IS NOT NULL THEN greatest(0, pg_wal_lsn_diff({here}, restart_lsn)) END::float8
           AS retained_bytes
FROM pg_replication_slots
ORDER BY retained_bytes DESC NULLS LAST, name
"""

ARCHIVER = """
SELECT current_setting('archive_mode') AS mode, archived_count AS archived, failed_count AS failed,
       extract(epoch FROM last_archived_time)::float8 AS last_archived,
       extract(epoch FROM last_failed_time)::float8 AS last_failed,
       last_failed_wal, current_setting('archive_mode') <> 'off'
           AND coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS failing
FROM pg_stat_archiver
"""

# The command line overrides the configuration file even after a restart, so a difference between them does not matter.
PENDING_RESTART = """
SELECT name, setting AS running, sourcefile AS file
FROM pg_settings
WHERE pending_restart AND source NOT IN ('command line', 'environment variable')
ORDER BY name
"""


# A text index sorted by another version of the collation may miss rows. Only collations that columns use count: they
# are in pg_depend, except the default one, which has no version of its own.
COLLATIONS = """
WITH used AS MATERIALIZED (
    SELECT DISTINCT d.refobjid AS collation
    FROM pg_depend d
    JOIN pg_class t ON t.oid = d.objid
    WHERE d.refclassid = 'pg_collation'::regclass AND d.classid = 'pg_class'::regclass
      AND t.relkind IN ('r', 'm', 'i', 'p') AND t.relnamespace <> 'pg_catalog'::regnamespace
)
SELECT 'collation' AS scope, quote_ident(n.nspname) || '.' || quote_ident(c.collname) AS name,
       c.collversion AS recorded, pg_collation_actual_version(c.oid) AS actual
FROM used
JOIN pg_collation c ON c.oid = used.collation AND c.collversion IS NOT NULL
JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE c.collversion <> pg_collation_actual_version(c.oid)
{of_databases}
ORDER BY scope DESC, name
"""

COLLATIONS_OF_DATABASES = """
UNION ALL
SELECT 'database', d.datname::text, d.datcollversion, pg_database_collation_actual_version(d.oid)
FROM pg_database d
WHERE d.datallowconn AND d.datcollversion <> pg_database_collation_actual_version(d.oid)
"""

# The failures of the shared catalogs have no database.
CHECKSUM_FAILURES = """
SELECT coalesce(datname::text, 'shared catalogs') AS name, checksum_failures AS failures,
       extract(epoch FROM checksum_last_failure)::float8 AS last_failure,
       greatest(0, extract(epoch FROM clock_timestamp() - checksum_last_failure))::float8 AS seconds
FROM pg_stat_database
WHERE checksum_failures > 0
ORDER BY checksum_failures DESC, name
"""

# A worker that fails ends, and is started again after wal_retrieve_retry_interval (5 s). Success does not reset the
# counters, so the time that the worker has run shows whether it fails now.
SUBSCRIPTIONS = """
SELECT DISTINCT ON (s.subid) s.subname::text AS name, s.pid IS NOT NULL AS running,
       greatest(0, extract(epoch FROM clock_timestamp() - a.backend_start))::float8 AS running_seconds,
       e.apply_error_count AS apply_errors, e.sync_error_count AS sync_errors,
       greatest(0, extract(epoch FROM clock_timestamp() - s.last_msg_receipt_time))::float8 AS received_seconds
FROM pg_stat_subscription s
LEFT JOIN {errors} e ON e.subid = s.subid
LEFT JOIN pg_stat_activity a ON a.pid = s.pid
WHERE s.relid IS NULL
ORDER BY s.subid, a.backend_start
"""

# Errors are counted since PostgreSQL 15.
NO_SUBSCRIPTION_ERRORS = """
(SELECT NULL::oid AS subid, NULL::bigint AS apply_error_count, NULL::bigint AS sync_error_count)
"""


def read_ages(client: Client, top: int) -> Part:
    """Return ``databases`` with their transaction ID ages, and its ``_total``. Raises QueryFailed."""
    return listed("databases", client.rows(AGES, {"top": top}), top)


def read_xmin_holders(client: Client, top: int) -> Part:
    """Return ``xmin_holders`` and its ``_total``. Raises QueryFailed."""
    return listed("xmin_holders", client.rows(XMIN_HOLDERS, {"top": top, "own": APPLICATION_NAME}), top)


def read_counters(client: Client) -> Part:
    """Return ``counters`` of the database of the connection. Raises QueryFailed."""
    return {"counters": client.row(COUNTERS)}


def read_checkpoints(client: Client, version_num: int) -> Part:
    """Return ``checkpoints``. Raises QueryFailed."""
    names = CHECKPOINTER_17 if version_num >= 170000 else BGWRITER_BEFORE_17
    wal = WAL_BYTES_HOURLY if version_num >= 140000 else "NULL"
    return {"checkpoints": client.row(CHECKPOINTS.format(wal_bytes_hourly=wal, **names))}


def read_horizon(client: Client) -> Row | None:
    """Return the oldest holder of the xmin horizon of this database, or null if there is none. Raises QueryFailed."""
    found = client.rows(HORIZON, {"own": APPLICATION_NAME})
    return found[0] if found else None


def holds_back(holder: Row, vacuumed: float | None, seconds: float, xid_age: int) -> bool:
    """Return whether VACUUM is expected to remove nothing while ``holder`` is there.

    That is certain if it is older than the last VACUUM of the table (``vacuumed``, in epoch seconds). Otherwise it has
    to be older than ``seconds`` or, where its age is not known, than ``xid_age`` transactions.
    """
    if holder["since"] is not None and vacuumed is not None and holder["since"] <= vacuumed:
        return True
    if holder["seconds"] is not None:
        return holder["seconds"] >= seconds
    return holder["state"] == "inactive" or holder["xid_age"] >= xid_age


def read_horizon_part(client: Client) -> Part:
    """Return ``horizon``. Raises QueryFailed."""
    return {"horizon": {"holder": read_horizon(client)}}


def read_collations(client: Client, version_num: int, top: int) -> Part:
    """Return ``collation_mismatches`` and its ``_total``. Raises QueryFailed."""
    of_database = COLLATIONS_OF_DATABASES if version_num >= 150000 else ""
    return listed("collation_mismatches", client.rows(COLLATIONS.format(of_databases=of_database)), top)


def read_checksum_failures(client: Client, top: int) -> Part:
    """Return ``checksum_failures`` and its ``_total``. Raises QueryFailed."""
    return listed("checksum_failures", client.rows(CHECKSUM_FAILURES), top)


def read_subscriptions(client: Client, version_num: int, top: int) -> Part:
    """Return ``subscriptions`` and its ``_total``. Raises QueryFailed."""
    errors = "pg_stat_subscription_stats" if version_num >= 150000 else NO_SUBSCRIPTION_ERRORS
    found = client.rows(SUBSCRIPTIONS.format(errors=errors))
    found.sort(key=lambda row: (-(row["apply_errors"] or 0) - (row["sync_errors"] or 0), row["name"]))
    return listed("subscriptions", found, top)


def read_replicas(client: Client, top: int, unknown: Unknown, hint: str | None) -> Part:
    """Return ``replicas`` and its ``_total``. Raises QueryFailed.

    Positions that are hidden from the role are added to ``unknown``, with ``hint``.
    """
    parts = listed("replicas", client.rows(REPLICAS), top)
    hidden = sum(row["state"] is None for row in parts["replicas"])
    if hidden:
        unknown.add("replicas.*", "the positions of %d replicas are hidden from %s" % (hidden, client.role), hint)
    return parts


def read_standby(client: Client, in_recovery: bool) -> Part:
    """Return ``standby``. Raises QueryFailed."""
    return {"standby": client.row(STANDBY) if in_recovery else NO_STANDBY}


def read_slots(client: Client, version_num: int, top: int) -> Part:
    """Return ``slots`` and its ``_total``. Raises QueryFailed."""
    sql = SLOTS.format(
        here=HERE,
        wal_status="wal_status" if version_num >= 130000 else "NULL",
        safe_bytes="safe_wal_size" if version_num >= 130000 else "NULL",
        synced="synced" if version_num >= 170000 else "false",
        inactive_seconds="extract(epoch FROM clock_timestamp() - inactive_since)" if version_num >= 170000 else "NULL",
    )
    return listed("slots", client.rows(sql), top)


def read_archiver(client: Client) -> Part:
    """Return ``archiver``. Raises QueryFailed."""
    return {"archiver": client.row(ARCHIVER)}


def read_pending_restart(client: Client) -> Part:
    """Return ``pending_restart``: settings whose new value needs a restart. Raises QueryFailed."""
    return {"pending_restart": client.rows(PENDING_RESTART)}


def listed(name: str, rows: list[Row], top: int) -> Part:
    """Return the first ``top`` rows as ``name``, and its ``_total``: the column ``total``, else the number of rows."""
    total = rows[0].get("total", len(rows)) if rows else 0
    shown = [{field: value for field, value in row.items() if field != "total"} for row in rows[:top]]
    return {name: shown, name + "_total": total}
