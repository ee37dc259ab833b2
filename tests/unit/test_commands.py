# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in rows are between backticks, and quote all values."""

from __future__ import annotations

import re

import pytest
from jinja2 import nodes

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _rows

AREAS = {area.name: area for area in _areas.find()}
TEXTS = ("title", "summary", "hint", "why", "does", "undo")
# Filters that make a value safe in a command: they quote it, or return a number.
SAFE = {"shell_quote", "sql_identifier", "sql_literal", "engine_command", "compose_up", "shell_path"}
SAFE |= {"int", "float", "length", "count", "bytes", "duration", "percent"}
# The start of a command. Outside of commands, programs are named without arguments.
COMMAND = re.compile(
    r"""\b(?:
    (?:sudo|docker|podman)\ +(?:compose\ +|volume\ +|network\ +)?
        (?:exec|inspect|logs|ls|ps|prune|restart|rm|run|start|stop|top|unpause|up|update)\b
    |docker-compose\ +\w|psql\ +-|rabbitmqctl\ +\w|rabbitmq-\w+\ +\w|redis-cli\ +\w|tail\ +-
    |journalctl\ +-|systemctl\ +\w|nft\ +(?:add|delete|list)|iptables\ +-|ip\ +(?:addr|link|route|netns)\b|findmnt\ +-
    |setfacl\ +-|ss\ +-|ps\ +-\w|ls\ +-|chown\ +-|chmod\ +\d|sysctl\ +-
    |ansible(?:-playbook)?\ +\w|python3?\ +-|curl\ +-|lsof\ +-|kill\ +-?\d
    |SELECT\ +\w+\(|ALTER\ +(?:TABLE|SYSTEM|SEQUENCE|ROLE|DATABASE)\b|CREATE\ +(?:INDEX|EXTENSION)\b|DROP\ +INDEX\b
    |GRANT\ +\w+\ +(?:ON|TO)\b|VACUUM\ +\(|REINDEX\ +(?:INDEX|TABLE)\b|(?:COMMIT|ROLLBACK)\ +PREPARED\b|CONFIG\ +SET\b
    |CLIENT\ +KILL\b)""",
    re.VERBOSE,
)


class Walk:
    """Follows the text of a template and tracks whether it is inside a command."""

    def __init__(self):
        self.inside = False
        self.faults = []

    def text(self, data):
        for index, part in enumerate(data.split("`")):
            if index:
                self.inside = not self.inside
            found = None if self.inside else COMMAND.search(part)
            if found:
                self.faults.append("a command outside of backticks: %r" % part[found.start() :][:60])

    def expression(self, node):
        if isinstance(node, nodes.Const):
            if isinstance(node.value, str):
                self.text(node.value)
        elif isinstance(node, nodes.Concat):
            for each in node.nodes:
                self.expression(each)
        elif isinstance(node, nodes.CondExpr):
            self.branches([[node.expr1], [node.expr2] if node.expr2 else []], self.expression)
        elif isinstance(node, (nodes.Add, nodes.Or)):
            self.expression(node.left)
            self.expression(node.right)
        elif self.inside:
            if not is_safe(node):
                self.faults.append("unquoted in a command: line %d, %s" % (node.lineno, outline(node)))
        else:
            # The texts of {'kind': 'Text'}[item.kind] are values: Prose replaces their backticks.
            for each in node.find_all(nodes.Const):
                if isinstance(each.value, str) and "`" in each.value:
                    self.faults.append("a command in a value: %r" % each.value[:60])
                elif isinstance(each.value, str) and " " in each.value.strip():
                    self.text(each.value)

    def branches(self, branches, visit):
        before, ends = self.inside, set()
        for branch in branches:
            self.inside = before
            for node in branch:
                visit(node)
            ends.add(self.inside)
        if len(ends) > 1:
            self.faults.append("a command that ends in one branch only")

    def node(self, node):
        if isinstance(node, nodes.Output):
            for each in node.nodes:
                if isinstance(each, nodes.TemplateData):
                    self.text(each.data)
                else:
                    self.expression(each)
        elif isinstance(node, nodes.If):
            self.branches([node.body, *([each] for each in node.elif_), node.else_], self.node_or_body)
        elif isinstance(node, nodes.For):
            self.branches([node.body, []], self.node)
        elif not isinstance(node, nodes.Assign):
            raise AssertionError("no rule for %s" % type(node).__name__)

    def node_or_body(self, node):
        # An ``elif`` is an If of its own.
        for each in node.body if isinstance(node, nodes.If) else [node]:
            self.node(each)


def is_safe(node):
    if isinstance(node, nodes.Const):
        return True
    if isinstance(node, nodes.CondExpr):
        return is_safe(node.expr1) and (node.expr2 is None or is_safe(node.expr2))
    if not isinstance(node, nodes.Filter):
        return False
    if node.name == "join":
        return isinstance(node.node, nodes.Filter) and node.node.name == "map" and node.node.args[0].value in SAFE
    return node.name in SAFE


def outline(node):
    names = [each.attr for each in node.find_all(nodes.Getattr)]
    return ".".join(reversed(names)) or str(node)


def faults(text):
    walk = Walk()
    for node in _rows.EXPRESSIONS.parse(text).body:
        walk.node(node)
    if walk.inside:
        walk.faults.append("a backtick that is not closed")
    return walk.faults


ROWS = [(name, row) for name, area in AREAS.items() for kind in ("checks", "remedies") for row in area.rows(kind)]


@pytest.mark.parametrize(("area", "row"), ROWS, ids=[row["id"] for _area, row in ROWS])
def test_commands_of_a_row_are_safe_to_paste(area, row):
    assert [(field, fault) for field in TEXTS if row.get(field) for fault in faults(row[field])] == []


@pytest.mark.parametrize(
    "text",
    [
        "Stop it: `docker stop {{ item.name }}`",
        "Stop it: docker stop x",
        "`{% if item.a %}x`{% endif %}",
        "{{ 'Stop it: `docker stop ' ~ item.name ~ '`' }}",
        "`docker stop {{ item.name | upper }}`",
        "`docker stop {{ item.names | join(' ') }}`",
        "Drop it: `x",
        "{{ {'a': 'docker stop x'}[item.kind] }}",
        "{{ {'a': 'Stop it: `docker stop x`'}[item.kind] }}",
    ],
)
def test_a_command_that_is_not_safe_is_rejected(text):
    assert faults(text)


@pytest.mark.parametrize(
    "text",
    [
        "Stop {{ item.name }}: `docker stop {{ item.name | shell_quote }}`",
        "{{ 'Stop it: `docker stop ' ~ (item.name | shell_quote) ~ '`' if item.name }}",
        "`docker stop {{ item.names | map('shell_quote') | join(' ') }}`",
        "`kill {{ item.pid | int }}`",
    ],
)
def test_a_safe_command_is_accepted(text):
    assert faults(text) == []
