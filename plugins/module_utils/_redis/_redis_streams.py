# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure the consumer groups of Redis streams. Private to this collection."""

from __future__ import annotations

import time
from typing import Any, Iterable, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import parse_info
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_names import is_plain, key_name, shown
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_survey import Limits
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Database
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

SCAN_COUNT = 500
# Streams whose groups are read.
STREAMS_MOST = 200
# Commands of a pipeline.
BATCH = 50


class Stream(NamedTuple):
    """A stream that was found."""

    database: int
    name: bytes


class Found(NamedTuple):
    """The streams that were found, and whether there may be others."""

    streams: list[Stream]
    partial: bool


def find_streams(client: Client, databases: Iterable[Database], limits: Limits) -> Found:
    """Return the streams of the databases. Raises ReplyError and CannotConnect."""
    streams: dict[Stream, None] = {}
    for each in sorted(databases, key=lambda database: database["key_count"]):
        client.select(each["database"])
        cursor = 0
        while True:
            started = time.monotonic()
            reply = client.ask("SCAN", cursor, "COUNT", SCAN_COUNT)
            cursor, names = int(reply[0]), reply[1]
            # SCAN with TYPE would count as a hit for each key, and nothing shows how many.
            kinds = client.ask_all([("TYPE", name) for name in names])
            for name, kind in zip(names, kinds):
                if isinstance(kind, ReplyError):
                    raise kind
                if kind == b"stream":
                    streams[Stream(each["database"], name)] = None
            if cursor == 0:
                break
            if len(streams) > STREAMS_MOST or limits.deadline.expired():
                return Found(list(streams)[:STREAMS_MOST], True)
            limits.pause(time.monotonic() - started)
    return Found(list(streams)[:STREAMS_MOST], len(streams) > STREAMS_MOST)


def uses_streams(client: Client) -> bool:
    """Return whether clients have used streams since the start of the counters. Raises ReplyError and CannotConnect."""
    return any(name.startswith(("cmdstat_xadd", "cmdstat_xread", "cmdstat_xack")) for name in _statistics(client))


def _statistics(client: Client) -> Iterable[str]:
    return parse_info(client.ask("INFO", "commandstats"))


def read_groups(client: Client, streams: Iterable[Stream], options: Options) -> tuple[list[Part], int]:
    """Return the consumer groups with most pending entries, and the number of all groups.

    Raises ReplyError if a command is denied, and CannotConnect. A key that is no longer a stream is left out.
    """
    groups: list[tuple[Stream, dict[str, Any]]] = []
    for stream, reply in _ask_each(client, [(each, ("XINFO", "GROUPS", each.name)) for each in streams]):
        if not isinstance(reply, ReplyError):
            groups.extend(
                (stream, dict(zip([name.decode() for name in fields[::2]], fields[1::2]))) for fields in reply
            )
    groups.sort(key=lambda each: -each[1]["pending"])
    top = groups[: options["top"]]
    asked = [
        ((stream, group), ("XPENDING", stream.name, group["name"], "-", "+", 1))
        for stream, group in top
        if group["pending"]
    ]
    # The oldest entry by its id, which was delivered first.
    oldest = {
        (stream.database, stream.name, group["name"]): reply[0]
        for (stream, group), reply in _ask_each(client, asked)
        if not isinstance(reply, ReplyError) and reply
    }
    rows = [
        _group_row(stream, group, oldest.get((stream.database, stream.name, group["name"])), options)
        for stream, group in top
    ]
    return rows, len(groups)


def _ask_each(client: Client, commands: list[tuple[Any, tuple[Any, ...]]]) -> Iterable[tuple[Any, Any]]:
    """Yield what each command is about, with its reply. Raises ReplyError if one is denied."""
    for start in range(0, len(commands), BATCH):
        batch = commands[start : start + BATCH]
        by_database: dict[int, list[tuple[Any, tuple[Any, ...]]]] = {}
        for about, command in batch:
            stream = about if isinstance(about, Stream) else about[0]
            by_database.setdefault(stream.database, []).append((about, command))
        for database, entries in by_database.items():
            client.select(database)
            for (about, _command), reply in zip(entries, client.ask_all([command for _about, command in entries])):
                if isinstance(reply, ReplyError) and (reply.denied_command or reply.denied_key):
                    raise reply
                yield about, reply


def _group_row(stream: Stream, group: dict[str, Any], oldest: list[Any] | None, options: Options) -> Part:
    separator = options["prefix_separator"].encode("utf-8")
    return {
        "database": stream.database,
        "stream": key_name(stream.name, separator, options["show_key_names"]),
        "group": shown(group["name"]),
        "is_exact": options["show_key_names"] and is_plain(stream.name) and is_plain(group["name"]),
        "consumer_count": group["consumers"],
        "pending_count": group["pending"],
        # Null if entries were deleted, and before Redis 7.0.
        "undelivered_count": group.get("lag"),
        "oldest_idle_seconds": oldest[2] / 1000.0 if oldest else None,
        "oldest_deliveries": oldest[3] if oldest else None,
        "oldest_consumer": shown(oldest[1]) if oldest else None,
    }
