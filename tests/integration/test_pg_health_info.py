# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module pg_health_info against real servers: its result is documented, and it never waits for a lock."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _pg_activity, _pg_health_info
from tests.integration.modules import run_module
from tests.integration.postgresql import documentation_of, forget, measure, running, session
from tests.lab.faults.database import flushed
from tests.lab.shell import wait_until
from tests.slack import SLACK


def health(pg, **login):
    forget()
    return measure(_pg_health_info, pg.login(**login))


def test_the_module(pg17):
    forget()
    with pg17.fault("forgotten-slot"), pg17.fault("duplicate-index"), pg17.fault("old-snapshot"):
        found = run_module("pg_health_info", pg17.login(statement_min_calls=1))
    assert (found["reachable"], found["changed"], found["unknown"]) == (True, False, [])
    documented = documentation_of("pg_health_info")
    assert set(found) - {"changed", "invocation"} == set(documented)
    for part, described in documented.items():
        kinds = {"list": list, "dict": dict, "int": int, "float": float, "bool": bool}
        assert found[part] is None or isinstance(found[part], kinds[described["type"]]), part
        rows = found[part] if isinstance(found[part], list) else [found[part]]
        if described.get("contains") and rows and rows[0] is not None:
            assert set(rows[0]) == set(described["contains"]), part


def test_both_modules_of_the_area_share_one_connection(pg17):
    def mine():
        return pg17.psql(
            "select string_agg(pid::text, ',') from pg_stat_activity where application_name = 'tracktion.ops'"
        )

    forget()
    measure(_pg_activity, pg17.login())
    pid = mine()
    assert pid.isdigit()
    measure(_pg_health_info, pg17.login())
    measure(_pg_activity, pg17.login())
    assert mine() == pid


def test_a_measurement_of_many_tables_reads_little_of_the_catalog(pg17):
    """Of tables that were never analyzed, for which the planner knows no better."""
    pg17.psql("create database lab_many owner tracktion_user")
    create = "execute format('create table many_%s as select 1 as a, 2 as b from generate_series(1, 1000)', n)"
    try:
        scan = "execute format('select count(*) from many_%s', n)"
        for each in (create, "perform pg_stat_reset()", scan):
            # As after an upgrade: the server has counted no changes, only scans.
            flushed(pg17, "do $$ begin for n in 1..300 loop %s; end loop; end $$" % each, dbname="lab_many")
        sessions = "select count(*) from pg_stat_activity where datname = 'lab_many'"
        blocks = "select blks_hit + blks_read from pg_stat_database where datname = 'lab_many'"
        before = int(pg17.psql(blocks))
        found = health(pg17, login_db="lab_many")
        forget()
        assert found["unknown"] == []
        assert found["tables_total"] == 300
        assert found["planner_statistics"]["tables"] == 300
        # A session reports what it has read when it ends.
        wait_until(lambda: pg17.psql(sessions) == "0", "the session to end", 10)
        # A join with pg_stats may read that once for each table.
        assert int(pg17.psql(blocks)) - before < 20000
    finally:
        pg17.psql("drop database lab_many")


@pytest.mark.parametrize("server", ["pg15", "pg17"])
def test_a_measurement_is_plain_json(server, request):
    def plain(value):
        if isinstance(value, dict):
            return all(isinstance(name, str) and plain(each) for name, each in value.items())
        if isinstance(value, list):
            return all(plain(each) for each in value)
        return value is None or type(value) in (bool, int, float, str)

    database = request.getfixturevalue(server)
    with database.fault("blocked-transaction"), database.fault("forgotten-slot"), database.fault("duplicate-index"):
        measurement = database.measure({"database_slow_statement_calls": 1})
    assert plain(measurement)
    assert json.loads(json.dumps(measurement)) == measurement


def test_a_diagnosis_never_waits_behind_a_locked_table(pg17):
    with contextlib.closing(pg17.postgres(superuser=True)) as connection:
        connection.cursor().execute("lock table tracks, artists, albums, analysis_results in access exclusive mode")
        started = time.monotonic()
        measurement = pg17.measure()
        assert time.monotonic() - started < 2 * SLACK
    assert measurement["activity"]["unknown"] == measurement["health"]["unknown"] == []
    assert "tracks" in [table["name"] for table in measurement["health"]["tables"]]


def test_parts_behind_a_locked_catalog_are_unknown(pg17):
    """As by VACUUM FULL of a catalog. Only the parts that need it are missing."""
    with contextlib.closing(pg17.postgres(superuser=True)) as connection:
        connection.cursor().execute("lock table pg_constraint in access exclusive mode")
        started = time.monotonic()
        found = health(pg17)
        assert time.monotonic() - started < 2 * SLACK
    assert {entry["part"] for entry in found["unknown"]} >= {"foreign_keys_without_index"}
    assert "lock" in found["unknown"][0]["reason"]
    assert found["foreign_keys_without_index"] is None
    assert found["databases"]
    assert found["tables"]


def test_ages_of_all_databases(pg17):
    found = {row["name"]: row["xid_age"] for row in health(pg17)["databases"]}
    truth = dict(row.split("|") for row in pg17.psql("select datname, age(datfrozenxid) from pg_database").split("\n"))
    assert set(found) == set(truth)
    assert all(abs(found[name] - int(age)) < 100 for name, age in truth.items())


