# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _pg_end_sessions

SESSION = {
    "pid": 7,
    "backend_start": 1763900000.123456,
    "transaction_start": 1763900100.5,
    "state_start": 1763900200.25,
}
NAMED = {"pid": 7, "backend_start": 1763900000.123456, "transaction_start": None, "state_start": None}


@pytest.mark.parametrize(
    ("criteria", "option"),
    [({}, "pids"), ({"min_age": 60}, "pids"), ({"states": ["idle"]}, "min_age")],
)
def test_criteria_without_names_are_rejected(criteria, option):
    with pytest.raises(BadOption) as raised:
        _pg_end_sessions.check_criteria({"pids": [], "states": [], "min_age": None, **criteria})
    assert option in str(raised.value)


@pytest.mark.parametrize("criteria", [{"pids": [NAMED]}, {"states": ["idle"], "min_age": 0.0}])
def test_criteria_with_names_are_accepted(criteria):
    _pg_end_sessions.check_criteria({"pids": [], "states": [], "min_age": None, **criteria})


@pytest.mark.parametrize(
    ("named", "same"),
    [
        ({}, True),
        ({"pid": 8}, False),
        ({"backend_start": 1763900000.124}, False),
        # A number after JSON and a template.
        ({"backend_start": float("1763900000.1234560")}, True),
        ({"transaction_start": 1763900100.5}, True),
        ({"transaction_start": 1763900101.5}, False),
        ({"state_start": 1763900200.25}, True),
        ({"state_start": 1763900200.26}, False),
    ],
)
def test_a_session_is_identified_by_all_given_times(named, same):
    assert _pg_end_sessions.is_named(SESSION, {**NAMED, **named}) is same


def test_a_session_whose_transaction_is_over_is_not_identified():
    assert not _pg_end_sessions.is_named({**SESSION, "transaction_start": None}, {**NAMED, "transaction_start": 1.0})


@pytest.mark.parametrize(
    ("mode", "state", "signal"),
    [
        ("cancel_then_terminate", "active", "cancel"),
        ("cancel_then_terminate", "idle in transaction", "terminate"),
        ("cancel", "active", "cancel"),
        ("cancel", "idle in transaction", None),
        ("terminate", "active", "terminate"),
    ],
)
def test_first_signal_by_mode_and_state(mode, state, signal):
    (planned,) = _pg_end_sessions.plan([{**SESSION, "state": state}], {"mode": mode, "max_sessions": 10})
    assert planned["signal"] == signal
    assert planned["result"] == ("planned" if signal else "nothing_to_cancel")


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"waits_for_standby": True}, "waits_for_standby"),
        ({"waits_for_standby": True, "named": {"blocking": True}}, "waits_for_standby"),
        ({"waits_for_lock": True}, "waits_for_lock"),
        ({"waits_for_lock": True, "named": {"blocking": False}}, "waits_for_lock"),
        ({"waits_for_lock": True, "named": {"blocking": True}}, "planned"),
        ({"may_signal": False}, "not_permitted"),
    ],
)
@pytest.mark.parametrize("mode", ["cancel", "cancel_then_terminate", "terminate"])
def test_sessions_that_are_left_alone(fields, result, mode):
    options = {"mode": mode, "max_sessions": 10}
    (planned,) = _pg_end_sessions.plan([{**SESSION, "state": "active", **fields}], options, "monitor")
    assert planned["result"] == result
    assert (planned["signal"] is None) == (result != "planned")


def test_sessions_that_are_left_alone_take_no_place_of_others():
    found = [{**SESSION, "pid": pid, "state": "active", "waits_for_lock": pid < 5} for pid in range(6)]
    (planned,) = _pg_end_sessions.plan(found, {"mode": "cancel", "max_sessions": 1})
    assert planned["pid"] == 5


def test_a_plan_is_bounded():
    found = [{**SESSION, "pid": pid, "state": "active"} for pid in range(5)]
    assert len(_pg_end_sessions.plan(found, {"mode": "cancel", "max_sessions": 3})) == 3


@pytest.mark.parametrize(
    ("signal", "remaining", "over"),
    [
        ("terminate", [], True),
        ("terminate", [{}], False),
        ("terminate", [{"backend_start": 1763999999.0}], True),
        ("cancel", [{}], False),
        ("cancel", [{"transaction_start": None}], True),
        ("cancel", [{"transaction_start": 1763900500.0}], True),
        ("cancel", [{"state": "idle in transaction (aborted)"}], True),
        # The query is cancelled, but the transaction is still open.
        ("cancel", [{"state": "idle in transaction"}], False),
    ],
)
def test_when_a_session_is_over(signal, remaining, over):
    rows = [{**SESSION, "state": "active", **changes} for changes in remaining]
    assert _pg_end_sessions.is_over({**SESSION, "signal": signal}, rows) is over


def test_a_result_holds_failures():
    session = {**SESSION, "user": "u", "database": "d", "application": "a", "state": "active", "signal": "cancel"}
    ended = {**session, "result": "ended", "message": None}
    remains = {**session, "pid": 8, "result": "remains", "message": "still there"}
    result = _pg_end_sessions.as_result([ended, remains], [ended, remains])
    assert result["failed"]
    assert result["changed"]
    assert "1 of 2" in result["msg"]
    assert "pid 8: still there" in result["msg"]
    assert result["diff"]["after"]["sessions"] == ["8 u@d a: active"]
    assert "failed" not in _pg_end_sessions.as_result([ended], [ended])
    gone = {**session, "result": "gone", "message": None}
    assert _pg_end_sessions.as_result([gone], [gone])["changed"] is False
