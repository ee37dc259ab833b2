# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A packet of which not all is known, and its way through chains of rules. Private to this collection."""

from __future__ import annotations

import ipaddress

from ansible_collections.tracktion.ops.plugins.module_utils._network._network_routes import ENGINES_BRIDGE

YES, NO, MAYBE = True, False, None
ACCEPTED, DROPPED, UNDETERMINED = "accepted", "dropped", "undetermined"
DROPS = ("DROP", "REJECT")
DEPTH = 32


class Packet:
    """The first packet of a TCP connection over IPv4. What is null may be anything."""

    def __init__(self, port, original_port, address=None, bridge=None, never=None):
        self.port, self.original_port = port, original_port
        self.address = ipaddress.ip_address(address) if address else None
        # An address that it is surely not for: that of the container, as long as it has the host's.
        self.never = ipaddress.ip_network(never) if never else None
        # It goes out to this bridge, and came in by another device; neither is known before it is routed.
        self.bridge = bridge

    def is_for(self, network):
        """Whether its destination is in a network."""
        if self.address:
            return self.address in network
        # Nobody outside can send anything to our loopback addresses.
        return NO if network == self.never or network.is_loopback else MAYBE

    def leaves_by(self, pattern, wildcard):
        return is_device(self.bridge, pattern, wildcard) if self.bridge else MAYBE

    def came_by(self, pattern, wildcard):
        """From outside: neither from a bridge of the engine, nor from ourselves."""
        if pattern == "lo" or ENGINES_BRIDGE.match(pattern):
            return NO
        return NO if self.bridge and is_device(self.bridge, pattern, wildcard) else MAYBE


def is_device(name, pattern, wildcard):
    return name.startswith(pattern[: -len(wildcard)]) if pattern.endswith(wildcard) else name == pattern


def every(outcomes):
    """Whether all of it is so: no where one is not, else unknown where one is."""
    outcomes = list(outcomes)
    return NO if NO in outcomes else MAYBE if MAYBE in outcomes else YES


def some(outcomes):
    """Whether any of it is so: yes where one is, else unknown where one is."""
    outcomes = list(outcomes)
    return YES if YES in outcomes else MAYBE if MAYBE in outcomes else NO


class Chains:
    """``policies`` and ``rules`` by table and chain; the kernel's own chains are those that have a policy.

    A rule has ``matches(packet)``, ``target`` (a verdict of iptables or a chain; null where it has no say),
    ``is_goto``, ``chain`` and ``table``.
    """

    def __init__(self):
        self.policies, self.rules = {}, {}

    def jumps(self, table, chain, prefix):
        """Whether a chain hands packets to a chain whose name starts so."""
        return any((rule.target or "").startswith(prefix) for rule in self.rules.get((table, chain), ()))

    def names(self):
        return {chain for _table, chain in self.rules}

    def verdict(self, table, chain, packet):
        """``(accepted | dropped | undetermined, the rule that drops)``: a Policy where it is none."""
        outcomes = self._walk(table, chain, packet, {}, DEPTH)
        drops = [rule for verdict, rule in outcomes if verdict == "drop"]
        if not drops:
            return UNDETERMINED if any(verdict == "?" for verdict, _rule in outcomes) else ACCEPTED, None
        certain = all(verdict == "drop" for verdict, _rule in outcomes)
        return DROPPED if certain else UNDETERMINED, drops[0]

    def _walk(self, table, chain, packet, known, depth):
        """What may become of the packet in a chain: a list of ``(accept | drop | return | ?, rule)``."""
        if chain in known or not depth:
            return known.get(chain, [("?", None)])
        outcomes = []
        for rule in self.rules.get((table, chain), ()):
            met = rule.matches(packet)
            if met is NO or rule.target is None:
                continue
            here = self._effect(table, rule, packet, known, depth - 1)
            outcomes += [outcome for outcome in here if outcome[0] != "next"]
            if met is YES and all(outcome[0] != "next" for outcome in here):
                break
        else:
            outcomes.append(self._at_end(table, chain))
        known[chain] = outcomes
        return outcomes

    def _effect(self, table, rule, packet, known, depth):
        if rule.target == "ACCEPT":
            return [("accept", None)]
        if rule.target in DROPS:
            return [("drop", rule)]
        if rule.target == "RETURN":
            return [self._at_end(table, rule.chain)]
        if (table, rule.target) not in self.rules:
            return [("?", None), ("next", None)]
        within = self._walk(table, rule.target, packet, known, depth)
        # Who comes back from where a goto led is at the end of the chain that it left.
        after = self._at_end(table, rule.chain) if rule.is_goto else ("next", None)
        return [after if verdict == "return" else (verdict, found) for verdict, found in within]

    def _at_end(self, table, chain):
        """In a chain of the kernel's own, what returns meets the policy."""
        policy = self.policies.get((table, chain))
        if policy is None:
            return "return", None
        return ("drop", Policy(table, chain, policy)) if policy == "DROP" else ("accept", None)


class Policy:
    """What becomes of packets that no rule of a chain decides about."""

    def __init__(self, table, chain, policy):
        self.table, self.chain, self.policy = table, chain, policy
