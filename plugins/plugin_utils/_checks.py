# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check rows, ready to judge. Private to this collection."""

from __future__ import annotations

import json
import sys
from functools import cached_property
from pathlib import Path

from jinja2 import nodes
from jinja2.meta import find_undeclared_variables

from ansible_collections.tracktion.ops.plugins.plugin_utils import _remedies, _row_cache, _rows
from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import EXPRESSIONS, SUBJECTS, BadRow, Row

LEVELS = ("critical", "warning", "info")


class Check(Row):
    """One row of checks.yml, ready to judge."""

    FIELDS = {
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
        "vars": dict,
    }
    REQUIRED = ("id", "title", "summary", "guide", "why")

    def __init__(self, row, source, area, remedies):
        super().__init__(row, source)
        self.levels = tuple(level for level in LEVELS if getattr(self, level))
        if not self.id.startswith(area.name + ".") or self.id.count(".") != 1:
            raise self.bad("id: must be %s.<name>" % area.name)
        if bool(self.each) == bool(self.at):
            raise self.bad("exactly one of 'each' and 'at' says where to look")
        if self.each and not self.object:
            raise self.bad("object: a check over 'each' item must say how the item is called")
        if not self.levels:
            raise self.bad("at least one of %s is needed" % ", ".join(LEVELS))
        if self.remedy and self.remedy not in remedies:
            raise self.bad("remedy: %r is not in %s" % (self.remedy, area.remedies_file.name))
        self.remedy = remedies.get(self.remedy)
        self.path = tuple((self.each or self.at).split("."))

    def templates(self):
        expressions = {field: getattr(self, field) for field in ("when", *self.levels)}
        if isinstance(self.timing, str):
            expressions["timing"] = self.timing
        texts = {field: getattr(self, field) for field in ("object", "summary", "hint")}
        wrapped = {field: "{{ %s }}" % text for field, text in expressions.items() if text}
        return {**wrapped, **{field: text for field, text in texts.items() if text}}

    @property
    def scan(self):
        """A template that looks at every item of the iterator ``items`` and calls ``found(level, item)`` for each.

        One loop in Jinja's compiled code costs a microsecond per item; an expression called item by item, seven.
        """
        branches = "".join(
            "{%% %s %s %%}{{ found(%r, item) }}" % ("elif" if index else "if", getattr(self, level), level)
            for index, level in enumerate(self.levels)
        )
        body = branches + "{% else %}{{ found('ok', item) }}{% endif %}"
        if self.when:
            body = "{%% if %s %%}%s{%% endif %%}" % (self.when, body)
        return "{% for item in items %}" + body + "{% endfor %}"

    @cached_property
    def evidence(self):
        """By level, what its expression names: ``(paths into item, variables)``."""
        return {level: _named(EXPRESSIONS.parse("{{ %s }}" % getattr(self, level))) for level in self.levels}

    @cached_property
    def named(self):
        """What its expressions name, ``when`` included: ``(paths into item, variables)``."""
        found = [
            _named(EXPRESSIONS.parse("{{ %s }}" % getattr(self, field)))
            for field in ("when", *self.levels)
            if getattr(self, field)
        ]
        return tuple(sorted({each for one in found for each in one[place]}) for place in (0, 1))

    @cached_property
    def timing_expression(self):
        """The expression of ``timing``, compiled."""
        return EXPRESSIONS.compile_expression(self.timing, undefined_to_none=True)


class Checks(list):
    """The checks of an area, with its remedies by id.

    The scans of the checks are blocks of one template, which is compiled once for all runs.
    """

    def __init__(self, checks, remedies):
        super().__init__(checks)
        self.remedies = remedies

    def scan(self, check, context, items, found):
        """Let the scan of ``check`` look at ``items``; raises what its expressions raise."""
        template, names = self._compiled
        for _text in template.blocks[names[check.id]](
            template.new_context({**context, "items": items, "found": found})
        ):
            pass

    @cached_property
    def _compiled(self):
        names = {check.id: "scan%d" % number for number, check in enumerate(self)}
        blocks = ["{%% block %s %%}%s{%% endblock %%}" % (names[check.id], check.scan) for check in self]
        return EXPRESSIONS.compiled("".join(blocks)), names


def load(area, extra_rows=()):
    """The checks of an area role, with a user's own rows for it; raises BadRow for the first wrong one.

    Rows may name the role's public options only: what they say goes into reports.
    """
    variables = set(area.public)
    rows = {kind: area.rows(kind) for kind in ("checks", "remedies")}
    remedies = {}
    for position, row in enumerate(rows["remedies"]):
        remedy = _remedies.Remedy(row, str(area.remedies_file), area, position)
        remedies[remedy.id] = remedy
    checks = {}
    sources = [(row, str(area.checks_file)) for row in rows["checks"]]
    sources += [(row, "tracktion_extra_checks") for row in extra_rows]
    for row, source in sources:
        check = Check(row, source, area, remedies)
        if check.id in checks:
            raise check.bad("the id is taken by another row")
        checks[check.id] = check
    key = _row_cache.fingerprint(
        json.dumps([rows, sorted(variables), extra_rows], default=str),
        *(Path(module.__file__).read_text(encoding="utf-8") for module in (_rows, _remedies, sys.modules[__name__])),
    )
    if not _row_cache.is_right(key):
        for row in [*remedies.values(), *checks.values()]:
            row.parse_templates(variables)
        _row_cache.remember(key)
    return Checks(checks.values(), remedies)


def extra_rows_by_area(rows, areas):
    """Sort ``tracktion_extra_checks`` by area; a row for an area that is not diagnosed is passed over, not refused."""
    source = "tracktion_extra_checks"
    if not isinstance(rows, list):
        raise BadRow(source, None, "must be a list of check rows")
    by_area = {area.name: [] for area in areas}
    for row in rows:
        name = row.get("id") if isinstance(row, dict) else None
        if not isinstance(name, str) or "." not in name:
            raise BadRow(source, name, "id: must be <area>.<name>")
        by_area.get(name.partition(".")[0], []).append(row)
    return by_area


def _named(tree):
    """The paths into ``item`` and the other names that an expression uses, in the order of their standing."""
    paths, inner = [], set()
    for node in tree.find_all(nodes.Getattr):
        path = _path(node)
        if path and id(node) not in inner:
            paths.append(path)
        inner.update(id(child) for child in node.find_all(nodes.Getattr))
    return list(dict.fromkeys(paths)), sorted(find_undeclared_variables(tree) - SUBJECTS - set(EXPRESSIONS.globals))


def _path(node):
    parts = []
    while isinstance(node, nodes.Getattr):
        parts.insert(0, node.attr)
        node = node.node
    return tuple(parts) if isinstance(node, nodes.Name) and node.name == "item" else None
