# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build cache that can be removed, by the disk use that the engine reports. Pure. Private to this collection.

An entry holds its parents: the engine keeps them, without an error, until all entries that are built on them are gone.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import epoch

Entry = Mapping[str, Any]
# Whether nothing holds an entry, and when it was last used.
Use = Tuple[bool, "float | None"]


def removable(entries: Sequence[Entry]) -> list[tuple[Entry, float | None]]:
    """Return ``(entry, last_used)`` of the entries that no build, no image and no entry in use is built on.

    Each comes after the entries that are built on it, and was last used when the last of them was; null if unknown.
    """
    children: dict[str, list[Entry]] = {}
    for entry in entries:
        for parent in parents(entry):
            children.setdefault(parent, []).append(entry)
    found: dict[str, Use] = {}

    def look(entry: Entry) -> Use:
        name = entry["ID"]
        if name not in found:
            above = [look(other) for other in children.get(name, ())]
            used = [epoch(entry.get("LastUsedAt") or entry.get("CreatedAt")), *(moment for _free, moment in above)]
            is_free = not is_held(entry) and all(free for free, _moment in above)
            found[name] = is_free, max(filter(None, used), default=None)
        return found[name]

    by_id = {entry["ID"]: entry for entry in entries}
    for entry in entries:
        look(entry)
    return [(by_id[name], used) for name, (is_free, used) in found.items() if is_free]


def is_held(entry: Entry) -> bool:
    """Return whether a build uses an entry, or an image shares it, so that removing it would free nothing."""
    return bool(entry.get("InUse") or entry.get("Shared"))


def parents(entry: Entry) -> list[str]:
    """Return the ids of the entries that an entry is built on; engines before 23 name only one."""
    return entry.get("Parents") or ([entry["Parent"]] if entry.get("Parent") else [])
