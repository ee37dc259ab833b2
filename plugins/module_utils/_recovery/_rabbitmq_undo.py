# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records what an import has created in a RabbitMQ broker, and deletes it again. Private to this collection.

Deleted is only what is still as it was imported: queues that are empty and have no consumers, exchanges without
bindings, vhosts without queues and connections. What is kept is named with the reason; the undo can be repeated.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Failure, cut
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq import Management, ReplyError
from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_amqp import Amqp, QueueError
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _rabbitmq_definitions
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._rabbitmq_definitions import Comparison, Key
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import cannot_store
from ansible_collections.tracktion.ops.plugins.module_utils._safe_files import Directory

# One file for each import in the state directory. An id begins with the time, so that the last one sorts last.
RECORD = "recovery-imported-%s.json"
NAMES = re.compile(re.escape(RECORD).replace("%s", r"([0-9A-Za-z-]{1,64})") + r"\Z")
RECORDS_KEPT = 10
MOST_BYTES = 256 << 20
LAST = "last"
# Bindings go with their queues and exchanges, unless both were there before.
ORDER = ("bindings", "queues", "exchanges", "policies", "parameters", "topic_permissions", "permissions", "vhosts",
         "users", "global_parameters")  # fmt: skip
# Deleted first, and again while that helps: an exchange can be the source of another one.
FIRST = ORDER[:3]
OF_A_VHOST = (*FIRST, "policies", "parameters")
CHANGED = "it was changed since the import"


class NoImport(Failure):
    """No import is recorded, or none with this id."""

    kind = "no_import"


class Import(NamedTuple):
    """One import: ``document`` are the definitions of what it was to create, without hashes of passwords."""

    identity: str
    name: str
    stamp: str
    document: dict[str, Any]


def record(directory: str, made: Import) -> None:
    """Write the record of an import, before it is done. Raises CannotStore."""
    content = json.dumps(dict(made._asdict(), time=time.time()), sort_keys=True).encode("utf-8")
    try:
        with Directory(directory, make=True) as opened:
            name = RECORD % made.identity
            opened.replace(name, content, temporary=name + ".new")
            for identity in _identities(opened)[:-RECORDS_KEPT]:
                opened.remove(RECORD % identity)
    except OSError as exc:
        raise cannot_store(exc, directory)


def find(directory: str, name: str, identity: str) -> Import:
    """Return the import with this id, or the last one of the broker with this name. Raises NoImport, CannotStore."""
    try:
        with Directory(directory) as opened:
            found = [each for each in (_read(opened, identity) for identity in _identities(opened)) if each]
    except FileNotFoundError:
        found = []
    except OSError as exc:
        raise cannot_store(exc, directory)
    found = [each for each in found if each.name == name]
    wanted = [each for each in found if identity in (LAST, each.identity)]
    if not wanted:
        known = ", ".join(each.identity for each in found)
        hint = "Set `restore_id` to one of: %s." % known if known else None
        raise NoImport("there is no record of an import %s into %s" % (cut(identity, 64), name), hint)
    return wanted[-1]


def forget(directory: str, made: Import) -> None:
    """Remove the record of an import that was undone. Raises CannotStore."""
    try:
        with Directory(directory) as opened:
            opened.remove(RECORD % made.identity)
    except OSError as exc:
        raise cannot_store(exc, directory)


def _identities(opened: Directory) -> list[str]:
    found = [NAMES.match(name) for name in os.listdir(opened.descriptor)]
    return sorted(each.group(1) for each in found if each)


def _read(opened: Directory, identity: str) -> Import | None:
    try:
        content = json.loads(opened.read(RECORD % identity, MOST_BYTES).decode("utf-8"))
        _rabbitmq_definitions.items(content["document"])
        return Import(identity, str(content["name"]), str(content["stamp"]), content["document"])
    except (ValueError, KeyError, TypeError, _rabbitmq_definitions.BadDefinitions):
        return None


class Undo:
    """What the undo of an import deletes: ``wanted``, in this order; and what it keeps: item -> reason."""

    def __init__(self, made: Import, found: Mapping[str, Any]) -> None:
        items = _rabbitmq_definitions.items(made.document)
        compared = Comparison(items, _rabbitmq_definitions.items(found))
        self.kept: dict[Key, str] = dict.fromkeys(compared.different, CHANGED)
        there = [key for key in items if key in compared.found and key not in self.kept]
        self.wanted = sorted((key for key in there if not _goes_with(key, there)), key=lambda key: ORDER.index(key[0]))
        self._values = items
        self._additional = compared.additional
        self.deleted: list[Key] = []

    def run(self, client: Management) -> None:
        """Delete what can be deleted. Raises CannotConnect; what was deleted until then is in ``deleted``."""
        left = [key for key in self.wanted if key[0] in FIRST]
        while left:
            refused = self._delete(client, left)
            if len(refused) == len(left):
                self.kept.update(refused)
                break
            left = list(refused)
        # Services that use what is kept need their rights and policies.
        for key in self.wanted:
            if key[0] not in FIRST:
                reason = self._needed(key)
                self.kept.update({key: reason} if reason else self._delete(client, [key]))

    def _delete(self, client: Management, keys: Sequence[Key]) -> dict[Key, str]:
        """Delete items, and return why some were not."""
        reasons = {key: _delete(client, key, self._values[key]) for key in keys}
        self.deleted += [key for key, reason in reasons.items() if not reason]
        return {key: reason for key, reason in reasons.items() if reason}

    def _needed(self, key: Key) -> str | None:
        """Return why something else needs an item, or null."""
        if key[0] == "users":
            return "it has permissions that are kept" if any(_is_right_of(each, key[1]) for each in self.kept) else None
        if key[0] == "global_parameters":
            return None
        if any(each[0] in FIRST and each[1] == key[1] for each in self.kept):
            return "its vhost is in use" if key[0] != "vhosts" else "it is in use"
        if key[0] == "vhosts" and any(each[0] in OF_A_VHOST and each[1] == key[1] for each in self._additional):
            return "it has items that were not imported"
        return None


