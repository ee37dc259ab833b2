# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles of queues in every way to use dead letters, and cycles of dead letters."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_roles as roles
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_topology as topology

OPTIONS = {"login_user": "monitor"}


class Api:
    """The management API with exchanges, their bindings, and the statistics of queues by name."""

    options = OPTIONS

    def __init__(self, exchanges=(), bindings=None, stats=None, sources=None, rates_mode="basic"):
        self.overview = {"rates_mode": rates_mode}
        self._exchanges = [{"vhost": "/", "name": name, "type": "direct"} for name in exchanges]
        self._bindings = bindings or {}
        self._stats = stats or {}
        self._sources = sources or {}

    def cached(self, _name, read):
        return read()

    def get_long(self, *_path, **_query):
        return self._exchanges

    def get(self, kind, _vhost, name, *path, **_query):
        if kind == "exchanges":
            return self._bindings.get(name, [])
        if path:
            return [{"source": source} for source in self._sources.get(name, [""])]
        return self._stats.get(name, {"consumers": 0})


def queue(name, to=None, ttl=None, vhost="/", key=None, total=0, **arguments):
    """A queue that dead-letters to the queue ``to`` by the default exchange, its messages after ``ttl`` seconds."""
    if to is not None:
        arguments.update({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": to})
    if ttl is not None:
        arguments["x-message-ttl"] = ttl * 1000
    return {"vhost": vhost, "name": name, "type": "classic", "arguments": arguments, "ready": total, "total": total}


def consumed(consumers=1, **counters):
    return {"consumers": consumers, "message_stats": counters}


def roles_of(queues, policies=(), consumed_queues=(), **api):
    client = Api(**api)
    return roles.Roles(client, queues, policies, topology.Exchanges(client, Unknown()), consumed_queues)


def named(found):
    return {name: found.role((vhost, name)) for vhost, name in found.queues}


CASES = {
    "rejected messages wait for a person": (
        [queue("orders", "rejected-orders"), queue("rejected-orders")],
        {"orders": consumed()},
        {"orders": "work", "rejected-orders": "dead_letter"},
    ),
    "whatever its name is": (
        [queue("orders", "review"), queue("review")],
        {"orders": consumed()},
        {"orders": "work", "review": "dead_letter"},
    ),
    "with a consumer it is a work queue": (
        [queue("orders", "dead"), queue("dead")],
        {"orders": consumed(), "dead": consumed()},
        {"orders": "work", "dead": "work"},
    ),
    "also if its consumer is gone": (
        [queue("orders", "dead"), queue("dead")],
        {"orders": consumed(), "dead": consumed(0, deliver=5)},
        {"orders": "work", "dead": "work"},
    ),
    "a delay, and the work queue behind it without consumers": (
        [queue("later", "orders", ttl=30), queue("orders")],
        {},
        {"later": "delay", "orders": "work"},
    ),
    "a ladder of delays": (
        [queue("a", "b", ttl=7200), queue("b", "c", ttl=60), queue("c", "orders", ttl=1), queue("orders")],
        {"orders": consumed()},
        {"a": "delay", "b": "delay", "c": "delay", "orders": "work"},
    ),
    "a retry cycle whose consumer is gone": (
        [queue("orders", "again"), queue("again", "orders", ttl=30)],
        {},
        {"orders": "work", "again": "delay"},
    ),
    "a retry cycle in which work expires as well": (
        [queue("orders", "again", ttl=86400), queue("again", "orders", ttl=30)],
        {},
        {"orders": "work", "again": "delay"},
    ),
    "work that expires while its consumer is gone": (
        [queue("orders", "expired", ttl=60), queue("expired")],
        {"orders": consumed(0, deliver=9)},
        {"orders": "work", "expired": "dead_letter"},
    ),
    "work that expires, without statistics since a restart": (
        [queue("orders", "orders.dlq", ttl=60), queue("orders.dlq")],
        {},
        {"orders": "work", "orders.dlq": "dead_letter"},
    ),
    "work that expires after a day": (
        [queue("orders", "review", ttl=86400), queue("review")],
        {},
        {"orders": "work", "review": "dead_letter"},
    ),
    "a delay by the expiration of each message": (
        [queue("hold-back", "orders", total=2), queue("orders")],
        {"hold-back": consumed(0, publish=10), "orders": consumed()},
        {"hold-back": "delay", "orders": "work"},
    ),
    "a dead-letter queue that drops after a week": (
        [queue("orders", "rejected"), queue("rejected", ttl=604800)],
        {"orders": consumed()},
        {"orders": "work", "rejected": "dead_letter"},
    ),
    "a queue that clients also publish to": (
        [queue("orders", "billing"), queue("billing")],
        {"orders": consumed(), "billing": consumed(0, publish=3)},
        {"orders": "work", "billing": "work"},
    ),
    "no dead letters": ([queue("orders")], {}, {"orders": "work"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_role_of_a_queue(case):
    queues, stats, wanted = CASES[case]
    assert named(roles_of(queues, stats=stats)) == wanted


def test_a_queue_with_a_binding_of_its_own_is_a_work_queue():
    queues = [
        queue("orders", **{"x-dead-letter-exchange": "dlx"}),
        queue("billing"),
        queue("rest"),
    ]
    bindings = {
        "dlx": [{"destination": name, "destination_type": "queue", "routing_key": ""} for name in ("billing", "rest")]
    }
    sources = {"billing": ["", "dlx", "events"], "rest": ["", "dlx"]}
    found = roles_of(queues, exchanges=["dlx", "events"], bindings=bindings, sources=sources)
    assert named(found) == {"orders": "work", "billing": "work", "rest": "dead_letter"}


def test_a_queue_that_is_named_as_consumed_is_a_work_queue():
    queues = [queue("orders", "review"), queue("review")]
    assert named(roles_of(queues, consumed_queues=["review"]))["review"] == "work"


def test_the_same_name_in_another_vhost_has_a_role_of_its_own():
    found = roles_of([queue("orders", "failed"), queue("failed"), queue("failed", vhost="b", total=500)])
    assert (found.role(("/", "failed")), found.role(("b", "failed"))) == ("dead_letter", "work")


def test_a_policy_sets_expiry_and_route():
    policy = {"message-ttl": 5000, "dead-letter-exchange": "", "dead-letter-routing-key": "orders"}
    policies = [{"vhost": "/", "pattern": "^later$", "apply-to": "queues", "definition": policy}]
    found = roles_of([queue("later"), queue("orders")], policies, stats={"orders": consumed()})
    assert named(found) == {"later": "delay", "orders": "work"}


def test_cycles_of_any_length():
    queues = [
        queue("self", "self"),
        queue("a", "b"),
        queue("b", "c", ttl=1),
        queue("c", "a", ttl=1),
        queue("a", "b", vhost="v"),
        queue("b", vhost="v"),
        queue("straight", "a"),
    ]
    assert roles_of(queues).cycles == [[("/", "a"), ("/", "b"), ("/", "c")], [("/", "self")]]


def test_a_long_chain_is_no_cycle_and_needs_no_recursion():
    queues = [queue("q%d" % number, "q%d" % (number + 1), ttl=1) for number in range(5000)]
    assert roles_of(queues).cycles == []


def test_the_rounds_of_a_cycle():
    queues = [queue("orders", "again", total=1), queue("again", "orders", ttl=1, total=2)]
    counters = {"deliver": 80, "ack": 5}
    samples = {name + "_details": {"samples": [{"sample": 0, "timestamp": 0}]} for name in counters}
    stats = {"orders": {"consumers": 1, "messages_unacknowledged": 1, "message_stats": {**counters, **samples}}}
    unknown = Unknown()
    (cycle,) = roles_of(queues, stats=stats).dead_letters(10, unknown, OPTIONS)["cycles"]
    assert (cycle["queues"], cycle["messages"], cycle["acked"]) == (["again", "orders"], 3, 5)
    assert (cycle["rejected"], cycle["rounds"]) == (74, 9.2)
    (cycle,) = roles_of(queues, rates_mode="none").dead_letters(10, unknown, OPTIONS)["cycles"]
    assert cycle["rounds"] is None
    assert [entry["part"] for entry in unknown.parts] == ["dead_letters.cycles.*.rounds"]


def test_dead_letters_by_argument_and_policy_and_lost_ones():
    policies = [
        {
            "vhost": "/",
            "pattern": "^policed$",
            "apply-to": "quorum_queues",
            "definition": {"dead-letter-exchange": "dlx"},
        },
    ]

    def routed(name, exchange, key=None):
        arguments = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": key}
        return queue(name, **{argument: value for argument, value in arguments.items() if value is not None})

    queues = [
        routed("argued", "dlx", "dead"),
        {**queue("policed"), "type": "quorum"},
        queue("spared"),
        routed("nowhere", "dlx", "alive"),
        routed("missing", "gone"),
        routed("misspelt", "", "grvae"),
        # To the queue named by each message's own routing key, which is not known.
        routed("unknowable", ""),
        queue("grave", total=7),
    ]
    bindings = {"dlx": [{"destination": "grave", "destination_type": "queue", "routing_key": "dead"}]}
    found = roles_of(queues, policies, exchanges=["dlx", "empty"], bindings=bindings)
    letters = found.dead_letters(10, Unknown(), OPTIONS)
    (grave,) = letters["queues"]
    assert (grave["vhost"], grave["name"], grave["messages"]) == ("/", "grave", 7)
    assert [(source["queue"], source["via"]) for source in grave["sources"]] == [
        ("argued", "argument"),
        ("policed", "policy"),
    ]
    assert [(entry["queue"], entry["reason"]) for entry in letters["lost"]] == [
        ("missing", "the exchange gone does not exist"),
        ("misspelt", "there is no queue grvae"),
        ("nowhere", "the exchange dlx routes them to no queue"),
    ]
