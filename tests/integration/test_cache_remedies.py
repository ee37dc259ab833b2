# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The remedies of the cache on servers in the state in which they are needed most: in check mode, and carried out.

The state of a server is read by redis-py. Each task file runs with the variables of its finding, as in remediate.yml.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import redis

from tests.integration.areas import fired
from tests.integration.redis_lab import Cache, cache
from tests.integration.remedies import carry_out
from tests.lab.engine import docker
from tests.lab.faults.cache import fill
from tests.lab.servers import redis_server
from tests.lab.shell import wait_until

MEBIBYTE = 1024 * 1024
# What the tests set; everything else has the default of the role.
SETTINGS = {"cache_delete_idle_seconds": 0, "cache_delete_max_count": 100000, "cache_distribution": "none"}


def remedy(server, finding, check, **settings):
    """Run the task file of a finding's remedy with the module itself. Return the result."""
    return carry_out(finding["remedy"], server.login(), check, **{**SETTINGS, **settings})


@contextlib.contextmanager
def full(server, policy="noeviction"):
    """More memory is in use than maxmemory, so the server answers each write with OOM."""
    client = server.redis()
    client.flushall()
    client.config_set("maxmemory-policy", policy)
    client.config_set("maxmemory", "256mb")
    fill(client, "old:%d", 2000, 8192)
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 0.9))
    try:
        assert rejects_writes(client)
        yield client
    finally:
        client.config_set("maxmemory", "256mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.flushall()


def rejects_writes(client):
    try:
        client.set("new:1", "x")
    except redis.exceptions.OutOfMemoryError:
        return True
    client.delete("new:1")
    return False


def state(client):
    settings = client.config_get("maxmemory*")
    return client.dbsize(), settings["maxmemory"], settings["maxmemory-policy"]


def findings(server, **settings):
    return server.findings(**{**SETTINGS, "cache_distribution": "sampled", **settings})


def test_keys_are_deleted_from_a_full_server(each_redis):
    with full(each_redis) as client:
        (finding,) = findings(each_redis)["cache.keys_without_ttl"]
        before = state(client)
        checked = remedy(each_redis, finding, check=True)
        assert checked["changed"] is True
        assert state(client) == before
        done = remedy(each_redis, finding, check=False)
        assert done["deletion"]["deleted_count"] == checked["deletion"]["deleted_count"] == 2000
        assert client.dbsize() == 0
        assert not rejects_writes(client)
        assert remedy(each_redis, finding, check=False)["changed"] is False


def test_a_policy_is_set_on_a_full_server(each_redis):
    with full(each_redis) as client:
        (finding,) = findings(each_redis)["cache.eviction_impossible"]
        assert "at once about" in finding["remedy"]["does"]
        before = state(client)
        assert remedy(each_redis, finding, check=True)["changed"] is True
        assert state(client) == before
        assert remedy(each_redis, finding, check=False)["changed"] is True
        assert state(client)[1:] == (before[1], "allkeys-lru")
        wait_until(lambda: not rejects_writes(client), "writes to be accepted", 10)
        # About a tenth had to be evicted.
        assert client.dbsize() > 1500
        assert not fired(findings(each_redis), "cache.eviction_impossible")


def test_a_policy_that_evicts_too_much_is_not_offered_and_rejected_at_the_last_moment(each_redis):
    with full(each_redis) as client:
        (offered,) = findings(each_redis)["cache.eviction_impossible"]
        (finding,) = findings(each_redis, cache_evict_most_bytes=MEBIBYTE)["cache.eviction_impossible"]
        assert (finding["remedy"], "cache_evict_most_bytes" in finding["hint"]) == (None, True)
        before = state(client)
        for check in (True, False):
            result = remedy(each_redis, offered, check, cache_evict_most_bytes=MEBIBYTE)
            assert (result["failed"], "cache_evict_most_bytes" in result["hint"]) == (True, True)
        assert state(client) == before


def test_a_limit_that_was_set_is_raised_only_if_allowed(each_redis):
    with full(each_redis) as client:
        (finding,) = findings(each_redis)["cache.memory_used"]
        assert finding["status"] == "critical"
        assert finding["remedy"] is None
        assert "cache_maxmemory_raise=true" in finding["hint"]
        (finding,) = findings(each_redis, cache_maxmemory_raise=True)["cache.memory_used"]
        assert finding["remedy"]["risk"] == "disruptive"
        available = int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text()).group(1)) * 1024
        before = state(client)
        assert remedy(each_redis, finding, check=True)["changed"] is True
        assert state(client) == before
        done = remedy(each_redis, finding, check=False)
        assert done["configuration"]["persisted"] is True
        assert 0.5 * available < int(state(client)[1]) < 0.9 * available
        assert not rejects_writes(client)


@contextlib.contextmanager
def limited(suite, limit, **options):
    """A server without maxmemory in a container with this memory limit."""
    with cache(suite, **options) as server:
        docker("update", "--memory", limit, "--memory-swap", limit, server.server.name)
        client = server.redis()
        client.config_set("maxmemory", 0)
        yield server, client


