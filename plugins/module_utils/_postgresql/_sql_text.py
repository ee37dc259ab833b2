# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replaces the constants in the text of SQL statements, which may be secrets. Private to this collection.

How PostgreSQL parses a backslash in a plain string depends on ``standard_conforming_strings`` of the session, which
other sessions cannot read. A text with backslashes is parsed both ways, and whatever is a constant in one of them is
replaced.
"""

from __future__ import annotations

import re
from typing import cast

from ansible_collections.tracktion.ops.plugins.module_utils._redact import hide_passwords

# Characters of a statement that are fetched. It is cut to its final length after its constants are replaced.
FETCHED = 10000

CONSTANT = "?"

# Kinds of positions of the text. A comment is dropped, a constant (HIDDEN) is replaced.
VISIBLE, COMMENT, HIDDEN = range(3)

# Tried in this order. A text may be cut off anywhere, so the end of the text ends every token.
TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n\f\v]+)
    | (?P<line_comment>--[^\r\n]*)
    | (?P<block_comment>/\*)
    | (?P<parameter>\$[0-9]+)
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?(?:\$|\Z))
    | (?P<escaped>[eE]'(?:[^'\\]|''|\\.)*(?:'|\\?\Z))
    | (?P<string>(?:[bBnNxX]|[uU]&)?')
    | (?P<name>(?:[uU]&)?"(?:[^"]|"")*(?:"|\Z))
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    | (?P<number>(?:[0-9]|\.[0-9])(?:[eE][+-](?=[0-9])|[\w.$])*)
    | (?P<other>.)
    """,
    re.X | re.S,
)
PLAIN = re.compile(r"(?:[^']|'')*(?:'|\Z)", re.S)
WITH_BACKSLASHES = re.compile(r"(?:[^'\\]|''|\\.)*(?:'|\\?\Z)", re.S)
COMMENT_LIMIT = re.compile(r"/\*|\*/")


def shown(text: str | None, length: int, show_literals: bool) -> str | None:
    """Return what a report may show of a statement: at most ``length`` characters, without constants and comments.

    With ``show_literals`` only passwords are hidden.
    """
    if text is None:
        return None
    return (hide_passwords(text) if show_literals else without_literals(text))[:length]


def without_literals(text: str) -> str:
    """Return ``text``, one or more statements in SQL, with ``?`` for each constant and a space for each comment."""
    marks = _marks(text, PLAIN)
    if "\\" in text:
        marks = [max(pair) for pair in zip(marks, _marks(text, WITH_BACKSLASHES))]
    parts: list[str] = []
    before = VISIBLE
    for char, mark in zip(text, marks):
        if mark == VISIBLE:
            parts.append(char)
        elif mark != before:
            parts.append(CONSTANT if mark == HIDDEN else " ")
        before = mark
    return "".join(parts).strip()


def _marks(text: str, string_end: re.Pattern[str]) -> list[int]:
    """Return the kind of each position of ``text``. ``string_end`` matches the rest of a plain string."""
    marks: list[int] = []
    statement, position = _Statement(), 0
    while position < len(text):
        token = _match(TOKEN, text, position)
        kind, end = str(token.lastgroup), token.end()
        if kind == "string":
            end = _match(string_end, text, end).end()
        elif kind == "dollar":
            end = _end_of(text, token.group(), end)
        elif kind == "block_comment":
            end = _end_of_comment(text, end)
        if kind.endswith("comment"):
            mark = COMMENT
        elif kind in ("string", "escaped", "dollar", "number"):
            mark = HIDDEN
        else:
            mark = VISIBLE
        if statement.hides(kind, token.group()):
            mark = HIDDEN
        marks += [mark] * (end - position)
        position = end
    return marks


def _match(pattern: re.Pattern[str], text: str, position: int) -> re.Match[str]:
    """Return the match at ``position`` of a pattern that matches any text."""
    return cast("re.Match[str]", pattern.match(text, position))


def _end_of(text: str, delimiter: str, start: int) -> int:
    found = text.find(delimiter, start)
    return len(text) if found < 0 else found + len(delimiter)


def _end_of_comment(text: str, start: int) -> int:
    """Return the end of the comment that begins before ``start``. Comments nest."""
    depth = 1
    for limit in COMMENT_LIMIT.finditer(text, start):
        depth += 1 if limit.group() == "/*" else -1
        if depth == 0:
            return limit.end()
    return len(text)


class _Statement:
    """Finds values that are written like names: ``SET app.key = secret``, ``PASSWORD "secret"``."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self.words: list[str] = []
        # Whether the name of a setting is being read, and whether its value follows.
        self.setting = self.value = False

    def hides(self, kind: str, text: str) -> bool:
        """Return whether the next token belongs to such a value."""
        if kind == "space" or kind.endswith("comment"):
            return self.value and self.words[-1] == CONSTANT
        if text == ";":
            self._restart()
            return False
        word = text.upper() if kind == "word" else None
        if self.value or self._is_password(kind, word):
            self.words.append(CONSTANT)
            return True
        if self.setting and (text == "=" or word == "TO"):
            self.value = True
        elif word == "SET":
            self.setting = not self.words or self.words[0] in ("ALTER", "CREATE")
        elif kind not in ("word", "name") and text != ".":
            self.setting = False
        if word == "IDENTIFIED":
            self.value = True
        self.words.append(word or text)
        return False

    def _is_password(self, kind: str, word: str | None) -> bool:
        return (
            kind in ("word", "name")
            and word != "NULL"
            and self.words[-1:] == ["PASSWORD"]
            and self.words[0] in ("ALTER", "CREATE")
            and self.words[1] in ("GROUP", "ROLE", "USER")
        )
