# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the parts of redis_health_info from replies of the server. Pure functions. Private to this collection.

``first`` and ``info`` are two readings of INFO, ``seconds`` the interval between them, and ``now`` the server's clock
(null if INFO is denied).
"""

from __future__ import annotations

from typing import Any, Iterable, List, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import CLIENT_NAME
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_command_line import command_line
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import (
    decimal,
    difference,
    increase,
    integer,
    pairs,
    ratio,
    readable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_names import shown
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import (
    AnyFields,
    Fields,
    KernelSettings,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# An entry of SLOWLOG GET: id, time, microseconds, words, client address, client name.
SlowEntry = List[Any]

# Commands that look up a key without reading its value; redis_memory sends them for each key. The server counts them as
# hits (Redis 7.0 and 8.0), so their calls are subtracted.
INSPECTING = ("cmdstat_type", "cmdstat_pttl", "cmdstat_object|idletime")

# Calls of this collection between the two readings of the counters: the second reading counts the first.
OWN_CALLS = {"info": 1}

CLIENT_LENGTH = 100
# Names of clients of one address.
NAMES_MOST = 3


def server_time(info: Fields) -> float | None:
    """Return the server's clock in epoch seconds; null if unknown."""
    micros = integer(info, "server_time_usec")
    return None if micros is None else micros / 1e6


def interval_seconds(first: Fields, info: Fields, seconds: float) -> float:
    """Return the interval between two readings by the server's clock; ``seconds`` if INFO does not have the clock."""
    micros = difference(integer(info, "server_time_usec"), integer(first, "server_time_usec"))
    return micros / 1e6 if micros else seconds


def age(now: float | None, moment: float | None) -> float | None:
    """Return the seconds since ``moment``, at least 0; null if either is unknown."""
    return None if now is None or moment is None else round(max(0.0, now - moment), 3)


def unless_negative(value: int | None) -> int | None:
    """Return the value, or null for -1: Redis reports -1 where nothing has happened yet."""
    return None if value is None or value < 0 else value


def read_identity(info: Fields) -> str | None:
    """Return the identity of the server, which changes at a restart; null if INFO does not have it."""
    return "redis:%s" % info["run_id"] if info.get("run_id") else None


def build_host(kernel: KernelSettings | None, container: str | None = None, project: str | None = None) -> Part:
    """Return the part ``host``. ``kernel`` is null if the server's process is not on this host."""
    settings: KernelSettings = kernel or {"transparent_hugepage": None, "overcommit_memory": None}
    return dict(settings, local=kernel is not None, container=container, project=project, data_device=None)


def build_server(info: Fields) -> Part:
    """Return the part ``server``. ``loading`` is null unless the server loads its data from disk."""
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


def build_load(first: Fields, info: Fields, seconds: float) -> Part:
    """Return the part ``load``. ``cpu_ratio`` is of one core: commands run in one thread."""
    cpu = None
    for fields in (("used_cpu_user_main_thread", "used_cpu_sys_main_thread"), ("used_cpu_user", "used_cpu_sys")):
        used = [(decimal(first, name), decimal(info, name)) for name in fields]
        spent = [max(0.0, later - earlier) for earlier, later in used if earlier is not None and later is not None]
        if len(spent) == len(used):
            cpu = round(sum(spent) / seconds, 4)
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


def build_lookups(first: Fields, info: Fields, seconds: float) -> Part:
    """Return the part ``lookups``: hits and misses without those of the INSPECTING commands."""
    hits_before, misses_before = _lookup_counts(first)
    hits, misses = _lookup_counts(info)
    interval = _hit_ratio(difference(hits, hits_before), difference(misses, misses_before))
    return {"interval": dict(interval, seconds=round(seconds, 3)), "since_start": _hit_ratio(hits, misses)}


def _lookup_counts(info: Fields) -> tuple[int | None, int | None]:
    hits, misses = integer(info, "keyspace_hits"), integer(info, "keyspace_misses")
    if hits is not None:
        hits = max(0, hits - sum(int(pairs(info.get(name)).get("calls", 0)) for name in INSPECTING))
    return hits, misses


def _hit_ratio(hits: int | None, misses: int | None) -> Part:
    count = None if hits is None or misses is None else hits + misses
    return {"hit_count": hits, "miss_count": misses, "lookup_count": count, "ratio": ratio(hits, count)}