def test_fields_of_a_table(pg17):
    pg17.psql("vacuum analyze tracks")
    (tracks,) = [table for table in health(pg17)["tables"] if table["name"] == "tracks"]
    assert tracks["bytes"] == float(pg17.psql("select pg_relation_size('tracks')"))
    assert tracks["rows"] == 8000
    assert tracks["vacuum_threshold"] == 50 + 0.2 * 8000
    assert tracks["analyze_threshold"] == 50 + 0.1 * 8000
    assert 0 <= tracks["vacuumed_seconds"] < 60


def test_an_index_of_a_constraint_is_not_unused(pg17):
    pg17.psql("create table lab_kept (a int primary key, b int unique, c int, exclude (c with =))")
    pg17.psql("create index lab_free on lab_kept (c)")
    try:
        unused = [index["name"] for index in health(pg17, top=1000)["unused_indexes"] if index["table"] == "lab_kept"]
        assert unused == ["lab_free"]
    finally:
        pg17.psql("drop table lab_kept")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("(a)", "(a)", True),
        ("(a)", "(a desc)", False),
        ("(a)", "(a, b)", False),
        ("(a)", "(a) where b > 0", False),
        ("(a) where b > 0", "(a) where  b>0", True),
        ("(lower(t))", "(lower( t ))", True),
        ("(a)", "using hash (a)", False),
        ("(a) include (b)", "(a)", False),
    ],
)
def test_duplicate_indexes_have_the_same_definition(pg17, first, second, same):
    pg17.psql("create table lab_pair (a int, b int, t text)")
    try:
        pg17.psql("create index lab_first on lab_pair %s; create index lab_second on lab_pair %s" % (first, second))
        found = [index["name"] for index in health(pg17, top=1000)["duplicate_indexes"] if index["table"] == "lab_pair"]
        assert found == (["lab_second"] if same else [])
    finally:
        pg17.psql("drop table lab_pair")


@pytest.mark.parametrize(
    ("index", "covered"),
    [
        ("(b, a)", True),
        ("(a, b, c)", True),
        ("(a, c, b)", False),
        ("(a)", False),
        ("(a, b) where a is not null", True),
        ("(a, b) where c > 0", False),
    ],
)
def test_an_index_covers_a_foreign_key_by_its_first_columns(pg17, index, covered):
    pg17.psql("create table lab_parent (a int, b int, primary key (a, b))")
    pg17.psql("create table lab_child (a int, b int, c int, foreign key (a, b) references lab_parent)")
    try:
        pg17.psql("create index on lab_child %s" % index)
        found = [
            key["columns"]
            for key in health(pg17, top=1000)["foreign_keys_without_index"]
            if key["table"] == "lab_child"
        ]
        assert found == ([] if covered else [["a", "b"]])
    finally:
        pg17.psql("drop table lab_child, lab_parent")


def test_hidden_parts_are_unknown(pg17):
    forget()
    found = measure(_pg_health_info, pg17.login("application"))
    assert found["reachable"]
    assert {entry["part"] for entry in found["unknown"]} >= {"slowest_statements.*", "pending_restart[...]"}
    assert all('`GRANT pg_monitor TO "tracktion_user";`' in entry["hint"] for entry in found["unknown"])
    assert found["tables"]


@pytest.mark.parametrize("server", ["pg15", "pg17"])
def test_own_statements_are_not_listed(server, request):
    pg = request.getfixturevalue(server)
    pg.psql("select pg_stat_statements_reset()")
    pg.psql("select count(*) as other_statement from pg_class")
    for _run in range(2):
        found = health(pg)
    queries = [row["query"] for row in found["heaviest_statements"]]
    assert any("other_statement" in query for query in queries)
    assert not any("pg_stat_statements s" in query or "pg_locks" in query for query in queries)
    assert pg.psql("select count(*) > 5 from pg_stat_statements where query like '%/* tracktion.ops */%'") == "True"
    # All of them have the mark.
    unmarked = (
        "select string_agg(query, '; ') from pg_stat_statements s join pg_roles r on r.oid = s.userid"
        " where r.rolname = 'tracktion_operator' and position('/* tracktion.ops */' in query) = 0"
    )
    assert pg.psql(unmarked) == "None"


SECRET = "hunter2"


@pytest.mark.parametrize("server", ["pg15", "pg17"])
def test_constants_of_statements_are_hidden(server, request):
    pg = request.getfixturevalue(server)
    pg.psql("select pg_stat_statements_reset()")
    pg.psql("create role lab_secret password '%s'; alter role lab_secret set application_name = %s" % (SECRET, SECRET))
    pg.psql("drop role lab_secret")
    idle = "select set_config('lab.key', '%s', true), $t$%s$t$ as shown /* %s */" % (SECRET, SECRET, SECRET)
    update = "update artists set name = name || left('%s', 0) where id = 1"
    with (
        session(pg, idle, update % "hunter2", application_name="lab blocker"),
        running(pg, update % "hunter2", "lab waiter", "wait_event_type = 'Lock'"),
    ):
        measured = {
            shown: pg.measure({"database_show_literals": shown, "database_top": 1000}) for shown in (False, True)
        }
    assert SECRET not in json.dumps(measured[False])
    (blocker,) = measured[False]["activity"]["blocking"]
    assert (
        blocker["query"]
        == blocker["waiters"][0]["query"]
        == "update artists set name = name || left(?, ?) where id = ?"
    )
    assert measured[True]["activity"]["blocking"][0]["query"] == update % SECRET
    statements = [row["query"] for row in measured[False]["health"]["heaviest_statements"]]
    assert "create role lab_secret password ?" in statements
    assert "alter role lab_secret set application_name = ?" in statements
