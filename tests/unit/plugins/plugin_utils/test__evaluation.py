# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _checks, _evaluation
from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import BadRow
from tests.unit.plugins.plugin_utils.conftest import CHECK, REMEDY, SETTINGS, outcome


@pytest.fixture
def evaluated(make_area):
    """A function that evaluates one outcome: (findings, counts)."""

    def evaluate(visited, row=CHECK):
        return _evaluation.evaluate("queues", _checks.load(make_area([row])), "web1", visited, SETTINGS)

    return evaluate


def test_ok_items_are_counted_and_not_listed(evaluated):
    findings, counts = evaluated(outcome([{"name": "a", "ready": 1}, {"name": "b", "ready": 9}]))
    assert findings == []
    assert counts == {
        "checks": 1,
        "items": 2,
        "not_here": 0,
        "ok": 2,
        "info": 0,
        "unknown": 0,
        "warning": 0,
        "critical": 0,
    }


def test_the_worst_level_that_is_true_is_the_status(evaluated):
    findings, _counts = evaluated(outcome([{"name": "a", "ready": 10}, {"name": "b", "ready": 100}]))
    assert [(finding["object"], finding["status"]) for finding in findings] == [("b", "critical"), ("a", "warning")]


def test_a_finding_has_the_observed_values_and_the_threshold(evaluated):
    (finding,), _counts = evaluated(outcome([{"name": "a", "ready": 250, "unused": 1}]))
    assert finding["observed"] == {"ready": 250}
    assert finding["threshold"] == {"queues_ready_critical": 100}
    assert finding["summary"] == "a holds 250 messages"
    assert finding["remedy"]["does"] == "removes 250 messages of a"
    assert finding["remedy"]["vars"] == {"queues_names": ["a"]}


def test_a_null_is_unknown_and_the_next_item_is_evaluated(evaluated):
    findings, counts = evaluated(outcome([{"name": "a", "ready": None}, {"name": "b", "ready": 100}]))
    assert [(finding["object"], finding["status"]) for finding in findings] == [("b", "critical"), ("a", "unknown")]
    assert findings[1]["summary"] == "ready was not measured"
    # A reason in the measurement comes first.
    unknown = [{"part": "queues.a", "reason": "locked"}]
    (finding,), _counts = evaluated(outcome([{"name": "a", "ready": None}], unknown=unknown))
    assert finding["summary"] == "locked"
    assert counts["items"] == 2


def test_hidden_items_are_unknown_beside_visible_ones(evaluated):
    hidden = [{"part": "queues[...]", "reason": "vhost b is hidden", "hint": "Grant it"}]
    findings, counts = evaluated(outcome([{"name": "a", "ready": 100}, {"name": "c", "ready": 1}], unknown=hidden))
    found = [(finding["object"], finding["status"], finding["summary"], finding["hint"]) for finding in findings]
    assert found[1] == (None, "unknown", "vhost b is hidden", "Grant it")
    assert found[0][:2] == ("a", "critical")
    assert (counts["ok"], counts["unknown"], counts["critical"]) == (1, 1, 1)
    assert evaluated(outcome([], unknown=hidden))[0][0]["status"] == "unknown"


def test_a_null_has_the_measurements_reason_for_all_items(evaluated):
    measured = outcome([{"name": "a", "ready": None}])
    (probe,) = measured["measurement"].values()
    # Reasons for another part, another item, and the list itself.
    probe["unknown"] = [{"part": part, "reason": "of another part"} for part in ("other", "queues.b", "queues")]
    assert evaluated(measured)[0][0]["summary"] == "ready was not measured"
    probe["unknown"].append({"part": "queues.*", "reason": "not counted"})
    assert evaluated(measured)[0][0]["summary"] == "not counted"


def test_a_null_is_unknown_with_the_filter_known(evaluated):
    row = {**CHECK, "warning": "not (item.running | known)", "critical": "false"}
    queues = [{"name": "yes", "running": True}, {"name": "no", "running": False}, {"name": "null", "running": None}]
    findings, _counts = evaluated(outcome(queues), row)
    assert [(finding["object"], finding["status"]) for finding in findings] == [("no", "warning"), ("null", "unknown")]


def test_a_missing_field_is_unknown(evaluated):
    (finding,), _counts = evaluated(outcome([{"name": "a"}]))
    assert finding["status"] == "unknown"


