# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Queues as the management API describes them, in this collection's terms and units. Private to this collection.

Two kinds of request, both cheap for the broker: one list of all queues without statistics, whose totals are live
(40 ms for 1,000 queues), and one small request (1 ms) for each queue worth the details.
"""

from __future__ import annotations

import heapq
from fnmatch import fnmatchcase
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import Management, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_types import (
    ApiEntry,
    Declared,
    ListedQueue,
    QueueName,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

LIST_COLUMNS = (
    "vhost,name,type,state,durable,exclusive,auto_delete,arguments,messages,messages_ready,messages_unacknowledged,"
    "members,online"
)
DETAIL_COLUMNS = ",".join(
    (
        "consumers,consumer_capacity,memory,head_message_timestamp,state,leader,node",
        "policy,effective_policy_definition,consumer_details",
        "messages_details.samples",
        "message_stats.publish_details.samples,message_stats.deliver_get_details.samples",
        "message_stats.ack_details.samples,message_stats.redeliver_details.samples",
    )
)
# Queues report every 5 s. The API computes its own rates between the last two samples, of which one is often still to
# come: they are 0 half of the time. So rates are computed here from past samples, over the last two intervals of 5 s.
RATE_SAMPLES = {"msg_rates_age": 30, "msg_rates_incr": 5, "lengths_age": 30, "lengths_incr": 5}
RATE_SECONDS = 10

# How far back deliveries are read: (seconds, resolution). The server keeps no more than an hour.
HISTORIES = ((600, 10), (3600, 60))

# States of a queue that works. In others (down, stopped, crashed, minority, ...) it does not.
SERVING = ("running", "live", "idle", "flow", "syncing")

NO_RATES: Part = {"publish_rate": None, "deliver_rate": None, "ack_rate": None, "redeliver_rate": None}


def read_list(client: Management, most: int) -> list[ListedQueue]:
    """Return all queues that the user may see, from one request. Raise ReplyError if the broker has more than ``most``.

    The list of 10,000 queues takes the broker a second or more.
    """
    known = (client.overview.get("object_totals") or {}).get("queues")
    if known is not None and known > most:
        raise ReplyError("too_many", "the broker has %d queues, more than max_queues (%d)" % (known, most))
    reply = client.get_long("queues", disable_stats="true", enable_queue_totals="true", columns=LIST_COLUMNS)
    return [parse_entry(entry) for entry in reply]


def parse_entry(entry: ApiEntry) -> ListedQueue:
    """Return one entry of the list of queues."""
    return {
        "vhost": entry["vhost"],
        "name": entry["name"],
        # A queue that is down is of the type rabbit_classic_queue on 3.10.
        "type": (entry.get("type") or "").replace("rabbit_", "").replace("_queue", "") or None,
        "state": entry.get("state"),
        "durable": entry.get("durable"),
        # Null for types of queues that cannot be.
        "exclusive": bool(entry.get("exclusive")),
        "auto_delete": bool(entry.get("auto_delete")),
        "arguments": entry.get("arguments") or {},
        "ready": entry.get("messages_ready"),
        "unacked": entry.get("messages_unacknowledged"),
        "total": entry.get("messages"),
        "members": len(entry["members"]) if isinstance(entry.get("members"), list) else None,
        "online_members": len(entry["online"]) if isinstance(entry.get("online"), list) else None,
    }


def is_selected(queue: ListedQueue, vhosts: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Return whether a queue is measured: shell patterns over its name, ``exclude`` wins."""
    if vhosts and queue["vhost"] not in vhosts:
        return False
    if include and not any(fnmatchcase(queue["name"], pattern) for pattern in include):
        return False
    return not any(fnmatchcase(queue["name"], pattern) for pattern in exclude)


def select_worst(queues: Sequence[ListedQueue], top: int) -> list[ListedQueue]:
    """Return at most ``top`` each of the longest queues, of those with the most unacked messages, and of those down."""
    if len(queues) <= top:
        return list(queues)
    picked: dict[QueueName, ListedQueue] = {}
    counts: tuple[Callable[[ListedQueue], int], ...] = (
        lambda queue: queue["ready"] or 0,
        lambda queue: queue["unacked"] or 0,
    )
    for count in counts:
        for queue in heapq.nlargest(top, queues, key=count):
            if count(queue):
                picked[(queue["vhost"], queue["name"])] = queue
    for queue in [queue for queue in queues if out_of_order(queue)][:top]:
        picked[(queue["vhost"], queue["name"])] = queue
    return list(picked.values())


