# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps a role from logging in although the server is well, and the command that repairs it."""

from __future__ import annotations

import contextlib

import psycopg2
import pytest

from tests.integration.pasting import commands
from tests.integration.postgresql import session
from tests.lab.shell import wait_until

CHECKS = ("role_expired", "role_locked_out", "closed_database", "connections_used")


@pytest.fixture
def pg(pg17):
    """A server with a role of a service."""
    pg17.psql("create role lab_service login password 'lab'")
    yield pg17
    pg17.psql("drop owned by lab_service; drop role lab_service")


def found_by(pg, settings=None, **login):
    """Return the findings of these checks by check and object."""
    found = pg.diagnose(settings, **login)
    names = ["database." + name for name in CHECKS]
    assert all(finding["status"] != "unknown" for finding in found if finding["id"] in names)
    return {(each["id"].partition(".")[2], each["object"]): each for each in found if each["id"] in names}


def connected(pg, **options):
    return session(pg, user="lab_service", password="lab", **options)


def follow(pg, finding, number=0):
    """Run a command of the hint as it is printed."""
    pg.psql(commands(finding["hint"])[number])


def hba_of(pg):
    """Return the path of pg_hba.conf, and its text."""
    path = pg.psql("show hba_file")
    return path, pg.server.exec("cat", path)


def write_hba(pg, path, text, role, kind=None):
    """Write pg_hba.conf, and return the failure of a role once it is in force. ``kind`` is that of the failure."""
    pg.server.exec("sh", "-c", "cat >%s" % path, stdin=text)
    pg.psql("select pg_reload_conf()")

    def measured():
        error = pg.measure(**role)["activity"]["error"]
        return (error and error["kind"]) == kind and [error]

    return wait_until(measured, "the reload", 10)[0]


def cannot_log_in(pg):
    with pytest.raises(psycopg2.OperationalError), connected(pg):
        pass


def test_an_expired_password(pg):
    assert found_by(pg) == {}
    # Without a session, it is not known as the role of a service.
    pg.psql("alter role lab_service valid until '2020-01-01'")
    assert found_by(pg)["role_expired", "role lab_service"]["status"] == "warning"
    assert found_by(pg, {"database_service_roles": ["lab_service"]})[
        "role_expired", "role lab_service"
    ]["status"] == "critical"  # fmt: skip
    pg.psql("alter role lab_service valid until 'infinity'")
    with connected(pg):
        assert found_by(pg) == {}
        pg.psql("alter role lab_service valid until '-infinity'")
        finding = found_by(pg)["role_expired", "role lab_service"]
        assert finding["status"] == "critical"
        assert "1 sessions of it are open" in finding["summary"]
        cannot_log_in(pg)
        follow(pg, finding)
        assert found_by(pg) == {}
        # A day before.
        pg.psql("do $$ begin execute format('alter role lab_service valid until %L', now() + interval '1 day'); end $$")
        finding = found_by(pg)["role_expired", "role lab_service"]
        assert (finding["status"], "expires in" in finding["summary"]) == ("warning", True)
        assert found_by(pg, {"database_role_expiry_warning": 3600}) == {}
        follow(pg, finding)
    with connected(pg):
        pass


def test_the_role_of_the_diagnosis_does_not_need_its_password(pg):
    pg.psql("alter role tracktion_operator valid until '2020-01-01'")
    path, rules = hba_of(pg)
    try:
        write_hba(pg, path, "host all tracktion_operator all trust\n" + rules, {})
        assert found_by(pg) == {}
    finally:
        pg.psql("alter role tracktion_operator valid until 'infinity'")
        write_hba(pg, path, rules, {})


