# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings name the cause, and a remedy is offered only where it removes that cause."""

from __future__ import annotations

import contextlib

import psycopg2
import pytest

from tests.integration.modules import run_module
from tests.integration.pasting import commands
from tests.integration.postgresql import forget, running, session, standby_of
from tests.lab.faults.database import as_application, flushed, run_and_wait, wait_for_sessions
from tests.lab.shell import wait_until

AT_ONCE = {
    "database_long_query_warning": 0,
    "database_long_transaction_warning": 0,
    "database_idle_in_transaction_warning": 0,
    "database_blocked_seconds_warning": 0,
    "database_synchronous_wait_warning": 0,
}


@pytest.fixture(params=["pg15", "pg17"])
def pg(request):
    """Return PostgreSQL 15 and 17."""
    return request.getfixturevalue(request.param)


def findings_of(pg, settings=None, **login):
    """Return the findings by id."""
    by_id = {}
    for finding in pg.diagnose({**AT_ONCE, **(settings or {})}, **login):
        by_id.setdefault(finding["id"].removeprefix("database."), []).append(finding)
    return by_id


def only(found):
    (one,) = found
    return one


def pid_of(pg, application):
    return int(pg.psql("select pid from pg_stat_activity where application_name = '%s'" % application))


def state_of(pg, application):
    """Return the states of the sessions of an application."""
    return pg.psql("select state from pg_stat_activity where application_name = '%s' order by 1" % application)


def end(pg, check=False, role="operator", **criteria):
    """Return the result of the module with state=ended."""
    forget()
    return run_module(
        "pg_activity", {**pg.login(role), "state": "ended", "grace": 1, **criteria}, check=check, diff=True
    )


def remedied(pg, finding, **options):
    """Return the result of the remedy of a finding, with its evidence."""
    return end(pg, **{name: finding["remedy"]["vars"][name] for name in ("pids", "states", "min_age")}, **options)


def results(outcome):
    return {each["application"]: each["result"] for each in outcome["sessions"]}


def waiting_for_lock(pg, statement, name):
    return running(pg, statement, name, "wait_event_type = 'Lock'")


@contextlib.contextmanager
def autocommit(pg, name, *statements):
    """Yield a session outside of a transaction that has run ``statements``."""
    with contextlib.closing(pg.postgres(application_name=name)) as connection:
        connection.autocommit = True
        for statement in statements:
            with contextlib.suppress(psycopg2.Error):
                connection.cursor().execute(statement)
        yield connection


# Sessions that wait for a lock


@pytest.fixture
def counted(pg):
    """A row that one session has locked, for which two others wait."""
    pg.psql("create table lab_counted as select 1 as id, 0 as n; grant all on lab_counted to public")
    update = "update lab_counted set n = n + 1"
    with contextlib.ExitStack() as stack:
        stack.callback(pg.psql, "drop table lab_counted")
        waiters = []
        for name in ("lab waiter 1", "lab waiter 2"):
            waiters.append(pg.postgres(application_name=name))
            waiters[-1].autocommit = True
            stack.callback(waiters[-1].close)
        root = stack.enter_context(session(pg, update, application_name="lab root"))
        threads = [run_and_wait(waiter, update) for waiter in waiters]
        wait_for_sessions(pg, "application_name like 'lab waiter%' and wait_event_type = 'Lock'", 2)
        yield pg
        root.close()
        for thread in threads:
            thread.join(10)


def test_sessions_that_wait_for_a_lock_are_not_listed_and_not_cancelled(counted):
    found = findings_of(counted)
    waiting = {"pid %d" % pid_of(counted, name) for name in ("lab waiter 1", "lab waiter 2")}
    for name in ("long_query", "long_transaction", "blocked_sessions", "idle_in_transaction"):
        assert not waiting & {finding["object"] for finding in found.get(name, [])}, name
    criteria = {"states": ["active", "idle in transaction"], "min_age": 0}
    applications = {"applications": ["lab root", "lab waiter 1", "lab waiter 2"]}
    expected = {"lab waiter 1": "waits_for_lock", "lab waiter 2": "waits_for_lock"}
    planned = end(counted, check=True, **criteria, **applications)
    assert results(planned) == {"lab root": "planned", **expected}
    done = end(counted, **criteria, **applications)
    assert results(done) == {"lab root": "ended", **expected}
    # Those that the end of the root has freed have completed their work.
    wait_until(lambda: counted.psql("select n from lab_counted") == "2", "the others to commit", 10)


