# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of redis_health_info, made of what the server replied. Pure functions. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import (
    decimal,
    difference,
    integer,
    pairs,
    ratio,
    readable,
)

# Commands that look a key up without reading its value, as redis_memory does for each key it looks at. The server
# counts them as hits (seen on Redis 7.0 and 8.0); they are taken off again.
INSPECTING = ("cmdstat_type", "cmdstat_pttl", "cmdstat_object|idletime")

ARGUMENT_LENGTH = 64
COMMAND_LENGTH = 200


def server_time(info):
    """The server's clock, epoch seconds; null where unknown."""
    micros = integer(info, "server_time_usec")
    return None if micros is None else micros / 1e6


def age(now, moment):
    return None if now is None or moment is None else round(max(0.0, now - moment), 3)


def nothing_yet(value):
    """Null for the -1 with which Redis says that there has been none."""
    return None if value is None or value < 0 else value


def server(info):
    """Version and state. ``loading`` has what is left to load from disk after a start, null when it is done."""
    loading = None
    if integer(info, "loading"):
        loaded, total = integer(info, "loading_loaded_bytes"), integer(info, "loading_total_bytes")
        loading = {
            "loaded_bytes": loaded,
            "total_bytes": total,
            "loaded_ratio": ratio(loaded, total),
            "eta_seconds": integer(info, "loading_eta_seconds"),
        }
    return {
        "version": info.get("redis_version"),
        "mode": info.get("redis_mode"),
        "config_file": info.get("config_file") or None,
        "uptime_seconds": integer(info, "uptime_in_seconds"),
        "loading": loading,
    }


def load(first, info, seconds):
    """Work done in the interval. ``cpu_ratio`` is of one core: commands run in one thread."""
    cpu = None
    for fields in (("used_cpu_user_main_thread", "used_cpu_sys_main_thread"), ("used_cpu_user", "used_cpu_sys")):
        parts = [difference(decimal(info, name), decimal(first, name)) for name in fields]
        if None not in parts:
            cpu = round(sum(parts) / seconds, 4)
            break
    calls = difference(integer(info, "total_commands_processed"), integer(first, "total_commands_processed"))
    fork = integer(info, "latest_fork_usec")
    return {
        "interval_seconds": round(seconds, 3),
        "operations_per_second": None if calls is None else round(calls / seconds, 3),
        "cpu_ratio": cpu,
        "latest_fork_seconds": None if fork is None else fork / 1e6,
    }


def lookups(first, info, seconds):
    """Hits and misses, in the interval and since the start of the counters, without those of INSPECTING."""
    counts = [_lookup_counts(each) for each in (first, info)]
    interval = [difference(later, earlier) for earlier, later in zip(*counts)]
    return {
        "interval": dict(_hit_ratio(*interval), seconds=round(seconds, 3)),
        "since_start": _hit_ratio(*counts[1]),
    }


def _lookup_counts(info):
    hits, misses = integer(info, "keyspace_hits"), integer(info, "keyspace_misses")
    if hits is not None:
        hits = max(0, hits - sum(int(pairs(info.get(name)).get("calls", 0)) for name in INSPECTING))
    return hits, misses


def _hit_ratio(hits, misses):
    count = None if hits is None or misses is None else hits + misses
    return {"hit_count": hits, "miss_count": misses, "lookup_count": count, "ratio": ratio(hits, count)}


def evictions(first, info, seconds):
    """Keys that were evicted for memory and that expired, in the interval and since the start."""
    evicted, expired = integer(info, "evicted_keys"), integer(info, "expired_keys")
    in_interval = difference(evicted, integer(first, "evicted_keys"))
    expired_in_interval = difference(expired, integer(first, "expired_keys"))
    return {
        "evicted_count": evicted,
        "evicted_in_interval": in_interval,
        "evicted_per_second": None if in_interval is None else round(in_interval / seconds, 3),
        "expired_count": expired,
        "expired_per_second": None if expired_in_interval is None else round(expired_in_interval / seconds, 3),
        "policy": info.get("maxmemory_policy"),
    }


