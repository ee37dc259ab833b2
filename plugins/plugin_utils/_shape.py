# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validates measurements against the RETURN documentation of their module. Pure. Private to this collection.

Null is allowed anywhere. A key that is documented as returned always is required; undocumented keys are kept. Numbers
must be finite, text becomes valid Unicode, depth is limited.
"""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.tracktion.ops.plugins.plugin_utils import _row_cache

MODULES = Path(__file__).parents[1] / "modules"
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Deeper than any measurement, and far below Python's own limit.
MAX_DEPTH = 32
MAX_TEXT = 16384
MAX_NUMBER = 1e30
SURROGATE = re.compile("[\ud800-\udfff]")
# A whole number with as many digits is less than MAX_NUMBER.
DIGITS = 30
MISSING = object()
NoneType = type(None)
# Valid combinations of keys and types that are remembered for each mapping.
FORMS = 256

Fields = dict[str, dict[str, Any]]

ERROR: Fields = {
    "kind": {"type": "str", "returned": "always"},
    "message": {"type": "str", "returned": "always"},
    "hint": {"type": "str", "returned": "sometimes"},
}
ENTRY: Fields = {
    "part": {"type": "str", "returned": "always"},
    "reason": {"type": "str", "returned": "always"},
    "hint": {"type": "str", "returned": "sometimes"},
}
# Keys of every measurement.
BASE: Fields = {
    "reachable": {"type": "bool", "returned": "always"},
    "error": {"type": "dict", "returned": "always", "contains": ERROR},
    "unknown": {"type": "list", "elements": "dict", "returned": "always", "contains": ENTRY},
}
TYPES: dict[str, frozenset[type]] = {
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
NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}
# Validates a value, found at a depth, in place, and returns it; the last argument is Document.is_plain.
Check = Callable[[Any, int, bool], Any]


class Malformed(ValueError):
    """A value has not the documented shape. The message names its path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def __str__(self) -> str:
        return " ".join(filter(None, (".".join(reversed(self.path))[:200], self.reason)))


class Document:
    """A JSON text, parsed. If ``is_plain``, its numbers and texts are valid, and need not be validated one by one.

    Validating each scalar takes longer than everything else: numbers are looked at as they are read, and invalid
    Unicode and long texts are found in the JSON text by functions in C.
    """

    def __init__(self, source: str) -> None:
        """Raises Malformed if the text is not JSON, or nested too deep."""
        self._unusual = False
        try:
            self.value = json.loads(
                source, parse_constant=self._constant, parse_float=self._float, parse_int=self._whole
            )
        except RecursionError as exc:
            raise Malformed("is nested too deep") from exc
        except ValueError as exc:
            raise Malformed("is not valid JSON: %s" % exc) from exc
        self.is_plain = not (
            self._unusual
            or "\\ud" in source
            or "\\uD" in source
            or (not source.isascii() and SURROGATE.search(source))
            or max(map(len, source.split('"'))) > MAX_TEXT
        )

    def _constant(self, name: str) -> float:
        self._unusual = True
        return float(name)

    def _float(self, text: str) -> float:
        number = float(text)
        if not -MAX_NUMBER < number < MAX_NUMBER:
            self._unusual = True
        return number

    def _whole(self, digits: str) -> int | float:
        if len(digits) <= DIGITS:
            return int(digits)
        self._unusual = True
        # Python does not convert a number with thousands of digits.
        return int(digits) if len(digits) < 100 else float("inf")


def checked(measurement: object, module: str, is_plain: bool = False) -> dict[str, Any]:
    """Return ``measurement`` with its texts made valid, in place. Raises Malformed.

    ``module`` is a measuring module of this collection. For another module, only the common keys are validated.
    """
    if not isinstance(measurement, dict):
        raise Malformed("the measurement is not a mapping")
    try:
        _base()(measurement, 0, True)
        # If the service is not reachable, every part is null or absent.
        if "." not in module and (measurement["error"] is None or measurement["reachable"]):
            return of_module(module)(measurement, 0, is_plain)
        return _anything(measurement, 0, is_plain)
    except RecursionError as exc:
        raise Malformed("is nested too deep") from exc


def checked_error(error: object) -> dict[str, Any]:
    """Return the error of an area with its texts made valid. Raises Malformed."""
    if not isinstance(error, dict):
        raise Malformed("is not a mapping")
    return _mapping(ERROR)(error, 0, False)


