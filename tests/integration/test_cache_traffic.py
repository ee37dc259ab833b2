# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cost of a diagnosis for Redis. Its own traffic fires no check."""

from __future__ import annotations

from tests.lab.faults.cache import meanwhile

# With the settings below, each of these checks fires on any traffic.
OF_TRAFFIC = {"slow_commands", "command_busy", "client_buffers", "latency_events", "error_replies", "hit_ratio"}
ANY_TRAFFIC = {
    "tracktion_sample_seconds": 0.1,
    "cache_slow_command_warning": 0,
    "cache_command_busy_warning": 1e-9,
    "cache_client_buffer_warning": 1,
    "cache_latency_warning": 0,
    "cache_errors_warning": 1e-9,
    "cache_hit_ratio_lookups": 1,
    "cache_hit_ratio_warning": 1.1,
}
INSPECTING = ("scan", "memory|usage", "pttl", "type")


def quiet(found):
    """Return a client of the test that a diagnosis treats as its own."""
    client = found.redis(client_name="tracktion-ops")
    # Clients of other tests stay connected until Python collects them.
    client.client_kill_filter(_type="normal", skipme=True)
    client.config_set("slowlog-log-slower-than", 0)
    client.config_set("latency-monitor-threshold", 100)
    client.slowlog_reset()
    return client


def calls(client):
    statistics = client.info("commandstats")
    return {name: statistics.get("cmdstat_" + name, {}).get("calls", 0) for name in INSPECTING}


def test_a_run_on_an_idle_server_fires_no_check_in_a_later_run(each_redis):
    each_redis.redis().mset({"track:%d" % number: "x" * 100 for number in range(5000)})
    each_redis.redis().expire("track:1", 3600)
    client = quiet(each_redis)
    errors = client.info("errorstats")
    try:
        for _run in range(2):
            connections = client.info("stats")["total_connections_received"]
            found = each_redis.findings(**ANY_TRAFFIC)
            assert {"cache." + name for name in OF_TRAFFIC} & set(found) == set()
            assert client.info("stats")["total_connections_received"] == connections + 1
        health = each_redis.health()
        assert health["slow_log"]["entries"] == []
        assert health["slow_log"]["own_count"] > 0
        assert health["load"]["operations_per_second"] == 0
        assert health["lookups"]["interval"]["lookup_count"] == 0
        assert health["clients"]["buffers"] == []
        assert client.info("errorstats") == errors
    finally:
        client.config_set("slowlog-log-slower-than", 10000)
        client.config_set("latency-monitor-threshold", 0)
        client.latency_reset()


def test_the_traffic_of_other_clients_is_found(redis8):
    client = redis8.redis(client_name="other-client")
    client.config_set("slowlog-log-slower-than", 0)
    try:
        client.set("lab:traffic", "x")
        with meanwhile(lambda: client.get("lab:traffic")):
            found = redis8.findings(**ANY_TRAFFIC)
        assert {"SET", "GET"} <= {finding["object"] for finding in found["cache.slow_commands"]}
        assert "get" in {finding["object"] for finding in found["cache.command_busy"]}
        assert "other-client" in {finding["object"] for finding in found["cache.client_buffers"]}
    finally:
        client.config_set("slowlog-log-slower-than", 10000)
        client.slowlog_reset()


def test_a_sample_costs_a_bounded_number_of_commands_and_touches_no_key(each_redis):
    client = each_redis.redis()
    client.config_set("maxmemory-policy", "allkeys-lfu")
    client.mset({"track:%d" % number: "x" * 100 for number in range(5000)})
    client.expire("track:1", 3600)
    each_redis.redis(db=2).mset({"other:%d" % number: "x" for number in range(5000)})
    before, frequency = calls(client), client.object("freq", "track:7")
    found = each_redis.memory(max_load=1.0, search_keys=0)["distribution"]
    made = {name: count - before[name] for name, count in calls(client).items()}
    assert 2500 < sum(made.values()) == found["call_count"] <= 3000
    assert 900 < found["seen_count"] < 1300
    assert client.object("freq", "track:7") == frequency
    # A part of the keys is a complete sample.
    assert (found["ended"], found["complete"]) == (None, False)


def test_keys_that_expire_while_they_are_read_are_left_out(each_redis):
    client = each_redis.redis()
    numbers = iter(range(10**9))

    def come_and_go():
        pipeline = client.pipeline(transaction=False)
        for _count in range(50):
            pipeline.set("brief:%d" % (next(numbers) % 900), "x" * 100, px=4)
        pipeline.execute()

    with meanwhile(come_and_go):
        for _run in range(3):
            found = each_redis.memory(max_load=0.5)
            assert found["unknown"] == []
            assert "none" not in {row["type"] for row in found["distribution"]["prefixes"]}
            for row in found["distribution"]["prefixes"]:
                assert None not in (row["bytes"], row["without_ttl_bytes"], row["without_ttl_count"])


def test_reading_keys_of_a_busy_server_ends_early(redis8):
    client, other = redis8.redis(), redis8.redis()
    client.flushall()
    client.mset({"track:%d" % number: "x" * 100 for number in range(3000)})
    before = calls(client)
    # A command waits for a sleep or two: longer than a busy server's step, and 20 times within the deadline.
    # Two clients, so that no time passes between two sleeps.
    busy = ("DEBUG", "SLEEP", "0.3")
    with meanwhile(lambda: client.execute_command(*busy)), meanwhile(lambda: other.execute_command(*busy)):
        memory = redis8.memory()
    client.slowlog_reset()
    assert sum(calls(client).values()) - sum(before.values()) < 300
    assert memory["distribution"] is None or memory["distribution"]["ended"] == "busy"


def test_without_time_left_the_server_is_not_measured_and_not_unreachable(redis8):
    found = redis8.memory(deadline=0.0)
    assert found["reachable"] is None
    assert found["error"]["kind"] == "deadline"
    assert "not measured (0.0 s of the deadline left)" in found["error"]["message"]
    found = redis8.findings(cache_deadline=0.00001)
    assert {finding["status"] for findings in found.values() for finding in findings} == {"unknown"}


def test_servers_are_distinguished_by_their_identity(redis7, redis8):
    found = [server.health()["identity"] for server in (redis7, redis8, redis8)]
    assert found == ["redis:" + server.redis().info()["run_id"] for server in (redis7, redis8, redis8)]
    with redis8.user("limited", "+ping") as login:
        assert redis8.health(**login)["identity"] is None
    assert redis8.health(login_port=1)["identity"] is None
