# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Types that several modules of RabbitMQ pass to each other. Private to this collection."""

from __future__ import annotations

from typing import Any, Dict, Tuple, TypedDict

# The vhost and the name of a queue or an exchange.
QueueName = Tuple[str, str]
# One entry of a reply of the management API, as JSON.
ApiEntry = Dict[str, Any]


class QueueProblem(TypedDict):
    """Why a queue could not be read: a stable word, and one line for a person."""

    kind: str
    message: str


class Declared(TypedDict):
    """The reply to a passive declare of one queue; its numbers are null where ``error`` is not."""

    ready: int | None
    consumers: int | None
    error: QueueProblem | None


class ListedQueue(TypedDict):
    """One queue of the list of all queues, which comes without statistics."""

    vhost: str
    name: str
    type: str | None
    state: str | None
    durable: bool | None
    exclusive: bool | None
    auto_delete: bool | None
    arguments: dict[str, Any]
    ready: int | None
    unacked: int | None
    total: int | None
    members: int | None
    online_members: int | None


class Exchange(TypedDict):
    """One exchange; ``published`` counts the messages published to it since the node started."""

    vhost: str
    name: str
    type: str | None
    internal: bool
    alternate_exchange: str | None
    policy: str | None
    published: int


class DeadLetterSource(TypedDict):
    """A queue whose dead letters are routed: ``via`` is ``argument`` or ``policy``."""

    queue: str
    via: str
    exchange: str
    routing_key: str | None


class Depth(TypedDict):
    """The numbers of one queue before or after a change; ``unacked`` is null without the management API."""

    ready: int
    unacked: int | None
    consumers: int