@pytest.mark.parametrize(
    ("fault", "undo", "object_", "text"),
    [
        ("alter role lab_service nologin", None, "role lab_service", "may not log in (NOLOGIN)"),
        ("alter role lab_service connection limit 0", None, "role lab_service", "connection limit 0"),
        (
            "revoke connect on database tracktion from public",
            "grant connect on database tracktion to public",
            "role lab_service",
            "may not connect to tracktion",
        ),
    ],
    ids=["nologin", "limit", "connect"],
)
def test_a_role_of_a_service_that_cannot_log_in(pg, fault, undo, object_, text):
    # The others connect by a privilege of their own.
    pg.psql("grant connect on database tracktion to tracktion_operator")
    with contextlib.ExitStack() as stack:
        stack.callback(pg.psql, "revoke connect on database tracktion from tracktion_operator")
        stack.callback(pg.psql, undo or "select 1")
        with connected(pg):
            assert found_by(pg) == {}
            pg.psql(fault)
            cannot_log_in(pg)
            finding = found_by(pg)["role_locked_out", object_]
            assert finding["status"] == "critical"
            assert text in finding["summary"]
            follow(pg, finding)
            assert found_by(pg) == {}
        with connected(pg):
            pass
        # Group roles may not log in, which is right.
        pg.psql("create role lab_group")
        stack.callback(pg.psql, "drop role lab_group")
        assert found_by(pg) == {}
        missing = found_by(pg, {"database_service_roles": ["lab_absent", "lab_service"]})
        assert set(missing) == {("role_locked_out", "role lab_absent")}


def test_databases_that_accept_no_connections(pg):
    pg.psql("create database lab_closed")
    try:
        with session(pg, "select 1", superuser=True, dbname="lab_closed"):
            pg.psql("alter database lab_closed allow_connections false")
            assert found_by(pg)["closed_database", "lab_closed"]["status"] == "critical"
        pg.psql("select count(*) from pg_stat_activity where datname = 'lab_closed'")
        finding = found_by(pg)["closed_database", "lab_closed"]
        follow(pg, finding)
        assert found_by(pg) == {}
        pg.psql("alter database lab_closed connection limit 0")
        follow(pg, found_by(pg)["closed_database", "lab_closed"])
        assert found_by(pg) == {}
        # As after a DROP DATABASE that was interrupted.
        pg.psql("update pg_database set datconnlimit = -2 where datname = 'lab_closed'")
        finding = found_by(pg)["closed_database", "lab_closed"]
        assert "interrupted DROP DATABASE" in finding["summary"]
        follow(pg, finding)
        assert found_by(pg) == {}
    finally:
        pg.psql("drop database if exists lab_closed")


def test_a_small_limit_that_is_used_up(pg):
    pg.psql("alter role lab_service connection limit 2")
    with connected(pg):
        assert found_by(pg) == {}
        with connected(pg):
            finding = found_by(pg)["connections_used", "role lab_service"]
            assert finding["status"] == "warning"
            follow(pg, finding)
            assert found_by(pg) == {}
    pg.psql("alter role lab_service connection limit -1")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("alter role lab_service nologin", "authentication"),
        ("alter role lab_service valid until '2020-01-01'", "authentication"),
        ("alter role lab_service connection limit 0", "too_many_connections"),
        ("alter database lab_own allow_connections false", "no_database"),
        ("alter database lab_own connection limit 0", "too_many_connections"),
        ("revoke connect on database lab_own from public", "no_database"),
    ],
    ids=["nologin", "expired", "role-limit", "not-allowed", "database-limit", "connect"],
)
def test_the_hint_of_a_failed_login_lets_the_role_in(pg, fault, kind):
    """Of the diagnosis itself, with the last command of its hint that changes something."""
    login = {"login_user": "lab_service", "login_password": "lab", "login_db": "lab_own"}
    pg.psql("create database lab_own")
    try:
        pg.psql(fault)
        error = pg.measure(**login)["activity"]["error"]
        assert error["kind"] == kind
        (repair,) = [each for each in commands(error["hint"]) if each.startswith(("ALTER", "GRANT"))]
        pg.psql(repair)
        assert pg.measure(**login)["activity"]["reachable"] is True
    finally:
        pg.psql("alter role lab_service login valid until 'infinity' connection limit -1")
        pg.psql("drop database lab_own")


def test_pg_hba_conf(pg):
    """A line that rejects the role, and no line at all."""
    login = {"login_user": "lab_service", "login_password": "lab"}
    path, before = hba_of(pg)
    lines = [line for line in before.splitlines() if not line.startswith("host all all all")]
    try:
        error = write_hba(pg, path, "host all lab_service all reject\n" + before, login, "no_hba_entry")
        assert "reject" in error["message"]
        assert "pg_hba_file_rules" in error["hint"]
        write_hba(pg, path, before, login)
        error = write_hba(pg, path, "\n".join(lines) + "\n", login, "no_hba_entry")
        (line,) = [each for each in commands(error["hint"]) if each.startswith("host ")]
        write_hba(pg, path, "\n".join([*lines, line]) + "\n", login)
    finally:
        write_hba(pg, path, before, {})
