# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restores a Redis backup into a running server. Private to this collection.

The server is not stopped, and its files are not touched: with an append-only file, it would ignore an RDB file at its
start. Each database of the backup is copied from a scratch server, key by key (DUMP, RESTORE), into a database of the
server that is empty. When all are there and counted, one transaction (MULTI, SWAPDB, EXEC) exchanges them with the
live ones. At every moment a database is exactly the old or the new one, in memory, in the append-only file and on
replicas. The old one stays in the other database, with a key that says so (``PREVIOUS``): the undo exchanges them
again.

What a run that was killed has left is found in the server itself: a database with the key ``FILLING`` is no one's data.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _redis_contents
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._progress import Progress
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._redis_contents import PREVIOUS
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._redis_rdb import Counts
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._redis_snapshot import info
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_info
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Command, Reply

FILLING = "tracktion.ops:restore-in-progress"
# Keys of one round, and the bytes that one round should transfer.
MOST_KEYS, ROUND_BYTES = 500, 4 << 20
# Memory that the copy needs beside the values, for the buffers of the connection.
SPARE_BYTES = 16 << 20
NEVER = -1
# Instead of the backup, in the mark of what an undo has put aside.
UNDO_OF = "undo of "
# The default of Redis.
DATABASES = 16


class NotRestored(Failure):
    """The live data was not replaced. The message says why."""

    kind = "not_restored"


class Previous(NamedTuple):
    """What a restore has replaced: the database that holds it, and the one that it was."""

    restore: str
    backup: str
    replaced_at: float
    held_in: int
    database: int
    keys: int
    functions: bytes | None


class Plan(NamedTuple):
    """Which databases are replaced: live database -> empty database that the new one is built in."""

    spares: dict[int, int]
    leftovers: list[int]
    needed_bytes: int
    free_bytes: int | None


def check_server(client: Client, contents: Mapping[str, Any]) -> None:
    """Raise NotRestored if this server cannot take the backup, before anything is changed."""
    found = info(client, "server", "replication", "persistence", "cluster")
    version, wanted = found.get("redis_version") or "", str(contents.get("version") or "")
    if found.get("role") != "master":
        raise NotRestored(
            "the server is a replica of %s:%s" % (found.get("master_host"), found.get("master_port")),
            "Set `login_host` and `login_port` to that server.",
        )
    if found.get("cluster_enabled") == "1":
        raise NotRestored(
            "the server is a node of a cluster, which has one database only",
            "Load the file dump.rdb of the backup into a server without a cluster, and copy the keys from there:"
            " `redis-cli --cluster import HOST:PORT --cluster-from HOST:PORT --cluster-copy`",
        )
    if found.get("loading") == "1":
        raise NotRestored("the server is loading its data", "Wait until it has loaded: `redis-cli INFO persistence`")
    if client.ping["status"] == "misconf":
        raise NotRestored("the server rejects writes: %s" % client.ping["message"], "Free space on its disk: `df -h`")
    if _number(version) < _number(wanted):
        raise NotRestored(
            "the backup is of Redis %s, the server is Redis %s, which is older" % (wanted, version),
            "Start the server with the image or package of Redis %s." % wanted,
        )