def test_a_named_session_that_waits_is_left_alone(counted):
    start = counted.psql(
        "select extract(epoch from backend_start)::float8 from pg_stat_activity where application_name = 'lab waiter 1'"
    )
    named = [{"pid": pid_of(counted, "lab waiter 1"), "backend_start": float(start)}]
    for check in (True, False):
        left = end(counted, check=check, pids=named)
        assert (left["changed"], results(left)) == (False, {"lab waiter 1": "waits_for_lock"})
        assert "continues" in only(left["sessions"])["message"]
    root = only(findings_of(counted)["blocked_sessions"])
    # Once it blocks no session, there is no reason to end it.
    counted.psql("select pg_cancel_backend(pid) from pg_stat_activity where application_name like 'lab waiter%'")
    wait_for_sessions(counted, "application_name like 'lab waiter%' and state = 'idle'", 2)
    late = remedied(counted, root)
    assert (late["changed"], late["matched"]) == (False, 0)
    assert state_of(counted, "lab root") == "idle in transaction"


# Synchronous replication


@pytest.fixture
def without_standby(pg):
    """A commit waits for a synchronous standby that does not exist, and a session for its row."""
    pg.psql("alter system set synchronous_standby_names = 'lab_standby'")
    pg.psql("select pg_reload_conf()")
    wait_until(lambda: pg.psql("show synchronous_standby_names") == "lab_standby", "the setting", 10)
    committing, behind = (pg.postgres(application_name=name) for name in ("lab commit", "lab behind"))
    committing.autocommit = behind.autocommit = True
    threads = [run_and_wait(committing, "update artists set name = name where id = 7")]
    wait_for_sessions(pg, "wait_event = 'SyncRep'", 1)
    threads.append(run_and_wait(behind, "update artists set name = name where id = 7"))
    wait_for_sessions(pg, "application_name = 'lab behind' and wait_event_type = 'Lock'", 1)
    yield pg
    pg.psql("alter system reset synchronous_standby_names")
    pg.psql("select pg_reload_conf()")
    for thread in threads:
        thread.join(10)
    committing.close()
    behind.close()


