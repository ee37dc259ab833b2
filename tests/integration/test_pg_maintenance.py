# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module pg_maintenance against real servers: effects, skipped objects, and that no session waits for it."""

from __future__ import annotations

import contextlib
import re
import secrets
import time

import psycopg2
import pytest
from psycopg2.extensions import quote_ident

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import (
    _pg_maintenance,
    _pg_maintenance_actions,
    _postgresql,
)
from tests.integration.modules import run_module
from tests.integration.postgresql import autovacuuming, documentation_of, forget, running, session
from tests.lab.faults.database import as_application, cut_off, flushed, run_and_wait
from tests.lab.shell import wait_until
from tests.slack import SLACK

# Names that need quoting.
SCHEMA, TABLE, INDEX = 'Lab "ü" %s', "Täbelle; drop {0}", "Índex %(name)s"
NAMED, NAMED_INDEX = {"schema": SCHEMA, "name": TABLE}, {"schema": SCHEMA, "name": INDEX}


@pytest.fixture(params=["pg15", "pg17"])
def pg(request):
    """Return PostgreSQL 15 and 17."""
    return request.getfixturevalue(request.param)


def maintain(pg, action, *named, check=False, role="operator", **options):
    """Return the result of the module."""
    forget()
    kind = "indexes" if action == "reindex" else "tables"
    return run_module(
        "pg_maintenance", {**pg.login(role), "action": action, kind: list(named), **options}, check=check, diff=True
    )


def only(outcome):
    """Return the only object of a result."""
    (found,) = outcome["objects"]
    return found


def quoted(pg, *names):
    return ".".join(quote_ident(name, pg.connection) for name in names)


@contextlib.contextmanager
def worn(pg, rows=500):
    """Yield the quoted name of a table with as many dead as live rows."""
    name = quoted(pg, SCHEMA, TABLE)
    pg.psql("create schema %s authorization tracktion_user" % quoted(pg, SCHEMA))
    try:
        as_application(pg, "create table %s (n int) with (autovacuum_enabled = false)" % name)
        wear(pg, name, rows)
        yield name
    finally:
        pg.psql("drop schema %s cascade" % quoted(pg, SCHEMA))


def wear(pg, name, rows):
    """Insert and update rows."""
    flushed(pg, "insert into %s select generate_series(1, %d); update %s set n = n" % (name, rows, name))
    wait_until(lambda: statistics(pg, name)["dead"] >= rows, "dead rows in the statistics", 5)


def statistics(pg, name):
    """Return the statistics of a table."""
    counts = "n_dead_tup, n_mod_since_analyze, last_vacuum is not null, last_analyze is not null"
    with pg.connection.cursor() as cursor:
        cursor.execute("select %s from pg_stat_user_tables where relid = %%s::regclass" % counts, [name])
        return dict(zip(("dead", "changed", "vacuumed", "analyzed"), cursor.fetchone(), strict=True))


def indexes(pg, table):
    """Return the indexes of a table, and whether each is valid."""
    with pg.connection.cursor() as cursor:
        cursor.execute(
            "select c.relname, i.indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid"
            " where i.indrelid = %s::regclass",
            [table],
        )
        return dict(cursor.fetchall())


# Check mode, run, and second run


