# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exchanges, their bindings and the policies of a broker. Private to this collection.

The list of all bindings has one or more entries per queue and cannot be paged. So bindings are read for one exchange at
a time, and only for exchanges that matter.
"""

from __future__ import annotations

import re
from typing import Any, Iterable, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import (
    Management,
    ReplyError,
    missing_permissions,
)
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_types import (
    ApiEntry,
    Exchange,
    QueueName,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

# Exchanges whose bindings are read, by requests of about 1 ms each, most published first. The others are only counted.
MOST_EXCHANGES = 200

EXCHANGE_COLUMNS = "vhost,name,type,internal,arguments,policy,message_stats.publish_in,message_stats.publish_out"


def all_exchanges(client: Management) -> list[ApiEntry]:
    """Return the exchanges of the vhosts that the user may see, read once."""
    return client.cached("exchanges", lambda: client.get_long("exchanges", columns=EXCHANGE_COLUMNS))


def visible_vhosts(client: Management) -> set[str]:
    """Return the vhosts whose queues and exchanges the API shows to the user: each has the default exchange.

    A request for a hidden one would leave a warning in the broker's log.
    """
    return {entry["vhost"] for entry in all_exchanges(client)}


def open_vhosts(client: Management, options: Options) -> set[str] | None:
    """Return the vhosts that the user may open over AMQP; null if they are not known.

    An administrator sees all vhosts, but may be allowed to open none. Permissions of LDAP users are not listed.
    """
    if not client.is_administrator:
        return visible_vhosts(client)

    def read() -> set[str] | None:
        try:
            granted = client.get("users", options["login_user"], "permissions", columns="vhost")
        except ReplyError:
            return None
        return {entry["vhost"] for entry in granted}

    return client.cached("open_vhosts", read)


class Exchanges:
    """The exchanges of a broker; their bindings are read on demand."""

    def __init__(self, client: Management, unknown: Unknown) -> None:
        self._client = client
        self._unknown = unknown
        self._bindings: dict[QueueName, list[ApiEntry] | None] = {}
        self._closed_vhosts: set[str] = set()
        # Exchanges that destinations() has followed.
        self.followed: set[QueueName] = set()
        self.by_name: dict[QueueName, Exchange] = {
            (entry["vhost"], entry["name"]): {
                "vhost": entry["vhost"],
                "name": entry["name"],
                "type": entry.get("type"),
                "internal": bool(entry.get("internal")),
                "alternate_exchange": (entry.get("arguments") or {}).get("alternate-exchange"),
                "policy": entry.get("policy") or None,
                "published": _published(entry),
            }
            for entry in all_exchanges(client)
        }

    def bindings(self, vhost: str, name: str) -> list[ApiEntry] | None:
        """Return ``[{destination, destination_type, routing_key}]`` of one exchange; None if it cannot be read."""
        if vhost in self._closed_vhosts:
            return None
        if (vhost, name) not in self._bindings:
            self._bindings[(vhost, name)] = self._read_bindings(vhost, name)
        return self._bindings[(vhost, name)]

    def _read_bindings(self, vhost: str, name: str) -> list[ApiEntry] | None:
        try:
            return self._client.get(
                "exchanges", vhost, name, "bindings", "source", columns="destination,destination_type,routing_key"
            )
        except ReplyError as exc:
            if exc.kind == "permission":
                self._closed_vhosts.add(vhost)
                self._unknown.add("exchanges.without_binding[...]", *missing_permissions([vhost], self._client.options))
            elif exc.kind != "not_found":
                raise
            return None

    def unbound(self, policies: Sequence[ApiEntry], top: int) -> tuple[list[Exchange], int, int]:
        """Return ``(found, total, checked)``: the exchanges without a binding, most published first.

        Exchanges that the broker declares itself (``amq.*``) count only if messages were published to them.
        """
        candidates = [
            exchange
            for exchange in self.by_name.values()
            if exchange["name"] and (exchange["published"] or not exchange["name"].startswith("amq."))
        ]
        candidates.sort(key=lambda exchange: (-exchange["published"], exchange["vhost"], exchange["name"]))
        found: list[Exchange] = []
        for exchange in candidates[:MOST_EXCHANGES]:
            if self.bindings(exchange["vhost"], exchange["name"]) == []:
                alternate = exchange["alternate_exchange"] or effective_policy(
                    policies, exchange["vhost"], exchange["name"], ("all", "exchanges")
                ).get("alternate-exchange")
                found.append({**exchange, "alternate_exchange": alternate})
        return found[:top], len(found), min(len(candidates), MOST_EXCHANGES)

    def destinations(
        self, vhost: str, name: str, routing_key: str | None, seen: tuple[str, ...] = ()
    ) -> set[str] | None:
        """Return the queues that an exchange routes a message with this key to; None if they are not known.

        A null routing key is one that is not known: it stands for every queue that the message could reach. The default
        exchange takes the routing key as the name of the queue.
        """
        if name == "":
            return None if routing_key is None else {routing_key}
        exchange = self.by_name.get((vhost, name))
        if exchange is None or name in seen:
            return set()
        self.followed.add((vhost, name))
        bindings = self.bindings(vhost, name)
        if bindings is None:
            return None
        queues: set[str] = set()
        for binding in bindings:
            if matches(exchange["type"], binding["routing_key"], routing_key):
                if binding["destination_type"] == "queue":
                    queues.add(binding["destination"])
                else:
                    queues |= self.destinations(vhost, binding["destination"], routing_key, (*seen, name)) or set()
        return queues


def _published(entry: ApiEntry) -> int:
    stats = entry.get("message_stats")
    return (stats.get("publish_in") or 0) if isinstance(stats, dict) else 0


def matches(exchange_type: str | None, binding_key: str, routing_key: str | None) -> bool:
    """Return whether a binding can match a message. Types that ignore the key (fanout, headers, plugins) match any."""
    if routing_key is None or exchange_type not in ("direct", "topic"):
        return True
    if exchange_type == "direct":
        return binding_key == routing_key
    return _topic(binding_key.split("."), routing_key.split("."))


def _topic(pattern: Sequence[str], words: Sequence[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_topic(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _topic(pattern[1:], words[1:])


def effective_policy(policies: Iterable[ApiEntry], vhost: str, name: str, applies_to: Sequence[str]) -> dict[str, Any]:
    """Return the definition of the policy that applies: of those that match, the one with the highest priority."""
    matching = [
        policy
        for policy in policies
        if policy.get("vhost") == vhost
        and policy.get("apply-to") in applies_to
        and _pattern_matches(policy.get("pattern"), name)
    ]
    if not matching:
        return {}
    return max(matching, key=lambda policy: policy.get("priority") or 0).get("definition") or {}


def _pattern_matches(pattern: str | None, name: str) -> bool:
    # The usual syntax is the same in Erlang and Python. A pattern that Python cannot compile matches
    # nothing here.
    try:
        return re.search(pattern or "", name) is not None
    except re.error:
        return False
