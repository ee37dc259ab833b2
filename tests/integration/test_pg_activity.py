# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module pg_activity against real servers: connection failures, blocking chains, and ending sessions."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

import psycopg2
import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _pg_activity
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_end_sessions, _postgresql
from tests.integration.modules import run_module
from tests.integration.postgresql import autovacuuming, database, documentation_of, forget, measure, running, session
from tests.lab.faults.database import wait_for_sessions
from tests.lab.shell import wait_until
from tests.slack import SLACK

AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")


def activity(pg, keep=False, **login):
    """Return a measurement of a new visit or, with ``keep``, of the same visit."""
    if not keep:
        forget()
    return measure(_pg_activity, pg.login(**login))


# Connection failures


def fail_to_connect(pg, **login):
    """Return the error of a measurement that cannot reach the server, and its duration."""
    started = time.monotonic()
    found = activity(pg, timeout=1, **login)
    seconds = time.monotonic() - started
    assert found["reachable"] is False
    assert found["connections"] is None
    assert set(found) == set(_pg_activity.PARTS) | {"reachable", "error", "unknown"}
    assert pg.passwords["operator"] not in json.dumps(found)
    return found["error"], seconds


@pytest.mark.parametrize(
    ("login", "kind", "option"),
    [
        ({"login_password": "wrong"}, "authentication", "login_password"),
        ({"login_password": ""}, "authentication", "login_password"),
        ({"login_user": "nobody"}, "authentication", "login_user"),
        ({"login_db": "nowhere"}, "no_database", "login_db"),
        ({"login_port": 1}, "refused", "login_port"),
        ({"login_unix_socket": "/nowhere"}, "refused", "login_unix_socket"),
        ({"login_host": "nowhere.invalid"}, "name_resolution", "login_host"),
        ({"ssl_mode": "require"}, "tls", "ssl_mode"),
        ({"ssl_mode": "verify-full", "ca_cert": "/nowhere.pem"}, "tls", "ca_cert"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_kind_and_hint_of_a_connection_failure(pg15, login, kind, option):
    error, seconds = fail_to_connect(pg15, **login)
    assert error["kind"] == kind
    assert option in error["hint"]
    assert seconds < 1 * SLACK


def test_a_certificate_is_checked(pg17):
    mine = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'tracktion.ops'"
    assert activity(pg17, ssl_mode="verify-ca", ca_cert=str(pg17.server.ca_cert))["reachable"]
    assert pg17.psql(mine) == "True"
    error, _seconds = fail_to_connect(pg17, ssl_mode="verify-ca", ca_cert="/etc/ssl/certs/ca-certificates.crt")
    assert error["kind"] == "certificate"
    assert "ca_cert" in error["hint"]


def test_packets_are_dropped(pg15):
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        # A connection attempt to a full backlog gets no answer.
        for _each in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
        error, seconds = fail_to_connect(pg15, login_port=deaf.getsockname()[1])
    assert error["kind"] == "timeout"
    assert 1 <= seconds < 2 * SLACK


def test_a_server_that_accepts_and_never_answers(pg15):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error, seconds = fail_to_connect(pg15, login_port=silent.getsockname()[1])
    assert error["kind"] == "no_answer"
    assert 1 <= seconds < 2 * SLACK


def test_another_program_listens_there(pg15):
    with subprocess.Popen(
        [sys.executable, "-uc", "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1])\n"
         "c = s.accept()[0]; c.recv(99); c.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n'); c.close()"],
        stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        error, _seconds = fail_to_connect(pg15, login_port=int(other.stdout.readline()))
    assert error["kind"] == "protocol"


def test_too_many_connections(pg15):
    with contextlib.ExitStack() as held:
        with contextlib.suppress(psycopg2.OperationalError):
            while True:
                held.enter_context(contextlib.closing(pg15.postgres()))
        error, seconds = fail_to_connect(
            pg15, login_user="tracktion_user", login_password=pg15.passwords["application"]
        )
    assert error["kind"] == "too_many_connections"
    assert seconds < 1 * SLACK


def test_no_entry_in_pg_hba(pg15):
    path = pg15.psql("show hba_file")
    pg15.psql("create role lab_rejected login password 'x'")
    pg15.server.exec("sed", "-i", "1i host all lab_rejected all reject", path)
    try:
        pg15.psql("select pg_reload_conf()")
        wait_until(
            lambda: (
                fail_to_connect(pg15, login_user="lab_rejected", login_password=os.urandom(4).hex())[0]["kind"]
                == "no_hba_entry"
            ),
            "the server to read its pg_hba.conf",
            5,
        )
    finally:
        pg15.server.exec("sed", "-i", "1d", path)
        pg15.psql("select pg_reload_conf()")
        pg15.psql("drop role lab_rejected")


def test_a_server_starts_up(pg15):
    """A restored backup waits for WAL that never arrives."""
    run = pg15.server.exec
    run(*AS_POSTGRES, "pg_basebackup", "-D", "/tmp/restored", "-U", "postgres", "-X", "none", "-c", "fast")
    run(*AS_POSTGRES, "touch", "/tmp/restored/standby.signal")
    run(*AS_POSTGRES, "pg_ctl", "-D", "/tmp/restored", "-W", "-s", "start", "-l", "/tmp/restored.log",
        "-o", "-p 5434 -c listen_addresses=* -c max_prepared_transactions=10 -c restore_command=false")  # fmt: skip
    try:
        there = {"login_host": pg15.server.address, "login_port": 5434}
        error = wait_until(
            lambda: next((error for error in [fail_to_connect(pg15, **there)[0]] if error["kind"] != "refused"), None),
            "the server to listen",
            10,
        )
    finally:
        run(*AS_POSTGRES, "pg_ctl", "-D", "/tmp/restored", "-m", "immediate", "-s", "stop")
        run("rm", "-rf", "/tmp/restored")
    assert error["kind"] == "starting_up"
    assert "Do not restart" in error["hint"]


def test_a_server_that_freezes():
    """Before and during a measurement. Both are bounded, and missing parts are unknown."""
    with database("bookworm") as pg:
        assert activity(pg)["reachable"]
        pg.server.pause()
        try:
            started = time.monotonic()
            frozen = activity(pg, keep=True, timeout=1)
            assert time.monotonic() - started < 3 * SLACK
            assert frozen["server"] is None
            assert "stopped answering" in frozen["unknown"][0]["reason"]
            # The other module of the area does not try again.
            started = time.monotonic()
            assert activity(pg, keep=True, timeout=1)["error"]["kind"] == "closed"
            assert time.monotonic() - started < 1 * SLACK
            error, seconds = fail_to_connect(pg)
            assert error["kind"] == "no_answer"
            assert seconds < 2 * SLACK
        finally:
            pg.server.unpause()


def test_the_deadline_bounds_the_whole_measurement(pg17):
    assert activity(pg17)["reachable"]
    found = activity(pg17, keep=True, deadline=0.000001, timeout=1)
    assert found["server"] is None
    assert "deadline" in found["unknown"][0]["reason"]


# Blocking chains


def waiting(pg, statement, name):
    """Yield a session that waits for a lock."""
    return running(pg, statement, name, "wait_event_type = 'Lock'")


def chains(pg):
    """Return the applications that wait behind each root blocker, by application."""
    return {
        root["application"]: sorted(waiter["application"] for waiter in root["waiters"])
        for root in activity(pg)["blocking"]
    }


@pytest.mark.parametrize("server", ["pg15", "pg17"])
def test_a_reader_that_does_not_block_is_not_listed(server, request):
    """Joins over pg_locks would list all sessions that have locked the same table."""
    pg = request.getfixturevalue(server)
    with (
        session(pg, "select from tracks limit 1", application_name="reader"),
        session(pg, "lock table tracks in share mode", application_name="culprit"),
        waiting(pg, "update tracks set title = title where id = 1", "writer"),
    ):
        assert chains(pg) == {"culprit": ["writer"]}


def test_indirect_waits_count_for_the_root(pg17):
    with (
        session(pg17, "select from tracks limit 1", application_name="reader"),
        waiting(pg17, "lock table tracks in access exclusive mode", "migration"),
        waiting(pg17, "select from tracks limit 1", "query"),
    ):
        (root,) = activity(pg17)["blocking"]
    assert (root["application"], root["waiting"], root["waiting_directly"]) == ("reader", 2, 1)
    assert root["safe_action"] == "terminate"
    migration = next(waiter for waiter in root["waiters"] if waiter["application"] == "migration")
    query = next(waiter for waiter in root["waiters"] if waiter["application"] == "query")
    assert migration["blocked_by"] == [root["pid"]]
    assert query["blocked_by"] == [migration["pid"]]
    assert migration["lock_relation"] == "public.tracks"
    assert migration["lock_mode"] == "AccessExclusiveLock"
    assert 0 <= query["wait_seconds"] <= migration["wait_seconds"] <= root["longest_wait_seconds"] < 10 * SLACK


def test_an_advisory_lock_of_a_running_query(pg17):
    hold = "select pg_advisory_lock(42); select pg_sleep(600)"
    with running(pg17, hold, "busy", "wait_event = 'PgSleep'"), waiting(pg17, "select pg_advisory_lock(42)", "waiter"):
        (root,) = activity(pg17)["blocking"]
    assert (root["application"], root["safe_action"], root["waiters"][0]["lock_type"]) == ("busy", "cancel", "advisory")


def test_a_prepared_transaction_as_the_root(pg17):
    with pg17.fault("prepared-transaction"):
        (root,) = activity(pg17)["blocking"]
    assert (root["pid"], root["safe_action"], root["prepared_gids"]) == (0, "resolve", ["lab forgotten"])


def test_counts_match_those_of_the_server(pg17):
    with pg17.fault("blocked-transaction"):
        found = activity(pg17)
        clients = int(pg17.psql("select count(*) from pg_stat_activity where backend_type = 'client backend'"))
        waiting_for_locks = int(pg17.psql("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"))
    # Without its own session.
    own = 1
    assert found["connections"]["used"] == clients - own
    assert found["blocked_sessions_total"] == found["blocking"][0]["waiting"] == waiting_for_locks == 3
    groups = {(group["application"], group["state"]): group["count"] for group in found["sessions_by_state"]}
    assert groups["lab blocker", "idle in transaction"] == 1
    assert sum(group["count"] for group in found["sessions_by_state"]) == found["sessions_total"]


def test_a_query_is_cut_and_holds_no_password(pg17):
    secret = "alter role tracktion_user password '%s'" % pg17.passwords["application"]
    with session(pg17, secret + " valid until 'infinity'", superuser=True, application_name="secret"):
        (found,) = [each for each in activity(pg17)["idle_in_transaction"] if each["application"] == "secret"]
        assert found["query"] == "alter role tracktion_user password ? valid until ?"
        shown = activity(pg17, show_literals=True)["idle_in_transaction"]
        (found,) = [each for each in shown if each["application"] == "secret"]
        assert found["query"] == "alter role tracktion_user password '***' valid until 'infinity'"
        (found,) = [
            each for each in activity(pg17, query_length=10)["idle_in_transaction"] if each["application"] == "secret"
        ]
        assert found["query"] == "alter role"


def test_reachability_is_unknown_without_time_left(pg17):
    found = activity(pg17, deadline=0)
    assert (found["reachable"], found["error"]["kind"]) == (None, "deadline")
    assert found["error"]["message"] == "not measured (0.0 s of the deadline left)"
    # The next probe has its own deadline.
    assert activity(pg17, keep=True)["reachable"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = activity(pg17, login_port=silent.getsockname()[1], timeout=3, deadline=0.2)
    assert (found["reachable"], found["error"]["kind"]) == (None, "deadline")


def test_identity_is_the_system_identifier(pg15, pg17):
    for pg in (pg15, pg17):
        identifier = pg.psql("select system_identifier from pg_control_system()")
        for role in ("superuser", "application"):
            assert activity(pg, role=role)["identity"] == "postgresql:" + identifier


def settled(pg):
    """Return a measurement like the one a second before: a session ends a moment after it was closed."""

    def measured():
        first = activity(pg)
        time.sleep(1)
        found = activity(pg)
        return found if found["connections"]["used"] == first["connections"]["used"] else None

    return wait_until(measured, "the number of sessions to stay", 20)


def test_own_sessions_are_not_listed(pg17):
    before = settled(pg17)
    with (
        running(pg17, "select pg_sleep(60)", "tracktion.ops", "wait_event = 'PgSleep'"),
        session(pg17, "select pg_advisory_xact_lock(4712) from generate_series(1, 5)", application_name="lab other"),
        session(pg17, "select txid_current()", application_name="tracktion.ops"),
        running(pg17, "select pg_advisory_xact_lock(4712)", "tracktion.ops", "wait_event_type = 'Lock'"),
    ):
        found = settled(pg17)
    assert found["connections"]["used"] == before["connections"]["used"] + 1
    assert [each["application"] for each in found["idle_in_transaction"]] == ["lab other"]
    assert found["active_queries"] == found["blocking"] == []
    assert (found["blocked_sessions_total"], found["sessions_total"]) == (0, before["sessions_total"] + 1)
    assert "tracktion.ops" not in [each["application"] for each in found["sessions_by_state"]]
    # An own session that blocks others is a remedy, and is listed.
    with (
        session(pg17, "select pg_advisory_xact_lock(4712)", application_name="tracktion.ops"),
        running(pg17, "select pg_advisory_xact_lock(4712)", "lab other", "wait_event_type = 'Lock'"),
    ):
        (root,) = activity(pg17)["blocking"]
    assert (root["application"], root["waiting"]) == ("tracktion.ops", 1)


# Ending sessions


def end(pg, check_mode=False, role="operator", keep=False, **criteria):
    """Return the result for state=ended."""
    options = {
        **{
            name: option.get("default")
            for name, option in {**_pg_activity.ARGUMENT_SPEC, **_pg_end_sessions.SPEC}.items()
        },
        **pg.login(role),
        "grace": 1.0,
        **criteria,
    }
    options["pids"] = [{"transaction_start": None, "state_start": None, **named} for named in options["pids"]]
    if not keep:
        forget()
    return _pg_end_sessions.end_sessions(options, check_mode)


def named(pg, application, *times):
    """Return an entry of pids for a session, as in a finding."""
    (found,) = [each for each in activity(pg)["transactions"] if each["application"] == application]
    return {name: found[name] for name in ("pid", "backend_start", *times)}


def alive(pg, application):
    return pg.psql("select count(*) from pg_stat_activity where application_name = '%s'" % application) != "0"


@pytest.mark.parametrize("server", ["pg15", "pg17"])
def test_check_mode_run_and_second_run_for_an_idle_session(server, request):
    pg = request.getfixturevalue(server)
    criteria = {"states": ["idle in transaction"], "min_age": 0, "applications": ["lab idler"]}
    with session(pg, "select 1", application_name="lab idler"):
        planned = end(pg, check_mode=True, **criteria)
        assert planned["changed"]
        assert [(each["signal"], each["result"]) for each in planned["sessions"]] == [("terminate", "planned")]
        assert alive(pg, "lab idler")
        done = end(pg, **criteria)
        assert done["changed"]
        assert [(each["signal"], each["result"]) for each in done["sessions"]] == [("terminate", "ended")]
        assert done["sessions"][0]["pid"] == planned["sessions"][0]["pid"]
        assert len(done["diff"]["before"]["sessions"]) == 1
        assert done["diff"]["after"]["sessions"] == []
        assert planned["diff"] == done["diff"]
        assert not alive(pg, "lab idler")
        for check_mode in (True, False):
            again = end(pg, check_mode=check_mode, **criteria)
            assert (again["changed"], again["matched"], again["sessions"]) == (False, 0, [])


def test_a_running_query_is_cancelled_and_its_session_stays(pg17):
    with pg17.fault("long-query"):
        done = end(pg17, pids=[named(pg17, "lab report", "transaction_start", "state_start")])
        assert [(each["signal"], each["result"]) for each in done["sessions"]] == [("cancel", "ended")]
        assert alive(pg17, "lab report")
        assert (
            pg17.psql(
                "select count(*) from pg_stat_activity where application_name = 'lab report' and state = 'active'"
            )
            == "0"
        )


def test_a_query_that_ignores_the_cancel_is_terminated(pg17):
    stubborn = (
        "do $$ begin loop begin perform pg_sleep(60); exception when query_canceled then null; end; end loop; end $$"
    )
    with running(pg17, stubborn, "lab stubborn", "wait_event = 'PgSleep'"):
        evidence = [named(pg17, "lab stubborn", "transaction_start")]
        only_cancelled = end(pg17, pids=evidence, mode="cancel", grace=0.3)
        assert only_cancelled["failed"]
        assert only_cancelled["sessions"][0]["result"] == "remains"
        done = end(pg17, pids=evidence, grace=0.3)
        assert [(each["signal"], each["result"]) for each in done["sessions"]] == [("terminate", "ended")]
        assert not alive(pg17, "lab stubborn")


@pytest.mark.parametrize(("time", "shift"), [("backend_start", 1), ("transaction_start", -0.01), ("state_start", 0.01)])
def test_a_reused_process_id_is_not_ended(pg17, time, shift):
    """One time differs from that of the named session."""
    times = ("transaction_start", "state_start")
    with session(pg17, "select 1", application_name="lab reused"):
        evidence = named(pg17, "lab reused", *times)
        done = end(pg17, pids=[{**evidence, time: evidence[time] + shift}])
        assert (done["changed"], done["matched"]) == (False, 0)
        assert alive(pg17, "lab reused")
        assert end(pg17, check_mode=True, pids=[evidence])["matched"] == 1


def test_evidence_is_checked_again_when_the_signal_is_sent(pg17):
    """Between selection and signal the transaction ends, then another session has the process ID."""
    with session(pg17, "select 1", application_name="lab quick") as connection:
        evidence = named(pg17, "lab quick", "transaction_start")
        options = {
            **{
                name: option.get("default")
                for name, option in {**_pg_activity.ARGUMENT_SPEC, **_pg_end_sessions.SPEC}.items()
            },
            **pg17.login(),
            "pids": [{**evidence, "state_start": None}],
        }
        client = _postgresql.connect(options)
        planned = _pg_end_sessions.plan(_pg_end_sessions.find_sessions(client, options), options)
        assert len(planned) == 1
        connection.rollback()
        connection.cursor().execute("select 2")
        _pg_end_sessions.end(client, planned, options)
        assert [each["result"] for each in planned] == ["gone"]
        options["pids"] = []
        planned[0].update(result="planned", backend_start=planned[0]["backend_start"] - 60, transaction_start=None)
        _pg_end_sessions.end(client, planned, options)
        assert [each["result"] for each in planned] == ["gone"]
        assert alive(pg17, "lab quick")


EVERYTHING = {"states": _pg_end_sessions.STATES, "min_age": 0, "max_sessions": 1000, "mode": "terminate"}


def test_only_sessions_of_clients_are_ended(pg17):
    """With criteria that match all sessions, a WAL receiver, an autovacuum worker and the own session survive."""
    receive = "mkdir -p /tmp/guard && { pg_receivewal -D /tmp/guard -U postgres >/dev/null 2>&1 & echo $!; }"
    receiver = pg17.exec("postgres", "bash", "-c", receive).strip()
    with contextlib.ExitStack() as stack:
        stack.callback(pg17.exec, "postgres", "bash", "-c", "kill %s; rm -rf /tmp/guard" % receiver)
        wait_for_sessions(pg17, "backend_type = 'walsender'", 1)
        stack.enter_context(autovacuuming(pg17))
        bystanders = (
            "select string_agg(pid::text, ',') from pg_stat_activity where backend_type <> 'client backend'"
            " and (backend_type <> 'autovacuum worker' or query like '%lab_vacuumed%')"
        )
        before = pg17.psql(bystanders)
        for role in ("operator", "superuser"):
            # The control session of this test belongs to the superuser.
            end(pg17, role=role, deny_users=["postgres"], **EVERYTHING)
        own = activity(pg17, role="superuser")
        assert own["reachable"]
        assert own["unknown"] == []
        assert set(before.split(",")) <= set(pg17.psql(bystanders).split(","))
        pid = pg17.psql(
            "select pid from pg_stat_activity where backend_type = 'autovacuum worker' and query like '%lab_vac%'"
        )
        start = pg17.psql("select extract(epoch from backend_start)::float8 from pg_stat_activity where pid = " + pid)
        done = end(pg17, role="superuser", pids=[{"pid": int(pid), "backend_start": float(start)}], mode="terminate")
        assert (done["changed"], done["matched"]) == (False, 0)


def test_the_own_session_is_not_ended_even_if_named(pg17):
    client = _postgresql.connect(
        {
            **{name: option.get("default") for name, option in _pg_activity.ARGUMENT_SPEC.items()},
            **pg17.login("superuser"),
        }
    )
    (own,) = client.rows(
        "SELECT pid, extract(epoch FROM backend_start)::float8 AS backend_start"
        " FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    )
    done = end(pg17, role="superuser", keep=True, pids=[own], mode="terminate")
    assert (done["changed"], done["matched"]) == (False, 0)
    assert client.rows("SELECT 1 AS alive") == [{"alive": 1}]


@pytest.mark.parametrize(
    "denied",
    [
        {"deny_users": ["tracktion_user"]},
        {"deny_applications": ["lab wanted"]},
        {"users": ["another"]},
        {"databases": ["postgres"]},
        {"applications": ["other"]},
        {"min_age": 3600},
    ],
    ids="-".join,
)
def test_a_session_that_misses_a_criterion_is_not_ended(pg17, denied):
    wanted = {"states": ["idle in transaction"], "min_age": 0, "users": ["tracktion_user"], "databases": ["tracktion"]}
    with session(pg17, "select 1", application_name="lab wanted"):
        assert end(pg17, check_mode=True, **wanted)["matched"] == 1
        assert end(pg17, **{**wanted, **denied})["matched"] == 0
        # This holds for named sessions too.
        assert end(pg17, pids=[named(pg17, "lab wanted")], **denied)["matched"] == 0
        assert alive(pg17, "lab wanted")


def test_a_dump_is_denied_by_default(pg17):
    with session(pg17, "select 1", application_name="pg_dump"):
        assert end(pg17, states=["idle in transaction"], min_age=0)["matched"] == 0
        assert alive(pg17, "pg_dump")


def test_one_run_is_bounded_by_max_sessions(pg17):
    criteria = {"states": ["idle in transaction"], "min_age": 0, "applications": ["lab many"], "max_sessions": 2}
    with contextlib.ExitStack() as stack:
        for _each in range(3):
            stack.enter_context(session(pg17, "select 1", application_name="lab many"))
        done = end(pg17, **criteria)
        assert (done["matched"], len(done["sessions"])) == (3, 2)
        assert len(done["diff"]["after"]["sessions"]) == 1
        assert pg17.psql("select count(*) from pg_stat_activity where application_name = 'lab many'") == "1"


def test_a_session_that_may_not_be_signalled_is_a_failure_with_a_hint(pg17):
    with session(pg17, "select 1", superuser=True, application_name="lab superior"):
        done = end(pg17, pids=[named(pg17, "lab superior")])
        assert alive(pg17, "lab superior")
    assert done["failed"]
    assert not done["changed"]
    assert done["sessions"][0]["result"] == "not_permitted"
    assert "login_user" in done["msg"]


def test_an_idle_session_is_not_ended_by_a_cancel(pg17):
    with session(pg17, "select 1", application_name="lab idler"):
        done = end(pg17, pids=[named(pg17, "lab idler")], mode="cancel")
        assert (done["changed"], done["sessions"][0]["result"]) == (False, "nothing_to_cancel")
        assert alive(pg17, "lab idler")


# Module


def test_the_module(pg17):
    criteria = {**pg17.login(), "state": "ended", "states": ["idle in transaction"], "min_age": 0}
    criteria["applications"] = ["lab task"]
    forget()
    with session(pg17, "select 1", application_name="lab task"):
        planned = run_module("pg_activity", criteria, check=True, diff=True)
        assert alive(pg17, "lab task")
        done = run_module("pg_activity", criteria, diff=True)
        assert not alive(pg17, "lab task")
    again = run_module("pg_activity", criteria)
    assert [each["pid"] for each in planned["sessions"]] == [each["pid"] for each in done["sessions"]]
    assert [each["result"] for each in planned["sessions"] + done["sessions"]] == ["planned", "ended"]
    assert [planned["changed"], done["changed"], again["changed"]] == [True, True, False]
    assert planned["diff"] == done["diff"]
    assert "diff" not in again


def test_an_unreachable_server_fails_only_with_state_ended(pg17):
    forget()
    measured = run_module("pg_activity", pg17.login(login_port=1))
    assert not measured.get("failed")
    assert (measured["reachable"], measured["error"]["kind"]) == (False, "refused")
    wanted = {"state": "ended", "states": ["active"], "min_age": 1}
    failed = run_module("pg_activity", {**pg17.login(login_port=1), **wanted})
    assert (failed["failed"], failed["kind"]) == (True, "refused")
    assert "login_port" in failed["msg"]
    unnamed = run_module("pg_activity", {**pg17.login(), "state": "ended"})
    assert unnamed["failed"]
    assert "pids" in unnamed["msg"]


def test_a_missing_library_is_a_failure_with_a_hint(pg17):
    forget()
    for module in ("pg_activity", "pg_health_info"):
        failed = run_module(module, pg17.login(), before=lambda: sys.modules.update(psycopg2=None))
        assert (failed["failed"], failed["kind"]) == (True, "missing_library")
        assert "python3-psycopg2" in failed["msg"]


def test_the_measurement_is_documented(pg17):
    with pg17.fault("blocked-transaction"):
        found = activity(pg17, pools=[{"service": "a"}])
    documented = documentation_of("pg_activity")
    assert set(found) == {
        name for name, described in documented.items() if described["returned"] != "when O(state=ended)"
    }
    for part in ("server", "connections", "pools", "locks"):
        assert set(found[part]) == set(documented[part]["contains"])
    for part in ("connection_limits", "sessions_by_state", "transactions", "idle_in_transaction", "blocking"):
        assert set(found[part][0]) == set(documented[part]["contains"]), part
    assert set(found["blocking"][0]["waiters"][0]) == set(documented["blocking"]["contains"]["waiters"]["contains"])
