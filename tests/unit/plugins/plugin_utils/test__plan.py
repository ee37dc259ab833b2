# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _checks, _judge, _plan
from tests.unit.plugins.plugin_utils.conftest import CHECK, REMEDY, SETTINGS, outcome

NOW = 1_800_000_000.0
QUIET = {"lock": None, "done": [], "unfinished": [], "error": None}
BAD = [{"name": "a", "ready": 500}, {"name": "b", "ready": 20}]
RUN = {"run": "20260101T030000Z-abcdef", "who": "operator@controller"}
CONFIRMED = _plan.Limits(risk="destructive", confirm=["queues.purge:a", "queues.purge:b"])


@pytest.fixture
def planned(make_area):
    """A function that plans for the findings over these queues of the host ``web``."""

    def plan(queues=None, limits=CONFIRMED, journal=None, approved=None, checks=(CHECK,), **remedy):
        area = make_area(checks, [{**REMEDY, **remedy}])
        findings, _counts = _judge.judge("queues", _checks.load(area), "web", outcome(queues or BAD), SETTINGS)
        places = {("web", "queues"): "web"}
        return _plan.actions(findings, limits, places, {"web": journal or QUIET}, NOW, approved)

    return plan


def reasons(actions):
    return {action["target"]: action["reason"] for action in actions}


def test_every_finding_with_a_remedy_is_an_action_the_worst_first(planned):
    actions = planned()
    assert [(action["target"], action["status"]) for action in actions] == [("a", "planned"), ("b", "planned")]
    assert actions[0]["vars"] == {"queues_names": ["a"]}
    assert actions[0]["findings"][0]["id"] == "queues.backlog"


def test_findings_that_ask_for_the_same_of_one_target_are_one_action(planned):
    again = {**CHECK, "id": "queues.full", "critical": "item.ready >= 1", "warning": "item.ready >= 1"}
    (first, _second) = planned(checks=[CHECK, again])
    assert sorted(about["id"] for about in first["findings"]) == ["queues.backlog", "queues.full"]


def test_the_largest_number_counts_where_the_row_says_so(planned):
    row = {"vars": {"limit": "{{ item.ready * 2 }}"}, "target": "queues", "largest": True, "evidence": "x"}
    (action,) = planned(limits=_plan.Limits(risk="destructive", confirm=["queues.purge:queues"]), **row)
    assert action["vars"] == {"limit": 1000}


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (
            _plan.Limits(),
            "it is destructive: set tracktion_remediate_risk: destructive, and tracktion_confirm: ['queues.purge:a']",
        ),
        (
            _plan.Limits(risk="destructive"),
            "it loses data (message) and is not confirmed: set tracktion_confirm: ['queues.purge:a']",
        ),
        (_plan.Limits(risk="destructive", confirm=["queues.purge:a"]), None),
    ],
)
def test_a_refusal_names_the_variable_to_set(planned, limits, reason):
    assert reasons(planned(limits=limits))["a"] == reason


def test_a_target_that_looks_like_a_template_is_confirmed_by_its_evidence(planned):
    """Whoever may declare a queue chooses its name; a line that is copied must not run it."""
    evil = [{"name": "{{ lookup('pipe', 'id') }}", "ready": 500}]
    (action,) = planned(evil)
    assert action["reason"].endswith("tracktion_confirm: ['queues.purge:%s']" % action["evidence"])
    limits = _plan.Limits(risk="destructive", confirm=["queues.purge:" + action["evidence"]])
    assert planned(evil, limits=limits)[0]["status"] == "planned"


def test_what_a_deny_list_names_is_refused(planned):
    assert reasons(planned(deny="item.name == 'a'")) == {"a": "a deny list of the role queues protects it", "b": None}


def test_a_row_that_cannot_be_used_is_refused_with_the_reason(planned):
    assert "the row of queues.purge cannot be used here" in reasons(planned(evidence="{{ item.depth }}"))["a"]


def test_caps_hold_for_a_host_and_the_budget_for_the_run(planned):
    assert reasons(planned(cap=1))["b"] == "one run does this at most 1 times on a host"
    limits = _plan.Limits(risk="destructive", confirm=CONFIRMED.confirm, max_actions=1)
    assert "tracktion_remediate_max_actions" in reasons(planned(limits=limits))["b"]


