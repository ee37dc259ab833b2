# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What check rows and remedy rows share: a schema, expressions and templates. Private to this collection."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Environment, FunctionLoader, StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.meta import find_undeclared_variables

from ansible.errors import AnsibleError
from ansible_collections.tracktion.ops.plugins.module_utils import _quoting
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_api
from ansible_collections.tracktion.ops.plugins.plugin_utils import _row_cache, _units

# What an expression of a finding may name besides the variables of its role.
SUBJECTS = frozenset(("item", "measured"))
# What an expression or a template can raise over a measurement that is not as it should be.
CANNOT_EVALUATE = (TemplateError, ArithmeticError, TypeError, ValueError, KeyError)


class BadRow(AnsibleError):
    """A row that cannot be used: the message names its file, its id and the reason."""

    def __init__(self, source, row_id, reason):
        super().__init__("%s: row %s: %s" % (source, row_id or "without id", reason))


def known(value):
    """``value`` itself; a null makes the check unknown, where a plain ``not`` would take it for a no."""
    if value is None:
        raise TypeError("a null was asked whether it is so")
    return value


def shell_path(path: str, raw: str | None) -> str:
    """Return a path quoted for the shell; ``raw`` has its bytes in hexadecimal if it is not UTF-8, else it is null."""
    return _quoting.shell_quote(bytes.fromhex(raw).decode("utf-8", "surrogateescape") if raw else path)


def engine_command(kind: str, host: str) -> str:
    """Return how a command to a container engine begins, such as ``docker``; quoted for the shell."""
    is_podman = kind == "podman"
    if host in (_docker_api.DEFAULT_HOST, _docker_api.PODMAN_HOST):
        return "podman" if is_podman else "docker"
    return "%s %s" % ("podman --url" if is_podman else "docker --host", _quoting.shell_quote(host))


# Filters that make a value safe in a command.
QUOTING = {
    quote.__name__: quote
    for quote in (_quoting.shell_quote, _quoting.sql_identifier, _quoting.sql_literal, engine_command, shell_path)
}


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
        self.filters.update(QUOTING)

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


class Prose(Expressions):
    """Jinja for texts with commands between backticks: a value cannot begin a command, or end one.

    A backtick in a value is a private character until the text is made: the filters that quote read it as what it is,
    and in prose it becomes an apostrophe. Only hints of modules are texts of that kind themselves: a module
    quotes what it puts between backticks.
    """

    BACKTICK = "\ufdd0"
    HINTS = ("hint",)

    def __init__(self):
        super().__init__()
        for name in QUOTING:
            self.filters[name] = _reading_backticks(self.filters[name])

    def getattr(self, obj, attribute):
        return self._shown(attribute, super().getattr(obj, attribute))

    def getitem(self, obj, argument):
        return self._shown(argument, super().getitem(obj, argument))

    def _shown(self, name, value):
        return value if name in self.HINTS else _without_backticks(value)


def _without_backticks(value):
    """A text, or the texts in a list or a mapping, with the private character for each backtick."""
    if isinstance(value, str):
        return value.replace("`", Prose.BACKTICK)
    if isinstance(value, list):
        return [_without_backticks(each) for each in value] if any(isinstance(each, str) for each in value) else value
    if isinstance(value, dict) and any(isinstance(each, str) and "`" in each for each in value.values()):
        return {key: each if key in Prose.HINTS else _without_backticks(each) for key, each in value.items()}
    return value


def _reading_backticks(quote):
    def quoted(*values):
        return quote(*(value.replace(Prose.BACKTICK, "`") if isinstance(value, str) else value for value in values))

    return quoted


PROSE = Prose()


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

    def names(self, field, variables):
        """What the template of a field may name."""
        return SUBJECTS | variables

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
        unknown = find_undeclared_variables(tree) - self.names(field, variables) - set(EXPRESSIONS.globals)
        if unknown:
            raise self.bad("%s: %s is no variable of its role" % (field, ", ".join(sorted(unknown))))


def render(text, context):
    """A template as one line of text. Raises one of CANNOT_EVALUATE."""
    return " ".join(_template(text).render(context).split())


@lru_cache(maxsize=4096)
def _template(text):
    """A compiled template: the same ones are rendered for each finding of each host."""
    return EXPRESSIONS.from_string(text)


@lru_cache(maxsize=4096)
def _compiled_expression(text):
    return EXPRESSIONS.compile_expression(text, undefined_to_none=True)


def prose(text, context):
    """A template with commands between backticks as one line of text. Raises one of CANNOT_EVALUATE."""
    return " ".join(_prose_template(text).render(context).split()).replace(Prose.BACKTICK, "'")


@lru_cache(maxsize=4096)
def _prose_template(text):
    return PROSE.from_string(text)


def evaluate(value, context):
    """The value of a row's variable: an expression keeps its type, any other text is a template."""
    text = value.strip() if isinstance(value, str) else ""
    if text.startswith("{{") and text.endswith("}}") and text.count("{{") == 1:
        return expression(text[2:-2], context)
    return render(value, context) if isinstance(value, str) else value


def expression(text, context):
    """The value of a Jinja expression, null where it is undefined. Raises one of CANNOT_EVALUATE."""
    return _compiled_expression(text)(**context)


def _type_names(kind):
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = {str: "text", dict: "a mapping", list: "a list", int: "a whole number", bool: "true or false"}
    return " or ".join(names[each] for each in kinds)
