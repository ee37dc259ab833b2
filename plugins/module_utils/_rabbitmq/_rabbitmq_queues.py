# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Queues as the management API describes them, in this collection's terms and units. Private to this collection.

Two kinds of request, both cheap for the broker: one list of all queues without statistics, whose totals are live
(40 ms for 1,000 queues), and one small request (1 ms) for each queue worth the details.
"""

from __future__ import annotations

import heapq
import re
from fnmatch import fnmatchcase
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import Management, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_types import (
    ApiEntry,
    Declared,
    ListedQueue,
    QueueName,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

LIST_COLUMNS = (
    "vhost,name,type,state,durable,exclusive,auto_delete,arguments,messages,messages_ready,messages_unacknowledged,"
    "members,online"
)
DETAIL_COLUMNS = ",".join(
    (
        "consumers,consumer_capacity,memory,head_message_timestamp,state,leader,node,message_bytes_ready",
        "policy,effective_policy_definition,consumer_details",
        "messages_details.samples",
        "message_stats.publish,message_stats.deliver,message_stats.deliver_no_ack,message_stats.get,message_stats.get_no_ack",
        "message_stats.publish_details.samples,message_stats.deliver_get_details.samples",
        "message_stats.ack_details.samples,message_stats.redeliver_details.samples",
    )
)
# Queues report every 5 s. The API computes its own rates between the last two samples, of which one is often still to
# come: they are 0 half of the time. So rates are computed here from past samples, over the last two intervals of 5 s,
# and the growth over up to a minute.
STATISTICS_SECONDS = 5
RATE_SAMPLES = {"msg_rates_age": 30, "msg_rates_incr": 5, "lengths_age": 60, "lengths_incr": 5}
RATE_SECONDS = 10

# How far back deliveries are read: (seconds, resolution). The server keeps no more than an hour.
HISTORIES = ((600, 10), (3600, 60))
_COUNTERS = ("publish", "deliver", "deliver_no_ack", "get", "get_no_ack", "ack", "redeliver")
# Totals now. With a range, the API returns those of its last sample.
TOTALS: dict[str, Any] = {
    "columns": ",".join(["messages_unacknowledged", *("message_stats.%s" % name for name in _COUNTERS)])
}
# Deliveries of the last hour.
HOUR: dict[str, Any] = {
    "msg_rates_age": 3600,
    "msg_rates_incr": 60,
    "columns": ",".join("message_stats.%s_details.samples" % name for name in _COUNTERS),
}

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


def read_queues(client: Management, options: Options) -> list[ListedQueue]:
    """Return the queues that the user may see, read once for all modules of the area. As ``read_list``."""
    return client.cached("queues", lambda: read_list(client, options["max_queues"]))


def read_detail(client: Management, name: QueueName) -> ApiEntry:
    """Return the statistics of one queue, read once for all modules of the area. Raise ReplyError, CannotConnect."""
    return client.cached(("queue", *name), lambda: client.get("queues", *name, columns=DETAIL_COLUMNS, **RATE_SAMPLES))


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
        "role": None,
        "receives_dead_letters": None,
        "family": None,
        "polled": None,
        "dropped": None,
        "unacked_age_seconds": None,
        "no_ack_seconds": None,
        "slowest_ack_seconds": None,
        "ack_timeout_ratio": None,
        "ack_timeout_source": None,
        "error": None,
    }
    item["out_of_order"] = out_of_order(item)
    item.update(limits(queue["arguments"], definition))
    item.update(prefetch(consumers, queue["unacked"]) if known else _NO_PREFETCH)
    item.update(rates(_mapping(detail.get("message_stats")), now) if known and with_rates else NO_RATES)
    item["full"] = is_full(item, detail.get("message_bytes_ready"))
    item.update(growth(item, *trend(detail.get("messages_details"), now), "management"))
    if item["ack_timeout_seconds"] is None:
        item["ack_timeout_seconds"] = _seconds(_smallest(entry.get("consumer_timeout") for entry in consumers))
    return item


def add_ack_timeout(item: Part, default: float, source: str) -> None:
    """Add the broker's timeout if the queue has none, and the age of the oldest message as a ratio of it.

    0 seconds mean that there is no timeout.
    """
    item["ack_timeout_source"] = "queue"
    if item["ack_timeout_seconds"] is None:
        item.update(ack_timeout_seconds=default, ack_timeout_source=source)
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
        "max_length_bytes": _smallest((arguments.get("x-max-length-bytes"), policy.get("max-length-bytes"))),
        "overflow": _either(arguments.get("x-overflow"), policy.get("overflow")) or "drop-head",
        "delivery_limit": _smallest((arguments.get("x-delivery-limit"), policy.get("delivery-limit"))),
        "ack_timeout_seconds": _seconds(
            _smallest((arguments.get("x-consumer-timeout"), policy.get("consumer-timeout")))
        ),
    }


_NO_PREFETCH: Part = {"prefetch_total": None, "at_prefetch_ceiling": None, "unlimited_consumers": None}


def prefetch(consumers: Iterable[ApiEntry], unacked: int | None) -> Part:
    """Return the prefetch limit of all consumers together (null: no limit), and whether they have reached it."""
    counts = [entry.get("prefetch_count") or 0 for entry in consumers if entry.get("ack_required")]
    unlimited = counts.count(0)
    if not counts or unlimited or unacked is None:
        return {"prefetch_total": None, "at_prefetch_ceiling": False, "unlimited_consumers": unlimited}
    total = sum(counts)
    return {"prefetch_total": total, "at_prefetch_ceiling": unacked >= total, "unlimited_consumers": 0}


# A queue that consumers drain just below its limit in between is sampled there.
NEARLY_FULL = 0.9


def is_full(item: Mapping[str, Any], ready_bytes: int | None) -> bool | None:
    """Return whether a queue has reached its maximum length; null if it has none, or its length is not known."""
    if item["type"] == "stream":
        # Its limit is a retention.
        return None
    reached = []
    if item["max_length"] is not None and item["ready"] is not None:
        reached.append(item["ready"] >= item["max_length"])
    if item["max_length_bytes"] is not None and ready_bytes is not None:
        # The next message may be larger than what is left.
        reached.append(ready_bytes >= item["max_length_bytes"] * NEARLY_FULL)
    return any(reached) if reached else None


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


def trend(details: Any, now: float) -> tuple[float | None, float | None]:
    """Return ``(change per second, seconds)``: how a length changes now, and for how long it has grown like this.

    A queue grows for as long as it is longer than RATE_SECONDS before. A burst that is over has no trend: neither is a
    queue growing that was filled a minute ago. Otherwise the change is that since the queue last grew. Both values are
    null without samples.
    """
    past = _past(details, now)
    back = RATE_SECONDS // STATISTICS_SECONDS
    if len(past) <= back:
        return None, None
    last = len(past) - 1
    grew = last
    while grew >= back and past[grew] > past[grew - back]:
        grew -= 1
    first = max(0, grew + 1 - back)
    while first < last and past[first + 1] == past[first]:
        first += 1
    if grew < last and past[last] > past[first]:
        seconds = float((last - first) * STATISTICS_SECONDS)
        return round((past[last] - past[first]) / seconds, 3), seconds
    fell = last
    while fell >= back and past[fell] <= past[fell - back]:
        fell -= 1
    first = max(0, min(fell + 1, last) - back)
    return round((past[last] - past[first]) / float((last - first) * STATISTICS_SECONDS), 3), 0.0


def _past(details: Any, now: float) -> list[int]:
    """Return the samples up to now, oldest first."""
    samples = [sample for sample in _mapping(details).get("samples") or [] if sample["timestamp"] <= now * 1000]
    return [sample["sample"] for sample in sorted(samples, key=lambda sample: sample["timestamp"])]


def growth(item: Part, rate: float | None, seconds: float | None, source: str) -> Part:
    """Return how a queue changes: messages per second more or less, and the seconds until it is empty at that rate.

    ``seconds`` is for how long it has been growing; null if that is not known.
    """
    total = item["total"] if item["total"] is not None else item["ready"]
    if rate is None:
        return dict.fromkeys(("growth_rate", "growing_seconds", "trend", "drain_seconds", "rates_source"))
    rate = round(rate, 3)
    left = None
    if total == 0:
        left = 0.0
    elif total is not None and rate < 0:
        left = round(total / -rate, 1)
    return {
        "growth_rate": rate,
        "growing_seconds": seconds,
        "trend": "growing" if rate > 0 else "draining" if rate < 0 else "steady",
        "drain_seconds": left,
        "rates_source": source,
    }


HISTORY_COLUMNS = ",".join(
    ["messages_details.samples", "messages_ready_details.samples"]
    + ["message_stats.%s_details.samples" % name for name in _COUNTERS]
)


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


def no_ack_seconds(history: Any, age: float | None) -> float | None:
    """Return for how many seconds, at least, messages were unacknowledged and none was acknowledged.

    ``age`` is the age of the oldest unacknowledged message. What happened after the newest sample, and in the interval
    that it may lack, is not known.
    """
    if age is None:
        return None
    acks = _sum_of_samples(_mapping(_mapping(history).get("message_stats")), ("ack_details",))
    if not acks:
        return age
    unchanged = [when for when, count in acks if count == acks[-1][1]]
    return min(age, max(0.0, round(acks[-1][0] - unchanged[0] - STATISTICS_SECONDS, 1)))


def slowest_ack_seconds(history: Any) -> float | None:
    """Return the longest time in a history for which messages were unacknowledged before one was acknowledged.

    A consumer that has needed this long may need it again. Null if none was acknowledged after such a time.
    """
    total, ready = (
        dict(_sum_of_samples(_mapping(history), (name + "_details",))) for name in ("messages", "messages_ready")
    )
    slowest = since = before = None
    for when, count in _sum_of_samples(_mapping(_mapping(history).get("message_stats")), ("ack_details",)):
        if before is not None and count > before:
            if since is not None:
                slowest = max(slowest or 0.0, when - since)
            since = None
        if since is None and total.get(when, 0) > ready.get(when, 0):
            since = when
        elif total.get(when, 0) <= ready.get(when, 0):
            since = None
        before = count
    return slowest


def polled(history: Any) -> bool | None:
    """Return whether messages were removed by basic.get in the time of a history; null without statistics.

    Acknowledgements count in common. A message that was fetched and requeued, as by the management UI, is not removed.
    """
    stats = _mapping(_mapping(history).get("message_stats"))
    if not stats:
        return None
    removed = min(_increase(stats, "get"), _increase(stats, "ack") - _increase(stats, "deliver"))
    return _increase(stats, "get_no_ack") > 0 or removed > 0


def dropped(history: Any, item: Mapping[str, Any]) -> int | None:
    """Return how many messages a queue that reached its maximum length in the time of a history lost or rejected.

    That is what was published to it, is not in it and was not acknowledged. Null without statistics.
    """
    stats = _mapping(_mapping(history).get("message_stats"))
    lengths = [count for _when, count in _sum_of_samples(_mapping(history), ("messages_details",))]
    if not stats or not lengths:
        return None
    ready = [count for _when, count in _sum_of_samples(_mapping(history), ("messages_ready_details",))]
    reached = item["max_length"] is not None and max(ready, default=0) >= item["max_length"] * NEARLY_FULL
    if not reached and not item["full"]:
        return 0
    left = sum(_increase(stats, name) for name in ("ack", "deliver_no_ack", "get_no_ack"))
    return max(0, _increase(stats, "publish") - left - (lengths[-1] - lengths[0]))


def rejected_and_acked(totals: Any, history: Any) -> tuple[int, int]:
    """Return how many deliveries of the last hour were rejected without requeueing, and how many acknowledged.

    ``totals`` and ``history`` are the replies to TOTALS and HOUR.
    """
    newest = _mapping(_mapping(totals).get("message_stats"))
    stats = _mapping(_mapping(history).get("message_stats"))
    counts = {name: _increase(stats, name, newest.get(name)) for name in _COUNTERS}
    unacked = _mapping(totals).get("messages_unacknowledged") or 0
    rejected = counts["deliver"] + counts["get"] - counts["redeliver"] - counts["ack"] - unacked
    return max(0, rejected), counts["ack"]


def _increase(stats: ApiEntry, name: str, newest: int | None = None) -> int:
    """Return the increase of a counter over its samples, up to ``newest`` if that is given."""
    counts = [count for _when, count in _sum_of_samples(stats, (name + "_details",))]
    if not counts:
        return newest or 0
    return max(0, (counts[-1] if newest is None else newest) - counts[0])


# Names that differ in these parts only are names of one family: UUIDs, long hexadecimal numbers, random text of the
# broker and numbers.
_VARIABLE = re.compile(
    r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|(?<=amq\.gen-)[\w-]+|(?<![0-9a-zA-Z])[0-9a-fA-F]{8,}(?![0-9a-zA-Z])"
    r"|(?<![0-9A-Za-z_-])(?!gen-)(?=[\w-]*[0-9])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{20,}|[0-9]+"
)
# Fewer queues with similar names are reported one by one.
LEAST_IN_FAMILY = 20


def pattern_of(name: str) -> str:
    """Return a name with ``*`` for the parts in which names of one family differ."""
    return _VARIABLE.sub("*", name)


def families(queues: Iterable[ListedQueue]) -> dict[QueueName, list[ListedQueue]]:
    """Return ``{(vhost, pattern): queues}`` for each LEAST_IN_FAMILY or more queues whose names are similar."""
    found: dict[QueueName, list[ListedQueue]] = {}
    for queue in queues:
        pattern = pattern_of(queue["name"])
        if pattern != queue["name"]:
            found.setdefault((queue["vhost"], pattern), []).append(queue)
    return {name: members for name, members in found.items() if len(members) >= LEAST_IN_FAMILY}


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
