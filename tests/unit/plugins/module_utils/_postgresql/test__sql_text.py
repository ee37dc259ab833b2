# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._postgresql import _sql_text

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        # Strings, in all notations of PostgreSQL.
        ("select 'hunter2'", "select ?"),
        ("select 'o''hunter2' as a", "select ? as a"),
        (r"select E'a\'hunter2' as a", "select ? as a"),
        (r"select e'\\' , 'hunter2'", "select ? , ?"),
        ("select $$hunter2$$ as a", "select ? as a"),
        ("select $t$ $$hunter2$$ $u$ $t$ as a", "select ? as a"),
        ("select U&'d!0061hunter2' uescape '!'", "select ? uescape ?"),
        ("select B'0101', x'1f', n'hunter2'", "select ?, ?, ?"),
        ("select 'a'\n  'hunter2' as b", "select ?\n  ? as b"),
        ("select E'a'\n 'b\\'hunter2' as b", "select ?\n ?"),
        # Numbers, and names with digits.
        ("select 4111111111111111, 1.5e-3, .5, 0x1F, 1_000, -7", "select ?, ?, ?, ?, ?, -?"),
        ("select $1, col1, a1.b2, t$2 from x9 limit 10", "select $1, col1, a1.b2, t$2 from x9 limit ?"),
        ("select a[1:2], 1::int, 12ab34", "select a[?:?], ?::int, ?"),
        # Names are kept.
        ('select "hunter", U&"d" from "a\'b" where "c""d" = 1', 'select "hunter", U&"d" from "a\'b" where "c""d" = ?'),
        # Comments.
        ("select /* hunter2 /* nested */ hunter2 */ a -- hunter2\nfrom b", "select   a  \nfrom b"),
        ("/* no-alert hunter2 */ select a", "select a"),
        ("select a --hunter2", "select a"),
        ("select 'it''s -- no comment' /* 'hunter2 */ , b", "select ?   , b"),
        # Statements that the server has cut off.
        ("select 'hunter2", "select ?"),
        (r"select E'hunter2\ "[:-1], "select ?"),
        ("select $t$hunter2", "select ?"),
        ("select $t$hunter2$t", "select ?"),
        ("select a, $hun", "select a, ?"),
        ("select a /* hunter2", "select a"),
        ("select a /* /* b */ hunter2", "select a"),
        ('select "cut', 'select "cut'),
        # Whole programs.
        ("do $$ begin perform login('hunter2'); end $$", "do ?"),
        ("do language plpgsql 'begin null; end'", "do language plpgsql ?"),
        ("create function f() returns int as $f$ select 'hunter2' $f$ language sql",
         "create function f() returns int as ? language sql"),
        # Statements that pg_stat_statements does not normalize.
        ("alter role a password 'hunter2' valid until 'infinity'", "alter role a password ? valid until ?"),
        ('ALTER ROLE a PASSWORD "hunter2" LOGIN', "ALTER ROLE a PASSWORD ? LOGIN"),
        ("create user a encrypted password hunter2 login", "create user a encrypted password ? login"),
        ("alter role a password null", "alter role a password null"),
        ("create user a identified by hunter2", "create user a identified ?"),
        ("set app.key = hunter2, hunter2; select a", "set app.key = ?; select a"),
        ("SET LOCAL app.key TO \"hunter2\"", "SET LOCAL app.key TO ?"),
        ('alter role "a;b" in database c set app.key = hunter2', 'alter role "a;b" in database c set app.key = ?'),
        ("alter system set app.key to hunter2", "alter system set app.key to ?"),
        ("create function f() returns int set app.key = hunter2 as 'x'",
         "create function f() returns int set app.key = ?"),
        ("update t set a = b, c = 'hunter2'", "update t set a = b, c = ?"),
        ("alter table t alter c set default 5", "alter table t alter c set default ?"),
        ("create table t (password text, a int)", "create table t (password text, a int)"),
        ("alter subscription s connection 'host=h password=hunter2'", "alter subscription s connection ?"),
        ("create user mapping for a server s options (user 'a', password 'hunter2')",
         "create user mapping for a server s options (user ?, password ?)"),
        ("copy t from program 'curl -u a:hunter2 h' with (format csv)", "copy t from program ? with (format csv)"),
        ("begin; set a = hunter2; commit", "begin; set a = ?; commit"),
        # Whether a backslash escapes a quote depends on a setting that cannot be read.
        (r"select 'a\' , 'hunter2', b", "select ?"),
        (r"select 'a\'hunter2' , b", "select ?"),
        (r"select 'a\\' , b", "select ? , b"),
        (r"select a ~ '\d' , 'hunter2'", "select a ~ ? , ?"),
        ("", ""),
        ("autovacuum: VACUUM public.t (to prevent wraparound)", "autovacuum: VACUUM public.t (to prevent wraparound)"),
    ],
)  # fmt: skip
def test_constants_and_comments_are_hidden(text, normalised):
    shown = _sql_text.without_literals(text)
    assert shown == normalised
    assert SECRET not in shown


@pytest.mark.parametrize(
    "text",
    [
        "select 'hunter2', $t$hunter2$t$, E'\\'hunter2' /* 'hunter2' /* */ */ -- 'hunter2'\n; set a.b = hunter2",
        "alter role a password 'hunter2'; select '\\', 'hunter2', \"b\" , '\\'",
        "insert into t values ('a\\', 'hunter2', E'hunter2\\'hunter2', $$hunter2$$) /* hunter2 */",
    ],
)
def test_a_text_cut_at_any_position_shows_no_part_of_a_secret(text):
    for end in range(len(text)):
        assert "hunter" not in _sql_text.without_literals(text[:end]), text[:end]


def test_a_statement_is_cut_after_its_constants_are_hidden():
    assert _sql_text.shown("select '%s' from tracks" % ("x" * 500), 20, False) == "select ? from tracks"
    assert _sql_text.shown("select 'abc' from tracks", 8, False) == "select ?"
    assert _sql_text.shown("select 'abc' from tracks", 0, False) == ""
    assert _sql_text.shown(None, 20, False) is None


def test_an_option_shows_constants_but_no_password():
    text = "alter role a password 'hunter2' valid until 'infinity'"
    assert _sql_text.shown(text, 300, True) == "alter role a password '***' valid until 'infinity'"


@pytest.mark.parametrize(
    "piece", ["'", "''", "\\'", "$", "$a$", "/*", "*/", "--", '"', "e'", "1e+", "set a=", ";", "(a\\"]
)
def test_no_text_takes_long(piece):
    started = time.process_time()
    _sql_text.without_literals((piece * _sql_text.FETCHED)[: _sql_text.FETCHED])
    assert time.process_time() - started < 1