def test_commits_that_wait_for_a_standby_are_reported_and_never_cancelled(without_standby):
    pg = without_standby
    found = findings_of(pg)
    finding = only(found["synchronous_standby"])
    assert (finding["status"], finding["remedy"]) == ("warning", None)
    assert "lab_standby" in finding["summary"]
    assert "1 commits wait" in finding["summary"]
    for name in ("long_query", "long_transaction", "blocked_sessions"):
        assert name not in found
    # Its locks are those of the chain.
    blocked = only(found["blocked_by_server"])
    assert "synchronous standby" in blocked["summary"]
    assert "Do not cancel" in blocked["hint"]
    start = pg.psql(
        "select extract(epoch from backend_start)::float8 from pg_stat_activity where application_name = 'lab commit'"
    )
    named = {"pid": pid_of(pg, "lab commit"), "backend_start": float(start)}
    for criteria in (
        {"pids": [named]},
        {"pids": [{**named, "blocking": True}]},
        {"states": ["active"], "min_age": 0, "applications": ["lab commit"]},
    ):
        for mode in ("cancel_then_terminate", "terminate"):
            for check in (True, False):
                left = end(pg, check=check, mode=mode, **criteria)
                assert (left["changed"], results(left)) == (False, {"lab commit": "waits_for_standby"})
    assert pg.psql("select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == "1"
    # The hint releases all of them.
    for command in commands(finding["hint"]):
        pg.psql(command)
    wait_for_sessions(pg, "application_name in ('lab commit', 'lab behind') and state = 'idle'", 2)
    assert "synchronous_standby" not in findings_of(pg)


# Lock queues


def test_a_waiting_ddl_is_cancelled_for_the_readers_behind_it(pg):
    read = "select from albums limit 1"
    with (
        session(pg, read, application_name="lab reader"),
        waiting_for_lock(pg, "alter table albums add lab_column int", "lab migration"),
        waiting_for_lock(pg, read, "lab query 1"),
        waiting_for_lock(pg, read, "lab query 2"),
    ):
        found = findings_of(pg)
        queue = only(found["lock_queue"])
        assert queue["object"] == "pid %d" % pid_of(pg, "lab migration")
        assert queue["summary"].startswith("2 sessions queue")
        assert "AccessExclusiveLock on public.albums" in queue["summary"]
        assert "pid %d (tracktion_user, lab reader, idle in transaction" % pid_of(pg, "lab reader") in queue["hint"]
        # To end the reader would let the change run. The others do not need that.
        assert "blocked_sessions" not in found
        planned = remedied(pg, queue, check=True)
        assert results(planned) == {"lab migration": "planned"}
        done = remedied(pg, queue)
        assert [(each["signal"], each["result"]) for each in done["sessions"]] == [("cancel", "ended")]
        wait_for_sessions(pg, "application_name like 'lab query%' and state = 'idle in transaction'", 2)
        assert state_of(pg, "lab reader") == "idle in transaction"
        assert "lock_queue" not in findings_of(pg)


def test_a_session_that_blocks_others_beside_a_queue_is_the_root_of_these(pg):
    with (
        session(pg, "update albums set title = title where id = 1", application_name="lab writer"),
        waiting_for_lock(pg, "update albums set title = title where id = 1", "lab same row"),
        waiting_for_lock(pg, "lock table albums in access exclusive mode", "lab first"),
        waiting_for_lock(pg, "lock table albums in access exclusive mode", "lab second"),
        waiting_for_lock(pg, "select from albums limit 1", "lab query"),
    ):
        found = findings_of(pg)
    # Both requests are ahead of the reader.
    assert {finding["summary"].split("(tracktion_user, ")[1].split(")")[0] for finding in found["lock_queue"]} == {
        "lab first",
        "lab second",
    }
    assert "lab writer" in only(found["blocked_sessions"])["summary"]
    assert "1 of the others only queue" in only(found["blocked_sessions"])["hint"]


def test_a_request_without_a_queue_is_no_finding(pg):
    with (
        session(pg, "select from albums limit 1", application_name="lab reader"),
        waiting_for_lock(pg, "alter table albums add lab_column int", "lab migration"),
    ):
        found = findings_of(pg)
    assert "lock_queue" not in found
    assert "lab reader" in only(found["blocked_sessions"])["summary"]


# Advisory locks


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_session_level_advisory_lock_outlives_the_query(pg, busy):
    lock = "select pg_advisory_lock(4713)"
    with autocommit(pg, "lab holder", lock) as holder, contextlib.ExitStack() as stack:
        if busy:
            thread = run_and_wait(holder, "select pg_sleep(600)")
            stack.callback(thread.join, 10)
            stack.callback(
                pg.psql, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lab holder'"
            )
            wait_for_sessions(pg, "application_name = 'lab holder' and wait_event = 'PgSleep'", 1)
        stack.enter_context(waiting_for_lock(pg, lock, "lab waiter"))
        finding = only(findings_of(pg)["blocked_sessions"])
        assert "advisory lock" in finding["summary"]
        assert "advisory lock belongs to the session" in finding["hint"]
        assert "rolls back" not in finding["hint"] + finding["remedy"]["does"]
        assert "None" not in finding["summary"]
        done = remedied(pg, finding)
        assert [(each["signal"], each["result"]) for each in done["sessions"]] == [("terminate", "ended")]
        wait_for_sessions(pg, "application_name = 'lab waiter' and state = 'idle in transaction'", 1)


def test_a_transaction_level_advisory_lock_ends_with_the_query(pg):
    hold = "select pg_advisory_xact_lock(4714), pg_sleep(600)"
    with (
        running(pg, hold, "lab holder", "wait_event = 'PgSleep'"),
        waiting_for_lock(pg, "select pg_advisory_xact_lock(4714)", "lab waiter"),
    ):
        done = remedied(pg, only(findings_of(pg)["blocked_sessions"]))
        assert [(each["signal"], each["result"]) for each in done["sessions"]] == [("cancel", "ended")]
        assert state_of(pg, "lab holder") == "idle in transaction (aborted)"


# Transactions


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("update artists set name = name where id = 2", "update artists set name = name where id = 2"),
        ("lock table albums in share mode", "update albums set title = title where id = 1"),
    ],
    ids=["row", "table"],
)
def test_only_the_prepared_transaction_that_holds_the_lock_is_named(pg, first, second):
    # The second one has a weaker lock on the same table, which does not conflict.
    flushed(pg, "begin; %s; prepare transaction 'lab holder'" % first)
    flushed(pg, "begin; select from albums limit 1; select from artists limit 1; prepare transaction 'lab other'")
    try:
        with waiting_for_lock(pg, second, "lab waiter"):
            finding = only(findings_of(pg)["blocked_by_server"])
    finally:
        flushed(pg, "rollback prepared 'lab holder'")
        flushed(pg, "rollback prepared 'lab other'")
    assert finding["object"] == "prepared transaction lab holder"
    assert "lab other" not in finding["summary"] + finding["hint"]
    assert commands(finding["hint"]) == ["COMMIT PREPARED 'lab holder';", "ROLLBACK PREPARED 'lab holder';"]


