# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile data in all outputs: it cannot move the cursor, hide text, or imitate a line of the report."""

from __future__ import annotations

import json
import re

import pytest

from ansible.errors import AnsibleActionFail
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _fleet,
    _inert,
    _lines,
    _plan,
    _report,
    _report_file,
    _terminal,
    _terminal_plan,
    _tuning,
)
from tests.unit.plugins.hostile import FORGED, TEXT, unsafe
from tests.unit.plugins.plugin_utils import fleet

# Fields of a few words of our own.
OURS = ("status", "risk", "data_loss", "outcome", "before", "after", "change", "schema", "blocked", "changed")


def poisoned(value, field=None):
    if isinstance(value, str):
        return value if field in OURS else value + TEXT
    if isinstance(value, list):
        return [poisoned(each, field) for each in value]
    if isinstance(value, dict):
        # Names of the row's fields and of a role's variables.
        keys = field in ("observed", "threshold", "vars", "result")
        return {key + TEXT if keys else key: poisoned(each, key) for key, each in value.items()}
    return value


def assert_inert(text):
    assert "\\u202e" in text
    assert not unsafe(text)
    # Headings are indented by 2 spaces, labels by 6, continued text by more.
    assert not re.search("^ {0,7}%s" % FORGED, text, re.MULTILINE)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function that builds a report about a number of hosts with findings of every kind."""
    small = fleet.Fleet(tmp_path_factory.mktemp("areas"), areas=fleet.AREAS[:3])

    def build(number):
        hosts = fleet.shared_database(fleet.names(number), 3)
        hosts[fleet.names(number)[0]]["cache"] = {**fleet.things(), "things": None, "unknown": []}
        if number > 1:
            hosts["gone"] = {"unreachable": True, "msg": "ssh: Connection refused"}
        return poisoned(small.report(hosts))

    return build


@pytest.mark.parametrize("hosts", [1, 4])
@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("render", [_terminal.render, _fleet.render, _lines.render])
def test_reports_are_inert(made, render, colour, hosts):
    assert_inert(render(made(hosts), colour=colour, path="/reports" + TEXT))


def test_the_summary_for_set_stats_is_inert(made):
    summary = _terminal.cleaned(_report.summary(made(3)))
    assert not unsafe(json.dumps(summary, ensure_ascii=False))


ACTION = {
    "action": "a", "host": "web", "remedy": "cache.empty", "title": "t", "risk": "safe", "data_loss": "none",
    "target": "x", "does": "empties `x`", "vars": {"name": "x"}, "evidence": "e", "status": "planned", "reason": None,
    "blocked": False, "findings": [{"id": "cache.full", "object": "x", "fingerprint": "f"}], "outcome": None,
    "message": None, "undo": None,
}  # fmt: skip
UNFINISHED = {"remedy": "cache.empty", "host": "web", "target": "x", "run": "r", "who": "w", "time": 0.0}


@pytest.mark.parametrize("colour", [True, False])
def test_plans_and_outcomes_are_inert(colour):
    refused = dict(ACTION, status="refused", reason="no")
    lines = _terminal_plan.plan(
        poisoned([ACTION, refused]), poisoned([UNFINISHED]), _plan.Limits(), True, False, "/plan" + TEXT
    )
    assert_inert(_terminal_plan.painted(lines, colour))
    changed = {"id": "cache.full", "host": "web", "object": "x", "fingerprint": "f", "summary": "s"}
    remediation = {
        "run": "r",
        "who": "w",
        "check_mode": False,
        "measured_again": ["web"],
        "not_measured_again": 1,
        "actions": [dict(ACTION, outcome="failed", message="m", undo="redis-cli set x"), refused],
        "changes": [{**changed, "before": "critical", "after": "ok", "change": "fixed"}],
        "unfinished": [UNFINISHED],
    }
    assert_inert(_terminal_plan.painted(_terminal_plan.outcome(poisoned(remediation)), colour))


@pytest.mark.parametrize("colour", [True, False])
def test_the_report_of_tuned_hosts_is_inert(colour):
    parameter = {
        "key": "k",
        "before": "1",
        "after": "2",
        "persisted_before": None,
        "persisted_after": "2",
        "file": "/etc/sysctl.d/a.conf",
    }
    hosts = [
        {"name": "web", "status": "changed", "reason": None, "parameters": [parameter]},
        {"name": "db", "status": "failed", "reason": "no", "parameters": []},
    ]
    report = _tuning.build(poisoned(hosts), False, "1.2.3", "2026-11-20T10:00:00Z")
    assert_inert(_tuning.render(report, colour=colour, path="/reports" + TEXT))


def test_errors_and_messages_of_actions_are_inert():
    class Action:
        @_inert.inert
        def fail(self, tmp=None, task_vars=None):
            try:
                raise ValueError("cause " + TEXT)
            except ValueError as exc:
                raise AnsibleActionFail("message " + TEXT) from exc

        @_inert.inert
        def end(self, tmp=None, task_vars=None):
            return {"msg": "message " + TEXT, "module_stderr": "first\nlast\x1b", "failed": True}

    with pytest.raises(AnsibleActionFail) as failure:
        Action().fail()
    assert not unsafe(str(failure.value))
    assert str(failure.value).count("cause ") == 1
    result = Action().end()
    assert not unsafe(result["msg"])
    assert result["module_stderr"] == "first\nlast\\x1b"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("\x1b\x7f\x9b\u202e\u2028é", "\x1b\x7f\x9b\u202e\u2028é"),
        ("Mot\udcf6.log", "Mot\\udcf6.log"),
        ("\ud83d\ude00 \U0001f600", "\U0001f600 \U0001f600"),
        ("\ude00\ud83d \U0001f600", "\\ude00\\ud83d \U0001f600"),
        ([float("inf"), float("-inf"), float("nan"), 1.5], [None, None, None, 1.5]),
        ({1: {"a"}, None: b"x"}, {"1": "{'a'}", "None": "b'x'"}),
        ([10**5000], [None]),
        (("a", True), ["a", True]),
    ],
)
def test_json_is_printable_ascii_and_valid_for_any_data(value, read):
    text = _report_file.as_json({"value": value})
    assert text.replace("\n", "").isascii()
    assert text.replace("\n", "").isprintable()
    assert json.loads(text, parse_constant=pytest.fail) == {"value": read}


def test_json_of_data_that_contains_itself_ends():
    circle: dict = {}
    circle["self"] = circle
    assert "(too deep)" in _report_file.as_json(circle)
