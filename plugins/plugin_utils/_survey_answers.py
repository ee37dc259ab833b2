# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values as people and surveys type them. Pure. Private to this collection."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

SEPARATORS = re.compile(r"[,\r\n]")


def is_empty(value: Any) -> bool:
    """Whether a value is the answer to an optional question that was left empty: text without a visible character."""
    return isinstance(value, str) and not value.strip()


def listed(value: Any) -> list:
    """A list: as it is, written as JSON or as Python, or as text separated by commas and newlines.

    Raises ValueError for a text that starts like a list and is none.
    """
    if isinstance(value, (list, tuple)):
        return list(value)
    if not isinstance(value, str):
        return [value]
    text = value.strip()
    if text.startswith("["):
        found = structured(text)
        if not isinstance(found, list):
            raise ValueError("not a list")
        return found
    return [part for part in (part.strip() for part in SEPARATORS.split(text)) if part]


def structured(text: str) -> Any:
    """The value that a text holds as JSON, or as Python prints it (``-e "areas=['a', 'b']"``). Raises ValueError."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    raise ValueError("neither JSON nor a Python literal")