def test_a_missing_limit_comes_from_what_is_available_and_says_what_a_restart_undoes():
    with limited("bookworm", "200m", config_file=False) as (server, client):
        fill(client, "lab:%d", 2000, 8192)
        (finding,) = findings(server)["cache.maxmemory_unset"]
        maxmemory = finding["remedy"]["vars"]["maxmemory"]
        assert 100 * MEBIBYTE < maxmemory <= 150 * MEBIBYTE
        for text in (finding["hint"], finding["remedy"]["does"]):
            assert "--maxmemory %d" % maxmemory in text
        for check in (True, False):
            assert client.config_get("maxmemory")["maxmemory"] == "0"
            result = remedy(server, finding, check)
            assert result["configuration"]["persisted"] is False
            assert "Add `--maxmemory %d" % maxmemory in result["configuration"]["persist_hint"]
        assert client.config_get("maxmemory")["maxmemory"] == str(maxmemory)
        assert not fired(findings(server), "cache.maxmemory_unset")


def test_nothing_is_offered_where_no_limit_fits():
    """Most of the container's memory is in use: a limit that leaves room for writes would be too high."""
    with limited("trixie", "100m") as (server, client):
        fill(client, "lab:%d", 7600, 8192)
        (finding,) = findings(server)["cache.maxmemory_unset"]
        assert finding["remedy"] is None
        assert "more memory" in finding["hint"]
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 0.95))
        client.config_set("maxmemory-policy", "noeviction")
        (finding,) = findings(server, cache_maxmemory_raise=True)["cache.memory_used"]
        assert finding["remedy"] is None
        assert "cannot be raised" in finding["hint"]


def test_a_read_only_file_is_known_in_check_mode(redis7):
    redis7.server.exec("chown", "root:root", "/etc/redis")
    try:
        result = redis7.memory(check=True, state="configured", maxmemory="222mb", distribution="none")
    finally:
        redis7.server.exec("chown", "redis:redis", "/etc/redis")
    assert (result["changed"], result["configuration"]["persisted"]) == (True, False)
    assert "may not write to /etc/redis" in result["configuration"]["persist_hint"]


def test_a_server_that_rejects_deletions_fails_in_check_mode_and_is_offered_none(each_redis):
    client = each_redis.redis()
    fill(client, "old:%d", 2000, 8192)
    (finding,) = findings(each_redis)["cache.keys_without_ttl"]
    with each_redis.fault("save-failing"):
        (stuck,) = findings(each_redis)["cache.keys_without_ttl"]
        failed = [("MISCONF", remedy(each_redis, finding, check)) for check in (True, False)]
    client.replicaof("127.0.0.1", 1)
    try:
        offered = [stuck, *findings(each_redis)["cache.keys_without_ttl"]]
        failed += [("READONLY", remedy(each_redis, finding, check)) for check in (True, False)]
    finally:
        client.replicaof("no", "one")
    assert [each["remedy"] for each in offered] == [None, None]
    for code, result in failed:
        assert result["failed"] is True
        assert code in result["msg"]
        assert "unlink" not in result["hint"]
    assert client.dbsize() == 2000


def test_a_right_to_delete_that_is_missing_fails_in_check_mode_with_its_rule(each_redis):
    client = each_redis.redis()
    client.set("old:1", "x")
    for denied in ("-unlink", "-eval"):
        with each_redis.user("limited", "~*", "+@all", denied) as login:
            for check in (True, False):
                result = each_redis.memory(
                    check, state="deleted", delete={"pattern": "old:*", "idle_seconds": 0}, **login
                )
                assert (result["failed"], "+unlink" in result["hint"]) == (True, True)
    assert client.dbsize() == 1


def test_deleting_is_not_offered_where_no_key_can_be_unused_that_long(redis8):
    client = redis8.redis()
    client.flushall()
    client.config_set("maxmemory-policy", "noeviction")
    try:
        fill(client, "old:%d", 2000, 8192)
        (finding,) = findings(redis8, cache_delete_idle_seconds=86400)["cache.keys_without_ttl"]
        assert finding["remedy"] is None
        client.config_set("maxmemory-policy", "allkeys-lfu")
        (finding,) = findings(redis8, cache_delete_idle_seconds=1)["cache.keys_without_ttl"]
        assert finding["remedy"] is None
    finally:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.flushall()


def test_a_cluster_node_deletes_its_keys():
    with redis_server("trixie", "--cluster-enabled", "yes", password=None) as server:
        client = redis.Redis(host=server.host, port=server.port)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster", 20)
        for number in range(20):
            client.set("old:%d" % number, "x")
        delete = {"pattern": "old:*", "idle_seconds": 0}
        for check in (True, False):
            assert client.dbsize() == 20
            assert Cache(server).memory(check, state="deleted", delete=delete)["deletion"]["deleted_count"] == 20
        assert client.dbsize() == 0
