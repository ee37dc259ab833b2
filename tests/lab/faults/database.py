# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of PostgreSQL."""

from __future__ import annotations

import contextlib
import threading

from ..shell import LabError, wait_until
from . import fault


def run_and_wait(connection, statement: str) -> threading.Thread:
    """Run a statement that does not return by itself in a thread, and ignore its error."""
    import psycopg2

    def work() -> None:
        with contextlib.suppress(psycopg2.Error), connection.cursor() as cursor:
            cursor.execute(statement)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def wait_for_sessions(lab, condition: str, count: int) -> None:
    """Wait until ``count`` sessions fulfil a condition over pg_stat_activity."""
    statement = f"select count(*) from pg_stat_activity where {condition}"
    wait_until(lambda: int(lab.psql(statement)) >= count, f"{count} sessions where {condition}", 20)


def forget_statements(lab, pattern: str) -> None:
    """Remove statements from pg_stat_statements, which counts their waits as run time."""
    found = f"select userid, dbid, queryid from pg_stat_statements where query like '{pattern}'"
    lab.psql(f"select pg_stat_statements_reset(userid, dbid, queryid) from ({found}) as found")


@fault(fires=["database.blocked_sessions", "database.idle_in_transaction", "database.long_transaction"])
def blocked_transaction(lab):
    """A transaction has locked a row and sits idle; three sessions wait for it, one of them behind another."""
    root = lab.postgres(application_name="lab blocker")
    root.cursor().execute("update artists set name = name where id = 1")
    waiting = [lab.postgres(application_name=f"lab waiter {number}") for number in range(3)]
    for connection in waiting:
        # Like an application that commits as soon as it gets the lock.
        connection.autocommit = True
    threads = [run_and_wait(connection, "update artists set name = name where id = 1") for connection in waiting]
    wait_for_sessions(lab, "application_name like 'lab waiter%' and wait_event_type = 'Lock'", 3)
    yield
    root.close()
    for thread, connection in zip(threads, waiting, strict=True):
        connection.cancel()
        thread.join(10)
        connection.close()
    forget_statements(lab, "update artists set name = name%")


@fault(fires=["database.connections_used"])
def connections_exhausted(lab):
    """Idle sessions hold all but three of the connections that are not reserved."""
    free = int(
        lab.psql(
            "select current_setting('max_connections')::int"
            " - (select sum(setting::int) from pg_settings"
            "    where name in ('superuser_reserved_connections', 'reserved_connections'))"
            " - (select count(*) from pg_stat_activity"
            "    where backend_type = 'client backend' and pid <> pg_backend_pid())"
        )
    )
    held = [lab.postgres(application_name="lab pool leak") for _count in range(free - 3)]
    yield
    for connection in held:
        connection.close()


@fault(fires=["database.long_query"])
def long_query(lab):
    """One query runs forever."""
    connection = lab.postgres(application_name="lab report")
    thread = run_and_wait(
        connection, "select count(*) from generate_series(1, 10000000000) a where pg_sleep(0.1) is not null"
    )
    wait_for_sessions(lab, "application_name = 'lab report' and state = 'active'", 1)
    yield
    connection.cancel()
    thread.join(10)
    connection.close()


@fault(fires=["database.foreign_key_without_index"])
def unindexed_foreign_key(lab):
    """A foreign key of the large table analysis_results has no index."""
    # One transaction.
    lab.psql(
        "drop index if exists analysis_results_track_id;"
        "insert into analysis_results (track_id, bpm, musical_key, confidence)"
        " select 1 + n % 8000, 0, 'lab', 1 from generate_series(1, 200000) n;"
        "analyze analysis_results"
    )
    yield
    lab.psql(
        "delete from analysis_results where musical_key = 'lab';"
        "drop index if exists analysis_results_track_id_idx;"
        "create index if not exists analysis_results_track_id on analysis_results (track_id)"
    )
    lab.psql("vacuum full analyze analysis_results")


@fault(fires=["database.dead_tuples", "database.vacuum_overdue", "database.analyze_overdue"])
def dead_tuples(lab):
    """`tracks` has three dead rows for each live one, and autovacuum is off for it."""
    try:
        lab.psql("alter table tracks set (autovacuum_enabled = false)")
        for _count in range(3):
            lab.psql("update tracks set seconds = seconds + 1")
        count = "select n_dead_tup from pg_stat_user_tables where relname = 'tracks'"
        wait_until(lambda: int(lab.psql(count)) > 20000, "dead rows in the statistics", 20)
        yield
    finally:
        lab.psql("alter table tracks reset (autovacuum_enabled)")
        lab.psql("vacuum full analyze tracks")