def test_an_aborted_transaction_is_not_a_missing_commit(pg):
    with contextlib.closing(pg.postgres(application_name="lab failed")) as failed:
        with contextlib.suppress(psycopg2.Error):
            failed.cursor().execute("select 1 / 0")
        found = findings_of(pg)
        finding = only(found["aborted_transaction"])
        assert "roll back when a statement fails" in finding["hint"]
        assert "commit" not in finding["hint"] + finding["summary"]
        assert "idle_in_transaction" not in found
        assert "long_transaction" not in found
        assert results(remedied(pg, finding)) == {"lab failed": "ended"}
    assert "aborted_transaction" not in findings_of(pg)


# VACUUM


@pytest.fixture
def worn(pg):
    """Yield a function that makes as many dead as live rows in a table without autovacuum."""
    pg.psql("create table lab_worn (n int) with (autovacuum_enabled = false)")
    pg.psql("alter table lab_worn owner to tracktion_user")
    flushed(pg, "insert into lab_worn select generate_series(1, 500)")

    def wear():
        flushed(pg, "update lab_worn set n = n")
        dead = "select n_dead_tup from pg_stat_user_tables where relname = 'lab_worn'"
        wait_until(lambda: int(pg.psql(dead)) >= 500, "dead rows in the statistics", 5)

    yield wear
    pg.psql("drop table lab_worn")


# With the defaults, a holder has to be a second old.
HELD = {
    "database_dead_rows_floor": 500,
    "database_vacuum_overdue_warning": 0,
    "database_vacuum_holder_seconds": 0,
    "database_vacuum_holder_xids": 1,
}


def vacuumed(pg, check=False, **options):
    forget()
    limits = {"max_holder_seconds": 0, "max_holder_xids": 1, **options}
    options = {**pg.login(), "action": "vacuum", "tables": [{"name": "lab_worn"}], **limits}
    outcome = run_module("pg_maintenance", options, check=check)
    return outcome, only(outcome["objects"])["result"]


def of_worn(found, *names):
    return {
        name: [each for each in found.get(name, ()) if each["object"] == "public.lab_worn"]
        for name in names
        if any(each["object"] == "public.lab_worn" for each in found.get(name, ()))
    }


