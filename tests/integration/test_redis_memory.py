# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""redis_memory against real servers: its results and changes are compared with redis-py."""

from __future__ import annotations

import contextlib
import json
import os
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis, _redis_change
from tests.bench import redis_keyspace
from tests.integration.redis_lab import cache
from tests.lab.engine import docker
from tests.lab.shell import wait_until
from tests.slack import SLACK

MEBIBYTE = 1024 * 1024


def some_keys(client):
    """Create keys of five types in two databases, some of which expire."""
    pipeline = client.pipeline(transaction=False)
    for number in range(300):
        pipeline.set(f"track:{number}", "x" * number)
        pipeline.set(f"session:{number}", "x" * 50, ex=3600)
    for number in range(20):
        pipeline.hset(f"artist:{number}", mapping={"name": "x" * number, "bpm": number})
        pipeline.rpush(f"queue:{number}", *range(number + 1))
        pipeline.zadd(f"chart:{number}", {"a": 1, "b": 2})
    pipeline.set("plain", "1")
    pipeline.execute_command("SELECT", 3)
    pipeline.sadd("tags:1", *range(500))
    pipeline.execute_command("SELECT", 0)
    pipeline.execute()


def client_of(found):
    """Return a client as the modules use it, with its own connection."""
    options = {name: spec.get("default") for name, spec in _redis.CONNECTION_SPEC.items()}
    client = _redis.connect({**options, **found.login()})
    _redis._connections.clear()
    return client


@pytest.mark.parametrize("mode", ["whole", "sampled"])
def test_a_small_keyspace_is_measured_exactly(each_redis, mode):
    some_keys(each_redis.redis())
    found = each_redis.memory(distribution=mode)["distribution"]
    rows = {(row["database"], row["prefix"], row["type"]): row for row in found["prefixes"]}
    truth = each_redis.truth((0, 3))
    assert set(rows) == set(truth)
    for key, (count, size, lasting) in truth.items():
        row = rows[key]
        assert (row["key_count"], row["bytes"], row["without_ttl_count"]) == (count, size, lasting)
        assert row["bytes_low"] == row["bytes"] == row["bytes_high"]
    assert found["complete"] is True
    assert found["seen_count"] == found["key_count"] == 662
    biggest = found["biggest_keys"][0]
    assert (biggest["database"], biggest["name"], biggest["type"]) == (3, "tags:1", "set")


def test_intervals_of_samples_contain_the_true_value(each_redis):
    """Of 120 intervals with 95 %, fewer than 104 have a probability of one in ten thousand.

    The samples are small, so that they do not overlap: overlapping samples are right or wrong together.
    """
    redis_keyspace.fill(
        each_redis.server.host, each_redis.server.port, 100000, 1000, password=each_redis.server.password
    )
    truth = {key: value for key, value in each_redis.truth().items() if value[0] > 1}
    held = intervals = 0
    for _sample in range(20):
        found = each_redis.memory(max_calls=9000, max_load=1.0, search_keys=0)["distribution"]
        assert found["complete"] is False
        assert 2900 < found["seen_count"] < 3000
        rows = {(row["database"], row["prefix"], row["type"]): row for row in found["prefixes"]}
        for key, (_count, size, _lasting) in truth.items():
            intervals += 1
            held += rows[key]["bytes_low"] <= size <= rows[key]["bytes_high"]
    assert intervals == 120
    assert held >= 104


def test_a_sample_is_within_a_tenth(redis8):
    redis_keyspace.fill(redis8.server.host, redis8.server.port, 100000, 1000, password=redis8.server.password)
    truth = {key: value for key, value in redis8.truth().items() if value[0] > 1}
    started = time.monotonic()
    found = redis8.memory(max_calls=90000, max_load=1.0)["distribution"]
    assert time.monotonic() - started < 3 * SLACK
    for row in found["prefixes"]:
        if row["prefix"] != "queue":
            assert row["bytes"] == pytest.approx(truth[0, row["prefix"], row["type"]][1], rel=0.1)


def test_measuring_changes_nothing(each_redis):
    client = each_redis.redis()
    some_keys(client)
    before = each_redis.health()["lookups"]["since_start"]
    time.sleep(1.1)
    each_redis.memory(distribution="whole")
    assert client.object("idletime", "track:7") >= 1
    after = each_redis.health()["lookups"]["since_start"]
    assert (after["hit_count"], after["miss_count"]) == (before["hit_count"], before["miss_count"])
    commands = client.info("commandstats")
    assert not {"cmdstat_keys", "cmdstat_monitor", "cmdstat_get"} & set(commands)


