# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every check of the area database fires on a real fault, and does not fire before and after it."""

from __future__ import annotations

import contextlib

import pytest

from tests.integration.followed_hints import DATABASE
from tests.integration.following import Operator, follow
from tests.integration.modules import run_module
from tests.integration.postgresql import standby_of
from tests.lab.shell import wait_until

# Check, fault, a part of the finding's object, and thresholds for faults that would take too long to grow.
FAULTS = [
    ("database.connections_used", "connections-exhausted", "server", {}),
    ("database.long_query", "long-query", "pid", {"database_long_query_warning": 0.1}),
    ("database.long_transaction", "blocked-transaction", "pid", {"database_long_transaction_warning": 0.1}),
    ("database.idle_in_transaction", "blocked-transaction", "pid", {"database_idle_in_transaction_warning": 0.1}),
    (
        "database.prepared_transaction_old",
        "prepared-transaction",
        "lab forgotten",
        {"database_prepared_transaction_warning": 0.1},
    ),
    ("database.blocked_sessions", "blocked-transaction", "pid", {"database_blocked_seconds_warning": 0.1}),
    (
        "database.blocked_by_server",
        "prepared-transaction",
        "prepared transaction",
        {"database_blocked_seconds_warning": 0.05},
    ),
    ("database.locks_used", "locks-held", None, {}),
    ("database.statements_off", "statements-off", None, {}),
    ("database.slow_statement", "slow-statement", "tracktion postgres", {}),
    ("database.heavy_statement", "slow-statement", "tracktion postgres", {"database_heavy_statement_seconds": 1}),
    ("database.dead_tuples", "dead-tuples", "public.tracks", {}),
    ("database.vacuum_overdue", "dead-tuples", "public.tracks", {"database_vacuum_overdue_warning": 0}),
    ("database.analyze_overdue", "dead-tuples", "public.tracks", {"database_analyze_overdue_warning": 0}),
    ("database.xmin_held", "old-snapshot", "session", {"database_xmin_age_warning": 1000}),
    ("database.sequential_scans", "missing-index", "public.lab_scanned", {}),
    ("database.foreign_key_without_index", "unindexed-foreign-key", "analysis_results_track_id_fkey", {}),
    (
        "database.unused_index",
        "unused-index",
        "public.lab_unused",
        {"database_unused_index_bytes": 0, "database_unused_index_seconds": 0},
    ),
    ("database.duplicate_index", "duplicate-index", "public.lab_duplicate", {}),
    ("database.invalid_index", "invalid-index", "public.lab_invalid", {}),
    ("database.left_behind_index", "interrupted-reindex", "public.lab_rebuilt_id_ccnew", {}),
    ("database.cache_hit", "cache-misses", None, {}),
    ("database.checkpoints_requested", "requested-checkpoints", None, {"database_checkpoints_floor": 4}),
    ("database.temp_files", "temporary-files", None, {"database_temp_bytes_hourly_warning": 1000000}),
    ("database.deadlocks", "deadlock", None, {}),
    ("database.replication_lag", "lagging-receiver", "pg_receivewal", {}),
    ("database.inactive_slot", "forgotten-slot", "lab_forgotten", {}),
    ("database.slot_wal_retained", "forgotten-slot", "lab_forgotten", {"database_slot_wal_warning": 10000000}),
    ("database.archive_failures", "failing-archive", None, {}),
    ("database.pending_restart", "pending-restart", "max_worker_processes", {}),
    ("database.sequence_exhaustion", "exhausted-sequence", "public.lab_full_id_seq", {}),
    ("database.writes_off", "writes-off", "tracktion", {}),
    ("database.harmful_setting", "autovacuum-off", "autovacuum", {}),
]

# Checks whose queries differ between the versions.
DIFFERENT_ON_15 = (
    "database.blocked_sessions",
    "database.slow_statement",
    "database.statements_off",
    "database.checkpoints_requested",
    "database.slot_wal_retained",
    "database.deadlocks",
    "database.sequence_exhaustion",
    "database.pending_restart",
)

# Checks that compare no numbers.
WITHOUT_NUMBERS = ("database.invalid_index", "database.left_behind_index", "database.pending_restart")


def fired(findings, name, thing):
    """Return the findings of the check ``name`` about ``thing``."""
    return [
        finding
        for finding in findings
        if finding["id"] == name and (thing is None or thing in (finding["object"] or ""))
    ]


def follow_hint(database, name, fault, thing, settings, findings):
    def again():
        return {name: fired(database.diagnose(settings), name, thing)}

    follow(Operator(psql=database.psql), {name: DATABASE[fault][name]}, {name: findings}, again)


