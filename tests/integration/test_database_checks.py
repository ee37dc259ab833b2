# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every check of the area database fires on a real fault, and is quiet before it."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from tests.integration.postgresql import CHECKS, judge
from tests.lab.shell import wait_until

# Check, fault, a part of the finding's object, and thresholds where the fault would take too long to grow.
FAULTS = [
    ("connections_used", "connections-exhausted", "server", {}),
    ("long_query", "long-query", "pid", {"database_long_query_warning": 0.1}),
    ("long_transaction", "blocked-transaction", "pid", {"database_long_transaction_warning": 0.1}),
    ("idle_in_transaction", "blocked-transaction", "pid", {"database_idle_in_transaction_warning": 0.1}),
    (
        "prepared_transaction_old",
        "prepared-transaction",
        "lab forgotten",
        {"database_prepared_transaction_warning": 0.1},
    ),
    ("blocked_sessions", "blocked-transaction", "pid", {"database_blocked_seconds_warning": 0.1}),
    ("blocked_by_server", "prepared-transaction", "prepared transaction", {"database_blocked_seconds_warning": 0.05}),
    ("locks_used", "locks-held", None, {}),
    ("statements_off", "statements-off", None, {}),
    ("slow_statement", "slow-statement", "tracktion postgres", {}),
    ("heavy_statement", "slow-statement", "tracktion postgres", {"database_heavy_statement_seconds": 1}),
    ("dead_tuples", "dead-tuples", "public.tracks", {}),
    ("vacuum_overdue", "dead-tuples", "public.tracks", {"database_vacuum_overdue_warning": 0}),
    ("analyze_overdue", "dead-tuples", "public.tracks", {"database_analyze_overdue_warning": 0}),
    ("xmin_held", "old-snapshot", "session", {"database_xmin_age_warning": 1000}),
    ("sequential_scans", "missing-index", "public.lab_scanned", {}),
    ("foreign_key_without_index", "unindexed-foreign-key", "analysis_results_track_id_fkey", {}),
    (
        "unused_index",
        "unused-index",
        "public.lab_unused",
        {"database_unused_index_bytes": 0, "database_unused_index_seconds": 0},
    ),
    ("duplicate_index", "duplicate-index", "public.lab_duplicate", {}),
    ("invalid_index", "invalid-index", "public.lab_invalid", {}),
    ("cache_hit", "cache-misses", None, {}),
    ("checkpoints_requested", "requested-checkpoints", None, {}),
    ("temp_files", "temporary-files", None, {"database_temp_bytes_hourly_warning": 1000000}),
    ("deadlocks", "deadlock", None, {}),
    ("replication_lag", "lagging-receiver", "pg_receivewal", {}),
    ("inactive_slot", "forgotten-slot", "lab_forgotten", {}),
    ("slot_wal_retained", "forgotten-slot", "lab_forgotten", {"database_slot_wal_warning": 10000000}),
    ("archive_failures", "failing-archive", None, {}),
    ("pending_restart", "pending-restart", "max_worker_processes", {}),
    ("sequence_exhaustion", "exhausted-sequence", "public.lab_full_id_seq", {}),
]

# What the two generations answer differently about.
DIFFERENT_ON_15 = (
    "blocked_sessions",
    "slow_statement",
    "statements_off",
    "checkpoints_requested",
    "slot_wal_retained",
    "deadlocks",
    "sequence_exhaustion",
    "pending_restart",
)


def fired(findings, name, thing):
    """The findings of the check ``name`` about ``thing``."""
    return [
        finding
        for finding in findings
        if finding["id"] == "database." + name and (thing is None or thing in (finding["object"] or ""))
    ]


def fires_and_falls_silent(database, name, fault, thing, settings):
    # What other tests made the server count is not this fault's.
    database.psql("select pg_stat_reset()")
    assert fired(database.judge(settings), name, thing) == []
    with database.fault(fault):
        # What counts in seconds needs some to pass.
        findings = wait_until(lambda: fired(database.judge(settings), name, thing), name, 5)
        assert {finding["status"] for finding in findings} <= {"info", "warning", "critical"}
        for finding in findings:
            assert finding["summary"]
            assert finding["title"] not in finding["summary"], (
                "its wording could not be rendered: %s" % finding["summary"]
            )
            assert finding["observed"] or name in ("invalid_index", "pending_restart")
            assert "is undefined" not in (finding["advice"] or "")
    wait_until(lambda: fired(database.judge(settings), name, thing) == [], "%s to be quiet again" % name, 5)


