# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Redis server holds, for the manifest of a backup and to compare with it. Private to this collection."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Mapping, TypedDict, cast

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _redis_rdb
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._redis_snapshot import info
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import Difference
from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_info
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis import Client, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._redis._redis_types import Reply

SETTINGS = (
    "databases",
    "save",
    "appendonly",
    "appendfsync",
    "maxmemory",
    "maxmemory-policy",
    "cluster-enabled",
)
MOST_NAMES = 1000
# The key in a database that holds what a restore has replaced.
PREVIOUS = "tracktion.ops:replaced-by-restore"
# Words of an ACL rule that are passwords, or take them away.
PASSWORD_SIGNS = ("#", ">", "<", "!")


class User(TypedDict):
    """An ACL user: whether it is on, how many passwords it has, and a checksum of its rules without the passwords."""

    name: str
    enabled: bool
    passwords: int
    rules_sha256: str


class Module(TypedDict):
    """A module of the server, with the file that it was loaded from, and its arguments."""

    name: str
    version: int
    path: str | None
    arguments: list[str]


class Server(TypedDict):
    """What a server reports beside its keys. Null: it could not be read; ``unknown`` has the reasons.

    ``functions`` is the checksum of the code of each library. Users and settings are not in an RDB file.
    ``held_databases`` hold what an earlier restore has replaced: they are not live.
    """

    version: str | None
    role: str | None
    used_memory_bytes: int | None
    replication_offset: int | None
    functions: dict[str, str] | None
    modules: list[Module] | None
    users: list[User] | None
    settings: dict[str, str]
    held_databases: list[int] | None
    unknown: dict[str, str]


class Contents(Server):
    """The ``contents`` of a manifest. ``rdb_created`` is the time of the snapshot, in seconds since 1970."""

    rdb_version: int
    rdb_created: int | None
    databases: dict[str, _redis_rdb.Counts]
    keys_total: int
    expires_total: int


def of_server(client: Client) -> Server:
    """Return what the server reports. Raises CannotConnect."""
    found = info(client, "server", "memory", "replication")
    unknown: dict[str, str] = {}
    server: Server = {
        "version": found.get("redis_version"),
        "role": found.get("role"),
        "used_memory_bytes": _redis_info.integer(found, "used_memory"),
        "replication_offset": _redis_info.integer(found, "master_repl_offset"),
        "functions": None,
        "modules": None,
        "users": None,
        "settings": {},
        "held_databases": None,
        "unknown": unknown,
    }
    readers = {
        "functions": _functions,
        "modules": _modules,
        "users": _users,
        "settings": _settings,
        "held_databases": _held,
    }
    for name, read in readers.items():
        try:
            cast("dict[str, Any]", server)[name] = read(client)
        except ReplyError as exc:
            unknown[name] = str(exc)
    return server


def _functions(client: Client) -> dict[str, str]:
    try:
        reply = client.ask("FUNCTION", "LIST", "WITHCODE")
    except ReplyError as exc:
        if "unknown command" in str(exc):
            # Redis 6 has none.
            return {}
        raise
    libraries = (_pairs(each) for each in reply[:MOST_NAMES])
    return {_text(each["library_name"]): _sha256(each["library_code"]) for each in libraries}


def _modules(client: Client) -> list[Module]:
    return [
        {
            "name": _text(each["name"]),
            "version": int(each["ver"]),
            "path": _text(each["path"]) if each.get("path") else None,
            "arguments": [_text(word) for word in each.get("args") or []],
        }
        for each in (_pairs(row) for row in client.ask("MODULE", "LIST"))
    ]


def _users(client: Client) -> list[User]:
    return [user(_text(line)) for line in client.ask("ACL", "LIST")[:MOST_NAMES]]


def user(line: str) -> User:
    """Return the user of a line of ACL LIST."""
    words = line.split(" ")
    rules = [word for word in words[2:] if not word.startswith(PASSWORD_SIGNS)]
    return {
        "name": words[1] if len(words) > 1 else "",
        "enabled": "on" in rules,
        "passwords": sum(word.startswith("#") for word in words[2:]),
        "rules_sha256": _sha256(" ".join(rules).encode("utf-8", "surrogateescape")),
    }


def _settings(client: Client) -> dict[str, str]:
    replies = client.ask_all([("CONFIG", "GET", name) for name in SETTINGS])
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise reply
    return {_text(reply[0]): _text(reply[1]) for reply in replies if reply}


def _held(client: Client) -> list[int]:
    found = []
    for number in keyspace(client):
        client.select(int(number))
        if client.ask("EXISTS", PREVIOUS):
            found.append(int(number))
    return found


def keyspace(client: Client) -> dict[str, _redis_rdb.Counts]:
    """Return the keys of each database, as INFO reports them. Raises ReplyError, CannotConnect."""
    found: dict[str, _redis_rdb.Counts] = {}
    for name, text in info(client, "keyspace").items():
        fields = _redis_info.pairs(text)
        if name.startswith("db") and name[2:].isdigit():
            found[name[2:]] = {"keys": int(fields["keys"]), "expires": int(fields["expires"])}
    return found


def contents(server: Server, rdb: _redis_rdb.Contents) -> Contents:
    """Return the contents of a manifest: what the server reports, and what the RDB file holds."""
    aux = rdb["aux"]
    made: Contents = {
        **server,
        "rdb_version": rdb["version"],
        "rdb_created": int(aux["ctime"]) % 2**32 if _is_number(aux.get("ctime")) else None,
        "databases": rdb["databases"],
        "keys_total": sum(each["keys"] for each in rdb["databases"].values()),
        "expires_total": sum(each["expires"] for each in rdb["databases"].values()),
    }
    if _is_number(aux.get("repl-offset")):
        made["replication_offset"] = int(aux["repl-offset"])
    return made


def _is_number(text: str | None) -> bool:
    return text is not None and text.lstrip("-").isdigit()


def compare(
    expected: Mapping[str, Any], databases: dict[str, _redis_rdb.Counts], functions: dict[str, str] | None
) -> list[Difference]:
    """Return how the keys and functions of a loaded copy differ from the contents of a manifest.

    The copy does not remove keys whose time to live is over (it runs as a replica), so the counts are exact.
    """
    found: list[Difference] = []
    announced = expected.get("databases")
    if not isinstance(announced, dict):
        return [{"item": "databases", "expected": announced, "found": databases}]
    for number in sorted(set(announced) | set(databases), key=_order):
        for field in ("keys", "expires"):
            values = [(each.get(number) or {}).get(field, 0) for each in (announced, databases)]
            if values[0] != values[1]:
                found.append({"item": "databases.%s.%s" % (number, field), "expected": values[0], "found": values[1]})
    wanted = expected.get("functions")
    if isinstance(wanted, dict):
        copies = functions or {}
        for name in sorted(set(wanted) | set(copies)):
            if wanted.get(name) != copies.get(name):
                found.append({"item": "functions.%s" % name, "expected": wanted.get(name), "found": copies.get(name)})
    elif "functions" not in expected:
        found.append({"item": "functions", "expected": None, "found": functions})
    return found


def _order(number: str) -> tuple[int, str]:
    return (int(number), "") if number.isdigit() else (1 << 30, number)


def _pairs(reply: Reply) -> dict[str, Any]:
    return {_text(name): value for name, value in zip(reply[::2], reply[1::2])}


def _text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