CHECKS = ("dead_tuples", "vacuum_overdue", "vacuum_held")


def is_held_by(pg, kind, name, command):
    """VACUUM is not offered and not started, and the holder is named."""
    found = of_worn(findings_of(pg, HELD), *CHECKS)
    assert set(found) == {"vacuum_held"}
    finding = only(found["vacuum_held"])
    assert finding["remedy"] is None
    assert kind in finding["summary"]
    assert name in finding["summary"]
    assert command in finding["hint"]
    for check in (True, False):
        outcome, result = vacuumed(pg, check)
        assert (result, outcome["failed"], outcome["changed"]) == ("held", True, False)
        assert name in outcome["msg"]
    return finding


def is_offered(pg):
    found = of_worn(findings_of(pg, HELD), *CHECKS)
    assert set(found) == {"dead_tuples", "vacuum_overdue"}
    assert {finding["remedy"]["id"] for (finding,) in found.values()} == {"database.vacuum"}


def test_vacuum_is_not_offered_while_a_session_holds_the_horizon(pg, worn):
    with session(pg, "select txid_current()", application_name="lab snapshot"):
        worn()
        finding = is_held_by(pg, "session", "lab snapshot", "pg_terminate_backend(%d)" % pid_of(pg, "lab snapshot"))
        # A limit above its age lets VACUUM run, which then finds out.
        outcome, result = vacuumed(pg, max_holder_seconds=3600)
        assert (result, outcome["changed"]) == ("held", True)
        # That it is older than this VACUUM is certain, whatever the limit.
        outcome, result = vacuumed(pg, max_holder_seconds=3600)
        assert (result, outcome["changed"]) == ("held", False)
        pg.psql(only(commands(finding["hint"])))
    is_offered(pg)
    assert vacuumed(pg)[1] == "done"
    assert of_worn(findings_of(pg, HELD), *CHECKS) == {}


def test_vacuum_is_not_offered_while_a_prepared_transaction_holds_the_horizon(pg, worn):
    flushed(pg, "begin; update artists set name = name where id = 3; prepare transaction 'lab prepared'")
    try:
        worn()
        is_held_by(pg, "prepared transaction", "lab prepared", "ROLLBACK PREPARED 'lab prepared';")
    finally:
        flushed(pg, "rollback prepared 'lab prepared'")
    is_offered(pg)


def test_a_session_in_another_database_does_not_hold_the_horizon(pg, worn):
    with session(pg, "select txid_current()", application_name="lab elsewhere", dbname="postgres", superuser=True):
        worn()
        is_offered(pg)


def test_feedback_of_a_standby_and_its_slot_hold_the_horizon(pg, worn):
    pg.psql("select pg_create_physical_replication_slot('lab_standby')")
    with contextlib.ExitStack() as stack:
        stack.callback(pg.psql, "select pg_drop_replication_slot('lab_standby')")
        with standby_of(pg) as options:
            there = pg.postgres(superuser=True, host=options["login_host"], port=options["login_port"])
            # After the standby, which would report the end of the transaction.
            stack.callback(there.close)
            there.autocommit = True
            for setting in ("hot_standby_feedback = on", "wal_receiver_status_interval = 1"):
                there.cursor().execute("alter system set " + setting)
            there.cursor().execute("select pg_reload_conf()")
            there.cursor().execute("begin isolation level repeatable read; select from artists limit 1")
            wait_until(
                lambda: pg.psql("select count(*) from pg_stat_replication where backend_xmin is not null") == "1",
                "feedback",
                30,
            )
            worn()
            is_held_by(pg, "standby", "walreceiver", "hot_standby_feedback")
            with contextlib.closing(
                pg.postgres(superuser=True, host=options["login_host"], port=options["login_port"])
            ) as other:
                other.autocommit = True
                other.cursor().execute("alter system set primary_slot_name = 'lab_standby'")
                other.cursor().execute("select pg_reload_conf()")
            of_slot = "select count(*) from pg_replication_slots where xmin is not null and %s"
            wait_until(lambda: pg.psql(of_slot % "active") == "1", "feedback by the slot", 30)
            is_held_by(pg, "slot", "lab_standby", "Look at the consumer of the slot lab_standby")
        wait_until(lambda: pg.psql(of_slot % "not active") == "1", "the standby to leave", 30)
        finding = is_held_by(pg, "slot", "lab_standby", "pg_drop_replication_slot('lab_standby')")
        pg.psql(commands(finding["hint"])[0])
        stack.pop_all()
    is_offered(pg)


