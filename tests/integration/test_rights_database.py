# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Without each privilege, on a server with faults, the checks that need it are unknown and never ok."""

from __future__ import annotations

import contextlib
import re

import pytest

from tests.integration.areas import diagnose
from tests.integration.postgresql import forget, running
from tests.lab.faults.database import as_application, run_and_wait, wait_for_sessions
from tests.rights import database as rights

# A name that breaks an unquoted statement.
ROLE = 'lab "looker"; --'
QUOTED = '"lab ""looker""; --"'
PASSWORD = "lab"

FAULTS = (
    "blocked-transaction",
    "slow-statement",
    "lagging-receiver",
    "pending-restart",
    "exhausted-sequence",
)
SETTINGS = {
    # At the end of the default, a busy machine leaves checks unknown that no privilege is missing for.
    "database_deadline": 60,
    "database_connections_warning": 0.01,
    "database_long_query_warning": 0.05,
    "database_long_transaction_warning": 0.05,
    "database_idle_in_transaction_warning": 0.05,
    "database_blocked_seconds_warning": 0.05,
    "database_heavy_statement_seconds": 1,
}
# Checks that fire on these faults for a role with all privileges.
FIRED = {
    "database." + name
    for name in (
        "connections_used", "long_query", "long_transaction", "idle_in_transaction", "blocked_sessions",
        *rights.STATEMENTS, "replication_lag", "pending_restart",
        "sequence_exhaustion",
    )
}  # fmt: skip

# Privileges by membership. The role has all but the one under test.
MEMBERSHIPS = ("pg_read_all_stats", "pg_read_all_settings", "pg_stat_scan_tables")
SEQUENCES = "select on all sequences in schema public"

# Their hints are built like that of pg_stat_get_activity(), so their commands are not run.
ALIKE = [name for name in rights.REVOKED if "pg_stat_get_activity" not in name and "pg_stat_statements" not in name]

# Messages about errors and about clients that disconnect.
NOISE = re.compile(r"\b(ERROR|FATAL|PANIC|WARNING):|unexpected EOF|[Cc]onnection reset")


@contextlib.contextmanager
def being_built(pg):
    """Keep a session building an index and another one rebuilding one: both wait for a transaction."""
    as_application(pg, "create table lab_built (id int); create index lab_built_id on lab_built (id)")
    as_application(pg, "create table lab_building (id int)")
    writer = pg.postgres(application_name="lab writer")
    writer.cursor().execute("insert into lab_built values (1)")
    writer.cursor().execute("insert into lab_building values (1)")
    builders = [pg.postgres(application_name="lab builder") for _each in range(2)]
    for connection in builders:
        connection.autocommit = True
    threads = [
        run_and_wait(builders[0], "create index concurrently lab_building_id on lab_building (id)"),
        run_and_wait(builders[1], "reindex index concurrently lab_built_id"),
    ]
    wait_for_sessions(pg, "application_name = 'lab builder' and wait_event_type = 'Lock'", 2)
    yield
    # Otherwise they would wait for older snapshots.
    pg.psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lab builder'")
    for thread, connection in zip(threads, builders, strict=True):
        thread.join(10)
        connection.close()
    writer.close()
    pg.psql("drop table lab_built, lab_building")


@contextlib.contextmanager
def faults(pg):
    """Yield a server with faults, and with a role that has only the privileges of PUBLIC."""
    with contextlib.ExitStack() as stack:
        # By default the server drops a receiver that is stopped for a minute.
        pg.psql("alter system set wal_sender_timeout = 0")
        stack.callback(pg.psql, "alter system reset wal_sender_timeout")
        for name in FAULTS:
            stack.enter_context(pg.fault(name))
        stack.enter_context(running(pg, "select pg_sleep(600)", "lab report"))
        stack.enter_context(being_built(pg))
        pg.psql("create role %s login password '%s'" % (QUOTED, PASSWORD))
        stack.callback(pg.psql, "drop role %s" % QUOTED)
        stack.callback(pg.psql, "drop owned by %s" % QUOTED)
        wait_for_sessions(pg, "state_change < clock_timestamp() - interval '0.1 s' and wait_event_type = 'Lock'", 5)
        yield pg


@pytest.fixture(scope="module")
def broken(pg17):
    """Yield PostgreSQL 17 with faults."""
    with faults(pg17) as found:
        yield found


@pytest.fixture(scope="module")
def broken15(pg15):
    """Yield PostgreSQL 15 with faults."""
    with faults(pg15) as found:
        yield found


