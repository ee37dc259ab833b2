# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ACL rules that the area cache needs."""

from __future__ import annotations

from tests.rights import Right

OF_KEYS = ("big_key", "distribution_partial", "keys_without_ttl", "unnamed_keys_without_ttl")


def right(name: str, *unknown: str) -> Right:
    """Return the right for an ACL rule. The hint quotes the rule for the shell if needed."""
    return Right("cache", name, grant=name, unknown=unknown)


RIGHTS = [
    right("%R~*", *OF_KEYS, "stream_pending"),
    right("+ping", "not_serving"),
    right(
        "+info",
        *OF_KEYS,
        "aof_failed",
        "blocked_clients",
        "client_buffers",
        "clients_used",
        "cluster_node",
        "cluster_state",
        "command_busy",
        "cpu",
        "error_replies",
        "eviction_impossible",
        "evictions",
        "fragmentation",
        "hit_ratio",
        "intrusion_signs",
        "latency_events",
        "maxmemory_above_limit",
        "maxmemory_unset",
        "memory_used",
        "open_without_password",
        "peak_memory",
        "rdb_save_failed",
        "rdb_save_old",
        "rejected_connections",
        "replica_lag",
        "replication_link_down",
        "slow_commands",
        "stream_pending",
        "too_few_replicas",
        "transparent_hugepages",
    ),
    right("+config|get", "intrusion_signs", "rdb_save_old", "slow_commands"),
    right("+slowlog|get", "slow_commands"),
    right("+slowlog|len"),
    right("+latency|latest", "latency_events"),
    right("+client|list", "client_buffers"),
    right("+select", *OF_KEYS, "stream_pending"),
    right("+scan", *OF_KEYS, "stream_pending"),
    right("+memory|usage", *OF_KEYS),
    right("+pttl", "keys_without_ttl", "unnamed_keys_without_ttl"),
    right("+type", "stream_pending"),
    right("+xinfo|groups", "stream_pending"),
    right("+xpending", "stream_pending"),
    # Of clusters only.
    right("+cluster|info"),
    right("+cluster|nodes"),
]
