# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _checks, _evaluation
from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import BadRow
from tests.unit.plugins.plugin_utils.conftest import CHECK, SETTINGS, outcome


@pytest.fixture
def judged(make_area):
    """A function that compiled one outcome by these rows: (findings, counts)."""

    def judge(visited, row=CHECK):
        return _evaluation.evaluate("queues", _checks.load(make_area([row])), "web1", visited, SETTINGS)

    return judge


def test_what_is_fine_is_counted_and_not_listed(judged):
    findings, counts = judged(outcome([{"name": "a", "ready": 1}, {"name": "b", "ready": 9}]))
    assert findings == []
    assert counts == {"checks": 1, "items": 2, "ok": 2, "info": 0, "unknown": 0, "warning": 0, "critical": 0}


def test_the_worst_level_that_is_true_is_the_status(judged):
    findings, _counts = judged(outcome([{"name": "a", "ready": 10}, {"name": "b", "ready": 100}]))
    assert [(finding["object"], finding["status"]) for finding in findings] == [("b", "critical"), ("a", "warning")]


def test_a_finding_says_what_was_seen_and_which_limit_it_met(judged):
    (finding,), _counts = judged(outcome([{"name": "a", "ready": 250, "unused": 1}]))
    assert finding["observed"] == {"ready": 250}
    assert finding["threshold"] == {"queues_ready_critical": 100}
    assert finding["summary"] == "a holds 250 messages"
    assert finding["remedy"]["does"] == "removes 250 messages of a"
    assert finding["remedy"]["vars"] == {"queues_names": ["a"]}


def test_a_null_is_unknown_never_ok_and_the_next_item_is_judged_all_the_same(judged):
    findings, counts = judged(outcome([{"name": "a", "ready": None}, {"name": "b", "ready": 100}]))
    assert [(finding["object"], finding["status"]) for finding in findings] == [("b", "critical"), ("a", "unknown")]
    assert findings[1]["summary"] == "ready was not measured"
    # Where the measurement says why, that is what is told.
    unknown = [{"part": "queues.a", "reason": "locked"}]
    (finding,), _counts = judged(outcome([{"name": "a", "ready": None}], unknown=unknown))
    assert finding["summary"] == "locked"
    assert counts["items"] == 2


def test_rows_that_the_account_may_not_see_are_unknown_beside_those_it_sees(judged):
    hidden = [{"part": "queues[...]", "reason": "vhost b is hidden", "hint": "Grant it"}]
    findings, counts = judged(outcome([{"name": "a", "ready": 100}, {"name": "c", "ready": 1}], unknown=hidden))
    found = [(finding["object"], finding["status"], finding["summary"], finding["hint"]) for finding in findings]
    assert found[1] == (None, "unknown", "vhost b is hidden", "Grant it")
    assert found[0][:2] == ("a", "critical")
    assert (counts["ok"], counts["unknown"], counts["critical"]) == (1, 1, 1)
    assert judged(outcome([], unknown=hidden))[0][0]["status"] == "unknown"


def test_a_null_is_told_with_what_the_measurement_says_of_all_such_items(judged):
    measured = outcome([{"name": "a", "ready": None}])
    (probe,) = measured["measurement"].values()
    # Of something else, of another item, and of the list, which was read.
    probe["unknown"] = [{"part": part, "reason": "not of this"} for part in ("other", "queues.b", "queues")]
    assert judged(measured)[0][0]["summary"] == "ready was not measured"
    probe["unknown"].append({"part": "queues.*", "reason": "nobody counts"})
    assert judged(measured)[0][0]["summary"] == "nobody counts"


def test_a_yes_or_no_that_is_null_is_unknown_when_the_row_asks_whether_it_is_known(judged):
    row = {**CHECK, "warning": "not (item.running | known)", "critical": "false"}
    queues = [{"name": "yes", "running": True}, {"name": "no", "running": False}, {"name": "null", "running": None}]
    findings, _counts = judged(outcome(queues), row)
    assert [(finding["object"], finding["status"]) for finding in findings] == [("no", "warning"), ("null", "unknown")]


def test_a_missing_field_is_unknown(judged):
    (finding,), _counts = judged(outcome([{"name": "a"}]))
    assert finding["status"] == "unknown"


