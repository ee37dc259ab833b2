# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _causes, _evaluation, _incidents


def finding(check, name="x", host="web", status="warning", about=None, **more):
    """Return a finding of the report about a service of this name, or about ``about``."""
    about = {"service": [name]} if about is None else {subject: list(names) for subject, names in about.items()}
    return {
        "id": check, "area": check.partition(".")[0], "host": host, "hosts": [host], "object": name, "title": check,
        "about": about, "status": status, "summary": "%s of %s" % (check, name), "observed": {}, "threshold": {},
        "why": "why", "guide": "g", "hint": None, "remedy": None, "began": None, "first_seen": "2026-01-01T00:00:00Z",
        "fingerprint": _evaluation.fingerprint(check, host, name), **more,
    }  # fmt: skip


def row(cause, effect, same=("service",), **more):
    area = (effect if isinstance(effect, str) else effect[0]).partition(".")[0]
    name = "%s_%s" % (cause if isinstance(cause, str) else cause[0], effect)
    return {
        "id": "%s.%s" % (area, name.replace(".", "_")), "cause": cause, "effect": effect,
        "same": same if isinstance(same, dict) else list(same),
        "mechanism": "{{ cause.object }} breaks {{ effect.object }}.", **more,
    }  # fmt: skip


def edges(*rows):
    made = [_causes.Edge(each, "causes.yml") for each in rows]
    return _causes.Edges(made, _causes._rank(made))


def tree(findings, *rows, unmeasured=(), stacks=None):
    """Return the incidents in short: the cause, and its effects with their direct causes."""
    found = _incidents.build(findings, edges(*rows), unmeasured, stacks)
    names = {each["fingerprint"]: each["id"] for each in findings}
    shown = [(names[one["cause"]], [(names[each["finding"]], names[each["by"]]) for each in one["effects"]])
             for one in found]  # fmt: skip
    members = [one["cause"] for one in found] + [each["finding"] for one in found for each in one["effects"]]
    assert sorted(members) == sorted(each["fingerprint"] for each in findings if each["status"] != "unknown")
    return shown


A_B, B_C = row("a.one", "b.two"), row("b.two", "c.three")


def test_a_finding_without_a_cause_is_an_incident_of_its_own():
    (incident,) = _incidents.build([finding("a.one", hint="Run `ls -l` and `id`")], edges(A_B), [])
    assert incident["effects"] == incident["possible"] == []
    assert incident["first_step"] == {"hint": "Run `ls -l` and `id`", "command": "ls -l"}
    assert (incident["status"], incident["host"], incident["hosts"]) == ("warning", "web", ["web"])


def test_an_effect_is_shown_under_its_cause_with_the_mechanism():
    findings = [finding("b.two", status="critical"), finding("a.one")]
    (incident,) = _incidents.build(findings, edges(A_B), [])
    assert incident["cause"] == findings[1]["fingerprint"]
    assert incident["effects"] == [
        {
            "finding": findings[0]["fingerprint"], "by": findings[1]["fingerprint"], "edge": "b.a_one_b_two",
            "mechanism": "x breaks x.", "depth": 1, "also": [],
        }
    ]  # fmt: skip
    assert incident["status"] == "critical"
    assert incident["fingerprint"] not in (each["fingerprint"] for each in findings)


def test_a_chain_has_its_root_first():
    chain = [finding("c.three"), finding("b.two"), finding("a.one")]
    assert tree(chain, B_C, A_B) == [("a.one", [("b.two", "a.one"), ("c.three", "b.two")])]
    (incident,) = _incidents.build(chain, edges(A_B, B_C), [])
    assert [each["depth"] for each in incident["effects"]] == [1, 2]


def test_a_direct_link_does_not_hide_the_link_between():
    findings = [finding("a.one"), finding("b.two"), finding("c.three")]
    rows = (row("a.one", "c.three"), A_B, B_C)
    assert tree(findings, *rows) == [("a.one", [("b.two", "a.one"), ("c.three", "b.two")])]
    assert _incidents.build(findings, edges(*rows), [])[0]["effects"][1]["also"] == []


