#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_health_info
short_description: Measure the state of a PostgreSQL server that builds up over hours and days
version_added: "0.1.0"
description:
  - Measures statements, tables, indexes, foreign keys, sequences, the age of transaction IDs, what holds back VACUUM, counters, checkpoints,
    replication, archiving and settings of a PostgreSQL server (12 or newer).
  - Sizes are those of the last VACUUM or ANALYZE, so that no table has to be locked to find them out.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._postgresql
  - tracktion.ops._postgresql.measuring
options:
  query_length:
    description: How many characters of a statement's text are returned. V(0) returns none. It is cut after its constants are replaced.
    type: int
    default: 300
  show_literals:
    description:
      - Whether the constants and comments of SQL statements are returned. Otherwise each constant is replaced by C(?), and comments are left out,
        as they may hold secrets or personal data.
      - Passwords that follow the word C(PASSWORD) are never returned.
    type: bool
    default: false
  statement_min_calls:
    description: How often a statement must have been called to be among RV(slowest_statements).
    type: int
    default: 1
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

- name: Show the statements that take most of the time
  ansible.builtin.debug:
    msg: "{{ health.heaviest_statements | map(attribute='query') | list }}"
  when: health.reachable and health.heaviest_statements is not none

- name: Stop a deployment that would have to wait for a restart
  ansible.builtin.assert:
    that: health.pending_restart | length == 0
  when: health.reachable
"""

RETURN = r"""
reachable:
  description: Whether the server let us in. Where it did not, every part below is null. Null where there was no time to find out.
  returned: always
  type: bool
  sample: true
error:
  description: Why the server did not let us in, or null. RV(error.kind) is one of those that M(tracktion.ops.pg_activity) knows.
  returned: always
  type: dict
  contains:
    kind:
      description: The cause, as a stable word.
      type: str
      returned: always
    message:
      description: The cause in the words of the server or of its client library.
      type: str
      returned: always
    hint:
      description: What to do about it.
      type: str
      returned: always
  sample: null
unknown:
  description: Parts that could not be read, or not wholly, and why.
  returned: always
  type: list
  elements: dict
  contains:
    part:
      description: Name of the part. C([...]) behind it stands for rows that are missing from a list, C(.*) for fields of its rows.
      type: str
      returned: always
    reason:
      description: Why it could not be read.
      type: str
      returned: always
    hint:
      description: What to do so that it can be read, such as the GRANT that is missing.
      type: str
      returned: where there is something to do
  sample: []
server:
  description: The server, and the role that looks at it.
  returned: always
  type: dict
  contains:
    version:
      description: The server's version.
      type: str
      returned: always
    version_num:
      description: The server's version as a number.
      type: int
      returned: always
    in_recovery:
      description: Whether it is a standby, or still recovering.
      type: bool
      returned: always
    started:
      description: When it was started, in epoch seconds.
      type: float
      returned: always
    role:
      description: The role of the connection.
      type: str
      returned: always
    database:
      description: The database of the connection.
      type: str
      returned: always
    sees_all:
      description: Whether the role may see what all others do (C(pg_read_all_stats), a part of C(pg_monitor)).
      type: bool
      returned: always
    sees_settings:
      description: Whether the role may see all settings (C(pg_read_all_settings), a part of C(pg_monitor)).
      type: bool
      returned: always
    hint:
      description: The command that shows the role the rest. Null if it sees both.
      type: str
      returned: always
  sample:
    {version: "17.6", version_num: 170006, in_recovery: false, started: 1763900000.5, role: monitor, database: tracktion, sees_all: true,
     sees_settings: true, hint: null}
statements:
  description: Whether C(pg_stat_statements) collects, and over which time.
  returned: always
  type: dict
  contains:
    state:
      description: V(on), V(not_created) without the extension in this database, or V(not_loaded) with the extension but without its library.
      type: str
      returned: always
    loaded:
      description: Whether the library was loaded when the server started.
      type: bool
      returned: always
    preloaded_libraries:
      description: The setting C(shared_preload_libraries). Null where the role may not see it.
      type: list
      elements: str
      returned: always
    version:
      description: Version of the extension, or null.
      type: str
      returned: always
    total:
      description: How many different statements it knows, without those of this collection. Null if V(on) and the role may not read them.
      type: int
      returned: always
    total_seconds:
      description: The time that all of them have taken. Null likewise.
      type: float
      returned: always
    since_seconds:
      description: For how long it has been counting. Null before PostgreSQL 14.
      type: float
      returned: always
  sample: {state: "on", loaded: true, preloaded_libraries: [pg_stat_statements], version: "1.11", total: 412, total_seconds: 8123.5, since_seconds: 86400.0}