def test_a_part_that_could_not_be_read_is_unknown_with_the_measurements_reason(evaluated):
    visited = outcome(None)
    visited["measurement"]["broker"]["unknown"] = [{"part": "queues", "reason": "user has no permission"}]
    (finding,), counts = evaluated(visited)
    assert finding["status"] == "unknown"
    assert finding["summary"] == "user has no permission"
    assert counts["unknown"] == 1


def test_a_null_field_has_the_measurements_reason(evaluated):
    visited = outcome([{"name": "a", "ready": None}])
    visited["measurement"]["broker"]["unknown"] = [
        {"part": "queues", "reason": "another trouble"},
        {"part": "queues.ready", "reason": "not for this user: log in as another"},
    ]
    (finding,), _counts = evaluated(visited)
    assert (finding["object"], finding["summary"]) == ("a", "not for this user: log in as another")


def test_a_probe_cut_at_the_deadline_is_unknown(evaluated):
    visited = {"measurement": {}, "error": {"kind": "deadline", "message": "not finished after 5 s", "hint": None}}
    (finding,), _counts = evaluated(visited)
    assert (finding["status"], finding["summary"]) == ("unknown", "not finished after 5 s")


def test_an_unreachable_service_is_one_finding_and_the_other_checks_are_unknown(evaluated):
    error = {"kind": "refused", "message": "connection refused", "hint": "start it"}
    visited = outcome(None, reachable=False, error=error)
    row = {key: value for key, value in CHECK.items() if key not in ("each", "object", "warning", "remedy")}
    row.update(at="broker", critical="not item.reachable", summary="{{ item.error.message }}")
    (finding,), _counts = evaluated(visited, row)
    assert (finding["status"], finding["summary"]) == ("critical", "connection refused")
    (finding,), _counts = evaluated(visited)
    assert (finding["status"], finding["summary"], finding["hint"]) == ("unknown", "connection refused", "start it")
    # Also for a field of the measurement itself, which is null then.
    row.update(critical="item.hidden > 1")
    (finding,), _counts = evaluated(visited, row)
    assert (finding["status"], finding["summary"], finding["hint"]) == ("unknown", "connection refused", "start it")


def test_a_probe_that_could_not_run_makes_the_reachability_check_unknown(evaluated):
    visited = outcome(None, reachable=None, error={"kind": "missing_library", "message": "no pika", "hint": "prepare"})
    row = {key: value for key, value in CHECK.items() if key not in ("each", "object", "warning", "remedy")}
    row.update(at="broker", critical="not item.reachable")
    (finding,), _counts = evaluated(visited, row)
    assert (finding["status"], finding["hint"]) == ("unknown", "prepare")


def test_items_excluded_by_when_are_not_counted(evaluated):
    row = {**CHECK, "when": "item.name != 'a'"}
    findings, counts = evaluated(outcome([{"name": "a", "ready": 500}, {"name": "b", "ready": 1}]), row)
    assert findings == []
    assert counts["items"] == 1


def test_fields_named_like_methods_of_a_dict_are_fields(evaluated):
    row = {**CHECK, "warning": "item.get.count > 5", "critical": "item.values > 5"}
    (finding,), _counts = evaluated(outcome([{"name": "a", "get": {"count": 9}, "values": 1}]), row)
    assert finding["status"] == "warning"


def test_the_list_is_limited_and_the_rest_is_counted(evaluated):
    queues = [{"name": "q%04d" % number, "ready": 100} for number in range(1000)]
    findings, counts = evaluated(outcome(queues))
    assert counts["critical"] == 1000
    assert len(findings) == _evaluation.LISTED + 1
    assert findings[-1]["object"] == "(980 more)"


def test_a_finding_whose_text_fails_is_reported(evaluated):
    row = {**CHECK, "summary": "{{ item.nosuch.field }}"}
    (finding,), _counts = evaluated(outcome([{"name": "a", "ready": 100}]), row)
    assert finding["status"] == "critical"
    assert finding["summary"].startswith("Messages pile up")


def test_measured_data_is_never_a_template(evaluated):
    (finding,), _counts = evaluated(outcome([{"name": "{{ 7 * 7 }}", "ready": 100}]))
    assert finding["object"] == "{{ 7 * 7 }}"


def test_the_fingerprint_is_of_check_host_and_object_only(evaluated):
    (first,), _counts = evaluated(outcome([{"name": "a", "ready": 100}]))
    (second,), _counts = evaluated(outcome([{"name": "a", "ready": 700}]))
    (other,), _counts = evaluated(outcome([{"name": "b", "ready": 100}]))
    assert first["fingerprint"] == second["fingerprint"] != other["fingerprint"]


