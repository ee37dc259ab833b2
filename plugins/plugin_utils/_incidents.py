# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turns findings and cause rows into incidents: a cause, and what follows from it. Pure. Private to this collection."""

from __future__ import annotations

import gc
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ansible_collections.tracktion.ops.plugins.plugin_utils import _evaluation, _host_findings
from ansible_collections.tracktion.ops.plugins.plugin_utils._causes import Edge, Edges
from ansible_collections.tracktion.ops.plugins.plugin_utils._groups import hosts_of
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import (
    Effect,
    Explanation,
    FirstStep,
    Incident,
    PossibleCause,
    ReportedFinding,
)

# A cause may have begun so many seconds after its effect: log lines and container engines round differently.
TOLERANCE = 5.0
# Causes of one effect that one row finds, of so many that are compared.
CAUSES, COMPARED = 5, 100
# Causes of an incident that could not be measured.
POSSIBLE = 10
COMMAND = re.compile(r"`([^`]+)`")
# A host or a stack, and the name of the first subject that both ends have in common.
Key = tuple[str, str, str | None]


@dataclass(eq=False, slots=True)
class _Node:
    """A finding with its direct causes (cause, number of the row) and the positions of all causes, ``ancestors``.

    ``earliest`` is when it can have begun, by its own time or else by that of its cause; null if neither was measured.
    """

    finding: ReportedFinding
    position: int
    causes: list[tuple[_Node, int]] = field(default_factory=list)
    by: tuple[_Node, int] | None = None
    also: list[tuple[_Node, int]] = field(default_factory=list)
    root: _Node | None = None
    depth: int = 0
    earliest: float | None = None
    ancestors: set[int] = field(default_factory=set)
    effects: list[_Node] = field(default_factory=list)
    keys: dict[tuple[str | None, bool], list[Key]] = field(default_factory=dict)

    @property
    def began(self) -> float | None:
        """When the fault began, in seconds since 1970, if that was measured."""
        text = self.finding["began"]
        return datetime.fromisoformat(text).timestamp() if text else None


def build(
    findings: Sequence[ReportedFinding],
    edges: Edges,
    unmeasured: Sequence[ReportedFinding],
    stacks: Mapping[str, str] | None = None,
) -> list[Incident]:
    """Return the incidents that the firing findings form; each of them is in exactly one.

    ``findings`` are in the order of the report; those with the status ``unknown`` are ignored. ``unmeasured`` are the
    findings of checks that could not be evaluated. ``stacks`` maps a host to the name of the stack that it belongs to.
    """
    # Nothing becomes garbage before the end, and to look for it takes a quarter of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return _build(findings, edges, unmeasured, stacks or {})
    finally:
        if collects:
            gc.enable()


def _build(
    findings: Sequence[ReportedFinding],
    edges: Edges,
    unmeasured: Sequence[ReportedFinding],
    stacks: Mapping[str, str],
) -> list[Incident]:
    nodes = [_Node(each, number) for number, each in enumerate(findings) if each["status"] != "unknown"]
    linker = _Linker(edges, stacks)
    linker.link(nodes)
    last = len(edges.rank)
    # A cause comes before its effects.
    for node in sorted(nodes, key=lambda node: edges.rank.get(node.finding["id"], last)):
        _place(node, edges)
    found: dict[str, list[ReportedFinding]] = {}
    for each in unmeasured:
        found.setdefault(each["id"], []).append(each)
    incidents = [(_incident(node, edges, linker, found), node) for node in nodes if node.by is None]
    incidents.sort(key=lambda pair: _worst_first(*pair))
    return [incident for incident, _node in incidents]


