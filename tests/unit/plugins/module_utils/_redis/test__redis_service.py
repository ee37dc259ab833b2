# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_service as service


def test_inspecting_keys_does_not_count_as_a_hit():
    first = {"keyspace_hits": "100", "keyspace_misses": "10", "cmdstat_type": "calls=40,usec=1"}
    later = {
        "keyspace_hits": "200",
        "keyspace_misses": "30",
        "cmdstat_type": "calls=60,usec=1",
        "cmdstat_object|idletime": "calls=5,usec=1",
        "cmdstat_get": "calls=95,usec=1",
    }
    found = service.build_lookups(first, later, 1.0)
    assert found["interval"] == {
        "hit_count": 75,
        "miss_count": 20,
        "lookup_count": 95,
        "ratio": 0.789474,
        "seconds": 1.0,
    }
    assert found["since_start"]["hit_count"] == 135


def test_without_lookups_there_is_no_ratio():
    same = {"keyspace_hits": "1", "keyspace_misses": "1"}
    assert service.build_lookups(same, same, 1.0)["interval"]["ratio"] is None
    assert service.build_lookups({}, {}, 1.0)["since_start"]["lookup_count"] is None


def test_commands_are_ordered_by_their_time_in_the_interval():
    first = {"cmdstat_get": "calls=1000,usec=5000000"}
    later = {
        "cmdstat_get": "calls=1010,usec=5000100",
        "cmdstat_eval": "calls=2,usec=400000,usec_per_call=2,rejected_calls=0,failed_calls=1",
        "cmdstat_set": "calls=7,usec=70",
        "keyspace_hits": "3",
    }
    found = service.build_commands({**first, "cmdstat_set": later["cmdstat_set"]}, later, 0.5, 2)
    assert [row["command"] for row in found["top"]] == ["eval", "get"]
    assert found["top"][0]["busy_ratio"] == 0.8
    assert found["top"][0]["failed_calls"] == 1
    assert found["total"] == 3


ENTRIES = [
    [9, 1000, 200000, [b"GET", b"user:\xff" + b"x" * 500], b"10.0.0.1:5", b"web"],
    [8, 990, 900000, [b"get", b"b"], b"10.0.0.1:5", b""],
    [7, 980, 300000, [b"KEYS", b"*"], b"10.0.0.1:5", b""],
]


def test_slow_entries_are_cut_escaped_and_counted_by_command():
    found = service.build_slow_log(ENTRIES, 12, {"slowlog-log-slower-than": "10000"}, 1010.0, True, 2)
    assert found["threshold_seconds"] == 0.01
    assert found["length"] == 12
    assert len(found["entries"]) == 2
    assert found["entries"][0]["line"].startswith("GET user:\\xffx")
    assert len(found["entries"][0]["line"]) <= 200
    assert found["entries"][1]["client_name"] is None
    assert found["commands"] == [
        {"command": "GET", "entry_count": 2, "latest_age_seconds": 10.0, "worst_seconds": 0.9, "worst_line": "get b"},
        {"command": "KEYS", "entry_count": 1, "latest_age_seconds": 30.0, "worst_seconds": 0.3, "worst_line": "KEYS *"},
    ]


def test_own_entries_are_left_out_of_the_slow_log():
    own = [[10, 1005, 500, [b"MEMORY", b"USAGE", b"a"], b"10.0.0.9:5", b"tracktion-ops"]]
    on = {"slowlog-log-slower-than": "0", "slowlog-max-len": "128"}
    found = service.build_slow_log(own + ENTRIES, 4, on, 1010.0, True, 5)
    assert (found["own_count"], [row["id"] for row in found["entries"]]) == (1, [9, 8, 7])
    assert service.build_slow_log(own, 1, on, 1010.0, True, 5)["commands"] == []


@pytest.mark.parametrize(
    ("settings", "commands"),
    [
        ({"slowlog-log-slower-than": "10000", "slowlog-max-len": "128"}, []),
        ({"slowlog-log-slower-than": "-1", "slowlog-max-len": "128"}, None),
        ({"slowlog-log-slower-than": "10000", "slowlog-max-len": "0"}, None),
        ({}, None),
    ],
)
def test_an_empty_slow_log_is_known_only_if_it_is_on(settings, commands):
    assert service.build_slow_log([], 0, settings, 1010.0, True, 5)["commands"] == commands


