# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check rows and remedy rows: one schema, expressions and templates compiled once. Private to this collection."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined, TemplateSyntaxError, nodes
from jinja2.meta import find_undeclared_variables

from ansible.errors import AnsibleError
from ansible_collections.tracktion.ops.plugins.plugin_utils import _row_cache, _units

LEVELS = ("critical", "warning", "info")
RISKS = ("safe", "disruptive", "destructive")
DATA_LOSS = ("none", "cache", "message", "files", "database")
# What an expression may name besides the variables of its role.
SUBJECTS = frozenset(("item", "measured"))


class BadRow(AnsibleError):
    """A row that cannot be used: the message names its file, its id and the reason."""

    def __init__(self, source, row_id, reason):
        super().__init__("%s: row %s: %s" % (source, row_id or "without id", reason))


def known(value):
    """``value`` itself; a null makes the check unknown, where a plain ``not`` would take it for a no."""
    if value is None:
        raise TypeError("a null was asked whether it is so")
    return value


class Expressions(Environment):
    """Jinja for check rows: fields of measurements are never mistaken for methods, and nothing undefined passes."""

    def __init__(self):
        self._sources = {}
        super().__init__(
            undefined=StrictUndefined,
            loader=FunctionLoader(self._sources.get),
            bytecode_cache=_row_cache.Bytecode(),
        )
        self.filters.update(bytes=_units.size, duration=_units.duration, percent=_units.percent, known=known)

    def getattr(self, obj, attribute):
        if isinstance(obj, dict):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def compiled(self, source):
        """A template like ``from_string`` makes, compiled once for all runs."""
        name = _row_cache.fingerprint(source)
        self._sources[name] = source
        return self.get_template(name)


EXPRESSIONS = Expressions()


class Row:
    """What check rows and remedy rows share: validated fields, and messages that name file and id."""

    FIELDS = {}
    REQUIRED = ()

    def __init__(self, row, source):
        self.source = source
        if not isinstance(row, dict):
            raise BadRow(source, None, "must be a mapping, not %s" % type(row).__name__)
        self.id = row.get("id")
        for field, value in row.items():
            if field not in self.FIELDS:
                raise self.bad("unknown field %r (known: %s)" % (field, ", ".join(sorted(self.FIELDS))))
            if not isinstance(value, self.FIELDS[field]):
                raise self.bad("%s: must be %s" % (field, _type_names(self.FIELDS[field])))
        for field in self.REQUIRED:
            if field not in row:
                raise self.bad("the field %r is missing" % field)
        for field in self.FIELDS:
            setattr(self, field, row.get(field))
        self.vars = self.vars or {}

    def bad(self, reason):
        return BadRow(self.source, self.id, reason)

    def templates(self):
        """The row's templates by field; an expression as the template that prints it."""
        return {}

    def parse_templates(self, variables):
        """Check that the row's templates are well formed and name nothing that will not be there."""
        for field, text in self.templates().items():
            try:
                tree = EXPRESSIONS.parse(text)
            except TemplateSyntaxError as exc:
                raise self.bad("%s: %s in %r" % (field, exc.message, text)) from exc
            self._look_for_strangers(field, tree, variables | set(self.vars))

    def _look_for_strangers(self, field, tree, variables):
        for node in tree.find_all((nodes.Filter, nodes.Test)):
            known = EXPRESSIONS.filters if isinstance(node, nodes.Filter) else EXPRESSIONS.tests
            if node.name not in known:
                raise self.bad("%s: no filter or test named %r" % (field, node.name))
        unknown = find_undeclared_variables(tree) - SUBJECTS - set(EXPRESSIONS.globals) - variables
        if unknown:
            raise self.bad("%s: %s is no variable of its role" % (field, ", ".join(sorted(unknown))))


class Remedy(Row):
    """What a finding's remedy does, and what it may cost."""

    FIELDS = {"id": str, "title": str, "risk": str, "data_loss": str, "does": str, "vars": dict}
    REQUIRED = ("id", "title", "risk", "data_loss", "does")

    def __init__(self, row, source, area, variables):
        super().__init__(row, source)
        self.area = area
        for field, allowed in (("risk", RISKS), ("data_loss", DATA_LOSS)):
            if getattr(self, field) not in allowed:
                raise self.bad("%s: must be one of %s" % (field, ", ".join(allowed)))
        self.tasks = "remediate/%s" % self.id.rpartition(".")[2]
        if not area.file("tasks", self.tasks + ".yml").exists():
            raise self.bad("there is no task file tasks/%s.yml" % self.tasks)
        for name in self.vars:
            if name not in variables:
                raise self.bad("vars: %s is no variable of its role" % name)

    def templates(self):
        values = {"vars." + name: value for name, value in self.vars.items() if isinstance(value, str)}
        return {"does": self.does, **values}


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
        "advice": str,
        "guide": str,
        "why": str,
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
            raise self.bad("remedy: %r is not in %s_remedies" % (self.remedy, area.name))
        self.remedy = remedies.get(self.remedy)
        self.path = tuple((self.each or self.at).split("."))

    def templates(self):
        expressions = {field: getattr(self, field) for field in ("when", *self.levels)}
        texts = {field: getattr(self, field) for field in ("object", "summary", "advice")}
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


class Checks(list):
    """The checks of an area. Their scans are blocks of one template, which is compiled once for all runs."""

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
    """The checks of an area role, with a user's own rows for it; raises BadRow for the first wrong one."""
    variables = set(area.argument_spec)
    rows = {kind: area.rows(kind) for kind in ("checks", "remedies")}
    remedies = {}
    for row in rows["remedies"]:
        remedy = Remedy(row, str(area.remedies_file), area, variables)
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
        Path(__file__).read_text(encoding="utf-8"),
    )
    if not _row_cache.is_right(key):
        for row in [*remedies.values(), *checks.values()]:
            row.parse_templates(variables)
        _row_cache.remember(key)
    return Checks(checks.values())


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


def _type_names(kind):
    return {str: "text", dict: "a mapping"}.get(kind, str(kind))