# Checkpoints


def test_checkpoints_by_command_need_no_larger_max_wal_size(pg):
    name = "checkpointer" if pg.connection.server_version >= 170000 else "bgwriter"
    settings = {"database_checkpoints_floor": 4}
    pg.psql("select pg_stat_reset_shared('%s'), pg_stat_reset_shared('wal')" % name)
    flushed(pg, "checkpoint", times=4)
    pg.psql("create database lab_created")
    pg.psql("drop database lab_created")
    assert "checkpoints_requested" not in findings_of(pg, settings)
    with pg.fault("requested-checkpoints"):
        finding = only(findings_of(pg, settings)["checkpoints_requested"])
        assert "max_wal_size = 32MB" in finding["summary"]
        for command in commands(finding["hint"]):
            pg.psql(command)
        wait_until(lambda: pg.psql("show max_wal_size") == "64MB", "the new setting", 10)


# Hints


def test_what_is_set_on_the_command_line_is_changed_there(pg):
    """The lab starts the server with -c shared_preload_libraries=..."""
    with pg.fault("statements-off"):
        hint = only(findings_of(pg)["statements_off"])["hint"]
        # The library is loaded.
        assert "shared_preload_libraries" not in hint
        pg.psql(only(commands(hint)))
    assert pg.measure()["health"]["statements"]["by_command_line"] is True


def test_a_member_of_pg_monitor_needs_pg_signal_backend(pg):
    with session(pg, "select txid_current()", application_name="lab idler"):
        for check in (True, False):
            done = end(pg, check=check, role="monitor", states=["idle in transaction"], min_age=0)
            assert (done["failed"], done["changed"]) == (True, False)
            assert results(done)["lab idler"] == "not_permitted"
            assert 'GRANT pg_signal_backend TO "tracktion_monitor";' in done["msg"]
            assert "pg_monitor TO" not in done["msg"]
        assert state_of(pg, "lab idler") == "idle in transaction"
    with session(pg, "select txid_current()", superuser=True, application_name="lab superior"):
        done = end(pg, check=True, states=["idle in transaction"], min_age=0, applications=["lab superior"])
    assert done["failed"]
    # No GRANT permits that.
    assert "GRANT" not in done["msg"]
    assert "superuser" in done["msg"]


def test_connections_are_summed_by_application(pg):
    with contextlib.ExitStack() as stack:
        for _each in range(3):
            stack.enter_context(session(pg, "select 1", application_name="lab leak"))
        stack.enter_context(autocommit(pg, "lab leak", "select 1"))
        group = {each["application"]: each for each in pg.measure()["activity"]["connections_by_application"]}[
            "lab leak"
        ]
        assert (group["count"], group["idle_in_transaction"], group["idle"]) == (4, 3, 1)
        hint = only(findings_of(pg, {"database_connections_warning": 0.01})["connections_used"])["hint"]
    assert "4 of lab leak as tracktion_user from 1 address (0 active, 3 idle in transaction, 1 idle," in hint
    assert hint.startswith("End sessions that are idle in transaction first.")
    assert (
        "idle in transaction first"
        not in only(findings_of(pg, {"database_connections_warning": 0.01})["connections_used"])["hint"]
    )


