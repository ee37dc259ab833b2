#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_health_info
short_description: Measure the slowly changing state of a PostgreSQL server
version_added: 0.2.0
description:
  - Measures statements, tables, indexes, foreign keys, sequences, transaction ID age, what holds back VACUUM, counters, checkpoints,
    replication, archiving and settings of a PostgreSQL server (12 or newer).
  - Sizes are those of the last VACUUM or ANALYZE, so that no table has to be locked to read them.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._postgresql
  - tracktion.ops._postgresql.measuring
options:
  statement_min_calls:
    description: Minimum number of calls of a statement in RV(slowest_statements).
    type: int
    default: 1
  planner_statistics_min_rows:
    description: Minimum number of rows of a table in RV(planner_statistics).
    type: int
    default: 1000
  max_holder_seconds:
    description:
      - A transaction that has been open for this number of seconds counts as one that keeps VACUUM from removing dead rows
        (RV(tables[].held_back)). A younger one does so only if it is older than the last VACUUM of the table.
    type: float
    default: 1.0
  max_holder_xids:
    description: The same in transactions, for a standby, or a slot with a consumer, whose age in seconds is not known.
    type: int
    default: 1000
seealso:
  - module: tracktion.ops.pg_activity
  - module: tracktion.ops.pg_maintenance
"""

EXAMPLES = r"""
- name: Measure as a monitoring role
  tracktion.ops.pg_health_info:
    login_host: 127.0.0.1
    login_user: monitor
    login_password: "{{ monitor_password }}"
    login_db: tracktion
    statement_min_calls: 100
  register: health

- name: Show the statements that take most time
  ansible.builtin.debug:
    msg: "{{ health.heaviest_statements | map(attribute='query') | list }}"
  when: health.reachable and health.heaviest_statements is not none

- name: Fail if settings wait for a restart
  ansible.builtin.assert:
    that: health.pending_restart | length == 0
  when: health.reachable
"""

RETURN = r"""
reachable: {description: Whether the server could be reached., returned: always, type: bool, sample: true}
error: {description: "Why not, or null, as in M(tracktion.ops.pg_activity).", returned: always, type: dict, sample: null}
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
server:
  description: The server, and the role and database of the connection, as described in docs/measurement.md.
  returned: always
  type: dict
  contains:
    version: {description: Version., type: str, returned: always}
    version_num: {description: Version as a number., type: int, returned: always}
    in_recovery: {description: Whether it is a standby or in recovery., type: bool, returned: always}
    started: {description: Start time., type: float, returned: always}
    role: {description: Role of the connection., type: str, returned: always}
    database: {description: Database of the connection., type: str, returned: always}
    sees_all: {description: Whether the role may see all sessions., type: bool, returned: always}
    sees_settings: {description: Whether the role may see all settings., type: bool, returned: always}
    through_pooler: {description: Whether a pooler answers at the address., type: bool, returned: always}
    hint: {description: Command that grants the role both. Null if it has both., type: str, returned: always}
  sample:
    {version: "17.6", version_num: 170006, in_recovery: false, started: 1763900000.5, role: monitor, database: tracktion, sees_all: true,
     sees_settings: true, through_pooler: false, hint: null}
statements:
  description: State of C(pg_stat_statements).
  returned: always
  type: dict
  contains:
    state:
      description: V(on); V(not_created) if the extension does not exist in this database; V(not_loaded) if it exists and its library is not loaded.
      type: str
      returned: always
    installed: {description: Whether the files of the extension are installed on the server., type: bool, returned: always}
    by_command_line:
      description: Whether C(shared_preload_libraries) is set on the command line of the server, so that C(ALTER SYSTEM) has no effect.
      type: bool
      returned: always
    loaded: {description: Whether the library was loaded at server start., type: bool, returned: always}
    preloaded_libraries:
      description: The setting C(shared_preload_libraries). Null if hidden from the role.
      type: list
      elements: str
      returned: always
    version: {description: "Version of the extension, or null.", type: str, returned: always}
    total: {description: "Number of statements, without those of this collection. Null if not V(on) or hidden from the role.", type: int, returned: always}
    total_seconds: {description: Total time of these statements. Null likewise., type: float, returned: always}
    since_seconds: {description: Time since its statistics were reset. Null before PostgreSQL 14., type: float, returned: always}
  sample:
    {state: "on", loaded: true, installed: true, by_command_line: false, preloaded_libraries: [pg_stat_statements], version: "1.11", total: 412,
     total_seconds: 8123.5, since_seconds: 86400.0}
