# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pgbouncer

# Of PgBouncer 1.18.
DATABASES = [
    {
        "name": "tracktion", "host": "127.0.0.1", "port": 5432, "database": "tracktion", "force_user": None,
        "pool_size": 1, "min_pool_size": 0, "reserve_pool": 0, "pool_mode": None, "max_connections": 0,
        "current_connections": 1, "paused": 0, "disabled": 1,
    },
    {
        "name": "pgbouncer", "host": None, "port": 6432, "database": "pgbouncer", "force_user": "pgbouncer",
        "pool_size": 2, "min_pool_size": 0, "reserve_pool": 0, "pool_mode": "statement", "max_connections": 0,
        "current_connections": 0, "paused": 0, "disabled": 0,
    },
]  # fmt: skip
POOLS = [
    {
        "database": "tracktion", "user": "tracktion_user", "cl_active": 1, "cl_waiting": 2, "cl_active_cancel_req": 0,
        "sv_active": 1, "sv_idle": 0, "sv_used": 0, "sv_tested": 0, "sv_login": 0, "maxwait": 3, "maxwait_us": 500000,
        "pool_mode": "transaction",
    },
    {
        "database": "pgbouncer", "user": "pgbouncer", "cl_active": 1, "cl_waiting": 0, "cl_active_cancel_req": 0,
        "sv_active": 0, "sv_idle": 0, "sv_used": 0, "sv_tested": 0, "sv_login": 0, "maxwait": 0, "maxwait_us": 0,
        "pool_mode": "statement",
    },
]  # fmt: skip
OPTIONS = {"login_host": "h", "login_port": 6432, "login_user": "u", "login_db": "d", "login_unix_socket": ""}


def test_a_hint_names_the_options_of_the_pooler():
    for prefix in ("", "service_"):
        hint = _pgbouncer.pg_failures.hint_of("authentication", {**OPTIONS, "pooler": prefix})
        assert "`poolers[].%suser` and `poolers[].%spassword`" % (prefix, prefix) in hint
        assert "`login_" not in hint
    assert "Start PgBouncer" in _pgbouncer.pg_failures.hint_of("refused", {**OPTIONS, "pooler": ""})


def test_the_console_is_not_listed():
    databases = _pgbouncer.list_databases(DATABASES, "a:6432")
    (database,) = databases
    assert (database["name"], database["disabled"], database["max_connections"]) == ("tracktion", True, None)
    (pool,) = _pgbouncer.list_pools(POOLS, databases, "a:6432")
    assert (pool["clients_waiting"], pool["wait_seconds"], pool["servers"], pool["pool_size"]) == (2, 3.5, 1, 1)


def test_limits():
    settings = {"max_client_conn": "30", "query_wait_timeout": "120", "pool_mode": "transaction"}
    pools = _pgbouncer.list_pools(POOLS, [], "a:6432")
    found = _pgbouncer.of_settings(settings, pools)
    assert (found["clients"], found["clients_ratio"], found["query_wait_timeout"]) == (3, 0.1, 120.0)


@pytest.mark.parametrize(
    ("kind", "message", "expected", "hint"),
    [
        # The server rejects the pooler, which hands this on.
        ("authentication", 'FATAL:  password authentication failed for user "x"', "pooler", "log of the pooler"),
        ("authentication", "FATAL:  password authentication failed", "authentication", "auth_file"),
        ("authentication", 'FATAL:  role "x" is not permitted to log in', "authentication", "as before"),
        ("no_hba_entry", 'FATAL:  no pg_hba.conf entry for host "h", user "u"', "no_hba_entry", "as before"),
        ("refused", "connection refused", "refused", "as before"),
        ("no_answer", "did not answer within 3.0 s", "no_answer", "SHOW POOLS;"),
    ],
)  # fmt: skip
def test_failure_of_a_login_through_a_pooler(kind, message, expected, hint):
    found = _pgbouncer.of_pooler(CannotConnect(kind, message, "as before"), OPTIONS)
    assert found.kind == expected
    assert hint in found.hint