def test_own_calls_between_the_readings_are_subtracted():
    first = {"cmdstat_info": "calls=10,usec=1000", "total_commands_processed": "100"}
    alone = {"cmdstat_info": "calls=11,usec=1500", "total_commands_processed": "101"}
    (row,) = service.build_commands(first, alone, 1.0, 5)["top"]
    assert (row["calls"], row["seconds"], row["busy_ratio"]) == (0, 0.0, 0.0)
    assert service.build_load(first, alone, 1.0)["operations_per_second"] == 0.0
    with_another = {"cmdstat_info": "calls=12,usec=1800", "total_commands_processed": "102"}
    (row,) = service.build_commands(first, with_another, 1.0, 5)["top"]
    assert (row["calls"], row["seconds"]) == (1, 0.0004)


def test_an_own_command_is_no_latency_event():
    reply = [[b"command", 1005, 120, 120], [b"fork", 1005, 120, 250], [b"fast-command", 1006, 110, 110]]
    own = [[10, 1005, 120900, [b"INFO"], b"10.0.0.9:5", b"tracktion-ops"]]
    assert [event["event"] for event in service.build_latency(reply, {}, 1010.0, own)["events"]] == [
        "fork",
        "fast-command",
    ]


def test_the_interval_is_measured_by_the_servers_clock():
    first, later = {"server_time_usec": "1000000"}, {"server_time_usec": "1500000"}
    assert service.interval_seconds(first, later, 0.7) == 0.5
    assert service.interval_seconds({}, {}, 0.7) == 0.7


def test_hidden_arguments_are_only_counted():
    found = service.build_slow_log(ENTRIES, 3, {}, None, False, 5)
    assert found["threshold_seconds"] is None
    assert found["entries"][0]["line"] == "GET (1 arguments)"
    assert found["entries"][0]["age_seconds"] is None


def test_a_latency_monitor_that_is_off_has_no_threshold():
    assert service.build_latency([], {"latency-monitor-threshold": "0"}, 5.0) == {
        "threshold_seconds": None,
        "events": [],
    }
    (event,) = service.build_latency([[b"fork", 1000, 30, 250, 1, 2]], {"latency-monitor-threshold": "100"}, 1010.0)[
        "events"
    ]
    assert event == {
        "event": "fork",
        "at": 1000.0,
        "age_seconds": 10.0,
        "latest_seconds": 0.03,
        "worst_seconds": 0.25,
    }


def test_clients_are_ordered_by_their_memory():
    listing = (
        b"id=3 addr=10.0.0.1:5 name= age=9 idle=4 flags=b qbuf=0 omem=0 tot-mem=1928 cmd=blpop user=default\n"
        b"id=4 addr=10.0.0.2:5 name=web age=9 idle=0 flags=S qbuf=26 omem=99 tot-mem=22426 cmd=psync user=r\n"
    )
    info = {"connected_clients": "2", "maxclients": "10", "rejected_connections": "5", "blocked_clients": "1"}
    found = service.build_clients({"rejected_connections": "3"}, info, listing, 1)
    assert found["use_ratio"] == 0.2
    assert found["rejected_in_interval"] == 2
    assert found["longest_blocked_seconds"] == 4
    assert [(row["largest"]["id"], row["kind"], row["output_bytes"]) for row in found["buffers"]] == [
        (4, "replica", 99)
    ]
    assert service.build_clients({}, info, None, 1)["buffers"] is None


def test_own_clients_are_left_out_and_names_of_others_are_escaped():
    listing = (
        b"id=3 addr=10.0.0.9:5 name=tracktion-ops age=9 idle=4 flags=b qbuf=0 omem=0 tot-mem=999999 cmd=info user=m\n"
        b"id=4 addr=10.0.0.2:5 name=bob@example.org age=9 idle=0 flags=N omem=9 tot-mem=2 cmd=get user=a\x1c\x1b[2J=\n"
    )
    found = service.build_clients({}, {"connected_clients": "2"}, listing, 5)
    (row,) = found["buffers"]
    assert (row["largest"]["id"], row["client_name"], row["user"]) == (4, "***@***", "a\\x1c\\x1b[2J=")
    assert found["longest_blocked_seconds"] == 0