slowest_statements:
  description: Statements with at least O(statement_min_calls) calls, longest mean time first.
  returned: always
  type: list
  elements: dict
  contains: &statement
    id:
      description:
        - C(queryid) of the statement, as text, because JSON numbers are too small for it. Null if the statement is hidden from the role. Only the first
          hidden statement of each database and role is listed.
      type: str
      returned: always
    database: {description: Database of the statement., type: str, returned: always}
    user: {description: Role that ran it., type: str, returned: always}
    query: {description: "Its text, cut to O(query_length). Null if hidden from the role.", type: str, returned: always}
    calls: {description: Number of calls., type: int, returned: always}
    mean_seconds: {description: Mean time of a call., type: float, returned: always}
    max_seconds: {description: Longest call., type: float, returned: always}
    total_seconds: {description: Total time of all calls., type: float, returned: always}
    share: {description: Its part of the total time of all statements., type: float, returned: always}
    rows: {description: Rows that it returned or changed., type: int, returned: always}
    blocks_hit: {description: Blocks found in the cache., type: int, returned: always}
    blocks_read: {description: Blocks read., type: int, returned: always}
    temp_bytes: {description: Temporary files written., type: float, returned: always}
    read_seconds: {description: Time spent reading blocks. V(0) without C(track_io_timing)., type: float, returned: always}
heaviest_statements:
  description: Statements with the longest total time. The same fields as in RV(slowest_statements).
  returned: always
  type: list
  elements: dict
  contains: *statement
tables:
  description: Tables of the database, largest first. Each is among the first O(top) by dead rows, changed rows, transaction age or rows read sequentially.
  returned: always
  type: list
  elements: dict
  contains:
    schema: &schema {description: Schema of the object., type: str, returned: always}
    name: &name {description: Name of the object., type: str, returned: always}
    quoted: &quoted {description: "Schema and name, quoted for SQL.", type: str, returned: always}
    bytes: &bytes {description: Its size without TOAST at the last vacuum or analyze., type: float, returned: always}
    rows: {description: Estimated number of rows., type: float, returned: always}
    live_rows: {description: "Live rows, from the statistics.", type: int, returned: always}
    dead_rows: {description: "Dead rows, from the statistics.", type: int, returned: always}
    dead_ratio: {description: Dead rows divided by live and dead rows., type: float, returned: always}
    changed_rows: {description: Rows changed since the last analyze., type: int, returned: always}
    autovacuum: {description: Whether autovacuum is on for it., type: bool, returned: always}
    vacuuming: {description: Whether VACUUM is running on it. V(false) if that is hidden from the role., type: bool, returned: always}
    autovacuum_off_in: {description: "Where it is turned off, V(server) or V(table). Null if it is on.", type: str, returned: always}
    held_back:
      description:
        - Whether VACUUM is expected to remove none of its dead rows, because RV(horizon.holder) may still read them. Null if that is not known.
      type: bool
      returned: always
    vacuum_threshold: {description: Number of dead rows above which autovacuum vacuums it., type: float, returned: always}
    analyze_threshold: {description: Number of changed rows above which autovacuum analyzes it., type: float, returned: always}
    xid_age: {description: "Age of its oldest transaction ID, with TOAST, in transactions.", type: int, returned: always}
    multixact_age: {description: Age of its oldest multixact ID., type: int, returned: always}
    vacuumed: {description: "Time of the last vacuum, in epoch seconds. Null for never.", type: float, returned: always}
    analyzed: {description: "Time of the last analyze, in epoch seconds. Null for never.", type: float, returned: always}
    vacuumed_seconds: {description: Time since the last vacuum. Null for never., type: float, returned: always}
    analyzed_seconds: {description: Time since the last analyze. Null for never., type: float, returned: always}
    sequential_scans: {description: Number of sequential scans., type: int, returned: always}
    sequential_rows: {description: Rows read by sequential scans., type: int, returned: always}
    index_scans: {description: Number of scans of its indexes., type: float, returned: always}
