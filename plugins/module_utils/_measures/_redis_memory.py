# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure the memory of a Redis server: its use, its limits, and its keys. Private to this collection."""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    Unknown,
    out_of_time,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process as process
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_sentinel as sentinel
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_streams as streams
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import (
    CONNECTION_SPEC,
    Client,
    ReplyError,
    connect,
    permission,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import (
    databases,
    decimal,
    integer,
    parse_info,
    ratio,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_keyspace import (
    Survey,
    build_distribution,
    large_from,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_survey import (
    BUSY,
    DEADLINE,
    QUERIES,
    Limits,
    search,
    survey,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Database, Fields
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC = dict(
    CONNECTION_SPEC,
    distribution={"type": "str", "choices": ["sampled", "whole", "none"], "default": "sampled"},
    prefix_separator={"type": "str", "default": ":"},
    show_key_names={"type": "bool", "default": True},
    max_calls={"type": "int", "default": 3000},
    max_load={"type": "float", "default": 0.25},
    search_keys={"type": "int", "default": 300000, "no_log": False},
    search_load={"type": "float", "default": 0.5},
    big_bytes={"type": "int", "default": 1048576},
)

PARTS = ("server", "memory", "fragmentation", "databases", "distribution", "stream_groups", "stream_groups_total")

# Seconds of the deadline that are not for reading keys.
RESERVE_SECONDS = 1.0

SEPARATOR = ":"
# A sample of fewer commands is of no use.
CALLS_LEAST = 100

# If the sample accounts for less of the memory than this, all keys are searched for large ones, whatever their number.
# A complete reading accounts for 0.9 to 1.0.
SEARCH_BELOW = 0.9

# Sizes in Redis' tables: a pointer for each slot, a node for each key that expires.
SLOT_BYTES = 8
NODE_BYTES = 24


def measure(options: Options) -> Measurement:
    """Return the measurement of the module redis_memory. Raises BadOption."""
    try:
        client = connect(options)
        if client.mode == sentinel.MODE:
            return sentinel.measurement(PARTS, client, options)
        return _measure(client, options)
    except CannotConnect as exc:
        return unreachable(PARTS, exc)


def _measure(client: Client, options: Options) -> Measurement:
    unknown = Unknown()
    parts: Part = dict.fromkeys(PARTS)
    try:
        info = parse_info(client.ask("INFO"))
    except ReplyError as exc:
        for part in PARTS:
            unknown.add(part, exc, client.hint(exc, "INFO"))
        return reached(parts, unknown)
    pid = process.local_pid(client, info)
    parts["databases"] = databases(info)
    parts["server"] = build_server(info, pid)
    groups = process.memory_groups(pid) if pid else []
    available = process.available_bytes(groups, integer(info, "used_memory_rss")) if pid else None
    parts["memory"] = build_memory(info, parts["databases"], process.memory_limit(groups), available)
    parts["fragmentation"] = build_fragmentation(info)
    try:
        parts["distribution"] = _read_distribution(client, info, parts["databases"], options, unknown)
    except ReplyError as exc:
        for part in ("distribution", "stream_groups"):
            unknown.add(part, exc, client.hint(exc, "SCAN"))
        return reached(parts, unknown)
    except CannotConnect as exc:
        unknown.add("distribution", exc)
    try:
        _read_streams(client, parts, options, unknown)
    except ReplyError as exc:
        unknown.add("stream_groups", exc, client.grant("%R~*", "+scan", "+select", "+xinfo|groups", "+xpending"))
    except CannotConnect as exc:
        unknown.add("stream_groups", exc)
    return reached(parts, unknown)


def _read_streams(client: Client, parts: Part, options: Options, unknown: Unknown) -> None:
    """Fill in the part ``stream_groups``. Raises ReplyError and CannotConnect.

    Streams are searched only if clients use them, or the sample has one.
    """
    parts.update(stream_groups=[], stream_groups_total=0)
    found: list[Database] = parts["databases"]
    if options["distribution"] == "none" or not found:
        return
    types = (parts["distribution"] or {}).get("types", ())
    if not any(row["type"] == "stream" for row in types) and not streams.uses_streams(client):
        return
    parts.update(stream_groups=None, stream_groups_total=None)
    denied = [entry for entry in unknown.parts if entry["part"] in ("distribution.type", "distribution.prefixes.*")]
    if denied:
        # The types cannot be read. The server logs each denial.
        unknown.add("stream_groups", denied[0]["reason"], denied[0].get("hint"))
        return
    left = client.deadline.remaining()
    limits = Limits(None, options["search_load"], Deadline(left / 2))
    result = streams.find_streams(client, found, limits)
    options = dict(options, prefix_separator=options["prefix_separator"] or SEPARATOR)
    parts["stream_groups"], parts["stream_groups_total"] = streams.read_groups(client, result.streams, options)
    if result.partial:
        reason = "not all streams were read: there are more than %d, or the deadline left too little time"
        unknown.add("stream_groups[...]", reason % streams.STREAMS_MOST)


def _read_distribution(
    client: Client, info: Fields, found: list[Database], options: Options, unknown: Unknown
) -> Part | None:
    """Read the keys and return the part ``distribution``; null if no key could be read.

    Raises BadOption, ReplyError and CannotConnect.
    """
    started = time.monotonic()
    _check_limits(options)
    separator = options["prefix_separator"] or SEPARATOR
    whole = options["distribution"] == "whole"
    wanted = found if options["distribution"] != "none" else []
    left = client.deadline.remaining()
    limits = Limits(
        None if whole else options["max_calls"], options["max_load"], Deadline(max(left / 2, left - RESERVE_SECONDS))
    )
    key_count = sum(each["key_count"] for each in found)
    keyspace = keyspace_bytes(info, found)
    result = Survey(separator, options["top"], large_from(keyspace, key_count), max(1, options["big_bytes"]))
    survey(client, wanted, whole, result, limits)
    if len(result.whole) < len(wanted) and not any(result.seen.values()) and not result.denied:
        unknown.add("distribution", _unknown_reason(result))
        return None
    _add_denied(client, result, unknown)
    options = dict(options, prefix_separator=separator)
    part = build_distribution(result, found, keyspace, options, time.monotonic() - started)
    left_out = [each for each in wanted if each["database"] not in result.whole]
    if whole or not left_out or not _needs_search(part, result, left_out, options):
        return part
    limits.load = options["search_load"]
    try:
        search(client, left_out, result, limits)
    except ReplyError as exc:
        unknown.add("distribution.searched", exc)
    return build_distribution(result, found, keyspace, options, time.monotonic() - started)


def _needs_search(part: Part, result: Survey, left_out: list[Database], options: Options) -> bool:
    """Return whether to search all keys of the databases ``left_out`` of which a sample was read."""
    if not options["search_keys"] or result.ended or result.denied or result.unread:
        return False
    explained = part["explained_ratio"]
    few = sum(each["key_count"] for each in left_out) <= options["search_keys"]
    return few or (explained is not None and explained < SEARCH_BELOW)


def _unknown_reason(result: Survey) -> str:
    """Return why a survey read no key."""
    if result.ended == BUSY:
        return "the server or this host is busy: a step of a few keys took %.1f s" % result.longest_step
    return out_of_time(0.0) if result.ended == DEADLINE else "no key was found with %d commands" % result.calls


def _check_limits(options: Options) -> None:
    """Raise BadOption for limits with which nothing can be read."""
    if options["max_calls"] < CALLS_LEAST:
        raise BadOption("max_calls: %d is less than %d" % (options["max_calls"], CALLS_LEAST))
    if not 0 < options["max_load"] <= 1:
        raise BadOption("max_load: %s is not above 0 and at most 1" % options["max_load"])
    if not 0 < options["search_load"] <= 1:
        raise BadOption("search_load: %s is not above 0 and at most 1" % options["search_load"])


def _add_denied(client: Client, result: Survey, unknown: Unknown) -> None:
    """Add the parts of the distribution that need denied commands to ``unknown``, with one hint for all of them."""
    rules = {"select": "+select", "keys": "%R~*"}
    rules.update({column: "+" + permission(words) for column, words in QUERIES.items()})
    hint = client.grant(*[rules[name] for name in rules if name in result.denied])
    parts = {
        "bytes": (
            "distribution.prefixes",
            "distribution.biggest_keys",
            "distribution.big_groups",
            "distribution.*",
            "distribution.bytes",
        ),
        "ttl": ("distribution.prefixes", "distribution.ttl"),
        "type": ("distribution.type",),
        "keys": (
            "distribution.prefixes.*",
            "distribution.biggest_keys.*",
            "distribution.big_groups.*",
            "distribution.*",
        ),
        "select": (
            "distribution.prefixes.*",
            "distribution.biggest_keys.*",
            "distribution.big_groups.*",
            "distribution.*",
        ),
    }
    for name, exc in result.denied.items():
        for part in parts[name]:
            unknown.add(part, exc, hint)


def build_server(info: Fields, pid: int | None) -> Part:
    """Return the part ``server``."""
    return {
        "version": info.get("redis_version"),
        "mode": info.get("redis_mode"),
        "role": info.get("role"),
        "config_file": info.get("config_file") or None,
        "uptime_seconds": integer(info, "uptime_in_seconds"),
        "local_pid": pid,
    }


def build_memory(
    info: Fields, found: list[Database], group_limit: int | None = None, available: int | None = None
) -> Part:
    """Return the part ``memory``.

    ``group_limit`` is the limit of the control group in bytes, ``available`` the memory that the server's process can
    have; null if unknown.
    """
    used, most = integer(info, "used_memory"), integer(info, "maxmemory")
    counted = None if used is None else used - (integer(info, "mem_not_counted_for_evict") or 0)
    policy = info.get("maxmemory_policy")
    system = integer(info, "total_system_memory")
    limits = [(size, source) for size, source in ((group_limit, "cgroup"), (system, "system")) if size]
    limit: int | None
    source: str | None
    limit, source = min(limits) if limits else (None, None)
    key_count = sum(each["key_count"] for each in found)
    evictable = evictable_count(policy, found)
    return {
        "used_bytes": used,
        "counted_bytes": counted,
        "rss_bytes": integer(info, "used_memory_rss"),
        "peak_bytes": integer(info, "used_memory_peak"),
        "dataset_bytes": integer(info, "used_memory_dataset"),
        "overhead_bytes": integer(info, "used_memory_overhead"),
        "startup_bytes": integer(info, "used_memory_startup"),
        "clients_bytes": integer(info, "mem_clients_normal"),
        "replication_bytes": total(info, "mem_clients_slaves", "mem_replication_backlog"),
        "aof_buffer_bytes": integer(info, "mem_aof_buffer"),
        "scripts_bytes": integer(info, "used_memory_scripts"),
        "maxmemory_bytes": most,
        "maxmemory_ratio": ratio(counted, most),
        "policy": policy,
        "limit_bytes": limit,
        "limit_source": source,
        "limit_ratio": ratio(integer(info, "used_memory_rss"), limit),
        "maxmemory_limit_ratio": ratio(most, limit),
        "system_bytes": system,
        "available_bytes": available,
        "key_count": key_count,
        "evictable_count": evictable,
        "evictable_ratio": ratio(evictable, key_count),
        "evicted_count": integer(info, "evicted_keys"),
        "expired_count": integer(info, "expired_keys"),
    }


def evictable_count(policy: str | None, found: list[Database]) -> int | None:
    """Return how many keys the policy may evict: all, those with a time to live, or none."""
    if not policy:
        return None
    if policy.startswith("allkeys-"):
        return sum(each["key_count"] for each in found)
    if policy.startswith("volatile-"):
        return sum(each["expiring_count"] for each in found)
    return 0


def build_fragmentation(info: Fields) -> list[Part]:
    """Return the part ``fragmentation``: why the process takes more memory than its data, one row for each cause.

    ``allocator``: partly filled pages of the allocator (active defragmentation reduces it). ``allocator_rss``: free
    pages that the allocator keeps (MEMORY PURGE releases them). ``process_rss``: memory of the process beside the
    allocator. ``swap``: data that is not resident. ``peak``: the highest use minus the current one.
    """
    used, rss, peak = (integer(info, name) for name in ("used_memory", "used_memory_rss", "used_memory_peak"))
    rows: list[Part] = [
        {"cause": cause, "ratio": decimal(info, field + "_ratio"), "bytes": integer(info, field + "_bytes")}
        for cause, field in (
            ("allocator", "allocator_frag"),
            ("allocator_rss", "allocator_rss"),
            ("process_rss", "rss_overhead"),
        )
    ]
    if used and rss is not None:
        rows.append({"cause": "swap", "ratio": ratio(used, rss), "bytes": max(0, used - rss)})
    if used and peak is not None:
        rows.append({"cause": "peak", "ratio": ratio(peak, used), "bytes": peak - used})
    return rows


def keyspace_bytes(info: Fields, found: list[Database]) -> int | None:
    """Return the memory of keys and values by the server's own account, without its tables; null if INFO lacks it.

    The sum of MEMORY USAGE over all keys is 0.9 to 1.0 of it (measured on Redis 7.0 and 8.0).
    """
    used = integer(info, "used_memory")
    if used is None:
        return None
    other = total(
        info,
        "used_memory_startup",
        "mem_clients_normal",
        "mem_clients_slaves",
        "mem_replication_backlog",
        "mem_aof_buffer",
        "mem_cluster_links",
        "used_memory_scripts",
    )
    tables = sum(
        slots(each["key_count"]) * SLOT_BYTES
        + slots(each["expiring_count"]) * SLOT_BYTES
        + each["expiring_count"] * NODE_BYTES
        for each in found
    )
    return max(0, used - (other or 0) - tables)


def slots(count: int) -> int:
    """Return the slots of a hash table of ``count`` entries: the next power of two."""
    return 1 << max(0, count - 1).bit_length() if count else 0


def total(info: Fields, *names: str) -> int | None:
    """Return the sum of the fields that the server reports; null if it reports none."""
    values = [integer(info, name) for name in names]
    return None if all(value is None for value in values) else sum(value or 0 for value in values)
