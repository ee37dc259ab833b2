# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts of compose files with variables, and what is certain about their values. Private to this collection.

The shell that ran compose overrides defaults of the file, ``.env`` and environment files, and is not known later. So a
text with a variable has no certain value; only its fixed parts are certain.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, Mapping, NamedTuple, Sequence, Union

NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
OPERATORS = (":-", ":?", ":+", "-", "?", "+")
Environment = Mapping[str, str]


class Variable(NamedTuple):
    """A variable with its operator, and the pieces of what follows the operator. The name is empty if malformed."""

    name: str
    operator: str = ""
    argument: Sequence[Any] = ()


Piece = Union[str, Variable]
MALFORMED = Variable("")


def pieces(text: str) -> list[Piece]:
    """Return the fixed parts and the variables of a text: ``$X``, ``${X}``, ``${X:-default}``, nested, ``$$``."""
    found: list[Piece] = []
    position = 0
    while position < len(text):
        dollar = text.find("$", position)
        if dollar < 0:
            found.append(text[position:])
            break
        found.append(text[position:dollar])
        following = text[dollar + 1 : dollar + 2]
        name = NAME.match(text, dollar + 1)
        if following == "$":
            found.append("$")
            position = dollar + 2
        elif name:
            found.append(Variable(name.group()))
            position = name.end()
        elif following == "{":
            end = closing_brace(text, dollar + 1)
            found.append(braced(text[dollar + 2 : end]) if end >= 0 else MALFORMED)
            position = end + 1 if end >= 0 else len(text)
        else:
            found.append(MALFORMED)
            position = dollar + 1
    return [piece for piece in found if piece != ""]


def closing_brace(text: str, start: int) -> int:
    """Return the position of the brace that closes the one at ``start``; -1 without one."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if not depth:
            return position
    return -1


def braced(inner: str) -> Variable:
    """Return the variable of the text between braces."""
    name = NAME.match(inner)
    if not name:
        return MALFORMED
    rest = inner[name.end() :]
    operator = next((each for each in OPERATORS if rest.startswith(each)), "")
    if rest and not operator:
        return MALFORMED
    return Variable(name.group(), operator, tuple(pieces(rest[len(operator) :])))


def names(text: str) -> set[str]:
    """Return the names of the variables in a text, also those in defaults."""
    return set(_names(pieces(text)))


def _names(parts: Sequence[Piece]) -> Iterator[str]:
    for piece in parts:
        if isinstance(piece, Variable):
            yield piece.name
            yield from _names(piece.argument)


def certain(text: str) -> str | None:
    """Return the value of a text without variables; null for any other."""
    parts = pieces(text)
    return None if any(isinstance(piece, Variable) for piece in parts) else "".join(map(str, parts))


def fits(text: str, value: str) -> bool:
    """Return whether a text can have this value, whatever its variables are."""
    fixed = [""]
    for piece in pieces(text):
        if isinstance(piece, Variable):
            fixed.append("")
        else:
            fixed[-1] += piece
    if len(fixed) == 1:
        return value == fixed[0]
    first, *middle, last = fixed
    if not (value.startswith(first) and value.endswith(last)) or len(value) < len(first) + len(last):
        return False
    position, end = len(first), len(value) - len(last)
    for part in middle:
        position = value.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def filled(text: str, environment: Environment) -> str | None:
    """Return the value that compose makes of a text in this environment; null if it would fail."""
    return _filled(pieces(text), environment)


def _filled(parts: Sequence[Piece], environment: Environment) -> str | None:
    found = []
    for piece in parts:
        value = _value(piece, environment) if isinstance(piece, Variable) else piece
        if value is None:
            return None
        found.append(value)
    return "".join(found)


def _value(variable: Variable, environment: Environment) -> str | None:
    if not variable.name:
        return None
    known = environment.get(variable.name)
    # With a colon, an empty variable counts as one that is not set.
    is_set = bool(known) if variable.operator.startswith(":") else known is not None
    if variable.operator.endswith("+"):
        return _filled(variable.argument, environment) if is_set else ""
    if is_set or not variable.operator:
        return known or ""
    return _filled(variable.argument, environment) if variable.operator.endswith("-") else None


def split(text: str, separator: str) -> list[str]:
    """Return the parts of a text between separators, which do not count inside braces and brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(letter, 0)
        if letter == separator and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
