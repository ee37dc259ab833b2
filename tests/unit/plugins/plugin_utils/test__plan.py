# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import random

import pytest
import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _checks,
    _evaluation,
    _plan,
    _plan_seal,
    _plan_shape,
    _row_cache,
)
from tests.mutations import mutated
from tests.unit.plugins.plugin_utils.conftest import CHECK, REMEDY, SETTINGS, outcome

NOW = 1_800_000_000.0
QUIET = {"lock": None, "done": [], "unfinished": [], "error": None, "problems": []}
BAD = [{"name": "a", "ready": 500}, {"name": "b", "ready": 20}]
RUN = {"run": "20260101T030000Z-abcdef", "who": "operator@controller"}
KEY = b"a key of controllers"
CONFIRMED = _plan.Limits(risk="destructive", confirm=["queues.purge:a", "queues.purge:b"])


@pytest.fixture
def planned(make_area):
    """A function that plans for the findings over these queues of the host ``web``."""

    def plan(queues=None, limits=CONFIRMED, journal=None, approved=None, checks=(CHECK,), **remedy):
        area = make_area(checks, [{**REMEDY, **remedy}])
        findings, _counts = _evaluation.evaluate("queues", _checks.load(area), "web", outcome(queues or BAD), SETTINGS)
        probe_hosts = {("web", "queues"): "web"}
        return _plan.actions(findings, limits, probe_hosts, {"web": journal or QUIET}, NOW, approved)

    return plan


def reasons(actions):
    return {action["target"]: action["reason"] for action in actions}


def test_every_finding_with_a_remedy_is_an_action_the_worst_first(planned):
    actions = planned()
    assert [(action["target"], action["status"]) for action in actions] == [("a", "planned"), ("b", "planned")]
    assert actions[0]["vars"] == {"queues_names": ["a"]}
    assert actions[0]["findings"][0]["id"] == "queues.backlog"


def test_findings_with_the_same_remedy_and_target_are_one_action(planned):
    again = {**CHECK, "id": "queues.full", "critical": "item.ready >= 1", "warning": "item.ready >= 1"}
    (first, _second) = planned(checks=[CHECK, again])
    assert sorted(about["id"] for about in first["findings"]) == ["queues.backlog", "queues.full"]


def test_the_largest_number_is_used_if_the_row_says_so(planned):
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
    """Users who declare queues choose their names: a copied line must not execute one."""
    evil = [{"name": "{{ lookup('pipe', 'id') }}", "ready": 500}]
    (action,) = planned(evil)
    assert action["reason"].endswith("tracktion_confirm: ['queues.purge:%s']" % action["evidence"])
    limits = _plan.Limits(risk="destructive", confirm=["queues.purge:" + action["evidence"]])
    assert planned(evil, limits=limits)[0]["status"] == "planned"


def test_a_target_in_a_deny_list_is_refused(planned):
    assert reasons(planned(deny="item.name == 'a'")) == {"a": "a deny list of the role queues protects it", "b": None}


def test_a_row_that_cannot_be_used_is_refused_with_the_reason(planned):
    assert "the row of queues.purge cannot be used here" in reasons(planned(evidence="{{ item.depth }}"))["a"]


def test_caps_hold_for_a_host_and_the_budget_for_the_run(planned):
    assert reasons(planned(cap=1))["b"] == "one run carries this out at most 1 times on a host"
    limits = _plan.Limits(risk="destructive", confirm=CONFIRMED.confirm, max_actions=1)
    assert "tracktion_remediate_max_actions" in reasons(planned(limits=limits))["b"]


def test_a_lock_and_a_broken_journal_refuse_actions(planned):
    lock = {"run": "one", "who": "a@b", "since": NOW - 10, "until": NOW + 100}
    assert (
        "another run holds the lock of this host: one of a@b" in reasons(planned(journal={**QUIET, "lock": lock}))["a"]
    )
    (action, _other) = planned(journal={**QUIET, "error": "no room"})
    assert (action["reason"], action["blocked"]) == ("no room", True)