def build_evictions(first: Fields, info: Fields, seconds: float) -> Part:
    """Return the part ``evictions``: evicted and expired keys, in the interval and since the start."""
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


def build_commands(first: Fields, info: Fields, seconds: float, top: int) -> Part:
    """Return the part ``commands``, ordered by the time they took in the interval, then since the start."""
    rows: list[Part] = []
    for name, value in info.items():
        if not name.startswith("cmdstat_"):
            continue
        later, earlier = pairs(value), pairs(first.get(name))
        calls = increase(int(later.get("calls", 0)), int(earlier.get("calls", 0)))
        spent = increase(int(later.get("usec", 0)), int(earlier.get("usec", 0))) / 1e6
        command = name[len("cmdstat_") :]
        others = max(0, calls - OWN_CALLS.get(command, 0))
        # The calls of this collection are assumed to take as long as the others.
        calls, spent = others, spent * others / calls if calls else 0.0
        rows.append(
            {
                "command": command,
                "calls": calls,
                "calls_per_second": round(calls / seconds, 3),
                "seconds": round(spent, 6),
                "seconds_per_call": round(spent / calls, 9) if calls else None,
                "busy_ratio": round(spent / seconds, 6),
                "failed_calls": increase(int(later.get("failed_calls", 0)), int(earlier.get("failed_calls", 0))),
                "total_calls": int(later.get("calls", 0)),
                "total_seconds": int(later.get("usec", 0)) / 1e6,
            }
        )
    rows.sort(key=lambda row: (-row["seconds"], -row["total_seconds"]))
    return {"interval_seconds": round(seconds, 3), "top": rows[:top], "total": len(rows)}


def build_errors(first: Fields, info: Fields, seconds: float, top: int) -> list[Part]:
    """Return the part ``errors``: error replies by their first word (OOM, NOAUTH, WRONGPASS, NOPERM, MISCONF, ...)."""
    rows: list[Part] = []
    for name, value in info.items():
        if name.startswith("errorstat_"):
            count = int(pairs(value).get("count", 0))
            before = int(pairs(first.get(name)).get("count", 0))
            rows.append(
                {
                    # A script can reply with any first word.
                    "error": shown(name[len("errorstat_") :].encode("utf-8"), CLIENT_LENGTH),
                    "count": count,
                    "in_interval": increase(count, before),
                    "per_second": round(max(0, count - before) / seconds, 3),
                }
            )
    rows.sort(key=lambda row: (-row["in_interval"], -row["count"]))
    return rows[:top]


def build_slow_log(
    entries: Sequence[SlowEntry], length: int | None, settings: Fields, now: float | None, show: bool, top: int
) -> Part:
    """Return the part ``slow_log``, without the entries of this collection.

    ``threshold_seconds`` is null if the log is off (a negative threshold). ``commands`` is null if their age is
    unknown, or if there are no entries and the log is off or its setting is unknown.
    """
    micros = integer(settings, "slowlog-log-slower-than")
    rows = [_slow_row(entry, now, show) for entry in entries if not is_own(entry)]
    known = now is not None and (bool(entries) or is_on(settings) is True)
    return {
        "threshold_seconds": None if micros is None or micros < 0 else micros / 1e6,
        "length": length,
        "own_count": len(entries) - len(rows),
        "entries": rows[:top],
        "commands": _slow_commands(rows)[:top] if known else None,
    }


def is_on(settings: Fields) -> bool | None:
    """Return whether the slow log is on; null if its settings are unknown."""
    micros = integer(settings, "slowlog-log-slower-than")
    if micros is None:
        return None
    return micros >= 0 and integer(settings, "slowlog-max-len") != 0


def is_own(entry: SlowEntry) -> bool:
    """Return whether an entry of the slow log is a command of this collection, of this run or an earlier one."""
    return len(entry) > 5 and entry[5] == CLIENT_NAME.encode("ascii")


def _slow_commands(rows: Iterable[Part]) -> list[Part]:
    """Return the rows of the slow log by command, the slowest first."""
    commands: dict[str, Part] = {}
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


def _slow_row(entry: SlowEntry, now: float | None, show: bool) -> Part:
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


