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
def test_the_words_for_a_change(total, rate, trend, seconds):
    found = queues.growth({"total": total, "ready": 0}, rate, 5.0, "management")
    assert (found["trend"], found["drain_seconds"], found["rates_source"]) == (trend, seconds, "management")


def test_growth_is_unknown_without_a_rate():
    assert set(queues.growth({"total": 3, "ready": 3}, None, None, "management").values()) == {None}


@pytest.mark.parametrize(
    ("lengths", "rate", "seconds"),
    [
        # Grows for a minute, as far as it is known.
        (range(0, 1300, 100), 20.0, 60.0),
        # Filled once and idle since: no growth after 10 seconds.
        ((0, 0, 0, 5000, 5000, 5000), 0.0, 0.0),
        ((0, 0, 0, 0, 0, 5000), 1000.0, 5.0),
        # A burst of ten seconds is not one of a minute.
        ((0, 0, 0, 0, 500, 1000), 100.0, 10.0),
        ((0, 0, 0, 0, 500, 1000, 1000), 66.667, 15.0),
        # Statistics that are late for one sample are no pause.
        ((0, 100, 200, 200, 400, 500, 600), 20.0, 30.0),
        # A consumer drains a queue that was filled before.
        ((0, 0, 1000, 990, 980, 970, 960), -2.0, 0.0),
        ((1000, 1000, 999, 999, 998), -0.1, 0.0),
        ((7, 7, 7, 7), 0.0, 0.0),
        ((1, 2), None, None),
    ],
)
def test_the_trend_of_a_length(lengths, rate, seconds):
    assert queues.trend(details(*lengths), NOW) == (rate, seconds)


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
    # The newest sample may lack the acknowledgements of the last 5 seconds.
    assert queues.no_ack_seconds(history(deliveries, ack=(0, 0, 5, 9, 10)), 20.0) == 0.0
    assert queues.no_ack_seconds(history(deliveries, ack=(0, 0, 5, 10, 10)), 20.0) == 5.0
    # At most the age of the oldest unacknowledged message.
    assert queues.no_ack_seconds(history(deliveries, ack=(0, 0, 0, 0, 0)), 20.0) == 20.0
    assert queues.no_ack_seconds(history(deliveries), 20.0) == 20.0
    assert queues.no_ack_seconds(history(deliveries), None) is None


@pytest.mark.parametrize(
    ("acks", "unacked", "slowest"),
    [
        # One message every 30 s.
        ((0, 0, 0, 1, 1, 1, 2), (1, 1, 1, 1, 1, 1, 1), 30.0),
        # Idle before, and the last one still goes on.
        ((5, 5, 5, 6, 6, 6, 6), (0, 0, 1, 1, 1, 1, 1), 10.0),
        # Nothing was acknowledged.
        ((5, 5, 5, 5), (1, 1, 1, 1), None),
        # The messages were requeued, and others came later.
        ((5, 5, 5, 5, 6), (1, 1, 0, 1, 1), 10.0),
    ],
)
def test_the_slowest_acknowledgement_is_the_longest_time_with_unacknowledged_messages(acks, unacked, slowest):
    found = history(acks, ack=acks)
    found["messages_details"] = details(*unacked, step=10)
    found["messages_ready_details"] = details(*(0 for _each in unacked), step=10)
    assert queues.slowest_ack_seconds(found) == slowest


@pytest.mark.parametrize(
    ("consumers", "unacked", "total", "ceiling", "unlimited"),
    [
        ([], 5, None, False, 0),
        ([{"ack_required": True, "prefetch_count": 10}], 10, 10, True, 0),
        ([{"ack_required": True, "prefetch_count": 10}] * 2, 19, 20, False, 0),
        (
            [{"ack_required": True, "prefetch_count": 0}, {"ack_required": True, "prefetch_count": 1}],
            50,
            None,
            False,
            1,
        ),
        ([{"ack_required": False, "prefetch_count": 0}, {"ack_required": True, "prefetch_count": 1}], 1, 1, True, 0),
        ([{"ack_required": True, "prefetch_count": 1}], None, None, False, 0),
    ],
)
def test_the_prefetch_limit(consumers, unacked, total, ceiling, unlimited):
    assert queues.prefetch(consumers, unacked) == {
        "prefetch_total": total,
        "at_prefetch_ceiling": ceiling,
        "unlimited_consumers": unlimited,
    }


def window(**counters):
    """A history of two samples for each counter, the first of which is 0."""
    stats = {name + "_details": details(0, count, step=600) for name, count in counters.items()}
    return {"message_stats": stats}


