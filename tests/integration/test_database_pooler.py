# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PgBouncer in front of the server: its pools, and what its clients see."""

from __future__ import annotations

import contextlib

import pytest

from tests.integration.modules import run_module
from tests.integration.pasting import commands
from tests.integration.pgbouncer import PORT, pooler_of
from tests.integration.postgresql import forget
from tests.lab.faults.database import run_and_wait
from tests.lab.shell import wait_until


@pytest.fixture(scope="module")
def pooler(pg17):
    with pooler_of(pg17) as found:
        yield found


def found_by(pooler, *poolers, settings=None, **login):
    """Return the findings of a pooler by check."""
    entries = {"database_poolers": list(poolers or [pooler.service()])}
    found = pooler.pg.diagnose({**entries, **(settings or {})}, **login)
    ids = {each["id"].partition(".")[2]: each for each in found if "pooler" in each["id"]}
    assert all(finding["status"] != "unknown" for finding in ids.values()), ids
    return ids


@pytest.mark.parametrize("server", ["pg15", "pg17"])
def test_a_healthy_pooler_has_no_findings(server, request):
    pg = request.getfixturevalue(server)
    with contextlib.ExitStack() as stack:
        found = request.getfixturevalue("pooler") if server == "pg17" else stack.enter_context(pooler_of(pg))
        assert found_by(found) == {}
        measured = pg.measure({"database_poolers": [found.service()]})["pooler"]
        (console,) = measured["poolers"]
        assert "PgBouncer 1." in console["version"]
        assert console["pool_mode"] == "transaction"
        assert {database["name"] for database in measured["databases"]} == {"tracktion", "broken", "away"}
        (pool,) = measured["pools"]
        assert (pool["database"], pool["user"], pool["pool_size"]) == ("tracktion", "tracktion_user", 1)


def test_clients_that_wait(pooler):
    """A client in an open transaction has the only connection of the pool."""
    settings = {"database_pooler_wait_warning": 0, "database_pooler_clients_warning": 0.01}
    pooler.console("SET query_wait_timeout = 60")
    with contextlib.closing(pooler.connect()) as holder, contextlib.closing(pooler.connect()) as waiting:
        holder.cursor().execute("select 1")
        waiting.autocommit = True
        thread = run_and_wait(waiting, "select 1")
        columns = {"waiting": 3}
        wait_until(lambda: any(row[columns["waiting"]] for row in pooler.console("SHOW POOLS")), "a client to wait", 10)
        found = found_by(pooler, pooler.entry(), settings=settings)
        finding = found["pooler_clients_waiting"]
        assert "1 clients of tracktion_user wait for tracktion" in finding["summary"]
        assert "1 of 1 connections to the server are in use, at most 1 are allowed" in finding["summary"]
        assert "database.idle_in_transaction" in finding["hint"]
        assert found["pooler_clients"]["status"] == "warning"
        # A login that gets no connection is ended by the pooler.
        pooler.console("SET query_wait_timeout = 1")
        error = pooler.pg.measure({"database_poolers": [pooler.service()]})["pooler"]["logins"][0]["error"]
        assert error["kind"] == "pooler"
        assert "query_wait_timeout" in error["message"]
        assert "SHOW POOLS;" in error["hint"]
        holder.rollback()
        thread.join(10)
    pooler.console("SET query_wait_timeout = 2")
    assert found_by(pooler) == {}


@pytest.mark.parametrize(("stop", "state"), [("PAUSE", "paused"), ("DISABLE", "disabled")])
def test_a_database_that_is_paused_or_disabled(pooler, stop, state):
    pooler.console("%s tracktion" % stop)
    found = found_by(pooler)
    assert set(found) == {"pooler_database_closed", "pooler_login"}
    assert found["pooler_database_closed"]["status"] == "critical"
    assert state in found["pooler_database_closed"]["summary"]
    (command,) = commands(found["pooler_database_closed"]["hint"])
    pooler.console(command)
    assert found_by(pooler) == {}


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"database": "broken"}, "pooler", "auth_file"),
        ({"database": "away"}, "pooler", "log of the pooler"),
        ({"database": "lab_absent"}, "no_database", "[databases]"),
        ({"service_password": "wrong"}, "authentication", "auth_file"),
        ({"service_user": "lab_absent"}, "authentication", "auth_file"),
    ],
    ids=["server-login", "server-away", "no-database", "password", "no-user"],
)
def test_a_login_through_the_pooler_that_fails(pooler, options, kind, text):
    entry = {**pooler.service(), **options, "user": ""}
    error = pooler.pg.measure({"database_poolers": [entry]})["pooler"]["logins"][0]["error"]
    assert error["kind"] == kind
    assert text in error["hint"]
    assert set(found_by(pooler, entry)) == {"pooler_login"}


def test_a_pooler_that_does_not_run(pooler):
    found = pooler.pg.diagnose({"database_poolers": [pooler.entry(port=PORT + 1)]})
    (finding,) = [each for each in found if each["id"] == "database.pooler_unreachable"]
    assert "refused" in finding["summary"]
    assert "Start PgBouncer" in finding["hint"]
    assert "`database_poolers[].host`" in finding["hint"]
    # Its pools were not seen.
    unknown = {each["id"].partition(".")[2] for each in found if each["status"] == "unknown"}
    assert unknown == {"pooler_clients_waiting", "pooler_database_closed"}


def test_a_diagnosis_of_the_pooler_by_mistake(pooler):
    """It says that a pooler answers, and what would not work there refuses to run."""
    login = pooler.pg.login("application", login_host=pooler.address, login_port=PORT)
    there = {"role": "application", "login_host": pooler.address, "login_port": PORT}
    found = found_by(pooler, settings={"database_poolers": []}, **there)
    assert set(found) == {"through_pooler"}
    forget()
    failed = run_module("pg_maintenance", {**login, "action": "analyze", "tables": [{"name": "tracks"}]})
    assert (failed["failed"], failed["kind"]) == (True, "bad_option")
    assert "pooler" in failed["msg"]
    # The console of the pooler.
    console = {**there, "login_user": "lab_stats", "login_password": "lab", "login_db": "pgbouncer"}
    for probe in ("activity", "health"):
        measured = pooler.pg.measure(**console)[probe]
        assert (measured["reachable"], measured["error"]["kind"]) == (False, "pooler")
        assert "console of the pooler" in measured["error"]["hint"]