def test_a_lock_and_a_broken_journal_are_in_the_way(planned):
    lock = {"run": "one", "who": "a@b", "since": NOW - 10, "until": NOW + 100}
    assert "another run is at work on this host: one of a@b" in reasons(planned(journal={**QUIET, "lock": lock}))["a"]
    (action, _other) = planned(journal={**QUIET, "error": "no room"})
    assert (action["reason"], action["blocked"]) == ("no room", True)


def test_what_was_done_a_moment_ago_is_not_done_again(planned):
    done = [{"host": "web", "remedy": "queues.purge", "target": "a", "time": NOW - 60}]
    assert reasons(planned(journal={**QUIET, "done": done}))["a"].startswith("the same was done to a less than 1 h ago")
    assert reasons(planned(journal={**QUIET, "done": done}, cooldown=30))["a"] is None
    elsewhere = [{**done[0], "host": "another, measured from the same place"}]
    assert reasons(planned(journal={**QUIET, "done": elsewhere}))["a"] is None
    limits = _plan.Limits(risk="destructive", confirm=CONFIRMED.confirm, cooldown=0)
    assert reasons(planned(limits=limits, journal={**QUIET, "done": done}))["a"] is None


def test_only_and_skip_know_ids_remedies_patterns_and_fingerprints(planned):
    def targets(**limits):
        return [action["target"] for action in planned(limits=_plan.Limits(**limits))]

    fingerprint = planned()[1]["findings"][0]["fingerprint"]
    assert targets(only=[fingerprint]) == ["b"]
    assert targets(skip=[fingerprint]) == ["a"]
    assert targets(only=["queues.*"], skip=["queues.purge"]) == []
    assert _plan.strangers(["queues.*", "queues.purge", "0123456789abcdef", "queue.*"], ["queues.purge"]) == ["queue.*"]


def approve(actions, **changed):
    plan = {**_plan.document(RUN, actions, NOW, CONFIRMED), **changed}
    return _plan.checked(json.loads(json.dumps(plan)), NOW + 1, 60, "tracktion_plan")


def test_what_was_approved_is_done_with_the_numbers_of_then(planned):
    row = {"vars": {"expected": "{{ item.ready }}"}, "evidence": "{{ item.name }}"}
    plan = approve(planned([BAD[0]], **row))
    more = [{"name": "a", "ready": 900}, BAD[1]]
    (action,) = planned(more, limits=_plan.Limits(), approved=plan, **row)
    assert (action["status"], action["target"], action["vars"]) == ("planned", "a", {"expected": 500})


def test_a_plan_whose_evidence_has_changed_or_gone_is_refused(planned):
    row = {"evidence": "{{ item.ready }}"}
    plan = approve(planned(**row))
    actions = planned([{"name": "a", "ready": 900}], approved=plan, **row)
    assert reasons(actions) == {
        "a": "its evidence has changed since the plan was made: plan again",
        "b": "its evidence is no longer there: nothing is wrong any more",
    }


def test_what_a_plan_refused_is_not_done_by_it(planned):
    plan = approve(planned(limits=_plan.Limits(risk="destructive", confirm=["queues.purge:a"])))
    assert [action["target"] for action in planned(approved=plan)] == ["a"]


def test_a_plan_is_whole_and_young_or_refused(planned):
    with pytest.raises(_plan.BadPlan, match="tracktion_plan: was changed after it was made"):
        approve(planned(), risk="safe")
    plan = _plan.document(RUN, planned(), NOW, CONFIRMED)
    with pytest.raises(_plan.BadPlan, match="longer ago than tracktion_plan_max_age"):
        _plan.checked(plan, NOW + 100, 60, "tracktion_plan")
    with pytest.raises(_plan.BadPlan, match="is not a plan of this version"):
        _plan.checked({"schema": "another"}, NOW, 60, "tracktion_plan")
    for text in ("{", "no plan"):
        with pytest.raises(_plan.BadPlan, match="tracktion_plan: is not a plan"):
            _plan.from_text(text, "tracktion_plan")


def test_a_plan_as_one_word_has_no_braces_and_comes_back_as_it_was(planned):
    plan = _plan.document(RUN, planned([{"name": "{{ x }}", "ready": 500}]), NOW, CONFIRMED)
    word = _plan.as_text(plan)
    assert "{" not in word
    assert _plan.from_text(word, "tracktion_plan") == json.loads(json.dumps(plan))
