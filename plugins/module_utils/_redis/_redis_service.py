# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of redis_health_info, made of what the server replied. Pure functions. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import CLIENT_NAME
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_command_line import command_line
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import (
    decimal,
    difference,
    integer,
    pairs,
    ratio,
    readable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_names import shown

# Commands that look a key up without reading its value, as redis_memory does for each key it looks at. The server
# counts them as hits (seen on Redis 7.0 and 8.0); they are taken off again.
INSPECTING = ("cmdstat_type", "cmdstat_pttl", "cmdstat_object|idletime")

# What we send between the two readings of the counters: the second reading counts the first.
OWN_CALLS = {"info": 1}

CLIENT_LENGTH = 100


def server_time(info):
    """The server's clock, epoch seconds; null where unknown."""
    micros = integer(info, "server_time_usec")
    return None if micros is None else micros / 1e6


def between(first, info, seconds):
    """The seconds between two readings by the server's clock; ``seconds``, as measured here, where it does not tell."""
    micros = difference(integer(info, "server_time_usec"), integer(first, "server_time_usec"))
    return micros / 1e6 if micros else seconds


def age(now, moment):
    return None if now is None or moment is None else round(max(0.0, now - moment), 3)


def nothing_yet(value):
    """Null for the -1 with which Redis says that there has been none."""
    return None if value is None or value < 0 else value


def identity(info) -> str | None:
    """What tells this server from all others, until it is started again; null where it does not tell."""
    return "redis:%s" % info["run_id"] if info.get("run_id") else None


def host(kernel):
    """The settings of the kernel, null where the server's process is not on this host (``kernel`` is null)."""
    settings = kernel or {"transparent_hugepage": None, "overcommit_memory": None}
    return dict(settings, local=kernel is not None)


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
    if calls is not None:
        calls = max(0, calls - sum(OWN_CALLS.values()))
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
        command = name[len("cmdstat_") :]
        others = max(0, calls - OWN_CALLS.get(command, 0))
        # The time of our calls among those of others is taken to be the same.
        calls, spent = others, spent * others / calls if calls else 0.0
        rows.append(
            {
                "command": command,
                "calls": calls,
                "calls_per_second": round(calls / seconds, 3),
                "seconds": round(spent, 6),
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
                    # (The first word of what a script says is in its author's hands.)
                    "error": shown(name[len("errorstat_") :].encode("utf-8"), CLIENT_LENGTH),
                    "count": count,
                    "in_interval": difference(count, before),
                    "per_second": round(max(0, count - before) / seconds, 3),
                }
            )
    rows.sort(key=lambda row: (-row["in_interval"], -row["count"]))
    return rows[:top]


def slow_log(entries, length, settings, now, show, top):
    """The newest entries of the slow log that are not ours.

    A negative threshold means that it is off: ``threshold_seconds`` is null. ``commands`` is null where their age is
    not known, or where there are no entries and the log is off, or may be.
    """
    micros = integer(settings, "slowlog-log-slower-than")
    rows = [slow_entry(entry, now, show) for entry in entries if not is_own(entry)]
    known = now is not None and (bool(entries) or is_on(settings) is True)
    return {
        "threshold_seconds": None if micros is None or micros < 0 else micros / 1e6,
        "length": length,
        "own_count": len(entries) - len(rows),
        "entries": rows[:top],
        "commands": slow_commands(rows)[:top] if known else None,
    }


def is_on(settings) -> bool | None:
    """Whether the slow log is kept; null where the settings are not known."""
    micros = integer(settings, "slowlog-log-slower-than")
    if micros is None:
        return None
    return micros >= 0 and integer(settings, "slowlog-max-len") != 0


def is_own(entry) -> bool:
    """Whether an entry of the slow log comes from this collection, in this run or an earlier one."""
    return len(entry) > 5 and entry[5] == CLIENT_NAME.encode("ascii")


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
        "command": shown(words[0], CLIENT_LENGTH).upper() if words else "",
        "line": command_line(words, show),
        "client": readable(entry[4]) if len(entry) > 4 else None,
        "client_name": (shown(entry[5], CLIENT_LENGTH) or None) if len(entry) > 5 else None,
    }


def latency(reply, settings, now, own=()):
    """The latest and worst of each latency event. ``threshold_seconds`` is null where the monitor is off.

    ``own`` are our entries of the slow log. A command of ours that the monitor has noted is left out: what an earlier
    one of others was is not known then.
    """
    ours = {(entry[1], entry[2] // 1000) for entry in own}
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
        if not (each[0] in (b"command", b"fast-command") and (each[1], each[2]) in ours)
    ]
    events.sort(key=lambda event: -event["worst_seconds"])
    # Without the server's clock there are no ages: INFO has it.
    return {"threshold_seconds": millis / 1000.0 if millis else None, "events": None if now is None else events}


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
    rows = None if listing is None else client_rows(listing)
    blocked = integer(info, "blocked_clients")
    return {
        "connected_count": connected,
        "max_count": most,
        "use_ratio": ratio(connected, most),
        "blocked_count": blocked,
        "blocked_ratio": ratio(blocked, connected),
        "longest_blocked_seconds": None if rows is None else max(map(_blocked_seconds, rows), default=0),
        "rejected_count": refused,
        "rejected_in_interval": difference(refused, integer(first, "rejected_connections")),
        "evicted_count": integer(info, "evicted_clients"),
        "buffers": None if rows is None else [client_row(row) for row in sorted(rows, key=_total_bytes)[-top:][::-1]],
    }


def client_rows(listing: bytes):
    """The fields of each client in a reply to CLIENT LIST, without the clients of this collection."""
    # (A name has no spaces and no line feeds; it may have other characters that text.splitlines() ends a line at.)
    lines = [line for line in listing.split(b"\n") if line]
    own = b" name=%s " % CLIENT_NAME.encode("ascii")
    return [_fields(line) for line in lines if own not in line]


def _fields(line: bytes):
    parts = [part.partition(b"=") for part in line.split(b" ")]
    return {name.decode("ascii", "replace"): value for name, _equals, value in parts}


def _total_bytes(fields):
    return integer(fields, "tot-mem") or 0


def _blocked_seconds(fields):
    return (integer(fields, "idle") or 0) if b"b" in fields.get("flags", b"") else 0


def client_row(fields):
    flags = _text(fields, "flags") or ""
    kind = "replica" if "S" in flags else "primary" if "M" in flags else "pubsub" if "P" in flags else "normal"
    return {
        "id": integer(fields, "id"),
        "address": _text(fields, "addr"),
        "client_name": _text(fields, "name") or None,
        "user": _text(fields, "user"),
        "kind": kind,
        "blocked": "b" in flags,
        "command": _text(fields, "cmd"),
        "age_seconds": integer(fields, "age"),
        "idle_seconds": integer(fields, "idle"),
        "output_bytes": integer(fields, "omem"),
        "query_bytes": integer(fields, "qbuf"),
        "total_bytes": integer(fields, "tot-mem"),
    }


def _text(fields, name):
    return None if name not in fields else shown(fields[name], CLIENT_LENGTH)


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
