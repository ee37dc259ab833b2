# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Redaction of URLs and answers."""

from __future__ import annotations

import base64
import gzip
import html
import json
import time
from urllib.parse import quote

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
def test_values_that_look_like_a_secret_are_hidden(text, shown):
    assert redact.hide(text) == shown


def test_known_secret_is_hidden_anywhere():
    assert redact.hide("a hunter22 b", ["hunter2", "hunter22"]) == "a *** b"
    assert redact.hide("a 1 b", ["1", ""]) == "a 1 b"


SECRET = "hunter2secret"


@pytest.mark.parametrize(
    "text",
    [
        r'{"\u0070assword": "hunter2secret"}',
        r'{"dsn": "postgres:\/\/app:hunter2secret@db\/x"}',
        json.dumps({"body": json.dumps({"password": SECRET})}),
        r"\x70assword=hunter2secret",
        r"\160assword=hunter2secret",
        r"\u{70}assword=hunter2secret",
        "%70assword%3Dhunter2secret",
        "%2570assword%253Dhunter2secret",
        "%u0070assword=hunter2secret",
        "&#112;assword=hunter2secret",
        "&quot;token&quot;: &quot;hunter2secret&quot;",
        "<b>pass</b>word=hunter2secret",
        "pass<!-- -->word=hunter2secret",
        '<input value="hunter2secret" type="hidden" name="csrf_token">',
        "<password><![CDATA[hunter2secret]]></password>",
        'Content-Disposition: form-data; name="password"\r\n\r\nhunter2secret\r\n--x',
        "password:\n   hunter2secret",
        "password: >\n  hunter2secret\n  hunter2secret",
        "pass\u200bword=hunter2secret",
        "pass&shy;word=hunter2secret",
        "p\x01assword=hunter2secret",
        "\uff50\uff41\uff53\uff53word=hunter2secret",
        "\ufeffpassword=hunter2secret",
        base64.b64encode(b"password=hunter2secret").decode(),
        "value " + base64.urlsafe_b64encode(SECRET.encode()).decode(),
        "password=hunter2sec",
    ],
    ids=ascii,
)
def test_encoded_secrets_are_hidden(text):
    shown = redact.excerpt(text, [], 240)
    assert "hunter2" not in shown
    assert base64.b64encode(SECRET.encode()).decode()[:12] not in shown


@pytest.mark.parametrize(
    "body", [text.encode(code) for text in ("password=hunter2secret",) for code in ("utf-16", "utf-16-be", "utf-32")]
)
def test_data_that_is_not_utf_8_is_not_shown(body):
    assert redact.decoded(body) == redact.UNREADABLE
    assert redact.decoded(gzip.compress(body)) == redact.UNREADABLE


def test_body_cut_inside_a_character():
    assert redact.decoded("caf\u00e9".encode()[:-1]) == "caf"


@pytest.mark.parametrize("secret", ["correct horse", "corr\u00e9ct/horse", 'corr"ect'])
def test_known_secret_is_hidden_in_each_spelling(secret):
    raw = secret.encode()
    echoes = [
        json.dumps(secret)[1:-1],
        quote(secret, safe=""),
        html.escape(secret),
        raw.hex(),
        base64.b64encode(raw).decode(),
        secret.replace(" ", "\n"),
    ]
    for echo in echoes:
        assert redact.excerpt("it was " + echo, [secret], 99) in ("it was ***", "it was ***=", "it was ***=="), echo


def test_ordinary_text_is_shown():
    for text in (
        "OperationalError: could not connect to server: Connection refused",
        'File "/usr/lib/python3.11/site-packages/psycopg2/__init__.py", line 122, in connect',
        "<html><head><title>502 Bad Gateway</title></head>",
        '{"status": "unhealthy", "checks": {"database": {"healthy": false}}, "at": "2026-11-28T19:25:37Z"}',
    ):
        assert redact.excerpt(text, [], 240) == text


@pytest.mark.parametrize(
    "path", ["/reset/eyJhbGciOi.eyJzdWIi.c2ln/", "/a;jsessionid=0815/x", "/x%70assword=hunter2", "/t/A1b2C3d4E5"]
)
def test_path_of_a_redirect_with_a_secret_is_hidden(path):
    assert redact.shown_url("https://u:p@host:1%s?a=b" % path, whole_query=False) == "https://host:1/***?a=***"


def test_excerpt_is_one_short_line():
    assert redact.excerpt("a\n  b\tc", [], 10) == "a b c"
    # A header ends with its line.
    assert redact.excerpt("Cookie: a=b\nthe reason", [], 30) == "Cookie: *** the reason"
    assert redact.excerpt("x" * 20, [], 10) == "x" * 9 + "\u2026"


def test_long_answers_are_fast():
    started = time.process_time()
    for text in (
        "token" * 400,
        "a" * 2048,
        "://" * 680,
        '"secret":"' * 200,
        "%70" * 680,
        "&#112;" * 340,
        'value="' * 290,
    ):
        redact.hide(text)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("url", "shown", "bare"),
    [
        ("http://u:p@host:1/a?b=c#d", "http://host:1/a?b=c", "http://host:1/a?b=***"),
        ("http://h/?title=x&access_token=y&key=z", "http://h/?title=x&access_token=***&key=***", None),
        ("http://h/?sid=x&my_session=y&state=z", "http://h/?sid=***&my_session=***&state=***", None),
        ("http://h/?flag&monkey=1", "http://h/?flag&monkey=1", "http://h/?flag&monkey=***"),
    ],
)
def test_url_keeps_parameters_without_secrets(url, shown, bare):
    assert redact.shown_url(url) == shown
    if bare:
        assert redact.shown_url(url, whole_query=False) == bare


def test_secrets_in_a_url():
    assert redact.secrets_in("http://user:p%40ss@host/?a=b&token=hunter2#x") == {"user:p%40ss", "hunter2"}
    assert redact.secrets_in("http://[broken/?key=1") == set()


def test_control_sequences_are_removed():
    assert redact.hide("\x1b[31mred\x1b[0m \x9b2J\x07 end\r\nnext\tline") == "red \ufffd2J\ufffd end\nnext\tline"
    # A colour between name and value.
    assert redact.hide("password=\x1b[1mhunter2") == "password=***"


@pytest.mark.parametrize("url", ["http://u:hun/ter2@host/", "http://u:hun#ter2@host/a@b", "http://u:hun?ter2@host:1/"])
def test_unescaped_password_that_ends_the_host(url):
    (secret,) = redact.secrets_in(url)
    assert secret.startswith("u:hun")
    assert "ter2" in secret


def test_at_sign_in_a_path_is_not_a_login():
    assert redact.secrets_in("http://host/@user?mail=a@example.org") == set()


def test_url_is_safe_between_quotes():
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
def test_values_in_a_body(body, values):
    assert set(redact.values_in(body)) == values