def undeclared(measurement: dict[str, Any], module: str) -> list[str]:
    """Return the paths of undocumented keys, for tests that compare RETURN with real measurements."""
    found: set[str] = set()
    _undeclared(measurement, {**documented(module), **BASE}, "", found)
    return sorted(found)


def _undeclared(value: object, contains: Fields, path: str, found: set[str]) -> None:
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
    """Return the check of a measurement of a module of this collection."""
    return _mapping({**documented(module), **BASE})


@functools.cache
def of_part(module: str, name: str) -> Check:
    """Return the check of one mapping that a module of this collection returns."""
    return _mapping(documented(module)[name]["contains"])


@functools.cache
def _base() -> Check:
    return _mapping(BASE)


def documented(module: str) -> Fields:
    """Return the module's RETURN: name -> ``{type, elements, returned, contains}``; empty without such a module."""
    path = MODULES / (module + ".py")
    if not module.isidentifier() or not path.exists():
        return {}
    return _row_cache.parsed(path.read_text(encoding="utf-8"), _documented)


def _documented(source: str) -> Fields:
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "RETURN":
            return _kept(yaml.load(ast.literal_eval(node.value), Loader=Loader) or {})  # noqa: S506
    return {}


def _kept(fields: Fields) -> Fields:
    """Return of each field the keys that a check needs."""
    kept: Fields = {}
    for name, field in fields.items():
        kept[name] = {key: field[key] for key in ("type", "elements", "returned") if key in field}
        if field.get("contains"):
            kept[name]["contains"] = _kept(field["contains"])
    return kept


def _mapping(contains: Fields) -> Check:
    """Return the check of a mapping with these fields.

    Items of a list mostly have the same keys and types, so a valid combination of these is not compared again.
    """
    fields = {name: (TYPES[field.get("type", "raw")], _is_required(field)) for name, field in contains.items()}
    inner = {name: check for name, check in ((name, _inner(field)) for name, field in contains.items()) if check}
    valid: set[tuple[tuple[str, ...], tuple[type, ...]]] = set()

    def check(value: Any, depth: int, is_plain: bool) -> Any:
        form = (tuple(value), tuple(map(type, value.values())))
        if form not in valid:
            _compare(value, fields)
            if len(valid) < FORMS:
                valid.add(form)
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


def _compare(value: dict[str, Any], fields: dict[str, tuple[frozenset[type], bool]]) -> None:
    """Raise Malformed if a field is missing or has another type."""
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


def _rest(value: dict[str, Any], inner: Mapping[str, Check], depth: int, is_plain: bool) -> None:
    """Validate scalars and undocumented keys."""
    for key in [key for key in value if key not in inner]:
        try:
            found = _anything(value[key], depth + 1, is_plain)
        except Malformed as exc:
            raise _at(text(key), exc)
        if not is_plain and text(key) != key:
            del value[key]
            key = text(key)
        value[key] = found


def _inner(field: Mapping[str, Any]) -> Check | None:
    """Return the check of the content of a list or a mapping; none for a scalar."""
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


def _list(kinds: frozenset[type], inner: Check | None) -> Check:
    def check(value: Any, depth: int, is_plain: bool) -> Any:
        for kind in set(map(type, value)) - kinds:
            # Null is valid in a list of scalars, as an unknown value, and not in a list of mappings.
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


def _anything(value: Any, depth: int, is_plain: bool) -> Any:
    """Return a value without a documented shape, with its texts made valid, in place."""
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
    r"""Return text as valid Unicode: an invalid byte becomes ``\xf6``. Text that is too long is cut."""
    if len(value) > MAX_TEXT:
        value = value[: MAX_TEXT - 1] + "\u2026"
    return SURROGATE.sub(_visible, value)


def _visible(found: re.Match[str]) -> str:
    code = ord(found.group())
    # Python reads an invalid byte as U+DC80 to U+DCFF.
    return "\\x%02x" % (code - 0xDC00) if 0xDC80 <= code <= 0xDCFF else "\\u%04x" % code


def _is_required(field: Mapping[str, Any]) -> bool:
    # A module with several states documents the keys of a measurement as returned in that state.
    returned = field.get("returned") or ""
    return returned in ("always", "success") or "state=measured" in returned


def _names(kinds: frozenset[type]) -> str:
    return " or ".join(NAMES[kind] for kind in (bool, int, float, str, list, dict) if kind in kinds)


def _shown(value: object) -> str:
    return "null" if value is None else NAMES.get(type(value), type(value).__name__)
