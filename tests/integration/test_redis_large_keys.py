# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What takes the memory of a Redis server is found in every run, and a large key does not stand for others."""

from __future__ import annotations

import pytest

from tests.integration.areas import fired
from tests.integration.redis_lab import cache
from tests.lab.faults.cache import fill

MEBIBYTE = 1024 * 1024
RUNS = 8


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def large(request):
    """A server of its own, which can make a million keys in two seconds."""
    with cache(request.param, "--enable-debug-command", "yes") as found:
        found.redis().config_set("maxmemory", "2gb")
        yield found


@pytest.fixture
def client(large):
    found = large.redis(socket_timeout=60)
    found.flushall()
    return found


def rpush(client, name, mebibytes):
    for _step in range(mebibytes):
        client.rpush(name, *[b"x" * 8192] * 128)


def test_a_large_key_among_some_thousands_is_found_in_every_run(large, client):
    fill(client, "track:%d", 5000, 2000)
    client.set("track:all", b"x" * 26 * MEBIBYTE)
    for _run in range(RUNS):
        found = large.memory()["distribution"]
        assert found["biggest_keys"][0]["name"] == "track:all"
        (row,) = found["prefixes"]
        assert row["key_count"] == 5001
        # 26 MiB, and 5,000 keys with 2,000 bytes each: the one key does not stand for others.
        truth = sum(size for _count, size, _lasting in large.truth().values())
        assert row["bytes_low"] <= truth <= row["bytes_high"]
        assert row["bytes"] == pytest.approx(truth, rel=0.02)
        assert found["bytes"] == truth


def test_the_one_list_among_a_million_keys_is_found(large, client):
    client.execute_command("DEBUG", "POPULATE", 1000000, "key", 40)
    rpush(client, "jobs:backlog", 200)
    # The default, 15 s, is enough on a machine that is not busy with other tests.
    found = large.findings(cache_deadline=150)
    (finding,) = fired(found, "cache.big_key", "warning")
    assert "list jobs:backlog: 2" in finding["summary"]
    assert not fired(found, "cache.distribution_partial")


def test_without_a_search_a_large_key_of_the_sample_counts_once(large, client):
    fill(client, "track:%d", 3000, 1000)
    for number in range(5):
        client.set("track:large:%d" % number, b"x" * MEBIBYTE)
    truth = sum(size for _count, size, _lasting in large.truth().values())
    for _run in range(RUNS):
        found = large.memory(search_keys=0, max_calls=600)["distribution"]
        (row,) = found["prefixes"]
        assert found["searched"] is False
        assert row["bytes"] <= 1.1 * truth
        assert row["bytes_low"] <= truth


def test_large_keys_of_all_types_and_databases_are_found(large, client):
    client.execute_command("DEBUG", "POPULATE", 20000, "key", 40)
    other = large.redis(db=3)
    other.execute_command("DEBUG", "POPULATE", 20000, "other", 40)
    for start in range(0, 60000, 10000):
        numbers = range(start, start + 10000)
        client.hset("session", mapping=dict.fromkeys(numbers, "x" * 20))
        client.sadd("seen:set", *numbers)
        other.zadd("chart", {"track:%d" % number: number for number in numbers})
    other.set("blob", b"x" * 3 * MEBIBYTE, ex=3600)
    other.xadd("events", {"data": b"x" * 2 * MEBIBYTE})
    for _run in range(2):
        rows = large.memory()["distribution"]["big_groups"]
        found = {(row["database"], row["largest"][0]["name"], row["type"], row["without_ttl_count"]) for row in rows}
        assert found == {
            (0, "session", "hash", 1),
            (0, "seen:set", "set", 1),
            (3, "chart", "zset", 1),
            (3, "blob", "string", 0),
            (3, "events", "stream", 1),
        }


def test_big_keys_of_one_prefix_are_one_finding_with_their_sum(large, client):
    fill(client, "small:%d", 3000, 100)
    for number in range(12):
        client.set("report:%d" % number, b"x" * (11 + number) * MEBIBYTE)
    client.set("alone", b"x" * 12 * MEBIBYTE)
    group, alone = sorted(fired(large.findings(), "cache.big_key", "warning"), key=lambda each: len(each["summary"]))[
        ::-1
    ]
    assert group["summary"].startswith("12 keys report:* (string) of at least 1.0 MiB take 2")
    assert "report:" in group["summary"]
    assert "alone" in alone["summary"]


def test_a_hash_tag_is_not_a_prefix(large, client):
    for number in range(300):
        client.set("{user:%d}:cart" % number, b"x" * 30000)
        client.set("{user:%d}:seen:%d" % (number, number), b"x" * 30000)
        client.set("list{%d}:x" % number, b"x" * 30000)
    rows = {row["prefix"]: row for row in large.memory()["distribution"]["prefixes"]}
    assert {prefix: (row["key_count"], row["pattern"]) for prefix, row in rows.items()} == {
        "{*}:cart": (300, None),
        "{*}:seen": (300, None),
        "list{*}": (300, None),
    }
    found = large.findings(cache_without_ttl_bytes=MEBIBYTE)
    assert {finding["object"] for finding in found["cache.unnamed_keys_without_ttl"]} == {
        "db0 %s (string)" % prefix for prefix in rows
    }
    # No pattern names these keys and no others.
    assert "cache.keys_without_ttl" not in found
    hidden = large.memory(show_key_names=False)["distribution"]
    assert "user:" not in str(hidden)


def test_a_search_ends_at_the_deadline_with_what_it_found(large, client):
    client.execute_command("DEBUG", "POPULATE", 400000, "key", 40)
    rpush(client, "jobs:backlog", 100)
    found = large.memory(deadline=0.8)["distribution"]
    assert (found["searched"], found["complete"]) == (False, False)
    assert found["ended"] == "deadline"
