# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cause rows: which finding explains which. Validated and compiled. Private to this collection."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Template

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _host_findings, _row_cache, _rows
from ansible_collections.tracktion.ops.plugins.plugin_utils._areas import Area
from ansible_collections.tracktion.ops.plugins.plugin_utils._checks import ABOUT
from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import (
    EXPRESSIONS,
    PROSE,
    BadRow,
    FieldType,
    Prose,
    Row,
)

EXTRA = "tracktion_extra_causes"
ENDS = frozenset(("cause", "effect"))
# Subjects that have the same name on all hosts of a stack. The others belong to one host.
OF_STACK = frozenset(("service", "queue", "database", "table"))
# The names of the macros of the row with this number.
HOLDS, MECHANISM = "holds_%d", "mechanism_%d"


class Edge(Row):
    """One row of ``causes.yml``: a finding of one of ``causes`` explains one of ``effects``.

    ``same`` maps subjects of the cause to subjects of the effect; in each pair, they have a name in common.
    """

    FIELDS: ClassVar[Mapping[str, FieldType]] = {
        "id": str,
        "cause": (str, list),
        "effect": (str, list),
        "same": (list, dict),
        "when": str,
        "mechanism": str,
    }
    REQUIRED: ClassVar[Sequence[str]] = ("id", "cause", "effect", "mechanism")

    when: str | None
    mechanism: str

    def __init__(self, row: Any, source: str) -> None:
        super().__init__(row, source)
        self.area = self.id.partition(".")[0]
        if self.id.count(".") != 1:
            raise self.bad("id: must be <area>.<name>")
        self.causes = self._ids("cause")
        self.effects = self._ids("effect")
        for effect in self.effects:
            if effect.partition(".")[0] not in (self.area, "host"):
                raise self.bad("effect: %s is not of the area %s, to which this row belongs" % (effect, self.area))
        self.same = self._same()

    @cached_property
    def crosses_hosts(self) -> bool:
        """Whether the cause can be on another host of the same stack."""
        return bool(self.same) and all(subject in OF_STACK for pair in self.same for subject in pair)

    def templates(self) -> dict[str, str]:
        texts = {"mechanism": self.mechanism}
        return {**texts, "when": "{{ %s }}" % self.when} if self.when else texts

    def allowed_names(self, field: str, variables: set[str]) -> frozenset[str]:
        return ENDS

    def _ids(self, field: str) -> tuple[str, ...]:
        value = self.field(field)
        ids = value if isinstance(value, list) else [value]
        if not ids or not all(isinstance(each, str) and each for each in ids):
            raise self.bad("%s: must be the id of a check, or a list of ids" % field)
        return tuple(dict.fromkeys(ids))

    def _same(self) -> tuple[tuple[str, str], ...]:
        value = self.field("same") or {}
        pairs = tuple(value.items()) if isinstance(value, dict) else tuple((each, each) for each in value)
        for subject in (each for pair in pairs for each in pair):
            if subject not in ABOUT:
                raise self.bad("same: unknown subject %r (known: %s)" % (subject, ", ".join(ABOUT)))
        return pairs


class Edges(list[Edge]):
    """The cause rows of a run. ``rank`` orders check ids so that causes come before their effects."""

    def __init__(self, edges: Iterable[Edge], rank: Mapping[str, int]) -> None:
        super().__init__(edges)
        self.rank = rank

    @cached_property
    def of_effect(self) -> dict[str, list[tuple[int, Edge]]]:
        """The rows by the id of their effect, each with its number."""
        found: dict[str, list[tuple[int, Edge]]] = {}
        for number, edge in enumerate(self):
            for effect in edge.effects:
                found.setdefault(effect, []).append((number, edge))
        return found

    @cached_property
    def holds(self) -> list[Callable[[object, object], bool] | None]:
        """For each row, a function that evaluates ``when`` for a cause and an effect; None for a row without it.

        It raises the exceptions of the expression.
        """
        module = self._conditions.make_module()
        return [_condition(getattr(module, HOLDS % number)) if edge.when else None for number, edge in enumerate(self)]

    @cached_property
    def mechanisms(self) -> list[Callable[[object, object], str]]:
        """For each row, a function that returns the mechanism as one line. It raises the exceptions of the template."""
        module = self._texts.make_module()
        return [
            _text(getattr(module, MECHANISM % number)) if "{" in edge.mechanism else _constant(edge.mechanism)
            for number, edge in enumerate(self)
        ]

    @cached_property
    def _conditions(self) -> Template:
        return EXPRESSIONS.compiled(
            "".join(
                _macro(HOLDS % number, "{{ 1 if (%s) }}" % edge.when) for number, edge in enumerate(self) if edge.when
            )
        )

    @cached_property
    def _texts(self) -> Template:
        return PROSE.compiled("".join(_macro(MECHANISM % number, edge.mechanism) for number, edge in enumerate(self)))


