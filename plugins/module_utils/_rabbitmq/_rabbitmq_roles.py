# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the queues are for: work, delay or dead letters, and the cycles between them. Private to this collection.

Dead-lettering is a mechanism with several uses. The target of a dead-letter exchange may be

- a dead-letter queue, where messages wait for a person,
- a delay queue: it has no consumer, its messages expire (x-message-ttl) and are dead-lettered to the next queue,
- the work queue behind a delay queue, or one that gets its own rejected messages back (a retry cycle).

A queue that has, or had, a consumer is a work queue. Otherwise the routes decide, per vhost. A queue that is bound to
alternate exchanges only holds what the bindings of other exchanges did not match.
"""

from __future__ import annotations

import re
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import (
    Management,
    ReplyError,
    hint_of,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_queues import (
    HOUR,
    TOTALS,
    limits,
    read_detail,
    read_queues,
    rejected_and_acked,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_topology import (
    Exchanges,
    effective_policy,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_types import (
    ApiEntry,
    DeadLetterSource,
    ListedQueue,
    QueueName,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

WORK, DELAY, DEAD_LETTER, UNROUTED = "work", "delay", "dead_letter", "unrouted"

# Queues that receive dead letters and are looked at in detail, by a request of a millisecond each, longest first.
MOST_RECEIVERS = 200
# Cycles, and queues of one cycle, whose deliveries are read.
MOST_CYCLES = 20
MOST_IN_CYCLE = 10

# Where neither consumers nor routes show whether a queue delays messages or waits for its consumer, it is a delay queue
# if its messages expire within an hour. Own value: delays are seconds to minutes, expiry of work hours to days.
LONGEST_DELAY_SECONDS = 3600.0
# The names decide only what nothing else shows.
DEAD_NAME = re.compile(r"dead|dl[qx]|fail|error|poison|park|grave|reject|undeliver|unprocess|invalid|quarantine", re.I)
DELAY_NAME = re.compile(r"delay|retry|retries|wait|backoff|back-off|hold|later|defer|schedule|ttl", re.I)


class Facts(NamedTuple):
    """What the statistics of one queue show; each is null if it is not known."""

    consumers: int | None
    # Deliveries to consumers since the broker keeps statistics of the queue, without basic.get.
    delivered: int | None
    published: int | None
    fetched: int | None


class Roles:
    """The routes of dead letters between queues, and the role of each queue."""

    def __init__(
        self,
        client: Management,
        queues: Sequence[ListedQueue],
        policies: Sequence[ApiEntry],
        exchanges: Exchanges,
        consumed: Iterable[str] = (),
    ) -> None:
        self._client = client
        self._exchanges = exchanges
        self._consumed = frozenset(consumed)
        self._facts: dict[QueueName, Facts] = {}
        self._roles: dict[QueueName, str | None] = {}
        self.queues: dict[QueueName, ListedQueue] = {(queue["vhost"], queue["name"]): queue for queue in queues}
        self.sources: dict[QueueName, DeadLetterSource] = {}
        # Where the dead letters of a queue go; null if it is not known.
        self.targets: dict[QueueName, set[QueueName] | None] = {}
        self.receivers: dict[QueueName, list[QueueName]] = {}
        self._ttl: dict[QueueName, float | None] = {}
        for name, queue in self.queues.items():
            policy = effective_policy(policies, *name, ("all", "queues", "%s_queues" % queue["type"]))
            source = dead_letter_source(queue, policy)
            if source is None:
                continue
            found = exchanges.destinations(name[0], source["exchange"], source["routing_key"])
            reached = {(name[0], target) for target in found or ()}
            targets = {target for target in reached if target in self.queues}
            self.sources[name] = source
            self.targets[name] = None if found is None else targets
            self._ttl[name] = limits(queue["arguments"], policy)["message_ttl_seconds"]
            for target in targets:
                self.receivers.setdefault(target, []).append(name)
        self.cycles = _cycles({name: targets or set() for name, targets in self.targets.items()})
        self._in_cycle = {name for cycle in self.cycles for name in cycle}
        self._alternates = _alternates(exchanges, policies)
        self._unrouted = {
            (vhost, queue)
            for vhost, exchange in self._alternates
            for queue in exchanges.destinations(vhost, exchange, None) or ()
        }

    def role(self, name: QueueName) -> str | None:
        """Return WORK, DELAY, DEAD_LETTER or UNROUTED; null if the statistics of the queue cannot be read."""
        if name not in self._roles:
            try:
                self._roles[name] = self._role(name)
            except ReplyError:
                self._roles[name] = None
        return self._roles[name]

    def _role(self, name: QueueName) -> str:
        if name not in self.sources and name not in self.receivers:
            return UNROUTED if name in self._unrouted and self._is_only_alternate(name) else WORK
        if self._is_consumed(name):
            return WORK
        if self._is_delay(name):
            return DELAY
        if name not in self.receivers or name in self._in_cycle:
            return WORK
        if DEAD_NAME.search(name[1]):
            return DEAD_LETTER
        delayed = any(not self._is_consumed(source) and self._is_delay(source) for source in self.receivers[name])
        return WORK if delayed or self._has_own_route(name) else DEAD_LETTER

    def facts(self, name: QueueName) -> Facts:
        """Return the statistics of a queue, read once. Raise ReplyError, CannotConnect."""
        if name not in self._facts:
            self._facts[name] = _facts(read_detail(self._client, name))
        return self._facts[name]

    def _is_consumed(self, name: QueueName) -> bool:
        facts = self.facts(name)
        return name[1] in self._consumed or bool(facts.consumers) or bool(facts.delivered)

    def _is_only_alternate(self, name: QueueName) -> bool:
        """Return whether a queue that has had no consumer gets messages from alternate exchanges only."""
        if self._is_consumed(name):
            return False
        bindings = self._client.get("queues", *name, "bindings", columns="source")
        return all((name[0], entry["source"]) in self._alternates for entry in bindings if entry["source"])

    def _is_delay(self, name: QueueName) -> bool:
        """Return whether a queue that has had no consumer passes its messages on after a time."""
        if name not in self.sources:
            return False
        targets = self.targets[name]
        others = None if targets is None else targets - {name}
        if others is not None and not others:
            return False
        ttl = self._ttl[name]
        if ttl is None and not self._expires_by_message(name):
            return False
        if DELAY_NAME.search(name[1]):
            return True
        if name in self._in_cycle:
            # If the messages of all of them expire, the work queue is the one that keeps them longest.
            own = 0.0 if ttl is None else ttl
            return any(self._is_consumed(each) or self._ttl_or_endless(each) > own for each in others or ())
        if others and all(DEAD_NAME.search(target) for _vhost, target in others):
            return False
        if others and any(self._is_consumed(target) or self._ttl.get(target) is not None for target in others):
            return True
        return ttl is None or ttl <= LONGEST_DELAY_SECONDS

    def _ttl_or_endless(self, name: QueueName) -> float:
        ttl = self._ttl.get(name)
        return float("inf") if ttl is None else ttl

    def _expires_by_message(self, name: QueueName) -> bool:
        """Return whether messages have left a queue without a delivery: publishers set an expiration for each."""
        facts, queue = self.facts(name), self.queues[name]
        left = (facts.published or 0) - (queue["total"] or 0)
        return left > 0 and not facts.fetched and "x-max-length" not in queue["arguments"]

    def _has_own_route(self, name: QueueName) -> bool:
        """Return whether a queue gets messages otherwise than as dead letters: by a binding or by its name."""
        if self.facts(name).published:
            return True
        bindings = self._client.get("queues", *name, "bindings", columns="source")
        dead = self._exchanges.followed
        return any(entry["source"] and (name[0], entry["source"]) not in dead for entry in bindings)

    def dead_letters(self, top: int, unknown: Unknown, options: Options) -> Part:
        """Return ``{"queues", "total", "lost", "lost_total", "cycles", "cycles_total"}``.

        ``queues`` are those in which dead letters wait for a person, with their depth and their sources, longest first.
        ``lost`` are the sources whose dead letters reach no queue and are dropped.
        """
        longest = sorted(self.receivers, key=lambda name: (-(self.queues[name]["total"] or 0), name))
        found = [self._receiver(name, top) for name in longest[:MOST_RECEIVERS] if self.role(name) == DEAD_LETTER]
        unread = [name for name in longest[:MOST_RECEIVERS] if self.role(name) is None]
        if unread or self._with_messages(longest[MOST_RECEIVERS:]):
            unknown.add("dead_letters.queues[...]", "the statistics of some queues that get dead letters were not read")
        lost = [
            {**source, "vhost": name[0], "reason": _lost_reason(self._exchanges, name[0], source)}
            for name, source in self.sources.items()
            if self.targets[name] == set()
        ]
        lost.sort(key=lambda entry: (entry["vhost"], entry["queue"]))
        return {
            "queues": found[:top],
            "total": len(found),
            "lost": lost[:top],
            "lost_total": len(lost),
            "cycles": self._measured_cycles(unknown, options),
            "cycles_total": len(self.cycles),
        }

    def _with_messages(self, names: Iterable[QueueName]) -> bool:
        return any(self.queues[name]["total"] for name in names)

    def _receiver(self, name: QueueName, top: int) -> Part:
        sources = sorted((self.sources[source] for source in self.receivers[name]), key=lambda source: source["queue"])
        queue = self.queues[name]
        return {
            "vhost": name[0],
            "name": name[1],
            "ready": queue["ready"],
            "messages": queue["total"],
            "sources": sources[:top],
        }

    def _measured_cycles(self, unknown: Unknown, options: Options) -> list[Part]:
        """Return the cycles, fullest first, with how often their messages were rejected in the last hour."""
        with_rates = self._client.overview.get("rates_mode") != "none"
        measured: list[Part] = []
        for cycle in self.cycles:
            messages = sum(self.queues[name]["total"] or 0 for name in cycle)
            measured.append(
                {
                    "vhost": cycle[0][0],
                    "queues": [name for _vhost, name in cycle[:MOST_IN_CYCLE]],
                    "queues_total": len(cycle),
                    "messages": messages,
                    "rejected": None,
                    "acked": None,
                    "rounds": None,
                }
            )
        measured.sort(key=lambda item: (-item["messages"], item["vhost"], item["queues"]))
        if measured and not with_rates:
            unknown.add("dead_letters.cycles.*.rounds", "the broker keeps no message rates (rates_mode = none)")
        for item in measured[:MOST_CYCLES] if with_rates else ():
            try:
                self._add_rounds(item)
            except ReplyError as exc:
                unknown.add("dead_letters.cycles.*.rounds", exc, hint_of(exc, options))
        return measured[:MOST_CYCLES]

    def _add_rounds(self, item: Part) -> None:
        """Add how many messages were rejected, and how often each, at least on average.

        At most the messages that are still in the cycle and those that were acknowledged have been in it.
        """
        rejected = acked = 0
        for name in item["queues"]:
            totals, history = (self._client.get("queues", item["vhost"], name, **query) for query in (TOTALS, HOUR))
            each = rejected_and_acked(totals, history)
            rejected, acked = rejected + each[0], acked + each[1]
        item.update(rejected=rejected, acked=acked, rounds=round(rejected / float(max(1, item["messages"] + acked)), 1))


def read_exchanges(client: Management, unknown: Unknown) -> Exchanges:
    """Return the exchanges, whose bindings both modules of the area read once."""
    return client.cached("bindings", lambda: Exchanges(client, unknown))


def read_policies(client: Management) -> list[ApiEntry]:
    """Return the policies, read once."""
    return client.cached("policies", lambda: client.get("policies"))


def read_roles(client: Management, options: Options, unknown: Unknown) -> Roles:
    """Return the roles of all queues that the user may see, computed once. Raise ReplyError, CannotConnect."""

    def read() -> Roles:
        queues = read_queues(client, options)
        policies = read_policies(client)
        return Roles(client, queues, policies, read_exchanges(client, unknown), options["consumed_queues"])

    return client.cached(("roles", *options["consumed_queues"]), read)


def dead_letter_source(queue: ListedQueue, policy: Mapping[str, Any]) -> DeadLetterSource | None:
    """Return where the dead letters of a queue are routed; None if it has no dead-letter exchange."""
    arguments = queue["arguments"]
    exchange = arguments.get("x-dead-letter-exchange")
    via = "argument"
    if exchange is None:
        exchange, via = policy.get("dead-letter-exchange"), "policy"
    if exchange is None:
        return None
    key = arguments.get("x-dead-letter-routing-key")
    return {
        "queue": queue["name"],
        "via": via,
        "exchange": exchange,
        "routing_key": policy.get("dead-letter-routing-key") if key is None else key,
    }


def _alternates(exchanges: Exchanges, policies: Sequence[ApiEntry]) -> set[QueueName]:
    """Return the exchanges to which others route what their own bindings do not match."""
    by_policy = [policy for policy in policies if "alternate-exchange" in (policy.get("definition") or {})]
    found = set()
    for vhost, name in exchanges.by_name:
        alternate = exchanges.by_name[(vhost, name)]["alternate_exchange"]
        if alternate is None and by_policy:
            policy = effective_policy(policies, vhost, name, ("all", "exchanges"))
            alternate = policy.get("alternate-exchange")
        if alternate is not None:
            found.add((vhost, alternate))
    return found


def _facts(detail: ApiEntry) -> Facts:
    stats = detail.get("message_stats")
    stats = stats if isinstance(stats, dict) else {}

    def total(*names: str) -> int | None:
        counts = [stats[name] for name in names if isinstance(stats.get(name), int)]
        return sum(counts) if counts else None

    return Facts(
        detail.get("consumers"), total("deliver", "deliver_no_ack"), total("publish"), total("get", "get_no_ack")
    )


def _cycles(targets: Mapping[QueueName, set[QueueName]]) -> list[list[QueueName]]:
    """Return the groups of queues that reach each other, and the queues that reach themselves; all sorted."""
    order: list[QueueName] = []
    seen: set[QueueName] = set()
    for start in targets:
        order += _after_successors(start, targets, seen)
    backwards: dict[QueueName, set[QueueName]] = {}
    for name, reached in targets.items():
        for target in reached:
            backwards.setdefault(target, set()).add(name)
    groups = []
    seen = set()
    for start in reversed(order):
        group = _after_successors(start, backwards, seen)
        if len(group) > 1 or start in targets.get(start, ()):
            groups.append(sorted(group))
    return sorted(group for group in groups if group)


def _after_successors(
    start: QueueName, edges: Mapping[QueueName, set[QueueName]], seen: set[QueueName]
) -> list[QueueName]:
    """Return what is reached from ``start`` and was not seen before, each after what it reaches."""
    order: list[QueueName] = []
    if start in seen:
        return order
    seen.add(start)
    stack = [(start, iter(sorted(edges.get(start, ()))))]
    while stack:
        name, successors = stack[-1]
        following = next((each for each in successors if each not in seen), None)
        if following is None:
            stack.pop()
            order.append(name)
        else:
            seen.add(following)
            stack.append((following, iter(sorted(edges.get(following, ())))))
    return order


def _lost_reason(exchanges: Exchanges, vhost: str, source: DeadLetterSource) -> str:
    if source["exchange"] == "":
        return "there is no queue %s" % source["routing_key"]
    if (vhost, source["exchange"]) not in exchanges.by_name:
        return "the exchange %s does not exist" % source["exchange"]
    return "the exchange %s routes them to no queue" % source["exchange"]
