# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a Redis server serves: answers, look-ups, commands, persistence, clients, replication.

Private to this collection.
"""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Unknown, reached
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process as process
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_service as service
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import (
    CONNECTION_SPEC,
    ReplyError,
    connect,
    not_reached,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import integer, parse_info

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
    "host",
)

# CLIENT LIST builds its whole reply at once: 1,000 clients are about 350 KB and 2 ms of the server's time.
CLIENTS_MOST = 5000

# As many as the server keeps by default (slowlog-max-len).
SLOW_ENTRIES = 128
# Where all of these are our own, so many are read to see others behind them.
SLOW_ENTRIES_MOST = 1000

# What is read from INFO.
OF_INFO = (
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
    "host",
)

# The counters that are sampled twice, in one command: the server counts what we send as well.
SAMPLE = ("INFO", "default", "commandstats", "errorstats")
# The same for a server that takes one section only.
SAMPLE_OF_OLD = ("INFO", "all")


def measure(options):
    """The measurement of the module redis_health_info (its RETURN documents it). Raises BadOption."""
    try:
        client = connect(options)
        return _measure(client, options)
    except CannotConnect as exc:
        return not_reached(PARTS, exc)


def _measure(client, options):
    unknown = Unknown()
    parts = dict.fromkeys(PARTS, None)
    parts["redis_cli"] = client.redis_cli
    if client.ping["status"]:
        parts["ping"] = client.ping
    else:
        unknown.add("ping", client.ping["message"], client.grant("+ping"))
    first, info = _sampled(client, options, parts, unknown)
    try:
        _ask_the_rest(client, info, first, options, parts, unknown)
    except CannotConnect as exc:
        for part in PARTS:
            if parts[part] is None:
                unknown.add(part, exc)
    return reached(parts, unknown)


def _sampled(client, options, parts, unknown):
    """Fill in the parts that are read from INFO. Returns its two readings, empty where it is refused."""
    try:
        first, sample = _first_sample(client)
        started = time.monotonic()
        time.sleep(min(options["sample_seconds"], client.deadline.remaining() / 2))
        info = parse_info(client.ask(*sample))
    except ReplyError as exc:
        for part in OF_INFO:
            unknown.add(part, exc, client.hint(exc, "INFO"))
        return {}, {}
    seconds = service.between(first, info, time.monotonic() - started)
    top = options["top"]
    parts["identity"] = service.identity(info)
    parts["server"] = service.server(info)
    parts["load"] = service.load(first, info, seconds)
    parts["lookups"] = service.lookups(first, info, seconds)
    parts["evictions"] = service.evictions(first, info, seconds)
    parts["commands"] = service.commands(first, info, seconds, top)
    parts["errors"] = service.errors(first, info, seconds, top)
    parts["host"] = service.host(process.kernel() if process.local_pid(client, info) else None)
    return first, info


def _first_sample(client):
    """The counters, and the command that reads them."""
    try:
        return parse_info(client.ask(*SAMPLE)), SAMPLE
    except ReplyError as exc:
        if exc.code != "ERR":
            raise
        return parse_info(client.ask(*SAMPLE_OF_OLD)), SAMPLE_OF_OLD


def _ask_the_rest(client, info, first, options, parts, unknown):
    now = service.server_time(info)
    settings = _settings(client, unknown)
    own = _slow_log(client, now, settings, options, parts, unknown)
    try:
        parts["latency"] = service.latency(client.ask("LATENCY", "LATEST"), settings, now, own)
        if now is None:
            _note_ages(client, "latency.events", unknown)
    except ReplyError as exc:
        unknown.add("latency", exc, client.hint(exc, "LATENCY", "LATEST"))
    if not info:
        return
    parts["persistence"] = service.persistence(info, settings, now)
    parts["replication"] = service.replication(info)
    parts["clients"] = service.clients(first, info, _client_list(client, info, unknown), options["top"])


def _settings(client, unknown):
    """The settings that thresholds of the server are in: name -> text; empty where CONFIG GET is refused."""
    names = ("slowlog-log-slower-than", "slowlog-max-len", "latency-monitor-threshold", "save")
    try:
        reply = client.ask("CONFIG", "GET", *names)
    except ReplyError as exc:
        hint = client.hint(exc, "CONFIG", "GET")
        for part in ("slow_log.threshold_seconds", "latency.threshold_seconds", "persistence.rdb.*"):
            unknown.add(part, exc, hint)
        return {}
    words = [word.decode("utf-8", "replace") for word in reply]
    return dict(zip(words[::2], words[1::2]))


def _slow_log(client, now, settings, options, parts, unknown):
    """Fill in the part ``slow_log``. Returns the entries that are ours."""
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
    parts["slow_log"] = service.slow_log(entries, length, settings, now, options["show_key_names"], options["top"])
    if now is None:
        _note_ages(client, "slow_log.commands", unknown)
    elif parts["slow_log"]["commands"] is None and service.is_on(settings) is None:
        reason, hint = "whether the slow log is on is not known: CONFIG GET is refused", client.grant("+config|get")
        unknown.add("slow_log.commands", reason, hint)
    elif parts["slow_log"]["commands"] is None:
        hint = "Turn it on: `%s`" % client.command(
            "CONFIG", "SET", "slowlog-log-slower-than", 10000, "slowlog-max-len", 128
        )
        unknown.add("slow_log.commands", "the slow log is off", hint)
    return [entry for entry in entries if service.is_own(entry)]


def _note_ages(client, part, unknown):
    unknown.add(part, "the server's clock is in INFO, which is refused", client.grant("+info"))


def _client_list(client, info, unknown):
    connected = integer(info, "connected_clients") or 0
    if connected > CLIENTS_MOST:
        reason = "%d clients: a list of more than %d stalls the server" % (connected, CLIENTS_MOST)
        unknown.add("clients.buffers", reason)
        return None
    try:
        return client.ask("CLIENT", "LIST")
    except ReplyError as exc:
        unknown.add("clients.buffers", exc, client.hint(exc, "CLIENT", "LIST"))
        return None