slowest_statements:
  description: Statements with at least O(statement_min_calls) calls, those first that take longest on average.
  returned: always
  type: list
  elements: dict
  contains: &statement
    id:
      description:
        - C(queryid) of the statement, as text, since it does not fit into a number of JSON. Null where the statement is hidden from the role. Of those,
          only the first of each database and role is listed.
      type: str
      returned: always
    database:
      description: Database it ran in.
      type: str
      returned: always
    user:
      description: Role that ran it.
      type: str
      returned: always
    query:
      description: Its text without constants, cut to O(query_length). Null where it is hidden from the role.
      type: str
      returned: always
    calls:
      description: How often it ran.
      type: int
      returned: always
    mean_seconds:
      description: How long it takes on average.
      type: float
      returned: always
    max_seconds:
      description: How long it took at most.
      type: float
      returned: always
    total_seconds:
      description: How long all its calls took.
      type: float
      returned: always
    share:
      description: Its part of the time that all statements took.
      type: float
      returned: always
    rows:
      description: Rows that it returned or changed.
      type: int
      returned: always
    blocks_hit:
      description: Blocks that it found in the cache.
      type: int
      returned: always
    blocks_read:
      description: Blocks that it had to read.
      type: int
      returned: always
    temp_bytes:
      description: Temporary files that it wrote.
      type: float
      returned: always
    read_seconds:
      description: Time it spent reading blocks. V(0) without C(track_io_timing).
      type: float
      returned: always
  sample: []
heaviest_statements:
  description: Statements that took most time in all. The same fields as in RV(slowest_statements).
  returned: always
  type: list
  elements: dict
  contains: *statement
  sample: []
tables:
  description: Tables of the database, largest first. Each is among the first O(top) by dead rows, changed rows, transaction age or rows read sequentially.
  returned: always
  type: list
  elements: dict
  contains:
    schema:
      description: Schema of the table.
      type: str
      returned: always
    name:
      description: Name of the table.
      type: str
      returned: always
    quoted:
      description: Schema and name, as SQL wants them written.
      type: str
      returned: always
    bytes:
      description: Size of its main part at the last vacuum or analyze.
      type: float
      returned: always
    rows:
      description: Estimated number of rows.
      type: float
      returned: always
    live_rows:
      description: Live rows, as the statistics count them.
      type: int
      returned: always
    dead_rows:
      description: Dead rows that wait to be vacuumed.
      type: int
      returned: always
    dead_ratio:
      description: Dead rows by all rows.
      type: float
      returned: always
    changed_rows:
      description: Rows changed since the last analyze.
      type: int
      returned: always
    autovacuum:
      description: Whether autovacuum looks after it.
      type: bool
      returned: always
    vacuum_threshold:
      description: So many dead rows make autovacuum come.
      type: float
      returned: always
    analyze_threshold:
      description: So many changed rows make autovacuum analyze it.
      type: float
      returned: always
    xid_age:
      description: Age of its oldest transaction ID, in transactions (its TOAST table included).
      type: int
      returned: always
    multixact_age:
      description: The same for multixact IDs.
      type: int
      returned: always
    vacuumed:
      description: When it was last vacuumed, in epoch seconds. Null for never.
      type: float
      returned: always
    analyzed:
      description: When it was last analyzed, in epoch seconds. Null for never.
      type: float
      returned: always
    vacuumed_seconds:
      description: Time since it was last vacuumed. Null for never.
      type: float
      returned: always
    analyzed_seconds:
      description: Time since it was last analyzed. Null for never.
      type: float
      returned: always
    sequential_scans:
      description: How often it was read from one end to the other.
      type: int
      returned: always
    sequential_rows:
      description: Rows that were read that way.
      type: int
      returned: always
    index_scans:
      description: How often its indexes were used.
      type: float
      returned: always
  sample: []