def flushed(lab, statement: str, times: int = 1, **options) -> None:
    """Run a statement in its own session and wait for its end, after which the statistics are up to date."""
    connection = lab.postgres(superuser=True, **options)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            for _each in range(times):
                cursor.execute(statement)
    finally:
        pid = connection.get_backend_pid()
        connection.close()
    wait_until(
        lambda: lab.psql(f"select count(*) from pg_stat_activity where pid = {pid}").strip() == "0",
        "the session to end",
        10,
    )


@fault(fires=["database.locks_used"])
def locks_held(lab):
    """One transaction holds a quarter of the lock table."""
    connection = lab.postgres(application_name="lab locks")
    connection.cursor().execute(
        "select pg_advisory_xact_lock(n) from generate_series(1, current_setting('max_locks_per_transaction')::int"
        " * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) / 4) n"
    )
    yield
    connection.close()


@fault(fires=["database.prepared_transaction_old", "database.blocked_by_server"])
def prepared_transaction(lab):
    """A session waits for a row that a forgotten prepared transaction has locked."""
    if lab.psql("show max_prepared_transactions") == "0":
        raise LabError("prepared transactions are disabled on this server (max_prepared_transactions = 0)")
    flushed(lab, "begin; update artists set name = name where id = 2; prepare transaction 'lab forgotten'")
    waiting = lab.postgres(application_name="lab waiter")
    thread = run_and_wait(waiting, "update artists set name = name where id = 2")
    wait_for_sessions(lab, "application_name = 'lab waiter' and wait_event_type = 'Lock'", 1)
    yield
    if lab.psql("select count(*) from pg_prepared_xacts where gid = 'lab forgotten'") == "1":
        flushed(lab, "rollback prepared 'lab forgotten'")
    thread.join(10)
    waiting.close()


@fault(fires=["database.statements_off"])
def statements_off(lab):
    """The extension pg_stat_statements is dropped."""
    lab.psql("drop extension pg_stat_statements")
    yield
    lab.psql("create extension if not exists pg_stat_statements")


@fault(fires=["database.slow_statement", "database.heavy_statement"])
def slow_statement(lab):
    """A statement of 25 ms was called 101 times."""
    lab.psql("select pg_stat_statements_reset()")
    flushed(lab, "select pg_sleep(0.025)", times=101)
    yield
    lab.psql("select pg_stat_statements_reset()")


@fault(fires=["database.xmin_held", "database.xid_age"])
def old_snapshot(lab):
    """A session holds a snapshot that is two thousand transactions old."""
    connection = lab.postgres(application_name="lab snapshot")
    connection.set_session(isolation_level="REPEATABLE READ")
    connection.cursor().execute("select 1")
    # Each iteration is a subtransaction with its own transaction ID.
    flushed(
        lab,
        "create temporary table burnt (n int);"
        "do $$ begin for n in 1..2000 loop begin insert into burnt values (n);"
        " exception when division_by_zero then null; end; end loop; end $$",
    )
    yield
    connection.close()


@fault(fires=["database.multixact_age"])
def shared_row_locks(lab):
    """Two sessions hold shared locks on the same two hundred rows."""
    holders = [lab.postgres(application_name="lab sharer") for _each in range(2)]
    holders[0].cursor().execute("select id from artists where id <= 200 for share")
    # Each lock in its own subtransaction creates a new multixact ID.
    holders[1].cursor().execute(
        "do $$ begin for n in 1..200 loop begin perform from artists where id = n for share;"
        " exception when division_by_zero then null; end; end loop; end $$"
    )
    yield
    for connection in holders:
        connection.close()


@fault(fires=["database.sequential_scans"])
def missing_index(lab):
    """A table of 20,000 rows had sixty sequential scans."""
    lab.psql("create table lab_scanned as select n as id from generate_series(1, 20000) n; analyze lab_scanned")
    flushed(lab, "select from lab_scanned where id = 1", times=60)
    yield
    lab.psql("drop table lab_scanned")


@fault(fires=["database.unused_index"])
def unused_index(lab):
    """An index that no query uses."""
    lab.psql("create index lab_unused on tracks (added)")
    yield
    lab.psql("drop index if exists lab_unused")


@fault(fires=["database.duplicate_index"])
def duplicate_index(lab):
    """A second index on tracks.artist_id."""
    lab.psql("create index lab_duplicate on tracks (artist_id)")
    yield
    lab.psql("drop index if exists lab_duplicate")


