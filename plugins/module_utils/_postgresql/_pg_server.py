# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the state of a PostgreSQL server: ages, xmin horizon, counters, checkpoints, replication, archiving, settings.

Private to this collection.
"""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import APPLICATION_NAME, Client, Row
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

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

CHECKPOINTS = """
WITH counted AS (
    SELECT {timed} AS timed, {requested} AS requested, ({write} / 1000)::float8 AS write_seconds,
           ({sync} / 1000)::float8 AS sync_seconds, stats_reset
    FROM {view}
)
SELECT timed, requested, requested / nullif(timed + requested, 0)::float8 AS requested_ratio,
       write_seconds, sync_seconds, extract(epoch FROM clock_timestamp() - stats_reset)::float8 AS statistics_seconds,
       current_setting('max_wal_size') AS max_wal_size
FROM counted
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

STANDBY = """
SELECT r.in_recovery,
       CASE WHEN r.in_recovery THEN EXISTS (SELECT FROM pg_stat_wal_receiver) END AS receiving,
       CASE WHEN r.in_recovery THEN pg_is_wal_replay_paused() END AS replay_paused,
       CASE WHEN NOT r.in_recovery THEN NULL
            WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END::float8 AS replay_seconds
FROM (SELECT pg_is_in_recovery() AS in_recovery) r
"""

SLOTS = """
SELECT slot_name::text AS name, slot_type AS type, database::text AS database, active, temporary,
       {wal_status} AS wal_status, {safe_bytes}::float8 AS safe_bytes,
       {inactive_seconds}::float8 AS inactive_seconds,
       greatest(0, pg_wal_lsn_diff({here}, restart_lsn))::float8 AS retained_bytes
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


def read_ages(client: Client, top: int) -> Part:
    """Return ``databases`` with their transaction ID ages, and its ``_total``. Raises QueryFailed."""
    return _listed("databases", client.rows(AGES, {"top": top}), top)


def read_xmin_holders(client: Client, top: int) -> Part:
    """Return ``xmin_holders`` and its ``_total``. Raises QueryFailed."""
    return _listed("xmin_holders", client.rows(XMIN_HOLDERS, {"top": top, "own": APPLICATION_NAME}), top)


def read_counters(client: Client) -> Part:
    """Return ``counters`` of the database of the connection. Raises QueryFailed."""
    return {"counters": client.row(COUNTERS)}


def read_checkpoints(client: Client, version_num: int) -> Part:
    """Return ``checkpoints``. Raises QueryFailed."""
    names = CHECKPOINTER_17 if version_num >= 170000 else BGWRITER_BEFORE_17
    return {"checkpoints": client.row(CHECKPOINTS.format(**names))}


def read_replicas(client: Client, top: int, unknown: Unknown, hint: str | None) -> Part:
    """Return ``replicas`` and its ``_total``. Raises QueryFailed.

    Positions that are hidden from the role are added to ``unknown``, with ``hint``.
    """
    parts = _listed("replicas", client.rows(REPLICAS), top)
    hidden = sum(row["state"] is None for row in parts["replicas"])
    if hidden:
        unknown.add("replicas.*", "the positions of %d replicas are hidden from %s" % (hidden, client.role), hint)
    return parts


def read_standby(client: Client) -> Part:
    """Return ``standby``. Raises QueryFailed."""
    return {"standby": client.row(STANDBY)}


def read_slots(client: Client, version_num: int, top: int) -> Part:
    """Return ``slots`` and its ``_total``. Raises QueryFailed."""
    sql = SLOTS.format(
        here=HERE,
        wal_status="wal_status" if version_num >= 130000 else "NULL",
        safe_bytes="safe_wal_size" if version_num >= 130000 else "NULL",
        inactive_seconds="extract(epoch FROM clock_timestamp() - inactive_since)" if version_num >= 170000 else "NULL",
    )
    return _listed("slots", client.rows(sql), top)


def read_archiver(client: Client) -> Part:
    """Return ``archiver``. Raises QueryFailed."""
    return {"archiver": client.row(ARCHIVER)}


def read_pending_restart(client: Client) -> Part:
    """Return ``pending_restart``: settings whose new value needs a restart. Raises QueryFailed."""
    return {"pending_restart": client.rows(PENDING_RESTART)}


def _listed(name: str, rows: list[Row], top: int) -> Part:
    total = rows[0].get("total", len(rows)) if rows else 0
    shown = [{field: value for field, value in row.items() if field != "total"} for row in rows[:top]]
    return {name: shown, name + "_total": total}
