# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the watches that are left are enough for the directories without one. Private to this collection."""

from __future__ import annotations

from typing import Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _budgets
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._directories import Directory
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify import Scan
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._watcher import Watcher
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part


def forecast(
    directories: list[Directory],
    watcher: Watcher,
    scan: Scan,
    machine: Mapping[str, int],
    names: Mapping[int, str],
    unknown: Unknown,
) -> list[Part] | None:
    """Return whether the watches left are enough for the directories without one.

    A list of one entry, for the user of the watcher; empty if no directory could be walked or no watcher runs; null if
    the processes of the watcher are hidden.
    """
    main = watcher.main_process(scan)
    if main is None and watcher.configured and watcher.running is None and directories:
        unknown.add("forecast", watcher.reason, watcher.hint)
        return None
    walked = [(directory, directory.tree) for directory in directories if directory.tree]
    if not walked or main is None:
        return []
    try:
        budget = _budgets.scarcest(_budgets.of_process(main, scan, machine))
    except PermissionError:
        unknown.add("forecast", "the user namespace of the watcher cannot be read", _rights.hint("CAP_SYS_PTRACE"))
        return None
    except OSError:
        return []
    missing = [
        directory.result["tree"]["not_watched"] if directory.result["watched"] else tree.directories
        for directory, tree in walked
    ]
    needed = None if None in missing else sum(missing)
    existing = [directory for directory in directories if directory.result["exists"] is not False]
    complete = len(walked) == len(existing) and all(tree.complete for _directory, tree in walked)
    at_most = budget.max_watches - budget.watches
    left = at_most if budget.known else None
    user = names.get(budget.uid, str(budget.uid))
    entry = {
        "uid": budget.uid,
        "user": user if budget.namespace is None else "%s in the user namespace of the watcher" % user,
        "namespace": None if budget.namespace is None else {"pid": main, "inode": budget.namespace},
        "directories": sum(tree.directories for _directory, tree in walked),
        "complete": complete,
        "watches_limit": budget.max_watches,
        "watches_held": budget.watches if budget.known else None,
        "watches_left": left,
        "watches_left_at_most": at_most,
        "watches_needed": needed,
        "directories_left": left - needed if left is not None and needed is not None and complete else None,
        "directories_left_at_most": at_most - needed if needed is not None else None,
        "fits": fits(left, at_most, needed, complete),
    }
    if not budget.known:
        unknown.add("forecast.*", scan.hidden_reason, scan.hidden_hint)
    return [entry]


def fits(left: int | None, at_most: int, needed: int | None, complete: bool) -> bool | None:
    """Return whether the watches are enough: false as soon as that is certain, true only if all is known, else null."""
    if needed is None:
        return None
    if needed > at_most:
        return False
    return left >= needed if left is not None and complete else None