@fault(fires=["database.invalid_index"])
def invalid_index(lab):
    """A concurrent build of a unique index failed on duplicates."""
    import psycopg2

    as_application(lab, "create table lab_twice as select 1 as id from generate_series(1, 2)")
    with contextlib.suppress(psycopg2.errors.UniqueViolation):
        flushed(lab, "create unique index concurrently lab_invalid on lab_twice (id)")
    yield
    lab.psql("drop table lab_twice")


def as_application(lab, statements: str) -> None:
    """Run statements as the role of the application."""
    lab.psql(f"set role tracktion_user; {statements}; reset role")


def cut_off(lab, table: str, statement: str) -> None:
    """Run a statement that waits for a transaction on a table, and cancel it."""
    import psycopg2

    writer = lab.postgres(application_name="lab writer")
    writer.cursor().execute(f"insert into {table} default values")
    with contextlib.suppress(psycopg2.errors.QueryCanceled):
        flushed(lab, statement, options="-c statement_timeout=200")
    writer.close()


@fault(fires=["database.invalid_index"])
def interrupted_index(lab):
    """A concurrent build of an index was cancelled."""
    as_application(lab, "create table lab_interrupted (id int)")
    cut_off(lab, "lab_interrupted", "create index concurrently lab_interrupted_id on lab_interrupted (id)")
    yield
    lab.psql("drop table lab_interrupted")


@fault(fires=["database.left_behind_index"])
def interrupted_reindex(lab):
    """A concurrent rebuild of an index was cancelled."""
    as_application(lab, "create table lab_rebuilt (id int); create index lab_rebuilt_id on lab_rebuilt (id)")
    cut_off(lab, "lab_rebuilt", "reindex index concurrently lab_rebuilt_id")
    yield
    lab.psql("drop table lab_rebuilt")


