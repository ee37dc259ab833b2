# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The output of the area cache: its commands work for all names, and it contains no values."""

from __future__ import annotations

import json

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _rows
from tests.integration.pasting import commands

# Names with characters that a shell, a terminal, redis-cli or a pattern interprets.
HOSTILE = [
    b"a; touch /tmp/pwned",
    b"$(touch /tmp/pwned)",
    b"`touch /tmp/pwned`",
    b'it\'s "quoted" \\ twice',
    b"-n 3 * ? [a-z]",
    b"line\nfeed\r\x1b[2J\x07",
    "Mot\u00f6rhead \u202e \u2028".encode(),
    b"Mot\xf6rhead \xff",
    b"nul\x00byte",
    b"%s %d \\n \\",
    b"  two  spaces ",
    b"-x",
]
SECRET = "S3cr3t-planted-77"


# What the operator does: type the password when redis-cli asks for it.
TYPED = """redis-cli() {
    case " $* " in
    *" --askpass "*) printf '%s\\n' "$REDISCLI_AUTH" | command redis-cli "$@" ;;
    *) command redis-cli "$@" ;;
    esac
}
"""


def paste(server, command):
    """Run a printed command in a shell of the server's container, and return its output."""
    environment = ["env", "REDISCLI_AUTH=" + server.server.password]
    output = server.server.exec(*environment, "bash", "-c", TYPED + command)
    assert server.server.exec("sh", "-c", "ls /tmp").split().count("pwned") == 0
    return output.strip()


def inside(server, **settings):
    """Return the settings with which the printed commands work inside the container."""
    return {
        "cache_login_host": server.server.address,
        "cache_login_port": 6379,
        "tracktion_sample_seconds": 0.05,
        **settings,
    }


def test_the_command_that_deletes_a_key_deletes_no_other(each_redis):
    client = each_redis.redis(db=1)
    client.set("bystander", "x" * 3000)
    for name in HOSTILE:
        client.set(name, "x" * 5000)
    found = each_redis.findings(**inside(each_redis, cache_big_key_info_bytes=4000))["cache.big_key"]
    assert len(found) == len(HOSTILE)
    assert "".join(finding["summary"] + finding["hint"] for finding in found).isprintable()
    script = "\n".join(command for finding in found for command in commands(finding["hint"]))
    assert paste(each_redis, script) == "\n".join(["1"] * len(HOSTILE))
    assert client.keys() == [b"bystander"]


def test_the_command_that_ends_a_client_ends_it(redis8):
    victim = redis8.redis(client_name="x;`touch${IFS}/tmp/pwned`")
    number = victim.client_id()
    found = redis8.findings(**inside(redis8, cache_client_buffer_warning=1))["cache.client_buffers"]
    (finding,) = [finding for finding in found if "touch" in finding["summary"]]
    (command,) = commands(finding["hint"])
    assert paste(redis8, command) == "1"
    assert number not in {int(client["id"]) for client in redis8.redis().client_list()}


def test_the_hint_for_a_missing_right_gives_that_right(redis8):
    for user in ("mon'$(touch${IFS}/tmp/pwned);`touch${IFS}/tmp/pwned`", "-x\x1b[2J\u202e"):
        with redis8.user(user, "~*", "+@all", "-config|get", "-client|list") as login:
            login = {"cache_" + name: value for name, value in login.items()}
            found = redis8.findings(**inside(redis8, **login))
            hints = {
                finding["hint"] for findings in found.values() for finding in findings if finding["status"] == "unknown"
            }
            assert len(hints) == 2
            script = "\n".join(command for hint in hints for command in commands(hint))
            assert script.replace("\n", "").isprintable()
            assert paste(redis8, script) == "OK\nOK"
            found = redis8.findings(**inside(redis8, **login))
        assert "unknown" not in {finding["status"] for findings in found.values() for finding in findings}


