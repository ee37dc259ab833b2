# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a Redis server serves: answers, look-ups, commands, persistence, clients, replication.

Private to this collection.
"""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Unknown,
    reached,
    unreachable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process as process
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_service as service
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import CONNECTION_SPEC, ReplyError, connect
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import integer, parse_info

ARGUMENT_SPEC = dict(
    CONNECTION_SPEC,
    sample_seconds={"type": "float", "default": 1.0},
    show_key_names={"type": "bool", "default": True},
)

PARTS = (
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
    "host",
)

# CLIENT LIST builds its whole reply at once: 1,000 clients are about 350 KB and 2 ms of the server's time.
CLIENTS_MOST = 5000

# As many as the server keeps by default (slowlog-max-len).
SLOW_ENTRIES = 128

# What is read from INFO.
OF_INFO = ("server", "load", "lookups", "evictions", "commands", "errors", "persistence", "clients", "replication")

# The counters that are sampled twice.
SAMPLE = (("INFO",), ("INFO", "commandstats"), ("INFO", "errorstats"))


def measure(options):
    """The measurement of the module redis_health_info (its RETURN documents it). Raises BadOption."""
    try:
        client = connect(options)
        return _measure(client, options)
    except CannotConnect as exc:
        return unreachable(PARTS, exc)


def _measure(client, options):
    unknown = Unknown()
    parts = dict.fromkeys(PARTS, None)
    parts["ping"] = client.ping
    started = time.monotonic()
    earlier = client.ask_all(SAMPLE)
    time.sleep(min(options["sample_seconds"], client.deadline.remaining() / 2))
    later = client.ask_all(SAMPLE)
    seconds = time.monotonic() - started
    refused = [reply for reply in earlier + later if isinstance(reply, ReplyError)]
    if refused:
        for part in OF_INFO:
            unknown.add(part, refused[0])
        info = {}
    else:
        first, info = [dict(parse_info(reply[0]), **parse_info(reply[1])) for reply in (earlier, later)]
        pid = process.find(client, info)
        parts["server"] = service.server(info)
        parts["load"] = service.load(first, info, seconds)
        parts["lookups"] = service.lookups(first, info, seconds)
        parts["evictions"] = service.evictions(first, info, seconds)
        parts["commands"] = service.commands(first, info, seconds, options["top"])
        parts["errors"] = service.errors(parse_info(earlier[2]), parse_info(later[2]), seconds, options["top"])
        parts["host"] = process.kernel() if pid else None
    try:
        _ask_the_rest(client, info, first if info else {}, options, parts, unknown)
    except CannotConnect as exc:
        unknown.add("connection", exc)
    return reached(parts, unknown)


def _ask_the_rest(client, info, first, options, parts, unknown):
    now = service.server_time(info)
    settings = _settings(client, unknown)
    replies = client.ask_all([("SLOWLOG", "GET", SLOW_ENTRIES), ("SLOWLOG", "LEN"), ("LATENCY", "LATEST")])
    failed = [reply for reply in replies[:2] if isinstance(reply, ReplyError)]
    if failed:
        unknown.add("slow_log", failed[0])
    else:
        show, top = options["show_key_names"], options["top"]
        parts["slow_log"] = service.slow_log(replies[0], replies[1], settings, now, show, top)
    if isinstance(replies[2], ReplyError):
        unknown.add("latency", replies[2])
    else:
        parts["latency"] = service.latency(replies[2], settings, now)
    if not info:
        return
    parts["persistence"] = service.persistence(info, settings, now)
    parts["replication"] = service.replication(info)
    parts["clients"] = service.clients(first, info, _client_list(client, info, unknown), options["top"])


def _settings(client, unknown):
    """The settings that thresholds of the server are in: name -> text; empty where CONFIG GET is refused."""
    names = ("slowlog-log-slower-than", "latency-monitor-threshold", "save")
    found = {}
    for name, reply in zip(names, client.ask_all([("CONFIG", "GET", name) for name in names])):
        if isinstance(reply, ReplyError):
            unknown.add("settings", reply)
            return {}
        if reply:
            found[name] = reply[1].decode("utf-8", "replace")
    return found


def _client_list(client, info, unknown):
    connected = integer(info, "connected_clients") or 0
    if connected > CLIENTS_MOST:
        reason = "%d clients: a list of more than %d stalls the server" % (connected, CLIENTS_MOST)
        unknown.add("clients.buffers", reason)
        return None
    try:
        return client.ask("CLIENT", "LIST")
    except ReplyError as exc:
        unknown.add("clients.buffers", exc)
        return None