def commands(first, info, seconds, top):
    """The commands that took the server's time in the interval, most first, then those that took it since the start."""
    rows = []
    for name, value in info.items():
        if not name.startswith("cmdstat_"):
            continue
        later, earlier = pairs(value), pairs(first.get(name))
        calls = difference(int(later.get("calls", 0)), int(earlier.get("calls", 0)))
        spent = difference(int(later.get("usec", 0)), int(earlier.get("usec", 0))) / 1e6
        rows.append(
            {
                "command": name[len("cmdstat_") :],
                "calls": calls,
                "calls_per_second": round(calls / seconds, 3),
                "seconds": spent,
                "seconds_per_call": round(spent / calls, 9) if calls else None,
                "busy_ratio": round(spent / seconds, 6),
                "failed_calls": difference(int(later.get("failed_calls", 0)), int(earlier.get("failed_calls", 0))),
                "total_calls": int(later.get("calls", 0)),
                "total_seconds": int(later.get("usec", 0)) / 1e6,
            }
        )
    rows.sort(key=lambda row: (-row["seconds"], -row["total_seconds"]))
    return {"interval_seconds": round(seconds, 3), "top": rows[:top], "total": len(rows)}


def errors(first, info, seconds, top):
    """Error replies by their first word: OOM, NOAUTH, WRONGPASS, NOPERM, MISCONF, ..."""
    rows = []
    for name, value in info.items():
        if name.startswith("errorstat_"):
            count = int(pairs(value).get("count", 0))
            before = int(pairs(first.get(name)).get("count", 0))
            rows.append(
                {
                    "error": name[len("errorstat_") :],
                    "count": count,
                    "in_interval": difference(count, before),
                    "per_second": round(max(0, count - before) / seconds, 3),
                }
            )
    rows.sort(key=lambda row: (-row["in_interval"], -row["count"]))
    return rows[:top]


def slow_log(entries, length, settings, now, show, top):
    """The newest entries of the slow log. A negative threshold means that it is off: ``threshold_seconds`` is null."""
    micros = integer(settings, "slowlog-log-slower-than")
    rows = [slow_entry(entry, now, show) for entry in entries]
    return {
        "threshold_seconds": None if micros is None or micros < 0 else micros / 1e6,
        "length": length,
        "entries": rows[:top],
        "commands": slow_commands(rows)[:top],
    }


def slow_commands(rows):
    """The entries of the slow log by command, the slowest first."""
    commands = {}
    for row in rows:
        worst = commands.get(row["command"])
        if worst is None:
            # Entries come newest first.
            worst = commands[row["command"]] = dict(row, entry_count=0, latest_age_seconds=row["age_seconds"])
        if row["seconds"] > worst["seconds"]:
            worst.update(row)
        worst["entry_count"] += 1
    return sorted(
        (
            {
                "command": row["command"],
                "entry_count": row["entry_count"],
                "latest_age_seconds": row["latest_age_seconds"],
                "worst_seconds": row["seconds"],
                "worst_line": row["line"],
            }
            for row in commands.values()
        ),
        key=lambda row: -row["worst_seconds"],
    )


def slow_entry(entry, now, show):
    words = entry[3]
    return {
        "id": entry[0],
        "at": float(entry[1]),
        "age_seconds": age(now, entry[1]),
        "seconds": entry[2] / 1e6,
        "command": readable(words[0]).upper() if words else "",
        "line": command_line(words, show),
        "client": readable(entry[4]) if len(entry) > 4 else None,
        "client_name": (readable(entry[5]) or None) if len(entry) > 5 else None,
    }


def command_line(words, show):
    """A command cut to a length a person reads; where names are to be hidden, only how many arguments it had."""
    if not words:
        return ""
    if not show:
        return "%s (%d arguments)" % (readable(words[0]).upper(), len(words) - 1)
    shown = [cut(readable(word[: 4 * ARGUMENT_LENGTH]), ARGUMENT_LENGTH) for word in words[:COMMAND_LENGTH]]
    return cut(" ".join(shown), COMMAND_LENGTH)


def latency(reply, settings, now):
    """The latest and worst of each latency event. ``threshold_seconds`` is null where the monitor is off."""
    millis = integer(settings, "latency-monitor-threshold")
    events = [
        {
            "event": readable(each[0]),
            "at": float(each[1]),
            "age_seconds": age(now, each[1]),
            "latest_seconds": each[2] / 1000.0,
            "worst_seconds": each[3] / 1000.0,
        }
        for each in reply
    ]
    events.sort(key=lambda event: -event["worst_seconds"])
    return {"threshold_seconds": millis / 1000.0 if millis else None, "events": events}