def test_binary_names_are_escaped_and_can_be_hidden(redis8):
    client = redis8.redis()
    client.flushall()
    client.set(b"bin\x00\xff:\r\n\x1b[2J", "x" * 9000)
    client.set("user:alice", "x" * 8000)
    names = [key["name"] for key in redis8.memory()["distribution"]["biggest_keys"]]
    assert names == ["bin\\x00\\xff:\\r\\n\\x1b[2J", "user:alice"]
    hidden = json.dumps(redis8.memory(show_key_names=False))
    assert "alice" not in hidden
    assert "user:#" in hidden


def test_memory_is_that_of_info(each_redis):
    client = each_redis.redis()
    some_keys(client)
    found = each_redis.memory()["memory"]
    info = client.info("memory")
    assert found["used_bytes"] == pytest.approx(info["used_memory"], abs=MEBIBYTE)
    assert found["maxmemory_bytes"] == 256 * MEBIBYTE
    assert found["policy"] == "allkeys-lru"
    assert found["key_count"] == found["evictable_count"] == 662
    client.config_set("maxmemory-policy", "volatile-lru")
    assert each_redis.memory()["memory"]["evictable_count"] == 300


def test_the_limit_of_the_servers_container_is_found(redis8):
    assert redis8.memory()["memory"]["limit_source"] == "system"
    docker("update", "--memory", "512m", "--memory-swap", "512m", redis8.server.name)
    try:
        found = redis8.memory()["memory"]
        assert (found["limit_source"], found["limit_bytes"]) == ("cgroup", 512 * MEBIBYTE)
        assert found["maxmemory_limit_ratio"] == 0.5
    finally:
        # A limit cannot be removed.
        docker("update", "--memory", "20g", "--memory-swap", "20g", redis8.server.name)


def test_reading_all_keys_ends_at_the_deadline_with_a_partial_result(redis8):
    with redis8.fault("keys-many"):
        started = time.monotonic()
        found = redis8.memory(distribution="whole", deadline=0.6)
        assert time.monotonic() - started < 3 * SLACK
    assert found["distribution"]["complete"] is False
    assert 0 < found["distribution"]["seen_count"] < 200001
    assert found["unknown"] == []


def test_denied_parts_are_unknown_and_the_others_are_measured(each_redis):
    some_keys(each_redis.redis())
    cases = {
        "-memory|usage": {
            "distribution.bytes",
            "distribution.prefixes",
            "distribution.biggest_keys",
            "distribution.big_groups",
            "distribution.*",
        },
        "-pttl": {"distribution.ttl", "distribution.prefixes"},
        "-type": {"distribution.type"},
        "-scan": {"distribution", "stream_groups"},
        "-info": {
            "server",
            "memory",
            "fragmentation",
            "databases",
            "distribution",
            "stream_groups",
            "stream_groups_total",
        },
        "-select": {
            "distribution.prefixes.*",
            "distribution.biggest_keys.*",
            "distribution.big_groups.*",
            "distribution.*",
        },
    }
    for rule, parts in cases.items():
        with each_redis.user("limited", "~*", "+@all", rule) as login:
            found = each_redis.memory(**login)
        assert found["reachable"] is True
        assert {entry["part"] for entry in found["unknown"]} == parts, rule
        assert all("permission" in entry["reason"] for entry in found["unknown"])
        if "distribution" not in parts:
            assert found["distribution"]["seen_count"] == (661 if rule == "-select" else 662)
    with each_redis.user("limited", "~track:*", "+@all") as login:
        rows = {row["prefix"]: row["bytes"] for row in each_redis.memory(**login)["distribution"]["prefixes"]}
    assert rows["track"] > 0


# Settings


def in_force(client):
    return client.config_get("maxmemory")["maxmemory"], client.config_get("maxmemory-policy")["maxmemory-policy"]


def in_file(found):
    return set(found.server.exec("cat", "/etc/redis/lab.conf").splitlines())


def test_settings_are_set_once_and_survive_a_restart(each_redis):
    client = each_redis.redis()
    wanted = {"state": "configured", "maxmemory": "100mb", "maxmemory_policy": "volatile-lfu", "distribution": "none"}
    beats = []
    for check in (True, False, True, False):
        result = each_redis.memory(check=check, diff=True, **wanted)
        beats.append((result["changed"], in_force(client)[0]))
        assert result["configuration"]["after"] == {"maxmemory": 100 * MEBIBYTE, "maxmemory_policy": "volatile-lfu"}
        if result["changed"]:
            assert result["diff"]["before"] == {"maxmemory": 256 * MEBIBYTE, "maxmemory_policy": "allkeys-lru"}
            assert result["diff"]["after"] == result["configuration"]["after"]
    new, old = str(100 * MEBIBYTE), str(256 * MEBIBYTE)
    assert beats == [(True, old), (True, new), (False, new), (False, new)]
    assert {"maxmemory 100mb", "maxmemory-policy volatile-lfu"} <= in_file(each_redis)
    each_redis.server.stop()
    each_redis.server.start()
    assert in_force(each_redis.redis()) == (new, "volatile-lfu")


