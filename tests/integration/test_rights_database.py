# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each right of the role is taken away on a server that has faults: what is hidden then is unknown, and never ok."""

from __future__ import annotations

import contextlib
import re

import pytest

from tests.integration.areas import diagnose
from tests.integration.postgresql import forget, running
from tests.lab.faults.database import as_application, run_and_wait, wait_for_sessions
from tests.rights import database as rights

# A name that breaks a statement it is not quoted in.
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
    "database_connections_warning": 0.01,
    "database_long_query_warning": 0.05,
    "database_long_transaction_warning": 0.05,
    "database_idle_in_transaction_warning": 0.05,
    "database_blocked_seconds_warning": 0.05,
    "database_heavy_statement_seconds": 1,
}
# What fires on these faults for a role that sees everything.
FIRED = {
    "database." + name
    for name in (
        *rights.OF_SESSIONS, "blocked_sessions", *rights.STATEMENTS, "replication_lag", "pending_restart",
        "sequence_exhaustion",
    )
}  # fmt: skip

# Rights that a role has by membership. All but the one that is taken away are given.
MEMBERSHIPS = ("pg_read_all_stats", "pg_read_all_settings", "pg_stat_scan_tables")
SEQUENCES = "select on all sequences in schema public"

# Whose hints are made like that of the function pg_stat_get_activity(): they are not tried as well.
ALIKE = [name for name in rights.REVOKED if "pg_stat_get_activity" not in name and "pg_stat_statements" not in name]

# What the server complains of, and what it says of clients that hang up.
NOISE = re.compile(r"\b(ERROR|FATAL|PANIC|WARNING):|unexpected EOF|[Cc]onnection reset")


@contextlib.contextmanager
def being_built(pg):
    """A session builds an index, and another one rebuilds one: both wait for a transaction."""
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
    # They would go on to wait for older snapshots.
    pg.psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lab builder'")
    for thread, connection in zip(threads, builders, strict=True):
        thread.join(10)
        connection.close()
    writer.close()
    pg.psql("drop table lab_built, lab_building")


@contextlib.contextmanager
def faults(pg):
    """A server with faults, and a role without any right that PUBLIC does not have."""
    with contextlib.ExitStack() as stack:
        # The server would give up a receiver that is stopped for a minute.
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
    """PostgreSQL 17 with faults."""
    with faults(pg17) as found:
        yield found


@pytest.fixture(scope="module")
def broken15(pg15):
    """PostgreSQL 15 with faults."""
    with faults(pg15) as found:
        yield found


@contextlib.contextmanager
def without(pg, right):
    """The role has all rights but one, which it gets back in the end."""
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
    """The findings by id, seen by the role."""
    forget()
    return diagnose("database", pg.settings(SETTINGS, login_user=ROLE, login_password=PASSWORD))


def unknown(found):
    """The ids of the checks that are unknown, with their hints."""
    return {
        name: {finding["hint"] for finding in each if finding["status"] == "unknown"}
        for name, each in found.items()
        if any(finding["status"] == "unknown" for finding in each)
    }


@contextlib.contextmanager
def quiet(pg):
    """The server's log has nothing to complain of meanwhile."""
    before = len(pg.server.logs())
    yield
    assert [line for line in pg.server.logs()[before:].splitlines() if NOISE.search(line)] == []


def test_a_role_with_all_rights_sees_every_fault(broken):
    with without(broken, None), quiet(broken):
        found = findings(broken)
    assert unknown(found) == {}
    assert set(found) >= FIRED
    assert "database.invalid_index" not in found


def becomes_unknown(broken, right):
    """Without the right, exactly the checks that it names are unknown, with hints that help."""
    with without(broken, right.name):
        with quiet(broken):
            found = findings(broken)
        missing = unknown(found)
        assert set(missing) == right.checks
        # What the right does not hide is seen as before.
        assert {name for name in FIRED - right.checks if name not in found} == set()
        for name, hints in missing.items():
            assert all(hint and right.grant in hint for hint in hints), (name, hints)
        if missing and right.name not in ALIKE:
            # Each command that is printed does what it says, and all of them together are enough.
            for command in {each for hints in missing.values() for hint in hints for each in hint.split("`")[1::2]}:
                broken.psql(command)
            assert unknown(findings(broken)) == {}


@pytest.mark.parametrize("right", rights.RIGHTS, ids=lambda right: right.name)
def test_without_a_right_what_it_hides_is_unknown(broken, right):
    becomes_unknown(broken, right)


# Rights that are revoked from PUBLIC are the same in both generations.
@pytest.mark.parametrize(
    "right", [right for right in rights.RIGHTS if right.name not in rights.REVOKED], ids=lambda right: right.name
)
def test_and_so_it_is_on_the_older_generation(broken15, right):
    becomes_unknown(broken15, right)


def test_a_role_that_does_not_inherit_is_told_what_helps(broken):
    """It is a member of pg_monitor already: to grant that once more would change nothing."""
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


def test_an_application_sees_its_own_sessions_without_any_right(broken):
    """What is visible is judged: of the sessions of its own role nothing is hidden."""
    forget()
    found = diagnose("database", broken.settings(SETTINGS, role="application"))
    for name in ("database.long_query", "database.idle_in_transaction", "database.blocked_sessions"):
        assert "warning" in {finding["status"] for finding in found[name]}, name
    assert "database.xmin_held" not in unknown(found)


def test_a_block_by_a_hidden_session_tells_what_is_visible(broken):
    with without(broken, "pg_monitor"):
        found = findings(broken)["database.blocked_sessions"]
    (blocked,) = [finding for finding in found if "lab blocker" in finding["summary"]]
    assert re.search(
        r"3 sessions wait for up to \d+ s behind pid \d+ \(tracktion_user, lab blocker\)", blocked["summary"]
    )
