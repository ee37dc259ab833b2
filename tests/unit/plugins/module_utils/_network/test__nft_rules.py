# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verdicts of nftables rules for a packet. The integration tests use the output of nft itself."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._network import _nft_tables
from ansible_collections.tracktion.ops.plugins.module_utils._network._nft_rules import Rules, in_words
from ansible_collections.tracktion.ops.plugins.module_utils._network._packet import (
    ACCEPTED,
    DROPPED,
    UNDETERMINED,
    Packet,
    Policy,
)

PACKET = Packet(8001, 30001, "172.20.3.7", "br-6d1aff69ed8c")
PLACE = {"family": "inet", "table": "mine"}
FORWARD = {**PLACE, "name": "forward", "hook": "forward", "type": "filter", "prio": 0}


def rules(*expressions, sets=(), policy="accept"):
    entries = [{"metainfo": {}}, {"table": {"family": "inet", "name": "mine"}}]
    entries += [{kind: {**PLACE, "name": name, "elem": elements}} for kind, name, elements in sets]
    entries += [{"chain": {**FORWARD, "policy": policy}}, {"chain": {**PLACE, "name": "other"}}]
    for handle, expression in enumerate(expressions, 1):
        chain = "other" if expression[0] == "other" else "forward"
        expression = [part for part in expression if part != "other"]
        entries.append({"rule": {**PLACE, "chain": chain, "handle": handle, "expr": expression}})
    return Rules({"nftables": entries})


def verdict(*expressions, packet=PACKET, **arguments):
    return rules(*expressions, **arguments).verdict("inet mine", "forward", packet)[0]


def match(left, right, operator="=="):
    return {"match": {"op": operator, "left": left, "right": right}}


DROP, ACCEPT = {"drop": None}, {"accept": None}
PORT = {"payload": {"protocol": "tcp", "field": "dport"}}
TO = {"payload": {"protocol": "ip", "field": "daddr"}}
FROM = {"payload": {"protocol": "ip", "field": "saddr"}}
STATE = {"ct": {"key": "state"}}
OUT, IN = {"meta": {"key": "oifname"}}, {"meta": {"key": "iifname"}}


@pytest.mark.parametrize(
    "condition",
    [
        match(PORT, 8001),
        match(PORT, {"set": [22, {"range": [8000, 8010]}]}),
        match(PORT, {"set": [{"elem": {"val": 8001, "counter": {}}}]}),
        match(PORT, 8002, "!="),
        match(PORT, 1024, ">="),
        match({"ct": {"key": "proto-dst", "dir": "original"}}, 30001),
        match(TO, {"prefix": {"addr": "172.20.0.0", "len": 16}}),
        match(TO, {"set": [{"range": ["172.20.3.1", "172.20.3.9"]}]}),
        match(STATE, ["established", "new"], "in"),
        match(OUT, "br-*"),
        match(IN, "lo", "!="),
        match({"meta": {"key": "l4proto"}}, {"set": ["tcp", "udp"]}),
        match({"meta": {"key": "nfproto"}}, "ipv4"),
        match({"ct": {"key": "status"}}, "dnat", "in"),
        match({"fib": {"result": "type", "flags": ["daddr"]}}, "local", "!="),
        match({"concat": [OUT, PORT]}, {"set": [{"concat": ["br-*", 8001]}]}),
        {"counter": {"packets": 0, "bytes": 0}},
    ],
)
def test_a_rule_that_certainly_matches_drops(condition):
    assert verdict([condition, DROP]) == DROPPED


@pytest.mark.parametrize(
    "condition",
    [
        match(PORT, 8002),
        match(PORT, "@nobody"),
        match({"payload": {"protocol": "udp", "field": "dport"}}, 53, "!="),
        match({"payload": {"protocol": "ip6", "field": "daddr"}}, "fd00::1", "!="),
        match(STATE, "invalid", "in"),
        match(IN, "br-6d1aff69ed8c"),
        match({"meta": {"key": "nfproto"}}, "ipv6"),
    ],
)
def test_a_rule_that_certainly_does_not_match_is_skipped(condition):
    assert verdict([condition, DROP]) == ACCEPTED


@pytest.mark.parametrize(
    "expression",
    [
        [match(FROM, "203.0.113.9"), DROP],
        [match(IN, "eth0"), DROP],
        [match({"meta": {"key": "mark"}}, 1), DROP],
        [match({"&": [PORT, 1]}, 1), DROP],
        [{"limit": {"rate": 5, "per": "second"}}, DROP],
        [{"xt": {"type": "match", "name": "addrtype"}}, DROP],
        [{"queue": {"num": 1}}],
        ["jump {\n\t\ttcp dport 1 drop\n\t}"],
    ],
)
def test_a_rule_on_the_sender_or_an_unknown_expression_is_undetermined(expression):
    assert verdict(expression) == UNDETERMINED


def test_maps_and_named_sets():
    vmap = {"vmap": {"key": PORT, "data": "@ports"}}
    ports = ("map", "ports", [[80, ACCEPT], [8001, {"jump": {"target": "other"}}]])
    assert verdict([vmap], ["other", {"reject": {"type": "tcp reset"}}], sets=[ports]) == DROPPED
    assert verdict([vmap], ["other", {"return": None}], sets=[ports], policy="drop") == DROPPED
    inline = {"vmap": {"key": STATE, "data": {"set": [["established", ACCEPT], ["new", DROP]]}}}
    assert verdict([inline]) == DROPPED
    assert verdict([match(PORT, "@some"), DROP], sets=[("set", "some", [8001])]) == DROPPED


def test_a_policy_and_rules_before_it():
    assert verdict(policy="drop") == DROPPED
    assert verdict([match(PORT, 8001), ACCEPT], policy="drop") == ACCEPTED
    assert verdict([{"goto": {"target": "other"}}], [ACCEPT], policy="drop") == DROPPED


def test_the_hooks_that_an_ipv4_packet_traverses():
    found = [{"chain": {**FORWARD, **changes}} for changes in ({}, {"family": "ip6"}, {"type": "nat"})]
    assert Rules({"nftables": found}).hooks == [("forward", 0, "inet mine", "forward")]


def test_the_text_of_a_rule():
    listing = "table inet mine {\n\tchain forward {\n\t\ttcp dport 8001 drop # handle 1\n\t\tdrop # handle 11\n"
    (_verdict, rule) = rules([match(PORT, 8001), DROP]).verdict("inet mine", "forward", PACKET)
    assert in_words(rule, listing) == "tcp dport 8001 drop"
    assert in_words(rule, "") == "handle 1"
    assert in_words(Policy("inet mine", "forward", "DROP"), listing) == "policy drop"


def test_damaged_messages_of_the_kernel():
    whole = _nft_tables.HEADER.pack(28, 2560, 2, 1, 0) + b"\x02\0\0\0" + b"\x06\0\x01\0a\0\0\0"
    assert [_nft_tables.name(payload[4:]) for _kind, payload in _nft_tables.messages(whole)] == ["a"]
    for length in range(len(whole)):
        for _kind, payload in _nft_tables.messages(whole[:length]):
            assert _nft_tables.name(payload[4:]) in ("a", "", "?")