def test_an_effect_of_two_causes_is_shown_once_and_names_both():
    findings = [finding("a.one"), finding("b.left"), finding("b.right"), finding("c.end")]
    rows = (row("a.one", ["b.left", "b.right"]), row(["b.left", "b.right"], "c.end"))
    shown = [("b.left", "a.one"), ("c.end", "b.left"), ("b.right", "a.one")]
    assert tree(findings, *rows) == [("a.one", shown)]
    end = _incidents.build(findings, edges(*rows), [])[0]["effects"][1]
    assert [each["by"] for each in end["also"]] == [findings[2]["fingerprint"]]


def test_two_independent_faults_stay_two_incidents():
    findings = [finding("a.one", "x"), finding("a.one", "y"), finding("b.two", "x"), finding("b.two", "y")]
    assert tree(findings, A_B) == [("a.one", [("b.two", "a.one")])] * 2
    pairs = [(one["cause"], one["effects"][0]["finding"]) for one in _incidents.build(findings, edges(A_B), [])]
    assert pairs == [(findings[n]["fingerprint"], findings[n + 2]["fingerprint"]) for n in (0, 1)]


def test_two_causes_without_a_link_share_an_effect_in_one_of_two_incidents():
    findings = [finding("a.one"), finding("a.other"), finding("b.two")]
    found = _incidents.build(findings, edges(row(["a.one", "a.other"], "b.two")), [])
    assert [len(each["effects"]) for each in found] == [1, 0]
    assert [each["by"] for each in found[0]["effects"][0]["also"]] == [findings[1]["fingerprint"]]


def test_the_cause_with_more_subjects_in_common_explains_more():
    findings = [finding("a.one"), finding("a.other"), finding("b.two")]
    rows = (row("a.one", "b.two", same=()), row("a.other", "b.two"))
    assert tree(findings, *rows) == [("a.other", [("b.two", "a.other")]), ("a.one", [])]


@pytest.mark.parametrize("about", [{}, {"service": ["y"]}, {"container": ["x"]}])
def test_an_edge_needs_the_same_subject_on_both_ends(about):
    assert len(tree([finding("a.one"), finding("b.two", about=about)], A_B)) == 2
    assert len(tree([finding("a.one", about=about), finding("b.two")], A_B)) == 2


def test_subjects_of_different_kinds_are_mapped_and_may_have_several_names():
    findings = [finding("a.one", about={"container": ["p", "q"]}), finding("b.two", about={"service": ["q", "r"]})]
    assert len(tree(findings, row("a.one", "b.two", same={"container": "service"}))) == 1
    assert len(tree(findings, row("a.one", "b.two", same={"container": "service", "port": "port"}))) == 2


def test_a_condition_compares_both_findings():
    rising = row("a.one", "b.two", when="cause.observed.level > effect.observed.level")
    for level, incidents in ((2, 1), (0, 2), (None, 2)):
        ends = [finding("a.one", observed={"level": level}), finding("b.two", observed={"level": 1})]
        assert len(tree(ends, rising)) == incidents
    assert len(tree([finding("a.one"), finding("b.two")], rising)) == 2


def test_a_cause_that_was_not_measured_is_possible_and_never_the_root():
    blind = finding("a.one", status="unknown", about={}, summary="permission denied")
    assert tree([blind, finding("b.two")], A_B, unmeasured=[blind]) == [("b.two", [])]
    (incident,) = _incidents.build([blind, finding("b.two")], edges(A_B), [blind])
    (possible,) = incident["possible"]
    assert possible["check"] == "a.one"
    assert possible["reason"] == "permission denied"


