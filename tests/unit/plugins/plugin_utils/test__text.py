# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils import _text

COMMAND = "`psql -c 'SELECT  pg_cancel_backend(1), pg_terminate_backend(2)  FROM  x'`"


def test_words_are_wrapped_and_commands_are_not():
    lines = _text.wrap("Cancel its query: %s, or wait for it." % COMMAND, 30, "  do ", "     ")
    assert lines == ["  do Cancel its query:", "     %s," % COMMAND, "     or wait for it."]


@pytest.mark.parametrize("width", range(1, 120, 7))
@pytest.mark.parametrize("text", ["%s and %s" % (COMMAND, COMMAND), "(%s)" % COMMAND, "a %s b `c d` e" % COMMAND])
def test_a_command_is_whole_at_any_width(text, width):
    lines = _text.wrap(text, width)
    assert sum(line.count(COMMAND) for line in lines) == text.count(COMMAND)


def test_text_with_unpaired_backticks_is_not_wrapped():
    assert len(_text.wrap("a name ` of a host: %s" % COMMAND, 20)) == 1


def test_empty_text_has_no_lines():
    assert _text.wrap("", 80, "      do ") == []


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("東京", 4), ("e\u0301", 1), ("\uff21b", 3), ("", 0)])
def test_wide_and_combining_characters_are_counted_as_they_are_shown(text, columns):
    assert _text.columns(text) == columns
    assert _text.columns(_text.pad(text, 10)) == 10


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("東京都", 5, "東京…"),
        ("run `a b c` now", 9, "run…"),
        ("run `a b c` now", 13, "run `a b c`…"),
    ],
)
def test_text_is_cut_between_characters_and_never_in_a_command(text, width, shown):
    assert _text.cut(text, width) == shown


@pytest.mark.parametrize(("number", "text"), [(1, "a"), (3, "a, b, c"), (4, "a, b, c, d"), (5, "a, b, c and 2 more")])
def test_a_few_names_are_listed(number, text):
    assert _text.few(list("abcde")[:number]) == text