@pytest.mark.parametrize(
    ("action", "command", "left"),
    [
        ("analyze", "ANALYZE (SKIP_LOCKED)", {"dead": 500, "changed": 0, "vacuumed": False, "analyzed": True}),
        ("vacuum", "VACUUM (ANALYZE, ", {"dead": 0, "changed": 0, "vacuumed": True, "analyzed": True}),
    ],
)
def test_check_mode_run_and_second_run_for_a_table(pg, action, command, left):
    with worn(pg) as name:
        before = statistics(pg, name)
        planned = maintain(pg, action, NAMED, check=True)
        assert planned["changed"]
        assert only(planned)["result"] == "planned"
        assert only(planned)["seconds"] is only(planned)["after"] is None
        assert statistics(pg, name) == before
        done = maintain(pg, action, NAMED)
        assert done["changed"]
        assert only(done)["result"] == "done"
        assert only(done)["command"].startswith(command)
        assert only(done)["command"].endswith(name)
        assert statistics(pg, name) == left
        was, now = only(done)["before"], only(done)["after"]
        assert was == only(planned)["before"]
        assert (was["dead_rows"], was["changed_rows"]) == (before["dead"], before["changed"])
        assert (now["dead_rows"], now["changed_rows"], now["rows"]) == (left["dead"], left["changed"], 500)
        assert was["bytes"] == 0 < now["bytes"]
        assert planned["diff"] == done["diff"]
        assert done["diff"]["after"] == {"%s.%s" % (SCHEMA, TABLE): only(done)["command"]}
        for check in (True, False):
            again = maintain(pg, action, NAMED, check=check)
            assert (again["changed"], only(again)["result"], only(again)["command"]) == (False, "not_needed", None)
            assert again["diff"] == {"before": {}, "after": {}}
        assert statistics(pg, name) == left


def test_check_mode_run_and_second_run_for_an_invalid_index(pg):
    with worn(pg, rows=10) as name:
        cut_off(pg, name, "create index concurrently %s on %s (n)" % (quoted(pg, INDEX), name))
        assert indexes(pg, name) == {INDEX: False}
        planned = maintain(pg, "reindex", NAMED_INDEX, check=True)
        assert (planned["changed"], only(planned)["result"], only(planned)["table"]) == (True, "planned", TABLE)
        assert indexes(pg, name) == {INDEX: False}
        done = maintain(pg, "reindex", NAMED_INDEX)
        assert (done["changed"], only(done)["result"]) == (True, "done")
        assert (only(done)["before"]["valid"], only(done)["after"]["valid"]) == (False, True)
        assert indexes(pg, name) == {INDEX: True}
        assert planned["diff"] == done["diff"]
        for check in (True, False):
            again = maintain(pg, "reindex", NAMED_INDEX, check=check)
            assert (again["changed"], only(again)["result"]) == (False, "not_needed")


# Evidence and thresholds


def test_a_table_maintained_since_it_was_measured_is_skipped(pg17):
    with worn(pg17) as name:
        first = only(maintain(pg17, "vacuum", {**NAMED, "vacuumed": 0}))
        assert first["result"] == "done"
        wear(pg17, name, 500)
        for stale in (0, first["after"]["vacuumed"] - 1):
            left = maintain(pg17, "vacuum", {**NAMED, "vacuumed": stale})
            assert (left["changed"], only(left)["result"]) == (False, "not_needed")
            left = maintain(pg17, "analyze", {**NAMED, "analyzed": stale})
            assert (left["changed"], only(left)["result"]) == (False, "not_needed")
        assert statistics(pg17, name)["dead"] >= 500
        again = maintain(pg17, "vacuum", {**NAMED, "vacuumed": first["after"]["vacuumed"]})
        assert only(again)["result"] == "done"


def test_thresholds(pg17):
    with worn(pg17) as name:
        assert only(maintain(pg17, "vacuum", NAMED, min_dead_rows=501))["result"] == "not_needed"
        assert not statistics(pg17, name)["vacuumed"]
        # A table that was never analyzed always needs it.
        assert only(maintain(pg17, "analyze", NAMED, min_changed_rows=5000))["result"] == "done"
        assert only(maintain(pg17, "vacuum", NAMED, min_dead_rows=500))["result"] == "done"
        for action in ("analyze", "vacuum"):
            forced = maintain(pg17, action, NAMED, min_changed_rows=0, min_dead_rows=0)
            assert (forced["changed"], only(forced)["result"]) == (True, "done")


def test_one_run_is_bounded_by_max_objects(pg17):
    named = [{"name": "nowhere"}, NAMED, {"name": "artists"}]
    with worn(pg17):
        for check, outcome in ((True, "planned"), (False, "done")):
            done = maintain(pg17, "vacuum", *named, check=check, max_objects=1, min_dead_rows=0)
            assert [each["result"] for each in done["objects"]] == ["gone", outcome, "beyond_limit"]
            assert list(done["diff"]["after"]) == ["%s.%s" % (SCHEMA, TABLE)]