def _number(version: str) -> tuple[int, ...]:
    """Return major and minor version: patch releases have the same format of values."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def plan(client: Client, contents: Mapping[str, Any], databases: Sequence[int] = ()) -> Plan:
    """Return what a restore would replace, and in which empty databases. Raises NotRestored."""
    live = {int(number): counts for number, counts in _redis_contents.keyspace(client).items()}
    leftovers = [number for number in live if _is_marked(client, number, FILLING)]
    held = [number for number in live if number not in leftovers and _is_marked(client, number, PREVIOUS)]
    not_live = set(contents.get("held_databases") or ())
    stored = {int(number) for number in contents["databases"]} - not_live
    unknown = sorted(set(databases) - stored)
    if unknown:
        raise NotRestored(
            "the backup has no database %s" % ", ".join(map(str, unknown)),
            "Set `databases` to some of %s." % ", ".join(map(str, sorted(stored))),
        )
    wanted = sorted(databases or stored | (set(live) - set(leftovers) - set(held)))
    total = _setting(client, contents, "databases") or DATABASES
    if wanted and wanted[-1] >= total:
        raise NotRestored(
            "the backup has database %d, the server has databases 0 to %d" % (wanted[-1], total - 1),
            "Set `databases %d` in redis.conf and restart the server." % (wanted[-1] + 1),
        )
    taken = set(wanted) | (set(live) - set(leftovers)) | stored
    empty = [number for number in range(total - 1, -1, -1) if number not in taken]
    if len(empty) < len(wanted):
        raise NotRestored(
            "the restore needs %d empty databases, the server has %d" % (len(wanted), len(empty)),
            _free_databases(client),
        )
    needed, free = _memory(client, contents)
    return Plan(dict(zip(wanted, empty)), leftovers, needed, free)


def _free_databases(client: Client) -> str:
    """Return how to get empty databases: remove what the oldest restore has replaced, or configure more."""
    found = previous(client)
    if not found:
        return "Raise `databases` in redis.conf and restart the server."
    drop = {"recovery_restore_products": ["redis"], "recovery_drop_old": found[-1].restore}
    command = "ansible-playbook tracktion.ops.restore -e %s" % shell_quote(json.dumps(drop))
    return "Clear what the oldest restore has replaced, if it is not needed any more: `%s`" % command


def _setting(client: Client, contents: Mapping[str, Any], name: str) -> int | None:
    try:
        reply = client.ask("CONFIG", "GET", name)
        return int(reply[1]) if len(reply) == 2 else None
    except ReplyError:
        text = (contents.get("settings") or {}).get(name, "")
        return int(text) if text.isdigit() else None


def _memory(client: Client, contents: Mapping[str, Any]) -> tuple[int, int | None]:
    """Return the bytes that the copy needs, and those below maxmemory; null without a limit. Raises NotRestored."""
    found = info(client, "memory")
    limit = _redis_info.integer(found, "maxmemory")
    used = _redis_info.integer(found, "used_memory")
    needed = int(contents.get("used_memory_bytes") or 0) + SPARE_BYTES
    if not limit or used is None:
        return needed, None
    if limit - used < needed:
        raise NotRestored(
            "the server needs memory for both copies: %d bytes, and has %d below maxmemory" % (needed, limit - used),
            "Raise it for the time of the restore: `%s`"
            % client.command("CONFIG", "SET", "maxmemory", str(used + needed + SPARE_BYTES)),
        )
    return needed, limit - used


def _is_marked(client: Client, database: int, key: str) -> bool:
    client.select(database)
    return bool(client.ask("EXISTS", key))


def fill(
    live: Client,
    scratch: Client,
    chosen: Plan,
    backup: str,
    contents: Mapping[str, Any],
    deadline: Deadline,
    progress: Progress,
) -> int:
    """Copy the databases of the scratch server into the empty ones, and count them; return the bytes that were sent.

    Raises NotRestored, after the copies were removed, CannotConnect.
    """
    evicted = _redis_info.integer(info(live, "stats"), "evicted_keys")
    for number in chosen.leftovers:
        _flush(live, number, FILLING)
    sent = 0
    progress.step("copy", contents.get("used_memory_bytes"))
    try:
        for database, spare in chosen.spares.items():
            _begin(live, spare, database, backup)
            sent = _copy(live, scratch, database, spare, deadline, progress, sent)
        _check_counts(live, chosen, contents)
        if _redis_info.integer(info(live, "stats"), "evicted_keys") != evicted:
            raise NotRestored(
                "the server has evicted keys while the copy was made: it is out of memory",
                "Raise the limit of the memory: `%s`" % live.command("CONFIG", "SET", "maxmemory", "BYTES"),
            )
    except (NotRestored, ReplyError) as exc:
        for spare in chosen.spares.values():
            _flush(live, spare, FILLING)
        if isinstance(exc, ReplyError):
            raise NotRestored("the server rejects the copy: %s" % exc, live.hint(exc, "RESTORE")) from exc
        raise
    return sent


def _begin(live: Client, spare: int, database: int, backup: str) -> None:
    """Mark an empty database as one that is being filled. Raises NotRestored if it is not empty any more."""
    live.select(spare)
    if live.ask("DBSIZE"):
        raise NotRestored("database %d was empty, and now has keys of others" % spare, "Run the restore again.")
    live.ask("HSET", FILLING, "database", database, "backup", backup)


def _flush(live: Client, database: int, mark: str) -> None:
    """Empty a database that has the mark."""
    if _is_marked(live, database, mark):
        live.ask("FLUSHDB", "ASYNC")


def _copy(
    live: Client, scratch: Client, database: int, spare: int, deadline: Deadline, progress: Progress, sent: int
) -> int:
    """Copy one database; return ``sent``, the bytes that were sent so far, and those of the database."""
    live.select(spare)
    scratch.select(database)
    cursor, size = b"", 10
    while cursor != b"0":
        deadline.step()
        cursor, names = scratch.ask("SCAN", cursor or 0, "COUNT", MOST_KEYS)
        while names:
            some, names = names[:size], names[size:]
            commands, amount = _restores(scratch, some)
            for reply in live.ask_all(commands):
                if isinstance(reply, ReplyError):
                    raise reply
            sent += amount
            progress.update(sent)
            size = max(1, min(MOST_KEYS, ROUND_BYTES * max(1, len(some)) // max(amount, 1)))
    return sent


def _restores(scratch: Client, names: Sequence[bytes]) -> tuple[list[Command], int]:
    """Return the commands that restore keys, and the bytes of their values."""
    questions = [words for name in names for words in (("DUMP", name), ("PTTL", name))]
    replies = scratch.ask_all(questions)
    now = time.time()
    commands: list[Command] = []
    amount = 0
    for name, payload, left in zip(names, replies[::2], replies[1::2]):
        for reply in (payload, left):
            if isinstance(reply, ReplyError):
                raise NotRestored("the scratch server cannot send a key: %s" % reply)
        if payload is None:
            # Its time to live has ended.
            continue
        amount += len(payload)
        when = 0 if left == NEVER else max(1, int(now * 1000) + left)
        commands.append(("RESTORE", name, when, payload, "REPLACE", *(("ABSTTL",) if when else ())))
    return commands, amount


def _check_counts(live: Client, chosen: Plan, contents: Mapping[str, Any]) -> None:
    """Raise NotRestored if a copy lacks keys, or has others. Keys with a time to live may have ended."""
    found = _redis_contents.keyspace(live)
    for database, spare in chosen.spares.items():
        wanted = contents["databases"].get(str(database)) or {"keys": 0, "expires": 0}
        counts: Counts = found.get(str(spare)) or {"keys": 0, "expires": 0}
        # The mark is one of them.
        lasting = counts["keys"] - counts["expires"] - 1
        if lasting != wanted["keys"] - wanted["expires"] or counts["expires"] > wanted["expires"]:
            raise NotRestored(
                "the copy of database %d has %d keys, %d of them with a time to live; the backup has %d and %d"
                % (database, counts["keys"] - 1, counts["expires"], wanted["keys"], wanted["expires"]),
                "Run the restore again, and check that nothing else writes to database %d." % spare,
            )


def exchange(live: Client, chosen: Mapping[int, int], backup: str, functions: bytes | None) -> str:
    """Exchange live databases with those that hold the copies, in one transaction; return the id of the restore.

    ``functions`` is what FUNCTION DUMP returned for the libraries to load, null to leave them. Raises NotRestored.
    """
    restore = secrets.token_hex(4)
    mark = ["restore", restore, "backup", backup, "replaced_at", "%.3f" % time.time()]
    commands: list[Command] = [("MULTI",)]
    for database, spare in chosen.items():
        commands.append(("SWAPDB", database, spare))
        commands += [("SELECT", database), ("DEL", FILLING, PREVIOUS)]
        commands += [("SELECT", spare), ("DEL", FILLING, PREVIOUS)]
        commands.append(("HSET", PREVIOUS, *mark, "database", database))
    if functions is not None:
        if chosen:
            before = live.ask("FUNCTION", "DUMP")
            commands.append(("HSET", PREVIOUS, "functions", before))
        commands.append(("FUNCTION", "RESTORE", functions, "FLUSH"))
    commands.append(("EXEC",))
    replies = live.ask_all(commands)
    # The database of the connection is the last one that was selected.
    live.database = -1
    done = replies[-1]
    if isinstance(done, ReplyError):
        queued = [reply for reply in replies[:-1] if isinstance(reply, ReplyError)]
        problem = queued[0] if queued else done
        raise NotRestored("the server rejects the exchange: %s" % problem, live.hint(problem, "SWAPDB"))
    failed = [reply for reply in done if isinstance(reply, ReplyError)]
    if failed:
        raise NotRestored(
            "the exchange was done in part: %s" % failed[0],
            "Show what was replaced: `%s`" % live.command("INFO", "keyspace"),
        )
    return restore


def previous(client: Client) -> list[Previous]:
    """Return what restores have replaced and is still there, the newest first. Raises CannotConnect."""
    found = []
    for number, counts in _redis_contents.keyspace(client).items():
        client.select(int(number))
        fields = _fields(client.ask("HGETALL", PREVIOUS)) if client.ask("EXISTS", PREVIOUS) else {}
        if fields:
            found.append(
                Previous(
                    fields[b"restore"].decode(),
                    fields[b"backup"].decode("utf-8", "replace"),
                    float(fields[b"replaced_at"]),
                    int(number),
                    int(fields[b"database"]),
                    counts["keys"] - 1,
                    fields.get(b"functions"),
                )
            )
    return sorted(found, key=lambda each: (-each.replaced_at, each.database))


def of_restore(client: Client, restore: str) -> list[Previous]:
    """Return what one restore has replaced. Raises NotRestored if nothing of it is left."""
    found = previous(client)
    chosen = [each for each in found if each.restore == restore]
    if not chosen:
        raise NotRestored(
            "nothing that the restore %s has replaced is left" % restore,
            "Set `restore_id` to one of: %s." % ", ".join(sorted({each.restore for each in found})) if found else None,
        )
    return chosen


def undo(client: Client, chosen: Sequence[Previous]) -> str:
    """Exchange what a restore has replaced with what is live now; return the id with which that can be undone."""
    functions = next((each.functions for each in chosen if each.functions is not None), None)
    pairs = {each.database: each.held_in for each in chosen}
    return exchange(client, pairs, UNDO_OF + chosen[0].restore, functions)


def drop(client: Client, chosen: Sequence[Previous]) -> None:
    """Remove what a restore has replaced."""
    for each in chosen:
        _flush(client, each.held_in, PREVIOUS)


def _fields(reply: Reply) -> dict[bytes, bytes]:
    return dict(zip(reply[::2], reply[1::2]))