tables_total: {description: Number of tables., returned: always, type: int, sample: 0}
tables_bytes: {description: Size of all tables without TOAST and indexes at the last vacuum or analyze., returned: always, type: float, sample: 1.5e+9}
unused_indexes:
  description: Indexes without a scan that no constraint needs, largest first. RV(counters.statistics_seconds) is the time that the statistics cover.
  returned: always
  type: list
  elements: dict
  contains: &index
    schema: *schema
    name: *name
    quoted: *quoted
    table: {description: Its table., type: str, returned: always}
    columns: {description: "Its columns, in order.", type: list, elements: str, returned: always}
    bytes: *bytes
    scans: {description: Number of scans since the statistics were reset., type: int, returned: always}
    duplicate_of: {description: The index with the same definition. Null unless it is a duplicate., type: str, returned: always}
    is_unique: {description: Whether it is a unique index., type: bool, returned: always}
    left_behind: {description: "Whether its name (C(_ccnew), C(_ccold)) is one that an interrupted REINDEX CONCURRENTLY leaves.", type: bool, returned: always}
    building: {description: V(false). Null for an invalid index that a session hidden from the role may be building., type: bool, returned: always}
unused_indexes_total: {description: Number of unused indexes., returned: always, type: int, sample: 0}
duplicate_indexes:
  description: Indexes with the same definition as another one, largest first. The same fields as in RV(unused_indexes).
  returned: always
  type: list
  elements: dict
  contains: *index
duplicate_indexes_total: {description: Number of duplicate indexes., returned: always, type: int, sample: 0}
invalid_indexes:
  description: Invalid indexes that are not being built, left by a failed C(CONCURRENTLY). The same fields as in RV(unused_indexes).
  returned: always
  type: list
  elements: dict
  contains: *index
invalid_indexes_total: {description: Number of invalid indexes., returned: always, type: int, sample: 0}
foreign_keys_without_index:
  description: Foreign keys whose columns are not the first columns of an index, largest table first.
  returned: always
  type: list
  elements: dict
  contains:
    schema: *schema
    table: {description: The referencing table., type: str, returned: always}
    name: {description: Name of the constraint., type: str, returned: always}
    columns: {description: Its columns., type: list, elements: str, returned: always}
    partitioned: {description: "Whether the table is partitioned, which rules out C(CONCURRENTLY).", type: bool, returned: always}
    referenced: {description: "The referenced table, with its schema.", type: str, returned: always}
    rows: {description: Estimated number of rows of the referencing table., type: float, returned: always}
    referenced_changes:
      description: Rows deleted or updated in the referenced table. Each may have caused a scan of the referencing table.
      type: int
      returned: always
foreign_keys_without_index_total: {description: Number of these foreign keys., returned: always, type: int, sample: 0}
sequences:
  description: Sequences that have been used, those nearest to their limit first.
  returned: always
  type: list
  elements: dict
  contains:
    schema: *schema
    name: *name
    table_schema: {description: "Schema of that table, or null.", type: str, returned: always}
    table: {description: "Table of the column that it fills, or null.", type: str, returned: always}
    column:
      description: The column that it fills, as its owner or by a C(DEFAULT). The narrowest of several. Null without one.
      type: str
      returned: always
    narrow_column: {description: Whether that column is smaller than C(bigint). Null without a column., type: bool, returned: always}
    ascends: {description: Whether it is ascending., type: bool, returned: always}
    last: {description: Its last value., type: int, returned: always}
    limit: {description: Its last possible value or that of its column., type: float, returned: always}
    ratio: {description: Used part of its range., type: float, returned: always}
    cycles: {description: Whether it restarts at its limit., type: bool, returned: always}
sequences_total: {description: Number of sequences., returned: always, type: int, sample: 0}
sequences_hidden: {description: Number of sequences that the role may not read., returned: always, type: int, sample: 0}
sequences_hidden_in: {description: "Schemas of hidden sequences, at most O(top).", returned: always, type: list, elements: str, sample: []}
databases:
  description: Databases, oldest transaction ID first.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the database., type: str, returned: always}
    xid_age: {description: "Age of its oldest transaction ID, in transactions.", type: int, returned: always}
    xid_ratio: {description: "That age divided by 2^31, at which the server stops accepting writes.", type: float, returned: always}
    freeze_max_age: {description: Age at which autovacuum prevents wraparound., type: int, returned: always}
    multixact_age: {description: Age of its oldest multixact ID., type: int, returned: always}
    multixact_ratio: {description: That age divided by 2^31., type: float, returned: always}
    multixact_freeze_max_age: {description: Age at which autovacuum prevents multixact wraparound., type: int, returned: always}
