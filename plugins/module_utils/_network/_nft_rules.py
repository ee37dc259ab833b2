# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parses the output of ``nft -j list ruleset``. Private to this collection.

The name of a table includes its family: ``inet filter``.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._network._packet import (
    MAYBE,
    NO,
    YES,
    Chain,
    Chains,
    Match,
    Packet,
    Policy,
    every,
    some,
)

FAMILIES = ("ip", "inet")
VERDICTS = {"accept": "ACCEPT", "drop": "DROP", "reject": "REJECT", "return": "RETURN"}
JUMPS = ("jump", "goto")
# Statements that do not end the evaluation of a rule.
GOES_ON = {"counter", "log", "mangle", "ct helper", "ct timeout", "ct expectation", "notrack", "meter", "dup", "flow"}
GOES_ON |= {"continue", "set", "map", "last", "secmark"}
# Protocols that the packet does not have: a comparison with one of their fields is false.
FOREIGN = {"udp", "udplite", "icmp", "icmpv6", "ip6", "arp", "sctp", "dccp", "igmp", "esp", "ah", "comp"}
ANY_DEVICE, ANYTHING = "*", "*"
COUNTER = re.compile(r"counter packets \d+ bytes \d+ ")
# Priority of the hook at which addresses are translated.
DNAT_PRIORITY = -100

Condition = Callable[[Packet], Match]


class Rule:
    """One rule, or one element of a verdict map in it. ``conditions`` are functions of the packet."""

    def __init__(
        self, chain_id: Chain, handle: int, conditions: list[Condition], target: str | None, is_goto: bool = False
    ) -> None:
        self.table, self.chain = chain_id
        self.handle, self.conditions, self.target, self.is_goto = handle, conditions, target, is_goto

    def matches(self, packet: Packet) -> Match:
        """Return whether the rule matches the packet; null if that depends on what is not known."""
        return every(condition(packet) for condition in self.conditions)


class Rules(Chains):
    """All rules. ``hooks`` are ``(hook, priority, table, chain)`` of the base chains that IPv4 packets traverse."""

    def __init__(self, listing: Mapping[str, Any]) -> None:
        super().__init__()
        self.hooks: list[tuple[str, int, str, str]] = []
        # By table and "@name".
        self._sets: dict[tuple[str, str], list[Any]] = {}
        entries = listing.get("nftables", ())
        for entry in entries:
            for kind in ("set", "map"):
                if kind in entry:
                    found = entry[kind]
                    self._sets[_table(found), "@" + found["name"]] = found.get("elem") or []
            if "chain" in entry:
                self._add_chain(entry["chain"])
        for entry in entries:
            if "rule" in entry:
                self._add_rule(entry["rule"])

    def _add_chain(self, chain: Mapping[str, Any]) -> None:
        chain_id = (_table(chain), chain["name"])
        self.rules[chain_id] = []
        if "hook" in chain:
            self.policies[chain_id] = chain.get("policy", "accept").upper()
            if chain["family"] in FAMILIES and chain.get("type") == "filter":
                self.hooks.append((chain["hook"], chain.get("prio", 0), *chain_id))

    def _add_rule(self, entry: Mapping[str, Any]) -> None:
        chain_id = (_table(entry), entry["chain"])
        conditions: list[Condition] = []
        for statement in entry.get("expr", ()):
            # A statement without a JSON form is a text.
            kind, value = next(iter(statement.items())) if isinstance(statement, dict) else ("?", statement)
            if kind == "match":
                conditions.append(self._condition(chain_id[0], value))
            elif kind == "vmap":
                self._add_map(chain_id, entry["handle"], conditions, value)
                return
            elif kind in VERDICTS or kind in JUMPS:
                self.rules[chain_id].append(Rule(chain_id, entry["handle"], conditions, *_target(statement)))
                return
            elif kind == "limit" or (kind == "xt" and value.get("type") == "match"):
                conditions.append(_unsure)
            elif kind not in GOES_ON:
                # An unknown statement may end the traversal.
                self.rules[chain_id].append(Rule(chain_id, entry["handle"], list(conditions), kind))

    def _add_map(self, chain_id: Chain, handle: int, conditions: list[Condition], vmap: Mapping[str, Any]) -> None:
        """Add a rule for each element of a verdict map."""
        elements = vmap["data"]["set"] if isinstance(vmap["data"], dict) else None
        if elements is None:
            elements = self._sets.get((chain_id[0], vmap["data"]), [])
        for key, verdict in elements:
            condition = self._condition(chain_id[0], {"op": "==", "left": vmap["key"], "right": _bare(key)})
            self.rules[chain_id].append(Rule(chain_id, handle, [*conditions, condition], *_target(verdict)))

    def _condition(self, table: str, match: Mapping[str, Any]) -> Condition:
        left, right = match["left"], match["right"]
        if isinstance(right, str) and right.startswith("@"):
            right = {"set": self._sets.get((table, right), [])}
        return lambda packet: _met(match["op"], left, right, packet)


