# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What check rows and remedy rows share: a schema, expressions and templates. Private to this collection."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.environment import TemplateExpression
from jinja2.meta import find_undeclared_variables

from ansible.errors import AnsibleError
from ansible_collections.tracktion.ops.plugins.module_utils import _quoting
from ansible_collections.tracktion.ops.plugins.plugin_utils import _row_cache, _units

# Names and addresses of the host itself; empty for a Unix socket.
LOCAL = ("localhost", "localhost.localdomain", "::1", "")
# Names that an expression of a finding may use besides the variables of its role.
SUBJECTS = frozenset(("item", "measured"))
# Exceptions of an expression or a template whose values are missing or of another type.
CANNOT_EVALUATE = (TemplateError, ArithmeticError, TypeError, ValueError, KeyError)

FieldType = type | tuple[type, ...]
TYPE_NAMES = {str: "text", dict: "a mapping", list: "a list", int: "a whole number", bool: "true or false"}


class BadRow(AnsibleError):
    """An invalid row. The message names its file, its id and the reason."""

    def __init__(self, source: str, row_id: object, reason: str) -> None:
        super().__init__("%s: row %s: %s" % (source, row_id or "without id", reason))


def known(value: Any) -> Any:
    """Return ``value``; raise TypeError for null, so that the check is unknown where a plain ``not`` would be true."""
    if value is None:
        raise TypeError("the value is null")
    return value


def shell_path(path: str, raw: str | None) -> str:
    """Return a path quoted for the shell; ``raw`` has its bytes in hexadecimal if it is not UTF-8, else it is null."""
    return _quoting.shell_quote(bytes.fromhex(raw).decode("utf-8", "surrogateescape") if raw else path)


def engine_command(kind: str, host: str) -> str:
    """Return the start of a command to a container engine (``_engine.command``)."""
    # Imported only for a finding about a container: with what it imports, it takes 5 ms in every run.
    from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine

    return _engine.command(kind, host)


def compose_up(options: Sequence[str], service: str, variables: Sequence[str] = (), recreate: bool = False) -> str:
    """Return the command that applies compose files to a service (``_engine.compose_up``)."""
    from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine

    return _engine.compose_up(options, service, variables, recreate)


def local_port(port: int | None, host: str | None, probe_host: str | None = None) -> str:
    """Return a port as text, if ``host`` is the diagnosed host itself; else empty text.

    With a ``probe_host``, the address is that of another host.
    """
    return str(port) if port and not probe_host and (host in LOCAL or str(host).startswith("127.")) else ""


def device(number: int | None, kernel: bool = False) -> str:
    """Return a device number as text, empty for null: it names a file system in the host and in all containers.

    The number is that of stat(2), or with ``kernel`` that of the kernel itself, major << 20 | minor.
    """
    if number is None:
        return ""
    pair = (number >> 20, number & 0xFFFFF) if kernel else (os.major(number), os.minor(number))
    return "device %d:%d" % pair


def mention(names: Iterable[object], *words: str) -> bool:
    """Return whether a part of a name, such as ``cache`` of ``checks.cache``, begins with one of the words."""
    parts = [part for name in names for part in re.split(r"[^a-z0-9]+", str(name).lower())]
    return any(part.startswith(word) for part in parts for word in words)


# What clients write of a server that they do not reach.
NOT_CONNECTED = re.compile(
    r"connect|refused|resol|translate host|not known|ENOTFOUND|time(?:d out|out)|unreachable", re.IGNORECASE
)
# A name of its own, as that of a host: not a part of a path, of a module or of another name.
HOST = r"(?<![\w.-])(?<![^/]/)%s(?![\w-]|\.\w)"


def cannot_connect_to(lines: Iterable[str] | None, hosts: Iterable[str]) -> bool:
    """Return whether a line of a log says that a client does not reach one of these hosts."""
    names = [re.compile(HOST % re.escape(host)) for host in hosts]
    return any(NOT_CONNECTED.search(line) and any(name.search(line) for name in names) for line in lines or ())


def have(lines: Iterable[str] | None, *texts: str) -> bool:
    """Return whether lines of a log, null if it was not read, have one of these texts."""
    return any(text in line for line in lines or () for text in texts)


# A name that needs no quoting in a shell, and none within the quotes of SQL.
PLAIN_NAME = re.compile(r"/|[A-Za-z0-9_][A-Za-z0-9_.@:/+-]{0,99}")
PLACEHOLDER = re.compile(r"\b([A-Z]+)_NAME\b")