def test_an_action_is_not_repeated_within_its_cooldown(planned):
    done = [{"host": "web", "remedy": "queues.purge", "target": "a", "time": NOW - 60}]
    assert reasons(planned(journal={**QUIET, "done": done}))["a"].startswith("this was done to a less than 1 h ago")
    assert reasons(planned(journal={**QUIET, "done": done}, cooldown=30))["a"] is None
    elsewhere = [{**done[0], "host": "another, measured from the same place"}]
    assert reasons(planned(journal={**QUIET, "done": elsewhere}))["a"] is None
    limits = _plan.Limits(risk="destructive", confirm=CONFIRMED.confirm, cooldown=0)
    assert reasons(planned(limits=limits, journal={**QUIET, "done": done}))["a"] is None


def test_only_and_skip_match_ids_remedies_patterns_and_fingerprints(planned):
    def targets(**limits):
        return [action["target"] for action in planned(limits=_plan.Limits(**limits))]

    fingerprint = planned()[1]["findings"][0]["fingerprint"]
    assert targets(only=[fingerprint]) == ["b"]
    assert targets(skip=[fingerprint]) == ["a"]
    assert targets(only=["queues.*"], skip=["queues.purge"]) == []
    assert _plan.unmatched(["queues.*", "queues.purge", "0123456789abcdef", "queue.*"], ["queues.purge"]) == ["queue.*"]


def approve(actions, **changed):
    plan = {**_plan.document(RUN, actions, NOW, CONFIRMED, KEY), **changed}
    return _plan.checked(json.loads(json.dumps(plan)), NOW + 1, 60, "tracktion_plan", lambda: KEY)


def test_approved_actions_have_the_numbers_of_the_plan(planned):
    row = {"vars": {"expected": "{{ item.ready }}"}, "evidence": "{{ item.name }}"}
    plan = approve(planned([BAD[0]], **row))
    more = [{"name": "a", "ready": 900}, BAD[1]]
    (action,) = planned(more, limits=_plan.Limits(), approved=plan, **row)
    assert (action["status"], action["target"], action["vars"]) == ("planned", "a", {"expected": 500})


def test_an_action_whose_evidence_is_changed_or_gone_is_refused(planned):
    row = {"evidence": "{{ item.ready }}"}
    plan = approve(planned(**row))
    actions = planned([{"name": "a", "ready": 900}], approved=plan, **row)
    assert reasons(actions) == {
        "a": "its evidence has changed since the plan was made: plan again",
        "b": "its evidence is gone: the finding no longer exists",
    }


def test_refused_actions_of_a_plan_are_not_carried_out(planned):
    plan = approve(planned(limits=_plan.Limits(risk="destructive", confirm=["queues.purge:a"])))
    assert [action["target"] for action in planned(approved=plan)] == ["a"]


def test_an_incomplete_or_old_plan_is_rejected(planned):
    with pytest.raises(_plan.BadPlan, match="tracktion_plan: was changed after it was made"):
        approve(planned(), risk="safe")
    plan = _plan.document(RUN, planned(), NOW, CONFIRMED, KEY)
    with pytest.raises(_plan.BadPlan, match="longer ago than tracktion_plan_max_age"):
        _plan.checked(plan, NOW + 100, 60, "tracktion_plan", lambda: KEY)
    with pytest.raises(_plan.BadPlan, match="is in the future: compare the clocks"):
        _plan.checked(plan, NOW - 1000, 60, "tracktion_plan", lambda: KEY)
    with pytest.raises(_plan.BadPlan, match="is not a plan of this version"):
        _plan.checked({"schema": "another"}, NOW, 60, "tracktion_plan", lambda: KEY)
    for text in ("{", "no plan"):
        with pytest.raises(_plan.BadPlan, match="tracktion_plan: is not a plan"):
            _plan.from_text(text, "tracktion_plan")


def test_a_plan_as_one_word_has_no_braces_and_is_read_back(planned):
    plan = _plan.document(RUN, planned([{"name": "{{ x }}", "ready": 500}]), NOW, CONFIRMED, KEY)
    word = _plan.as_text(plan)
    assert "{" not in word
    assert _plan.from_text(word, "tracktion_plan") == json.loads(json.dumps(plan))


