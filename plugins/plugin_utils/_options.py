# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validates and converts option values by their argument_specs. Pure. Private to this collection.

Messages are written to reports: they name the option and the expected type, never the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from ansible_collections.tracktion.ops.plugins.plugin_utils import _survey_answers
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values

ABOVE_ZERO = re.compile(r"_(deadline|timeout|lock_seconds|sample_seconds)$")
PORT = re.compile(r"_port$")
BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "off", "0", "f", "n"), False),
}
NUMBERS = {"int": "a whole number", "float": "a number"}


class BadValue(ValueError):
    """An option has an invalid value. The message names the option."""


def is_private(option: Values) -> bool:
    """Return whether an option, or an option inside of it, is marked ``no_log``."""
    return bool(option.get("no_log")) or any(is_private(inner) for inner in (option.get("options") or {}).values())


def checked(name: str, value: Any, option: Values, least: float | None = None) -> Any:
    """Return ``value`` converted to the type of ``option``, an entry of argument_specs.

    ``least`` is the smallest number allowed; durations and ports have their own limits.
    Raises BadValue.
    """
    kind = option.get("type") or "str"
    if kind in NUMBERS:
        value = _number(name, value, kind, least)
    else:
        value = CONVERSIONS.get(kind, _unchanged)(name, value, option)
    choices = option.get("choices")
    if choices and any(each not in choices for each in (value if isinstance(value, list) else [value])):
        raise BadValue("%s: must be one of %s" % (name, ", ".join(str(choice) for choice in choices)))
    return value


def _number(name: str, value: Any, kind: str, least: float | None) -> float:
    words, allowed = _limits(name, least)
    number = _finite(value)
    if number is None or not allowed(number) or (kind == "int" and number != int(number)):
        raise BadValue("%s: must be %s%s" % (name, NUMBERS[kind], words))
    return int(number) if kind == "int" else number


def _finite(value: Any) -> float | None:
    """Return a value as a finite number; None for anything else, also for true and false."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        if isinstance(value, str):
            value = int(value) if value.strip().lstrip("+-").isdigit() else float(value)
        return value if math.isfinite(value) else None
    except (ValueError, OverflowError):
        return None


def _limits(name: str, least: float | None) -> tuple[str, Callable[[float], bool]]:
    """Return the limits of a number as text, and as a function that tests it."""
    if PORT.search(name):
        return " between 1 and 65535", lambda number: 1 <= number <= 65535
    if ABOVE_ZERO.search(name):
        return " of seconds above 0", lambda number: number > 0
    if least is None:
        return "", lambda _number: True
    return " of %g or more" % least, lambda number: number >= least


def _text(name: str, value: Any, _option: Values) -> str:
    if isinstance(value, (dict, list, tuple, set)):
        raise BadValue("%s: must be a text" % name)
    return value if isinstance(value, str) else str(value)


def _bool(name: str, value: Any, _option: Values) -> bool:
    if isinstance(value, bool):
        return value
    try:
        return BOOLEANS[str(value).strip().lower()]
    except KeyError:
        raise BadValue("%s: must be true or false" % name) from None


def _list(name: str, value: Any, option: Values) -> list[Any]:
    if isinstance(value, dict):
        raise BadValue("%s: must be a list" % name)
    try:
        items = _survey_answers.listed(value)
    except ValueError:
        raise BadValue("%s: must be a list, or text separated by commas or newlines" % name) from None
    if not option.get("elements"):
        return items
    inner = {"type": option["elements"], "options": option.get("options")}
    return [checked("%s[%d]" % (name, index), item, inner) for index, item in enumerate(items)]


def _dict(name: str, value: Any, option: Values) -> Values:
    if isinstance(value, str):
        try:
            value = _survey_answers.structured(value.strip())
        except ValueError:
            value = None
    if not isinstance(value, dict):
        raise BadValue("%s: must be a mapping" % name)
    inner = option.get("options") or {}
    for key, each in inner.items():
        if each.get("required") and value.get(key) is None:
            raise BadValue("%s.%s: is required" % (name, key))
    return {
        key: checked("%s.%s" % (name, key), each, inner[key]) if key in inner and each is not None else each
        for key, each in value.items()
    }


def _unchanged(_name: str, value: Any, _option: Values) -> Any:
    return value


# A path belongs to the managed host, so ~ and $HOME are not replaced here.
CONVERSIONS: dict[str, Callable[[str, Any, Values], Any]] = {
    "str": _text,
    "path": _text,
    "bool": _bool,
    "list": _list,
    "dict": _dict,
}
