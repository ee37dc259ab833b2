# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _pg_activity

LIMITS = {
    "max_connections": 100,
    "superuser_reserved": 3,
    "reserved": 7,
    "max_locks_per_transaction": 64,
    "max_prepared_transactions": 10,
    "locks": 704,
    "roles": {"app": 4, "locked": 0},
    "databases": {"tracktion": 20},
}
CLIENT = {"backend_type": "client backend", "user": "app", "database": "tracktion"}
SENDER = {"backend_type": "walsender", "user": "app", "database": None}
HIDDEN = {"backend_type": None, "user": "other", "database": "tracktion"}


def test_connections_count_clients_and_exclude_reserved_ones():
    found = _pg_activity.count_connections(LIMITS, [CLIENT] * 9 + [SENDER])
    assert (found["limit"], found["used"], found["ratio"]) == (90, 9, 0.1)


def test_connections_are_null_if_sessions_are_hidden():
    for sessions in (None, [CLIENT, HIDDEN]):
        found = _pg_activity.count_connections(LIMITS, sessions)
        assert (found["used"], found["ratio"]) == (None, None)
        limits = {row["name"]: row["used"] for row in _pg_activity.list_limits(LIMITS, found, sessions)}
        # Sessions of a role are counted if none of them is hidden.
        counted = {"app": None, "locked": None} if sessions is None else {"app": 1, "locked": 0}
        assert limits == {"server": None, "tracktion": None, **counted}


def test_hidden_processes_of_the_server_do_not_count_as_connections():
    launcher = {"backend_type": None, "user": "postgres", "database": None}
    autovacuum = {"backend_type": None, "user": None, "database": "tracktion"}
    assert _pg_activity.count_connections(LIMITS, [CLIENT, launcher, autovacuum])["used"] == 1


def test_limits_of_roles_and_databases():
    sessions = [CLIENT, CLIENT, SENDER]
    found = _pg_activity.list_limits(LIMITS, _pg_activity.count_connections(LIMITS, sessions), sessions)
    assert [(row["scope"], row["name"], row["used"], row["ratio"]) for row in found] == [
        ("server", "server", 2, 2 / 90),
        ("database", "tracktion", 2, 0.1),
        ("role", "app", 2, 0.5),
        # A limit of 0 allows no connection: it is used up.
        ("role", "locked", 0, 1.0),
    ]


def test_each_worker_has_its_own_pool():
    pools = [
        {"service": "a", "pool_size": 20, "max_overflow": 30, "workers": 3},
        {"service": "b", "pool_size": 5, "max_overflow": 0, "workers": 1},
    ]
    found = _pg_activity.add_up_pools(pools, 97)
    assert found["services"] == [{"service": "a", "openable": 150}, {"service": "b", "openable": 5}]
    assert (found["openable"], found["ratio"]) == (155, 155 / 97)
    assert _pg_activity.add_up_pools([], 97)["openable"] == 0


def test_lock_table_capacity_includes_prepared_transactions():
    assert _pg_activity.count_locks(LIMITS) == {"held": 704, "capacity": 7040, "ratio": 0.1}
