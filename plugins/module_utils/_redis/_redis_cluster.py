# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the part ``cluster`` of redis_health_info. Pure functions. Private to this collection."""

from __future__ import annotations

from typing import Iterable, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import integer
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_names import shown
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Fields
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

SLOTS = 16384
ADDRESS_LENGTH = 100
# Flags of a node that does not work: ``fail?`` by this node alone, ``fail`` by the majority.
FAILING = {"fail", "fail?", "noaddr"}


class Node(NamedTuple):
    """A line of CLUSTER NODES. ``slots`` are ranges (first, last)."""

    address: str
    flags: frozenset[str]
    linked: bool
    slots: list[tuple[int, int]]


def parse_nodes(reply: bytes) -> list[Node]:
    """Return the nodes in a reply to CLUSTER NODES."""
    nodes = []
    for line in reply.split(b"\n"):
        words = line.split(b" ")
        if len(words) < 8:
            continue
        # ip:port@bus[,hostname]; a slot that moves is in brackets.
        where = words[1].partition(b"@")[0]
        ranges = [word.decode("ascii", "replace").partition("-") for word in words[8:] if not word.startswith(b"[")]
        slots = [(int(first), int(last or first)) for first, _dash, last in ranges if first.isdigit()]
        flags = frozenset(words[2].decode("ascii", "replace").split(","))
        nodes.append(Node(shown(where, ADDRESS_LENGTH), flags, words[7] == b"connected", slots))
    return nodes


def missing_ranges(nodes: Iterable[Node]) -> list[str]:
    """Return the ranges of slots that no node serves, such as ``0-5460``."""
    missing, expected = [], 0
    for first, last in sorted(part for node in nodes for part in node.slots) + [(SLOTS, SLOTS)]:
        if first > expected:
            missing.append("%d-%d" % (expected, first - 1) if first - 1 > expected else str(expected))
        expected = max(expected, last + 1)
    return missing


def build(enabled: bool, info: Fields, nodes: list[Node] | None, top: int) -> Part:
    """Return the part ``cluster``. ``info`` is CLUSTER INFO; ``nodes`` is null if CLUSTER NODES is denied."""
    missing = None if nodes is None else missing_ranges(nodes) if enabled else []
    failing = None if nodes is None else [_failing_row(node) for node in nodes if node.flags & FAILING]
    return {
        "enabled": enabled,
        "state": info.get("cluster_state"),
        "slots_assigned": integer(info, "cluster_slots_assigned"),
        "slots_failing": integer(info, "cluster_slots_fail"),
        "slots_maybe_failing": integer(info, "cluster_slots_pfail"),
        "node_count": integer(info, "cluster_known_nodes"),
        "missing_slots": None if missing is None else missing[:top],
        "failing_nodes": None if failing is None else failing[:top],
    }


def _failing_row(node: Node) -> Part:
    return {
        "address": node.address,
        "role": "replica" if "slave" in node.flags else "primary",
        "confirmed": "fail" in node.flags,
        "linked": node.linked,
        "slot_count": sum(last - first + 1 for first, last in node.slots),
    }