def test_a_setting_made_by_hand_is_persisted(redis7):
    redis7.redis().config_set("maxmemory", "123mb")
    result = redis7.memory(state="configured", maxmemory="123mb", distribution="none")
    assert result["changed"] is True
    assert result["configuration"]["persisted"] is True
    assert "maxmemory 123mb" in in_file(redis7)
    assert redis7.memory(state="configured", maxmemory="123mb", distribution="none")["changed"] is False


def test_less_than_the_memory_in_use_is_rejected_unless_allowed(redis8):
    client = redis8.redis()
    with redis8.fault("memory-unbounded"):
        client.set("lab:fill", "x" * 8 * MEBIBYTE)
        for check in (True, False):
            result = redis8.memory(state="configured", maxmemory="5mb", check=check)
            assert result["failed"] is True
            assert "allow_eviction" in result["hint"]
            assert in_force(client)[0] == "0"
        result = redis8.memory(state="configured", maxmemory="5mb", allow_eviction=True, persist=False)
        assert result["changed"] is True
        assert in_force(client)[0] == str(5 * MEBIBYTE)
        assert "`persist` is false" in result["configuration"]["persist_hint"]
        client.config_set("maxmemory", "0")
        client.delete("lab:fill")


def test_a_setting_that_the_server_rejects_leaves_the_old_ones(redis8):
    client = redis8.redis()
    before = in_force(client)
    with pytest.raises(_redis_change.CannotChange, match="CONFIG SET failed"):
        _redis_change.configure(
            client_of(redis8), {"maxmemory": "300000000", "maxmemory-policy": "nonsense"}, 0, True, False
        )
    assert in_force(client) == before


def test_the_hint_names_a_file_that_cannot_be_written(redis7):
    client = redis7.redis()
    redis7.server.exec("chown", "root:root", "/etc/redis")
    try:
        result = redis7.memory(state="configured", maxmemory="222mb", distribution="none")
    finally:
        redis7.server.exec("chown", "redis:redis", "/etc/redis")
    assert result["changed"] is True
    assert in_force(client)[0] == str(222 * MEBIBYTE)
    assert result["configuration"]["persisted"] is False
    assert "/etc/redis/lab.conf" in result["configuration"]["persist_hint"]


def test_the_hint_for_a_server_without_a_file_names_the_flags():
    with cache("bookworm", config_file=False) as found:
        result = found.memory(state="configured", maxmemory="111mb", distribution="none")
        assert result["changed"] is True
        assert result["configuration"]["persisted"] is False
        assert "--maxmemory %d" % (111 * MEBIBYTE) in result["configuration"]["persist_hint"]
        assert found.memory(state="configured", maxmemory="111mb", distribution="none")["changed"] is False


def test_acting_without_permission_fails_with_the_rule_to_add(redis8):
    before = in_force(redis8.redis())
    with redis8.user("limited", "~*", "+@all", "-config|set") as login:
        result = redis8.memory(state="configured", maxmemory="99mb", **login)
    assert result["failed"] is True
    assert "+config|set" in result["hint"]
    assert in_force(redis8.redis()) == before


# Deleting


@contextlib.contextmanager
def album_keys(found):
    """Create three keys that can be deleted, one that expires, and two with other names."""
    client = found.redis()
    client.flushall()
    client.mset({"album:1": "x", b"album:\xff\n": "x" * 1000, "album:3": "x", "albums": "x", "other:album:": "x"})
    client.set("album:expires", "x", ex=3600)
    yield client
    client.flushall()


