# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exchanges that lead nowhere, and where dead letters end up. Private to this collection.

The list of all bindings has one entry and more per queue and cannot be paged, so the bindings of one exchange are
read at a time, and only of exchanges that matter.
"""

from __future__ import annotations

import re

from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import ReplyError, needs_permissions

# Requests of about 1 ms each. Exchanges beyond are counted, not looked at; those that publish most come first.
MOST_EXCHANGES = 200

EXCHANGE_COLUMNS = "vhost,name,type,internal,arguments,policy,message_stats.publish_in,message_stats.publish_out"


def all_exchanges(client):
    """The exchanges of the vhosts that the user may see, read once."""
    return client.remember("exchanges", lambda: client.get_long("exchanges", columns=EXCHANGE_COLUMNS))


def visible_vhosts(client):
    """The names of the vhosts whose queues and exchanges the user is shown: each has the default exchange.

    Asking for one that is hidden would leave a warning in the broker's log.
    """
    return {entry["vhost"] for entry in all_exchanges(client)}


def open_vhosts(client, options):
    """The names of the vhosts that the user may enter over AMQP; null where they are not known.

    An administrator sees all vhosts, and may enter none. The permissions of users of LDAP and the like are not listed.
    """
    if not client.administers:
        return visible_vhosts(client)

    def read():
        try:
            granted = client.get("users", options["login_user"], "permissions", columns="vhost")
        except ReplyError:
            return None
        return {entry["vhost"] for entry in granted}

    return client.remember("open_vhosts", read)


class Exchanges:
    """The exchanges of a broker and, read when asked for, their bindings."""

    def __init__(self, client, unknown):
        self._client = client
        self._unknown = unknown
        self._bindings = {}
        self._closed_vhosts = set()
        self.by_name = {
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

    def bindings(self, vhost, name):
        """``[{destination, destination_type, routing_key}]`` of one exchange; None where it cannot be read."""
        if vhost in self._closed_vhosts:
            return None
        if (vhost, name) not in self._bindings:
            self._bindings[(vhost, name)] = self._read_bindings(vhost, name)
        return self._bindings[(vhost, name)]

    def _read_bindings(self, vhost, name):
        try:
            return self._client.get(
                "exchanges", vhost, name, "bindings", "source", columns="destination,destination_type,routing_key"
            )
        except ReplyError as exc:
            if exc.kind == "permission":
                self._closed_vhosts.add(vhost)
                self._unknown.add("exchanges.without_binding[...]", *needs_permissions([vhost], self._client.options))
            elif exc.kind != "not_found":
                raise
            return None

    def unbound(self, policies, top):
        """``(found, total, checked)``: the exchanges that lead nowhere, those published to most first.

        Exchanges that the broker declares itself (``amq.*``) count only once somebody has published to them.
        """
        candidates = [
            exchange
            for exchange in self.by_name.values()
            if exchange["name"] and (exchange["published"] or not exchange["name"].startswith("amq."))
        ]
        candidates.sort(key=lambda exchange: (-exchange["published"], exchange["vhost"], exchange["name"]))
        found = []
        for exchange in candidates[:MOST_EXCHANGES]:
            if self.bindings(exchange["vhost"], exchange["name"]) == []:
                alternate = exchange["alternate_exchange"] or effective(
                    policies, exchange["vhost"], exchange["name"], ("all", "exchanges")
                ).get("alternate-exchange")
                found.append(dict(exchange, alternate_exchange=alternate))
        return found[:top], len(found), min(len(candidates), MOST_EXCHANGES)

    def destinations(self, vhost, name, routing_key, seen=()):
        """Names of the queues that a message sent to an exchange with this routing key reaches; None if not known.

        A null routing key stands for one that is not known: every queue it could reach. The default exchange takes
        the routing key for the queue's name.
        """
        if name == "":
            return None if routing_key is None else {routing_key}
        exchange = self.by_name.get((vhost, name))
        if exchange is None or name in seen:
            return set()
        bindings = self.bindings(vhost, name)
        if bindings is None:
            return None
        queues = set()
        for binding in bindings:
            if matches(exchange["type"], binding["routing_key"], routing_key):
                if binding["destination_type"] == "queue":
                    queues.add(binding["destination"])
                else:
                    queues |= self.destinations(vhost, binding["destination"], routing_key, (*seen, name)) or set()
        return queues


def _published(entry):
    stats = entry.get("message_stats")
    return (stats.get("publish_in") or 0) if isinstance(stats, dict) else 0


def matches(exchange_type, binding_key, routing_key):
    """Whether a binding takes a message. Types that do not look at the key (fanout, headers, plugins) may take any."""
    if routing_key is None or exchange_type not in ("direct", "topic"):
        return True
    if exchange_type == "direct":
        return binding_key == routing_key
    return _topic(binding_key.split("."), routing_key.split("."))


def _topic(pattern, words):
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_topic(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _topic(pattern[1:], words[1:])


def effective(policies, vhost, name, applies_to):
    """The definition of the one policy that applies: of those that match, the one with the highest priority."""
    matching = [
        policy
        for policy in policies
        if policy.get("vhost") == vhost and policy.get("apply-to") in applies_to and _found(policy.get("pattern"), name)
    ]
    if not matching:
        return {}
    return max(matching, key=lambda policy: policy.get("priority") or 0).get("definition") or {}


def _found(pattern, name):
    # Erlang's regular expressions and Python's agree on what names are matched with. One that Python cannot read
    # matches nothing here.
    try:
        return re.search(pattern or "", name) is not None
    except re.error:
        return False


def dead_letters(queues, policies, exchanges, top):
    """Where rejected and expired messages go.

    Returns ``{"queues", "total", "names", "lost", "lost_total"}``: the queues that receive dead letters with their
    depth and their sources, fullest first (``names``: of all of them), and the sources whose dead letters reach no
    queue and are dropped.
    """
    depth = {(queue["vhost"], queue["name"]): queue for queue in queues}
    receiving = {}
    lost = []
    for queue in queues:
        source = dead_letter_source(queue, policies)
        if source is None:
            continue
        targets = exchanges.destinations(queue["vhost"], source["exchange"], source["routing_key"])
        if targets is None:
            continue
        reached = [name for name in targets if (queue["vhost"], name) in depth]
        for name in reached:
            receiving.setdefault((queue["vhost"], name), []).append(source)
        if not reached:
            lost.append(dict(source, vhost=queue["vhost"], reason=_why_lost(exchanges, queue["vhost"], source)))
    found = [
        {
            "vhost": vhost,
            "name": name,
            "ready": depth[(vhost, name)]["ready"],
            "messages": depth[(vhost, name)]["total"],
            "sources": sorted(sources, key=lambda source: source["queue"])[:top],
        }
        for (vhost, name), sources in receiving.items()
    ]
    found.sort(key=lambda entry: (-(entry["messages"] or 0), entry["vhost"], entry["name"]))
    lost.sort(key=lambda entry: (entry["vhost"], entry["queue"]))
    return {
        "queues": found[:top],
        "total": len(found),
        "names": sorted({entry["name"] for entry in found}),
        "lost": lost[:top],
        "lost_total": len(lost),
    }


def dead_letter_source(queue, policies):
    """``{queue, via, exchange, routing_key}`` of a queue whose dead letters go somewhere, else None."""
    arguments = queue["arguments"]
    kinds = ("all", "queues", "%s_queues" % queue["type"])
    policy = effective(policies, queue["vhost"], queue["name"], kinds)
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


def _why_lost(exchanges, vhost, source):
    if source["exchange"] == "":
        return "there is no queue %s" % source["routing_key"]
    if (vhost, source["exchange"]) not in exchanges.by_name:
        return "the exchange %s does not exist" % source["exchange"]
    return "the exchange %s routes them to no queue" % source["exchange"]
