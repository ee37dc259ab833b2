# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check rows: validated and compiled. Private to this collection."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Template, nodes
from jinja2.meta import find_undeclared_variables

from ansible_collections.tracktion.ops.plugins.plugin_utils import _remedies, _row_cache, _rows, _settings
from ansible_collections.tracktion.ops.plugins.plugin_utils._areas import Area
from ansible_collections.tracktion.ops.plugins.plugin_utils._remedies import Remedy
from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import EXPRESSIONS, SUBJECTS, BadRow, FieldType, Row

LEVELS = ("critical", "warning", "info")
# The kinds of subjects that a finding can be about; the host is implied.
ABOUT = ("service", "container", "process", "port", "mount", "path", "queue", "database", "table", "network", "project")
# Subjects of one kind that a finding keeps.
ABOUT_MOST = 20
# The last second of the year 9999, which is the last one of ISO 8601.
LATEST = 253402300799
# The path of a field in ``item``: ("rates", "publish").
FieldPath = tuple[str, ...]
# Fields of ``item`` and variables that an expression names.
Names = tuple[list[FieldPath], list[str]]
StatusFunction = Callable[[object], str]
# The name of the macro of the row with this number.
MACRO = "status_%d"


class Check(Row):
    """One row of ``checks.yml``."""

    FIELDS: ClassVar[Mapping[str, FieldType]] = {
        "id": str,
        "title": str,
        "each": str,
        "at": str,
        "when": str,
        "info": str,
        "warning": str,
        "critical": str,
        "object": str,
        "summary": str,
        "remedy": str,
        "hint": str,
        "guide": str,
        "why": str,
        "timing": (bool, str),
        "about": dict,
        "began": str,
        "observe": list,
        "vars": dict,
    }
    REQUIRED: ClassVar[Sequence[str]] = ("id", "title", "summary", "guide", "why")

    title: str
    each: str | None
    at: str | None
    when: str | None
    object: str | None
    summary: str
    hint: str | None
    guide: str
    why: str
    timing: bool | str | None
    began: str | None
    observe: list[str] | None

    def __init__(self, row: Any, source: str, area: Area, remedies: Mapping[str, Remedy]) -> None:
        super().__init__(row, source)
        self.levels = tuple(level for level in LEVELS if self.field(level))
        if not self.id.startswith(area.name + ".") or self.id.count(".") != 1:
            raise self.bad("id: must be %s.<name>" % area.name)
        if bool(self.each) == bool(self.at):
            raise self.bad("exactly one of 'each' and 'at' is required")
        if self.each and not self.object:
            raise self.bad("object: is required with 'each', as the name of the item")
        if not self.levels:
            raise self.bad("at least one of %s is required" % ", ".join(LEVELS))
        remedy_id = self.field("remedy")
        if remedy_id and remedy_id not in remedies:
            raise self.bad("remedy: %r is not in %s" % (remedy_id, area.remedies_file.name))
        self.remedy = remedies.get(remedy_id)
        self.path = tuple((self.each or self.at or "").split("."))
        self.about: dict[str, str] = self.field("about") or {}
        if not all(isinstance(field, str) for field in self.observe or ()):
            raise self.bad("observe: must be a list of fields of the item")
        for subject, template in self.about.items():
            if subject not in ABOUT:
                raise self.bad("about: unknown subject %r (known: %s)" % (subject, ", ".join(ABOUT)))
            if not isinstance(template, str):
                raise self.bad("about.%s: must be text" % subject)

    def templates(self) -> dict[str, str]:
        expressions = {field: self.field(field) for field in ("when", "began", *self.levels)}
        if isinstance(self.timing, str):
            expressions["timing"] = self.timing
        texts = {field: self.field(field) for field in ("object", "summary", "hint")}
        texts.update({"about." + subject: template for subject, template in self.about.items()})
        wrapped = {field: "{{ %s }}" % text for field, text in expressions.items() if text}
        return {**wrapped, **{field: text for field, text in texts.items() if text}}

    def status_macro(self, name: str) -> str:
        """Return a Jinja macro that prints the status of ``item``, or nothing for an item that ``when`` excludes."""
        branches = "".join(
            "{%% %s %s %%}%s" % ("elif" if number else "if", self.field(level), level)
            for number, level in enumerate(self.levels)
        )
        body = branches + "{% else %}ok{% endif %}"
        if self.when:
            body = "{%% if %s %%}%s{%% endif %%}" % (self.when, body)
        return "{%% macro %s(item) %%}%s{%% endmacro %%}" % (name, body)

    @cached_property
    def evidence(self) -> dict[str, Names]:
        """The names in the expression of each level."""
        return {level: _names(self.field(level)) for level in self.levels}

    @cached_property
    def names_in_expressions(self) -> Names:
        """The names in the expressions of all levels and of ``when``, sorted."""
        found = [_names(self.field(field)) for field in ("when", *self.levels) if self.field(field)]
        paths = {path for in_item, _variables in found for path in in_item}
        variables = {name for _in_item, variables in found for name in variables}
        return sorted(paths), sorted(variables)

    def subjects(self, context: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return what the finding for an item is about: names by subject, without those that were not measured.

        A template that is one expression can return a list of names.
        """
        found: dict[str, list[str]] = {}
        for subject, template in self.about.items():
            with contextlib.suppress(*_rows.CANNOT_EVALUATE):
                value = _rows.variable_value(template, context)
                names = value if isinstance(value, list) else [value]
                texts = [" ".join(str(name).split()) for name in names if name is not None]
                texts = sorted({text for text in texts if text})[:ABOUT_MOST]
                if texts:
                    found[subject] = texts
        return found

    def beginning(self, context: Mapping[str, Any]) -> float | None:
        """Return when the fault of an item began, in seconds since 1970; null if that was not measured."""
        if not self.began:
            return None
        with contextlib.suppress(*_rows.CANNOT_EVALUATE):
            value = _rows.expression(self.began, context)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < LATEST:
                return float(value)
        return None

    def is_timing(self, context: Mapping[str, Any]) -> bool:
        """Return whether the finding for an item depends on how long something took. Raises one of CANNOT_EVALUATE."""
        if isinstance(self.timing, str):
            return bool(_rows.expression(self.timing, context))
        return bool(self.timing)


class Checks(list[Check]):
    """The checks of an area, and its remedies by id."""

    def __init__(self, checks: Iterable[Check], remedies: dict[str, Remedy]) -> None:
        super().__init__(checks)
        self.remedies = remedies

    def status_functions(self, context: Mapping[str, Any]) -> list[StatusFunction]:
        """Return, for each check, a function that evaluates its row for one item with the variables of ``context``.

        It returns the status of the item, or empty text for an item that ``when`` excludes. It raises the exceptions of
        the row's expressions.
        """
        shared = self._template.make_module(dict(context))
        return [
            getattr(self._template.make_module({**context, **check.vars}) if check.vars else shared, MACRO % number)
            for number, check in enumerate(self)
        ]

    @cached_property
    def _template(self) -> Template:
        # One template for all rows is compiled and cached at once. A call of a macro takes one microsecond; a call of a
        # compiled expression takes ten, because it makes a new context.
        return EXPRESSIONS.compiled("".join(check.status_macro(MACRO % number) for number, check in enumerate(self)))


def load(area: Area, extra_rows: Sequence[Any] = ()) -> Checks:
    """Return the checks of an area role and of the user's own rows for it. Raises BadRow for the first invalid row.

    Rows may name the role's public options only, because their texts are written to reports.
    """
    variables = {*area.public, *_settings.SHARED}
    rows = {kind: area.rows(kind) for kind in ("checks", "remedies")}
    remedies: dict[str, Remedy] = {}
    for position, row in enumerate(rows["remedies"]):
        remedy = Remedy(row, str(area.remedies_file), area, position)
        remedies[remedy.id] = remedy
    checks: dict[str, Check] = {}
    sources = [(row, str(area.checks_file)) for row in rows["checks"]]
    sources += [(row, "tracktion_extra_checks") for row in extra_rows]
    for row, source in sources:
        check = Check(row, source, area, remedies)
        if check.id in checks:
            raise check.bad("the id is already used by another row")
        checks[check.id] = check
    key = _row_cache.fingerprint(
        json.dumps([rows, sorted(variables), extra_rows], default=str),
        *(Path(file).read_text(encoding="utf-8") for file in (_rows.__file__, _remedies.__file__, __file__)),
    )
    if not _row_cache.is_valid(key):
        for each in [*remedies.values(), *checks.values()]:
            each.parse_templates(variables)
        _row_cache.remember_valid(key)
    return Checks(checks.values(), remedies)


def extra_rows_by_area(rows: object, areas: Iterable[Area]) -> dict[str, list[Any]]:
    """Return ``tracktion_extra_checks`` by area. A row for an area that is not diagnosed is left out. Raises BadRow."""
    source = "tracktion_extra_checks"
    if not isinstance(rows, list):
        raise BadRow(source, None, "must be a list of check rows")
    by_area: dict[str, list[Any]] = {area.name: [] for area in areas}
    for row in rows:
        name = row.get("id") if isinstance(row, dict) else None
        if not isinstance(name, str) or "." not in name:
            raise BadRow(source, name, "id: must be <area>.<name>")
        by_area.get(name.partition(".")[0], []).append(row)
    return by_area


def _names(expression: str) -> Names:
    """Return the paths in ``item`` and the variables that an expression names, the paths in their order."""
    tree = EXPRESSIONS.parse("{{ %s }}" % expression)
    paths: list[FieldPath] = []
    inner: set[int] = set()
    for node in tree.find_all(nodes.Getattr):
        path = _path(node)
        if path and id(node) not in inner:
            paths.append(path)
        inner.update(id(child) for child in node.find_all(nodes.Getattr))
    return list(dict.fromkeys(paths)), sorted(find_undeclared_variables(tree) - SUBJECTS - set(EXPRESSIONS.globals))


def _path(node: nodes.Expr) -> FieldPath | None:
    parts: list[str] = []
    while isinstance(node, nodes.Getattr):
        parts.insert(0, node.attr)
        node = node.node
    return tuple(parts) if isinstance(node, nodes.Name) and node.name == "item" else None
