# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of the build cache can go, out of what the engine says about its disk. Pure. Private to this collection.

An entry stands on the one that it was built upon, and holds it: the engine keeps that one, without a word, until all
that stands on it is gone.
"""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import epoch


def removable(entries):
    """``(entry, last_used)`` of those that no build and no image uses, nor anything that stands on them.

    Each comes after those that stand on it, and was last used when the last of them was, null where nobody knows.
    """
    upon = {}
    for entry in entries:
        for parent in parents(entry):
            upon.setdefault(parent, []).append(entry)
    found = {}

    def look(entry):
        """Whether nothing holds it, and when it was last used."""
        name = entry["ID"]
        if name not in found:
            above = [look(other) for other in upon.get(name, ())]
            used = [epoch(entry.get("LastUsedAt") or entry.get("CreatedAt")), *(moment for _free, moment in above)]
            is_free = not is_held(entry) and all(free for free, _moment in above)
            found[name] = is_free, max(filter(None, used), default=None)
        return found[name]

    by_id = {entry["ID"]: entry for entry in entries}
    for entry in entries:
        look(entry)
    return [(by_id[name], used) for name, (is_free, used) in found.items() if is_free]


def is_held(entry):
    """Whether a build uses it, or an image shares it, so that its end would give nothing back."""
    return bool(entry.get("InUse") or entry.get("Shared"))


def parents(entry):
    """The ids of what an entry stands on; engines before 23 tell of one only."""
    return entry.get("Parents") or ([entry["Parent"]] if entry.get("Parent") else [])