def test_a_cause_that_was_not_measured_is_possible_only_where_it_fits():
    effect = finding("b.two", observed={"level": 5})
    for blind, rows in (
        (finding("a.one", "y", status="unknown"), A_B),
        (finding("a.one", host="db", status="unknown"), A_B),
        (finding("a.one", status="unknown"), row("a.one", "b.two", when="effect.observed.level > 9")),
        (finding("a.one", status="unknown"), B_C),
    ):
        assert _incidents.build([effect], edges(rows), [blind])[0]["possible"] == []
    blind = finding("a.one", status="unknown")
    when = row("a.one", "b.two", when="cause.observed.level > 9", mechanism="{{ cause.observed.level }}")
    (possible,) = _incidents.build([effect], edges(when), [blind])[0]["possible"]
    assert possible["mechanism"] is None


def test_an_explained_finding_has_no_possible_causes():
    blind = finding("a.other", status="unknown", about={})
    findings = [finding("a.one"), finding("b.two")]
    (incident,) = _incidents.build(findings, edges(row(["a.one", "a.other"], "b.two")), [blind])
    assert incident["possible"] == []


@pytest.mark.parametrize(
    ("cause", "effect", "incidents"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", 1),
        ("2026-01-01T00:01:00Z", "2026-01-01T00:00:00Z", 2),
        ("2026-01-01T00:00:04Z", "2026-01-01T00:00:00Z", 1),
        (None, "2026-01-01T00:00:00Z", 1),
        ("2026-01-01T00:00:00Z", None, 1),
    ],
)
def test_a_cause_that_began_after_its_effect_is_no_cause(cause, effect, incidents):
    findings = [finding("a.one", began=cause), finding("b.two", began=effect)]
    assert len(tree(findings, A_B)) == incidents
    assert _incidents.build(findings[:1], edges(A_B), [])[0]["began"] == cause


def test_an_effect_did_not_begin_before_the_cause_of_its_cause():
    findings = [
        finding("a.one", began="2026-01-01T00:01:00Z"),
        finding("b.two"),
        finding("c.three", began="2026-01-01T00:00:00Z"),
    ]
    assert tree(findings, A_B, B_C) == [("a.one", [("b.two", "a.one")]), ("c.three", [])]


def test_a_cause_on_another_host_counts_only_within_a_stack():
    findings = [finding("a.one", host="db"), finding("b.two", host="web")]
    assert len(tree(findings, A_B)) == 2
    assert len(tree(findings, A_B, stacks={"db": "", "web": ""})) == 2
    assert len(tree(findings, A_B, stacks={"db": "prod", "web": "test"})) == 2
    assert len(tree(findings, A_B, stacks={"db": "prod"})) == 2
    (incident,) = _incidents.build(findings, edges(A_B), [], {"db": "prod", "web": "prod"})
    assert (incident["host"], incident["hosts"]) == ("db", ["db", "web"])


def test_a_subject_of_one_host_never_connects_two_hosts():
    stacks = {"db": "prod", "web": "prod"}
    for subject in ("container", "port", "mount", "path", "process", "network"):
        findings = [finding("a.one", host="db", about={subject: ["x"]}), finding("b.two", about={subject: ["x"]})]
        assert len(tree(findings, row("a.one", "b.two", same=[subject]), stacks=stacks)) == 2
    assert (
        len(tree([finding("a.one", host="db"), finding("b.two")], row("a.one", "b.two", same=()), stacks=stacks)) == 2
    )


def test_the_same_service_of_two_projects_is_not_the_same():
    def named(check, project):
        return finding(check, "%s of %s" % (check, project), about={"service": ["api"], "project": [project]})

    ours, theirs = named("a.one", "tracktion"), named("a.one", "staging")
    assert tree([theirs, named("b.two", "tracktion")], A_B) == [("a.one", []), ("b.two", [])]
    assert tree([ours, named("b.two", "tracktion")], A_B) == [("a.one", [("b.two", "a.one")])]
    # A stack on two hosts has a project on each.
    elsewhere = finding("a.one", "api", host="db", about={"service": ["api"], "project": ["staging"]})
    stacks = {"db": "live", "web": "live"}
    assert tree([elsewhere, named("b.two", "tracktion")], A_B, stacks=stacks) == [("a.one", [("b.two", "a.one")])]
    # An area that does not know the project.
    assert tree([theirs, finding("b.two", "api")], A_B) == [("a.one", [("b.two", "a.one")])]
    # Only if no other project has a service of this name.
    assert len(tree([{**theirs, "observed": {"has_namesake": True}}, finding("b.two", "api")], A_B)) == 2
    both = [{**ours, "observed": {"has_namesake": True}}, named("b.two", "tracktion")]
    assert tree(both, A_B) == [("a.one", [("b.two", "a.one")])]
    # The host alone does not connect them either.
    assert len(tree([theirs, named("b.two", "tracktion")], row("a.one", "b.two", same=()))) == 2
    unmeasured = finding("a.one", "x", status="unknown", about={"project": ["staging"]})
    (incident,) = _incidents.build([named("b.two", "tracktion")], edges(A_B), [unmeasured])
    assert incident["possible"] == []