def build_latency(
    reply: Iterable[list[Any]], settings: Fields, now: float | None, own: Iterable[SlowEntry] = ()
) -> Part:
    """Return the part ``latency`` from LATENCY LATEST. ``threshold_seconds`` is null if the monitor is off.

    ``own`` are the entries of the slow log of this collection. An event whose latest command is one of them is left
    out: the earlier commands of the event are unknown.
    """
    own_commands = {(entry[1], entry[2] // 1000) for entry in own}
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
        if not (each[0] in (b"command", b"fast-command") and (each[1], each[2]) in own_commands)
    ]
    events.sort(key=lambda event: -event["worst_seconds"])
    # Without the server's clock (INFO) there are no ages.
    return {"threshold_seconds": millis / 1000.0 if millis else None, "events": None if now is None else events}


def build_persistence(info: Fields, settings: Fields, now: float | None) -> Part:
    """Return the part ``persistence``: snapshots (``rdb``) and the append-only file (``aof``)."""
    save = settings.get("save")
    started = integer(info, "rdb_last_save_time")
    has_saved = has_saved_since_start(info, now)
    # Until the first snapshot, Redis reports the time of its start.
    saved = None if has_saved is False else started
    return {
        "rdb": {
            "enabled": None if save is None else bool(save.strip()),
            "last_status": info.get("rdb_last_bgsave_status"),
            "saved_since_start": has_saved,
            "unsaved_seconds": age(now, started),
            "last_save_at": None if saved is None else float(saved),
            "last_save_age_seconds": age(now, saved),
            "changes_since_save": integer(info, "rdb_changes_since_last_save"),
            "last_seconds": unless_negative(integer(info, "rdb_last_bgsave_time_sec")),
            "in_progress": _flag(info, "rdb_bgsave_in_progress"),
            "current_seconds": unless_negative(integer(info, "rdb_current_bgsave_time_sec")),
        },
        "files": {
            "directory": _setting(settings, "dir"),
            "file_name": _setting(settings, "dbfilename"),
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


def has_saved_since_start(info: Fields, now: float | None) -> bool | None:
    """Return whether a snapshot has succeeded since the start of the server; null if unknown.

    Redis counts attempts. So after a failure, the time of the last snapshot is compared with that of the start.
    """
    attempts, status = integer(info, "rdb_saves"), info.get("rdb_last_bgsave_status")
    if attempts == 0 or status == "ok":
        return None if attempts is None else attempts > 0
    saved, uptime = integer(info, "rdb_last_save_time"), integer(info, "uptime_in_seconds")
    if saved is None or uptime is None or now is None:
        return None
    return saved > now - uptime + 1


def _setting(settings: Fields, name: str) -> str | None:
    return None if name not in settings else shown(settings[name].encode("utf-8"))


def _flag(info: Fields, name: str) -> bool | None:
    value = integer(info, name)
    return None if value is None else bool(value)


def build_clients(first: Fields, info: Fields, listing: bytes | None, top: int) -> Part:
    """Return the part ``clients``. ``listing`` is the reply to CLIENT LIST; null if it was not sent or is denied."""
    connected, most = integer(info, "connected_clients"), integer(info, "maxclients")
    rejected = integer(info, "rejected_connections")
    rows = None if listing is None else _parse_clients(listing)
    blocked = integer(info, "blocked_clients")
    return {
        "connected_count": connected,
        "max_count": most,
        "use_ratio": ratio(connected, most),
        "blocked_count": blocked,
        "blocked_ratio": ratio(blocked, connected),
        "waiting_for_replicas_count": None if rows is None else sum(map(_waits_for_replicas, rows)),
        "longest_blocked_seconds": None if rows is None else max(map(_blocked_seconds, rows), default=0),
        "rejected_count": rejected,
        "rejected_in_interval": difference(rejected, integer(first, "rejected_connections")),
        "evicted_count": integer(info, "evicted_clients"),
        "buffers": None if rows is None else _buffer_rows(rows)[:top],
        "addresses": None if rows is None else _address_rows(rows)[:top],
    }


def _waits_for_replicas(row: dict[str, bytes]) -> bool:
    return b"b" in row.get("flags", b"") and row.get("cmd") in (b"wait", b"waitaof")


def _grouped(
    rows: Iterable[dict[str, bytes]], names: Sequence[str]
) -> dict[tuple[str | None, ...], list[dict[str, bytes]]]:
    """Return the clients by the address without its port, and by these fields of their rows."""
    groups: dict[tuple[str | None, ...], list[dict[str, bytes]]] = {}
    for fields in rows:
        row = _client_row(fields)
        groups.setdefault((_host(row["address"]), *(row[name] for name in names)), []).append(fields)
    return groups


def _host(address: str | None) -> str | None:
    """Return an address without its port; that of a client on a Unix socket is the path."""
    return None if address is None else address.rpartition(":")[0].strip("[]") or address


def _buffer_rows(rows: Iterable[dict[str, bytes]]) -> list[Part]:
    """Return the memory of clients that are alike, those that take most first."""
    found = []
    for (host, name, user, kind), group in _grouped(rows, ("client_name", "user", "kind")).items():
        largest = _client_row(max(group, key=_total_bytes))
        found.append(
            {
                "address": host,
                "client_name": name,
                "user": user,
                "kind": kind,
                "client_count": len(group),
                "output_bytes": sum(integer(each, "omem") or 0 for each in group),
                "total_bytes": sum(map(_total_bytes, group)),
                "largest": largest,
            }
        )
    return sorted(found, key=lambda row: -row["total_bytes"])


def _address_rows(rows: Iterable[dict[str, bytes]]) -> list[Part]:
    """Return the clients by address, the most first."""
    found = []
    for (host,), group in _grouped(rows, ()).items():
        names = sorted({_text(each, "name") or "" for each in group} - {""})
        found.append(
            {
                "address": host,
                "client_count": len(group),
                "blocked_count": sum(b"b" in each.get("flags", b"") for each in group),
                "client_names": names[:NAMES_MOST],
                "least_idle_seconds": min(integer(each, "idle") or 0 for each in group),
                "most_idle_seconds": max(integer(each, "idle") or 0 for each in group),
            }
        )
    return sorted(found, key=lambda row: (-row["client_count"], row["address"] or ""))


def _parse_clients(listing: bytes) -> list[dict[str, bytes]]:
    """Return the fields of each client in a reply to CLIENT LIST, without the clients of this collection."""
    # A name has no spaces and no line feeds, but can have other characters at which splitlines() ends a line.
    lines = [line for line in listing.split(b"\n") if line]
    own = b" name=%s " % CLIENT_NAME.encode("ascii")
    return [_fields(line) for line in lines if own not in line]


def _fields(line: bytes) -> dict[str, bytes]:
    parts = [part.partition(b"=") for part in line.split(b" ")]
    return {name.decode("ascii", "replace"): value for name, _equals, value in parts}


def _total_bytes(fields: AnyFields) -> int:
    return integer(fields, "tot-mem") or 0


def _blocked_seconds(fields: dict[str, bytes]) -> int:
    return (integer(fields, "idle") or 0) if b"b" in fields.get("flags", b"") else 0


def _client_row(fields: dict[str, bytes]) -> Part:
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


def _text(fields: dict[str, bytes], name: str) -> str | None:
    return None if name not in fields else shown(fields[name], CLIENT_LENGTH)


def build_replication(info: Fields, settings: Fields) -> Part:
    """Return the part ``replication``: the link of a replica to its primary, and the replicas of this server.

    Redis counts the good replicas only if it rejects writes without them.
    """
    role = {"slave": "replica", "master": "primary"}.get(info.get("role", ""), info.get("role"))
    written = integer(info, "master_repl_offset")
    replica = role == "replica"
    return {
        "role": role,
        "link_up": info.get("master_link_status") == "up" if replica else None,
        "link_down_seconds": unless_negative(integer(info, "master_link_down_since_seconds")),
        "last_io_seconds": unless_negative(integer(info, "master_last_io_seconds_ago")),
        "sync_in_progress": _flag(info, "master_sync_in_progress"),
        "primary": "%s:%s" % (info.get("master_host"), info.get("master_port")) if replica else None,
        "replicas": [
            _replica_row(pairs(value), written)
            for name, value in sorted(info.items())
            if name.startswith("slave") and name[5:].isdigit()
        ],
        "good_replicas": integer(info, "min_slaves_good_slaves"),
        "min_replicas_to_write": integer(settings, "min-replicas-to-write"),
    }


def _replica_row(fields: Fields, written: int | None) -> Part:
    return {
        "address": "%s:%s" % (fields.get("ip"), fields.get("port")),
        "state": fields.get("state"),
        "lag_seconds": integer(fields, "lag"),
        "lag_bytes": difference(written, integer(fields, "offset")),
    }
