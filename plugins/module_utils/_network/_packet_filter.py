# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evaluates the rules of iptables and nftables of this machine for published ports. Private to this collection.

The tables that iptables keeps in nftables are read by iptables-save, because nft cannot print the iptables modules.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple, Sequence, Union, cast

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network import _iptables_rules, _nft_rules, _nft_tables
from ansible_collections.tracktion.ops.plugins.module_utils._network._packet import (
    ACCEPTED,
    DROPPED,
    UNDETERMINED,
    Dropping,
    Packet,
    Policy,
)

LEGACY_TABLES = "/proc/net/ip_tables_names"
NFT_NAME = re.compile(r"[A-Za-z_][\w./\\-]*", re.ASCII)
OVER_NFT, LEGACY, EITHER = "iptables-nft", "iptables-legacy", "iptables"
# The IPv4 tables of iptables, if it keeps them in nftables.
OWN_TABLES = tuple("ip " + table for table in ("raw", "mangle", "nat", "filter", "security"))

Rules = Union[_iptables_rules.Rules, _nft_rules.Rules]
NftDropping = Union[_nft_rules.Rule, Policy]


class Verdict(NamedTuple):
    """What the rules do with a connection, the rule that drops it, and the command that shows this rule.

    ``firewall`` is null if not all rules are known.
    """

    firewall: str | None = None
    rule: str | None = None
    rule_command: list[str] | None = None


class Filter:
    """All rules of this machine. Raises _programs.Failed if those of iptables cannot be read.

    ``unread`` is the reason why the rules of nftables are not known, or null.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = Deadline(seconds)
        self.saved = _saved(self._deadline)
        self.nft, self.unread = _read_nft(self.saved, self._deadline)
        chains: set[str] = set().union(*(rules.names() for rules in self.saved))
        self.managers = [
            name
            for name, prefix in (("ufw", "ufw-"), ("firewalld", "FWD"))
            if any(chain.startswith(prefix) for chain in chains)
        ]
        if any(table == "inet firewalld" for table, _chain in self.nft.rules) and "firewalld" not in self.managers:
            self.managers.append("firewalld")

    @property
    def forward_policy(self) -> str:
        """The policy of FORWARD: DROP if that of iptables or of nftables is DROP."""
        policies = {rules.policies.get(("filter", "FORWARD")) for rules in self.saved}
        policies.add(self.nft.policies.get(("ip filter", "FORWARD")))
        return "DROP" if "DROP" in policies else "ACCEPT"

    def jumps(self, table: str, chain: str, prefix: str) -> bool:
        """Return whether a chain of iptables jumps to a chain whose name begins with ``prefix``."""
        found = any(rules.jumps(table, chain, prefix) for rules in self.saved)
        return found or self.nft.jumps("ip " + table, chain, prefix)

    def verdict(
        self, host_port: int, port: int, address: str, bridge: str | None, host_address: str | None = None
    ) -> Verdict:
        """Return what the rules do with a connection from outside to a published port.

        The packet is followed before and after its address is translated.
        """
        arriving = Packet(host_port, host_port, host_address, never=address)
        translated = Packet(port, host_port, address)
        routed = Packet(port, host_port, address, bridge)
        found: list[tuple[Rules, str, Dropping | None]] = []
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
            hooked = {"prerouting": arriving if early else translated, "forward": routed}.get(hook)
            if hooked and not self._is_saved(table, chain):
                found.append((self.nft, *self.nft.verdict(table, chain, hooked)))
        for source, verdict, rule in found:
            if verdict == DROPPED and rule is not None:
                return Verdict(DROPPED, *self._describe(source, rule))
        if self.unread:
            return Verdict()
        return Verdict(UNDETERMINED if UNDETERMINED in [verdict for _rules, verdict, _rule in found] else ACCEPTED)

    def _is_saved(self, table: str, chain: str) -> bool:
        """Return whether a chain of nftables is one that iptables-save printed."""
        family, name = table.split(" ", 1)
        known = any((name, chain) in rules.policies for rules in self.saved if rules.command == OVER_NFT)
        return family == "ip" and known

    def _describe(self, rules: Rules, rule: Dropping) -> tuple[str, list[str]]:
        """Return the text of a rule, and the words of the command that shows it with its counter."""
        if isinstance(rules, _iptables_rules.Rules):
            return rules.describe(rule)
        names = [*rule.table.split(" ", 1), rule.chain]
        if not all(NFT_NAME.fullmatch(name) for name in names):
            # nft parses its arguments as one text in its own language, so such a name could contain commands.
            return "%s %s" % (rule.table, rule.chain), ["nft", "-a", "list", "ruleset"]
        words = ["nft", "-a", "list", "chain", *names]
        try:
            listing = _programs.output(words, self._deadline.remaining())
        except _programs.Failed:
            listing = ""
        text = _nft_rules.in_words(cast(NftDropping, rule), listing)
        return "%s %s: %s" % (rule.table, rule.chain, text), words


def _saved(deadline: Deadline) -> list[_iptables_rules.Rules]:
    """Return the rules of the variants of iptables. Packets traverse the rules of both, if both are in use."""
    variants = [variant for variant in (OVER_NFT, LEGACY) if _programs.find(variant + "-save")]
    legacy = _legacy_in_use()
    if LEGACY in variants and not legacy:
        variants.remove(LEGACY)
    found: list[_iptables_rules.Rules] = []
    failure: _programs.Failed | None = None
    for variant in variants or [EITHER]:
        try:
            text = _programs.output([variant + "-save", "-c"], deadline.remaining())
            found.append(_iptables_rules.Rules(text, variant))
        except _programs.Failed as exc:
            # A kernel without nftables has only the legacy tables.
            failure = failure or exc
    if failure and not (found and legacy):
        raise failure
    return found


def _legacy_in_use() -> bool:
    try:
        with open(LEGACY_TABLES, encoding="utf-8") as stream:
            return bool(stream.read().strip())
    except OSError:
        return False


def _read_nft(saved: Sequence[_iptables_rules.Rules], deadline: Deadline) -> tuple[_nft_rules.Rules, str | None]:
    """Return the rules of nftables, and the reason why they are not known, or null."""
    nothing = _nft_rules.Rules({})
    left_out = {"ip " + table for rules in saved for table in rules.left_out}
    tables: list[str] = []
    try:
        tables = _nft_tables.read(deadline.remaining())
        if not tables:
            return nothing, None
        text = _programs.output(["nft", "-j", "list", "ruleset"], deadline.remaining())
        return _nft_rules.Rules(json.loads(text)), None
    except _programs.Absent:
        # Without the program nft, other tables than those of iptables are unlikely, but possible.
        unread = sorted(left_out.union(tables).difference(set(OWN_TABLES) - left_out))
        reason = "nft is not installed, and the kernel has rules in %s: apt-get install nftables"
        relevant = [table for table in unread if table.split(" ", 1)[0] in _nft_rules.FAMILIES]
        return nothing, reason % ", ".join(relevant) if relevant else None
    except (_programs.Failed, OSError, ValueError, KeyError, TypeError) as exc:
        return nothing, "the rules of nftables cannot be read: %s" % exc
