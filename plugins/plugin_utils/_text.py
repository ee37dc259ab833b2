# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lays out clean text in lines: width, wrapping, cutting, padding. Pure. Private to this collection.

All printed text goes through ``clean`` or ``cleaned`` before it is laid out and coloured.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

from ansible_collections.tracktion.ops.plugins.module_utils import _clean
from ansible_collections.tracktion.ops.plugins.module_utils._clean import COMMAND, clean, clean_lines

__all__ = ("clean", "clean_lines", "cleaned", "columns", "cut", "few", "pad", "wrap")

# Columns of a line of a terminal.
WIDTH = 100
# A word of a text. A command between backticks is part of one word, with its spaces.
WORD = re.compile(r"( *)((?:[^ `]|`[^`]*`)+)")
# Names listed before the rest is counted.
NAMED = 3

T = TypeVar("T")
# Colours a text by a status.
Paint = Callable[[str, str], str]


def cleaned(value: T) -> T:
    """Return data with all of its texts cleaned."""
    return cast("T", _clean.cleaned(value))


def columns(text: str) -> int:
    """Return how many columns a terminal needs for clean text."""
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, width: int) -> str:
    """Return clean text, filled with spaces to ``width`` columns."""
    return text + " " * (width - columns(text))


def wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Return the lines of clean text; the first one begins with ``first``, the others with ``rest``.

    A command between backticks is never broken. If the backticks do not pair, commands cannot be recognised, and the
    text stays in one line.
    """
    lines: list[str] = []
    line, empty = first, True
    for space, word in _words(text):
        if not empty and columns(line) + len(space) + columns(word) > width:
            lines.append(line)
            line, empty = rest, True
        line += word if empty else space + word
        empty = False
    return lines if empty else [*lines, line]


def _words(text: str) -> Iterator[tuple[str, str]]:
    """Yield the words of a text, each with the spaces before it."""
    if text.count("`") % 2:
        yield "", text
        return
    for match in WORD.finditer(text):
        yield match.group(1), match.group(2)


def cut(text: str, width: int) -> str:
    """Return clean text of at most ``width`` columns. A command that does not fit is removed as a whole."""
    if columns(text) <= width:
        return text
    kept, used = [], 0
    for part in COMMAND.split(text):
        if used + columns(part) < width:
            kept.append(part)
            used += columns(part)
            continue
        for character in part if not COMMAND.fullmatch(part) else "":
            used += _columns_of(character)
            if used >= width:
                break
            kept.append(character)
        break
    return "".join(kept).rstrip() + "\u2026"


def few(names: list[str], most: int = NAMED) -> str:
    """Return the first ``most`` names, and how many more there are."""
    if len(names) <= most + 1:
        return ", ".join(names)
    return "%s and %d more" % (", ".join(names[:most]), len(names) - most)