def test_a_part_that_could_not_be_read_is_unknown_with_the_measurements_reason(judged):
    visited = outcome(None)
    visited["measurement"]["broker"]["unknown"] = [{"part": "queues", "reason": "user has no permission"}]
    (finding,), counts = judged(visited)
    assert finding["status"] == "unknown"
    assert finding["summary"] == "user has no permission"
    assert counts["unknown"] == 1


def test_a_field_that_is_null_has_the_measurements_reason_where_it_gives_one(judged):
    visited = outcome([{"name": "a", "ready": None}])
    visited["measurement"]["broker"]["unknown"] = [
        {"part": "queues", "reason": "another trouble"},
        {"part": "queues.ready", "reason": "not for this user: log in as another"},
    ]
    (finding,), _counts = judged(visited)
    assert (finding["object"], finding["summary"]) == ("a", "not for this user: log in as another")


def test_a_probe_cut_at_the_deadline_is_unknown(judged):
    visited = {"measurement": {}, "error": {"kind": "deadline", "message": "not finished after 5 s", "hint": None}}
    (finding,), _counts = judged(visited)
    assert (finding["status"], finding["summary"]) == ("unknown", "not finished after 5 s")


def test_an_unreachable_service_fires_its_own_check_and_leaves_the_others_unknown(judged):
    error = {"kind": "refused", "message": "connection refused", "hint": "start it"}
    visited = outcome(None, reachable=False, error=error)
    row = {key: value for key, value in CHECK.items() if key not in ("each", "object", "warning", "remedy")}
    row.update(at="broker", critical="not item.reachable", summary="{{ item.error.message }}")
    (finding,), _counts = judged(visited, row)
    assert (finding["status"], finding["summary"]) == ("critical", "connection refused")
    (finding,), _counts = judged(visited)
    assert (finding["status"], finding["summary"], finding["hint"]) == ("unknown", "connection refused", "start it")


def test_a_probe_that_could_not_run_is_unknown_even_to_the_reachability_check(judged):
    visited = outcome(None, reachable=None, error={"kind": "missing_library", "message": "no pika", "hint": "prepare"})
    row = {key: value for key, value in CHECK.items() if key not in ("each", "object", "warning", "remedy")}
    row.update(at="broker", critical="not item.reachable")
    (finding,), _counts = judged(visited, row)
    assert (finding["status"], finding["hint"]) == ("unknown", "prepare")


def test_items_that_when_turns_away_are_not_counted(judged):
    row = {**CHECK, "when": "item.name != 'a'"}
    findings, counts = judged(outcome([{"name": "a", "ready": 500}, {"name": "b", "ready": 1}]), row)
    assert findings == []
    assert counts["items"] == 1


def test_fields_named_like_methods_of_a_dict_are_fields(judged):
    row = {**CHECK, "warning": "item.get.count > 5", "critical": "item.values > 5"}
    (finding,), _counts = judged(outcome([{"name": "a", "get": {"count": 9}, "values": 1}]), row)
    assert finding["status"] == "warning"


def test_the_list_is_bounded_and_the_rest_is_counted(judged):
    queues = [{"name": "q%04d" % number, "ready": 100} for number in range(1000)]
    findings, counts = judged(outcome(queues))
    assert counts["critical"] == 1000
    assert len(findings) == _evaluation.LISTED + 1
    assert findings[-1]["object"] == "(980 more)"


def test_a_finding_without_its_wording_still_stands(judged):
    row = {**CHECK, "summary": "{{ item.nosuch.field }}"}
    (finding,), _counts = judged(outcome([{"name": "a", "ready": 100}]), row)
    assert finding["status"] == "critical"
    assert finding["summary"].startswith("Messages pile up")


def test_measured_data_is_never_a_template(judged):
    (finding,), _counts = judged(outcome([{"name": "{{ 7 * 7 }}", "ready": 100}]))
    assert finding["object"] == "{{ 7 * 7 }}"


def test_the_fingerprint_is_of_check_host_and_object_only(judged):
    (first,), _counts = judged(outcome([{"name": "a", "ready": 100}]))
    (second,), _counts = judged(outcome([{"name": "a", "ready": 700}]))
    (other,), _counts = judged(outcome([{"name": "b", "ready": 100}]))
    assert first["fingerprint"] == second["fingerprint"] != other["fingerprint"]


