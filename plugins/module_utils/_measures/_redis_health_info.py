# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure how a Redis server serves its clients. Private to this collection."""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import container_and_project
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Unknown,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_access as access
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_cluster as cluster
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process as process
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_sentinel as sentinel
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_service as service
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import (
    CONNECTION_SPEC,
    Client,
    ReplyError,
    connect,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import integer, parse_info
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_service import SlowEntry
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Command, Fields
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC = dict(
    CONNECTION_SPEC,
    sample_seconds={"type": "float", "default": 1.0},
    show_key_names={"type": "bool", "default": True},
)

PARTS = (
    "identity",
    "redis_cli",
    "ping",
    "server",
    "load",
    "lookups",
    "evictions",
    "commands",
    "errors",
    "slow_log",
    "latency",
    "persistence",
    "clients",
    "replication",
    "cluster",
    "access",
    "host",
)

# CLIENT LIST builds its reply in one piece: 1,000 clients are about 350 KB and 2 ms of the server's time.
CLIENTS_MOST = 5000

# Parts that are read from CLIENT LIST.
CLIENT_PARTS = ("clients.buffers", "clients.addresses")

# The default of slowlog-max-len.
SLOW_ENTRIES = 128
# Read if all of those are commands of this collection, to find others behind them.
SLOW_ENTRIES_MOST = 1000

# Parts that are read from INFO.
INFO_PARTS = (
    "identity",
    "server",
    "load",
    "lookups",
    "evictions",
    "commands",
    "errors",
    "persistence",
    "clients",
    "replication",
    "cluster",
    "access",
    "host",
)

# Reads the counters in one command: the server counts the commands of this collection too.
SAMPLE = ("INFO", "default", "commandstats", "errorstats")
# The same for a server that accepts one section only (before Redis 7.0).
SAMPLE_ALL = ("INFO", "all")


def measure(options: Options) -> Measurement:
    """Return the measurement of the module redis_health_info. Raises BadOption."""
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
    parts["redis_cli"] = client.redis_cli
    if client.ping["status"]:
        parts["ping"] = client.ping
    else:
        unknown.add("ping", client.ping["message"], client.grant("+ping"))
    first, info = _sample_counters(client, options, parts, unknown)
    try:
        _read_other_parts(client, info, first, options, parts, unknown)
    except CannotConnect as exc:
        for part in PARTS:
            if parts[part] is None:
                unknown.add(part, exc)
    return reached(parts, unknown)


def _sample_counters(client: Client, options: Options, parts: Part, unknown: Unknown) -> tuple[Fields, Fields]:
    """Read INFO twice and fill in the parts made of it. Return the two readings, empty if INFO is denied."""
    try:
        first, sample = _read_first_sample(client)
        started = time.monotonic()
        time.sleep(min(options["sample_seconds"], client.deadline.remaining() / 2))
        info = parse_info(client.ask(*sample))
    except ReplyError as exc:
        for part in INFO_PARTS:
            unknown.add(part, exc, client.hint(exc, "INFO"))
        return {}, {}
    seconds = service.interval_seconds(first, info, time.monotonic() - started)
    top = options["top"]
    parts["identity"] = service.read_identity(info)
    parts["server"] = service.build_server(info)
    parts["load"] = service.build_load(first, info, seconds)
    parts["lookups"] = service.build_lookups(first, info, seconds)
    parts["evictions"] = service.build_evictions(first, info, seconds)
    parts["commands"] = service.build_commands(first, info, seconds, top)
    parts["errors"] = service.build_errors(first, info, seconds, top)
    pid = process.local_pid(client, info)
    here = (process.kernel(), *container_and_project(pid)) if pid else (None,)
    parts["host"] = service.build_host(*here)
    return first, info


def _read_first_sample(client: Client) -> tuple[Fields, Command]:
    """Return the counters, and the command that read them."""
    try:
        return parse_info(client.ask(*SAMPLE)), SAMPLE
    except ReplyError as exc:
        if exc.code != "ERR":
            raise
        return parse_info(client.ask(*SAMPLE_ALL)), SAMPLE_ALL


def _read_other_parts(
    client: Client, info: Fields, first: Fields, options: Options, parts: Part, unknown: Unknown
) -> None:
    """Fill in the parts that need other commands than INFO."""
    now = service.server_time(info)
    settings = _settings(client, unknown)
    own = _slow_log(client, now, settings, options, parts, unknown)
    try:
        parts["latency"] = service.build_latency(client.ask("LATENCY", "LATEST"), settings, now, own)
        if now is None:
            _add_unknown_ages(client, "latency.events", unknown)
    except ReplyError as exc:
        unknown.add("latency", exc, client.hint(exc, "LATENCY", "LATEST"))
    if not info:
        return
    parts["persistence"] = service.build_persistence(info, settings, now)
    parts["host"]["data_device"] = process.device(client.local_pid, parts["persistence"]["files"]["directory"])
    parts["replication"] = service.build_replication(info, settings)
    parts["clients"] = service.build_clients(first, info, _client_list(client, info, unknown), options["top"])
    parts["cluster"] = _cluster(client, info, options, unknown)
    # Last, and after the second reading of the counters: a rejected log-in counts as an error reply.
    parts["access"] = access.measure(client, options, settings, process.local_pid(client, info))


def _cluster(client: Client, info: Fields, options: Options, unknown: Unknown) -> Part | None:
    """Return the part ``cluster``; null if it is denied."""
    if not integer(info, "cluster_enabled"):
        return cluster.build(False, {}, [], options["top"])
    try:
        state = parse_info(client.ask("CLUSTER", "INFO"))
    except ReplyError as exc:
        unknown.add("cluster", exc, client.hint(exc, "CLUSTER", "INFO"))
        return None
    try:
        nodes = cluster.parse_nodes(client.ask("CLUSTER", "NODES"))
    except ReplyError as exc:
        hint = client.hint(exc, "CLUSTER", "NODES")
        for part in ("cluster.failing_nodes", "cluster.missing_slots"):
            unknown.add(part, exc, hint)
        nodes = None
    return cluster.build(True, state, nodes, options["top"])


def _settings(client: Client, unknown: Unknown) -> Fields:
    """Return the settings of the server that the parts need: name -> text; empty if CONFIG GET is denied."""
    names = (
        "slowlog-log-slower-than",
        "slowlog-max-len",
        "latency-monitor-threshold",
        "save",
        "dir",
        "dbfilename",
        "bind",
        "protected-mode",
        "min-replicas-to-write",
    )
    try:
        reply = client.ask("CONFIG", "GET", *names)
    except ReplyError as exc:
        hint = client.hint(exc, "CONFIG", "GET")
        for part in (
            "slow_log.threshold_seconds",
            "latency.threshold_seconds",
            "persistence.rdb.*",
            "persistence.files.*",
            "replication.min_replicas_to_write",
            "access.*",
        ):
            unknown.add(part, exc, hint)
        return {}
    words = [word.decode("utf-8", "replace") for word in reply]
    return dict(zip(words[::2], words[1::2]))


def _slow_log(
    client: Client, now: float | None, settings: Fields, options: Options, parts: Part, unknown: Unknown
) -> list[SlowEntry]:
    """Fill in the part ``slow_log`` and return the entries of this collection."""
    try:
        entries = client.ask("SLOWLOG", "GET", SLOW_ENTRIES)
        if len(entries) == SLOW_ENTRIES and all(service.is_own(entry) for entry in entries):
            entries = client.ask("SLOWLOG", "GET", SLOW_ENTRIES_MOST)
    except ReplyError as exc:
        unknown.add("slow_log", exc, client.hint(exc, "SLOWLOG", "GET"))
        return []
    length = None
    try:
        length = client.ask("SLOWLOG", "LEN")
    except ReplyError as exc:
        unknown.add("slow_log.length", exc, client.hint(exc, "SLOWLOG", "LEN"))
    slow_log = service.build_slow_log(entries, length, settings, now, options["show_key_names"], options["top"])
    parts["slow_log"] = slow_log
    if now is None:
        _add_unknown_ages(client, "slow_log.commands", unknown)
    elif slow_log["commands"] is None and service.is_on(settings) is None:
        reason = "the slow log is empty and CONFIG GET is denied, so it may be off"
        unknown.add("slow_log.commands", reason, client.grant("+config|get"))
    elif slow_log["commands"] is None:
        hint = "Turn it on: `%s`" % client.command(
            "CONFIG", "SET", "slowlog-log-slower-than", 10000, "slowlog-max-len", 128
        )
        unknown.add("slow_log.commands", "the slow log is off", hint)
    return [entry for entry in entries if service.is_own(entry)]


def _add_unknown_ages(client: Client, part: str, unknown: Unknown) -> None:
    unknown.add(part, "the server's clock is unknown: INFO is denied", client.grant("+info"))


def _client_list(client: Client, info: Fields, unknown: Unknown) -> bytes | None:
    """Return the reply to CLIENT LIST; null if it is denied, or would be too long."""
    connected = integer(info, "connected_clients") or 0
    if connected > CLIENTS_MOST:
        reason = "%d clients: CLIENT LIST of more than %d blocks the server" % (connected, CLIENTS_MOST)
        for part in CLIENT_PARTS:
            unknown.add(part, reason)
        return None
    try:
        return client.ask("CLIENT", "LIST")
    except ReplyError as exc:
        for part in CLIENT_PARTS:
            unknown.add(part, exc, client.hint(exc, "CLIENT", "LIST"))
        return None
