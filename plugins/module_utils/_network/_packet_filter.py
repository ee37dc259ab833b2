# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the rules of this machine, iptables' and nftables', do with packets. Private to this collection.

The tables that iptables itself keeps in nftables are read in its words, since nft cannot tell of its modules.
"""

from __future__ import annotations

import json
import re

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network import _iptables_rules, _nft_rules, _nft_tables
from ansible_collections.tracktion.ops.plugins.module_utils._network._packet import (
    ACCEPTED,
    DROPPED,
    UNDETERMINED,
    Packet,
)

LEGACY_TABLES = "/proc/net/ip_tables_names"
NFT_NAME = re.compile(r"[A-Za-z_][\w./\\-]*", re.ASCII)
OVER_NFT, LEGACY, EITHER = "iptables-nft", "iptables-legacy", "iptables"
# The tables of iptables for IPv4, where it keeps them in nftables.
OWN_TABLES = tuple("ip " + table for table in ("raw", "mangle", "nat", "filter", "security"))


class Filter:
    """All rules of this machine. Raises _programs.Failed where those of iptables cannot be read.

    ``unread`` says why those of nftables are not known, and is null where they are, or where there are none.
    """

    def __init__(self, seconds):
        self._deadline = Deadline(seconds)
        self.saved = _saved(self._deadline)
        self.nft, self.unread = _of_nft(self.saved, self._deadline)
        chains = set().union(*(rules.names() for rules in self.saved))
        self.managers = [
            name
            for name, prefix in (("ufw", "ufw-"), ("firewalld", "FWD"))
            if any(chain.startswith(prefix) for chain in chains)
        ]
        if any(table == "inet firewalld" for table, _chain in self.nft.rules) and "firewalld" not in self.managers:
            self.managers.append("firewalld")

    @property
    def forward_policy(self):
        """DROP where the rules of any kind say so."""
        policies = {rules.policies.get(("filter", "FORWARD")) for rules in self.saved}
        policies.add(self.nft.policies.get(("ip filter", "FORWARD")))
        return "DROP" if "DROP" in policies else "ACCEPT"

    def jumps(self, table, chain, prefix):
        """Whether a chain of iptables hands packets to a chain whose name starts so."""
        found = any(rules.jumps(table, chain, prefix) for rules in self.saved)
        return found or self.nft.jumps("ip " + table, chain, prefix)

    def verdict(self, host_port, port, address, bridge, host_address=None):
        """``firewall, rule, rule_command``: what becomes of a connection from outside to a published port.

        It is followed as it arrives, and once its address is translated.
        """
        arriving = Packet(host_port, host_port, host_address, never=address)
        translated = Packet(port, host_port, address)
        routed = Packet(port, host_port, address, bridge)
        found = []
        for rules in self.saved:
            for table, chain, packet in (
                ("raw", "PREROUTING", arriving),
                ("mangle", "PREROUTING", arriving),
                ("mangle", "FORWARD", routed),
                ("filter", "FORWARD", routed),
            ):
                found.append((rules, *rules.verdict(table, chain, packet)))
        for hook, priority, table, chain in self.nft.hooks:
            early = priority < _nft_rules.DNAT_PRIORITY
            packet = {"prerouting": arriving if early else translated, "forward": routed}.get(hook)
            if packet and not self._is_saved(table, chain):
                found.append((self.nft, *self.nft.verdict(table, chain, packet)))
        dropping = next(((rules, rule) for rules, verdict, rule in found if verdict == DROPPED), None)
        if dropping:
            return (DROPPED, *self._told(*dropping))
        if self.unread:
            return None, None, None
        return UNDETERMINED if UNDETERMINED in [verdict for _rules, verdict, _rule in found] else ACCEPTED, None, None

    def _is_saved(self, table, chain):
        """Whether a chain of nftables is one that iptables has told of."""
        family, name = table.split(" ", 1)
        known = any((name, chain) in rules.policies for rules in self.saved if rules.command == OVER_NFT)
        return family == "ip" and known

    def _told(self, rules, rule):
        """``rule, rule_command``: a rule in words, and the words of the command that shows it with its counter."""
        if rules is not self.nft:
            return rules.tell(rule)
        names = [*rule.table.split(" ", 1), rule.chain]
        if not all(NFT_NAME.fullmatch(name) for name in names):
            # nft reads its arguments as one text of its own language: such a name could be more than a name.
            return "%s %s" % (rule.table, rule.chain), ["nft", "-a", "list", "ruleset"]
        words = ["nft", "-a", "list", "chain", *names]
        try:
            listing = _programs.output(words, self._deadline.remaining())
        except _programs.Failed:
            listing = ""
        said = "%s %s: %s" % (rule.table, rule.chain, _nft_rules.in_words(rule, listing))
        return said, words


def _saved(deadline):
    """What the variants of iptables tell. Packets meet the rules of both, where both are in use."""
    variants = [variant for variant in (OVER_NFT, LEGACY) if _programs.find(variant + "-save")]
    legacy = _legacy_in_use()
    if LEGACY in variants and not legacy:
        variants.remove(LEGACY)
    found, failure = [], None
    for variant in variants or [EITHER]:
        try:
            text = _programs.output([variant + "-save", "-c"], deadline.remaining())
            found.append(_iptables_rules.Rules(text, variant))
        except _programs.Failed as exc:
            # A kernel without nftables has the other kind alone.
            failure = failure or exc
    if failure and not (found and legacy):
        raise failure
    return found


def _legacy_in_use():
    try:
        with open(LEGACY_TABLES, encoding="utf-8") as stream:
            return bool(stream.read().strip())
    except OSError:
        return False


def _of_nft(saved, deadline):
    """The rules of nftables, and why they are not known, else null."""
    nothing = _nft_rules.Rules({})
    left_out = {"ip " + table for rules in saved for table in rules.left_out}
    try:
        tables = _nft_tables.read(deadline.remaining())
        if not tables:
            return nothing, None
        text = _programs.output(["nft", "-j", "list", "ruleset"], deadline.remaining())
        return _nft_rules.Rules(json.loads(text)), None
    except _programs.Absent:
        # Without nft, who would have made rules beside those of iptables? Still, ask.
        unread = sorted(left_out.union(tables).difference(set(OWN_TABLES) - left_out))
        reason = "nft is not installed, and the kernel has rules in %s: apt-get install nftables"
        relevant = [table for table in unread if table.split(" ", 1)[0] in _nft_rules.FAMILIES]
        return nothing, reason % ", ".join(relevant) if relevant else None
    except (_programs.Failed, OSError, ValueError, KeyError, TypeError) as exc:
        return nothing, "the rules of nftables cannot be read: %s" % exc
