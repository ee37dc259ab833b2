# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import unicodedata

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote, sql_identifier, sql_literal

HOSTILE = (
    "",
    "plain",
    "two words",
    "a  b",
    " a ",
    "x'; touch pwned; '",
    '"; drop table t; --',
    "$(reboot) `reboot` ${HOME} !x",
    "-rf",
    "line\nfeed\r\ttab",
    "\x1b[31mred\x1b[0m",
    "\u202eright to left",
    "\x9b31m\x85",
    "back\\slash\\x41\\'",
    "caf\u00e9 \U0001f3b5",
    "\u00a0\u2028\ufeff",
)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_shell_reads_back_what_was_quoted(text, locale):
    printed = subprocess.run(
        ["bash", "-c", "printf %s " + shell_quote(text)],
        capture_output=True,
        check=True,
        env={"LC_ALL": locale, "PATH": "/usr/bin:/bin"},
    )
    assert printed.stdout.decode() == text


def test_a_shell_reads_back_a_file_name_that_is_not_utf_8():
    name = b"Mot\xf6.log".decode("utf-8", "surrogateescape")
    printed = subprocess.run(["bash", "-c", "printf %s " + shell_quote(name)], capture_output=True, check=True)
    assert printed.stdout == b"Mot\xf6.log"


@pytest.mark.parametrize("quote", [shell_quote, sql_identifier, sql_literal])
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_quoted_values_are_inert_in_a_report(quote, text):
    quoted = quote(text)
    assert not [char for char in quoted if unicodedata.category(char)[0] in "CZ" and char != " "]
    assert "`" not in quoted
    assert " ".join(quoted.split()) == quoted


def test_sql_is_readable_where_possible():
    assert sql_identifier("artists") == '"artists"'
    assert sql_identifier('a"b') == '"a""b"'
    assert sql_identifier("a`b\n") == 'U&"a\\0060b\\000a"'
    assert sql_literal("x'; drop table t; --") == "'x''; drop table t; --'"
    assert sql_literal("a\\b'") == "E'a\\\\b'''"
    assert sql_literal("a\nb") == "E'a\\u000ab'"


def test_numbers_need_no_quotes_in_a_shell():
    assert shell_quote(15) == "15"
