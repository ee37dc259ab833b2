# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Queues in this collection's terms: computed from replies of the API."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_queues as queues

NOW = 1700000000.0


def entry(name="q", **fields):
    return queues.parse_entry({"vhost": "/", "name": name, "type": "classic", "state": "running", **fields})


def details(*values, step=5, newest=NOW):
    """Samples as the API sends them, newest first; ``values`` oldest first."""
    count = len(values)
    return {
        "rate": 0.0,
        "samples": [
            {"sample": value, "timestamp": int((newest - (count - 1 - index) * step) * 1000)}
            for index, value in reversed(list(enumerate(values)))
        ],
    }


def test_a_rate_is_computed_over_the_past_ten_seconds():
    assert queues.slope(details(0, 100, 250, 350), NOW) == 25.0
    # The newest sample is in the future: it may be a copy of the one before.
    assert queues.slope(details(0, 100, 250, 350, 350, newest=NOW + 3), NOW) == 25.0


@pytest.mark.parametrize("nothing", [None, [], {}, {"samples": []}, details(5)])
def test_without_samples_there_is_no_rate(nothing):
    assert queues.slope(nothing, NOW) is None


@pytest.mark.parametrize(
    ("total", "rate", "trend", "seconds"),
    [(100, 2.0, "growing", None), (100, -4.0, "draining", 25.0), (100, 0.0, "steady", None), (0, 0.0, "steady", 0.0)],
)
def test_the_trend_of_a_queue(total, rate, trend, seconds):
    found = queues.growth({"total": total, "ready": 0}, rate, "management")
    assert (found["trend"], found["drain_seconds"], found["rates_source"]) == (trend, seconds, "management")


def test_growth_is_unknown_without_a_rate():
    assert set(queues.growth({"total": 3, "ready": 3}, None, "management").values()) == {None}


def history(deliver, get=None, ack=None):
    stats = {"deliver_details": details(*deliver, step=10)}
    if get:
        stats["get_details"] = details(*get, step=10)
    if ack:
        stats["ack_details"] = details(*ack, step=10)
    return {"message_stats": stats}


@pytest.mark.parametrize(
    ("deliveries", "unacked", "age"),
    [
        # Ten were delivered 20 s ago, and all ten are unacknowledged.
        ((0, 0, 10, 10, 10), 10, 20.0),
        # A hundred more were delivered since: the ten unacknowledged ones may be the last ten.
        ((0, 10, 110, 110, 110), 10, 20.0),
        # All fifty were delivered before the first sample.
        ((50, 50, 50, 50), 50, 30.0),
        ((0, 0, 0, 7), 7, 0.0),
    ],
)
def test_the_minimum_age_of_the_oldest_unacknowledged_message(deliveries, unacked, age):
    assert queues.unacked_age(history(deliveries), unacked, NOW) == age


def test_fetched_messages_count_as_delivered():
    assert queues.unacked_age(history((0, 0, 3, 3), get=(0, 2, 2, 2)), 5, NOW) == 20.0


@pytest.mark.parametrize(
    ("given", "unacked"), [({}, 3), ({"message_stats": []}, 3), (history((5, 5)), 0), (history((5, 5)), 9)]
)
def test_an_unknown_age_is_null(given, unacked):
    # Nine are unacknowledged, but five deliveries were counted: the node was restarted in between.
    assert queues.unacked_age(given, unacked, NOW) is None


def test_the_time_without_an_acknowledgement():
    deliveries = (0, 10, 20, 20, 20)
    assert queues.no_ack_seconds(history(deliveries, ack=(0, 0, 5, 9, 10)), 20.0, NOW) == 0.0
    assert queues.no_ack_seconds(history(deliveries, ack=(0, 0, 5, 10, 10)), 20.0, NOW) == 10.0
    # At most the age of the oldest unacknowledged message.
    assert queues.no_ack_seconds(history(deliveries, ack=(0, 0, 0, 0, 0)), 20.0, NOW) == 20.0
    assert queues.no_ack_seconds(history(deliveries), 20.0, NOW) == 20.0
    assert queues.no_ack_seconds(history(deliveries), None, NOW) is None


