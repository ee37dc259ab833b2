# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Redis server's memory is used for, and what bounds it. Private to this collection."""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    Unknown,
    reached,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process as process
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import (
    CONNECTION_SPEC,
    ReplyError,
    connect,
    not_reached,
    permission,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import (
    databases,
    decimal,
    integer,
    parse_info,
    ratio,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_keyspace import distribution
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_survey import (
    BUSY,
    DEADLINE,
    QUESTIONS,
    Limits,
    survey,
)

ARGUMENT_SPEC = dict(
    CONNECTION_SPEC,
    distribution={"type": "str", "choices": ["sampled", "whole", "none"], "default": "sampled"},
    prefix_separator={"type": "str", "default": ":"},
    show_key_names={"type": "bool", "default": True},
    max_calls={"type": "int", "default": 3000},
    max_load={"type": "float", "default": 0.25},
)

PARTS = ("server", "memory", "fragmentation", "databases", "distribution")

# What is left of the deadline for anything but reading keys.
RESERVE_SECONDS = 1.0

SEPARATOR = ":"
# A sample of fewer commands than this tells nothing.
CALLS_LEAST = 100

# Sizes of Redis' own tables: a pointer for each slot, a node for each key that expires.
SLOT_BYTES = 8
NODE_BYTES = 24


def measure(options):
    """The measurement of the module redis_memory (its RETURN documents it). Raises BadOption."""
    try:
        client = connect(options)
        return _measure(client, options)
    except CannotConnect as exc:
        return not_reached(PARTS, exc)


def _measure(client, options):
    unknown = Unknown()
    parts = dict.fromkeys(PARTS)
    try:
        info = parse_info(client.ask("INFO"))
    except ReplyError as exc:
        for part in PARTS:
            unknown.add(part, exc, client.hint(exc, "INFO"))
        return reached(parts, unknown)
    pid = process.local_pid(client, info)
    parts["databases"] = databases(info)
    parts["server"] = server(info, pid)
    parts["memory"] = memory(info, parts["databases"], process.memory_limit(pid) if pid else None)
    parts["fragmentation"] = fragmentation(info)
    try:
        parts["distribution"] = _distribution(client, info, parts["databases"], options, unknown)
    except ReplyError as exc:
        unknown.add("distribution", exc, client.hint(exc, "SCAN"))
    except CannotConnect as exc:
        unknown.add("distribution", exc)
    return reached(parts, unknown)


def _distribution(client, info, found, options, unknown):
    started = time.monotonic()
    _check(options)
    separator = options["prefix_separator"] or SEPARATOR
    whole = options["distribution"] == "whole"
    wanted = found if options["distribution"] != "none" else []
    left = client.deadline.remaining()
    limits = Limits(
        None if whole else options["max_calls"], options["max_load"], Deadline(max(left / 2, left - RESERVE_SECONDS))
    )
    result = survey(client, wanted, whole, separator, options["top"], limits)
    if len(result.whole) < len(wanted) and not any(result.seen.values()) and not result.denied:
        reasons = {
            BUSY: "the server or this host is busy: a step of a few keys took %.1f s" % result.longest_step,
            DEADLINE: "not measured (0.0 s of the deadline left)",
        }
        unknown.add("distribution", reasons.get(result.ended, "no key was found with %d commands" % result.calls))
        return None
    _note_denied(client, result, unknown)
    options = dict(options, prefix_separator=separator)
    return distribution(result, found, keyspace_bytes(info, found), options, time.monotonic() - started)


def _check(options):
    """Raise BadOption for limits with which nothing can be read."""
    if options["max_calls"] < CALLS_LEAST:
        raise BadOption("max_calls: %d is less than %d" % (options["max_calls"], CALLS_LEAST))
    if not 0 < options["max_load"] <= 1:
        raise BadOption("max_load: %s is not above 0 and at most 1" % options["max_load"])


def _note_denied(client, result, unknown):
    """Name the parts of the distribution that lack what the user may not do, with one hint for all of it."""
    rules = {"select": "+select", "keys": "%R~*"}
    rules.update({column: "+" + permission(words) for column, words in QUESTIONS.items()})
    hint = client.grant(*[rules[name] for name in rules if name in result.denied])
    parts = {
        "bytes": ("distribution.prefixes", "distribution.biggest_keys", "distribution.*", "distribution.bytes"),
        "ttl": ("distribution.prefixes", "distribution.ttl"),
        "type": ("distribution.type",),
        "keys": ("distribution.prefixes.*", "distribution.biggest_keys.*", "distribution.*"),
        "select": ("distribution.prefixes.*", "distribution.biggest_keys.*", "distribution.*"),
    }
    for name, exc in result.denied.items():
        for part in parts[name]:
            unknown.add(part, exc, hint)


def server(info, pid):
    return {
        "version": info.get("redis_version"),
        "mode": info.get("redis_mode"),
        "role": info.get("role"),
        "config_file": info.get("config_file") or None,
        "uptime_seconds": integer(info, "uptime_in_seconds"),
        "local_pid": pid,
    }


def memory(info, found, group_limit):
    """The part ``memory``. ``group_limit`` is the limit of the control group in bytes, null where none is known."""
    used, most = integer(info, "used_memory"), integer(info, "maxmemory")
    counted = None if used is None else used - (integer(info, "mem_not_counted_for_evict") or 0)
    policy = info.get("maxmemory_policy")
    system = integer(info, "total_system_memory")
    limits = [(size, source) for size, source in ((group_limit, "cgroup"), (system, "system")) if size]
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
        "key_count": key_count,
        "evictable_count": evictable,
        "evictable_ratio": ratio(evictable, key_count),
        "evicted_count": integer(info, "evicted_keys"),
        "expired_count": integer(info, "expired_keys"),
    }


def evictable_count(policy, found):
    """How many keys the policy may evict: all, those with a time to live, or none."""
    if not policy:
        return None
    if policy.startswith("allkeys-"):
        return sum(each["key_count"] for each in found)
    if policy.startswith("volatile-"):
        return sum(each["expiring_count"] for each in found)
    return 0


def fragmentation(info):
    """Why the process takes more memory than the data in it: one row for each cause, with its bytes.

    ``allocator``: pages of the allocator that are partly filled (active defragmentation mends it). ``allocator_rss``:
    free pages that the allocator keeps (MEMORY PURGE). ``process_rss``: what the process holds beside the allocator.
    ``swap``: data that is not resident; less is resident than is used. ``peak``: what was used once and is free now.
    """
    used, rss, peak = (integer(info, name) for name in ("used_memory", "used_memory_rss", "used_memory_peak"))
    rows = [
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


def keyspace_bytes(info, found):
    """What keys and values take by the server's own account, its tables left out; null where INFO lacks it.

    Against this the sum of MEMORY USAGE over all keys comes to 0.9 to 1.0 (measured on Redis 7.0 and 8.0).
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


def slots(count):
    """The slots of a hash table of ``count`` entries: the next power of two."""
    return 1 << max(0, count - 1).bit_length() if count else 0


def total(info, *names):
    """The sum of the fields the server reports; null where it reports none."""
    values = [integer(info, name) for name in names]
    return None if all(value is None for value in values) else sum(value or 0 for value in values)