tables_total:
  description: How many tables the database has.
  returned: always
  type: int
  sample: 0
tables_bytes:
  description: The size of all of them at their last vacuum or analyze, without indexes.
  returned: always
  type: float
  sample: 1.5e+9
unused_indexes:
  description: Indexes that were never used and that no constraint needs, largest first. RV(counters.statistics_seconds) says since when.
  returned: always
  type: list
  elements: dict
  contains: &index
    schema:
      description: Schema of the index.
      type: str
      returned: always
    name:
      description: Name of the index.
      type: str
      returned: always
    quoted:
      description: Schema and name, as SQL wants them written.
      type: str
      returned: always
    table:
      description: Its table.
      type: str
      returned: always
    columns:
      description: Its columns, in their order.
      type: list
      elements: str
      returned: always
    bytes:
      description: Its size at the last vacuum or analyze.
      type: float
      returned: always
    scans:
      description: How often it was used since the statistics were reset.
      type: int
      returned: always
    duplicate_of:
      description: The index that does the same. Null unless it is a duplicate.
      type: str
      returned: always
    is_unique:
      description: Whether it is a unique index, which rows with the same values keep from being built.
      type: bool
      returned: always
    left_behind:
      description: Whether it bears the name (C(_ccnew), C(_ccold)) of what an unfinished REINDEX CONCURRENTLY leaves behind.
      type: bool
      returned: always
    building:
      description: V(false), or null for an index of RV(invalid_indexes) that may be just being built by a session that is hidden from the role.
      type: bool
      returned: always
  sample: []
unused_indexes_total:
  description: How many there are.
  returned: always
  type: int
  sample: 0
duplicate_indexes:
  description: Indexes with another one of the same definition that would do, largest first. The same fields as in RV(unused_indexes).
  returned: always
  type: list
  elements: dict
  contains: *index
  sample: []
duplicate_indexes_total:
  description: How many there are.
  returned: always
  type: int
  sample: 0
invalid_indexes:
  description: Indexes that a failed C(CONCURRENTLY) left behind. Those that are just being built are not among them. The same fields as in RV(unused_indexes).
  returned: always
  type: list
  elements: dict
  contains: *index
  sample: []
invalid_indexes_total:
  description: How many there are.
  returned: always
  type: int
  sample: 0
foreign_keys_without_index:
  description: Foreign keys whose columns no index begins with, largest table first.
  returned: always
  type: list
  elements: dict
  contains:
    schema:
      description: Schema of the table.
      type: str
      returned: always
    table:
      description: The table that refers to another one.
      type: str
      returned: always
    name:
      description: Name of the constraint.
      type: str
      returned: always
    columns:
      description: Its columns.
      type: list
      elements: str
      returned: always
    partitioned:
      description: Whether the referring table is a partitioned one, on which no index can be built C(CONCURRENTLY).
      type: bool
      returned: always
    referenced:
      description: The table it refers to, with its schema.
      type: str
      returned: always
    rows:
      description: Estimated number of rows of the referring table.
      type: float
      returned: always
    referenced_changes:
      description: "Rows deleted or updated in the table it refers to: each may have meant reading the referring table."
      type: int
      returned: always
  sample: []
foreign_keys_without_index_total:
  description: How many there are.
  returned: always
  type: int
  sample: 0
sequences:
  description: Sequences that have been used, those first that are nearest to their end.
  returned: always
  type: list
  elements: dict
  contains:
    schema:
      description: Schema of the sequence.
      type: str
      returned: always
    name:
      description: Name of the sequence.
      type: str
      returned: always
    table_schema:
      description: The schema of that table, or null.
      type: str
      returned: always
    table:
      description: The table whose column it fills, or null.
      type: str
      returned: always
    column:
      description: The column that it fills, or null.
      type: str
      returned: always
    narrow_column:
      description: Whether the type of that column holds smaller numbers than C(bigint). Null without a column.
      type: bool
      returned: always
    ascends:
      description: Whether it counts upwards.
      type: bool
      returned: always
    last:
      description: The last value it gave.
      type: int
      returned: always
    limit:
      description: The last value it can give, or its column can hold.
      type: float
      returned: always
    ratio:
      description: How much of its range is used up.
      type: float
      returned: always
    cycles:
      description: Whether it starts again at its end.
      type: bool
      returned: always
  sample: []
