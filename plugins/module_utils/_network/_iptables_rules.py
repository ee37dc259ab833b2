# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parses the output of iptables-save. Private to this collection."""

from __future__ import annotations

import ipaddress
import re
import shlex
from typing import Iterable

from ansible_collections.tracktion.ops.plugins.module_utils._network._packet import (
    MAYBE,
    NO,
    YES,
    Chains,
    Dropping,
    Match,
    Packet,
)

# Targets that do not end the traversal of the chain.
GOES_ON = {"LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "CONNSECMARK", "SECMARK", "CT", "TCPMSS", "TTL", "DSCP", "TOS"}
GOES_ON |= {"CLASSIFY", "AUDIT", "TRACE", "SET", "NOTRACK", "CHECKSUM", "TPROXY", "RATEEST"}
# Match modules whose options are all known here. Whether another one matches is never certain.
MODULES = {"tcp", "conntrack", "state", "comment", "multiport"}
COUNTED = re.compile(r"^\[\d+:\d+\] ")
# All that is printed for a table with rules that iptables cannot express.
INCOMPATIBLE = re.compile(r"^# Table `(\w+)' is incompatible", re.MULTILINE)
ANY_DEVICE = "+"


class Rule:
    """One rule. ``conditions`` are ``(option, values, negated)``."""

    def __init__(self, text: str, table: str = "filter") -> None:
        self.text, self.table = text, table
        self.conditions: list[tuple[str, list[str], bool]] = []
        self.target: str | None = None
        self.is_goto = False
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
                # The options of the target follow.
                self.target, self.is_goto = None if values[0] in GOES_ON else values[0], word == "-g"
                return
            self.conditions.append((word, values, negated))
            at, negated = end, False

    def matches(self, packet: Packet) -> Match:
        """Return whether the rule matches the packet; null if that depends on what is not known."""
        outcome: Match = YES
        for option, values, negated in self.conditions:
            met = _met(option, values, packet)
            if met is MAYBE:
                outcome = MAYBE
            elif met is negated:
                return NO
        return outcome


def _met(option: str, values: list[str], packet: Packet) -> Match:
    value = values[0] if values else ""
    if option == "-m":
        return YES if value in MODULES else MAYBE
    if option in ("--comment", "--syn"):
        return YES
    if option == "-p":
        return value in ("tcp", "6", "all")
    if option == "-d":
        return packet.is_for(ipaddress.ip_network(value, strict=False))
    if option == "-o":
        return packet.leaves_by(value, ANY_DEVICE)
    if option == "-i":
        return packet.came_by(value, ANY_DEVICE)
    if option in ("--dport", "--dports"):
        return has_port(value, packet.port)
    if option == "--ctorigdstport":
        return has_port(value, packet.original_port)
    if option in ("--ctstate", "--state"):
        return _in_state(value.split(","), packet)
    if option == "--ctdir":
        return value == "ORIGINAL"
    return MAYBE


def _in_state(states: Iterable[str], packet: Packet) -> Match:
    """Return whether a condition on the state is met: NEW, and also DNAT once the address is translated."""
    if "NEW" in states or (packet.address and "DNAT" in states):
        return YES
    return MAYBE if "DNAT" in states or "SNAT" in states else NO


def has_port(values: str, port: int) -> bool:
    """Return whether a port is in a list such as ``80,443,8000:8010``."""
    for value in values.split(","):
        least, colon, most = value.partition(":")
        if int(least or 0) <= port <= int((most or 65535) if colon else least):
            return True
    return False


class Rules(Chains):
    """The rules of ``iptables-save``. ``command`` is the program that shows them.

    ``left_out``: tables with rules that iptables cannot express.
    """

    def __init__(self, text: str, command: str = "iptables") -> None:
        super().__init__()
        self.command = command
        self.left_out = set(INCOMPATIBLE.findall(text))
        table = ""
        for line in text.splitlines():
            if line.startswith("*"):
                table = line[1:].strip()
            elif line.startswith(":"):
                chain, policy = line[1:].split()[:2]
                self.rules[table, chain] = []
                if policy != "-":
                    self.policies[table, chain] = policy
            else:
                self._add(table, COUNTED.sub("", line))

    def _add(self, table: str, text: str) -> None:
        if text.startswith("-A "):
            rule = Rule(text, table)
            self.rules.setdefault((table, rule.chain), []).append(rule)

    def describe(self, rule: Dropping) -> tuple[str, list[str]]:
        """Return a rule in the syntax of iptables, and the words of the command that shows its counter."""
        command = [self.command, "-t", rule.table, "-nvL", rule.chain, "--line-numbers"]
        return rule.text if isinstance(rule, Rule) else "-P %s DROP" % rule.chain, command