def fires_on_fault_only(database, name, fault, thing, settings):
    # Forget what the server counted in other tests.
    database.psql("select pg_stat_reset()")
    assert fired(database.diagnose(settings), name, thing) == []
    with database.fault(fault):
        # Ages have to grow first.
        findings = wait_until(lambda: fired(database.diagnose(settings), name, thing), name, 5)
        assert {finding["status"] for finding in findings} <= {"info", "warning", "critical"}
        for finding in findings:
            assert finding["summary"]
            assert finding["title"] not in finding["summary"], "summary not rendered: %s" % finding["summary"]
            assert finding["observed"] or name in WITHOUT_NUMBERS
            assert "is undefined" not in (finding["hint"] or "")
        if database.server.suite == "trixie":
            follow_hint(database, name, fault, thing, settings, findings)
    wait_until(lambda: fired(database.diagnose(settings), name, thing) == [], "%s to stop firing" % name, 5)


@pytest.mark.parametrize(("name", "fault", "thing", "settings"), FAULTS, ids=[case[0] for case in FAULTS])
def test_a_check_fires_on_its_fault_only(pg17, name, fault, thing, settings):
    fires_on_fault_only(pg17, name, fault, thing, settings)


@pytest.mark.parametrize(
    ("name", "fault", "thing", "settings"),
    [case for case in FAULTS if case[0] in DIFFERENT_ON_15],
    ids=[case[0] for case in FAULTS if case[0] in DIFFERENT_ON_15],
)
def test_a_check_fires_on_the_older_version_too(pg15, name, fault, thing, settings):
    fires_on_fault_only(pg15, name, fault, thing, settings)


@pytest.mark.parametrize(
    ("name", "fault", "field"),
    [
        ("database.xid_age", "old-snapshot", "xid_ratio"),
        ("database.multixact_age", "shared-row-locks", "multixact_ratio"),
    ],
)
def test_age_checks_fire(pg17, name, fault, field):
    """The limit is set just above the current age: a test cannot run two billion transactions."""
    database = {row["name"]: row for row in pg17.measure()["health"]["databases"]}["tracktion"]
    settings = {name.replace(".", "_") + "_warning": database[field] + 100 / 2**31}
    assert fired(pg17.diagnose(settings), name, "tracktion") == []
    with pg17.fault(fault):
        findings = fired(pg17.diagnose(settings), name, "tracktion")
        assert findings[0]["status"] == "warning"
        follow_hint(pg17, name, fault, "tracktion", settings, findings)


@pytest.mark.parametrize("server", ["pg15", "pg17"])
def test_a_healthy_server_has_no_findings(server, request):
    database = request.getfixturevalue(server)
    # Forget what the server counted in other tests.
    database.psql("select pg_stat_reset()")
    measurement = database.measure()
    assert measurement["activity"]["unknown"] == measurement["health"]["unknown"] == []
    assert [(finding["id"], finding["object"], finding["summary"]) for finding in database.diagnose()] == []


def test_pools_larger_than_the_limit(pg17):
    pool = {"service": "analysis_service", "pool_size": 10, "max_overflow": 10, "workers": 1}
    limit = pg17.measure()["activity"]["connections"]["limit"]
    assert limit == int(pg17.psql("show max_connections")) - int(pg17.psql("show superuser_reserved_connections"))
    assert fired(pg17.diagnose({"database_pools": [pool]}), "database.pools_exceed_limit", None) == []
    (finding,) = fired(pg17.diagnose({"database_pools": [dict(pool, workers=2)]}), "database.pools_exceed_limit", None)
    assert "40 connections, the limit is %d" % limit in finding["summary"]


def test_limits_of_roles_and_databases_are_checked(pg17):
    before = fired(pg17.diagnose(), "database.connections_used", None)
    pg17.psql("alter role tracktion_user connection limit 5")
    pg17.psql("alter database tracktion connection limit 20")
    held = [pg17.postgres() for _each in range(5)]
    try:
        findings = fired(pg17.diagnose(), "database.connections_used", None)
        assert before == []
        assert [(finding["object"], finding["status"]) for finding in findings] == [("role tracktion_user", "critical")]
        # Twice the limit would still be less than one connection pool needs.
        assert 'ALTER ROLE "tracktion_user" CONNECTION LIMIT 20;' in findings[0]["hint"]
    finally:
        for connection in held:
            connection.close()
        pg17.psql("alter role tracktion_user connection limit -1")
        pg17.psql("alter database tracktion connection limit -1")


