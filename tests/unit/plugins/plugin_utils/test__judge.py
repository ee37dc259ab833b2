# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _checks, _judge
from tests.unit.plugins.plugin_utils.conftest import CHECK, SETTINGS, outcome


@pytest.fixture
def judged(make_area):
    """A function that judges one outcome by these rows: (findings, counts)."""

    def judge(visited, row=CHECK):
        return _judge.judge("queues", _checks.load(make_area([row])), "web1", visited, SETTINGS)

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
    assert findings[1]["summary"] == "ready is not known"
    # Where the measurement says why, that is what is told.
    unknown = [{"part": "queues.a", "reason": "locked"}]
    (finding,), _counts = judged(outcome([{"name": "a", "ready": None}], unknown=unknown))
    assert finding["summary"] == "locked"
    assert counts["items"] == 2


def test_a_null_is_told_with_what_the_measurement_says_of_all_such_items(judged):
    measured = outcome([{"name": "a", "ready": None}])
    (probe,) = measured["measurement"].values()
    # Of something else, of another item, and of the list, which was read.
    probe["unknown"] = [{"part": part, "reason": "not of this"} for part in ("other", "queues.b", "queues")]
    assert judged(measured)[0][0]["summary"] == "ready is not known"
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
    visited = {"measurement": {}, "error": {"kind": "deadline", "message": "not finished after 5 s", "cure": None}}
    (finding,), _counts = judged(visited)
    assert (finding["status"], finding["summary"]) == ("unknown", "not finished after 5 s")


def test_an_unreachable_service_fires_its_own_check_and_leaves_the_others_unknown(judged):
    error = {"kind": "refused", "message": "connection refused", "cure": "start it"}
    visited = outcome(None, reachable=False, error=error)
    row = {key: value for key, value in CHECK.items() if key not in ("each", "object", "warning", "remedy")}
    row.update(at="broker", critical="not item.reachable", summary="{{ item.error.message }}")
    (finding,), _counts = judged(visited, row)
    assert (finding["status"], finding["summary"]) == ("critical", "connection refused")
    (finding,), _counts = judged(visited)
    assert (finding["status"], finding["summary"], finding["advice"]) == ("unknown", "connection refused", "start it")


def test_a_probe_that_could_not_run_is_unknown_even_to_the_reachability_check(judged):
    visited = outcome(None, reachable=None, error={"kind": "missing_library", "message": "no pika", "cure": "prepare"})
    row = {key: value for key, value in CHECK.items() if key not in ("each", "object", "warning", "remedy")}
    row.update(at="broker", critical="not item.reachable")
    (finding,), _counts = judged(visited, row)
    assert (finding["status"], finding["advice"]) == ("unknown", "prepare")


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
    assert len(findings) == _judge.LISTED + 1
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


def test_items_that_are_missing_from_a_list_are_unknown_beside_those_that_are_there(judged):
    entry = {"part": "queues[...]", "reason": "vhost b is hidden", "hint": "Give the tag"}
    findings, counts = judged(outcome([{"name": "a", "ready": 100}], unknown=[entry]))
    assert [(finding["object"], finding["status"]) for finding in findings] == [("a", "critical"), (None, "unknown")]
    assert (findings[1]["summary"], findings[1]["advice"]) == ("vhost b is hidden", "Give the tag")
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
    row = {**CHECK, "advice": "Look at {{ item.name }}: `show {{ item.name | shell_quote }}`"}
    (finding,), _counts = judged(outcome([{"name": "`rm x`", "ready": 100}]), row)
    assert finding["summary"] == "'rm x' holds 100 messages"
    assert finding["advice"] == "Look at 'rm x': `show $'\\x60rm x\\x60'`"
    # What it acts on is called as it is.
    assert finding["object"] == "`rm x`"
    assert finding["remedy"]["vars"] == {"queues_names": ["`rm x`"]}