databases_total: {description: Number of databases., returned: always, type: int, sample: 0}
xmin_holders:
  description: "What keeps VACUUM from removing dead rows, oldest first: sessions, standbys, slots and prepared transactions."
  returned: always
  type: list
  elements: dict
  contains:
    kind: {description: "V(session), V(standby), V(slot) or V(prepared transaction).", type: str, returned: always}
    name: {description: "Role and application of a session, or name of the slot or prepared transaction.", type: str, returned: always}
    database: {description: "Its database. Null for a physical slot or a standby.", type: str, returned: always}
    pid: {description: "Process ID of a session, or null.", type: int, returned: always}
    backend_start: {description: "Start of the session, in epoch seconds, or null.", type: float, returned: always}
    transaction_start: {description: "Start of its transaction, in epoch seconds, or null.", type: float, returned: always}
    xid_age: {description: Number of transactions since., type: int, returned: always}
    seconds: {description: "Age of the transaction, or null.", type: float, returned: always}
    state: {description: State of the session or slot. Null if hidden from the role., type: str, returned: always}
    backend_type: {description: "Process type, or null.", type: str, returned: always}
xmin_holders_total: {description: Number of holders., returned: always, type: int, sample: 0}
horizon:
  description: What keeps VACUUM from removing dead rows in the tables of this database.
  returned: always
  type: dict
  contains:
    holder:
      description: The oldest of the sessions, standbys, slots and prepared transactions that do so. Null without one.
      type: dict
      returned: always
      contains:
        kind: {description: "V(session), V(standby), V(slot) or V(prepared transaction).", type: str, returned: always}
        pid: {description: "Process ID of the session or of the sender to the standby, or null.", type: int, returned: always}
        name: {description: "Role and application, or name of the slot or prepared transaction.", type: str, returned: always}
        xid_age: {description: Number of transactions since., type: int, returned: always}
        seconds: {description: Age of the transaction. Null for a standby or slot., type: float, returned: always}
        since: {description: "Start of the transaction, in epoch seconds. Null for a standby or slot.", type: float, returned: always}
        state: {description: State of the session or slot. Null if hidden from the role., type: str, returned: always}
  sample: {holder: null}
planner_statistics:
  description:
    - Tables with at least O(planner_statistics_min_rows) rows that have no planner statistics, and that autovacuum does not analyze. A table that the
      role may not read counts only if it has been neither analyzed nor vacuumed.
  returned: always
  type: dict
  contains:
    tables: {description: Number of such tables., type: int, returned: always}
    rows: {description: Their estimated number of rows., type: float, returned: always}
    largest: {description: "The largest of them, with their schemas.", type: list, elements: str, returned: always}
  sample: {tables: 0, rows: 0.0, largest: []}
collation_mismatches:
  description: Collations whose version differs from that of the operating system. Databases since PostgreSQL 15, and collations that columns use.
  returned: always
  type: list
  elements: dict
  contains:
    scope: {description: "V(database) or V(collation).", type: str, returned: always}
    name: {description: "Name of the database, or quoted name of the collation.", type: str, returned: always}
    recorded: {description: The version with which it was created., type: str, returned: always}
    actual: {description: The version of the operating system. Null without one., type: str, returned: always}
  sample: []
collation_mismatches_total: {description: Number of these., returned: always, type: int, sample: 0}
checksum_failures:
  description: Databases in which pages with a wrong checksum were read since the statistics were reset.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: "Name of the database, or C(shared catalogs).", type: str, returned: always}
    failures: {description: Number of failures., type: int, returned: always}
    last_failure: {description: "Time of the last one, in epoch seconds.", type: float, returned: always}
    seconds: {description: Time since., type: float, returned: always}
  sample: []