def with_names(hint: str, names: Mapping[str, Sequence[str]], service: str) -> str:
    """Return a hint for a message with ROLE_NAME, for example, replaced by what the message calls a role.

    ``names`` are the values by what they name, such as ``role``; SERVICE_NAME is the service that wrote the message. If
    there are several names, or one that would need quotes, the reader has to fill it in: clients choose what they are
    called in a log.
    """

    def name(found: re.Match[str]) -> str:
        values = [service] if found[1] == "SERVICE" else names.get(found[1].lower(), ())
        return values[0] if len(values) == 1 and PLAIN_NAME.fullmatch(values[0]) else found[0]

    return PLACEHOLDER.sub(name, hint)


# Filters that make a value safe in a command.
QUOTING: dict[str, Callable[..., str]] = {
    "shell_quote": _quoting.shell_quote,
    "sql_identifier": _quoting.sql_identifier,
    "sql_literal": _quoting.sql_literal,
    "engine_command": engine_command,
    "compose_up": compose_up,
    "shell_path": shell_path,
}


class Expressions(Environment):
    """Jinja for check rows: ``item.name`` is always a field, never a method, and an undefined name raises an error."""

    def __init__(self) -> None:
        self._sources: dict[str, str] = {}
        super().__init__(
            undefined=StrictUndefined,
            loader=FunctionLoader(self._sources.get),
            bytecode_cache=_row_cache.Bytecode(),
        )
        self.filters.update(bytes=_units.size, duration=_units.duration, percent=_units.percent, known=known)
        self.filters.update(local_port=local_port, device=device, mention=mention)
        self.filters.update(cannot_connect_to=cannot_connect_to, have=have, with_names=with_names)
        self.filters.update(QUOTING)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def compiled(self, source: str) -> Template:
        """Return the compiled template. Unlike that of ``from_string``, its byte code is kept for later runs."""
        # Environments differ in their filters, which Jinja applies to constants as it compiles.
        name = _row_cache.fingerprint(type(self).__name__, source)
        self._sources[name] = source
        return self.get_template(name)


EXPRESSIONS = Expressions()


