# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Escapes characters that a terminal interprets or hides. Pure. Private to this collection."""

from __future__ import annotations

import re
import unicodedata

# A command that a person may paste is between backticks, and contains none.
COMMAND = re.compile(r"(`[^`]+`)")
WHITE_SPACE = re.compile(r"[ \t\n\v\f\r]*[\t\n\v\f\r][ \t\n\v\f\r]*")
# After a backslash, these look like an escape of ``clean``.
ESCAPE_LIKE = re.compile(r"x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}")
# Letters, marks and symbols that are invisible: Unicode's Default_Ignorable_Code_Point, and the blank Braille pattern.
INVISIBLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800), (0x3164, 0x3164),
        (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)  # fmt: skip
# Most combining marks on one character; Vietnamese, Hebrew and Thai need up to three.
MARKS = 4
# Fields of a report that hold a whole command line without backticks.
COMMAND_FIELDS = frozenset(("command", "undo"))


def clean(text: object) -> str:
    r"""Return ``text`` as one line that a terminal shows unchanged.

    Tabs and line breaks become a space. All other control and format characters, surrogates, private and unassigned
    code points, invisible characters and stacked combining marks become ``\x1b``, ``\u202e`` or ``\U000e0041``. A
    backslash that looks like the beginning of such an escape is doubled. Commands between backticks keep their white
    space and backslashes, because they may be pasted.
    """
    text = str(text)
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    parts = COMMAND.split(text)
    return "".join(_escaped(part) if index % 2 else _prose(part) for index, part in enumerate(parts))


def clean_command(text: object) -> str:
    """Return a command line with only the characters escaped that a terminal interprets or hides."""
    return _escaped(str(text))


def clean_lines(text: str) -> str:
    """Return clean text with its line breaks kept, such as a traceback or a difference."""
    return "\n".join(clean(line) for line in text.replace("\r\n", "\n").split("\n"))


def cleaned(value: object, field: str | None = None) -> object:
    """Return a copy of plain data with all text, keys included, cleaned. ``field`` is the key of the value."""
    if isinstance(value, str):
        return clean_command(value) if field in COMMAND_FIELDS else clean(value)
    if isinstance(value, dict):
        return {clean(key): cleaned(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(inner, field) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float)) else clean(value)


def _prose(text: str) -> str:
    text = WHITE_SPACE.sub(" ", text)
    if "\\" in text:
        text = re.sub(r"\\+", lambda match: _doubled(match, text), text)
    return _escaped(text)


def _doubled(match: re.Match, text: str) -> str:
    following = text[match.end() : match.end() + 1]
    ambiguous = ESCAPE_LIKE.match(text, match.end()) or (following and _is_unsafe(following))
    return match.group() * 2 if ambiguous else match.group()


def _escaped(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    out, marks = [], MARKS
    for character in text:
        # A mark at the beginning would change the character before the text, so it is escaped.
        marks = marks + 1 if unicodedata.combining(character) or unicodedata.category(character) == "Me" else 0
        out.append(_escape(character) if marks > MARKS or _is_unsafe(character) else character)
    return "".join(out)


def _is_unsafe(character: str) -> bool:
    if character in INVISIBLE:
        return True
    # The categories C and Z are not printable. Of these, wide and non-breaking spaces (Zs) are harmless.
    return not character.isprintable() and unicodedata.category(character) != "Zs"


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return "\\x%02x" % code
    return "\\u%04x" % code if code < 0x10000 else "\\U%08x" % code
