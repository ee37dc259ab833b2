# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of iptables, and what they do with a packet of which not all is known. Private to this collection."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

YES, NO, MAYBE = True, False, None
ACCEPTED, DROPPED, UNDETERMINED = "accepted", "dropped", "undetermined"
DROPS = ("DROP", "REJECT")
# Targets after which the next rule is looked at.
GOES_ON = {"LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "CONNSECMARK", "SECMARK", "CT", "TCPMSS", "TTL", "DSCP", "TOS"}
GOES_ON |= {"CLASSIFY", "AUDIT", "TRACE", "SET", "NOTRACK", "CHECKSUM", "TPROXY", "RATEEST"}
# Modules whose every option is understood below; whether another one matches is never certain.
MODULES = {"tcp", "conntrack", "state", "comment", "multiport"}
COUNTED = re.compile(r"^\[(\d+):\d+\] ")
DEPTH = 32
LEGACY_TABLES = "/proc/net/ip_tables_names"


class Packet:
    """The first packet of a connection. What is null may be anything."""

    def __init__(self, port, original_port, address=None, bridge=None, never=None):
        self.port, self.original_port = port, original_port
        self.address = ipaddress.ip_address(address) if address else None
        # An address that it is surely not for: that of the container, as long as it has the host's.
        self.never = ipaddress.ip_network(never) if never else None
        # It goes out to this bridge, and came in by another device; neither is known before it is routed.
        self.bridge = bridge


class Rule:
    """One rule: ``conditions`` are ``(option, values, negated)``."""

    def __init__(self, text, packets=None):
        self.text, self.packets = text, packets
        self.conditions = []
        self.target, self.is_goto = None, False
        words = shlex.split(text)
        self.chain = words[1]
        at, negated = 2, False
        while at < len(words):
            word = words[at]
            end = at + 1
            while end < len(words) and not words[end].startswith("-") and words[end] != "!":
                end += 1
            if word == "!":
                negated, at = True, at + 1
                continue
            values = words[at + 1 : end]
            if word in ("-j", "-g"):
                self.target, self.is_goto = values[0], word == "-g"
                # What follows are the target's own options.
                return
            self.conditions.append((word, values, negated))
            at, negated = end, False

    def matches(self, packet):
        """Whether the packet is one that the rule is about; null where that depends on what is not known."""
        outcome = YES
        for option, values, negated in self.conditions:
            met = _met(option, values, packet)
            if met is MAYBE:
                outcome = MAYBE
            elif met is negated:
                return NO
        return outcome


def _met(option, values, packet):
    value = values[0] if values else ""
    if option == "-m":
        return YES if value in MODULES else MAYBE
    if option in ("--comment", "--syn"):
        return YES
    if option == "-p":
        return value in ("tcp", "6", "all")
    if option == "-d":
        return _is_for(packet, ipaddress.ip_network(value, strict=False))
    if option == "-o":
        return is_device(packet.bridge, value) if packet.bridge else MAYBE
    if option == "-i":
        # From outside: neither from the bridge it goes to, nor from ourselves.
        return NO if value == "lo" or (packet.bridge and is_device(packet.bridge, value)) else MAYBE
    if option in ("--dport", "--dports"):
        return has_port(value, packet.port)
    if option == "--ctorigdstport":
        return has_port(value, packet.original_port)
    if option in ("--ctstate", "--state"):
        return "NEW" in value.split(",")
    if option == "--ctdir":
        return value == "ORIGINAL"
    return MAYBE


def _is_for(packet, network):
    if packet.address:
        return packet.address in network
    # Nobody outside can send anything to our loopback addresses.
    return NO if network == packet.never or network.is_loopback else MAYBE


def is_device(name, pattern):
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern


def has_port(values, port):
    """Whether a port is among ``80,443,8000:8010``."""
    for value in values.split(","):
        least, colon, most = value.partition(":")
        if int(least or 0) <= port <= int((most or 65535) if colon else least):
            return True
    return False


class Rules:
    """What ``iptables-save -c`` prints: ``policies`` and ``rules`` by table and chain."""

    def __init__(self, text):
        self.policies, self.rules = {}, {}
        table = None
        for line in text.splitlines():
            if line.startswith("*"):
                table = line[1:].strip()
            elif line.startswith(":"):
                chain, policy = line[1:].split()[:2]
                self.rules[table, chain] = []
                if policy != "-":
                    self.policies[table, chain] = policy
            else:
                self._add(table, line)

    def _add(self, table, line):
        counted = COUNTED.match(line)
        text = line[counted.end() :] if counted else line
        if text.startswith("-A "):
            rule = Rule(text, int(counted.group(1)) if counted else None)
            self.rules.setdefault((table, rule.chain), []).append(rule)

    def jumps(self, table, chain, prefix):
        """Whether a chain hands packets to a chain whose name starts so."""
        return any((rule.target or "").startswith(prefix) for rule in self.rules.get((table, chain), ()))

    def chains(self):
        return {chain for _table, chain in self.rules}

    def verdict(self, table, chain, packet):
        """``(accepted | dropped | undetermined, text of a rule that drops)``."""
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
            if met is NO or rule.target is None or rule.target in GOES_ON:
                continue
            here = self._effect(table, rule, packet, known, depth - 1)
            outcomes += [outcome for outcome in here if outcome[0] != "next"]
            if met is YES and all(outcome[0] != "next" for outcome in here):
                break
        else:
            policy = self.policies.get((table, chain))
            text = "-P %s %s" % (chain, policy)
            outcomes.append(("drop", text) if policy == "DROP" else ("accept" if policy else "return", None))
        known[chain] = outcomes
        return outcomes

    def _effect(self, table, rule, packet, known, depth):
        if rule.target == "ACCEPT":
            return [("accept", None)]
        if rule.target in DROPS:
            return [("drop", rule.text)]
        if rule.target == "RETURN":
            return self._returned(table, rule)
        if (table, rule.target) not in self.rules:
            return [("?", None), ("next", None)]
        within = self._walk(table, rule.target, packet, known, depth)
        after = "return" if rule.is_goto else "next"
        return [(after, text) if verdict == "return" else (verdict, text) for verdict, text in within]

    def _returned(self, table, rule):
        """In a chain of the kernel's own, what returns meets the policy."""
        policy = self.policies.get((table, rule.chain))
        if policy is None:
            return [("return", None)]
        return [("drop", rule.text)] if policy == "DROP" else [("accept", None)]


class Filter:
    """All rules of this machine that could be read. Raises _programs.Failed where none could."""

    def __init__(self, seconds):
        deadline = Deadline(seconds)
        self.rules = [Rules(_programs.output([program, "-c"], deadline.remaining())) for program in _savers()]
        self.foreign = _foreign(deadline)
        chains = set().union(*(rules.chains() for rules in self.rules))
        self.managers = [
            name
            for name, prefix in (("ufw", "ufw-"), ("firewalld", "FWD"))
            if any(chain.startswith(prefix) for chain in chains)
        ]
        if any(name.split()[1] == "firewalld" for name in self.foreign or ()):
            self.managers.append("firewalld")

    @property
    def forward_policy(self):
        """DROP where the rules of any kind say so."""
        policies = {rules.policies.get(("filter", "FORWARD"), "ACCEPT") for rules in self.rules}
        return "DROP" if "DROP" in policies else "ACCEPT"

    def jumps(self, table, chain, prefix):
        return any(rules.jumps(table, chain, prefix) for rules in self.rules)

    def verdict(self, host_port, port, address, bridge, host_address=None):
        """What becomes of a connection from outside to a published port: before and after its address is translated."""
        arriving = Packet(host_port, host_port, host_address, never=address)
        routed = Packet(port, host_port, address, bridge)
        hooks = [("raw", "PREROUTING", arriving), ("mangle", "PREROUTING", arriving)]
        hooks += [("mangle", "FORWARD", routed), ("filter", "FORWARD", routed)]
        found = [rules.verdict(table, chain, packet) for rules in self.rules for table, chain, packet in hooks]
        for wanted in (DROPPED, UNDETERMINED):
            for verdict, rule in found:
                if verdict == wanted:
                    return verdict, rule
        return (UNDETERMINED if self.foreign else ACCEPTED), None


def _savers():
    """The programs that print the rules. Packets meet those of both kinds, where both are in use."""
    try:
        with open(LEGACY_TABLES, encoding="utf-8") as stream:
            legacy = bool(stream.read().strip())
    except OSError:
        legacy = False
    both = ("iptables-nft-save", "iptables-legacy-save")
    return both if legacy and all(_programs.find(name) for name in both) else ("iptables-save",)


def _foreign(deadline):
    """Chains of nftables, beside those of iptables, that forwarded packets go through; null where that is not known."""
    try:
        text = _programs.output(["nft", "-j", "list", "chains"], deadline.remaining())
        return foreign_chains(json.loads(text))
    except (_programs.Failed, ValueError):
        return None


def foreign_chains(listing):
    """``family table chain`` of the forward chains that are none of iptables."""
    chains = [entry["chain"] for entry in listing.get("nftables", ()) if "chain" in entry]
    return [
        "%(family)s %(table)s %(name)s" % chain
        for chain in chains
        if chain.get("hook") == "forward"
        and chain["family"] in ("ip", "inet")
        and not (chain["family"] == "ip" and chain["table"] in ("filter", "mangle", "security"))
    ]