def test_the_undo_command_of_a_setting_restores_it(redis8):
    client = redis8.redis()
    address = {"login_host": redis8.server.address, "login_port": 6379}
    area = _areas.find(["cache"])[0]
    rows = {row["id"]: row for row in area.rows("remedies")}
    before = client.config_get("maxmemory*")
    for remedy, wanted in (
        ("set_maxmemory", {"maxmemory": "300mb"}),
        ("set_policy", {"maxmemory_policy": "volatile-ttl"}),
    ):
        result = redis8.memory(state="configured", distribution="none", **wanted, **address)
        assert client.config_get("maxmemory*") != before
        undo = commands(_rows.render(rows["cache." + remedy]["undo"], {"result": result}))
        assert paste(redis8, "\n".join(undo)) == "OK\nOK"
        assert client.config_get("maxmemory*") == before


def test_the_other_printed_commands_are_accepted(redis8):
    """The commands without a value from a host."""
    client = redis8.redis()
    client.config_set("slowlog-log-slower-than", -1)
    client.slowlog_reset()
    try:
        (finding,) = redis8.findings(**inside(redis8))["cache.slow_commands"]
        (command,) = commands(finding["hint"])
        assert (finding["status"], paste(redis8, command)) == ("unknown", "OK")
        assert client.config_get("slowlog-log-slower-than")["slowlog-log-slower-than"] == "10000"
    finally:
        client.config_set("slowlog-log-slower-than", 10000)
    context = {
        "item": {"id": 1, "error": "NOPERM"},
        "measured": {"service": {"redis_cli": ["redis-cli", "-h", redis8.server.address]}},
    }
    wanted = {"cache." + name for name in ("peak_memory", "rejected_connections", "rdb_save_old", "error_replies")}
    rows = [row for row in _areas.find(["cache"])[0].rows("checks") if row["id"] in wanted]
    script = [command for row in rows for command in commands(_rows.render(row["hint"], context))]
    assert len(script) == 5
    assert "ERR" not in paste(redis8, "\n".join(script))


def test_values_in_the_slow_log_are_not_shown(each_redis):
    client = each_redis.redis()
    client.config_set("slowlog-log-slower-than", 0)
    try:
        for words in (
            ("SET", "lab:secret", SECRET),
            ("SET", "user:alice@example.org", "x"),
            ("HSET", "lab:hash", "password", SECRET),
            ("EVAL", "return '%s'" % SECRET, 0),
            ("EVAL", "return ARGV[1]", 1, SECRET + "k", SECRET),
            ("PUBLISH", "lab", SECRET),
            ("CONFIG", "SET", "masterauth", SECRET),
            ("CONFIG", "SET", "masterauth", ""),
            ("ACL", "SETUSER", "lab-user", ">" + SECRET),
            ("ACL", "DELUSER", "lab-user"),
            ("LPUSH", "lab:list", *[SECRET] * 40),
            ("SETEX", "lab:token", 60, SECRET * 20),
            ("CLIENT", "SETNAME", "bob@example.org"),
        ):
            client.execute_command(*words)
        result = [each_redis.health(), each_redis.memory(), each_redis.findings(cache_slow_command_warning=0)]
    finally:
        client.config_set("slowlog-log-slower-than", 10000)
        client.slowlog_reset()
    shown = json.dumps(result)
    assert "SET lab:secret (1 more argument, %d bytes)" % len(SECRET) in shown
    for hidden in (SECRET, "alice@", "bob@", each_redis.server.password):
        assert hidden not in shown, hidden


def test_names_with_secrets_in_them_are_redacted(redis8):
    client = redis8.redis()
    client.flushall()
    client.set("reset:alice@example.org", "x" * 5000)
    client.set("token:ghp_0123456789abcdefghij", "x" * 5000)
    client.set("bob@example.org:cart", "x" * 5000)
    found = redis8.memory()
    findings = redis8.findings(cache_big_key_info_bytes=4000, cache_without_ttl_bytes=1)
    client.flushall()
    shown = json.dumps([found, findings])
    for hidden in ("alice@", "ghp_", "bob@"):
        assert hidden not in shown
    assert {row["printf_format"] for row in found["distribution"]["biggest_keys"]} == {None}
    # No remedy uses a prefix that must not be shown.
    assert "***@***" not in {row["pattern"] for row in found["distribution"]["prefixes"]}
