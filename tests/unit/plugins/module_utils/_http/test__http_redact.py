# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may be shown of addresses and answers."""

from __future__ import annotations

import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._http import _http_redact as redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=hunter2 for app", "password=*** for app"),
        ('{"db_password": "hun ter2", "a": 1}', '{"db_password": ***, "a": 1}'),
        ("{'api-key': 'hunter2'}", "{'api-key': ***}"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: ***"),
        ("got bearer hunter2hunter2 there", "got bearer *** there"),
        ("cannot connect to amqp://app:hunter2@mq:5672/", "cannot connect to amqp://***@mq:5672/"),
        ("jwt eyJhbGciOi.eyJzdWIi.c2ln end", "jwt *** end"),
        ("OperationalError: could not connect to server", "OperationalError: could not connect to server"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text, shown):
    assert redact.hide(text) == shown


def test_a_known_secret_is_hidden_wherever_it_stands():
    assert redact.hide("a hunter22 b", ["hunter2", "hunter22"]) == "a *** b"
    assert redact.hide("a 1 b", ["1", ""]) == "a 1 b"


def test_an_excerpt_is_one_short_line():
    assert redact.excerpt("a\n  b\tc", [], 10) == "a b c"
    # A header is over where its line is.
    assert redact.excerpt("Cookie: a=b\nthe reason", [], 30) == "Cookie: *** the reason"
    assert redact.excerpt("x" * 20, [], 10) == "x" * 9 + "\u2026"


def test_a_long_answer_does_not_take_long():
    started = time.monotonic()
    for text in ("token" * 400, "a" * 2048, "://" * 680, '"secret":"' * 200):
        redact.hide(text)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("url", "shown", "bare"),
    [
        ("http://u:p@host:1/a?b=c#d", "http://host:1/a?b=c", "http://host:1/a?b=***"),
        ("http://h/?title=x&access_token=y&key=z", "http://h/?title=x&access_token=***&key=***", None),
        ("http://h/?sid=x&my_session=y&state=z", "http://h/?sid=***&my_session=***&state=***", None),
        ("http://h/?flag&monkey=1", "http://h/?flag&monkey=1", "http://h/?flag&monkey=***"),
    ],
)
def test_a_url_keeps_its_parameters_but_not_their_secrets(url, shown, bare):
    assert redact.shown_url(url) == shown
    if bare:
        assert redact.shown_url(url, whole_query=False) == bare


def test_what_a_url_hides_is_known():
    assert redact.secrets_in("http://user:p%40ss@host/?a=b&token=hunter2#x") == {"user:p%40ss", "hunter2"}
    assert redact.secrets_in("http://[broken/?key=1") == set()


def test_what_a_terminal_would_obey_is_not_shown():
    assert redact.hide("\x1b[31mred\x1b[0m \x9b2J\x07 end\r\nnext\tline") == "red \ufffd2J\ufffd end\nnext\tline"
    # A colour in the middle hides no secret from us.
    assert redact.hide("password=\x1b[1mhunter2") == "password=***"


@pytest.mark.parametrize("url", ["http://u:hun/ter2@host/", "http://u:hun#ter2@host/a@b", "http://u:hun?ter2@host:1/"])
def test_a_password_that_cuts_its_url_short_is_known_as_a_whole(url):
    (secret,) = redact.secrets_in(url)
    assert secret.startswith("u:hun")
    assert "ter2" in secret


def test_an_at_in_a_path_is_no_login():
    assert redact.secrets_in("http://host/@user?mail=a@example.org") == set()


def test_a_url_can_be_pasted_between_quotes():
    shown = redact.shown_url("http://[::1]:80/a b?title=Don't (Für)&ids[]=1&x={y}")
    assert shown == "http://[::1]:80/a%20b?title=Don%27t%20(F%C3%BCr)&ids%5B%5D=1&x=%7By%7D"


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ('{"user": "probe", "deep": [{"password": "hunter2"}, true, null, 4711]}', {"probe", "hunter2", "4711"}),
        ("user=probe&password=hun%20ter2", {"probe", "hun ter2"}),
        ("just text", set()),
        ("[" * 100000, set()),
    ],
)
def test_the_values_of_a_body_are_known_one_by_one(body, values):
    assert set(redact.values_in(body)) == values
