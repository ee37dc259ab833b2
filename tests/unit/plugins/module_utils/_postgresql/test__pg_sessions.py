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
    found = dict.fromkeys((*_pg_sessions.IDENTITY, "lock_type", "lock_mode", "lock_relation", "leader_pid", "vacuum"))
    found.update(
        pid=pid, blocked_by=list(blocked_by), wait_seconds=wait_seconds, state="active", backend_type="client backend",
        held_modes=[], held_by_prepared=[],
    )  # fmt: skip
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


PREPARED = [{"gid": "a", "xid": "700"}, {"gid": "b", "xid": "701"}]


def test_a_prepared_transaction_is_a_root_without_a_session():
    """Both are named if it is not known which one holds the lock."""
    (chain,) = _pg_sessions.find_blocking([session(3, [0], 2.0)], PREPARED, 20)
    assert (chain["pid"], chain["waiting"], chain["prepared_gids"], chain["safe_action"]) == (
        0,
        1,
        ["a", "b"],
        "resolve",
    )
    assert chain["user"] is None


@pytest.mark.parametrize(
    ("fields", "gids"),
    [
        ({"lock_type": "transactionid", "lock_mode": "ShareLock", "held_by_prepared": ["701 ExclusiveLock"]}, [["b"]]),
        (
            {
                "lock_type": "relation",
                "lock_mode": "RowExclusiveLock",
                "held_by_prepared": ["700 RowExclusiveLock", "701 ShareLock"],
            },
            [["b"]],
        ),
        (
            {
                "lock_type": "relation",
                "lock_mode": "AccessExclusiveLock",
                "held_by_prepared": ["700 RowExclusiveLock", "701 ShareLock"],
            },
            [["a"], ["b"]],
        ),
    ],
)
def test_the_prepared_transaction_that_holds_the_lock(fields, gids):
    found = _pg_sessions.find_blocking([session(3, [0], 2.0, **fields)], PREPARED, 20)
    assert sorted(chain["prepared_gids"] for chain in found) == gids
    assert {chain["pid"] for chain in found} == {0}
    assert all(waiter["blocked_by"] == [0] for chain in found for waiter in chain["waiters"])


ON_TABLE = {"lock_type": "relation", "lock_relation": "public.t"}
REQUEST = {**ON_TABLE, "lock_mode": "AccessExclusiveLock", "held_modes": ["AccessShareLock"]}
READ = {**ON_TABLE, "lock_mode": "AccessShareLock", "held_modes": ["AccessShareLock"]}


def queues(*sessions):
    found = _pg_sessions.find_lock_queues(list(sessions), [], 20)
    return {queue["pid"]: sorted(waiter["pid"] for waiter in queue["waiters"]) for queue in found}


@pytest.mark.parametrize(
    ("sessions", "expected", "queued"),
    [
        # A reader behind a request for an exclusive lock, and a session behind that reader.
        ([session(2, [1], 9.0, **REQUEST), session(3, [2], 2.0, **READ), session(4, [3])], {2: [3, 4]}, 2),
        # A request without a queue.
        ([session(2, [1], 9.0, **REQUEST)], {}, 0),
        # The holder conflicts with the reader too.
        (
            [
                session(2, [1], 9.0, **REQUEST),
                session(3, [1, 2], 2.0, **{**READ, "held_modes": ["AccessExclusiveLock"]}),
            ],
            {},
            0,
        ),
        # Two requests ahead of a reader: both have to be cancelled.
        (
            [session(2, [1], 9.0, **REQUEST), session(3, [1, 2], 5.0, **REQUEST), session(4, [2, 3], 2.0, **READ)],
            {2: [3, 4], 3: [4]},
            1,
        ),
        # Rows are no queue: the next waiter needs the same row.
        (
            [
                session(2, [1], 9.0, lock_type="transactionid", lock_mode="ShareLock", held_modes=["ExclusiveLock"]),
                session(3, [2], 2.0, lock_type="tuple", lock_mode="ExclusiveLock", held_modes=["ExclusiveLock"]),
            ],
            {},
            0,
        ),
    ],
)
def test_sessions_that_only_queue_behind_a_request(sessions, expected, queued):
    sessions = [session(1, state="idle in transaction"), *sessions]
    assert queues(*sessions) == expected
    (chain,) = [each for each in _pg_sessions.find_blocking(sessions, [], 20) if each["pid"] == 1]
    assert (chain["queued"], chain["queue_heads"]) == (queued, len(expected))


def test_conflicts_of_lock_modes_are_symmetric():
    modes = _pg_sessions.CONFLICTS
    assert all((one in modes[other]) == (other in modes[one]) for one in modes for other in modes)
    assert sum(len(others) for others in modes.values()) == 1 + 2 + 4 + 5 + 5 + 6 + 7 + 8


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"wait_event_type": "Lock", "wait_event": "relation"}, "lock"),
        ({"wait_event_type": "IPC", "wait_event": "SyncRep"}, "synchronous standby"),
        ({"wait_event_type": "IO", "wait_event": "DataFileRead"}, "disk"),
        ({"wait_event_type": "Client", "wait_event": "ClientWrite"}, "client"),
        ({"wait_event_type": "Client", "wait_event": "ClientRead", "state": "idle in transaction"}, None),
        ({"wait_event_type": "LWLock", "wait_event": "WALWrite"}, None),
        ({}, None),
    ],
)
def test_what_a_session_waits_for(fields, expected):
    assert _pg_sessions.waits_for(session(1, **fields)) == expected


def test_a_commit_that_waits_for_a_standby_is_not_cancelled():
    root = session(1, waits_for="synchronous standby")
    (chain,) = _pg_sessions.find_blocking([root, session(2, [1], 2.0)], [], 20)
    assert chain["safe_action"] == "standby"


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