def test_missing_and_unsuitable_objects(pg):
    gone = maintain(pg, "analyze", {"name": "nowhere"}, {"schema": "nowhere", "name": "tracks"})
    assert not gone.get("failed")
    assert [each["result"] for each in gone["objects"]] == ["gone", "gone"]
    other = maintain(pg, "vacuum", {"name": "pg_stat_statements"}, {"name": "tracks_pkey"}, min_dead_rows=0)
    assert [each["result"] for each in other["objects"]] == ["unsuitable", "unsuitable"]
    assert other["failed"]
    assert not other["changed"]
    # A table is not an index.
    assert only(maintain(pg, "reindex", {"name": "tracks"}))["result"] == "gone"


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"action": "vacuum"}, "tables"),
        ({"action": "reindex", "tables": [{"name": "tracks"}]}, "indexes"),
        ({"action": "analyze", "tables": [{"name": "tracks"}], "indexes": [{"name": "tracks_pkey"}]}, "indexes"),
    ],
)
def test_options_must_fit_the_action(pg17, options, option):
    failed = run_module("pg_maintenance", {**pg17.login(), **options})
    assert (failed["failed"], failed["kind"]) == (True, "bad_option")
    assert failed["msg"].startswith(option)


def test_an_unreachable_server_is_a_failure_with_a_hint(pg17):
    failed = maintain(pg17, "vacuum", NAMED, login_port=1)
    assert (failed["failed"], failed["kind"]) == (True, "refused")
    assert "login_port" in failed["msg"]


# Locks


def test_a_locked_table_is_skipped_at_once(pg):
    with worn(pg) as name:
        before = statistics(pg, name)
        with session(pg, "lock table %s in access exclusive mode" % name, application_name="lab migration"):
            for action in ("analyze", "vacuum"):
                started = time.monotonic()
                locked = maintain(pg, action, NAMED)
                assert time.monotonic() - started < 2 * SLACK
                assert (locked["failed"], locked["changed"], only(locked)["result"]) == (True, False, "locked")
                assert "lab migration" in locked["msg"]
                assert "AccessExclusiveLock" in locked["msg"]
        assert statistics(pg, name) == before


def test_a_table_with_a_waiting_lock_is_skipped(pg17):
    """A migration waits for a reader: the command would make it wait longer."""
    with (
        worn(pg17) as name,
        session(pg17, "select from %s" % name, application_name="lab reader"),
        running(
            pg17,
            "lock table %s in access exclusive mode" % name,
            "lab migration",
            "wait_event_type = 'Lock'",
        ),
    ):
        locked = only(maintain(pg17, "vacuum", NAMED))
    assert locked["result"] == "locked"
    assert "waits for AccessExclusiveLock" in locked["message"]


def prepare(pg, kind, named, **options):
    """Return an action with an object that it has read, before its command."""
    forget()
    specification = _pg_maintenance.ARGUMENT_SPEC
    options = {**{name: each.get("default") for name, each in specification.items()}, **pg.login(), **options}
    action = kind(_postgresql.connect(options), options)
    found = action.find(named)
    entry = {"command": action.command % found["quoted"], "left_behind": [], "changed": False}
    return action, found, entry


@pytest.mark.parametrize("kind", [_pg_maintenance_actions.Analyze, _pg_maintenance_actions.Vacuum])
def test_a_table_locked_just_before_the_command(pg, kind):
    with worn(pg) as name:
        action, found, entry = prepare(pg, kind, NAMED)
        with session(pg, "lock table %s in access exclusive mode" % name, application_name="lab migration"):
            locked = _pg_maintenance.run_and_verify(action, NAMED, found, entry)
        assert (locked["result"], locked["changed"]) == ("locked", False)
        assert "lab migration" in locked["message"]
        # Reading a locked table takes no lock either.
        assert locked["after"]["dead_rows"] == 500
        assert locked["seconds"] < 0.5 * SLACK


