# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._redact import hide_passwords, redact

SECRET = "hunter2XYZ"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://tracktion:%s@db:5432/x failed",
        "redis://:%s@cache:6379/0",
        "amqp://u:%s",
        "amqp://u:p@%s@mq/ has an @ in its password",
        "https://%s-with-a-long-token@git.example.org/x",
        "Authorization: Bearer %s",
        "Authorization: Digest username=a, response=%s",
        '{"authorization": "Basic dXNlcjpw%s"}',
        "headers={'Authorization': 'Bearer %s', 'X': 'y'}",
        "got bearer %s",
        "Cookie: session=%s; a=b",
        "Set-Cookie: sid=%s",
        "password=%s user=bob",
        "password = %s",
        "passwd: %s",
        "PGPASSWORD=%s",
        "redis_pass=%s",
        "dbpwd=%s",
        "session=%s",
        '{"session": "%s"}',
        "my_cookie=%s",
        "api_key=%s&x=1",
        "apikey: %s",
        "X-Api-Key: %s",
        "access_key=%s",
        "aws_secret_access_key: wJalrXUt/K7MDENG/%s",
        "client_secret=%s",
        "refresh_token=%s",
        "db_password => '%s'",
        "https://host/path?token=%s&x=y",
        "password%%3D%s",
        '{"password":"%s","user":"bob"}',
        '{"password": "a \\" b %s"}',
        r"{\"password\":\"a \\\"b %s\",\"user\":\"bob\"}",
        "{'secret': b'%s'}",
        "('password', '%s')",
        'secret = "a b %s and no end',
        "--password %s -v",
        "--token=%s",
        "password is %s",
        "ALTER USER a IDENTIFIED BY '%s'",
        "CREATE USER a IDENTIFIED WITH x BY '%s'",
        "ALTER ROLE a PASSWORD 'it''s %s'",
        "ALTER ROLE a PASSWORD $$%s$$",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIi%s.abc",
        "ghp_abcdefghijklmnop%s",
        "glpat-abcdefghij%s",
        "sk-proj-abcdefghijklm%s",
        "https://hooks.slack.com/services/T0/B0/%s",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE%s\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\nMIIE%s and no end",
        "mail to bob.%s@example.com",
        "aGVsbG8gd29ybGQgdGhpcyBpcyBh%sIGJhc2U2NCBzdHJpbmc5IQ==",
        "host=db port=5432 dbname=x user=u password=%s sslmode=require",
        "amqps://user@example.org:%s@mq:5671/",
        'Authorization: Digest username="bob", nonce="1", response="%s"',
        "Proxy-Authorization: Basic %s",
        "PHPSESSID=%s",
        '"bearer":"%s"',
        "password: correct horse %s",
        "passwords: ['a', '%s']",
        '"password": {"value": "%s"}',
        'login(password("%s"))',
        "password -> %s",
        "password is: %s",
        'wrong password "%s"',
        "new password %s",
        "<password>%s</password>",
        '<add key="password" value="%s"/>',
        '{"name": "POSTGRES_PASSWORD", "value": "%s"}',
        '"AUTH" "default" "%s"',
        "AUTH %s",
        "CONFIG SET requirepass %s",
        "redis-cli -h cache -a %s ping",
        "mysqldump -u root -p%s x",
        "curl -u bob:%s http://host",
        "SCRAM-SHA-256$4096:%s",
    ],
)
def test_a_secret_is_hidden(text):
    assert SECRET not in redact(text % SECRET)


@pytest.mark.parametrize(
    "text",
    [
        "key AKIAIOSFODNN7EXAMPLE",
        "deadbeef" * 5,
        "aB3" * 20,
        "md5" + "0a1b" * 8,
        "card 4111111111111111",
        "card 4111-1111-1111-1111",
        "card 378282246310005",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text):
    assert redact(text).rpartition(" ")[2] == "***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"password": "a", "user": "bob"}', '{"password": ***, "user": "bob"}'),
        ("postgresql://tracktion:a@db:5432/x failed", "postgresql://tracktion:***@db:5432/x failed"),
        ("password=a user=bob", "password=*** user=bob"),
        ("password: a b, user=bob", "password: ***, user=bob"),
        ("password: a b user=bob", "password: *** user=bob"),
        ("to bob%40example.org", "to ***@***"),
        ("headers={'Authorization': 'Bearer abc', 'X': 'y'}", "headers={'Authorization': 'Bearer ***', 'X': 'y'}"),
        ("-----BEGIN A-----\nx\n-----END A----- and so on", "-----BEGIN A----- *** and so on"),
    ],
)
def test_what_stands_around_it_stays(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        'FATAL:  password authentication failed for user "bob"',
        "lost the broker: AMQPConnectionError: rabbit@host",
        'File "/usr/lib/python3/dist-packages/sqlalchemy/engine/base.py", line 12',
        "Basic authentication failed",
        "token expired, invalid password",
        "NOAUTH Authentication required. ERR AUTH failed",
        "order 4111111111111112 at 1795595054500, trace 1795595054500123",
        "session: closed by the server",
        "connection refused 10.0.0.1:5432 at 2026-11-25 08:24:07.693 UTC",
        "request 123e4567-e89b-12d3-a456-426614174000",
        "MISCONF Redis is configured to save RDB snapshots",
        "https://host:8001/health answered 500",
        "no answer of http://host:8001",
        "tracktion-lab-analysis_service-1: completed /music/incoming/some-long-name.with.dots.mp3",
    ],
)
def test_plain_text_stays(text):
    assert redact(text) == text


def test_nothing_stays_nothing():
    assert redact(None) is None
    assert hide_passwords(None) is None


@pytest.mark.parametrize(
    "text",
    ["a", "a-", "password ", "token=", "secret-token.key-", "\\", "'password\\", "http://", "http://a:", "a@", "a.a@b."]
    + ["-----BEGIN A-----", "1aA", "passw", "--", "authorization=", "password='", "'password',", "eyJabcdef."]
    + [
        "http://a@",
        "a%40",
        "password: a ",
        "token=[",
        "<password ",
        "name='password' ",
        "AUTH a ",
        "redis-cli ",
        "4111 ",
    ],
)
def test_no_line_takes_long(text):
    """Whoever can write into a log must not be able to stop the diagnosis."""
    line = (text * 4000)[:4000]
    began = time.process_time()
    redact(line)
    assert time.process_time() - began < 0.5