@contextlib.contextmanager
def without(pg, right):
    """Give the role all privileges but one, and restore that one in the end."""
    pg.psql("grant %s to %s" % (SEQUENCES, QUOTED))
    for name in MEMBERSHIPS:
        pg.psql("grant %s to %s" % (name, QUOTED))
    if right == "pg_monitor":
        pg.psql("revoke %s from %s" % (", ".join(MEMBERSHIPS), QUOTED))
    elif right in MEMBERSHIPS:
        pg.psql("revoke %s from %s" % (right, QUOTED))
    elif right == "SELECT ON SEQUENCE":
        pg.psql("revoke %s from %s" % (SEQUENCES, QUOTED))
    elif right:
        pg.psql("revoke %s from public" % rights.REVOKED[right][0])
    try:
        yield
    finally:
        pg.psql("revoke pg_monitor from %s" % QUOTED)
        if right in rights.REVOKED:
            pg.psql("revoke %s from %s" % (rights.REVOKED[right][0], QUOTED))
            pg.psql("grant %s to public" % rights.REVOKED[right][0])


def findings(pg):
    """Return the findings of the role by id."""
    forget()
    return diagnose("database", pg.settings(SETTINGS, login_user=ROLE, login_password=PASSWORD))


def unknown(found):
    """Return the ids of the checks that are unknown, with their hints."""
    return {
        name: {finding["hint"] for finding in each if finding["status"] == "unknown"}
        for name, each in found.items()
        if any(finding["status"] == "unknown" for finding in each)
    }


@contextlib.contextmanager
def clean_log(pg):
    """Fail if the server logs an error meanwhile."""
    before = len(pg.server.logs())
    yield
    assert [line for line in pg.server.logs()[before:].splitlines() if NOISE.search(line)] == []


def test_a_role_with_all_privileges_finds_every_fault(broken):
    with without(broken, None), clean_log(broken):
        found = findings(broken)
    assert unknown(found) == {}
    assert set(found) >= FIRED
    assert "database.invalid_index" not in found


def becomes_unknown(broken, right):
    """Without the privilege, exactly the checks that need it are unknown, and their hints grant it."""
    with without(broken, right.name):
        with clean_log(broken):
            found = findings(broken)
        missing = unknown(found)
        assert set(missing) == right.checks
        # The other checks fire as before.
        assert {name for name in FIRED - right.checks if name not in found} == set()
        for name, hints in missing.items():
            assert all(hint and right.grant in hint for hint in hints), (name, hints)
        if missing and right.name not in ALIKE:
            # All printed commands together grant it.
            for command in {each for hints in missing.values() for hint in hints for each in hint.split("`")[1::2]}:
                broken.psql(command)
            assert unknown(findings(broken)) == {}


@pytest.mark.parametrize("right", rights.RIGHTS, ids=lambda right: right.name)
def test_checks_are_unknown_without_their_privilege(broken, right):
    becomes_unknown(broken, right)


# Revoked privileges of PUBLIC are the same in both versions.
@pytest.mark.parametrize(
    "right", [right for right in rights.RIGHTS if right.name not in rights.REVOKED], ids=lambda right: right.name
)
def test_checks_are_unknown_without_their_privilege_on_the_older_version(broken15, right):
    becomes_unknown(broken15, right)


def test_hint_for_a_role_that_does_not_inherit(broken):
    """It is a member of pg_monitor already: another GRANT would have no effect."""
    modern = broken.connection.server_version >= 160000
    with without(broken, "pg_monitor"):
        broken.psql("alter role %s noinherit" % QUOTED)
        try:
            broken.psql("grant pg_monitor to %s" % QUOTED)
            (hint,) = unknown(findings(broken))["database.long_query"]
            assert ("WITH INHERIT TRUE" if modern else "ALTER ROLE %s INHERIT" % QUOTED) in hint
            broken.psql(hint.split("`")[1])
            assert unknown(findings(broken)) == {}
        finally:
            broken.psql("alter role %s inherit" % QUOTED)


def test_an_application_sees_its_own_sessions_without_privileges(broken):
    """Visible sessions are evaluated, and those of its own role are visible."""
    forget()
    found = diagnose("database", broken.settings(SETTINGS, role="application"))
    for name in ("database.long_query", "database.idle_in_transaction", "database.blocked_sessions"):
        assert "warning" in {finding["status"] for finding in found[name]}, name
    assert "database.xmin_held" not in unknown(found)


def test_visible_fields_of_a_hidden_blocker_are_reported(broken):
    with without(broken, "pg_monitor"):
        found = findings(broken)["database.blocked_sessions"]
    (blocked,) = [finding for finding in found if "lab blocker" in finding["summary"]]
    assert re.search(
        r"3 sessions wait for up to \d+ s behind pid \d+ \(tracktion_user, lab blocker\)", blocked["summary"]
    )