def test_an_index_dropped_just_before_the_command(pg17):
    with pg17.fault("interrupted-index"):
        named = {"schema": "public", "name": "lab_interrupted_id"}
        action, found, entry = prepare(pg17, _pg_maintenance_actions.Reindex, named)
        pg17.psql("drop index lab_interrupted_id")
        gone = _pg_maintenance.run_and_verify(action, named, found, entry)
    assert (gone["result"], gone["changed"], gone["after"]) == ("gone", False, None)


def test_a_table_under_autovacuum_is_skipped(pg17):
    with autovacuuming(pg17):
        left = maintain(pg17, "vacuum", {"name": "lab_vacuumed"}, role="superuser")
        assert not left.get("failed")
        assert (left["changed"], only(left)["result"]) == (False, "already_running")
        assert "autovacuum worker" in only(left)["message"]
        # Otherwise autovacuum would have yielded.
        assert pg17.psql("select count(*) from pg_stat_progress_vacuum where relid = 'lab_vacuumed'::regclass") == "1"


def test_a_running_vacuum_is_found_without_pg_monitor(pg15):
    with pg15.fault("dead-tuples"), contextlib.closing(pg15.postgres(superuser=True)) as other:
        other.autocommit = True
        other.cursor().execute("set vacuum_cost_delay = 100; set vacuum_cost_limit = 1")
        thread = run_and_wait(other, "vacuum tracks")
        wait_until(lambda: pg15.psql("select count(*) from pg_stat_progress_vacuum") == "1", "a vacuum", 5)
        left = maintain(pg15, "analyze", {"name": "tracks"}, role="application")
        other.cancel()
        thread.join(10)
    assert (left["changed"], only(left)["result"]) == (False, "already_running")


# Privileges


@pytest.fixture
def keeper(pg):
    """Create a role that may only log in; yield its connection options."""
    password = secrets.token_hex(8)
    pg.psql("create role lab_keeper login password '%s'" % password)
    yield {"login_user": "lab_keeper", "login_password": password}
    pg.psql("drop owned by lab_keeper")
    pg.psql("drop role lab_keeper")


@pytest.mark.parametrize("action", ["analyze", "vacuum", "reindex"])
def test_each_missing_privilege_is_reported_with_its_grant(pg, keeper, action):
    with worn(pg) as name:
        cut_off(pg, name, "create index concurrently %s on %s (n)" % (quoted(pg, INDEX), name))
        named = NAMED_INDEX if action == "reindex" else NAMED
        granted = []
        for check in (True, False):
            failed = maintain(pg, action, named, check=check, **keeper)
            assert (failed["failed"], failed["changed"], only(failed)["result"]) == (True, False, "not_permitted")
        for _each in range(2):
            message = only(maintain(pg, action, named, **keeper))["message"]
            granted.append(re.search(r'GRANT .*? TO "\w+";', message).group())
            pg.psql(granted[-1])
        assert granted[0].startswith("GRANT USAGE ON SCHEMA")
        assert granted[1].startswith(
            "GRANT MAINTAIN ON" if pg.connection.server_version >= 170000 else 'GRANT "tracktion_user" TO'
        )
        assert only(maintain(pg, action, named, **keeper))["result"] == "done"


def test_the_owner_of_the_database_may_vacuum_and_not_reindex(pg):
    pg.psql("create table lab_foreign as select 1 as n from generate_series(1, 2)")
    pg.psql("alter database tracktion owner to tracktion_user")
    try:
        vacuumed = maintain(pg, "vacuum", {"name": "lab_foreign"}, role="application", min_dead_rows=0)
        assert only(vacuumed)["result"] == "done"
        with contextlib.suppress(psycopg2.errors.UniqueViolation):
            flushed(pg, "create unique index concurrently lab_foreign_n on lab_foreign (n)")
        failed = maintain(pg, "reindex", {"name": "lab_foreign_n"}, role="application")
        assert only(failed)["result"] == "not_permitted"
    finally:
        pg.psql("alter database tracktion owner to postgres")
        pg.psql("drop table lab_foreign")


# Commands without effect, and interrupted ones