def _macro(name: str, body: str) -> str:
    return "{%% macro %s(cause, effect) %%}%s{%% endmacro %%}" % (name, body)


def _condition(macro: Callable[[object, object], str]) -> Callable[[object, object], bool]:
    return lambda cause, effect: bool(macro(cause, effect))


def _text(macro: Callable[[object, object], str]) -> Callable[[object, object], str]:
    return lambda cause, effect: " ".join(macro(cause, effect).split()).replace(Prose.BACKTICK, "'")


def _constant(mechanism: str) -> Callable[[object, object], str]:
    """Return the function of a mechanism that names neither end: it needs no template."""
    text = " ".join(mechanism.split())
    return lambda cause, effect: text


def load(areas: Sequence[Area], extra_rows: object = (), checks: Iterable[str] | None = None) -> Edges:
    """Return the cause rows of these areas and of the user. Raises BadRow for the first invalid row, and for a cycle.

    With ``checks``, the ids of the checks of these areas, a row may name only these, and those of this collection. A
    row of the user for an area that is not diagnosed is left out.
    """
    if not isinstance(extra_rows, (list, tuple)):
        raise BadRow(EXTRA, None, "must be a list of cause rows")
    names = {area.name for area in areas}
    edges: dict[str, Edge] = {}
    sources: list[tuple[Any, str, str | None]]
    sources = [(row, str(area.causes_file), area.name) for area in areas for row in area.rows("causes")]
    sources += [(row, EXTRA, None) for row in extra_rows]
    for row, source, area_name in sources:
        edge = Edge(row, source)
        if area_name and edge.area != area_name:
            raise edge.bad("id: must be %s.<name>" % area_name)
        if edge.id in edges:
            raise edge.bad("the id is already used by another row")
        if area_name or edge.area in names or edge.area in _own_names():
            edges[edge.id] = edge
    if checks is not None:
        _reject_unknown_ids(edges.values(), {*checks, *_own_checks(), *_host_findings.IDS})
    _reject_bad_templates(list(edges.values()))
    return Edges(edges.values(), _rank(edges.values()))


def _reject_unknown_ids(edges: Iterable[Edge], known: Collection[str]) -> None:
    for edge in edges:
        for field, ids in (("cause", edge.causes), ("effect", edge.effects)):
            unknown = [each for each in ids if each not in known]
            if unknown:
                raise edge.bad("%s: there is no check %s" % (field, ", ".join(unknown)))


def _reject_bad_templates(edges: Collection[Edge]) -> None:
    texts = json.dumps([[edge.when, edge.mechanism] for edge in edges])
    key = _row_cache.fingerprint(
        texts, *(Path(file).read_text(encoding="utf-8") for file in (_rows.__file__, __file__))
    )
    if not _row_cache.is_valid(key):
        for edge in edges:
            edge.parse_templates(set())
        _row_cache.remember_valid(key)


def _own_checks() -> set[str]:
    """Return the ids of all checks of this collection."""
    areas = [role for role in _areas.own_roles() if role.is_area]
    return {str(row.get("id")) for area in areas for row in area.rows("checks") if isinstance(row, dict)}


def _own_names() -> set[str]:
    return {role.name for role in _areas.own_roles()}


def _rank(edges: Iterable[Edge]) -> dict[str, int]:
    """Return a number for each check id, smaller for a cause than for its effects. Raises BadRow for a cycle."""
    effects: dict[str, dict[str, Edge]] = {}
    for edge in edges:
        for cause in edge.causes:
            effects.setdefault(cause, {}).update(dict.fromkeys(edge.effects, edge))
    # Ids that are done, in reverse order, and the path from the first id to the current one.
    done: dict[str, None] = {}
    for start in effects:
        path = [start]
        waiting = [iter(effects[start])]
        if start in done:
            continue
        while path:
            following = next(waiting[-1], None)
            if following is None:
                done[path.pop()] = None
                waiting.pop()
            elif following in path:
                cycle = [*path[path.index(following) :], following]
                raise effects[path[-1]][following].bad("cause: the rows form a cycle: %s" % " -> ".join(cycle))
            elif following not in done:
                path.append(following)
                waiting.append(iter(effects.get(following, ())))
    return {check: number for number, check in enumerate(reversed(done))}
