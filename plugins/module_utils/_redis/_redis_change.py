# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes a Redis server: its memory settings, and the deletion of named keys. Private to this collection."""

from __future__ import annotations

import json
import os
import re

from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotMeasure
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_process as process
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_info import (
    integer,
    parse_bytes,
    parse_info,
    readable,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_names import key_name

SETTINGS = ("maxmemory", "maxmemory-policy")

DELETE_SPEC = {
    "pattern": {"type": "str", "required": True},
    "database": {"type": "int", "default": 0},
    "only_without_ttl": {"type": "bool", "default": True},
    "idle_seconds": {"type": "int", "default": 86400},
    "max_count": {"type": "int", "default": 1000},
    "list_path": {"type": "path"},
}

SCAN_COUNT = 1000
UNLINK_BATCH = 100
# Names returned; the file of list_path has all of them.
NAMES_MOST = 1000


class CannotChange(CannotMeasure):
    """The change was refused or failed; the message says what the server's state is now."""

    kind = "cannot_change"


def wanted_settings(maxmemory, policy):
    """The settings to ensure: name -> text as CONFIG GET gives it. Raises BadOption."""
    wanted = {}
    if maxmemory is not None:
        try:
            wanted["maxmemory"] = str(parse_bytes(maxmemory))
        except ValueError as exc:
            raise BadOption("maxmemory: %s" % exc)
    if policy is not None:
        wanted["maxmemory-policy"] = policy
    return wanted


def configure(client, wanted, allow_eviction, persist, check_mode):
    """Ensures the settings ``wanted`` and returns the part ``configuration`` of the module's result.

    Raises CannotChange where it would evict keys and may not, and where the server refused; the old values are then
    in force again.
    """
    info = parse_info(_ask(client, "INFO"))
    before = current(client)
    after = dict(before, **wanted)
    if after != before:
        refuse_eviction(before, after, info, allow_eviction)
    pid = process.local_pid(client, info)
    file = info.get("config_file") or None
    kept = is_persisted(process.configured(pid, file) if pid else None, after)
    rewrite = persist and bool(file) and (after != before or kept is False)
    if not check_mode and after != before:
        _set(client, before, after)
    result = {
        "before": _shown(before),
        "after": _shown(after),
        "config_file": file,
        "redis_cli": client.redis_cli,
        "persisted": kept,
        "persist_hint": None,
        "changed": after != before or rewrite,
    }
    if check_mode:
        return result
    failure = _rewrite(client) if rewrite else None
    if rewrite:
        result["persisted"] = failure is None
        result["changed"] = after != before or failure is None
    elif after != before or not file:
        result["persisted"] = False
    result["persist_hint"] = persist_hint(result["persisted"], file, after, failure)
    return result


def current(client):
    """The settings in force: name -> text."""
    found = {}
    for name in SETTINGS:
        reply = _ask(client, "CONFIG", "GET", name)
        found[name] = reply[1].decode("utf-8", "replace")
    return found


def refuse_eviction(before, after, info, allowed):
    """Raises CannotChange where ``after`` would make the server evict keys, or refuse writes, at once."""
    most = int(after["maxmemory"])
    counted = (integer(info, "used_memory") or 0) - (integer(info, "mem_not_counted_for_evict") or 0)
    if not most or counted <= most or allowed:
        return
    if after["maxmemory-policy"] == "noeviction":
        effect = "every write would be refused"
    else:
        effect = "about %d bytes of keys would be evicted at once (%s)" % (counted - most, after["maxmemory-policy"])
    raise CannotChange(
        "maxmemory %d is below the %d bytes in use: %s" % (most, counted, effect),
        hint="Choose a value above use, or set allow_eviction: true",
    )


def in_order(before, after):
    """The names that differ, in the order that never evicts on the way: room first, or the policy first."""
    names = [name for name in SETTINGS if before[name] != after[name]]
    new, old = int(after["maxmemory"]), int(before["maxmemory"])
    more_room = new == 0 or (old != 0 and new > old)
    return names if more_room else names[::-1]


def _set(client, before, after):
    done = []
    try:
        for name in in_order(before, after):
            done.append(name)
            client.ask("CONFIG", "SET", name, after[name])
        found = current(client)
        if found != after:
            raise CannotChange("The server took the settings and has others in force: %s" % _shown(found))
    except (ReplyError, CannotChange) as exc:
        for name in reversed(done):
            client.ask_all([("CONFIG", "SET", name, before[name])])
        raise CannotChange(
            "CONFIG SET failed: %s. In force now: %s" % (exc, _shown(current(client))),
            hint="%s; or correct maxmemory and maxmemory_policy" % client.grant("+config|set"),
        )


def _rewrite(client):
    """Why CONFIG REWRITE failed; null where it did not."""
    try:
        client.ask("CONFIG", "REWRITE")
    except ReplyError as exc:
        return str(exc)
    return None


def is_persisted(configured, settings):
    """Whether the configuration file holds these settings; null where the file cannot be read from here."""
    if configured is None:
        return None
    try:
        most = parse_bytes(configured.get("maxmemory", "0"))
    except ValueError:
        return False
    return most == int(settings["maxmemory"]) and (
        configured.get("maxmemory-policy", "noeviction").lower() == settings["maxmemory-policy"]
    )


def persist_hint(persisted, file, after, failure):
    """What a person has to change so that the settings outlive a restart; null where they do."""
    if persisted:
        return None
    flags = "--maxmemory %s --maxmemory-policy %s" % (
        shell_quote(after["maxmemory"]),
        shell_quote(after["maxmemory-policy"]),
    )
    lines = "maxmemory %s, maxmemory-policy %s" % (after["maxmemory"], after["maxmemory-policy"])
    if not file:
        return (
            "The server was started without a configuration file: add `%s` to its command (in compose: command: "
            "redis-server ...)" % flags
        )
    if failure:
        return "The server cannot rewrite %s (%s): set there %s" % (file, failure, lines)
    if persisted is None:
        return "Already in force; whether %s holds it cannot be seen from here: it needs %s" % (file, lines)
    return "Not written, as persist is false: set in %s %s" % (file, lines)


def _shown(settings):
    return {"maxmemory": int(settings["maxmemory"]), "maxmemory_policy": settings["maxmemory-policy"]}


def check_pattern(pattern):
    """Raises BadOption for a pattern that names nothing: without wildcards and classes it must have a character."""
    if not re.sub(r"\*|\?|\[[^\]]*\]?", "", re.sub(r"\\.", "x", pattern)):
        raise BadOption(
            "delete.pattern: %r matches every key" % pattern, hint="Name keys by a pattern such as cache:album:*"
        )


def delete_keys(client, delete, separator, show, check_mode):
    """Deletes the keys that ``delete`` names and returns the part ``deletion`` of the module's result.

    A key is looked at again and removed in one WATCH transaction, so one that was written to in between stays.
    Raises BadOption and CannotChange.
    """
    check_pattern(delete["pattern"])
    client.select(delete["database"])
    names, matched, complete = _candidates(client, delete)
    gone, kept = [], 0
    if check_mode:
        gone = names
    elif names:
        with _listing(delete["list_path"]) as listing:
            for start in range(0, len(names), UNLINK_BATCH):
                batch = names[start : start + UNLINK_BATCH]
                unlinked = _unlink(client, batch, delete)
                kept += len(batch) - len(unlinked)
                gone.extend(unlinked)
                listing.write("".join(_entry(name, size, delete["database"]) for name, size in unlinked))
                listing.flush()
    return {
        "database": delete["database"],
        "pattern": delete["pattern"],
        "matched_count": matched,
        "deleted_count": len(gone),
        "deleted_bytes": sum(size for _name, size in gone),
        "kept_count": kept,
        "complete": complete,
        "names": [key_name(name, separator.encode("utf-8"), show) for name, _size in gone[:NAMES_MOST]],
        "list_path": delete["list_path"] or None,
        "changed": bool(gone),
    }


def _candidates(client, delete):
    """The keys to delete as (name, bytes), how many names matched, and whether the keyspace was read to its end."""
    found, matched, cursor = {}, 0, 0
    while True:
        reply = _ask(client, "SCAN", cursor, "MATCH", delete["pattern"], "COUNT", SCAN_COUNT)
        cursor = int(reply[0])
        names = [name for name in reply[1] if name not in found]
        matched += len(names)
        for name, size in _eligible(client, names, delete):
            if len(found) < delete["max_count"]:
                found[name] = size
        if cursor == 0 or len(found) >= delete["max_count"]:
            return list(found.items()), matched, cursor == 0
        if client.deadline.remaining() < 1.0:
            return list(found.items()), matched, False


def _eligible(client, names, delete):
    """Those of ``names`` that may go, as (name, bytes)."""
    questions = []
    for name in names:
        questions += [("PTTL", name), ("OBJECT", "IDLETIME", name), ("MEMORY", "USAGE", name)]
    replies = client.ask_all(questions)
    for name, ttl, idle, size in zip(names, replies[0::3], replies[1::3], replies[2::3]):
        if isinstance(ttl, ReplyError):
            raise CannotChange("PTTL is refused: %s" % ttl, hint=client.hint(ttl, "PTTL"))
        if ttl == -2 or (delete["only_without_ttl"] and ttl >= 0):
            continue
        if delete["idle_seconds"] > 0:
            if isinstance(idle, ReplyError):
                raise CannotChange(
                    "The idle time of keys cannot be read: %s" % idle,
                    hint=client.hint(idle, "OBJECT", "IDLETIME")
                    or "Set delete.idle_seconds: 0 to go without it (an LFU policy does not keep it)",
                )
            if idle is None or idle < delete["idle_seconds"]:
                continue
        yield name, size if isinstance(size, int) else 0


def _unlink(client, batch, delete):
    """Removes those of the batch that still may go and that nobody writes to meanwhile; returns them."""
    _ask(client, "WATCH", *[name for name, _size in batch])
    still = list(_eligible(client, [name for name, _size in batch], delete))
    if not still:
        _ask(client, "UNWATCH")
        return []
    replies = client.ask_all([("MULTI",), ["UNLINK"] + [name for name, _size in still], ("EXEC",)])
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise CannotChange(
                "UNLINK failed: %s" % reply, hint=client.grant("~*", "+unlink", "+watch", "+unwatch", "+multi", "+exec")
            )
    return still if replies[2] is not None else []


def _listing(path):
    """The file that takes the names of what went, opened before anything goes."""
    try:
        if not path:
            return open(os.devnull, "w", encoding="utf-8")
        directory, name = _safe_files.beside(path, sticky=True)
        with directory:
            descriptor = directory.open(name, _safe_files.WRITE | os.O_CREAT | os.O_APPEND)
        return os.fdopen(descriptor, "w", encoding="utf-8")
    except OSError as exc:
        raise BadOption("delete.list_path: %s cannot be written: %s" % (path, exc))


def _entry(name, size, database):
    return json.dumps({"database": database, "name": readable(name), "hex": name.hex(), "bytes": size}) + "\n"


def _ask(client, *words):
    try:
        return client.ask(*words)
    except ReplyError as exc:
        raise CannotChange("%s is refused: %s" % (" ".join(map(str, words[:2])), exc), client.hint(exc, *words))