def test_the_seal_covers_every_part_of_a_plan(planned):
    plan = json.loads(json.dumps(_plan.document(RUN, planned(), NOW, CONFIRMED, KEY)))
    assert _plan_seal.fits(plan, KEY)

    def places(value, path=()):
        yield path
        for name in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            yield from places(value[name], (*path, name))

    count = 0
    for path in places(plan):
        if path in ((), ("seal",)):
            continue
        edited = copy.deepcopy(plan)
        inner = edited
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = "forged"
        assert not _plan_seal.fits(edited, KEY), path
        count += 1
    assert count > 60
    for seal in ("", "0" * 64, None, 5, [], "\u00fc", "\ud800"):
        assert not _plan_seal.fits({**plan, "seal": seal}, KEY)
    assert not _plan_seal.fits(plan, b"another key of others")


def test_a_plan_whose_seal_cannot_be_verified_is_rejected(planned):
    plan = _plan.document(RUN, planned(), NOW, CONFIRMED, KEY)
    with pytest.raises(_plan.BadPlan, match=r"sealed with another key; .* set tracktion_plan_key, or the environment"):
        _plan.checked(plan, NOW, 60, "tracktion_plan", lambda: b"another key of others")
    unsealed = _plan.document(RUN, planned(), NOW, CONFIRMED)
    with pytest.raises(_plan.BadPlan, match="tracktion_plan: has no seal, because it was made without a key: set"):
        _plan.checked(unsealed, NOW, 60, "tracktion_plan", lambda: KEY)
    with pytest.raises(_plan.BadPlan, match="its seal cannot be verified: no tracktion_plan_key is set, and"):
        _plan.checked(plan, NOW, 60, "tracktion_plan", lambda: _plan_seal.key("", awx=True))


def test_the_key_of_a_controller_is_created_once_and_is_private(monkeypatch, tmp_path):
    monkeypatch.setattr(_row_cache, "directory", lambda: tmp_path / "home" / "tracktion_ops")
    key = _plan_seal.key(None, awx=False)
    assert len(key) == 64
    assert _plan_seal.key("  ", awx=False) == key
    path = tmp_path / "home" / "tracktion_ops" / "plan.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert _plan_seal.key("0123456789abcdef\n", awx=True) == b"0123456789abcdef"
    with pytest.raises(_plan_seal.NoKey, match="tracktion_plan_key: must have at least 16 characters"):
        _plan_seal.key("short", awx=False)
    path.write_text("x")
    with pytest.raises(_plan_seal.NoKey, match=r"plan\.key is not a key; remove it"):
        _plan_seal.key(None, awx=False)
    path.write_text("0" * 64)
    path.chmod(0o666)
    with pytest.raises(_plan_seal.NoKey, match="chmod go-w"):
        _plan_seal.key(None, awx=False)
    assert KEY.hex() not in _plan_seal.name_of(KEY)


def test_a_plan_with_wrong_types_is_rejected_with_the_name_of_the_option(planned):
    """Also with a valid seal: wrong types raise only BadPlan, and add no action."""
    chance = random.Random(20261128)
    made = planned()
    plan = json.loads(json.dumps(_plan.document(RUN, made, NOW, CONFIRMED, KEY)))
    rejected = []
    for _turn in range(500):
        odd = mutated({key: value for key, value in plan.items() if key != "seal"}, chance)
        if isinstance(odd, dict):
            odd["seal"] = _plan_seal.seal(odd, KEY)
        try:
            approved = _plan.checked(odd, NOW, 60, "tracktion_plan", lambda: KEY)
        except _plan.BadPlan as exc:
            rejected.append(str(exc))
            continue
        known = {action["action"]: action for action in made}
        for action in planned(approved=approved):
            assert action["status"] == "refused" or action["vars"] == known[action["action"]]["vars"]
    assert 300 < len(rejected) < 500
    assert all(text.startswith("tracktion_plan: ") for text in rejected)
    for text in ("[" * 100000, '{"a": Infinity}', "{" * 3, "eA==", "\u00fc", "bnVsbA=="):
        with pytest.raises(_plan.BadPlan, match=r"\Atracktion_plan: "):
            _plan.checked(_plan.from_text(text, "tracktion_plan"), NOW, 60, "tracktion_plan", lambda: KEY)


