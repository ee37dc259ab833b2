# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Routing of messages: bindings of every type, and policies."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq import _rabbitmq_topology as topology
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import ReplyError


class Api:
    """The management API with exchanges and their bindings; ``requested`` records the requests."""

    options = {"login_user": "monitor"}

    def __init__(self, exchanges, bindings, closed=()):
        self.exchanges = exchanges
        self.all_bindings = bindings
        self.closed = closed
        self.requested = []

    def cached(self, _name, read):
        return read()

    def get_long(self, *_path, **_query):
        return self.exchanges

    def get(self, _exchanges, vhost, name, *_path, **_query):
        self.requested.append((vhost, name))
        if vhost in self.closed:
            raise ReplyError("permission", "HTTP 401: User not authorised to access virtual host")
        return self.all_bindings.get((vhost, name), [])


def exchange(name, kind="direct", vhost="/", published=0, **fields):
    return {"vhost": vhost, "name": name, "type": kind, "message_stats": {"publish_in": published}, **fields}


def binding(destination, key="", kind="queue"):
    return {"destination": destination, "destination_type": kind, "routing_key": key}


def read(exchanges, bindings, closed=()):
    unknown = Unknown()
    api = Api(exchanges, bindings, closed)
    return topology.Exchanges(api, unknown), api, unknown


@pytest.mark.parametrize(
    ("pattern", "key", "taken"),
    [
        ("file.*.audio", "file.new.audio", True),
        ("file.*.audio", "file.new.old.audio", False),
        ("file.#", "file", True),
        ("file.#", "file.new.audio", True),
        ("#", "", True),
        ("#.audio", "a.b.audio", True),
        ("*.b", "b", False),
        ("a.#.z", "a.z", True),
        ("a.#.z", "a.b.c.y", False),
    ],
)
def test_topic_patterns(pattern, key, taken):
    assert topology.matches("topic", pattern, key) is taken


def test_other_types():
    assert topology.matches("direct", "a", "a")
    assert not topology.matches("direct", "a", "b")
    assert topology.matches("fanout", "a", "b")
    assert topology.matches("headers", "", "b")
    # An unknown key may match any binding.
    assert topology.matches("direct", "a", None)


def test_routes_through_exchanges_are_followed_without_loops():
    exchanges = [exchange("outer", "topic"), exchange("inner", "fanout")]
    found, api, _unknown = read(
        exchanges,
        {
            ("/", "outer"): [binding("inner", "dead.#", "exchange"), binding("other", "alive")],
            ("/", "inner"): [binding("grave"), binding("outer", "", "exchange")],
        },
    )
    assert found.destinations("/", "outer", "dead.x") == {"grave"}
    assert found.destinations("/", "outer", None) == {"grave", "other"}
    assert found.destinations("/", "outer", "elsewhere") == set()
    assert found.destinations("/", "missing", "x") == set()
    assert found.destinations("/", "", "grave") == {"grave"}
    assert sorted(api.requested) == [("/", "inner"), ("/", "outer")]


def test_exchanges_without_a_binding_are_sorted_by_published_messages():
    exchanges = [
        exchange(""),
        exchange("amq.direct"),
        exchange("amq.topic", published=3),
        exchange("bound", published=9),
        exchange("quiet"),
        exchange("busy", published=100),
        exchange("caught", arguments={"alternate-exchange": "net"}),
        exchange("policed", policy="net"),
    ]
    policies = [
        {"vhost": "/", "pattern": "^policed$", "apply-to": "exchanges", "definition": {"alternate-exchange": "net"}}
    ]
    found, _api, _unknown = read(exchanges, {("/", "bound"): [binding("q")]})
    unbound, total, checked = found.unbound(policies, 10)
    assert [entry["name"] for entry in unbound] == ["busy", "amq.topic", "caught", "policed", "quiet"]
    assert {entry["name"]: entry["alternate_exchange"] for entry in unbound if entry["alternate_exchange"]} == {
        "caught": "net",
        "policed": "net",
    }
    assert (total, checked) == (5, 6)
    assert len(found.unbound(policies, 2)[0]) == 2


def test_a_vhost_without_permissions_is_unknown_and_requested_once():
    found, api, unknown = read([exchange("a", vhost="v"), exchange("b", vhost="v")], {}, closed=("v",))
    assert found.unbound([], 10)[0] == []
    assert found.destinations("v", "a", "x") is None
    assert len(api.requested) == 1
    (entry,) = unknown.parts
    assert entry["part"] == "exchanges.without_binding[...]"
    assert "`rabbitmqctl set_permissions --vhost=v -- monitor '^$' '^$' '^$'`" in entry["hint"]


def test_the_policy_with_the_highest_priority_applies():
    policies = [
        {"vhost": "/", "pattern": "audio", "apply-to": "queues", "priority": 0, "definition": {"max-length": 1}},
        {"vhost": "/", "pattern": "^audio", "apply-to": "all", "priority": 5, "definition": {"max-length": 2}},
        {"vhost": "/", "pattern": "audio", "apply-to": "exchanges", "priority": 9, "definition": {"max-length": 3}},
        {"vhost": "o", "pattern": "audio", "apply-to": "all", "priority": 9, "definition": {"max-length": 4}},
        {"vhost": "/", "pattern": "(", "apply-to": "all", "priority": 9, "definition": {"max-length": 5}},
    ]
    assert topology.effective_policy(policies, "/", "audio.x", ("all", "queues")) == {"max-length": 2}
    assert topology.effective_policy(policies, "/", "x.audio", ("all", "queues")) == {"max-length": 1}
    assert topology.effective_policy(policies, "/", "video", ("all", "queues")) == {}