checksum_failures_total: {description: Number of these databases., returned: always, type: int, sample: 0}
subscriptions:
  description: Subscriptions of all databases, most errors first.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the subscription., type: str, returned: always}
    running: {description: Whether its worker runs., type: bool, returned: always}
    running_seconds: {description: For how long. Null if it does not run or is hidden from the role., type: float, returned: always}
    apply_errors: {description: Errors while applying changes. Null before PostgreSQL 15., type: int, returned: always}
    sync_errors: {description: Errors while copying tables. Null before PostgreSQL 15., type: int, returned: always}
    received_seconds: {description: "Time since the last message of the publisher, or null.", type: float, returned: always}
  sample: []
subscriptions_total: {description: Number of subscriptions., returned: always, type: int, sample: 0}
counters:
  description: Counters of the database of the connection, since its statistics were reset.
  returned: always
  type: dict
  contains:
    statistics_seconds: {description: Time since the statistics were reset., type: float, returned: always}
    blocks_hit: {description: Blocks found in the cache., type: int, returned: always}
    blocks_read: {description: Blocks read., type: int, returned: always}
    cache_hit_ratio: {description: Part of the blocks found in the cache. Null without any., type: float, returned: always}
    deadlocks: {description: Deadlocks., type: int, returned: always}
    deadlocks_hourly: {description: Deadlocks per hour., type: float, returned: always}
    temp_files: {description: Temporary files written., type: int, returned: always}
    temp_bytes: {description: Their size., type: float, returned: always}
    temp_bytes_hourly: {description: Their size per hour., type: float, returned: always}
    commits: {description: Transactions committed., type: int, returned: always}
    rollbacks: {description: Transactions rolled back., type: int, returned: always}
  sample: {statistics_seconds: 86400.0, blocks_hit: 990000, blocks_read: 10000, cache_hit_ratio: 0.99, deadlocks: 0, deadlocks_hourly: 0.0, temp_files: 2,
    temp_bytes: 1048576.0, temp_bytes_hourly: 43690.7, commits: 51000, rollbacks: 12}