@pytest.mark.parametrize(("name", "fault", "thing", "settings"), FAULTS, ids=[case[0] for case in FAULTS])
def test_a_check_fires_on_its_fault_only(pg17, name, fault, thing, settings):
    fires_and_falls_silent(pg17, name, fault, thing, settings)


@pytest.mark.parametrize(
    ("name", "fault", "thing", "settings"),
    [case for case in FAULTS if case[0] in DIFFERENT_ON_15],
    ids=[case[0] for case in FAULTS if case[0] in DIFFERENT_ON_15],
)
def test_a_check_fires_on_the_older_generation_too(pg15, name, fault, thing, settings):
    fires_and_falls_silent(pg15, name, fault, thing, settings)


@pytest.mark.parametrize(
    ("name", "fault", "field"),
    [("xid_age", "old-snapshot", "xid_ratio"), ("multixact_age", "shared-row-locks", "multixact_ratio")],
)
def test_ages_are_seen_to_grow(pg17, name, fault, field):
    """Two thousand million transactions are too many for a test: the limit is put just above what there is."""
    database = {row["name"]: row for row in pg17.measure()["health"]["databases"]}["tracktion"]
    settings = {"database_%s_warning" % name: database[field] + 100 / 2**31}
    assert fired(pg17.judge(settings), name, "tracktion") == []
    with pg17.fault(fault):
        assert fired(pg17.judge(settings), name, "tracktion")[0]["status"] == "warning"


@pytest.mark.parametrize("server", ["pg15", "pg17"])
def test_a_healthy_server_is_quiet(server, request):
    database = request.getfixturevalue(server)
    measurement = database.measure()
    assert measurement["activity"]["unknown"] == measurement["health"]["unknown"] == []
    assert [(finding["id"], finding["object"], finding["summary"]) for finding in judge(measurement)] == []


def test_pools_that_do_not_fit(pg17):
    pool = {"service": "analysis_service", "pool_size": 10, "max_overflow": 10, "workers": 4}
    limit = pg17.measure()["activity"]["connections"]["limit"]
    assert limit == int(pg17.psql("show max_connections")) - int(pg17.psql("show superuser_reserved_connections"))
    assert fired(pg17.judge({"database_pools": [pool]}), "pools_exceed_limit", None) == []
    (finding,) = fired(pg17.judge({"database_pools": [dict(pool, workers=5)]}), "pools_exceed_limit", None)
    assert "100 connections, the server has %d" % limit in finding["summary"]


def test_the_limits_of_a_role_and_of_a_database_count_too(pg17):
    before = fired(pg17.judge(), "connections_used", None)
    pg17.psql("alter role tracktion_user connection limit 5")
    pg17.psql("alter database tracktion connection limit 30")
    held = [pg17.postgres() for _ in range(5)]
    try:
        findings = fired(pg17.judge(), "connections_used", None)
        assert before == []
        assert [(finding["object"], finding["status"]) for finding in findings] == [("role tracktion_user", "critical")]
    finally:
        for connection in held:
            connection.close()
        pg17.psql("alter role tracktion_user connection limit -1")
        pg17.psql("alter database tracktion connection limit -1")


def test_a_query_can_ask_not_to_be_warned_about(pg17):
    settings = {"database_idle_in_transaction_warning": 0, "database_long_transaction_warning": 0}
    with contextlib.closing(pg17.postgres()) as connection:
        connection.cursor().execute("select 1")
        assert fired(pg17.judge(settings), "idle_in_transaction", "pid")
        connection.cursor().execute("select 1 /* nightly report: no-alert */")
        findings = pg17.judge(settings)
    assert fired(findings, "idle_in_transaction", "pid") == fired(findings, "long_transaction", "pid") == []