def test_clients_of_one_address_are_summed_up():
    listing = b"".join(
        b"id=%d addr=%s:%d name=%s age=9 idle=%d flags=%s qbuf=0 omem=5 tot-mem=%d cmd=get user=default\n" % row
        for row in (
            (1, b"10.0.0.1", 5, b"web", 4, b"N", 100),
            (2, b"10.0.0.1", 6, b"web", 9, b"b", 300),
            (3, b"10.0.0.1", 7, b"job", 0, b"N", 350),
            (4, b"[2001:db8::1]", 8, b"", 1, b"P", 10),
            (5, b"/run/redis.sock", 0, b"", 1, b"N", 10),
        )
    )
    found = service.build_clients({}, {"connected_clients": "5"}, listing, 3)
    assert [(row["address"], row["client_count"], row["client_names"]) for row in found["addresses"]] == [
        ("10.0.0.1", 3, ["job", "web"]),
        ("/run/redis.sock", 1, []),
        ("2001:db8::1", 1, []),
    ]
    assert [found["addresses"][0][name] for name in ("blocked_count", "least_idle_seconds", "most_idle_seconds")] == [
        1,
        0,
        9,
    ]
    first = found["buffers"][0]
    assert (first["client_name"], first["client_count"], first["total_bytes"], first["largest"]["id"]) == (
        "web",
        2,
        400,
        2,
    )


def test_before_the_first_snapshot_there_is_none():
    info = {"rdb_last_save_time": "100", "rdb_saves": "0"}
    found = service.build_persistence(info, {}, 150.0)["rdb"]
    assert (found["last_save_at"], found["last_save_age_seconds"], found["unsaved_seconds"]) == (None, None, 50.0)
    failed = {**info, "rdb_saves": "3", "rdb_last_bgsave_status": "err", "uptime_in_seconds": "50"}
    assert service.build_persistence(failed, {}, 150.9)["rdb"]["last_save_at"] is None
    later = service.build_persistence({**failed, "rdb_last_save_time": "120"}, {}, 150.9)["rdb"]
    assert (later["saved_since_start"], later["last_save_at"]) == (True, 120.0)
    assert service.build_persistence({}, {}, 150.9)["rdb"]["saved_since_start"] is None
    found = service.build_persistence({**info, "rdb_saves": "1", "rdb_last_bgsave_status": "ok"}, {}, 150.0)["rdb"]
    assert (found["last_save_at"], found["last_save_age_seconds"]) == (100.0, 50.0)


def test_a_replica_has_a_link_and_a_primary_has_replicas():
    replica = service.build_replication(
        {
            "role": "slave",
            "master_host": "db",
            "master_port": "6379",
            "master_link_status": "down",
            "master_link_down_since_seconds": "12",
            "master_last_io_seconds_ago": "-1",
            "master_sync_in_progress": "0",
        },
        {},
    )
    assert (replica["role"], replica["link_up"], replica["link_down_seconds"]) == ("replica", False, 12)
    assert replica["last_io_seconds"] is None
    primary = service.build_replication(
        {
            "role": "master",
            "master_repl_offset": "150",
            "slave0": "ip=a,port=1,state=online,offset=100,lag=3",
            "slave_expires_tracked_keys": "0",
            "min_slaves_good_slaves": "1",
        },
        {"min-replicas-to-write": "2"},
    )
    assert primary["link_up"] is None
    assert (primary["good_replicas"], primary["min_replicas_to_write"]) == (1, 2)
    assert primary["replicas"] == [{"address": "a:1", "state": "online", "lag_seconds": 3, "lag_bytes": 50}]


def test_loading_has_its_progress():
    loading = {"loading": "1", "loading_loaded_bytes": "25", "loading_total_bytes": "100", "loading_eta_seconds": "9"}
    assert service.build_server(loading)["loading"]["loaded_ratio"] == 0.25
    assert service.build_server({"loading": "0"})["loading"] is None


def test_saves_are_enabled_disabled_or_unknown():
    assert service.build_persistence({}, {"save": "3600 1"}, None)["rdb"]["enabled"] is True
    assert service.build_persistence({}, {"save": ""}, None)["rdb"]["enabled"] is False
    assert service.build_persistence({}, {}, None)["rdb"]["enabled"] is None
    assert service.build_persistence({"rdb_last_bgsave_time_sec": "-1"}, {}, None)["rdb"]["last_seconds"] is None


def test_errors_of_the_interval_come_first():
    found = service.build_errors(
        {"errorstat_ERR": "count=100"}, {"errorstat_ERR": "count=100", "errorstat_OOM": "count=4"}, 2.0, 5
    )
    assert [(row["error"], row["in_interval"], row["per_second"]) for row in found] == [
        ("OOM", 4, 2.0),
        ("ERR", 0, 0.0),
    ]