class _Linker:
    """Finds the pairs of findings that the rows connect."""

    def __init__(self, edges: Edges, stacks: Mapping[str, str]) -> None:
        self._edges = edges
        self._stacks = stacks
        self._by_id: dict[str, list[_Node]] = {}
        self._indexes: dict[tuple[tuple[str, ...], str | None, bool], dict[Key, list[_Node]]] = {}

    def link(self, nodes: Iterable[_Node]) -> None:
        """Fill in the direct causes of each finding."""
        for node in nodes:
            self._by_id.setdefault(node.finding["id"], []).append(node)
        for number, edge in enumerate(self._edges):
            causes = tuple(cause for cause in edge.causes if cause in self._by_id)
            effects = [node for effect in edge.effects for node in self._by_id.get(effect, ())] if causes else ()
            for effect in effects:
                found = [
                    node for node in self._candidates(edge, causes, effect) if self._explains(number, node, effect)
                ]
                effect.causes += [(node, number) for node in found[:CAUSES]]

    def _candidates(self, edge: Edge, causes: tuple[str, ...], effect: _Node) -> list[_Node]:
        """Return findings of these checks that have the host or stack and the first subject of the row in common."""
        of_cause, of_effect = edge.same[0] if edge.same else (None, None)
        if of_effect is not None and of_effect not in effect.finding["about"]:
            return []
        index = self._index(causes, of_cause, edge.crosses_hosts)
        found: list[_Node] = []
        for key in self._keys(effect, of_effect, edge.crosses_hosts):
            same = index.get(key)
            if same:
                found += same[:COMPARED]
        # Two names in common find a cause twice.
        return list(dict.fromkeys(found))[:COMPARED] if len(found) > 1 else found

    def _index(self, causes: tuple[str, ...], subject: str | None, crosses: bool) -> dict[Key, list[_Node]]:
        index = self._indexes.get((causes, subject, crosses))
        if index is None:
            index = self._indexes[causes, subject, crosses] = {}
            for cause in causes:
                for node in self._by_id[cause]:
                    for key in self._keys(node, subject, crosses):
                        index.setdefault(key, []).append(node)
        return index

    def _keys(self, node: _Node, subject: str | None, crosses: bool) -> list[Key]:
        keys = node.keys.get((subject, crosses))
        if keys is None:
            names = node.finding["about"].get(subject, ()) if subject else (None,)
            places = [(host, self._stacks.get(host) if crosses else None) for host in hosts_of(node.finding)]
            keys = [
                ("stack", stack, name) if stack else ("host", host, name) for host, stack in places for name in names
            ]
            node.keys[subject, crosses] = keys
        return keys

    def _explains(self, number: int, cause: _Node, effect: _Node) -> bool:
        edge, holds = self._edges[number], self._edges.holds[number]
        if not _agree(edge, cause.finding, effect.finding):
            return False
        try:
            return holds is None or holds(cause.finding, effect.finding)
        except Exception:  # pylint: disable=broad-except
            # A value that the row compares was not measured: there is no evidence.
            return False

    def possible(self, edge: Edge, number: int, cause: ReportedFinding, effect: ReportedFinding) -> bool:
        """Return whether a check that could not be evaluated may explain a finding: nothing known speaks against it."""
        keys = set(self._keys(_Node(effect, 0), None, edge.crosses_hosts))
        if keys.isdisjoint(self._keys(_Node(cause, 0), None, edge.crosses_hosts)):
            return False
        if not _of_one_project(cause, effect):
            return False
        for of_cause, of_effect in edge.same:
            names = cause["about"].get(of_cause)
            if of_effect not in effect["about"] or (names and set(names).isdisjoint(effect["about"][of_effect])):
                return False
        holds = self._edges.holds[number]
        try:
            return holds is None or holds(cause, effect)
        except Exception:  # pylint: disable=broad-except
            # The row compares a value that was not measured.
            return True


def _agree(edge: Edge, cause: ReportedFinding, effect: ReportedFinding) -> bool:
    """Return whether the ends, which have the first subject of the row in common, have the others too."""
    if not _of_one_project(cause, effect) or _is_namesake(edge, cause, effect):
        return False
    if not edge.same:
        # Only the host connects them. A service that several hosts share runs on one of them, and which is not known.
        return set(hosts_of(cause)).issuperset(hosts_of(effect))
    for of_cause, of_effect in edge.same[1:]:
        if set(cause["about"].get(of_cause, ())).isdisjoint(effect["about"].get(of_effect, ())):
            return False
    return True


def _is_namesake(edge: Edge, cause: ReportedFinding, effect: ReportedFinding) -> bool:
    """Return whether only the name of a service connects the ends, and services of several projects have it.

    Which of them a finding is about is known if it names the project.
    """
    by_name = bool(edge.same) and all(pair == ("service", "service") for pair in edge.same)
    named = cause["about"].get("project") and effect["about"].get("project")
    return (
        by_name and not named and bool(cause["observed"].get("has_namesake") or effect["observed"].get("has_namesake"))
    )


def _of_one_project(cause: ReportedFinding, effect: ReportedFinding) -> bool:
    """Return whether nothing says that the ends belong to two compose projects of a host, which use the same names.

    A stack on several hosts may have another project on each.
    """
    one, other = cause["about"].get("project"), effect["about"].get("project")
    if not one or not other or not set(one).isdisjoint(other):
        return True
    return set(hosts_of(cause)).isdisjoint(hosts_of(effect))


