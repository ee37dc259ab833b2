# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validates what a host sent against the shape that the measuring module documents. Pure. Private to this collection.

The shape is the module's own RETURN documentation. Null is allowed anywhere; a key that is documented as returned
always must be there; other keys are kept. Numbers are finite, text is valid Unicode, depth is bounded.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path

import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import _row_cache

MODULES = Path(__file__).parents[1] / "modules"
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Deeper than any measurement, and far from Python's own limit.
MAX_DEPTH = 32
MAX_TEXT = 16384
MAX_NUMBER = 1e30
SURROGATE = re.compile("[\ud800-\udfff]")
UNUSUAL_NUMBER = re.compile(r"\d{31}|[eE]\+?\d{3}")
MISSING = object()
NoneType = type(None)
# Combinations of keys and types that are remembered of one mapping.
FORMS = 256

ERROR = {
    "kind": {"type": "str", "returned": "always"},
    "message": {"type": "str", "returned": "always"},
    "hint": {"type": "str", "returned": "sometimes"},
}
ENTRY = {
    "part": {"type": "str", "returned": "always"},
    "reason": {"type": "str", "returned": "always"},
    "hint": {"type": "str", "returned": "sometimes"},
}
# What every measurement has, whatever its module documents.
BASE = {
    "reachable": {"type": "bool", "returned": "always"},
    "error": {"type": "dict", "returned": "always", "contains": ERROR},
    "unknown": {"type": "list", "elements": "dict", "returned": "always", "contains": ENTRY},
}
TYPES = {
    "bool": frozenset((bool,)),
    "int": frozenset((int,)),
    "float": frozenset((int, float)),
    "str": frozenset((str,)),
    "list": frozenset((list,)),
    "dict": frozenset((dict,)),
    "raw": frozenset((bool, int, float, str, list, dict)),
}
TYPES["path"] = TYPES["str"]
TYPES["any"] = TYPES["raw"]
NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}
Check = Callable[[object, int, bool], object]


class Malformed(ValueError):
    """A value is not what the module documents. The message names it by its path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def __str__(self) -> str:
        return " ".join(filter(None, (".".join(reversed(self.path))[:200], self.reason)))


class Document:
    """A JSON text, read. ``is_plain`` where it holds nothing that a scalar of it would have to be checked for.

    To look at every value costs more than all the rest. Whether one of them is not a number of usual size, not valid
    Unicode or too long shows in the text, which is searched at the speed of C.
    """

    def __init__(self, source: str) -> None:
        """Raises Malformed where the text is not JSON, or nested too deep to be read."""
        self._constants: list[str] = []
        try:
            self.value = self._read(source)
        except RecursionError as exc:
            raise Malformed("is nested too deep") from exc
        except ValueError as exc:
            raise Malformed("is not valid JSON: %s" % exc) from exc
        self.is_plain = not (
            self._constants
            or "\\ud" in source
            or "\\uD" in source
            or (not source.isascii() and SURROGATE.search(source))
            or UNUSUAL_NUMBER.search(source)
            or max(map(len, source.split('"'))) > MAX_TEXT
        )

    def _read(self, source: str) -> object:
        try:
            return json.loads(source, parse_constant=self._constant)
        except json.JSONDecodeError:
            raise
        except ValueError:
            # A number with more digits than Python converts: the rest of the document is still good.
            return json.loads(source, parse_constant=self._constant, parse_int=_whole)

    def _constant(self, name: str) -> float:
        self._constants.append(name)
        return float(name)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < 100 else float("inf")


def checked(measurement: object, module: str, is_plain: bool = False) -> dict:
    """``measurement``, its text made valid, in place. Raises Malformed.

    ``module`` is the name of a measuring module of this collection; of another one, only the common fields are known.
    """
    if not isinstance(measurement, dict):
        raise Malformed("the measurement is not a mapping")
    try:
        _base()(measurement, 0, True)
        # Without a service to measure, every part is null or absent.
        if "." not in module and (measurement["error"] is None or measurement["reachable"]):
            return of_module(module)(measurement, 0, is_plain)
        return _anything(measurement, 0, is_plain)
    except RecursionError as exc:
        raise Malformed("is nested too deep") from exc


def checked_error(error: object) -> dict:
    """The error of an area, its text made valid. Raises Malformed."""
    if not isinstance(error, dict):
        raise Malformed("is not a mapping")
    return _mapping(ERROR)(error, 0, False)


def undeclared(measurement: dict, module: str) -> list[str]:
    """The paths of keys that the module does not document, for tests that hold RETURN against real measurements."""
    found: set[str] = set()
    _undeclared(measurement, {**documented(module), **BASE}, "", found)
    return sorted(found)


def _undeclared(value: object, contains: dict, path: str, found: set[str]) -> None:
    if isinstance(value, list):
        for each in value:
            _undeclared(each, contains, path, found)
    elif isinstance(value, dict) and contains:
        for key, inner in value.items():
            where = "%s.%s" % (path, key) if path else key
            if key not in contains:
                found.add(where)
            else:
                _undeclared(inner, contains[key].get("contains") or {}, where, found)


@functools.cache
def of_module(module: str) -> Check:
    """The check of a whole measurement of one of this collection's modules."""
    return _mapping({**documented(module), **BASE})


@functools.cache
def of_part(module: str, name: str) -> Check:
    """The check of one mapping that a module of this collection returns."""
    return _mapping(documented(module)[name]["contains"])


@functools.cache
def _base() -> Check:
    return _mapping(BASE)