def out_of_order(queue: Mapping[str, Any]) -> bool:
    """Return whether a queue is known not to work. One without a majority may be in state ``running`` for a while."""
    members, online = queue["members"], queue["online_members"]
    if queue["type"] == "quorum" and members and online is not None and online * 2 <= members:
        return True
    return queue["state"] is not None and queue["state"] not in SERVING


def describe(queue: ListedQueue, detail: ApiEntry | None, now: float, with_rates: bool = True) -> Part:
    """Return one item of the part ``queues``. If ``detail`` is null (it could not be read), its fields are null.

    ``with_rates`` is false if the broker keeps no message rates (rates_mode = none).
    """
    detail = detail or {}
    definition = _mapping(detail.get("effective_policy_definition"))
    consumers = [entry for entry in detail.get("consumer_details") or [] if isinstance(entry, dict)]
    head = detail.get("head_message_timestamp")
    known = "consumers" in detail
    item: Part = {
        "vhost": queue["vhost"],
        "name": queue["name"],
        "type": queue["type"],
        "state": queue["state"] if out_of_order(queue) else detail.get("state") or queue["state"],
        "durable": queue["durable"],
        "exclusive": queue["exclusive"],
        "auto_delete": queue["auto_delete"],
        "source": "management",
        "ready": queue["ready"],
        "unacked": queue["unacked"],
        "total": queue["total"],
        "consumers": detail.get("consumers"),
        "consumer_capacity": detail.get("consumer_capacity"),
        "head_age_seconds": None if not isinstance(head, (int, float)) else max(0.0, round(now - head, 1)),
        "memory_bytes": detail.get("memory"),
        "leader": detail.get("leader") or detail.get("node"),
        "members": queue["members"],
        "online_members": queue["online_members"],
        "policy": detail.get("policy") or None,
        "unacked_age_seconds": None,
        "no_ack_seconds": None,
        "ack_timeout_ratio": None,
        "error": None,
    }
    item["out_of_order"] = out_of_order(item)
    item.update(limits(queue["arguments"], definition))
    item.update(prefetch(consumers, queue["unacked"]) if known else _NO_PREFETCH)
    item.update(rates(_mapping(detail.get("message_stats")), now) if known and with_rates else NO_RATES)
    item.update(growth(item, slope(detail.get("messages_details"), now), "management"))
    if item["ack_timeout_seconds"] is None:
        item["ack_timeout_seconds"] = _seconds(_smallest(entry.get("consumer_timeout") for entry in consumers))
    return item


def add_ack_timeout(item: Part, default: float) -> None:
    """Add the broker's timeout if the queue has none, and the age of the oldest message as a ratio of it."""
    if item["ack_timeout_seconds"] is None:
        item["ack_timeout_seconds"] = default
    if item["unacked_age_seconds"] is not None and item["ack_timeout_seconds"]:
        item["ack_timeout_ratio"] = round(item["unacked_age_seconds"] / item["ack_timeout_seconds"], 4)


def from_amqp(vhost: str, name: str, declared: Declared) -> Part:
    """Return the item of a queue of which only a passive declare is known: ready messages and consumers."""
    nothing: ListedQueue = {
        "vhost": vhost,
        "name": name,
        "type": None,
        "state": None,
        "durable": None,
        "exclusive": None,
        "auto_delete": None,
        "arguments": {},
        "ready": None,
        "unacked": None,
        "total": None,
        "members": None,
        "online_members": None,
    }
    item = describe(nothing, None, 0.0)
    item.update(fields_of_declare(declared))
    return item


def fields_of_declare(declared: Declared) -> Part:
    """Return the fields that a passive declare adds: it is exact, while the API's statistics are seconds old."""
    if declared["error"]:
        return {"error": declared["error"]}
    return {"source": "amqp", "ready": declared["ready"], "consumers": declared["consumers"]}


def limits(arguments: Mapping[str, Any], policy: Mapping[str, Any]) -> Part:
    """Return what arguments and policy set. Of two limits RabbitMQ applies the lower, else the argument wins."""
    exchange = _either(arguments.get("x-dead-letter-exchange"), policy.get("dead-letter-exchange"))
    key = _either(arguments.get("x-dead-letter-routing-key"), policy.get("dead-letter-routing-key"))
    return {
        "dead_letter_exchange": exchange,
        "dead_letter_routing_key": key,
        "message_ttl_seconds": _seconds(_smallest((arguments.get("x-message-ttl"), policy.get("message-ttl")))),
        "max_length": _smallest((arguments.get("x-max-length"), policy.get("max-length"))),
        "delivery_limit": _smallest((arguments.get("x-delivery-limit"), policy.get("delivery-limit"))),
        "ack_timeout_seconds": _seconds(
            _smallest((arguments.get("x-consumer-timeout"), policy.get("consumer-timeout")))
        ),
    }