def test_an_item_that_is_no_mapping_is_unknown_and_the_others_are_judged(judged):
    findings, counts = judged(outcome(["x", {"name": "b", "ready": 100}]))
    assert {finding["status"] for finding in findings} == {"critical", "unknown"}
    assert counts["items"] == 2


@pytest.mark.parametrize("ready", ["many", [], {}, {"items": 1}])
def test_a_value_that_cannot_be_compared_is_named_without_pythons_words(judged, ready):
    (finding,), _counts = judged(outcome([{"name": "a", "ready": ready}]))
    assert finding["status"] == "unknown"
    assert finding["summary"].startswith("not evaluated: the check cannot use the values of ready (")
    assert "supported" not in finding["summary"]


def test_a_limit_without_a_value_is_named(make_area):
    checks = _checks.load(make_area())
    settings = {**SETTINGS, "queues_ready_warning": None}
    (finding,), _counts = _evaluation.evaluate("queues", checks, "web", outcome([{"name": "a", "ready": 5}]), settings)
    assert finding["summary"] == "not evaluated: queues_ready_warning has no value"


class Hostile(dict):
    """A mapping that raises whatever it is asked."""

    def get(self, *_arguments):
        raise AttributeError("hostile")

    def __getitem__(self, _key):
        raise RecursionError("hostile")


def test_a_check_that_raises_anything_is_unknown_alone(make_area):
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
def test_on_a_starved_host_what_depends_on_time_is_unknown_for_one_reason(make_area, timing, expected):
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
def test_on_a_starved_host_a_probe_that_ran_out_of_time_says_no_more_than_that(make_area, kind, is_covered):
    checks = _checks.load(make_area())
    error = {"kind": kind, "message": "no answer within 0.1 s", "hint": None}
    measured = {"measurement": {"broker": {"reachable": False, "error": error, "unknown": []}}, "error": None}
    (finding,), _counts = _evaluation.evaluate("queues", checks, "web", measured, SETTINGS, STARVED, [])
    assert finding["status"] == "unknown"
    assert ("short of CPU" in finding["summary"]) == is_covered


def test_a_wrong_timing_is_refused(make_area):
    with pytest.raises(BadRow, match="timing: "):
        _checks.load(make_area([{**CHECK, "timing": "item.name =="}]))


def test_items_that_are_missing_from_a_list_are_unknown_beside_those_that_are_there(judged):
    entry = {"part": "queues[...]", "reason": "vhost b is hidden", "hint": "Give the tag"}
    findings, counts = judged(outcome([{"name": "a", "ready": 100}], unknown=[entry]))
    assert [(finding["object"], finding["status"]) for finding in findings] == [("a", "critical"), (None, "unknown")]
    assert (findings[1]["summary"], findings[1]["hint"]) == ("vhost b is hidden", "Give the tag")
    assert (counts["items"], counts["critical"], counts["unknown"]) == (2, 1, 1)
    # Nothing of another list.
    entry = {"part": "others[...]", "reason": "x"}
    assert judged(outcome([{"name": "a", "ready": 1}], unknown=[entry]))[0] == []


@pytest.mark.parametrize("part", ["queues", "queues.*", "queues[...]"])
def test_what_is_said_of_a_part_itself_goes_before_what_is_said_of_one_in_it(judged, part):
    unknown = [{"part": "queues.ready", "reason": "of a field"}, {"part": part, "reason": "of the list"}]
    (finding,), _counts = judged(outcome(None, unknown=unknown))
    assert finding["summary"] == "of the list"


def test_a_value_cannot_make_a_command_of_prose(judged):
    row = {**CHECK, "hint": "Look at {{ item.name }}: `show {{ item.name | shell_quote }}`"}
    (finding,), _counts = judged(outcome([{"name": "`rm x`", "ready": 100}]), row)
    assert finding["summary"] == "'rm x' holds 100 messages"
    assert finding["hint"] == "Look at 'rm x': `show $'\\x60rm x\\x60'`"
    # What it acts on is called as it is.
    assert finding["object"] == "`rm x`"
    assert finding["remedy"]["vars"] == {"queues_names": ["`rm x`"]}