def test_only_matching_keys_without_a_time_to_live_are_deleted(each_redis, tmp_path):
    list_path = tmp_path / "deleted.jsonl"
    wanted = {"state": "deleted", "delete": {"pattern": "album:*", "idle_seconds": 0, "list_path": str(list_path)}}
    with album_keys(each_redis) as client:
        beats = []
        for check in (True, False, True, False):
            result = each_redis.memory(check=check, diff=True, **wanted)
            beats.append((result["changed"], result["deletion"]["deleted_count"], client.dbsize()))
            if result["changed"]:
                assert sorted(result["deletion"]["names"]) == ["album:1", "album:3", "album:\\xff\\n"]
                assert sorted(result["diff"]["before"]["keys"]) == sorted(result["deletion"]["names"])
            if check and not list_path.exists():
                assert beats == [(True, 3, 6)]
        assert beats == [(True, 3, 6), (True, 3, 3), (False, 0, 3), (False, 0, 3)]
        assert sorted(client.keys()) == [b"album:expires", b"albums", b"other:album:"]
    deleted = [json.loads(line) for line in list_path.read_text().splitlines()]
    assert {bytes.fromhex(entry["hex"]) for entry in deleted} == {b"album:1", b"album:3", b"album:\xff\n"}
    assert os.stat(list_path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("pattern", ["*", "?*", "[a-z]*"])
def test_a_pattern_for_all_keys_is_rejected(redis8, pattern):
    with album_keys(redis8) as client:
        result = redis8.memory(state="deleted", delete={"pattern": pattern, "idle_seconds": 0})
        assert result["failed"] is True
        assert "delete.pattern" in result["msg"]
        assert client.dbsize() == 6


def test_keys_in_use_are_not_deleted(redis8):
    with album_keys(redis8) as client:
        time.sleep(2.1)
        client.get("album:3")
        result = redis8.memory(state="deleted", delete={"pattern": "album:*", "idle_seconds": 2})
        assert sorted(result["deletion"]["names"]) == ["album:1", "album:\\xff\\n"]
        assert client.exists("album:3")


def test_unknown_idle_times_delete_nothing(redis8):
    with album_keys(redis8) as client:
        client.config_set("maxmemory-policy", "allkeys-lfu")
        try:
            result = redis8.memory(state="deleted", delete={"pattern": "album:*"})
            assert result["failed"] is True
            assert "idle_seconds" in result["hint"]
            assert client.dbsize() == 6
        finally:
            client.config_set("maxmemory-policy", "allkeys-lru")


def test_a_run_deletes_at_most_max_count(redis8):
    with album_keys(redis8) as client:
        result = redis8.memory(state="deleted", delete={"pattern": "album:*", "idle_seconds": 0, "max_count": 2})
        assert result["deletion"]["deleted_count"] == 2
        assert client.dbsize() == 4


def test_a_key_that_is_written_at_the_last_moment_is_not_deleted(redis8, monkeypatch):
    with album_keys(redis8) as client:
        candidates = _redis_change._candidates

        def write_in_between(*arguments):
            found = candidates(*arguments)
            client.append("album:1", "more")
            client.expire("album:3", 60)
            return found

        monkeypatch.setattr(_redis_change, "_candidates", write_in_between)
        time.sleep(2.1)
        delete = {"pattern": "album:*", "database": 0, "only_without_ttl": True, "idle_seconds": 2, "max_count": 10}
        result = _redis_change.delete_keys(client_of(redis8), {**delete, "list_path": None}, ":", True, False)
        assert (result["deleted_count"], result["kept_count"], result["names"]) == (1, 2, ["album:\\xff\\n"])
        assert client.get("album:1") == b"xmore"


def test_nothing_is_deleted_if_the_list_cannot_be_written(redis8, tmp_path):
    with album_keys(redis8) as client:
        (tmp_path / "target").write_text("")
        (tmp_path / "link").symlink_to(tmp_path / "target")
        os.mkfifo(tmp_path / "fifo")
        for path in ("none/list", "link", "fifo"):
            delete = {"pattern": "album:*", "idle_seconds": 0, "list_path": str(tmp_path / path)}
            result = redis8.memory(state="deleted", delete=delete)
            assert "delete.list_path" in result["msg"]
            assert client.dbsize() == 6
        assert (tmp_path / "target").read_text() == ""


def test_a_missing_server_is_data_when_measuring_and_a_failure_when_acting(redis8):
    measured = redis8.memory(login_port=1)
    assert (measured["reachable"], measured["error"]["kind"], measured["memory"]) == (False, "refused", None)
    acted = redis8.memory(login_port=1, state="configured", maxmemory="1gb")
    assert acted["failed"] is True
    assert "login_port" in acted["hint"]


def test_keys_are_not_read_while_the_server_loads():
    slow = ("--key-load-delay", "300", "--loading-process-events-interval-bytes", "1024")
    with cache("bookworm", *slow) as found:
        client = found.redis()
        for start in range(0, 20000, 5000):
            client.mset({f"lab:{number}": "x" * 20 for number in range(start, start + 5000)})
        client.save()
        docker("restart", "--time", "10", found.server.name)
        wait_until(lambda: found.health()["reachable"], "the server's port", 20)
        health, memory = found.health(), found.memory()
    assert health["ping"]["status"] == "loading"
    assert health["server"]["loading"]["total_bytes"] > 0
    assert memory["reachable"] is True
    assert [entry["part"] for entry in memory["unknown"]] == ["distribution", "stream_groups"]
    assert "LOADING" in memory["unknown"][0]["reason"]