def persistence(info, settings, now):
    """State of snapshots (``rdb``) and of the append-only file (``aof``)."""
    save = settings.get("save")
    saved = integer(info, "rdb_last_save_time")
    return {
        "rdb": {
            "enabled": None if save is None else bool(save.strip()),
            "last_status": info.get("rdb_last_bgsave_status"),
            "last_save_at": None if saved is None else float(saved),
            "last_save_age_seconds": age(now, saved),
            "changes_since_save": integer(info, "rdb_changes_since_last_save"),
            "last_seconds": nothing_yet(integer(info, "rdb_last_bgsave_time_sec")),
            "in_progress": _flag(info, "rdb_bgsave_in_progress"),
            "current_seconds": nothing_yet(integer(info, "rdb_current_bgsave_time_sec")),
        },
        "aof": {
            "enabled": _flag(info, "aof_enabled"),
            "last_write_status": info.get("aof_last_write_status"),
            "last_rewrite_status": info.get("aof_last_bgrewrite_status"),
            "rewrite_in_progress": _flag(info, "aof_rewrite_in_progress"),
            "size_bytes": integer(info, "aof_current_size"),
            "base_bytes": integer(info, "aof_base_size"),
            "pending_fsyncs": integer(info, "aof_pending_bio_fsync"),
            "delayed_fsyncs": integer(info, "aof_delayed_fsync"),
        },
    }


def _flag(info, name):
    value = integer(info, name)
    return None if value is None else bool(value)


def clients(first, info, listing, top):
    """Connections against maxclients, refused and blocked ones, and the clients with the largest buffers.

    ``listing`` is the reply to CLIENT LIST, null where it was not asked or refused.
    """
    connected, most = integer(info, "connected_clients"), integer(info, "maxclients")
    refused = integer(info, "rejected_connections")
    rows = None if listing is None else [client_row(line) for line in listing.decode("utf-8", "replace").splitlines()]
    blocked = integer(info, "blocked_clients")
    return {
        "connected_count": connected,
        "max_count": most,
        "use_ratio": ratio(connected, most),
        "blocked_count": blocked,
        "blocked_ratio": ratio(blocked, connected),
        "longest_blocked_seconds": (
            None if rows is None else max([row["idle_seconds"] or 0 for row in rows if row["blocked"]], default=0)
        ),
        "rejected_count": refused,
        "rejected_in_interval": difference(refused, integer(first, "rejected_connections")),
        "evicted_count": integer(info, "evicted_clients"),
        "buffers": None if rows is None else sorted(rows, key=lambda row: -(row["total_bytes"] or 0))[:top],
    }


def client_row(line):
    fields = dict(part.partition("=")[::2] for part in line.split(" ") if "=" in part)
    flags = fields.get("flags", "")
    kind = "replica" if "S" in flags else "primary" if "M" in flags else "pubsub" if "P" in flags else "normal"
    return {
        "id": integer(fields, "id"),
        "address": fields.get("addr"),
        "client_name": fields.get("name") or None,
        "user": fields.get("user"),
        "kind": kind,
        "blocked": "b" in flags,
        "command": fields.get("cmd"),
        "age_seconds": integer(fields, "age"),
        "idle_seconds": integer(fields, "idle"),
        "output_bytes": integer(fields, "omem"),
        "query_bytes": integer(fields, "qbuf"),
        "total_bytes": integer(fields, "tot-mem"),
    }


def replication(info):
    """The link to the primary of a replica, and the lag of each replica of a primary."""
    role = {"slave": "replica", "master": "primary"}.get(info.get("role"), info.get("role"))
    written = integer(info, "master_repl_offset")
    replica = role == "replica"
    return {
        "role": role,
        "link_up": info.get("master_link_status") == "up" if replica else None,
        "link_down_seconds": nothing_yet(integer(info, "master_link_down_since_seconds")),
        "last_io_seconds": nothing_yet(integer(info, "master_last_io_seconds_ago")),
        "sync_in_progress": _flag(info, "master_sync_in_progress"),
        "primary": "%s:%s" % (info.get("master_host"), info.get("master_port")) if replica else None,
        "replicas": [
            replica_row(pairs(value), written)
            for name, value in sorted(info.items())
            if name.startswith("slave") and name[5:].isdigit()
        ],
    }


def replica_row(fields, written):
    return {
        "address": "%s:%s" % (fields.get("ip"), fields.get("port")),
        "state": fields.get("state"),
        "lag_seconds": integer(fields, "lag"),
        "lag_bytes": difference(written, integer(fields, "offset")),
    }
