# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Follows a partly known packet through chains of rules. Private to this collection."""

from __future__ import annotations

import ipaddress
from typing import Iterable, NamedTuple, Optional, Protocol, Tuple, Union

from ansible_collections.tracktion.ops.plugins.module_utils._network._network_routes import ENGINES_BRIDGE

# Whether something matches; null if that depends on what is not known.
Match = Optional[bool]
YES, NO = True, False
MAYBE: Match = None
ACCEPTED, DROPPED, UNDETERMINED = "accepted", "dropped", "undetermined"
DROPS = ("DROP", "REJECT")
DEPTH = 32


class Packet:
    """The first packet of a TCP connection over IPv4. A field that is null may have any value."""

    def __init__(
        self,
        port: int,
        original_port: int,
        address: str | None = None,
        bridge: str | None = None,
        never: str | None = None,
    ) -> None:
        self.port, self.original_port = port, original_port
        self.address = ipaddress.IPv4Address(address) if address else None
        # An address that it is certainly not for: that of the container, while it has the address of the host.
        self.never = ipaddress.IPv4Network(never) if never else None
        # It leaves by this bridge and came in by another device; null before routing.
        self.bridge = bridge

    def is_for(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Match:
        """Return whether its destination is in a network."""
        if self.address:
            return self.address in network
        # No other host can send packets to loopback addresses.
        return NO if network == self.never or network.is_loopback else MAYBE

    def leaves_by(self, pattern: str, wildcard: str) -> Match:
        """Return whether it leaves by a device of this name, which may end in a wildcard."""
        return is_device(self.bridge, pattern, wildcard) if self.bridge else MAYBE

    def came_by(self, pattern: str, wildcard: str) -> Match:
        """Return whether it came in by a device of this name: from outside, so not a bridge of the engine or ``lo``."""
        if pattern == "lo" or ENGINES_BRIDGE.match(pattern):
            return NO
        return NO if self.bridge and is_device(self.bridge, pattern, wildcard) else MAYBE


def is_device(name: str, pattern: str, wildcard: str) -> bool:
    """Return whether a device has the name ``pattern``, which may end in a wildcard."""
    return name.startswith(pattern[: -len(wildcard)]) if pattern.endswith(wildcard) else name == pattern


def every(outcomes: Iterable[Match]) -> Match:
    """Return NO if one outcome is NO, else MAYBE if one is MAYBE, else YES."""
    outcomes = list(outcomes)
    return NO if NO in outcomes else MAYBE if MAYBE in outcomes else YES


def some(outcomes: Iterable[Match]) -> Match:
    """Return YES if one outcome is YES, else MAYBE if one is MAYBE, else NO."""
    outcomes = list(outcomes)
    return YES if YES in outcomes else MAYBE if MAYBE in outcomes else NO


class Rule(Protocol):
    """A rule of a chain. ``target`` is a verdict in the words of iptables or a chain; null if the next rule follows."""

    table: str
    chain: str
    target: str | None
    is_goto: bool

    def matches(self, packet: Packet) -> Match:
        """Return whether the rule matches the packet."""


class Policy(NamedTuple):
    """The policy of a chain, for packets that no rule decides."""

    table: str
    chain: str
    policy: str


Dropping = Union[Rule, Policy]
# ``accept``, ``drop``, ``return``, ``next`` or ``?``, and the rule that drops.
Outcome = Tuple[str, Optional[Dropping]]
# Table and chain.
Chain = Tuple[str, str]


class Chains:
    """``policies`` and ``rules`` by table and chain. Only base chains have a policy."""

    def __init__(self) -> None:
        self.policies: dict[Chain, str] = {}
        self.rules: dict[Chain, list[Rule]] = {}

    def jumps(self, table: str, chain: str, prefix: str) -> bool:
        """Return whether a chain jumps to a chain whose name begins with ``prefix``."""
        return any((rule.target or "").startswith(prefix) for rule in self.rules.get((table, chain), ()))

    def names(self) -> set[str]:
        """Return the names of all chains."""
        return {chain for _table, chain in self.rules}

    def verdict(self, table: str, chain: str, packet: Packet) -> tuple[str, Dropping | None]:
        """Return ACCEPTED, DROPPED or UNDETERMINED, and the rule or the policy that drops."""
        outcomes = self._walk(table, chain, packet, {}, DEPTH)
        drops = [rule for verdict, rule in outcomes if verdict == "drop"]
        if not drops:
            return UNDETERMINED if any(verdict == "?" for verdict, _rule in outcomes) else ACCEPTED, None
        certain = all(verdict == "drop" for verdict, _rule in outcomes)
        return DROPPED if certain else UNDETERMINED, drops[0]

    def _walk(
        self, table: str, chain: str, packet: Packet, known: dict[str, list[Outcome]], depth: int
    ) -> list[Outcome]:
        """Return the possible outcomes for the packet in a chain."""
        if chain in known or not depth:
            return known.get(chain, [("?", None)])
        outcomes: list[Outcome] = []
        for rule in self.rules.get((table, chain), ()):
            met = rule.matches(packet)
            if met is NO or rule.target is None:
                continue
            here = self._effect(table, rule, rule.target, packet, known, depth - 1)
            outcomes += [outcome for outcome in here if outcome[0] != "next"]
            if met is YES and all(outcome[0] != "next" for outcome in here):
                break
        else:
            outcomes.append(self._at_end(table, chain))
        known[chain] = outcomes
        return outcomes

    def _effect(
        self, table: str, rule: Rule, target: str, packet: Packet, known: dict[str, list[Outcome]], depth: int
    ) -> list[Outcome]:
        if target == "ACCEPT":
            return [("accept", None)]
        if target in DROPS:
            return [("drop", rule)]
        if target == "RETURN":
            return [self._at_end(table, rule.chain)]
        if (table, target) not in self.rules:
            return [("?", None), ("next", None)]
        within = self._walk(table, target, packet, known, depth)
        # A return from the target of a goto continues at the end of the chain with the goto.
        after: Outcome = self._at_end(table, rule.chain) if rule.is_goto else ("next", None)
        return [after if verdict == "return" else (verdict, found) for verdict, found in within]

    def _at_end(self, table: str, chain: str) -> Outcome:
        """Return the outcome at the end of a chain: the policy of a base chain, else ``return``."""
        policy = self.policies.get((table, chain))
        if policy is None:
            return "return", None
        return ("drop", Policy(table, chain, policy)) if policy == "DROP" else ("accept", None)
