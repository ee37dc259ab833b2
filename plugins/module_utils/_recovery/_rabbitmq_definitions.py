# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definitions of a RabbitMQ broker as items that can be compared: pure functions. Private to this collection.

An import of definitions answers 204 whatever it did. It skips queues and exchanges that exist with other properties,
replaces policies, parameters, permissions and passwords, and a user without a password hash loses the password it has.
So only items that are missing are imported, and what the broker has afterwards is compared item by item.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict, Iterable, Mapping, Sequence, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._rabbitmq._rabbitmq_acts import REPLAY_EXCHANGE
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._types import Difference

# Category and key of an item; the fields that are no part of the key are its value.
Key = Tuple[str, ...]
Items = Dict[Key, Dict[str, Any]]

# The fields that name an item of each category, in the order in which a broker imports them.
KEYS: dict[str, tuple[str, ...]] = {
    "users": ("name",),
    "vhosts": ("name",),
    "permissions": ("vhost", "user"),
    "topic_permissions": ("vhost", "user", "exchange"),
    "parameters": ("vhost", "component", "name"),
    "global_parameters": ("name",),
    "policies": ("vhost", "name"),
    "queues": ("vhost", "name"),
    "exchanges": ("vhost", "name"),
    "bindings": ("vhost", "source", "destination_type", "destination", "routing_key", "arguments"),
}
# Vhosts of a proof, which a run that was killed has left.
SCRATCH_VHOST = "tracktion.ops-scratch-"
# Each broker has its own.
OWN_PARAMETERS = ("internal_cluster_id", "cluster_name")
EMPTY: tuple[Any, ...] = (None, False, "", [], {}, "undefined")
# rabbitmqctl exports exchanges that are not internal, without this field.
NOT_EXPORTED = {"exchanges": ("internal",)}
SECRETS = ("password_hash", "hashing_algorithm")
NO_PASSWORD = {"password_hash": "", "hashing_algorithm": "rabbit_password_hashing_sha256"}
# The user that a new broker has.
DEFAULT_USER = "guest"


class BadDefinitions(Exception):
    """A document is not one of definitions. The text says why."""


def items(document: Any) -> Items:
    """Return the items of definitions. Secrets are part of the value. Raises BadDefinitions."""
    if not isinstance(document, dict):
        raise BadDefinitions("the definitions are not a mapping")
    found: Items = {}
    for category, names in KEYS.items():
        rows = document.get(category, [])
        if not isinstance(rows, list):
            raise BadDefinitions("%s is not a list" % category)
        for row in rows:
            if not isinstance(row, dict) or any(name not in row for name in names):
                raise BadDefinitions("an entry of %s lacks one of %s" % (category, ", ".join(names)))
            if _is_passing(category, row):
                continue
            key = (category, *(_word(row[name]) for name in names))
            found[key] = {name: value for name, value in row.items() if name not in names}
    return found


def _is_passing(category: str, row: Mapping[str, Any]) -> bool:
    """Return whether an entry belongs to this broker only, to a replay of messages that is running, or to a proof."""
    if str(row["name"] if category == "vhosts" else row.get("vhost")).startswith(SCRATCH_VHOST):
        return True
    if category == "global_parameters":
        return row["name"] in OWN_PARAMETERS
    name = {"exchanges": "name", "bindings": "source"}.get(category)
    return name is not None and str(row[name]).startswith(REPLAY_EXCHANGE)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value)


def canonical(value: Any) -> str:
    """Return JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def document(of: Mapping[str, Any], keys: Iterable[Key]) -> dict[str, Any]:
    """Return the part of definitions that has these items. A user without a password hash gets none."""
    wanted = set(keys)
    part = {name: value for name, value in of.items() if name not in KEYS}
    for category, names in KEYS.items():
        rows = [row for row in of.get(category, []) if (category, *(_word(row[name]) for name in names)) in wanted]
        if category == "users":
            rows = [row if "password_hash" in row else dict(row, **NO_PASSWORD) for row in rows]
        part[category] = rows
    return part


def without_secrets(of: Mapping[str, Any]) -> dict[str, Any]:
    """Return definitions without the hashes of passwords."""
    users = [{name: value for name, value in row.items() if name not in SECRETS} for row in of.get("users", [])]
    return dict(of, users=users)


def is_restored(key: Key, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Return whether an item is as wanted. The hash of a password counts only if both have one.

    Fields that only the found one has are of another version of the broker, or of rabbitmqctl instead of the API.
    """
    expected, restored = _normal(key, wanted), _normal(key, found)
    if not (expected.get("password_hash") and restored.get("password_hash")):
        expected = {name: value for name, value in expected.items() if name not in SECRETS}
    hidden = NOT_EXPORTED.get(key[0], ())
    for name, value in expected.items():
        if value != restored[name] if name in restored else value not in EMPTY and name not in hidden:
            return False
    return True


def _normal(key: Key, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an item in the same form from all versions."""
    fields = dict(value)
    if key[0] in ("users", "vhosts"):
        fields.update(fields.pop("metadata", None) or {})
        # The tags have no order, and are a text with commas before 3.9.
        tags = fields.get("tags")
        tags = tags.split(",") if isinstance(tags, str) else tags
        fields["tags"] = sorted(str(tag) for tag in tags or [] if tag)
    if key[0] == "queues":
        # Since 4.0 each queue has its type as an argument.
        arguments = dict(fields.get("arguments") or {})
        fields["type"] = arguments.pop("x-queue-type", None) or fields.get("type") or "classic"
        fields["arguments"] = arguments
    return fields


class Comparison:
    """How the definitions of a broker differ from those that are wanted: ``missing``, ``different``, ``additional``."""

    def __init__(self, wanted: Items, found: Items) -> None:
        self.wanted, self.found = wanted, found
        self.missing = [key for key in wanted if key not in found]
        self.different = [key for key in wanted if key in found and not is_restored(key, wanted[key], found[key])]
        self.additional = [key for key in found if key not in wanted]

    def differences(self, additional: Sequence[Key] = ()) -> list[Difference]:
        """Return what is missing or different, and these additional items."""
        rows: list[tuple[Key, Any, Any]] = [(key, public(key, self.wanted[key]), None) for key in self.missing]
        rows += [(key, public(key, self.wanted[key]), public(key, self.found[key])) for key in self.different]
        rows += [(key, None, public(key, self.found[key])) for key in additional]
        return [{"item": shown(key), "expected": wanted, "found": found} for key, wanted, found in rows]


def public(key: Key, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of an item without secrets."""
    if key[0] == "users":
        return {name: each for name, each in value.items() if name not in SECRETS}
    # The values of parameters (shovels, upstreams) may hold URIs with passwords.
    if key[0] in ("parameters", "global_parameters"):
        return {"value_sha256": hashlib.sha256(canonical(value).encode("utf-8")).hexdigest()}
    return dict(value)


def shown(key: Key) -> str:
    """Return the name of an item: ``queues / audio.requests`` (category, then the fields of its key)."""
    return "%s %s" % (key[0], " ".join(each or "''" for each in key[1:]))


def counts(of: Items) -> dict[str, dict[str, Any]]:
    """Return the number and a checksum of the items of each category, without secrets."""
    found = {}
    for category in KEYS:
        rows = [(key, public(key, of[key])) for key in sorted(of) if key[0] == category]
        found[category] = {
            "count": len(rows),
            "sha256": hashlib.sha256(
                canonical([[list(key), value] for key, value in rows]).encode("utf-8")
            ).hexdigest(),
        }
    return found