checkpoints:
  description: Checkpoints since their statistics were reset.
  returned: always
  type: dict
  contains:
    timed: {description: Checkpoints due to C(checkpoint_timeout)., type: int, returned: always}
    requested: {description: Checkpoints due to C(max_wal_size) or a command., type: int, returned: always}
    requested_ratio: {description: Part of the checkpoints that were requested. Null without any., type: float, returned: always}
    requested_by_wal:
      description:
        - How many at most were requested because of C(max_wal_size), by the WAL that was written. A command, C(CREATE DATABASE) or a base backup
          requested the others. Null before PostgreSQL 14.
      type: float
      returned: always
    requested_by_wal_ratio: {description: Part of the checkpoints that these are. Null likewise., type: float, returned: always}
    wal_bytes_hourly: {description: WAL written per hour since its statistics were reset. Null before PostgreSQL 14., type: float, returned: always}
    write_seconds: {description: Time spent writing., type: float, returned: always}
    sync_seconds: {description: Time spent synchronizing files., type: float, returned: always}
    statistics_seconds: {description: Time since these statistics were reset., type: float, returned: always}
    max_wal_size: {description: The server's setting., type: str, returned: always}
    doubled_max_wal_size_megabytes: {description: Twice that setting., type: int, returned: always}
  sample:
    {timed: 288, requested: 3, requested_ratio: 0.0103, requested_by_wal: 3.0, requested_by_wal_ratio: 0.0103, wal_bytes_hourly: 5.0e+7,
     write_seconds: 812.4, sync_seconds: 1.2, statistics_seconds: 86400.0, max_wal_size: 1GB, doubled_max_wal_size_megabytes: 2048}
replicas:
  description: Receivers of WAL from this server, largest lag first.
  returned: always
  type: list
  elements: dict
  contains:
    application: {description: The receiver's C(application_name)., type: str, returned: always}
    client: {description: "Address of the receiver, or null.", type: str, returned: always}
    user: {description: Role of the receiver., type: str, returned: always}
    state: {description: "State of the sender. If hidden from the role, it and all fields below are null.", type: str, returned: always}
    sync_state: {description: Whether commits wait for it., type: str, returned: always}
    lag_bytes: {description: "WAL not yet replayed or, by a receiver that does not replay, received. Null for a base backup.", type: float, returned: always}
    lag_seconds: {description: Time until the last commit was replayed there. Null when idle., type: float, returned: always}
replicas_total: {description: Number of receivers., returned: always, type: int, sample: 0}
standby:
  description: State of this server as a standby. On a primary all but RV(standby.in_recovery) is null.
  returned: always
  type: dict
  contains:
    in_recovery: {description: Whether it is a standby., type: bool, returned: always}
    receiving: {description: Whether it is connected to its primary., type: bool, returned: always}
    replay_paused: {description: Whether replay is paused., type: bool, returned: always}
    delay_seconds: {description: The setting C(recovery_min_apply_delay)., type: float, returned: always}
    from_archive:
      description: Whether it only reads WAL from an archive, without C(primary_conninfo). Null if that setting is hidden from the role.
      type: bool
      returned: always
    replay_seconds:
      description: Age of the last replayed transaction beyond that delay. V(0) if everything received is replayed, or waits for the delay only.
      type: float
      returned: always
  sample: {in_recovery: false, receiving: null, replay_paused: null, delay_seconds: null, from_archive: null, replay_seconds: null}
slots:
  description: Replication slots, most retained WAL first.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the slot., type: str, returned: always}
    type: {description: V(physical) or V(logical)., type: str, returned: always}
    database: {description: "Database of a logical slot, or null.", type: str, returned: always}
    active: {description: Whether a consumer is connected., type: bool, returned: always}
    temporary: {description: Whether it ends with its session., type: bool, returned: always}
    synced: {description: Whether this standby copies it from its primary (since PostgreSQL 17)., type: bool, returned: always}
    wal_status: {description: "Availability of its WAL, as in C(pg_replication_slots). Null before PostgreSQL 13.", type: str, returned: always}
    safe_bytes: {description: WAL that can be written before the slot loses some. Null without a limit., type: float, returned: always}
    inactive_seconds: {description: Time without a consumer. Null while active and before PostgreSQL 17., type: float, returned: always}
    retained_bytes: {description: WAL that it retains. Null if it has never reserved any., type: float, returned: always}
slots_total: {description: Number of slots., returned: always, type: int, sample: 0}
archiver:
  description: State of WAL archiving.
  returned: always
  type: dict
  contains:
    mode: {description: The setting C(archive_mode)., type: str, returned: always}
    archived: {description: Files archived., type: int, returned: always}
    failed: {description: Failed attempts., type: int, returned: always}
    last_archived: {description: "Time of the last archived file, in epoch seconds, or null.", type: float, returned: always}
    last_failed: {description: "Time of the last failure, in epoch seconds, or null.", type: float, returned: always}
    last_failed_wal: {description: The file that could not be archived., type: str, returned: always}
    failing: {description: Whether archiving is on and the last attempt failed., type: bool, returned: always}
  sample: {mode: "off", archived: 0, failed: 0, last_archived: null, last_failed: null, last_failed_wal: null, failing: false}
pending_restart:
  description: Settings whose new value needs a restart.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the setting., type: str, returned: always}
    running: {description: The value in force., type: str, returned: always}
    file: {description: The file with the value in force. Null without one or if hidden from the role., type: str, returned: always}
harmful_settings:
  description: >-
    Settings of the server, a database or a role whose value stops writes, upkeep or protection: C(default_transaction_read_only), C(zero_damaged_pages)
    and C(ignore_checksum_failure) if on, C(autovacuum), C(track_counts), C(fsync) and C(full_page_writes) if off.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the setting., type: str, returned: always}
    value: {description: Its value., type: str, returned: always}
    database: {description: 'The database that it is set for, else null.', type: str, returned: always}
    role: {description: 'The role that it is set for, else null.', type: str, returned: always}
    by_command_line: {description: 'Whether it was given on the command line of the server, which overrides ALTER SYSTEM.', type: bool, returned: always}
harmful_settings_total: {description: Number of all these settings., type: int, returned: always}
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _pg_health_info as pg_health_info


def main() -> None:
    module = AnsibleModule(argument_spec=pg_health_info.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(pg_health_info.measure, module.params))


if __name__ == "__main__":
    main()
