# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parses values as people type them into surveys and extra variables. Pure. Private to this collection."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

SEPARATORS = re.compile(r"[,\r\n]")
PARSERS: tuple[Callable[[str], Any], ...] = (json.loads, ast.literal_eval)


def is_empty(value: Any) -> bool:
    """Return whether a value is text without a visible character: an optional question that was left empty."""
    return isinstance(value, str) and not value.strip()


def listed(value: Any) -> list[Any]:
    """Return a value as a list: from a list, from text as JSON or Python, or from text with commas and newlines.

    Raises ValueError for text that starts like a list and is none.
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
    """Return the value of a text that is JSON, or Python (``-e "areas=['a', 'b']"``). Raises ValueError."""
    for parse in PARSERS:
        try:
            return parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    raise ValueError("neither JSON nor a Python literal")