def _is_right_of(key: Key, user: str) -> bool:
    return key[0] in ("permissions", "topic_permissions") and key[2] == user


def _goes_with(key: Key, others: Sequence[Key]) -> bool:
    """Return whether an item is deleted with another one: a binding with its queue or exchange."""
    if key[0] != "bindings":
        return False
    _category, vhost, source, kind, destination = key[:5]
    ends = [("exchanges", vhost, source), ("queues" if kind == "queue" else "exchanges", vhost, destination)]
    return any(end in others for end in ends)


def _delete(client: Management, key: Key, value: Mapping[str, Any]) -> str | None:
    """Delete one item; return why it was not deleted, or null. What is gone already counts as deleted."""
    try:
        return DELETERS[key[0]](client, key, value)
    except ReplyError as exc:
        return None if exc.kind == "not_found" else str(exc)


def _delete_at(*parts: str, **query: Any) -> Callable[[Management, Key, Mapping[str, Any]], str | None]:
    """Return a function that deletes ``/api/<parts>/<fields of the key>``."""

    def delete(client: Management, key: Key, value: Mapping[str, Any]) -> str | None:
        client.delete(*parts, *key[1:], **query)
        return None

    return delete


def _delete_queue(client: Management, key: Key, value: Mapping[str, Any]) -> str | None:
    """Delete a queue that is empty and has no consumers, which the broker itself tests only for classic queues."""
    kind = (value.get("arguments") or {}).get("x-queue-type") or value.get("type") or "classic"
    query = {"if-empty": "true", "if-unused": "true"}
    if kind != "classic":
        # The statistics of the API are seconds old, and those of a new queue are missing.
        with Amqp(client.options, client.deadline, key[1]) as amqp:
            try:
                messages, consumers = amqp.declare_passive(key[2])
            except QueueError as exc:
                return str(exc)
        if messages or consumers:
            return "it has %d messages and %d consumers" % (messages, consumers)
        query = {}
    client.delete("queues", key[1], key[2], **query)
    return None


def _delete_vhost(client: Management, key: Key, value: Mapping[str, Any]) -> str | None:
    """Delete a vhost that nothing uses. Exclusive queues are in no export, so the broker is asked."""
    vhost = key[1]
    for what, path in {"queues": ("queues", vhost), "connections": ("vhosts", vhost, "connections")}.items():
        rows = client.get_long(*path)
        if rows:
            return "it has %d %s" % (len(rows), what)
    client.delete("vhosts", vhost)
    return None


def _delete_parameter(client: Management, key: Key, value: Mapping[str, Any]) -> str | None:
    _category, vhost, component, name = key
    if component == "operator_policy":
        client.delete("operator-policies", vhost, name)
    elif component == "vhost-limits":
        for limit in value.get("value") or {}:
            client.delete("vhost-limits", vhost, limit)
    else:
        client.delete("parameters", component, vhost, name)
    return None


def _delete_binding(client: Management, key: Key, value: Mapping[str, Any]) -> str | None:
    """Delete a binding between a queue or exchange and an exchange that were there before the import."""
    _category, vhost, source, kind, destination, routing_key, arguments = key
    path = ("bindings", vhost, "e", source, kind[0], destination)
    for row in client.get_long(*path):
        if row["routing_key"] == routing_key and _rabbitmq_definitions.canonical(row["arguments"]) == arguments:
            client.delete(*path, row["properties_key"])
    return None


DELETERS: dict[str, Callable[[Management, Key, Mapping[str, Any]], str | None]] = {
    "bindings": _delete_binding,
    "queues": _delete_queue,
    "exchanges": _delete_at("exchanges", **{"if-unused": "true"}),
    "policies": _delete_at("policies"),
    "parameters": _delete_parameter,
    "topic_permissions": _delete_at("topic-permissions"),
    "permissions": _delete_at("permissions"),
    "vhosts": _delete_vhost,
    "users": _delete_at("users"),
    "global_parameters": _delete_at("global-parameters"),
}
