# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights of the ACL user: without a right exactly its checks are unknown, with the ACL rule in the hint."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_survey
from tests.rights.cache import OF_KEYS, RIGHTS

README = Path(__file__).resolve().parents[2] / "roles/cache/README.md"
USER = "tracktion-monitor"
# All checks apply to a small server.
SETTINGS = {
    "cache_memory_floor_bytes": 0,
    "tracktion_sample_seconds": 0.02,
    "cache_max_calls": 900,
    "cache_max_load": 1.0,
    "cache_deadline": 60,
}
EVERYTHING = [right.name for right in RIGHTS]


@pytest.fixture
def with_keys(each_redis, monkeypatch):
    """A server with more keys than a sample reads, with and without prefixes, in two databases."""
    # A busy machine must not end the survey.
    monkeypatch.setattr(_redis_survey, "BUSY_SECONDS", 60)
    client = each_redis.redis()
    client.mset({"track:%d" % number: "x" * 100 for number in range(800)})
    client.mset({"plain%d" % number: "x" for number in range(20)})
    client.set("track:expires", "x", ex=3600)
    client.xgroup_create("jobs", "workers", mkstream=True)
    client.xadd("jobs", {"id": 1})
    client.xreadgroup("workers", "one", {"jobs": ">"})
    each_redis.redis(db=3).set("other:1", "x")
    client.acl_log_reset()
    # On a busy machine, any command is slow now and then: what is in the slow log is known without its settings.
    client.config_set("slowlog-log-slower-than", 10_000_000)
    client.slowlog_reset()
    yield each_redis
    client.config_set("slowlog-log-slower-than", 10_000)


def unknown(findings):
    """Return the unknown findings by the id of their check."""
    return {
        check: found
        for check, each in findings.items()
        if (found := [finding for finding in each if finding["status"] == "unknown"])
    }


def diagnosed(server, *rules, user=USER):
    with server.user(user, *rules) as login:
        return server.findings(**SETTINGS, **{"cache_" + name: value for name, value in login.items()})


def test_without_a_right_exactly_its_checks_are_unknown(with_keys):
    assert unknown(diagnosed(with_keys, *EVERYTHING)) == {}
    assert with_keys.redis().acl_log() == []
    for right in RIGHTS:
        with_keys.redis().acl_log_reset()
        found = unknown(diagnosed(with_keys, *[name for name in EVERYTHING if name != right.name]))
        assert set(found) == right.checks, right.name
        for findings in found.values():
            for finding in findings:
                assert right.grant in finding["hint"], (right.name, finding)
                assert "ACL SETUSER " + USER in finding["hint"]
        # The server logs each denial: one for a command, and few for keys.
        denials = with_keys.redis().acl_log()
        assert len(denials) <= (4 if right.name == "%R~*" else 1), (right.name, denials)
        assert sum(int(entry["count"]) for entry in denials) <= (10 if right.name == "%R~*" else 1)


def test_denied_keys_do_not_hide_the_others(with_keys):
    with_keys.redis().mset({"plain%d" % number: "x" for number in range(500)})
    rules = [name for name in EVERYTHING if name != "%R~*"]
    with with_keys.user(USER, "%R~track:*", *rules) as login:
        login = {"cache_" + name: value for name, value in login.items()}
        found = with_keys.findings(**SETTINGS, **login, cache_without_ttl_bytes=1, cache_big_key_info_bytes=1)
    assert set(unknown(found)) == {"cache." + name for name in (*OF_KEYS, "stream_pending")}
    assert "db0 track (string)" in {finding["object"] for finding in found["cache.keys_without_ttl"]}
    assert "db0 keys that may not be read" in {finding["object"] for finding in found["cache.unnamed_keys_without_ttl"]}
    assert {finding["status"] for finding in found["cache.big_key"]} == {"info", "unknown"}
    assert sum(int(entry["count"]) for entry in with_keys.redis().acl_log()) <= 30


def test_the_readmes_user_has_these_rights_and_no_others():
    """The README of the role gives the user the rights that the tests above take away."""
    lines = README.read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith("redis-cli ACL SETUSER"))
    words = shlex.split(line)[3:]
    assert [word for word in words if word[0] in "+%~&@"] == ["%R~*", *(name for name in EVERYTHING if name[0] == "+")]
