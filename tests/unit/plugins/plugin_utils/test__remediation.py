# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import time

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _outcome, _remediation, _runs, _terminal_plan

ACTION = {
    "action": "1",
    "host": "web",
    "remedy": "queues.purge",
    "risk": "destructive",
    "data_loss": "message",
    "target": "a",
    "does": "empties a",
    "vars": {"name": "a"},
    "evidence": "e",
    "settle": 6,
    "cooldown": 60,
    "result": ["before", "path"],
    "undo": "replay {{ result.path }} on {{ host }}",
    "findings": [{"id": "queues.backlog", "object": "a", "fingerprint": "f", "status": "critical"}],
}
RUN = {"run": "one", "who": "operator@controller"}


def finding(check_id, status, host="web", name="a", area="queues"):
    fingerprint = "%s %s %s" % (check_id, host, name)
    return {
        "id": check_id, "host": host, "object": name, "status": status, "area": area, "fingerprint": fingerprint,
        "summary": "s",
    }  # fmt: skip


def changes(before, after, hosts=("web",)):
    made = _remediation.changes(before, after, set(hosts))
    return {(entry["id"], entry["object"]): entry["change"] for entry in made}


def test_each_finding_is_fixed_better_still_there_worse_or_new():
    before = {"q.a": "critical", "q.b": "critical", "q.c": "warning", "q.d": "warning"}
    after = {"q.b": "warning", "q.c": "warning", "q.d": "critical", "q.e": "info"}
    found = changes(*([finding(check, status) for check, status in each.items()] for each in (before, after)))
    assert {check: change for (check, _object), change in found.items()} == {
        "q.a": "fixed",
        "q.b": "better",
        "q.c": "still there",
        "q.d": "worse",
        "q.e": "new",
    }


def test_a_finding_that_cannot_be_measured_again_is_not_fixed():
    before = [finding("q.a", "critical"), finding("q.b", "warning")]
    assert changes(before, [finding("q.a", "unknown", name=None)])[("q.a", "a")] == "unknown"
    dead = changes(before, [finding("host.unreachable", "critical", name=None, area="host")])
    assert dead[("q.a", "a")] == dead[("q.b", "a")] == "unknown"


def test_hosts_without_an_action_have_no_before_and_after():
    assert changes([finding("q.a", "critical", host="other")], []) == {}


def test_the_worst_change_comes_first():
    before, after = [finding("q.a", "warning")], [finding("q.b", "warning")]
    assert [entry["change"] for entry in _remediation.changes(before, after, {"web"})] == ["new", "fixed"]


def test_an_entry_of_the_log_has_only_the_fields_of_the_row():
    result = {"changed": True, "before": {"ready": 5}, "path": "/x", "login_password": "hunter2"}
    entry = _outcome.entry(RUN, ACTION, result)
    assert entry["result"] == {"before": {"ready": 5}, "path": "/x"}
    assert (entry["outcome"], entry["undo"]) == ("changed", "replay /x on web")
    assert "hunter2" not in str(entry)
    assert _outcome.entry(RUN, ACTION, result, check_mode=True)["undo"] is None
    assert "outcome" not in _outcome.entry(RUN, ACTION)


def test_a_remedy_that_failed_after_a_change_has_an_undo_command():
    entry = _outcome.entry(RUN, ACTION, {"failed": True, "changed": True, "msg": "no  luck", "path": "/x"})
    assert (entry["outcome"], entry["message"], entry["undo"]) == ("failed", "no luck", "replay /x on web")


def test_a_large_result_is_cut():
    entry = _outcome.entry(RUN, ACTION, {"before": [{"x": "y" * 500}] * 1000, "path": "/x"})
    assert entry["result"] == {"before": "(left out: too large)", "path": "/x"}
    assert len(_outcome.bounded(list(range(1000)))) == 50


@pytest.mark.parametrize(
    ("result", "outcome"),
    [({"changed": True}, "changed"), ({}, "ok"), ({"failed": True}, "failed"), ({"unreachable": True}, "unreachable")],
)
def test_an_outcome_is_one_word(result, outcome):
    assert _outcome.outcome_of(result) == outcome


def test_after_a_failure_only_safe_actions_go_on():
    failed = {**ACTION, "outcome": "failed"}
    assert "failed on this host" in _outcome.reason_to_stop(ACTION, [failed], 5)
    assert _outcome.reason_to_stop({**ACTION, "host": "other"}, [failed], 2) is None
    assert "max_failures" in _outcome.reason_to_stop({**ACTION, "host": "other"}, [failed], 1)
    assert _outcome.reason_to_stop({**ACTION, "risk": "safe"}, [failed], 1) is None
    assert _outcome.reason_to_stop(ACTION, [{**ACTION, "outcome": "changed"}], 1) is None


def test_the_wait_is_for_the_last_effect():
    done = [{**ACTION, "outcome": "changed", "time": 100.0}, {**ACTION, "outcome": "ok", "time": 200.0}]
    assert _outcome.unsettled_seconds(done, 102.0) == 4.0
    assert _outcome.unsettled_seconds([], 0.0) == 0.0