def test_a_comment_excludes_a_query(pg17):
    settings = {"database_idle_in_transaction_warning": 0, "database_long_transaction_warning": 0}
    with contextlib.closing(pg17.postgres()) as connection:
        connection.cursor().execute("select 1")
        assert fired(pg17.diagnose(settings), "database.idle_in_transaction", "pid")
        connection.cursor().execute("select 1 /* nightly report: no-alert */")
        findings = pg17.diagnose(settings)
    assert (
        fired(findings, "database.idle_in_transaction", "pid")
        == fired(findings, "database.long_transaction", "pid")
        == []
    )


def test_hidden_sessions_are_reported(pg17):
    with contextlib.closing(pg17.postgres(superuser=True)):
        assert fired(pg17.diagnose(role="operator"), "database.insufficient_privilege", None) == []
        (finding,) = fired(pg17.diagnose(role="application"), "database.insufficient_privilege", None)
        assert '`GRANT pg_monitor TO "tracktion_user";`' in finding["hint"]
        hidden = pg17.measure(role="application")["activity"]
        assert hidden["sessions_hidden"] > 0
        assert hidden["connections"]["used"] is None
        assert [entry["part"] for entry in hidden["unknown"]] == [
            "active_queries[...]",
            "transactions[...]",
            "idle_in_transaction[...]",
            "connections.used",
            "connection_limits.*",
            "synchronous_commits.waiting",
        ]
        # A count that is not known is not ok.
        (connections,) = fired(pg17.diagnose(role="application"), "database.connections_used", None)
        assert connections["status"] == "unknown"


def test_pg_monitor_is_enough_for_all_but_sequences(pg17):
    pg17.psql("select pg_stat_reset()")
    assert fired(pg17.diagnose(role="operator"), "database.sequences_hidden", None) == []
    findings = pg17.diagnose(role="monitor")
    assert [(finding["id"], finding["status"]) for finding in findings] == [
        ("database.sequence_exhaustion", "unknown"),
        ("database.sequences_hidden", "info"),
    ]


def test_an_unreachable_server_is_one_finding_with_a_hint_and_otherwise_unknown(pg17):
    findings = pg17.diagnose(login_password="wrong")
    (finding,) = fired(findings, "database.unreachable", None)
    assert finding["status"] == "critical"
    assert finding["summary"].startswith("authentication: ")
    assert "login_password" in finding["hint"]
    others = {each["status"] for each in findings if each is not finding}
    assert others == {"unknown"}
    assert fired(pg17.diagnose(), "database.unreachable", None) == []


@pytest.fixture
def standby(pg17):
    """Run a standby of the server; yield its connection options."""
    with standby_of(pg17) as options:
        yield options


def test_standby_lag_is_reported_on_standby_and_primary(pg17, standby):
    settings = {"database_replication_lag_seconds_warning": 0.1}
    role = {"role": "superuser"}
    wait_until(lambda: pg17.measure(**role, **standby)["health"]["standby"]["receiving"], "the standby to follow", 10)
    assert fired(pg17.diagnose(**role, **standby), "database.standby_lag", None) == []
    with contextlib.closing(pg17.postgres(superuser=True, host=standby["login_host"], port=5433)) as there:
        there.autocommit = True
        there.cursor().execute("select pg_wal_replay_pause()")
        pg17.psql("update artists set name = name where id = 5")
        findings = wait_until(
            lambda: fired(pg17.diagnose(settings, **role, **standby), "database.standby_lag", None),
            "standby_lag",
            5,
        )
        assert "paused" in findings[0]["summary"]
        # It has the system identifier of its primary, but another identity.
        identities = [pg17.measure(**each)["activity"]["identity"] for each in ({}, {**role, **standby})]
        assert identities[1].startswith(identities[0] + ":standby:")
        assert "pg_wal_replay_resume" in findings[0]["hint"]
        (replica,) = pg17.measure()["health"]["replicas"]
        assert replica["lag_bytes"] > 0
        there.cursor().execute("select pg_wal_replay_resume()")
    assert wait_until(
        lambda: not fired(pg17.diagnose(**role, **standby), "database.standby_lag", None), "the standby to catch up", 10
    )


def test_a_standby_is_not_maintained(pg17, standby):
    tables = {"action": "vacuum", "tables": [{"name": "tracks"}], "min_dead_rows": 0}
    failed = run_module("pg_maintenance", {**pg17.login("superuser"), **standby, **tables})
    assert (failed["failed"], failed["kind"]) == (True, "bad_option")
    assert "primary" in failed["msg"]