def in_words(rule: Rule | Policy, listing: str) -> str:
    """Return a rule or a policy in the syntax of nft, from the output of ``nft -a list chain``."""
    if isinstance(rule, Policy):
        return "policy %s" % rule.policy.lower()
    ending = " # handle %d" % rule.handle
    lines = (COUNTER.sub("", line.strip()) for line in listing.splitlines() if line.endswith(ending))
    return next((line[: -len(ending)] for line in lines), "handle %d" % rule.handle)


def _table(entry: Mapping[str, Any]) -> str:
    return "%s %s" % (entry["family"], entry.get("table") or entry["name"])


def _target(verdict: Mapping[str, Any]) -> tuple[str | None, bool]:
    """Return the target of a verdict, and whether it is a goto."""
    ((kind, value),) = verdict.items()
    return (value["target"], kind == "goto") if kind in JUMPS else (VERDICTS.get(kind), False)


def _bare(element: Any) -> Any:
    """Return an element of a set without its counter and timeout."""
    return element["elem"]["val"] if isinstance(element, dict) and "elem" in element else element


def _unsure(_packet: Packet) -> Match:
    return MAYBE


def _met(operator: str, left: Any, right: Any, packet: Packet) -> Match:
    """Return whether a comparison is true for the packet."""
    if _protocol(left) in FOREIGN:
        return NO
    values = right if isinstance(right, list) else right["set"] if _holds(right, "set") else [right]
    if operator in ("==", "in", "!="):
        met = some(_equals(left, _bare(value), packet) for value in values)
        return met if met is MAYBE or operator != "!=" else not met
    number = _port(left, packet)
    if number is None or not isinstance(right, int):
        return MAYBE
    return {"<": number < right, ">": number > right, "<=": number <= right, ">=": number >= right}.get(operator)


def _holds(value: Any, name: str) -> bool:
    return isinstance(value, dict) and name in value


def _protocol(left: Any) -> Any:
    return left["payload"].get("protocol") if _holds(left, "payload") else None


def _port(left: Any, packet: Packet) -> int | None:
    """Return the port of the packet that an expression means; null for other expressions."""
    if left in ({"payload": {"protocol": "tcp", "field": "dport"}}, {"payload": {"protocol": "th", "field": "dport"}}):
        return packet.port
    if _holds(left, "ct") and left["ct"] == {"key": "proto-dst", "dir": "original"}:
        return packet.original_port
    return None


def _equals(left: Any, value: Any, packet: Packet) -> Match:
    """Return whether an expression has this value, or one of this range, for the packet."""
    if value == ANYTHING and not isinstance(left, str):
        return YES
    if _holds(left, "concat"):
        parts = value.get("concat", ()) if isinstance(value, dict) else ()
        return every(_equals(each, part, packet) for each, part in zip(left["concat"], parts)) if parts else MAYBE
    port = _port(left, packet)
    if port is not None:
        return _within(port, value)
    for kind, compare in (("payload", _payload), ("meta", _meta), ("ct", _tracked), ("fib", _routed)):
        if _holds(left, kind):
            return compare(left[kind], value, packet)
    return MAYBE


def _within(number: int, value: Any) -> Match:
    if isinstance(value, int):
        return number == value
    if _holds(value, "range"):
        least, most = value["range"]
        return least <= number <= most if isinstance(least, int) and isinstance(most, int) else MAYBE
    return MAYBE


def _payload(payload: Any, value: Any, packet: Packet) -> Match:
    field = (payload.get("protocol"), payload.get("field"))
    if field == ("ip", "daddr"):
        return _is_for(value, packet)
    if field == ("ip", "protocol"):
        return value in ("tcp", 6)
    # The first packet of a connection has only this flag.
    return value == "syn" if field == ("tcp", "flags") else MAYBE


def _is_for(value: Any, packet: Packet) -> Match:
    try:
        if _holds(value, "range"):
            least, most = (ipaddress.IPv4Address(address) for address in value["range"])
            return least <= packet.address <= most if packet.address else MAYBE
        text = "%(addr)s/%(len)d" % value["prefix"] if _holds(value, "prefix") else value
        return packet.is_for(ipaddress.ip_network(text, strict=False))
    except (ValueError, TypeError):
        return MAYBE


def _meta(meta: Any, value: Any, packet: Packet) -> Match:
    key = meta.get("key")
    if not isinstance(value, (str, int)):
        return MAYBE
    if key in ("iifname", "iif"):
        return packet.came_by(str(value), ANY_DEVICE)
    if key in ("oifname", "oif"):
        return packet.leaves_by(str(value), ANY_DEVICE)
    known: dict[str, Sequence[str | int]] = {"l4proto": ("tcp", 6), "nfproto": ("ipv4", 2), "protocol": ("ip", 2048)}
    return value in known[key] if key in known else MAYBE


def _tracked(tracked: Any, value: Any, packet: Packet) -> Match:
    key = tracked.get("key")
    if key == "state":
        return value == "new"
    if key == "direction":
        return value == "original"
    # A packet with an address has that of the container, which was translated.
    return YES if key == "status" and value == "dnat" and packet.address else MAYBE


def _routed(fib: Any, value: Any, packet: Packet) -> Match:
    """Return whether its destination has this type: local while it has the address of the host, else unicast."""
    if fib.get("result") != "type" or fib.get("flags") != ["daddr"]:
        return MAYBE
    return value == ("unicast" if packet.address else "local")
