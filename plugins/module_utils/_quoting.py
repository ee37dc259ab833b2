# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Quotes values from hosts, so that a printed command is safe to paste. Private to this collection.

The results contain no control characters, no backticks and no runs of spaces: a terminal shows them unchanged, a
report that folds white space does not change them, and a backtick always ends a command.
"""

from __future__ import annotations

import shlex
import unicodedata
from typing import Callable


def shell_quote(value: object) -> str:
    """Return ``value`` as one word of a shell, as Bash's ``$'...'`` if it has special characters."""
    text = str(value)
    if not _specials(text):
        return shlex.quote(text)
    return "$'%s'" % _escaped(text.replace("\\", "\\\\").replace("'", "\\'"), _shell_escape)


def sql_identifier(value: object) -> str:
    """Return ``value`` as one name in PostgreSQL's SQL, always quoted."""
    text = str(value).replace('"', '""')
    if not _specials(text):
        return '"%s"' % text
    return 'U&"%s"' % _escaped(text.replace("\\", "\\\\"), _identifier_escape)


def sql_literal(value: object) -> str:
    """Return ``value`` as a string constant in PostgreSQL's SQL, whatever ``standard_conforming_strings`` is."""
    text = str(value).replace("'", "''")
    if not _specials(text) and "\\" not in text:
        return "'%s'" % text
    return "E'%s'" % _escaped(text.replace("\\", "\\\\"), _literal_escape)


def _specials(text: str) -> set[int]:
    """Return the positions of characters that a terminal interprets or hides, or that a report folds or parses."""
    return {
        index
        for index, character in enumerate(text)
        # Control and format characters, surrogates, private and unassigned ones; separators of lines and paragraphs.
        if character == "`"
        or (character != " " and unicodedata.category(character)[0] in "CZ")
        or (character == " " and (index in (0, len(text) - 1) or text[index - 1] == " "))
    }


def _escaped(text: str, escape: Callable[[int], str]) -> str:
    specials = _specials(text)
    return "".join(escape(ord(char)) if index in specials else char for index, char in enumerate(text))


def _shell_escape(code: int) -> str:
    # A byte that is not UTF-8, as Python's surrogateescape represents it.
    if 0xDC80 <= code <= 0xDCFF:
        return "\\x%02x" % (code - 0xDC00)
    # As bytes: Bash leaves ``\u202e`` as it is in a locale without that character.
    return "".join("\\x%02x" % byte for byte in chr(code).encode("utf-8", "surrogatepass"))


def _literal_escape(code: int) -> str:
    return "\\u%04x" % code if code < 0x10000 else "\\U%08x" % code


def _identifier_escape(code: int) -> str:
    return "\\%04x" % code if code < 0x10000 else "\\+%06x" % code