def test_an_item_that_is_no_mapping_is_unknown_and_the_others_are_evaluated(evaluated):
    findings, counts = evaluated(outcome(["x", {"name": "b", "ready": 100}]))
    assert {finding["status"] for finding in findings} == {"critical", "unknown"}
    assert counts["items"] == 2


@pytest.mark.parametrize("ready", ["many", [], {}, {"items": 1}])
def test_a_value_that_cannot_be_compared_is_named_without_the_exception(evaluated, ready):
    (finding,), _counts = evaluated(outcome([{"name": "a", "ready": ready}]))
    assert finding["status"] == "unknown"
    assert finding["summary"].startswith("not evaluated: the check cannot use the values of ready (")
    assert "supported" not in finding["summary"]


def test_a_limit_without_a_value_is_named(make_area):
    checks = _checks.load(make_area())
    settings = {**SETTINGS, "queues_ready_warning": None}
    (finding,), _counts = _evaluation.evaluate("queues", checks, "web", outcome([{"name": "a", "ready": 5}]), settings)
    assert finding["summary"] == "not evaluated: queues_ready_warning has no value"


class Hostile(dict):
    """A mapping of which every method raises."""

    def get(self, *_arguments):
        raise AttributeError("hostile")

    def __getitem__(self, _key):
        raise RecursionError("hostile")


def test_a_check_that_raises_is_unknown_and_the_others_are_evaluated(make_area):
    rows = [CHECK, {**CHECK, "id": "queues.other", "each": "broker.others", "object": "{{ item.name }}"}]
    checks = _checks.load(make_area(rows))
    measured = outcome([Hostile(name="a", ready=1)], others=[{"name": "b", "ready": 100}])
    findings, counts = _evaluation.evaluate("queues", checks, "web", measured, SETTINGS)
    assert [(finding["id"], finding["status"]) for finding in findings] == [
        ("queues.backlog", "unknown"),
        ("queues.other", "critical"),
    ]
    assert (counts["unknown"], counts["critical"]) == (1, 1)


def test_a_check_that_raises_for_every_item_is_unknown(make_area, monkeypatch):
    checks = _checks.load(make_area())
    monkeypatch.setattr(_checks.Checks, "status_functions", lambda *_arguments: [lambda _item: 1 / 0])
    findings, counts = _evaluation.evaluate("queues", checks, "web", outcome([{"name": "a", "ready": 1}]), SETTINGS)
    assert {finding["status"] for finding in findings} == {"unknown"}
    assert counts["unknown"] == 1


STARVED = "short of CPU"
QUEUES = [{"name": "a", "ready": 100}, {"name": "b", "ready": 20}, {"name": "c", "ready": 1}]


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        (True, {"unknown": 2, "ok": 1, "critical": 0, "warning": 0}),
        ("item.name == 'a'", {"unknown": 1, "ok": 1, "critical": 0, "warning": 1}),
        ("item.nosuch == 'a'", {"unknown": 0, "ok": 1, "critical": 1, "warning": 1}),
        (None, {"unknown": 0, "ok": 1, "critical": 1, "warning": 1}),
    ],
)
def test_on_a_starved_host_checks_with_timing_are_unknown(make_area, timing, expected):
    checks = _checks.load(make_area([{**CHECK, **({"timing": timing} if timing else {})}]))
    covered = []
    findings, counts = _evaluation.evaluate("queues", checks, "web", outcome(QUEUES), SETTINGS, STARVED, covered)
    assert {status: counts[status] for status in expected} == expected
    unknown = [finding["summary"] for finding in findings if finding["status"] == "unknown"]
    assert unknown == (["not evaluated: the host was short of CPU"] if expected["unknown"] else [])
    assert covered == (["queues.backlog"] if expected["unknown"] else [])
    findings, counts = _evaluation.evaluate("queues", checks, "web", outcome(QUEUES), SETTINGS, None, covered)
    assert (counts["critical"], counts["warning"], counts["unknown"]) == (1, 1, 0)


@pytest.mark.parametrize(("kind", "is_covered"), [("timeout", True), ("deadline", True), ("refused", False)])
def test_on_a_starved_host_a_timeout_of_a_probe_has_the_hosts_reason(make_area, kind, is_covered):
    checks = _checks.load(make_area())
    error = {"kind": kind, "message": "no answer within 0.1 s", "hint": None}
    measured = {"measurement": {"broker": {"reachable": False, "error": error, "unknown": []}}, "error": None}
    (finding,), _counts = _evaluation.evaluate("queues", checks, "web", measured, SETTINGS, STARVED, [])
    assert finding["status"] == "unknown"
    assert ("short of CPU" in finding["summary"]) == is_covered


