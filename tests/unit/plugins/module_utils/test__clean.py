# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import re

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._clean import clean, clean_command, clean_lines, cleaned
from tests.unit.plugins.hostile import CHARACTERS, unsafe

ESCAPE = re.compile(r"(\\+)(?:(x[0-9a-f]{2})|(u[0-9a-f]{4})|(U[0-9a-f]{8}))")


def original(text):
    """Undo ``clean``, for text without tabs and line breaks."""

    def one(match):
        slashes = len(match.group(1))
        code = match.group(2) or match.group(3) or match.group(4)
        kept = "\\" * (slashes // 2)
        return kept + (chr(int(code[1:], 16)) if slashes % 2 else code)

    return ESCAPE.sub(one, text)


@pytest.mark.parametrize(
    "text", ["plain", "Käse, 東京, Ελλάδα", "a\\b", "C:\\new\\temp", "😀", "e\u0301", "half a`tick"]
)
def test_harmless_text_is_unchanged(text):
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("a\u202eb\u2066\u061c", r"a\u202eb\u2066\u061c"),
        ("zero\u200bwidth\ufeff\u00ad", r"zero\u200bwidth\ufeff\xad"),
        ("\U000e0041tag", r"\U000e0041tag"),
        ("lone\udc80", r"lone\udc80"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("blank\u3164\u2800", r"blank\u3164\u2800"),
        ("one \t\r\n line", "one line"),
        ("z" + "\u0301" * 6, "z" + "\u0301" * 4 + r"\u0301\u0301"),
        ("\u0301x", r"\u0301x"),
        (7, "7"),
    ],
)
def test_characters_that_a_terminal_interprets_or_hides_are_escaped(text, shown):
    assert clean(text) == shown


def test_no_unsafe_character_is_left():
    text = clean("x".join(CHARACTERS))
    assert not unsafe(text)
    assert not unsafe(clean_command("x".join(CHARACTERS)))


def test_escapes_differ_from_text_that_looks_like_them():
    for parts in itertools.product(("\\", "\\x1b", "\x1b", "x1b", "\\u202e", "\u202e", "a"), repeat=4):
        text = "".join(parts)
        assert original(clean(text)) == text
    assert clean("\\x1b") == "\\\\x1b"


def test_commands_keep_backslashes_and_spaces():
    assert clean("Run `tail  $'\\x1b'` of \\x1b") == "Run `tail  $'\\x1b'` of \\\\x1b"
    assert clean("Run `tail \x1b\n`") == "Run `tail \\x1b\\x0a`"


def test_clean_lines_keeps_line_breaks():
    assert clean_lines("a\r\n\tb\rc\x1b\n") == "a\n b c\\x1b\n"


def test_all_text_in_plain_data_is_cleaned():
    data = {"k\x1b": ["a\n", {"command": "x\\x1b\n", "undo": None}], "n": 1.5, "b": True}
    assert cleaned(data) == {"k\\x1b": ["a ", {"command": "x\\x1b\\x0a", "undo": None}], "n": 1.5, "b": True}