def _place(node: _Node, edges: Edges) -> None:
    """Choose the cause under which a finding is shown. Its causes are placed."""
    direct: dict[int, tuple[_Node, int]] = {}
    node.earliest = began = node.began
    for cause, number in node.causes:
        # An effect began neither before its cause nor before the cause of that one.
        if began is None or cause.earliest is None or cause.earliest <= began + TOLERANCE:
            direct.setdefault(cause.position, (cause, number))
    # A cause of another direct cause explains the finding through that one.
    indirect: set[int] = set().union(*(cause.ancestors for cause, _number in direct.values()))
    node.ancestors = indirect.union(direct)
    left = [pair for position, pair in direct.items() if position not in indirect]
    if not left:
        node.root = node
        return
    left.sort(key=lambda pair: (-len(edges[pair[1]].same), -pair[0].depth, pair[0].position, pair[1]))
    node.by, node.also = left[0], left[1:]
    node.root = node.by[0].root
    node.depth = node.by[0].depth + 1
    if began is None:
        node.earliest = node.by[0].earliest
    node.by[0].effects.append(node)


def _incident(
    root: _Node, edges: Edges, linker: _Linker, unmeasured: Mapping[str, Sequence[ReportedFinding]]
) -> Incident:
    cause = root.finding
    members = list(_followers(root))
    hosts = [host for node in (root, *members) for host in hosts_of(node.finding)]
    return {
        "fingerprint": hashlib.sha256(("incident\0" + cause["fingerprint"]).encode()).hexdigest()[:16],
        "host": cause["host"],
        "hosts": list(dict.fromkeys(hosts)),
        "status": _evaluation.worst(node.finding["status"] for node in (root, *members)),
        "cause": cause["fingerprint"],
        "effects": [_effect(node, edges) for node in members],
        "possible": _possible(cause, edges, linker, unmeasured) if unmeasured else [],
        "began": cause["began"],
        "first_step": _first_step(cause),
    }


def _followers(root: _Node) -> Iterator[_Node]:
    """Yield all findings that follow from one, each after its cause."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node is not root:
            yield node
        waiting += sorted(node.effects, key=lambda effect: -effect.position)


def _effect(node: _Node, edges: Edges) -> Effect:
    explained = [_explanation(pair, node, edges) for pair in ([node.by] if node.by else []) + node.also]
    return {
        **explained[0],
        "finding": node.finding["fingerprint"],
        "depth": node.depth,
        "also": explained[1:],
    }


def _explanation(pair: tuple[_Node, int], effect: _Node, edges: Edges) -> Explanation:
    cause, number = pair
    mechanism = _mechanism(edges, number, cause.finding, effect.finding)
    return {
        "by": cause.finding["fingerprint"],
        "edge": edges[number].id,
        "mechanism": mechanism or effect.finding["why"],
    }


def _mechanism(edges: Edges, number: int, cause: ReportedFinding, effect: ReportedFinding) -> str | None:
    try:
        return edges.mechanisms[number](cause, effect)
    except Exception:  # pylint: disable=broad-except
        return None


def _possible(
    cause: ReportedFinding, edges: Edges, linker: _Linker, unmeasured: Mapping[str, Sequence[ReportedFinding]]
) -> list[PossibleCause]:
    found: dict[str, PossibleCause] = {}
    for number, edge in edges.of_effect.get(cause["id"], ()):
        for check in edge.causes:
            for each in unmeasured.get(check, ())[:COMPARED]:
                if check not in found and linker.possible(edge, number, each, cause):
                    mechanism = _mechanism(edges, number, each, cause)
                    found[check] = {"check": check, "edge": edge.id, "mechanism": mechanism, "reason": each["summary"]}
    return list(found.values())[:POSSIBLE]


def _first_step(cause: ReportedFinding) -> FirstStep | None:
    """Return the hint of the cause, and the command of its remedy or else the first one in the hint."""
    hint, remedy = cause["hint"], cause["remedy"]
    written = COMMAND.search(hint) if hint else None
    command = remedy["command"] if remedy else written.group(1) if written else None
    return {"hint": hint, "command": command} if hint or command else None


def _worst_first(incident: Incident, root: _Node) -> tuple[bool, int, int, bool, int]:
    return (
        not _host_findings.is_overload(root.finding),
        -_evaluation.STATUSES.index(incident["status"]),
        -len(incident["effects"]),
        # A line in a log is a symptom, and says least about its cause.
        root.finding["area"] == "logs",
        root.position,
    )
