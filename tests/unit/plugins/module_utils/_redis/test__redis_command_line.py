# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_names as names
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_command_line import command_line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([b"GET", b"track:1"], "GET track:1"),
        ([b"set", b"track:1", b"hunter2", b"EX", b"10"], "set track:1 (3 more arguments, 11 bytes)"),
        ([b"HSET", b"user:1", b"password", b"hunter2"], "HSET user:1 (2 more arguments, 15 bytes)"),
        ([b"MSET", b"a", b"hunter2", b"b", b"hunter3"], "MSET a b (2 more arguments, 14 bytes)"),
        ([b"MGET", b"a", b"b", b"c", b"d"], "MGET a b c (1 more argument, 1 bytes)"),
        ([b"BLPOP", b"a", b"b", b"0"], "BLPOP a b (1 more argument, 1 bytes)"),
        ([b"ZUNIONSTORE", b"to", b"2", b"a", b"b"], "ZUNIONSTORE to a b (1 more argument, 1 bytes)"),
        ([b"EVAL", b"return 'hunter2'", b"1", b"key", b"hunter3"], "EVAL (4 arguments, 27 bytes)"),
        ([b"EVALSHA", b"a" * 40, b"0", b"hunter2"], "EVALSHA (3 arguments, 48 bytes)"),
        ([b"FCALL", b"work", b"1", b"key", b"hunter2"], "FCALL (4 arguments, 15 bytes)"),
        ([b"AUTH", b"hunter2"], "AUTH (1 argument, 7 bytes)"),
        ([b"HELLO", b"3", b"AUTH", b"someone", b"hunter2"], "HELLO (4 arguments, 19 bytes)"),
        ([b"CONFIG", b"SET", b"requirepass", b"hunter2"], "CONFIG SET (2 arguments, 18 bytes)"),
        ([b"ACL", b"SETUSER", b"someone", b">hunter2"], "ACL SETUSER (2 arguments, 15 bytes)"),
        ([b"MIGRATE", b"host", b"1", b"key", b"0", b"9", b"AUTH", b"hunter2"], "MIGRATE (7 arguments, 21 bytes)"),
        ([b"PUBLISH", b"channel", b"hunter2"], "PUBLISH (2 arguments, 14 bytes)"),
        ([b"JSON.SET", b"key", b"$", b"hunter2"], "JSON.SET (3 arguments, 11 bytes)"),
        ([b"MEMORY", b"USAGE", b"key"], "MEMORY USAGE key"),
        ([b"CLIENT", b"hunter2!"], "CLIENT (1 argument, 8 bytes)"),
        ([b"KEYS", b"*"], "KEYS *"),
        ([b"GET", b"reset:password:hunter2"], "GET reset:password:***"),
        ([b"GET", b"user:alice@example.org"], "GET user:***@***"),
        ([b"GET", b"a\x1b[2J\n"], "GET a\\x1b[2J\\n"),
        ([b"SET", b"k", b"x" * 128 + b"... (872 more bytes)"], "SET k (1 more argument, 1000 bytes)"),
        ([b"DEL", b"a", b"b", b"... (70 more arguments)"], "DEL a b (70 more arguments, 0 bytes)"),
        ([], ""),
    ],
)
def test_a_command_shows_its_keys_and_no_values(words, line):
    assert command_line(words, True) == line
    assert "hunter" not in command_line(words, True) + command_line(words, False)


def test_a_command_with_hidden_names_shows_no_argument():
    assert command_line([b"MSET", b"alice", b"1", b"bob", b"2"], False) == "MSET (4 arguments)"
    assert command_line([b"del", b"a", b"... (70 more arguments)"], False) == "DEL (71 arguments)"


@pytest.mark.parametrize(
    ("name", "plain", "written"),
    [
        (b"queue:backlog", True, None),
        ("Mot\u00f6rhead 1; rm -rf /".encode(), True, None),
        (b"it's `x` $(x)", True, None),
        (b"a\x00b", False, "a\\000b"),
        (b"Mot\xf6", False, "Mot\\366"),
        (b"a\\b%s", False, "a\\134b\\045s"),
        (b"\x1b]0;x\x07", False, "\\033\\1350\\073x\\007"),
        (b"user:alice@example.org", False, None),
        (b"x" * 300, False, None),
    ],
)
def test_a_name_is_shown_unchanged_or_printed_byte_by_byte(name, plain, written):
    assert names.is_plain(name) is plain
    assert names.printf_format(name, True) == written
    assert names.printf_format(name, False) is None