def documented(module: str) -> dict:
    """The module's RETURN, by name ``{type, elements, returned, contains}``; empty where there is no such module."""
    path = MODULES / (module + ".py")
    if not module.isidentifier() or not path.exists():
        return {}
    return _row_cache.parsed(path.read_text(encoding="utf-8"), _documented)


def _documented(source: str) -> dict:
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "RETURN":
            return _kept(yaml.load(ast.literal_eval(node.value), Loader=Loader) or {})  # noqa: S506
    return {}


def _kept(fields: dict) -> dict:
    """Of each field what a check needs."""
    kept = {}
    for name, field in fields.items():
        kept[name] = {key: field[key] for key in ("type", "elements", "returned") if key in field}
        if field.get("contains"):
            kept[name]["contains"] = _kept(field["contains"])
    return kept


def _mapping(contains: dict) -> Check:
    """Checks a mapping with these fields.

    Items of a list have the same keys and types almost always: a combination that was right is not looked at again.
    """
    fields = {name: (TYPES[field.get("type", "raw")], _is_required(field)) for name, field in contains.items()}
    inner = {name: check for name, check in ((name, _inner(field)) for name, field in contains.items()) if check}
    right: set[tuple] = set()

    def check(value, depth, is_plain):
        form = (tuple(value), tuple(map(type, value.values())))
        if form not in right:
            _compare(value, fields)
            if len(right) < FORMS:
                right.add(form)
        for name, check_inner in inner.items():
            found = value.get(name)
            if found is not None:
                try:
                    check_inner(found, depth + 1, is_plain)
                except Malformed as exc:
                    exc.path.append(name)
                    raise
        if not is_plain or len(value) > len(fields):
            _rest(value, inner, depth, is_plain)
        return value

    return check


def _compare(value: dict, fields: dict) -> None:
    """Raise Malformed where a field is missing or of another type."""
    for name, (kinds, is_required) in fields.items():
        found = value.get(name, MISSING)
        if found is MISSING:
            if is_required:
                raise _at(name, Malformed("is missing"))
        elif found is not None and type(found) not in kinds:
            raise _at(name, Malformed("must be %s, not %s" % (_names(kinds), _shown(found))))


def _at(name: str, malformed: Malformed) -> Malformed:
    malformed.path.append(name)
    return malformed


def _rest(value: dict, inner: dict, depth: int, is_plain: bool) -> None:
    """Check scalars, and the keys that are not documented."""
    for key in [key for key in value if key not in inner]:
        try:
            found = _anything(value[key], depth + 1, is_plain)
        except Malformed as exc:
            raise _at(text(key), exc)
        if not is_plain and text(key) != key:
            del value[key]
            key = text(key)
        value[key] = found


def _inner(field: dict) -> Check | None:
    """The check of what a list or a mapping holds; none for a scalar."""
    kind = field.get("type", "raw")
    contains = field.get("contains")
    if kind == "dict":
        return _mapping(contains) if contains else _anything
    if kind == "list":
        elements = field.get("elements", "raw")
        if elements == "dict":
            return _list(TYPES["dict"], _mapping(contains) if contains else _anything)
        return _list(TYPES.get(elements, TYPES["raw"]), None)
    return _anything if TYPES[kind] is TYPES["raw"] else None


def _list(kinds: frozenset, inner: Check | None) -> Check:
    def check(value, depth, is_plain):
        for kind in set(map(type, value)) - kinds:
            # A null in a list of scalars is a value that is not known; one in a list of mappings is no item.
            if inner or kind is not NoneType:
                found = next(found for found in value if isinstance(found, kind))
                raise Malformed("must hold only %s, not %s" % (_names(kinds), _shown(found)))
        if inner:
            for found in value:
                inner(found, depth + 1, is_plain)
        else:
            _anything(value, depth, is_plain)
        return value

    return check


def _anything(value, depth, is_plain):
    """``value``, whatever it is, with its text made valid, in place."""
    if isinstance(value, (dict, list)):
        if depth > MAX_DEPTH:
            raise Malformed("is nested too deep")
        if isinstance(value, dict):
            _rest(value, {}, depth, is_plain)
        else:
            for number, found in enumerate(value):
                value[number] = _anything(found, depth + 1, is_plain)
    elif is_plain:
        return value
    elif isinstance(value, str):
        return value if value.isascii() and len(value) <= MAX_TEXT else text(value)
    elif isinstance(value, (int, float)) and not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise Malformed("is not a number within limits")
    return value


def text(value: str) -> str:
    r"""Text that can be written as UTF-8: a byte that is none is shown as ``\xf6``. Cut where it is too long."""
    if len(value) > MAX_TEXT:
        value = value[: MAX_TEXT - 1] + "\u2026"
    return SURROGATE.sub(_visible, value)


def _visible(found: re.Match) -> str:
    code = ord(found.group())
    # Python reads a byte that is not UTF-8 as U+DC80 to U+DCFF.
    return "\\x%02x" % (code - 0xDC00) if 0xDC80 <= code <= 0xDCFF else "\\u%04x" % code


def _is_required(field: dict) -> bool:
    # A module of several states documents what it measures as returned in that state.
    returned = field.get("returned") or ""
    return returned in ("always", "success") or "state=measured" in returned


def _names(kinds: frozenset) -> str:
    return " or ".join(NAMES[kind] for kind in (bool, int, float, str, list, dict) if kind in kinds)


def _shown(value: object) -> str:
    return "null" if value is None else NAMES.get(type(value), type(value).__name__)