sequences_total:
  description: How many sequences the database has.
  returned: always
  type: int
  sample: 0
sequences_hidden:
  description: How many of them the role may not read.
  returned: always
  type: int
  sample: 0
sequences_hidden_in:
  description: The schemas of these, at most O(top).
  returned: always
  type: list
  elements: str
  sample: []
databases:
  description: Databases, those first that lag behind most.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the database.
      type: str
      returned: always
    xid_age:
      description: Age of its oldest transaction ID, in transactions.
      type: int
      returned: always
    xid_ratio:
      description: That age by 2^31, at which the server stops.
      type: float
      returned: always
    freeze_max_age:
      description: At this age autovacuum comes to prevent that.
      type: int
      returned: always
    multixact_age:
      description: Age of its oldest multixact ID.
      type: int
      returned: always
    multixact_ratio:
      description: That age by 2^31.
      type: float
      returned: always
    multixact_freeze_max_age:
      description: At this age autovacuum comes to prevent wraparound of multixact IDs.
      type: int
      returned: always
  sample: []
databases_total:
  description: How many databases there are.
  returned: always
  type: int
  sample: 0
xmin_holders:
  description: What keeps VACUUM from removing dead rows, oldest first.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: V(session), V(standby), V(slot) or V(prepared transaction).
      type: str
      returned: always
    name:
      description: Role and application of a session, else the name of the slot or prepared transaction.
      type: str
      returned: always
    database:
      description: Database of a session, prepared transaction or logical slot, or null.
      type: str
      returned: always
    pid:
      description: Process ID of a session, else null.
      type: int
      returned: always
    backend_start:
      description: When the session began, in epoch seconds, else null.
      type: float
      returned: always
    transaction_start:
      description: When its transaction began, in epoch seconds, else null.
      type: float
      returned: always
    xid_age:
      description: How many transactions it lies back.
      type: int
      returned: always
    seconds:
      description: Age of the transaction, or null.
      type: float
      returned: always
    state:
      description: State of the session or slot. Null where it is hidden from the role.
      type: str
      returned: always
    backend_type:
      description: Kind of process, or null.
      type: str
      returned: always
  sample: []
xmin_holders_total:
  description: How many there are.
  returned: always
  type: int
  sample: 0
counters:
  description: What the database of the connection has counted since its statistics were reset.
  returned: always
  type: dict
  contains:
    statistics_seconds:
      description: Time since the statistics were reset.
      type: float
      returned: always
    blocks_hit:
      description: Blocks found in the cache.
      type: int
      returned: always
    blocks_read:
      description: Blocks that had to be read.
      type: int
      returned: always
    cache_hit_ratio:
      description: Blocks found in the cache by all. Null where none was asked for.
      type: float
      returned: always
    deadlocks:
      description: Deadlocks that the server broke.
      type: int
      returned: always
    deadlocks_hourly:
      description: Deadlocks per hour.
      type: float
      returned: always
    temp_files:
      description: Temporary files written.
      type: int
      returned: always
    temp_bytes:
      description: Their size.
      type: float
      returned: always
    temp_bytes_hourly:
      description: Their size per hour.
      type: float
      returned: always
    commits:
      description: Transactions committed.
      type: int
      returned: always
    rollbacks:
      description: Transactions rolled back.
      type: int
      returned: always
  sample: {statistics_seconds: 86400.0, blocks_hit: 990000, blocks_read: 10000, cache_hit_ratio: 0.99, deadlocks: 0, deadlocks_hourly: 0.0, temp_files: 2,
    temp_bytes: 1048576.0, temp_bytes_hourly: 43690.7, commits: 51000, rollbacks: 12}
checkpoints:
  description: Checkpoints since their statistics were reset.
  returned: always
  type: dict
  contains:
    timed:
      description: Those that came by C(checkpoint_timeout).
      type: int
      returned: always
    requested:
      description: Those that came early, since C(max_wal_size) was reached or somebody asked.
      type: int
      returned: always
    requested_ratio:
      description: Requested ones by all. Null without any.
      type: float
      returned: always
    write_seconds:
      description: Time spent writing.
      type: float
      returned: always
    sync_seconds:
      description: Time spent synchronizing files.
      type: float
      returned: always
    statistics_seconds:
      description: Time since these statistics were reset.
      type: float
      returned: always
    max_wal_size:
      description: The server's setting.
      type: str
      returned: always
  sample: {timed: 288, requested: 3, requested_ratio: 0.0103, write_seconds: 812.4, sync_seconds: 1.2, statistics_seconds: 86400.0, max_wal_size: 1GB}