@pytest.mark.parametrize(
    ("counters", "found"),
    [
        ({"get_no_ack": 3}, True),
        ({"get": 3, "ack": 3}, True),
        # Fetched and requeued, as by the management UI.
        ({"get": 3, "redeliver": 2}, False),
        # The acknowledgements are those of a consumer that is gone.
        ({"get": 3, "ack": 50, "deliver": 50}, False),
        ({"deliver_no_ack": 9}, False),
    ],
)
def test_a_queue_that_clients_poll(counters, found):
    assert queues.polled(window(**counters)) is found
    assert queues.polled({}) is None


@pytest.mark.parametrize(
    ("counters", "lengths", "limit", "lost"),
    [
        ({"publish": 13980}, (0, 1280), 1280, 12700),
        # A slow consumer has begun to drain it.
        ({"publish": 13980, "ack": 100}, (0, 1280, 1180), 1280, 12700),
        ({"publish": 500, "ack": 100}, (100, 500), 500, 0),
        # Never near its limit: what is missing was rejected or has expired.
        ({"publish": 500}, (0, 100), 1000, 0),
        ({}, (1280, 1280), 1280, None),
    ],
)
def test_what_a_full_queue_has_lost(counters, lengths, limit, lost):
    item = {"max_length": limit, "full": lengths[-1] >= limit}
    lengths = details(*lengths, step=300)
    found = {**(window(**counters) if counters else {}), "messages_details": lengths, "messages_ready_details": lengths}
    assert queues.dropped(found, item) == lost


def test_a_queue_is_full_by_number_or_by_size():
    item = {"type": "classic", "ready": 10, "max_length": 10, "max_length_bytes": None}
    assert queues.is_full(item, 0) is True
    assert queues.is_full({**item, "ready": 9}, 0) is False
    assert queues.is_full({**item, "max_length": None, "max_length_bytes": 1000}, 950) is True
    assert queues.is_full({**item, "max_length": None}, 5) is None
    # The limit of a stream is its retention.
    assert queues.is_full({**item, "type": "stream"}, 0) is None


def test_rejected_deliveries_are_those_without_an_acknowledgement():
    history = window(deliver=100, redeliver=10, ack=20)
    # The totals are newer than the last sample.
    totals = {"messages_unacknowledged": 5, "message_stats": {"deliver": 130, "redeliver": 10, "ack": 20}}
    assert queues.rejected_and_acked(totals, history) == (95, 20)
    assert queues.rejected_and_acked({}, {}) == (0, 0)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("session-0017", "session-*"),
        ("reply.0f8fad5b-d9cb-469f-a165-70867728950e", "reply.*"),
        ("amq.gen-JzTY20BRgKO-HjmUJj0wLg", "amq.gen-*"),
        ("worker.deadbeef01", "worker.*"),
        ("rpc.Xb9kQ2mZ7pLw4vTn8sRd", "rpc.*"),
        ("tenant12.orders", "tenant*.orders"),
        ("audio.analysis.requests", "audio.analysis.requests"),
        ("feedback", "feedback"),
        ("a-long-name-with-many-words", "a-long-name-with-many-words"),
    ],
)
def test_the_pattern_of_a_name(name, pattern):
    assert queues.pattern_of(name) == pattern


def test_many_similar_names_are_a_family():
    many = [entry("session.%d" % number) for number in range(20)] + [entry("pair.%d" % number) for number in range(2)]
    assert {name: len(members) for name, members in queues.families(many).items()} == {("/", "session.*"): 20}


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
    assert (found["publish_rate"], found["ack_rate"], found["growth_rate"]) == (None, None, 10.0)
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
    queues.add_ack_timeout(item, 1800.0, "assumed")
    assert (item["ack_timeout_seconds"], item["ack_timeout_ratio"], item["ack_timeout_source"]) == (
        1800.0,
        0.5,
        "assumed",
    )
    # The queue has one of its own.
    queues.add_ack_timeout(item, 3600.0, "assumed")
    assert (item["ack_timeout_seconds"], item["ack_timeout_source"]) == (1800.0, "queue")


def test_without_a_timeout_there_is_no_ratio():
    item = {"ack_timeout_seconds": None, "unacked_age_seconds": 900.0, "ack_timeout_ratio": None}
    queues.add_ack_timeout(item, 0.0, "configuration")
    assert (item["ack_timeout_seconds"], item["ack_timeout_ratio"]) == (0.0, None)