def test_an_invalid_timing_is_rejected(make_area):
    with pytest.raises(BadRow, match="timing: "):
        _checks.load(make_area([{**CHECK, "timing": "item.name =="}]))


def test_missing_items_of_a_list_are_unknown_beside_the_others(evaluated):
    entry = {"part": "queues[...]", "reason": "vhost b is hidden", "hint": "Give the tag"}
    findings, counts = evaluated(outcome([{"name": "a", "ready": 100}], unknown=[entry]))
    assert [(finding["object"], finding["status"]) for finding in findings] == [("a", "critical"), (None, "unknown")]
    assert (findings[1]["summary"], findings[1]["hint"]) == ("vhost b is hidden", "Give the tag")
    assert (counts["items"], counts["critical"], counts["unknown"]) == (2, 1, 1)
    # Missing items of another list do not count.
    entry = {"part": "others[...]", "reason": "x"}
    assert evaluated(outcome([{"name": "a", "ready": 1}], unknown=[entry]))[0] == []


@pytest.mark.parametrize("part", ["queues", "queues.*", "queues[...]"])
def test_a_reason_for_a_part_itself_comes_before_one_in_it(evaluated, part):
    unknown = [{"part": "queues.ready", "reason": "of a field"}, {"part": part, "reason": "of the list"}]
    (finding,), _counts = evaluated(outcome(None, unknown=unknown))
    assert finding["summary"] == "of the list"


def test_a_value_cannot_add_a_command_to_a_text(evaluated):
    row = {**CHECK, "hint": "Look at {{ item.name }}: `show {{ item.name | shell_quote }}`"}
    (finding,), _counts = evaluated(outcome([{"name": "`rm x`", "ready": 100}]), row)
    assert finding["summary"] == "'rm x' holds 100 messages"
    assert finding["hint"] == "Look at 'rm x': `show $'\\x60rm x\\x60'`"
    # The target is unchanged.
    assert finding["object"] == "`rm x`"
    assert finding["remedy"]["vars"] == {"queues_names": ["`rm x`"]}


@pytest.mark.parametrize(
    ("when", "offered"),
    [("item.ready > 100", ["b"]), ("measured.broker.reachable", ["a", "b"]), ("item.lost > 1", [])],
)
def test_a_remedy_is_offered_only_where_its_condition_is_true(make_area, when, offered):
    checks = _checks.load(make_area([CHECK], [{**REMEDY, "when": when}]))
    visited = outcome([{"name": "a", "ready": 50, "lost": None}, {"name": "b", "ready": 250, "lost": None}])
    findings, _counts = _evaluation.evaluate("queues", checks, "web1", visited, SETTINGS)
    assert sorted(finding["object"] for finding in findings if finding["remedy"]) == offered


def test_a_finding_names_its_subjects_and_its_beginning(make_area):
    row = {
        **CHECK,
        "about": {"queue": "{{ item.name }}", "service": "{{ item.consumers }}", "port": "{{ item.port }}", "path": ""},
        "began": "item.since",
        "observe": ["kind"],
    }
    checks = _checks.load(make_area([row]))
    item = {"name": "a\n b", "ready": 500, "consumers": ["y", None, "x", "x"], "port": None, "since": 5.5, "kind": "k"}
    ((finding,), _counts) = _evaluation.evaluate("queues", checks, "web", outcome([item]), SETTINGS)
    assert finding["about"] == {"queue": ["a b"], "service": ["x", "y"]}
    assert finding["began"] == 5.5
    assert finding["observed"] == {"ready": 500, "kind": "k"}


@pytest.mark.parametrize("since", [None, "yesterday", True, 0, -1, 1e300, float("nan"), {}])
def test_a_beginning_that_is_no_time_is_null(make_area, since):
    checks = _checks.load(make_area([{**CHECK, "began": "item.since", "about": {"queue": "{{ item.nosuch }}"}}]))
    item = {"name": "a", "ready": 500, "since": since}
    ((finding,), _counts) = _evaluation.evaluate("queues", checks, "web", outcome([item]), SETTINGS)
    assert finding["began"] is None
    assert finding["about"] == {}
