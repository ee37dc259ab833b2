# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Change the memory settings of a Redis server, and delete keys by a pattern. Private to this collection."""

from __future__ import annotations

import json
import os
import re
from typing import IO, Iterator, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotMeasure
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process as process
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import (
    integer,
    parse_bytes,
    parse_info,
    readable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_names import key_name
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Fields, Reply, Word
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

SETTINGS = ("maxmemory", "maxmemory-policy")

# Checks a key again and deletes it, in one step. Unlike commands of MULTI, a script is not rejected when memory is
# full, and it works in a cluster.
DELETE_SCRIPT = """
local ttl = redis.call('PTTL', KEYS[1])
if ttl == -2 or (ARGV[1] == '1' and ttl >= 0) then return 0 end
local idle = tonumber(ARGV[2])
if idle > 0 and redis.call('OBJECT', 'IDLETIME', KEYS[1]) < idle then return 0 end
return redis.call('UNLINK', KEYS[1])
"""
# What the server answers to this for a name without a key, it answers to each deletion.
PROBE_SCRIPT = "return redis.call('UNLINK', KEYS[1])"
PROBE_SUFFIX = b":tracktion-ops-no-such-key"

# First word of the error reply to a deletion -> the next step.
DELETE_HINTS = {
    "READONLY": "Delete the keys on the primary: this server is a replica.",
    "MISCONF": "Repair the snapshots first: the server rejects every write, also deletions, since the last one failed.",
    "NOREPLICAS": "Repair the replicas first: the server rejects every write while too few are connected.",
}

DELETE_SPEC = {
    "pattern": {"type": "str", "required": True},
    "database": {"type": "int", "default": 0},
    "only_without_ttl": {"type": "bool", "default": True},
    "idle_seconds": {"type": "int", "default": 86400},
    "max_count": {"type": "int", "default": 1000},
    "list_path": {"type": "path"},
}

SCAN_COUNT = 1000
# SCAN ends when less of the deadline is left, so that the keys found can be deleted.
RESERVE_SECONDS = 1.0
UNLINK_BATCH = 100
# Names returned; the file list_path has all of them.
NAMES_MOST = 1000


class CannotChange(CannotMeasure):
    """The change was rejected or failed. The message contains the state of the server."""

    kind = "cannot_change"


class Key(NamedTuple):
    """A key to delete, and its bytes by MEMORY USAGE (0 if unknown)."""

    name: bytes
    size: int


def wanted_settings(maxmemory: str | None, policy: str | None) -> Fields:
    """Return the settings to ensure: name -> text as CONFIG GET returns it. Raises BadOption."""
    wanted = {}
    if maxmemory is not None:
        try:
            wanted["maxmemory"] = str(parse_bytes(maxmemory))
        except ValueError as exc:
            raise BadOption("maxmemory: %s" % exc)
    if policy is not None:
        wanted["maxmemory-policy"] = policy
    return wanted


def configure(client: Client, wanted: Fields, evictable: int | None, persist: bool, check_mode: bool) -> Part:
    """Ensure the settings ``wanted`` and return the part ``configuration`` of the module's result, with ``changed``.

    Raises CannotChange if more than ``evictable`` bytes of keys (null: any number) would be evicted at once, or if the
    server rejects a setting; the old values are then in force again.
    """
    info = parse_info(_ask(client, "INFO"))
    before = read_settings(client)
    after = dict(before, **wanted)
    if after != before:
        reject_eviction(after, info, evictable)
    pid = process.local_pid(client, info)
    file = info.get("config_file") or None
    persisted = is_persisted(process.configured(pid, file) if pid else None, after)
    rewrite = persist and bool(file) and (after != before or persisted is False)
    obstacle = process.rewrite_obstacle(pid, file) if pid and file and rewrite else None
    if not check_mode and after != before:
        _set(client, before, after)
    result: Part = {
        "before": _as_result(before),
        "after": _as_result(after),
        "config_file": file,
        "redis_cli": client.redis_cli,
        "persisted": persisted,
        "persist_hint": None,
        "changed": after != before or rewrite,
    }
    failure = obstacle if check_mode or not rewrite else _rewrite(client)
    if rewrite:
        result["persisted"] = failure is None
        result["changed"] = after != before or failure is None
    elif after != before or not file:
        result["persisted"] = False
    result["persist_hint"] = persist_hint(result["persisted"], file, after, failure)
    return result


def read_settings(client: Client) -> Fields:
    """Return the settings in force: name -> text. Raises CannotChange."""
    found = {}
    for name in SETTINGS:
        reply = _ask(client, "CONFIG", "GET", name)
        found[name] = reply[1].decode("utf-8", "replace")
    return found


def reject_eviction(after: Fields, info: Fields, evictable: int | None) -> None:
    """Raise CannotChange if the settings ``after`` make the server evict keys or reject writes at once.

    ``evictable`` is the number of bytes that may be evicted, null for any number.
    """
    most = int(after["maxmemory"])
    counted = (integer(info, "used_memory") or 0) - (integer(info, "mem_not_counted_for_evict") or 0)
    if not most or counted <= most + (counted if evictable is None else evictable):
        return
    if after["maxmemory-policy"] == "noeviction":
        effect, change = "every write would be rejected", "an eviction policy, or `allow_eviction: true`"
    else:
        effect = "about %d bytes of keys would be evicted at once (%s)" % (counted - most, after["maxmemory-policy"])
        change = "`allow_eviction: true` and `max_evicted_bytes: %d` (in the role cache: cache_evict_most_bytes)" % (
            counted - most
        )
    raise CannotChange(
        "maxmemory %d is below the %d bytes in use: %s" % (most, counted, effect),
        hint="Set `maxmemory` to more than the memory in use, or set %s." % change,
    )


def order_changes(before: Fields, after: Fields) -> list[str]:
    """Return the settings that differ, in the order that evicts nothing in between.

    A higher maxmemory comes before the policy, a lower one after it.
    """
    names = [name for name in SETTINGS if before[name] != after[name]]
    new, old = int(after["maxmemory"]), int(before["maxmemory"])
    more_room = new == 0 or (old != 0 and new > old)
    return names if more_room else names[::-1]


def _set(client: Client, before: Fields, after: Fields) -> None:
    """Set the settings that differ. Raises CannotChange; the old values are then in force again."""
    done = []
    try:
        for name in order_changes(before, after):
            done.append(name)
            client.ask("CONFIG", "SET", name, after[name])
        found = read_settings(client)
        if found != after:
            raise CannotChange("The server accepted the settings, but others are in force: %s" % _as_result(found))
    except (ReplyError, CannotChange) as exc:
        for name in reversed(done):
            client.ask_all([("CONFIG", "SET", name, before[name])])
        raise CannotChange(
            "CONFIG SET failed: %s. In force: %s" % (exc, _as_result(read_settings(client))),
            hint="%s, or correct `maxmemory` and `maxmemory_policy`." % client.grant("+config|set"),
        )


def _rewrite(client: Client) -> str | None:
    """Send CONFIG REWRITE and return why it failed; null if it did not."""
    try:
        client.ask("CONFIG", "REWRITE")
    except ReplyError as exc:
        return str(exc)
    return None


def is_persisted(configured: Fields | None, settings: Fields) -> bool | None:
    """Return whether the configuration file (``configured``) has these settings; null if it cannot be read here."""
    if configured is None:
        return None
    try:
        most = parse_bytes(configured.get("maxmemory", "0"))
    except ValueError:
        return False
    return most == int(settings["maxmemory"]) and (
        configured.get("maxmemory-policy", "noeviction").lower() == settings["maxmemory-policy"]
    )


def persist_hint(persisted: bool | None, file: str | None, after: Fields, failure: str | None) -> str | None:
    """Return what to change so that the settings survive a restart; null if they do.

    ``failure`` is why CONFIG REWRITE failed.
    """
    if persisted:
        return None
    flags = "--maxmemory %s --maxmemory-policy %s" % (
        shell_quote(after["maxmemory"]),
        shell_quote(after["maxmemory-policy"]),
    )
    lines = "maxmemory %s, maxmemory-policy %s" % (after["maxmemory"], after["maxmemory-policy"])
    if not file:
        return (
            "Add `%s` to the command of the server (in a compose file, to the command of its service): it was started "
            "without a configuration file." % flags
        )
    if failure:
        return "Set %s in %s: the server cannot rewrite it (%s)." % (lines, file, failure)
    if persisted is None:
        return "Check that %s contains %s: it cannot be read from this host." % (file, lines)
    return "Set %s in %s: it was not written because `persist` is false." % (lines, file)


def _as_result(settings: Fields) -> Part:
    return {"maxmemory": int(settings["maxmemory"]), "maxmemory_policy": settings["maxmemory-policy"]}


def check_pattern(pattern: str) -> None:
    """Raise BadOption for a pattern that contains nothing but wildcards and classes."""
    if not re.sub(r"\*|\?|\[[^\]]*\]?", "", re.sub(r"\\.", "x", pattern)):
        raise BadOption(
            "delete.pattern: %r matches every key" % pattern,
            hint="Set `delete.pattern` to one such as cache:album:*.",
        )


def delete_keys(client: Client, delete: Options, separator: str, show: bool, check_mode: bool) -> Part:
    """Delete the keys that ``delete`` selects and return the part ``deletion`` of the result, with ``changed``.

    A key is checked again and deleted in one step. Raises BadOption and CannotChange.
    """
    check_pattern(delete["pattern"])
    client.select(delete["database"])
    keys, matched, complete = _candidates(client, delete)
    deleted: list[Key] = []
    kept = 0
    if keys:
        _reject_if_read_only(client, keys[0])
    if check_mode:
        deleted = keys
    elif keys:
        with _open_list(delete["list_path"]) as file:
            for start in range(0, len(keys), UNLINK_BATCH):
                batch = keys[start : start + UNLINK_BATCH]
                unlinked = _unlink(client, batch, delete)
                kept += len(batch) - len(unlinked)
                deleted.extend(unlinked)
                file.write("".join(_list_entry(key, delete["database"]) for key in unlinked))
                file.flush()
    return {
        "database": delete["database"],
        "pattern": delete["pattern"],
        "matched_count": matched,
        "deleted_count": len(deleted),
        "deleted_bytes": sum(key.size for key in deleted),
        "kept_count": kept,
        "complete": complete,
        "names": [key_name(key.name, separator.encode("utf-8"), show) for key in deleted[:NAMES_MOST]],
        "list_path": delete["list_path"] or None,
        "changed": bool(deleted),
    }


def _candidates(client: Client, delete: Options) -> tuple[list[Key], int, bool]:
    """Return the keys to delete, how many names matched, and whether the whole keyspace was read."""
    found: dict[bytes, Key] = {}
    matched = cursor = 0
    while True:
        reply = _ask(client, "SCAN", cursor, "MATCH", delete["pattern"], "COUNT", SCAN_COUNT)
        cursor = int(reply[0])
        names = [name for name in reply[1] if name not in found]
        matched += len(names)
        for key in _eligible(client, names, delete):
            if len(found) < delete["max_count"]:
                found[key.name] = key
        if cursor == 0 or len(found) >= delete["max_count"] or client.deadline.remaining() < RESERVE_SECONDS:
            return list(found.values()), matched, cursor == 0


def _eligible(client: Client, names: Sequence[bytes], delete: Options) -> Iterator[Key]:
    """Yield the keys that may be deleted. Raises CannotChange."""
    commands: list[tuple[Word, ...]] = []
    for name in names:
        commands += [("PTTL", name), ("OBJECT", "IDLETIME", name), ("MEMORY", "USAGE", name)]
    replies = client.ask_all(commands)
    for name, ttl, idle, size in zip(names, replies[0::3], replies[1::3], replies[2::3]):
        if isinstance(ttl, ReplyError):
            raise CannotChange("PTTL failed: %s" % ttl, hint=client.hint(ttl, "PTTL"))
        if ttl == -2 or (delete["only_without_ttl"] and ttl >= 0):
            continue
        if delete["idle_seconds"] > 0:
            if isinstance(idle, ReplyError):
                raise CannotChange(
                    "The idle time of keys cannot be read: %s" % idle,
                    hint=client.hint(idle, "OBJECT", "IDLETIME")
                    or "Set `delete.idle_seconds: 0` (in the role cache: cache_delete_idle_seconds) to delete keys "
                    "without it: an LFU policy does not record it.",
                )
            if idle is None or idle < delete["idle_seconds"]:
                continue
        yield Key(name, size if isinstance(size, int) else 0)


def _reject_if_read_only(client: Client, key: Key) -> None:
    """Raise CannotChange if the server would reject each deletion, as a replica does, or the ACL denies it."""
    reply = client.ask_all([("EVAL", PROBE_SCRIPT, 1, key.name + PROBE_SUFFIX)])[0]
    # In a cluster, a name that does not exist may belong to another node.
    if isinstance(reply, ReplyError) and reply.code != "MOVED":
        raise _not_deleted(client, reply)


def _unlink(client: Client, batch: Sequence[Key], delete: Options) -> list[Key]:
    """Delete the keys of the batch that still may be deleted, and return them. Raises CannotChange."""
    conditions = ("1" if delete["only_without_ttl"] else "0", delete["idle_seconds"])
    replies = client.ask_all([("EVAL", DELETE_SCRIPT, 1, key.name, *conditions) for key in batch])
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise _not_deleted(client, reply)
    return [key for key, reply in zip(batch, replies) if reply == 1]


def _not_deleted(client: Client, exc: ReplyError) -> CannotChange:
    """Return the failure for an error reply to a deletion."""
    # The texts of Redis 7.0 and of later versions for a command in a script.
    denied = exc.code == "NOPERM" or "user executing the script" in str(exc) or "ACL failure" in str(exc)
    rules = ("~*", "+eval", "+unlink", "+pttl", "+object|idletime")
    hint = client.grant(*rules) if denied else DELETE_HINTS.get(exc.code)
    return CannotChange("The server rejects deletions: %s" % exc, hint=hint)


def _open_list(path: str | None) -> IO[str]:
    """Open the file for the names of deleted keys. Raises BadOption."""
    try:
        if not path:
            return open(os.devnull, "w", encoding="utf-8")
        directory, name = _safe_files.beside(path, sticky=True)
        with directory:
            descriptor = directory.open(name, _safe_files.WRITE | os.O_CREAT | os.O_APPEND)
        return os.fdopen(descriptor, "w", encoding="utf-8")
    except OSError as exc:
        raise BadOption("delete.list_path: %s cannot be written: %s" % (path, exc))


def _list_entry(key: Key, database: int) -> str:
    entry = {"database": database, "name": readable(key.name), "hex": key.name.hex(), "bytes": key.size}
    return json.dumps(entry) + "\n"


def _ask(client: Client, *words: Word) -> Reply:
    """Return the reply to a command. Raises CannotChange for an error reply."""
    try:
        return client.ask(*words)
    except ReplyError as exc:
        raise CannotChange("%s failed: %s" % (" ".join(map(str, words[:2])), exc), client.hint(exc, *words))