@pytest.mark.parametrize(
    ("consumers", "unacked", "total", "ceiling"),
    [
        ([], 5, None, False),
        ([{"ack_required": True, "prefetch_count": 10}], 10, 10, True),
        ([{"ack_required": True, "prefetch_count": 10}] * 2, 19, 20, False),
        ([{"ack_required": True, "prefetch_count": 0}, {"ack_required": True, "prefetch_count": 1}], 50, None, False),
        ([{"ack_required": False, "prefetch_count": 0}, {"ack_required": True, "prefetch_count": 1}], 1, 1, True),
        ([{"ack_required": True, "prefetch_count": 1}], None, None, False),
    ],
)
def test_the_prefetch_limit(consumers, unacked, total, ceiling):
    assert queues.prefetch(consumers, unacked) == {"prefetch_total": total, "at_prefetch_ceiling": ceiling}


def test_the_lower_limit_of_argument_and_policy_applies():
    found = queues.limits(
        {"x-max-length": 10, "x-message-ttl": 60000, "x-dead-letter-exchange": ""},
        {"max-length": 5, "message-ttl": 90000, "dead-letter-exchange": "other", "consumer-timeout": 120000},
    )
    assert (found["max_length"], found["message_ttl_seconds"], found["ack_timeout_seconds"]) == (5, 60.0, 120.0)
    # The empty name is the default exchange.
    assert found["dead_letter_exchange"] == ""


def test_the_worst_of_each_kind_are_selected():
    many = [entry("q%d" % number, messages_ready=number, messages_unacknowledged=0) for number in range(10)]
    many.append(entry("busy", messages_ready=0, messages_unacknowledged=5))
    many.append(entry("down", state="stopped"))
    assert [queue["name"] for queue in queues.select_worst(many, 2)] == ["q9", "q8", "busy", "down"]
    assert len(queues.select_worst(many, 12)) == 12


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({}, False),
        ({"state": "live"}, False),
        ({"state": None}, False),
        ({"state": "crashed"}, True),
        ({"type": "quorum", "members": [1, 2, 3], "online": [1, 2]}, False),
        ({"type": "quorum", "members": [1, 2], "online": [1]}, True),
        ({"type": "rabbit_classic_queue", "state": "stopped"}, True),
    ],
)
def test_out_of_order(fields, bad):
    assert queues.out_of_order(entry(**fields)) is bad


def test_patterns_select_queues():
    queue = entry("audio.analysis.requests")
    assert queues.is_selected(queue, [], [], [])
    assert queues.is_selected(queue, ["/"], ["audio.*"], ["amq.gen-*"])
    assert not queues.is_selected(queue, ["other"], [], [])
    assert not queues.is_selected(queue, [], ["AUDIO.*"], [])
    assert not queues.is_selected(queue, [], ["audio.*"], ["*.requests"])


def test_a_queue_without_statistics_has_only_the_numbers_of_the_list():
    found = queues.describe(entry(messages=5, messages_ready=5, messages_unacknowledged=0), {"state": "running"}, NOW)
    assert (found["ready"], found["unacked"], found["total"]) == (5, 0, 5)
    assert (found["consumers"], found["publish_rate"], found["growth_rate"], found["at_prefetch_ceiling"]) == (
        None,
    ) * 4


def test_without_rates_the_rates_of_messages_are_null():
    detail = {"consumers": 1, "consumer_details": [], "messages_details": details(0, 0, 50)}
    found = queues.describe(entry(messages=50, messages_ready=50), detail, NOW, with_rates=False)
    assert (found["publish_rate"], found["ack_rate"], found["growth_rate"]) == (None, None, 5.0)
    assert queues.describe(entry(messages=50), detail, NOW)["publish_rate"] == 0.0


def test_the_age_of_the_first_message_is_never_negative():
    detail = {"head_message_timestamp": NOW + 100}
    assert queues.describe(entry(), detail, NOW)["head_age_seconds"] == 0.0
    assert queues.describe(entry(), {"head_message_timestamp": NOW - 90}, NOW)["head_age_seconds"] == 90.0


def test_both_sources_give_the_same_fields():
    asked = queues.from_amqp("/", "q", {"ready": 3, "consumers": 1, "error": None})
    assert set(asked) == set(queues.describe(entry(), {"consumers": 0}, NOW))
    assert (asked["source"], asked["ready"], asked["unacked"]) == ("amqp", 3, None)
    refused = queues.from_amqp(
        "/", "q", {"ready": None, "consumers": None, "error": {"kind": "exclusive", "message": "no"}}
    )
    assert refused["error"]["kind"] == "exclusive"


def test_the_age_as_a_ratio_of_the_timeout():
    item = {"ack_timeout_seconds": None, "unacked_age_seconds": 900.0, "ack_timeout_ratio": None}
    queues.add_ack_timeout(item, 1800.0)
    assert (item["ack_timeout_seconds"], item["ack_timeout_ratio"]) == (1800.0, 0.5)