def test_a_query_that_waits_for_its_client_is_named(pg):
    """The client does not read the result."""
    connection = pg.postgres(application_name="lab deaf", async_=True)
    try:
        wait_until(lambda: connection.poll() == psycopg2.extensions.POLL_OK, "the connection", 10)
        connection.cursor().execute("select repeat('x', 1000000) from generate_series(1, 100)")
        # The buffers of both sockets are full then.
        full = "wait_event = 'ClientWrite' and query_start < clock_timestamp() - interval '2 s'"
        wait_for_sessions(pg, "application_name = 'lab deaf' and " + full, 1)
        finding = only(findings_of(pg)["long_query"])
        assert "waits for its client (ClientWrite)" in finding["summary"]
        assert "does not read the result" in finding["hint"]
        # A cancel may not reach it.
        assert results(remedied(pg, finding)) == {"lab deaf": "ended"}
        assert pg.psql("select count(*) from pg_stat_activity where wait_event = 'ClientWrite'") == "0"
    finally:
        connection.close()


# Checks


def test_a_sequence_of_a_default_ends_with_its_column(pg):
    as_application(pg, "create sequence lab_numbers; create table lab_numbered (id int default nextval('lab_numbers'))")
    pg.psql("grant select on lab_numbers to tracktion_operator")
    try:
        pg.psql("select setval('lab_numbers', 1000)")
        assert "sequence_exhaustion" not in findings_of(pg)
        pg.psql("select setval('lab_numbers', 2100000000)")
        finding = only(findings_of(pg)["sequence_exhaustion"])
        assert (finding["object"], finding["status"]) == ("public.lab_numbers", "critical")
        assert "for column lab_numbered.id" in finding["summary"]
        for command in commands(finding["hint"]):
            pg.psql(command)
        assert "sequence_exhaustion" not in findings_of(pg)
    finally:
        pg.psql("drop table lab_numbered; drop sequence lab_numbers")


def test_a_subscription_that_fails(pg):
    """A row exists already on the subscriber."""
    pg.psql("create table lab_published (id int primary key); create publication lab_published for table lab_published")
    pg.psql("create database lab_subscriber")
    flushed(pg, "create table lab_published (id int primary key); insert into lab_published values (1)",
            dbname="lab_subscriber")  # fmt: skip
    pg.psql("select pg_create_logical_replication_slot('lab_subscribed', 'pgoutput')")
    subscribe = (
        "create subscription lab_subscribed connection 'host=/var/run/postgresql user=postgres dbname=tracktion'"
        " publication lab_published with (create_slot = false, copy_data = false)"
    )
    flushed(pg, subscribe, dbname="lab_subscriber")
    settings = {"database_subscription_running_seconds": 1000000}
    try:
        wait_until(lambda: pg.measure()["health"]["subscriptions"][0]["running"], "the worker", 20)
        assert "subscription_failing" not in findings_of(pg, settings)
        flushed(pg, "insert into lab_published values (1)")
        wait_until(lambda: "subscription_failing" in findings_of(pg, settings), "an error", 30)
        finding = only(findings_of(pg, settings)["subscription_failing"])
        assert finding["object"] == "lab_subscribed"
        assert "0 while copying" in finding["summary"]
        flushed(pg, "delete from lab_published", dbname="lab_subscriber")
        # Errors of the past are no finding once its worker runs.
        steady = {"database_subscription_running_seconds": 0}
        wait_until(lambda: "subscription_failing" not in findings_of(pg, steady), "the worker to run", 30)
    finally:
        flushed(pg, "drop subscription lab_subscribed", dbname="lab_subscriber")
        pg.psql("drop database lab_subscriber")
        pg.psql("drop publication lab_published")
        pg.psql("drop table lab_published")


AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")