def test_dead_rows_that_a_transaction_may_still_read(pg):
    with worn(pg, rows=10) as name:
        assert only(maintain(pg, "vacuum", NAMED))["result"] == "done"
        with session(pg, "select from artists", application_name="lab snapshot") as reader:
            reader.rollback()
            reader.set_session(isolation_level="REPEATABLE READ")
            reader.cursor().execute("select from artists")
            wear(pg, name, 500)
            held = maintain(pg, "vacuum", NAMED, max_holder_seconds=3600)
        assert (held["failed"], held["changed"], only(held)["result"]) == (True, True, "held")
        assert "lab snapshot" in held["msg"]
        assert statistics(pg, name)["dead"] >= 500


def test_the_deadline_cancels_the_command(pg17):
    with pg17.fault("dead-tuples"):
        started = time.monotonic()
        cut = maintain(
            pg17, "vacuum", {"name": "tracks"}, {"name": "artists"}, cost_delay=100, min_dead_rows=0, deadline=4
        )
        assert time.monotonic() - started < 7 * SLACK
        assert pg17.psql("select count(*) from pg_stat_progress_vacuum") == "0"
        assert [each["result"] for each in cut["objects"]] == ["timeout", "timeout"]
        assert [each["seconds"] is None for each in cut["objects"]] == [False, True]
        assert cut["failed"]
        # How far it gets depends on the machine.
        assert re.search(r"last phase: (scanning heap|vacuuming indexes), \d+ % done", cut["msg"])
        assert 0 < cut["objects"][0]["progress"]["ratio"] <= 1
        assert only({"objects": cut["objects"][:1]})["after"]["dead_rows"] > 20000


def test_reindex_of_a_unique_index_with_duplicates_is_not_started(pg):
    with pg.fault("invalid-index"):
        before = indexes(pg, "lab_twice")
        for check in (True, False):
            failed = maintain(pg, "reindex", {"name": "lab_invalid"}, check=check)
            assert (failed["failed"], failed["changed"], only(failed)["result"]) == (True, False, "duplicates")
            assert 'DROP INDEX CONCURRENTLY "public"."lab_invalid";' in failed["msg"]
        assert indexes(pg, "lab_twice") == before
        pg.psql("delete from lab_twice where ctid = '(0,1)'")
        assert only(maintain(pg, "reindex", {"name": "lab_invalid"}))["result"] == "done"
        assert indexes(pg, "lab_twice") == {"lab_invalid": True}


@pytest.mark.parametrize(
    ("definition", "rows", "outcome"),
    [
        ("(a, b)", "(1, 1), (1, 2), (null, 2), (null, 2)", "done"),
        ("(a, b) nulls not distinct", "(1, 1), (1, 2), (null, 2), (null, 2)", "duplicates"),
        ("(a) include (b)", "(1, 1), (1, 2)", "duplicates"),
        ("(b) include (a)", "(1, 1), (1, 2)", "done"),
    ],
)
def test_which_rows_are_duplicates_for_a_unique_index(pg, definition, rows, outcome):
    as_application(pg, "create table lab_pairs (a int, b int)")
    try:
        cut_off(pg, "lab_pairs", "create unique index concurrently lab_pairs_unique on lab_pairs %s" % definition)
        pg.psql("insert into lab_pairs values %s" % rows)
        tried = maintain(pg, "reindex", {"name": "lab_pairs_unique"})
        assert only(tried)["result"] == outcome
        assert indexes(pg, "lab_pairs") == {"lab_pairs_unique": outcome == "done"}
    finally:
        pg.psql("drop table lab_pairs")


def test_duplicates_found_only_by_the_build_are_reported_with_the_index_left_behind(pg):
    as_application(pg, "create table lab_partial as select 1 as n from generate_series(1, 2)")
    try:
        with contextlib.suppress(psycopg2.errors.UniqueViolation):
            flushed(pg, "create unique index concurrently lab_partial_n on lab_partial (n) where n > 0")
        failed = maintain(pg, "reindex", {"name": "lab_partial_n"})
        assert (failed["failed"], failed["changed"], only(failed)["result"]) == (True, True, "duplicates")
        assert only(failed)["left_behind"] == ['"public"."lab_partial_n_ccnew"']
        assert 'DROP INDEX CONCURRENTLY "public"."lab_partial_n_ccnew";' in failed["msg"]
        assert indexes(pg, "lab_partial") == {"lab_partial_n": False, "lab_partial_n_ccnew": False}
    finally:
        pg.psql("drop table lab_partial")