class Prose(Expressions):
    """Jinja for texts with commands between backticks: a value can neither start nor end a command.

    A backtick in a value is a private character while the text is rendered. The filters that quote read it as a
    backtick; elsewhere it becomes an apostrophe. Hints of modules are exempt: modules quote their own commands.
    """

    BACKTICK = "\ufdd0"
    HINTS = ("hint", "persist_hint")

    def __init__(self) -> None:
        super().__init__()
        for name in QUOTING:
            self.filters[name] = _reading_backticks(self.filters[name])

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self._replaced(attribute, super().getattr(obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        return self._replaced(argument, super().getitem(obj, argument))

    def _replaced(self, name: Any, value: Any) -> Any:
        return value if name in self.HINTS else _without_backticks(value)


def _without_backticks(value: Any) -> Any:
    """Return a text, or a list or a mapping of texts, with the private character for each backtick."""
    if isinstance(value, str):
        return value.replace("`", Prose.BACKTICK)
    if isinstance(value, list):
        return [_without_backticks(each) for each in value] if any(isinstance(each, str) for each in value) else value
    if isinstance(value, dict) and any(isinstance(each, str) and "`" in each for each in value.values()):
        return {key: each if key in Prose.HINTS else _without_backticks(each) for key, each in value.items()}
    return value


def _reading_backticks(quote: Callable[..., str]) -> Callable[..., str]:
    def quoted(*values: Any, **named: Any) -> str:
        return quote(*map(_with_backticks, values), **named)

    return quoted


def _with_backticks(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_with_backticks(each) for each in value]
    return value.replace(Prose.BACKTICK, "`") if isinstance(value, str) else value


PROSE = Prose()


class Row:
    """A row of ``checks.yml`` or ``remedies.yml``. Its fields are validated, and are attributes of the row."""

    FIELDS: ClassVar[Mapping[str, FieldType]] = {}
    REQUIRED: ClassVar[Sequence[str]] = ()

    id: str
    vars: dict[str, Any]

    def __init__(self, row: object, source: str) -> None:
        self.source = source
        if not isinstance(row, dict):
            raise BadRow(source, None, "must be a mapping, not %s" % type(row).__name__)
        self.id = row.get("id", "")
        self._row = row
        for name, value in row.items():
            if name not in self.FIELDS:
                raise self.bad("unknown field %r (known: %s)" % (name, ", ".join(sorted(self.FIELDS))))
            if not isinstance(value, self.FIELDS[name]):
                raise self.bad("%s: must be %s" % (name, _type_names(self.FIELDS[name])))
        for name in self.REQUIRED:
            if name not in row:
                raise self.bad("the field %r is missing" % name)
        for name in self.FIELDS:
            setattr(self, name, row.get(name))
        self.vars = row.get("vars") or {}

    def field(self, name: str) -> Any:
        """Return the value of a field, null if the row does not have it."""
        return self._row.get(name)

    def bad(self, reason: str) -> BadRow:
        """Return the error for an invalid field of this row, to be raised."""
        return BadRow(self.source, self.id, reason)

    def templates(self) -> dict[str, str]:
        """Return the row's templates by field; an expression as the template that prints it."""
        return {}

    def allowed_names(self, field: str, variables: set[str]) -> frozenset[str]:
        """Return the names that the template of a field may use. ``variables``: those of the role and of the row."""
        return SUBJECTS | variables

    def parse_templates(self, variables: set[str]) -> None:
        """Raise BadRow if a template is malformed, or names a variable, a filter or a test that does not exist."""
        for field, text in self.templates().items():
            try:
                tree = EXPRESSIONS.parse(text)
            except TemplateSyntaxError as exc:
                raise self.bad("%s: %s in %r" % (field, exc.message, text)) from exc
            self._reject_unknown_names(field, tree, variables | set(self.vars))

    def _reject_unknown_names(self, field: str, tree: nodes.Template, variables: set[str]) -> None:
        for kind, existing in ((nodes.Filter, EXPRESSIONS.filters), (nodes.Test, EXPRESSIONS.tests)):
            for node in tree.find_all(kind):
                if node.name not in existing:
                    raise self.bad("%s: no filter or test named %r" % (field, node.name))
        unknown = find_undeclared_variables(tree) - self.allowed_names(field, variables) - set(EXPRESSIONS.globals)
        if unknown:
            raise self.bad("%s: %s is no variable of its role" % (field, ", ".join(sorted(unknown))))


def render(text: str, context: Mapping[str, Any]) -> str:
    """Return a rendered template as one line of text. Raises one of CANNOT_EVALUATE."""
    return " ".join(_template(text).render(context).split())


@lru_cache(maxsize=4096)
def _template(text: str) -> Template:
    """Return a compiled template: the same ones are rendered for each finding of each host."""
    return EXPRESSIONS.compiled(text)


@lru_cache(maxsize=4096)
def compiled_expression(text: str) -> TemplateExpression:
    """Return a compiled expression, which is compiled once in this process and in those that it forks."""
    # As EXPRESSIONS.compile_expression(), which has no cache for later runs and takes a millisecond.
    return TemplateExpression(EXPRESSIONS.compiled("{%% set result = (%s) %%}" % text), undefined_to_none=True)


def prose(text: str, context: Mapping[str, Any]) -> str:
    """Return a rendered template with commands between backticks as one line. Raises one of CANNOT_EVALUATE."""
    return " ".join(_prose_template(text).render(context).split()).replace(Prose.BACKTICK, "'")


@lru_cache(maxsize=4096)
def _prose_template(text: str) -> Template:
    return PROSE.compiled(text)


def variable_value(value: Any, context: Mapping[str, Any]) -> Any:
    """Return the value of a row's variable: an expression keeps its type, any other text is a template."""
    text = expression_in(value)
    if text is not None:
        return expression(text, context)
    return render(value, context) if isinstance(value, str) else value


def expression_in(value: Any) -> str | None:
    """Return the expression of a template that is one expression, ``{{ a + b }}``; null for all other values."""
    text = value.strip() if isinstance(value, str) else ""
    return text[2:-2] if text.startswith("{{") and text.endswith("}}") and text.count("{{") == 1 else None


def expression(text: str, context: Mapping[str, Any]) -> Any:
    """Return the value of a Jinja expression, null if it is undefined. Raises one of CANNOT_EVALUATE."""
    return compiled_expression(text)(**context)


def _type_names(kind: FieldType) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(TYPE_NAMES[each] for each in kinds)
