# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions of RabbitMQ as items."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _rabbitmq_definitions
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._rabbitmq_definitions import Comparison, items

HASH = "bCxYeqcMDfFgbyDYfWAbXnYcFvV6dn3e3e1sfTnlDXM/1A+J"
QUEUE = {"name": "q", "vhost": "/", "durable": True, "auto_delete": False}
EXCHANGE = {"name": "x", "vhost": "/", "type": "topic", "durable": True, "auto_delete": False}
BINDING = {"source": "x", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": "a"}
# As the API of 4.0.5 exports them.
API = {
    "rabbit_version": "4.0.5",
    "users": [{"name": "worker", "password_hash": HASH, "hashing_algorithm": "sha256", "tags": ["a", "b"]}],
    "vhosts": [{"name": "/", "description": "d", "metadata": {"description": "d", "tags": []}, "tags": []}],
    "permissions": [{"user": "worker", "vhost": "/", "configure": "", "write": ".*", "read": ".*"}],
    "parameters": [{"vhost": "/", "component": "shovel", "name": "s", "value": {"src-uri": "amqp://u:secret@h"}}],
    "global_parameters": [{"name": "internal_cluster_id", "value": "x"}, {"name": "cluster_tags", "value": []}],
    "policies": [],
    "queues": [dict(QUEUE, arguments={"x-max-length": 5, "x-queue-type": "classic"})],
    "exchanges": [dict(EXCHANGE, internal=False)],
    "bindings": [dict(BINDING, arguments={"n": 1})],
}
# The same as rabbitmqctl exports it.
CTL = dict(
    API,
    users=[
        {"name": "worker", "password_hash": "other", "hashing_algorithm": "sha512", "limits": {}, "tags": ["b", "a"]}
    ],
    vhosts=[{"name": "/", "limits": [], "metadata": {"description": "d", "tags": []}}],
    queues=[dict(QUEUE, type="classic", arguments={"x-max-length": 5})],
    exchanges=[EXCHANGE],
)


def changed(category, **fields):
    return dict(API, **{category: [dict(API[category][0], **fields)]})


def test_the_same_definitions_from_another_source():
    without = _rabbitmq_definitions.without_secrets(API)
    assert Comparison(items(without), items(CTL)).differences() == []


def test_what_each_broker_has_of_its_own_is_no_item():
    assert [key for key in items(API) if key[0] == "global_parameters"] == [("global_parameters", "cluster_tags")]


@pytest.mark.parametrize("category", [name for name in API if isinstance(API[name], list) and API[name]])
def test_a_missing_item_is_found(category):
    found = Comparison(items(API), items(dict(API, **{category: []})))
    assert [key[0] for key in found.missing] == [category]
    assert found.differences()[0]["found"] is None


@pytest.mark.parametrize(
    ("category", "fields"),
    [
        ("users", {"tags": ["a"]}),
        ("users", {"password_hash": "other"}),
        ("vhosts", {"metadata": {"description": "other"}, "description": "other"}),
        ("permissions", {"write": ""}),
        ("parameters", {"value": {}}),
        ("queues", {"arguments": {"x-max-length": 6}}),
        ("queues", {"arguments": {"x-max-length": 5, "x-queue-type": "quorum"}}),
        ("queues", {"durable": False}),
        ("exchanges", {"type": "fanout"}),
        ("exchanges", {"internal": True}),
    ],
)
def test_a_different_item_is_found(category, fields):
    found = Comparison(items(API), items(changed(category, **fields)))
    assert [key[0] for key in found.different] == [category]


def test_secrets_are_not_in_differences_and_counts():
    text = str(Comparison(items(API), {}).differences()) + str(_rabbitmq_definitions.counts(items(API)))
    assert HASH not in text
    assert "secret" not in text
    assert HASH not in str(_rabbitmq_definitions.without_secrets(API))


def test_the_part_that_is_imported():
    keys = [("users", "worker"), ("queues", "/", "q")]
    part = _rabbitmq_definitions.document(_rabbitmq_definitions.without_secrets(API), keys)
    assert part["rabbit_version"] == "4.0.5"
    # Without a hash, the broker would make up a password.
    assert part["users"][0]["password_hash"] == ""
    assert [row["name"] for row in part["queues"]] == ["q"]
    assert part["bindings"] == part["permissions"] == []


@pytest.mark.parametrize("document", [None, [], {"queues": {}}, {"queues": [{"name": "q"}]}, {"users": ["x"]}])
def test_other_documents_are_rejected(document):
    with pytest.raises(_rabbitmq_definitions.BadDefinitions):
        items(document)
