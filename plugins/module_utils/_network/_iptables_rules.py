# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules that iptables-save prints. Private to this collection."""

from __future__ import annotations

import ipaddress
import re
import shlex

from ansible_collections.tracktion.ops.plugins.module_utils._network._packet import MAYBE, NO, YES, Chains

# Targets after which the next rule is looked at.
GOES_ON = {"LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "CONNSECMARK", "SECMARK", "CT", "TCPMSS", "TTL", "DSCP", "TOS"}
GOES_ON |= {"CLASSIFY", "AUDIT", "TRACE", "SET", "NOTRACK", "CHECKSUM", "TPROXY", "RATEEST"}
# Modules whose every option is understood below; whether another one matches is never certain.
MODULES = {"tcp", "conntrack", "state", "comment", "multiport"}
COUNTED = re.compile(r"^\[\d+:\d+\] ")
# A table with rules that iptables has no words for is left out, with no more than this.
INCOMPATIBLE = re.compile(r"^# Table `(\w+)' is incompatible", re.MULTILINE)
ANY_DEVICE = "+"


class Rule:
    """One rule: ``conditions`` are ``(option, values, negated)``."""

    def __init__(self, text, table=None):
        self.text, self.table = text, table
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
                # What follows are the target's own options.
                self.target, self.is_goto = None if values[0] in GOES_ON else values[0], word == "-g"
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


def _in_state(states, packet):
    """The first packet of a connection is a new one; once its address is translated, it is that as well."""
    if "NEW" in states or (packet.address and "DNAT" in states):
        return YES
    return MAYBE if "DNAT" in states or "SNAT" in states else NO


def has_port(values, port):
    """Whether a port is among ``80,443,8000:8010``."""
    for value in values.split(","):
        least, colon, most = value.partition(":")
        if int(least or 0) <= port <= int((most or 65535) if colon else least):
            return True
    return False


class Rules(Chains):
    """What ``iptables-save`` prints. ``command`` is the program that made the rules."""

    def __init__(self, text, command="iptables"):
        super().__init__()
        self.command = command
        self.left_out = set(INCOMPATIBLE.findall(text))
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
                self._add(table, COUNTED.sub("", line))

    def _add(self, table, text):
        if text.startswith("-A "):
            rule = Rule(text, table)
            self.rules.setdefault((table, rule.chain), []).append(rule)

    def tell(self, rule):
        """``rule, rule_command``: the rule as iptables writes it, and the words of what shows its counter."""
        command = [self.command, "-t", rule.table, "-nvL", rule.chain, "--line-numbers"]
        return getattr(rule, "text", None) or "-P %s DROP" % rule.chain, command