@pytest.mark.parametrize(
    "forged",
    [
        {"vars": {"name": "other", "expected": 500}},
        {"vars": {"name": "a", "expected": [500]}},
        {"vars": {"name": "a", "expected": True}},
        {"vars": {"name": "a", "expected": 500, "more": 1}},
        {"vars": {"name": "a"}},
        {"vars": {}},
    ],
)
def test_an_action_is_that_of_the_finding_not_of_the_plan(planned, forged):
    row = {"vars": {"name": "{{ item.name }}", "expected": "{{ item.ready }}"}, "evidence": "{{ item.name }}"}
    plan = _plan.document(RUN, planned([BAD[0]], **row), NOW, CONFIRMED, KEY)
    plan["actions"][0].update(forged)
    (action,) = planned([BAD[0]], approved=plan, **row)
    assert action["status"] == "refused"
    assert action["reason"] == "its evidence has changed since the plan was made: plan again"


def test_the_text_of_an_action_is_never_that_of_a_plan(planned):
    row = {"vars": {"name": "{{ item.name }}", "expected": "{{ item.ready }}"}, "evidence": "{{ item.name }}"}
    plan = _plan.document(RUN, planned([BAD[0]], **row), NOW, CONFIRMED, KEY)
    lies = {"does": "nothing", "title": "t", "role": "other.role", "tasks": "evil", "undo": "rm", "target": "other"}
    plan["actions"][0].update(lies)
    (action,) = planned([{"name": "a", "ready": 900}], approved=plan, **row)
    assert action["vars"] == {"name": "a", "expected": 500}
    assert action["does"] == "removes 900 messages of a (as approved: expected 500)"
    assert not set(lies.values()) & {value for value in action.values() if isinstance(value, str)}
    # Such a plan is rejected before.
    problem = _plan_shape.problem(json.loads(json.dumps(plan)))
    assert problem == "actions[0].action: does not belong to its host, remedy and target"


def test_if_the_variables_are_the_evidence_numbers_must_not_differ(planned):
    row = {"vars": {"database": "{{ item.ready }}"}}
    plan = _plan.document(RUN, planned([BAD[0]], **row), NOW, CONFIRMED, KEY)
    plan["actions"][0]["vars"] = {"database": 3}
    assert planned([BAD[0]], approved=plan, **row)[0]["status"] == "refused"


def test_approved_actions_are_marked(planned):
    def approved(**options):
        return [action["approved"] for action in planned(**options)]

    lock = {"run": "one", "who": "a@b", "since": NOW - 10, "until": NOW + 100}
    assert approved() == [True, True]
    assert approved(limits=_plan.Limits()) == [False, False]
    assert approved(limits=_plan.Limits(risk="destructive", confirm=["queues.purge:a"])) == [True, False]
    assert approved(journal={**QUIET, "lock": lock}) == [True, True]
    assert approved(deny="item.name == 'a'") == [False, True]
    plan = approve(planned())
    assert approved(approved=plan, limits=_plan.Limits(), journal={**QUIET, "lock": lock}) == [True, True]
    assert approved(approved=plan, queues=[{"name": "z", "ready": 500}]) == [False, False]


def test_a_summary_is_short_and_has_no_template(planned):
    evil = [{"name": "{{ lookup('pipe', 'id') }}{%x%}{#y#}\x1b[31m\u202e", "ready": 500 + n} for n in range(2)]
    limits = _plan.Limits(risk="destructive", confirm=[_plan.confirmation_of(action) for action in planned(evil)])
    actions = planned(evil, limits=limits)
    summary = _plan.summary(actions)
    assert (summary["planned"], summary["refused"], summary["actions_left_out"]) == (len(actions), 0, 0)
    text = json.dumps(summary, ensure_ascii=False)
    assert not any(mark in text for mark in ("{{", "}}", "{%", "%}", "{#", "#}", "\x1b", "\u202e"))
    assert set(summary["actions"][0]) == {"host", "remedy", "target", "does", "risk"}
    many = _plan.summary([{**actions[0], "does": "x" * 1000}] * 50)
    assert (len(many["actions"]), many["actions_left_out"]) == (20, 30)
    assert len(json.dumps(many)) < 20000


def test_a_name_cannot_confirm_another(planned):
    """The line is copied into YAML."""
    evil = [{"name": "a', 'queues.purge:important", "ready": 500}, {"name": "b\n- c", "ready": 500}]
    for action in planned(evil, limits=_plan.Limits()):
        line = action["reason"].partition("tracktion_confirm: ")[2]
        assert "\n" not in line
        assert yaml.safe_load(line) == [_plan.confirmation_of(action)]