def test_a_role_is_told_what_it_may_not_see(pg17):
    with contextlib.closing(pg17.postgres(superuser=True)):
        assert fired(pg17.judge(role="operator"), "insufficient_privilege", None) == []
        (finding,) = fired(pg17.judge(role="application"), "insufficient_privilege", None)
        assert "GRANT pg_monitor TO tracktion_user" in finding["advice"]
        hidden = pg17.measure(role="application")["activity"]
        assert hidden["sessions_hidden"] > 0
        assert hidden["connections"]["used"] is None
        assert [entry["part"] for entry in hidden["unknown"]] == ["sessions"]
        # What nobody can count is not ok.
        (connections,) = fired(pg17.judge(role="application"), "connections_used", None)
        assert connections["status"] == "unknown"


def test_a_monitoring_role_sees_everything_but_sequences(pg17):
    assert fired(pg17.judge(role="operator"), "sequences_hidden", None) == []
    findings = pg17.judge(role="monitor")
    assert [finding["id"] for finding in findings] == ["database.sequences_hidden"]


def test_an_unreachable_server_is_one_finding_with_its_cure_and_otherwise_unknown(pg17):
    findings = pg17.judge(login_password="wrong")
    (finding,) = fired(findings, "unreachable", None)
    assert finding["status"] == "critical"
    assert finding["summary"].startswith("authentication: ")
    assert "login_password" in finding["advice"]
    others = {each["status"] for each in findings if each is not finding}
    assert others == {"unknown"}
    assert fired(pg17.judge(), "unreachable", None) == []


@pytest.fixture
def standby(pg17):
    """A standby of the server, in the same container; the options that lead to it."""
    run = pg17.server.exec
    as_postgres = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")
    run(*as_postgres, "pg_basebackup", "-D", "/tmp/standby", "-U", "postgres", "-R", "-c", "fast")
    run(*as_postgres, "pg_ctl", "-D", "/tmp/standby", "-w", "-s", "start", "-l", "/tmp/standby.log",
        "-o", "-p 5433 -c listen_addresses=* -c max_prepared_transactions=10 -c fsync=off")  # fmt: skip
    try:
        yield {"login_host": pg17.server.address, "login_port": 5433}
    finally:
        run(*as_postgres, "pg_ctl", "-D", "/tmp/standby", "-m", "immediate", "-s", "stop")
        run("rm", "-rf", "/tmp/standby")


def test_a_standby_that_does_not_keep_up_is_seen_from_both_ends(pg17, standby):
    settings = {"database_replication_lag_seconds_warning": 0.1}
    role = {"role": "superuser"}
    wait_until(lambda: pg17.measure(**role, **standby)["health"]["standby"]["receiving"], "the standby to follow", 10)
    assert fired(pg17.judge(**role, **standby), "standby_lag", None) == []
    with contextlib.closing(pg17.postgres(superuser=True, host=standby["login_host"], port=5433)) as there:
        there.autocommit = True
        there.cursor().execute("select pg_wal_replay_pause()")
        pg17.psql("update artists set name = name where id = 5")
        findings = wait_until(
            lambda: fired(pg17.judge(settings, **role, **standby), "standby_lag", None), "the standby to notice", 5
        )
        assert "paused" in findings[0]["summary"]
        assert "pg_wal_replay_resume" in findings[0]["advice"]
        (replica,) = pg17.measure()["health"]["replicas"]
        assert replica["lag_bytes"] > 0
        there.cursor().execute("select pg_wal_replay_resume()")
    assert wait_until(
        lambda: not fired(pg17.judge(**role, **standby), "standby_lag", None), "the standby to catch up", 10
    )


def test_every_check_has_a_test():
    named = {case[0] for case in FAULTS} | {
        "unreachable",
        "insufficient_privilege",
        "sequences_hidden",
        "pools_exceed_limit",
        "xid_age",
        "multixact_age",
        "standby_lag",
    }
    assert {check.id for check in CHECKS} == {"database." + name for name in named}


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
        assert time.monotonic() - started < 2
    assert measurement["activity"]["unknown"] == measurement["health"]["unknown"] == []
    assert "tracks" in [table["name"] for table in measurement["health"]["tables"]]
