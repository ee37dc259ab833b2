# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import (
    cannot_connect_to,
    have,
    mention,
    prose,
    render,
    with_names,
)

ITEM = {
    "name": "`rm x`",
    "names": ["a`", "b"],
    "settings": {"A": "`c`"},
    "path": "a\\xf6",
    "raw": "61f6",
    "kind": "docker",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Stop {{ item.name }}: `docker stop {{ item.name | shell_quote }}`",
            "Stop 'rm x': `docker stop $'\\x60rm x\\x60'`",
        ),
        ("{{ item['name'] }}", "'rm x'"),
        ("{{ item.names | join(', ') }}", "a', b"),
        ("{% for name in item.names %}{{ name }} {% endfor %}", "a' b"),
        ("{{ item.settings | dictsort | map('join', '=') | join(', ') }}", "A='c'"),
        ("{{ '`x ' ~ (item.name | shell_quote) ~ '`' }}", "`x $'\\x60rm x\\x60'`"),
        ("`tail -- {{ item.path | shell_path(item.raw) }}`", "`tail -- $'a\\xf6'`"),
        ("`tail -- {{ item.name | shell_path(none) }}`", "`tail -- $'\\x60rm x\\x60'`"),
        ("{{ item.kind | engine_command('unix:///run/podman/podman.sock') }}", "docker"),
        ("{{ item.kind | engine_command('ssh://a b') }}", "docker --host 'ssh://a b'"),
        ("{{ 'podman' | engine_command('unix:///x') }}", "podman --url unix:///x"),
        (
            "{{ ['--file', '/a b'] | compose_up('web', ['TAG']) }}",
            "TAG=VALUE docker compose --file '/a b' up -d --no-deps -- web",
        ),
        (
            "`{{ item.names | compose_up(item.name, recreate=true) }}`",
            "`docker compose $'a\\x60' b up -d --force-recreate --no-deps -- $'\\x60rm x\\x60'`",
        ),
    ],
)
def test_no_value_begins_or_ends_a_command(text, expected):
    assert prose(text, {"item": ITEM}) == expected


def test_other_texts_keep_backticks():
    assert render("{{ item.name }}", {"item": ITEM}) == "`rm x`"


def test_the_hint_of_a_module_keeps_its_commands():
    error = {"message": "`a`", "hint": "Grant it: `b`"}
    text = "{{ item.error.message }} {{ item.error.hint | replace('it', 'this') }}"
    assert prose(text, {"item": {"error": error}}) == "'a' Grant this: `b`"


def test_a_file_system_has_one_name_by_stat_and_in_the_kernel():
    number = os.makedev(7, 300)
    assert render("{{ item | device }}", {"item": number}) == "device 7:300"
    assert render("{{ item | device(kernel=true) }}", {"item": 7 << 20 | 300}) == "device 7:300"
    assert render("{{ item | device }}", {"item": None}) == ""


@pytest.mark.parametrize(
    ("names", "words", "expected"),
    [
        (["checks.cache"], ("cache", "redis"), True),
        (["components.postgresql", "x"], ("postgres",), True),
        (["message_queue"], ("queue",), True),
        (["checks.database"], ("db",), False),
        (["checks.feedback"], ("db", "back"), False),
        ([], ("cache",), False),
    ],
)
def test_a_name_mentions_a_word_at_the_beginning_of_a_part(names, words, expected):
    assert mention(names, *words) is expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('could not translate host name "redis" to address: Name or service not known', True),
        ("redis.exceptions.ConnectionError: Error 111 connecting to redis:6379. Connection refused.", True),
        ("Error: getaddrinfo ENOTFOUND redis", True),
        ("urlopen error timed out: http://redis/health", True),
        ("pika: tcp://redis:5672: [Errno 113] No route to host, unreachable", True),
        ('File "/usr/lib/python3/dist-packages/redis/connection.py", line 1, in connect', False),
        ("redis.exceptions.ConnectionError: Error 111 connecting to cache:6379. Connection refused.", False),
        ("cannot connect to redis-sentinel:26379", False),
        ("cannot connect to my.redis:6379", False),
        ("redis: key is missing", False),
    ],
)
def test_a_line_of_a_log_names_the_host_that_is_not_reached(line, expected):
    assert cannot_connect_to(["starting", line], ["redis"]) is expected
    assert not cannot_connect_to([line], ["other"])
    assert not cannot_connect_to(None, ["redis"])


def test_lines_of_a_log_have_a_text():
    lines = ["starting", 'FATAL: role "app" is not permitted to log in']
    assert have(lines, "nothing", '"app"')
    assert not have(lines, "nothing")
    assert not have(None, "starting")


HINT = "Run `rabbitmqctl set_permissions -p VHOST_NAME USER_NAME` for SERVICE_NAME, not `$HOST_NAME` or `MY_USER_NAME`"


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        (["app"], "app"),
        (["a.b@c:d-e"], "a.b@c:d-e"),
        # Clients choose what they are called in a log.
        (["a; reboot"], "USER_NAME"),
        (['a"'], "USER_NAME"),
        (["-a"], "USER_NAME"),
        (["a\n"], "USER_NAME"),
        ([""], "USER_NAME"),
        (["app", "other"], "USER_NAME"),
        ([], "USER_NAME"),
    ],
)
def test_the_names_in_a_message_are_those_of_its_hint(user, shown):
    wanted = "Run `rabbitmqctl set_permissions -p / %s` for api, not `$HOST_NAME` or `MY_USER_NAME`" % shown
    assert with_names(HINT, {"vhost": ["/"], "user": user}, "api") == wanted
    assert "SERVICE_NAME" in with_names(HINT, {}, "/var/log/a b.log")