@fault(fires=["database.cache_hit"])
def cache_misses(lab):
    """A table of twice the size of the cache is read many times."""
    lab.psql("select pg_stat_reset()")
    pages = int(lab.psql("select setting from pg_settings where name = 'shared_buffers'")) * 2
    lab.psql(
        "create table lab_big (filler text); alter table lab_big alter filler set storage plain;"
        f"insert into lab_big select repeat('x', 7000) from generate_series(1, {pages})"
    )
    flushed(lab, "select count(*) from lab_big", times=max(2, 120000 // pages))
    yield
    lab.psql("drop table lab_big")
    lab.psql("select pg_stat_reset()")


@fault(fires=["database.checkpoints_requested"])
def requested_checkpoints(lab):
    """Checkpoints were requested because of a small max_wal_size, and none was timed."""
    name = "checkpointer" if int(lab.psql("show server_version_num")) >= 170000 else "bgwriter"
    column = "num_requested" if name == "checkpointer" else "checkpoints_req"
    lab.psql("alter system set max_wal_size = '32MB'")
    lab.psql("select pg_reload_conf()")
    lab.psql(f"select pg_stat_reset_shared('{name}'), pg_stat_reset_shared('wal')")

    def is_enough() -> bool:
        write_wal(lab, 17)
        return int(lab.psql(f"select {column} from pg_stat_{name}")) >= 10

    wait_until(is_enough, "checkpoints because of max_wal_size", 120)
    yield
    lab.psql("alter system reset max_wal_size")
    lab.psql("select pg_reload_conf()")
    lab.psql(f"select pg_stat_reset_shared('{name}')")


@fault(fires=["database.temp_files"])
def temporary_files(lab):
    """A sort that does not fit into work_mem wrote temporary files."""
    flushed(
        lab,
        "set work_mem = '64kB';select count(*) from (select from generate_series(1, 200000) n order by md5(n::text)) s",
    )
    yield
    lab.psql("select pg_stat_reset()")


@fault(fires=["database.deadlocks"])
def deadlock(lab):
    """Two transactions locked the same two rows in opposite order."""
    import psycopg2

    one, other = (lab.postgres(superuser=True, application_name="lab deadlock") for _each in range(2))
    for connection, row in ((one, 3), (other, 4)):
        connection.cursor().execute("set deadlock_timeout = '20ms'")
        connection.cursor().execute("update artists set name = name where id = %s", [row])
    thread = run_and_wait(one, "update artists set name = name where id = 4")
    with contextlib.suppress(psycopg2.errors.DeadlockDetected):
        other.cursor().execute("update artists set name = name where id = 3")
    other.close()
    thread.join(10)
    one.close()
    counted = "select deadlocks from pg_stat_database where datname = current_database()"
    wait_until(lambda: int(lab.psql(counted)) > 0, "the deadlock in the statistics", 10)
    yield
    lab.psql("select pg_stat_reset()")


def write_wal(lab, megabytes: int) -> None:
    """Write ``megabytes`` of WAL."""
    flushed(
        lab,
        "select count(pg_logical_emit_message(false, 'lab', repeat('x', 1000000)))"
        f" from generate_series(1, {megabytes})",
    )


@fault(fires=["database.inactive_slot", "database.slot_wal_retained"])
def forgotten_slot(lab):
    """A replication slot without a consumer holds 20 MB of WAL."""
    lab.psql("select pg_create_physical_replication_slot('lab_forgotten', true)")
    write_wal(lab, 20)
    yield
    lab.psql("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = 'lab_forgotten'")


@fault(fires=["database.replication_lag"])
def lagging_receiver(lab):
    """A WAL receiver is stopped and 60 MB behind."""
    command = "mkdir -p /tmp/lab-wal && { pg_receivewal -D /tmp/lab-wal -U postgres >/dev/null 2>&1 & echo $!; }"
    pid = lab.exec("postgres", "bash", "-c", command).strip()
    try:
        wait_until(
            lambda: lab.psql("select count(*) from pg_stat_replication where state = 'streaming'") == "1",
            "streaming",
            20,
        )
        lab.exec("postgres", "bash", "-c", f"kill -STOP {pid}")
        write_wal(lab, 60)
        yield
    finally:
        lab.exec("postgres", "bash", "-c", f"kill -CONT {pid}; kill {pid}; rm -rf /tmp/lab-wal")
        wait_until(lambda: lab.psql("select count(*) from pg_stat_replication") == "0", "the receiver to leave", 20)


@fault(fires=["database.archive_failures"])
def failing_archive(lab):
    """archive_command fails."""
    if lab.psql("show archive_mode") == "off":
        raise LabError("archiving is disabled on this server (archive_mode = off)")
    before = lab.psql("show archive_command")
    failing = "select count(*) from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity')"
    lab.psql("alter system set archive_command = 'false'")
    lab.psql("select pg_reload_conf()")
    write_wal(lab, 1)
    lab.psql("select pg_switch_wal()")
    wait_until(lambda: lab.psql(failing) == "1", "archiving to fail", 20)
    yield
    lab.psql(f"alter system set archive_command = '{before}'")
    lab.psql("select pg_reload_conf()")
    lab.psql("select pg_stat_reset_shared('archiver')")


@fault(fires=["database.pending_restart"])
def pending_restart(lab):
    """max_worker_processes was increased without a restart."""
    before = lab.psql("show max_worker_processes")
    pending = "select count(*) from pg_settings where name = 'max_worker_processes' and pending_restart"
    lab.psql("alter system set max_worker_processes = 12")
    lab.psql("select pg_reload_conf()")
    wait_until(lambda: lab.psql(pending) == "1", "the setting to be pending", 10)
    yield
    # pending_restart is cleared only when the file has the value in force. After RESET it would stay set.
    lab.psql(f"alter system set max_worker_processes = {before}")
    lab.psql("select pg_reload_conf()")
    wait_until(lambda: lab.psql(pending) == "0", "nothing to be pending", 10)


@fault(fires=["database.writes_off"])
def writes_off(lab):
    """The database was made read-only, as scripts do if the disk is nearly full."""
    lab.psql("alter database tracktion set default_transaction_read_only = on")
    yield
    lab.psql("begin read write; alter database tracktion reset default_transaction_read_only; commit")


@fault(fires=["database.harmful_setting"])
def autovacuum_off(lab):
    """autovacuum was turned off for an import, and not turned on again."""
    off = "select count(*) from pg_settings where name = 'autovacuum' and setting = 'off'"
    lab.psql("alter system set autovacuum = off")
    lab.psql("select pg_reload_conf()")
    wait_until(lambda: lab.psql(off) == "1", "autovacuum to be off", 10)
    yield
    lab.psql("alter system reset autovacuum")
    lab.psql("select pg_reload_conf()")
    wait_until(lambda: lab.psql(off) == "0", "autovacuum to be on", 10)


@fault(fires=["database.sequence_exhaustion"])
def exhausted_sequence(lab):
    """The sequence of an integer column is 98 % used."""
    as_application(lab, "create table lab_full (id serial); select setval('lab_full_id_seq', 2100000000)")
    yield
    lab.psql("drop table lab_full")
