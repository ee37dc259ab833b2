# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _redact
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_sessions


def session(pid, blocked_by=(), wait_seconds=None, **fields):
    """Return a session as the query does."""
    found = dict.fromkeys((*_pg_sessions.IDENTITY, "lock_type", "lock_mode", "lock_relation", "leader_pid"))
    found.update(
        pid=pid, blocked_by=list(blocked_by), wait_seconds=wait_seconds, state="active", backend_type="client backend"
    )
    return {**found, **fields}


def chains(*sessions, prepared=()):
    return {
        chain["pid"]: (chain["waiting"], chain["waiting_directly"])
        for chain in _pg_sessions.find_blocking(list(sessions), list(prepared), 20)
    }


def test_no_session_waits():
    assert chains(session(1), session(2)) == {}


def test_a_chain_has_one_root():
    assert chains(session(1), session(2, [1]), session(3, [2]), session(4, [3, 2])) == {1: (3, 1)}


def test_a_session_behind_two_roots_counts_for_both():
    assert chains(session(1), session(2), session(3, [1, 2]), session(4, [3])) == {1: (2, 1), 2: (2, 1)}


def test_the_root_with_most_waiting_sessions_comes_first():
    found = _pg_sessions.find_blocking(
        [session(1), session(2, [1], 9.0), session(5), session(6, [5], 1.0), session(7, [5], 2.0)], [], 20
    )
    assert [(chain["pid"], chain["longest_wait_seconds"]) for chain in found] == [(5, 2.0), (1, 9.0)]
    assert [waiter["pid"] for waiter in found[0]["waiters"]] == [7, 6]


def test_a_cycle_is_represented_by_the_session_that_waits_longest():
    sessions = [session(1, [2], 1.0), session(2, [1], 5.0), session(3, [1], 0.5)]
    (chain,) = _pg_sessions.find_blocking(sessions, [], 20)
    assert (chain["pid"], chain["waiting"], chain["in_circle"]) == (2, 2, True)


def test_a_parallel_worker_counts_as_its_leader():
    assert chains(session(1), session(2, [1]), session(20, [1], leader_pid=2)) == {1: (1, 1)}


def test_a_prepared_transaction_is_a_root_without_a_session():
    (chain,) = _pg_sessions.find_blocking([session(3, [0], 2.0)], [{"gid": "a"}, {"gid": "b"}], 20)
    assert (chain["pid"], chain["waiting"], chain["prepared_gids"], chain["safe_action"]) == (
        0,
        1,
        ["a", "b"],
        "resolve",
    )
    assert chain["user"] is None


def test_a_blocker_that_is_gone_is_still_counted():
    (chain,) = _pg_sessions.find_blocking([session(3, [77], 2.0)], [], 20)
    assert (chain["pid"], chain["waiting"], chain["safe_action"]) == (77, 1, "unknown")


def test_waiters_are_bounded_and_counted():
    (chain,) = _pg_sessions.find_blocking([session(1)] + [session(n, [1], float(n)) for n in range(2, 50)], [], 5)
    assert chain["waiting"] == 48
    assert [waiter["pid"] for waiter in chain["waiters"]] == [49, 48, 47, 46, 45]


@pytest.mark.parametrize(
    ("fields", "action"),
    [
        ({"state": "active"}, "cancel"),
        ({"state": "idle in transaction"}, "terminate"),
        ({"state": "idle in transaction (aborted)"}, "terminate"),
        # It holds a session-level advisory lock.
        ({"state": "idle"}, "terminate"),
        ({"backend_type": "autovacuum worker", "state": "active"}, "wait"),
        ({"backend_type": "walsender", "state": "active"}, "wait"),
        ({"backend_type": None, "state": None}, "unknown"),
    ],
)
def test_least_harmful_action(fields, action):
    assert _pg_sessions.safe_action(1, session(1, **fields)) == action


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("ALTER ROLE a PASSWORD 'se''cret'", "ALTER ROLE a PASSWORD '***'"),
        ("create user a with encrypted password E'secret' login", "create user a with encrypted password '***' login"),
        ("ALTER ROLE a PASSWORD 'cut off in the mid", "ALTER ROLE a PASSWORD '***'"),
        ("ALTER ROLE a PASSWORD $$secret$$;", "ALTER ROLE a PASSWORD '***';"),
        ("UPDATE users SET password = 'secret' WHERE id = 1", "UPDATE users SET password = '***' WHERE id = 1"),
        ("SELECT password FROM users WHERE name = 'a'", "SELECT password FROM users WHERE name = 'a'"),
        (None, None),
    ],
)
def test_passwords_are_hidden(query, shown):
    assert _redact.hide_passwords(query) == shown


@pytest.mark.parametrize(
    ("query", "muted"),
    [
        ("select 1 /* no-alert */", True),
        ("/* nightly; no-alert: takes an hour */ select 1", True),
        ("select 1 -- no-alert", True),
        ("select /* a */ 'no-alert' /* b */", False),
        ("select 'no-alert'", False),
        ("select 1 -- a comment\n, 'no-alert'", False),
    ],
)
def test_only_a_comment_mutes(query, muted):
    """The server applies the pattern. It has the same meaning in Python."""
    assert bool(re.search(_pg_sessions.MUTE_PATTERN, query)) is muted