def test_reindex_is_not_started_behind_an_old_transaction(pg):
    with pg.fault("interrupted-index"):
        named = {"name": "lab_interrupted_id"}
        with session(pg, "select from lab_interrupted", application_name="lab reader"):
            left = maintain(pg, "reindex", named, max_wait=0)
            assert (left["failed"], left["changed"], only(left)["result"]) == (True, False, "locked")
            assert "lab reader" in left["msg"]
        flushed(pg, "begin; insert into lab_interrupted default values; prepare transaction 'lab prepared'")
        try:
            left = maintain(pg, "reindex", named)
            assert only(left)["result"] == "locked"
            assert "prepared transaction" in left["msg"]
        finally:
            flushed(pg, "rollback prepared 'lab prepared'")
        assert indexes(pg, "lab_interrupted") == {"lab_interrupted_id": False}
        assert only(maintain(pg, "reindex", named))["result"] == "done"


def test_an_interrupted_reindex_leaves_an_index_behind(pg17):
    named, left_behind = {"name": "lab_interrupted_id"}, {"name": "lab_interrupted_id_ccnew"}
    with pg17.fault("interrupted-index"):
        with session(pg17, "insert into lab_interrupted default values"):
            cut = maintain(pg17, "reindex", named, max_wait=1.5)
        assert (cut["failed"], cut["changed"], only(cut)["result"]) == (True, True, "locked")
        assert "max_wait" in cut["msg"]
        assert only(cut)["progress"]["phase"].startswith("waiting for writers")
        assert only(cut)["left_behind"] == ['"public"."lab_interrupted_id_ccnew"']
        assert indexes(pg17, "lab_interrupted") == {name["name"]: False for name in (named, left_behind)}
        failed = maintain(pg17, "reindex", left_behind)
        assert (failed["changed"], only(failed)["result"]) == (False, "unsuitable")
        drop = re.search(r"DROP INDEX CONCURRENTLY [^;]+;", failed["msg"]).group()
        assert drop in cut["msg"]
        flushed(pg17, drop)
        done = maintain(pg17, "reindex", named)
        assert (only(done)["result"], only(done)["left_behind"]) == ("done", [])
        assert indexes(pg17, "lab_interrupted") == {"lab_interrupted_id": True}


def test_the_result_is_documented(pg17):
    documented = documentation_of("pg_maintenance")["objects"]["contains"]
    with worn(pg17):
        for outcome in (maintain(pg17, "vacuum", NAMED), maintain(pg17, "vacuum", NAMED, {"name": "nowhere"})):
            for each in outcome["objects"]:
                assert set(each) == set(documented)
                for state in ("before", "after", "progress"):
                    assert each[state] is None or set(each[state]) == set(documented[state]["contains"])


def test_an_error_does_not_quote_the_values_of_rows(pg17):
    """An error of a function in an index holds values of a row."""
    pg17.psql(
        "create function lab_picky(text) returns int immutable language plpgsql as $$ begin"
        " if current_setting('lab.picky', true) = '' then return 1; end if; raise 'no number: %', $1; end $$"
    )
    try:
        pg17.psql("set lab.picky = ''; create table lab_secret (t text) with (autovacuum_enabled = off)")
        pg17.psql("create index on lab_secret (lab_picky(t)); insert into lab_secret values ('hunter2')")
        flushed(pg17, "set lab.picky = ''; insert into lab_secret values ('hunter2')")
        failed = maintain(pg17, "analyze", {"name": "lab_secret"}, role="superuser", min_changed_rows=0)
    finally:
        pg17.psql("reset lab.picky; drop table lab_secret; drop function lab_picky")
    assert (failed["failed"], only(failed)["result"]) == (True, "failed")
    assert "RaiseException (SQLSTATE P0001" in failed["msg"]
    assert "hunter2" not in str(failed)