_NO_PREFETCH: Part = {"prefetch_total": None, "at_prefetch_ceiling": None}


def prefetch(consumers: Iterable[ApiEntry], unacked: int | None) -> Part:
    """Return the prefetch limit of all consumers together (null: no limit), and whether they have reached it."""
    counts = [entry.get("prefetch_count") or 0 for entry in consumers if entry.get("ack_required")]
    if not counts or 0 in counts or unacked is None:
        return {"prefetch_total": None, "at_prefetch_ceiling": False}
    return {"prefetch_total": sum(counts), "at_prefetch_ceiling": unacked >= sum(counts)}


def rates(stats: ApiEntry, now: float) -> Part:
    """Return messages published, delivered, acknowledged and redelivered per second; 0 if there never were any."""
    fields = {
        "publish_rate": "publish_details",
        "deliver_rate": "deliver_get_details",
        "ack_rate": "ack_details",
        "redeliver_rate": "redeliver_details",
    }
    return {field: slope(stats.get(details), now) or 0.0 for field, details in fields.items()}


def slope(details: Any, now: float) -> float | None:
    """Return the change per second over the last RATE_SECONDS of past samples; null without samples."""
    past = [sample for sample in _mapping(details).get("samples") or [] if sample["timestamp"] <= now * 1000]
    if not past:
        return None
    newest = max(past, key=lambda sample: sample["timestamp"])
    start = newest["timestamp"] - RATE_SECONDS * 1000
    before = [sample for sample in past if sample["timestamp"] == start]
    return round((newest["sample"] - before[0]["sample"]) / float(RATE_SECONDS), 3) if before else None


def growth(item: Part, rate: float | None, source: str) -> Part:
    """Return how a queue changes: messages per second more or less, and the seconds until it is empty at that rate."""
    total = item["total"] if item["total"] is not None else item["ready"]
    if rate is None:
        return {"growth_rate": None, "trend": None, "drain_seconds": None, "rates_source": None}
    rate = round(rate, 3)
    seconds = None
    if total == 0:
        seconds = 0.0
    elif total is not None and rate < 0:
        seconds = round(total / -rate, 1)
    return {
        "growth_rate": rate,
        "trend": "growing" if rate > 0 else "draining" if rate < 0 else "steady",
        "drain_seconds": seconds,
        "rates_source": source,
    }


HISTORY_COLUMNS = ",".join("message_stats.%s_details.samples" % name for name in ("deliver", "get", "ack"))


def unacked_age(history: Any, unacked: int | None, now: float) -> float | None:
    """Return a lower bound, in seconds, for the age of the oldest unacknowledged delivery; null if it is not known.

    Of all deliveries D, the U unacknowledged ones are at best the last U. So the oldest of them was delivered when the
    counter of deliveries reached D - U + 1, or before.
    """
    stats = _mapping(_mapping(history).get("message_stats"))
    deliveries = _sum_of_samples(stats, ("deliver_details", "get_details"))
    if not unacked or not deliveries:
        return None
    newest = deliveries[-1][1]
    oldest_unacked = newest - unacked + 1
    if oldest_unacked < 1:
        # The counters are younger than the deliveries (the node was restarted).
        return None
    reached = [when for when, count in deliveries if count >= oldest_unacked]
    return max(0.0, round(now - reached[0], 1))


def no_ack_seconds(history: Any, age: float | None, now: float) -> float | None:
    """Return for how many seconds, at least, messages were unacknowledged and none was acknowledged.

    ``age`` is the age of the oldest unacknowledged message.
    """
    if age is None:
        return None
    acks = _sum_of_samples(_mapping(_mapping(history).get("message_stats")), ("ack_details",))
    unchanged = [when for when, count in acks if count == acks[-1][1]]
    return min(age, max(0.0, round(now - unchanged[0], 1))) if unchanged else age


def _sum_of_samples(stats: ApiEntry, names: Iterable[str]) -> list[tuple[float, int]]:
    """Return ``[(epoch seconds, total of the named counters)]``, oldest first."""
    sums: dict[float, int] = {}
    for name in names:
        for sample in _mapping(stats.get(name)).get("samples") or []:
            when = sample["timestamp"] / 1000.0
            sums[when] = sums.get(when, 0) + sample["sample"]
    return sorted(sums.items())


def _mapping(value: Any) -> dict[str, Any]:
    """Return ``value`` as a mapping: the API writes an empty one as an empty list."""
    return value if isinstance(value, dict) else {}


def _either(argument: Any, policy: Any) -> Any:
    return policy if argument is None else argument


def _smallest(values: Iterable[Any]) -> Any:
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return min(numbers) if numbers else None


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000.0
