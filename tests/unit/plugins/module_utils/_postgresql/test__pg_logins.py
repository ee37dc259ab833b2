# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_logins

ROLE = {
    "role": "app", "may_log_in": True, "superuser": False, "connection_limit": None, "valid_until": None,
    "valid_seconds": None, "denied_databases": [],
}  # fmt: skip


class Client:
    role = "monitor"

    def __init__(self, *rows):
        self.found = rows

    def rows(self, _sql, parameters):
        self.parameters = parameters
        return [dict(row) for row in self.found]


def session(user="app", start=100.0, kind="client backend"):
    return {"user": user, "database": "music", "backend_start": start, "backend_type": kind}


def logins(*rows, sessions=(), service_roles=()):
    found = _pg_logins.read_logins(Client(*rows), sessions, list(service_roles), 20)
    return {row["role"]: row for row in found["logins"]}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "none"),
        ({"may_log_in": False}, "no_login"),
        ({"connection_limit": 0}, "limit"),
        ({"connection_limit": 0, "superuser": True}, "none"),
        ({"connection_limit": 3}, "none"),
        ({"denied_databases": ["music"]}, "connect"),
    ],
)
def test_obstacle(change, expected):
    assert logins({**ROLE, **change})["app"]["obstacle"] == expected


def test_a_role_of_a_service_that_does_not_exist():
    row = logins(service_roles=["gone"])["gone"]
    assert (row["obstacle"], row["in_use"], row["sessions"], row["denied_databases"]) == ("missing", True, 0, [])


def test_a_session_may_have_begun_before_the_time_was_set():
    expired = {**ROLE, "valid_until": 200.0, "valid_seconds": -50.0}
    row = logins(expired, sessions=[session(start=300.0), session(start=None)])["app"]
    assert (row["logged_in_since"], row["sessions"], row["in_use"]) == (False, 2, True)


def test_the_own_role_has_just_logged_in():
    expired = {**ROLE, "role": "monitor", "valid_until": 200.0, "valid_seconds": -50.0}
    assert logins(expired)["monitor"]["logged_in_since"] is True


def test_a_background_worker_does_not_log_in():
    row = logins(ROLE, sessions=[session(kind="logical replication worker")])["app"]
    assert (row["sessions"], row["in_use"]) == (0, False)


def test_those_with_an_obstacle_come_first():
    soon = {**ROLE, "role": "soon", "valid_seconds": 5.0, "valid_until": 500.0}
    closed = {**ROLE, "role": "closed", "may_log_in": False}
    assert list(logins(ROLE, soon, closed)) == ["closed", "soon", "app"]