def test_a_run_of_this_controller_is_dead_when_its_process_has_ended():
    process = subprocess.Popen(["sleep", "60"])
    lock = {"controller": _runs.controller(), "pid": process.pid, "pid_start": _runs.pid_start(process.pid)}
    assert not _runs.is_dead(lock)
    assert _runs.is_dead({**lock, "pid_start": lock["pid_start"] - 1}), "another process has its number"
    assert not _runs.is_dead({**lock, "controller": "elsewhere"}), "cannot be known from here"
    process.kill()
    process.wait()
    assert _runs.is_dead(lock)


def test_a_run_has_the_user_who_started_it(monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert _runs.who({}).endswith("@" + os.uname().nodename)
    assert _runs.who({"awx_job_id": 7, "awx_user_name": "ann"}) == "ann (job 7)"
    assert _runs.who({"awx_job_id": 7}) == "schedule (job 7)"
    monkeypatch.setenv("SUDO_USER", "ben")
    assert "(ben)@" in _runs.who({})


def test_an_action_that_was_not_run_is_a_failure():
    proposed = {**ACTION, "title": "t", "status": "planned", "reason": None, "blocked": False}
    plan = {"run": RUN, "proposed": [proposed], "unfinished": []}
    made = _remediation.section(plan, [], [], [], {"web"}, check_mode=False)
    assert made["actions"][0]["outcome"] == "not run"
    assert len(_remediation.failed(made)) == 1
    refused = {"action": "1", "outcome": "refused", "reason": "locked"}
    made = _remediation.section(plan, [refused], [], [], {"web"}, check_mode=False)
    assert (made["actions"][0]["status"], made["actions"][0]["reason"]) == ("refused", "locked")
    assert _remediation.failed(made) == []


def test_times_are_in_utc():
    assert _outcome.clock(0) == "1970-01-01T00:00:00Z"
    assert _outcome.clock(time.time()).endswith("Z")


def remediation(before=(), after=(), hosts=(), check_mode=False, proposed=()):
    plan = {"run": RUN, "proposed": list(proposed), "unfinished": []}
    return _remediation.section(plan, [], list(before), list(after), set(hosts), check_mode)


def last_lines(made):
    return "\n".join(_terminal_plan.outcome(made)[1:]).strip()


BAD = finding("q.a", "critical")
OTHER = finding("q.b", "warning", host="db")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (remediation(), "No finding, and no action."),
        (
            remediation([BAD, OTHER], [BAD, OTHER]),
            "No host had an action, so none was measured again: the 2 findings remain.",
        ),
        (
            remediation([BAD], [BAD]),
            "No host had an action, so none was measured again: the 1 finding remains.",
        ),
        (remediation(hosts=["web"]), "No finding before or after on the 1 host measured again."),
        (
            remediation([OTHER], [OTHER], hosts=["web"]),
            "No finding before or after on the 1 host measured again.\n"
            "The other hosts were not measured again: their 1 finding remains.",
        ),
        (remediation([BAD], [], check_mode=True, hosts=["web"]), ""),
    ],
)
def test_the_last_lines_fit_the_findings(made, expected):
    assert last_lines(made) == expected


def test_hosts_without_an_action_have_a_line_below_the_table():
    text = last_lines(remediation([BAD, OTHER], [OTHER], hosts=["web"]))
    assert text.startswith("Before and after: 1 fixed")
    assert text.endswith("The other hosts were not measured again: their 1 finding remains.")


@pytest.mark.parametrize(
    ("actions", "outcomes", "refused"),
    [
        ([], [], False),
        ([("refused", True)], [], True),
        ([("refused", False)], [], False),
        ([("refused", True), ("refused", False)], [], True),
        ([("refused", True), ("planned", True)], [], False),
        ([("planned", True)], [("0", "refused")], True),
        ([("planned", True), ("planned", True)], [("0", "refused"), ("1", "failed")], False),
        ([("planned", True)], [("0", "changed")], False),
    ],
)
def test_all_approved_actions_were_refused(actions, outcomes, refused):
    proposed = [
        {"action": str(number), "status": status, "approved": approved}
        for number, (status, approved) in enumerate(actions)
    ]
    entries = [{"action": action, "outcome": word} for action, word in outcomes]
    assert _remediation.all_refused(proposed, entries, check_mode=False) is refused
    assert not _remediation.all_refused(proposed, entries, check_mode=True)


def test_the_argument_for_a_plan_can_be_copied():
    planned = {**ACTION, "status": "planned", "reason": None}

    def last(**options):
        return _terminal_plan.plan([planned], [], None, True, True, **options)[-1]

    assert last(written="/p/plan.json") == (
        "Plan written to /p/plan.json; `-e tracktion_plan_file=/p/plan.json` without --check carries it out."
    )
    odd = last(written="/a b/$(x).json")
    assert "'/a b/$(x).json'" in odd
    assert """`-e '{"tracktion_plan_file": "/a b/$(x).json"}'`""" in odd
    awx = last(written="/runner/project/plan.json", awx=True)
    assert awx == "The plan is the artifact tracktion_plan: a job that gets it carries it out."