def test_a_page_with_a_wrong_checksum(pg):
    """In a cluster of its own in the same container: the shared one has no checksums."""
    run, data = pg.server.exec, "/tmp/sums"
    run(*AS_POSTGRES, "initdb", "-D", data, "-k", "--no-sync", "--auth=trust")
    run("bash", "-c", "echo 'host all all all trust' >> %s/pg_hba.conf" % data)
    run(*AS_POSTGRES, "pg_ctl", "-D", data, "-w", "-s", "start", "-l", "/tmp/sums.log",
        "-o", "-p 5436 -c listen_addresses=*")  # fmt: skip
    there = {"login_host": pg.server.address, "login_port": 5436, "login_user": "postgres", "login_db": "postgres"}
    psql = (*AS_POSTGRES, "psql", "-XAtq", "-p", "5436")
    try:
        assert "checksum_failures" not in findings_of(pg, **there)
        run(*psql, "-c", "create table broken as select n from generate_series(1, 1000) n", "-c", "checkpoint")
        path = run(*psql, "-c", "select pg_relation_filepath('broken')").strip()
        run(*AS_POSTGRES, "pg_ctl", "-D", data, "-w", "-s", "stop", "-m", "fast")
        run("bash", "-c", "printf xxxx | dd of=%s/%s bs=1 seek=8000 conv=notrunc status=none" % (data, path))
        run(*AS_POSTGRES, "pg_ctl", "-D", data, "-w", "-s", "start", "-l", "/tmp/sums.log",
            "-o", "-p 5436 -c listen_addresses=*")  # fmt: skip
        run("bash", "-c", "psql -XAtq -U postgres -p 5436 -c 'select count(*) from broken' || true")
        finding = only(findings_of(pg, **there)["checksum_failures"])
        assert (finding["status"], finding["object"]) == ("critical", "postgres")
        assert "1 pages with a wrong checksum" in finding["summary"]
    finally:
        run(*AS_POSTGRES, "pg_ctl", "-D", data, "-m", "immediate", "-s", "stop")
        run("rm", "-rf", data)


def test_tables_without_planner_statistics(pg):
    """As after an upgrade with pg_upgrade."""
    assert "planner_statistics" not in findings_of(pg)
    pg.psql("create table lab_upgraded as select n from generate_series(1, 5000) n; analyze lab_upgraded")
    try:
        pg.psql("delete from pg_statistic where starelid = 'lab_upgraded'::regclass")
        pg.psql("update pg_class set reltuples = -1, relpages = 0 where relname = 'lab_upgraded'")
        pg.psql("select pg_stat_reset_single_table_counters('lab_upgraded'::regclass)")
        flushed(pg, "select count(*) from lab_upgraded")
        wait_until(lambda: "planner_statistics" in findings_of(pg), "the scan in the statistics", 5)
        finding = only(findings_of(pg)["planner_statistics"])
        assert finding["summary"].startswith("1 tables with 5000 rows")
        assert "public.lab_upgraded" in finding["summary"]
        pg.psql(commands(finding["hint"])[0])
        assert "planner_statistics" not in findings_of(pg)
    finally:
        pg.psql("drop table lab_upgraded")


def test_collation_version_mismatch(pg):
    """As after an upgrade of the operating system."""
    pg.psql("create database lab_icu template template0 locale_provider icu icu_locale 'de' locale 'C'")
    pg.psql('create table lab_sorted (t text collate "de-x-icu")')
    try:
        assert "collation_mismatch" not in findings_of(pg)
        pg.psql("update pg_database set datcollversion = '1.0' where datname = 'lab_icu'")
        pg.psql("update pg_collation set collversion = '1.0' where collname in ('de-x-icu', 'fr-x-icu')")
        found = {finding["object"]: finding for finding in findings_of(pg)["collation_mismatch"]}
        # No column uses the other one.
        assert set(found) == {"database lab_icu", 'collation pg_catalog."de-x-icu"'}
        with contextlib.closing(pg.postgres(superuser=True, dbname="lab_icu")) as there:
            there.autocommit = True
            for command in commands(found["database lab_icu"]["hint"]):
                there.cursor().execute(command)
        pg.psql('alter collation pg_catalog."de-x-icu" refresh version')
        assert "collation_mismatch" not in findings_of(pg)
    finally:
        pg.psql('alter collation pg_catalog."fr-x-icu" refresh version')
        pg.psql("drop table lab_sorted")
        pg.psql("drop database lab_icu")