def test_a_service_that_several_hosts_share_is_explained_by_a_cause_of_all_of_them():
    shared = {**finding("b.two"), "hosts": ["web", "web2"]}
    by_host = row("a.one", "b.two", same=())
    assert len(tree([finding("a.one"), shared], by_host)) == 2
    assert len(tree([{**finding("a.one"), "hosts": ["web", "web2"]}, shared], by_host)) == 1
    assert len(tree([finding("a.one", host="web2"), shared], A_B)) == 1


def test_a_finding_is_never_its_own_cause():
    with pytest.raises(_causes.BadRow, match=r"cycle: a\.one -> a\.one"):
        edges(row(["a.one", "a.two"], ["a.one", "a.three"]))


def test_the_worst_incident_comes_first_then_the_one_with_most_effects():
    findings = [
        finding("a.alone", status="warning"), finding("d.bad", status="critical"), finding("a.one"), finding("b.two"),
        finding("a.info", status="info"),
    ]  # fmt: skip
    assert [cause for cause, _effects in tree(findings, A_B)] == ["d.bad", "a.one", "a.alone", "a.info"]


def test_an_overload_comes_first_and_what_only_a_log_shows_last():
    findings = [finding("logs.errors"), finding("network.path_dns"), finding("a.bad", status="critical"),
                finding("host_resources.cpu_saturated")]  # fmt: skip
    order = ["host_resources.cpu_saturated", "a.bad", "network.path_dns", "logs.errors"]
    assert [cause for cause, _effects in tree(findings, A_B)] == order


def test_a_hostile_name_cannot_start_a_command_in_a_mechanism():
    named = row("a.one", "b.two", same=(), mechanism="{{ cause.object }}\n breaks it.")
    findings = [finding("a.one", "`reboot`"), finding("b.two", "{{ 7 * 7 }}")]
    (incident,) = _incidents.build(findings, edges(named), [])
    assert incident["effects"][0]["mechanism"] == "'reboot' breaks it."


def test_a_mechanism_that_cannot_be_rendered_is_replaced_by_the_consequence():
    named = row("a.one", "b.two", mechanism="{{ cause.observed.nosuch }}")
    (incident,) = _incidents.build([finding("a.one"), finding("b.two")], edges(named), [])
    assert incident["effects"][0]["mechanism"] == "why"


def test_10000_findings_and_100_edges_take_less_than_half_a_second():
    rows = [
        row("a.c%d" % number, "a.c%d" % (number + 1), when="cause.status == effect.status") for number in range(100)
    ]
    made = edges(*rows)
    findings = [
        finding("a.c%d" % (number % 101), "s%d" % (number // 2020), "h%d" % (number // 20)) for number in range(10000)
    ]
    _incidents.build(findings[:10], made, [])
    seconds = []
    for _try in range(5):
        started = time.process_time()
        _incidents.build(findings, made, [])
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.5


def test_many_findings_of_one_kind_on_one_host_stay_bounded():
    rows = [row("a.one", "b.two", same=(), when="cause.object == effect.object")]
    findings = [finding(check, "s%d" % number) for check in ("a.one", "b.two") for number in range(5000)]
    started = time.process_time()
    assert len(_incidents.build(findings, edges(*rows), [])) < 10001
    assert time.process_time() - started < 5
