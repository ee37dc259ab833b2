# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands whose cancel leaves something behind, or loses hours of work."""

from __future__ import annotations

import contextlib

import pytest

from tests.integration.pasting import commands
from tests.integration.postgresql import running
from tests.integration.test_database_causes import end, findings_of, only, pid_of, remedied, results
from tests.lab.faults.database import as_application, flushed, run_and_wait, wait_for_sessions


@contextlib.contextmanager
def maintaining(pg, *statements):
    """Yield while a session of the application runs the last of ``statements`` outside of a transaction."""
    with contextlib.closing(pg.postgres(application_name="lab maintenance")) as connection:
        connection.autocommit = True
        for statement in statements[:-1]:
            connection.cursor().execute(statement)
        thread = run_and_wait(connection, statements[-1])
        try:
            wait_for_sessions(pg, "application_name = 'lab maintenance' and state = 'active'", 1)
            yield
        finally:
            pg.psql("select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'lab maintenance'")
            thread.join(10)


@pytest.fixture
def table(pg17):
    as_application(pg17, "create table lab_kept as select n as id, 0 as n from generate_series(1, 2000) n")
    yield pg17
    pg17.psql("drop table lab_kept")
    pg17.psql("drop function if exists lab_slow")


ALTER = "alter table lab_kept add lab_column int"
BUILD = "create index concurrently lab_kept_id on lab_kept (lab_slow(id))"


def test_a_concurrent_build_of_an_index(table):
    pg = table
    as_application(
        pg,
        "create function lab_slow(int) returns int immutable language plpgsql as"
        " 'begin perform pg_sleep(0.05); return $1; end'",
    )
    with maintaining(pg, BUILD):
        finding = only(findings_of(pg)["long_query"])
        # It blocks no session.
        assert finding["remedy"] is None
        assert finding["hint"].startswith("Wait: a cancel loses its work, and leaves an invalid index behind")
        done = end(pg, states=["active"], min_age=0, applications=["lab maintenance"])
        assert (done["changed"], results(done)) == (False, {"lab maintenance": "maintenance"})
        with running(pg, ALTER, "lab migration", "wait_event_type = 'Lock'"):
            finding = only(findings_of(pg)["blocked_sessions"])
            assert "leaves an invalid index behind" in finding["hint"]
            assert "leaves an invalid index behind" in finding["remedy"]["does"]
            done = remedied(pg, finding)
            assert results(done) == {"lab maintenance": "ended"}
            assert "invalid index" in only(done["sessions"])["cancel_effect"]
    finding = only(findings_of(pg)["invalid_index"])
    assert finding["object"] == "public.lab_kept_id"
    (drop,) = [each for each in commands(finding["hint"]) if each.startswith("DROP")]
    flushed(pg, drop)
    assert "invalid_index" not in findings_of(pg)


def test_a_vacuum_is_not_cancelled(table):
    pg = table
    pg.psql("delete from lab_kept where id % 2 = 0")
    slow = ("set vacuum_cost_delay = 100", "set vacuum_cost_limit = 1", "vacuum lab_kept")
    with maintaining(pg, *slow), running(pg, ALTER, "lab migration", "wait_event_type = 'Lock'"):
        found = findings_of(pg)
        assert "blocked_sessions" not in found
        finding = only(found["blocked_by_server"])
        assert finding["object"] == "pid %d" % pid_of(pg, "lab maintenance")
        assert finding["remedy"] is None
        assert finding["hint"].startswith("Wait: only changes of the table's definition wait for VACUUM.")
        assert "lab maintenance" in finding["summary"]