replicas:
  description: Those that receive WAL from this server, furthest behind first.
  returned: always
  type: list
  elements: dict
  contains:
    application:
      description: C(application_name) of the receiver.
      type: str
      returned: always
    client:
      description: Address of the receiver, or null.
      type: str
      returned: always
    user:
      description: Role of the receiver.
      type: str
      returned: always
    state:
      description: State of the sender. Null, as all below, where it is hidden from the role.
      type: str
      returned: always
    sync_state:
      description: Whether commits wait for it.
      type: str
      returned: always
    lag_bytes:
      description: How far behind it is (in replaying or, where it replays nothing, in receiving). Null for a base backup.
      type: float
      returned: always
    lag_seconds:
      description: How long the last commit took to be replayed there. Null when idle.
      type: float
      returned: always
  sample: []
replicas_total:
  description: How many there are.
  returned: always
  type: int
  sample: 0
standby:
  description: This server as a standby. On a primary all but RV(standby.in_recovery) is null.
  returned: always
  type: dict
  contains:
    in_recovery:
      description: Whether it is a standby.
      type: bool
      returned: always
    receiving:
      description: Whether it is connected to its primary.
      type: bool
      returned: always
    replay_paused:
      description: Whether somebody has paused the replay.
      type: bool
      returned: always
    replay_seconds:
      description: Age of the last transaction it replayed. V(0) where it has replayed all that it has received.
      type: float
      returned: always
  sample: {in_recovery: false, receiving: null, replay_paused: null, replay_seconds: null}
slots:
  description: Replication slots, those first that hold most WAL.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the slot.
      type: str
      returned: always
    type:
      description: V(physical) or V(logical).
      type: str
      returned: always
    database:
      description: Database of a logical slot, else null.
      type: str
      returned: always
    active:
      description: Whether somebody is connected to it.
      type: bool
      returned: always
    temporary:
      description: Whether it ends with its session.
      type: bool
      returned: always
    wal_status:
      description: What of the WAL it needs is there. Null before PostgreSQL 13.
      type: str
      returned: always
    safe_bytes:
      description: How much WAL may still be written before it loses some. Null where nothing limits it.
      type: float
      returned: always
    inactive_seconds:
      description: For how long nobody has been connected. Null while active and before PostgreSQL 17.
      type: float
      returned: always
    retained_bytes:
      description: How much WAL it keeps on the disk.
      type: float
      returned: always
  sample: []
slots_total:
  description: How many there are.
  returned: always
  type: int
  sample: 0
archiver:
  description: The archiving of WAL.
  returned: always
  type: dict
  contains:
    mode:
      description: The setting C(archive_mode).
      type: str
      returned: always
    archived:
      description: Files archived.
      type: int
      returned: always
    failed:
      description: Attempts that failed.
      type: int
      returned: always
    last_archived:
      description: When the last file was archived, in epoch seconds, or null.
      type: float
      returned: always
    last_failed:
      description: When the last attempt failed, in epoch seconds, or null.
      type: float
      returned: always
    last_failed_wal:
      description: The file that could not be archived.
      type: str
      returned: always
    failing:
      description: Whether archiving is on and the last attempt failed.
      type: bool
      returned: always
  sample: {mode: "off", archived: 0, failed: 0, last_archived: null, last_failed: null, last_failed_wal: null, failing: false}
pending_restart:
  description: Settings whose new value waits for a restart.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the setting.
      type: str
      returned: always
    running:
      description: The value that is in force.
      type: str
      returned: always
    file:
      description: The file that holds the value in force. Null where none does, or where the role may not see it.
      type: str
      returned: always
  sample: []
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _pg_health_info as pg_health_info


def main():
    module = AnsibleModule(argument_spec=pg_health_info.ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(pg_health_info.measure, module.params))


if __name__ == "__main__":
    main()
