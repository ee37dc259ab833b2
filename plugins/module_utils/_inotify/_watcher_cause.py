# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a watcher has no inotify instance or no watch: which limit was reached. Private to this collection.

EMFILE stands for three limits, and watchers name one of them: the instances of the user, those of the user namespace,
and the open files of the process. The numbers decide.
"""

from __future__ import annotations

import os
from typing import Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._inotify._budgets import Budget
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._watcher_log import Line
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# A process without a descriptor left for a file has one or two for its log.
FILES_LEFT = 1
# The least limit of open files with which a program that only watches works.
FEW_FILES = 256


class Files(NamedTuple):
    """The open files of a process, null if it does not run, and their limit, null if it is not known."""

    used: int | None
    limit: int | None


def find(log: Mapping[str, Line], budgets: Sequence[Budget], files: Files, names: Mapping[int, str]) -> Part | None:
    """Return the limit that keeps the watcher from inotify, as ``kind``, ``message``, ``hint`` and ``line``; or null.

    The kinds are ``instances``, ``watches``, ``open_files``, and ``past`` for a limit that is no longer reached.
    """
    if "watches" in log:
        return _cause(_watches(budgets, names) or _past("inotify watches", budgets, Files(None, None)), log["watches"])
    line = log.get("instances") or log.get("files")
    if line:
        found = _open_files(files) or _instances(budgets, names) or _few_files(files, budgets)
        return _cause(found or _past("inotify instances or open files", budgets, files), line)
    found = _open_files(files) or _instances(budgets, names) or _watches(budgets, names)
    return _cause(found, None)


def files_of(pid: int) -> Files:
    """Return the open files of a process and its limit. Raises OSError."""
    used = len(os.listdir("/proc/%d/fd" % pid))
    with open("/proc/%d/limits" % pid, encoding="utf-8") as stream:
        soft = next((line.split()[3] for line in stream if line.startswith("Max open files")), "")
    return Files(used, int(soft) if soft.isdigit() else None)


def polling(
    declared: str | None, observed: bool | None, has_instances: bool, cause: Part | None, fallback: Line | None
) -> Part:
    """Return whether the watcher polls on purpose, and whether it does so because a limit was reached.

    ``declared`` is the setting that makes it poll, ``observed`` whether it was seen to list the directory, ``fallback``
    the line of its log that says that it polls.
    """
    fell_back = bool(not has_instances and not declared and cause and (observed or fallback))
    return {
        "declared": declared,
        "observed": observed,
        "polls": not has_instances and not fell_back and bool(declared or observed or fallback),
        "fell_back": fell_back,
    }


def _cause(found: tuple[str, str, str] | None, line: Line | None) -> Part | None:
    if found is None:
        return None
    kind, message, hint = found
    return {"kind": kind, "message": message, "hint": hint, "line": line.text if line else None}


def _instances(budgets: Sequence[Budget], names: Mapping[int, str]) -> tuple[str, str, str] | None:
    for budget in budgets:
        if budget.instances >= budget.max_instances:
            message = "%s holds %d of %d inotify instances" % (
                _whose(budget, names),
                budget.instances,
                budget.max_instances,
            )
            return "instances", message, _raise("instances", budget, budget.max_instances)
    return None


def _watches(budgets: Sequence[Budget], names: Mapping[int, str]) -> tuple[str, str, str] | None:
    for budget in budgets:
        if budget.watches >= budget.max_watches:
            message = "%s holds %d of %d inotify watches" % (_whose(budget, names), budget.watches, budget.max_watches)
            return "watches", message, _raise("watches", budget, budget.max_watches)
    return None


def _raise(what: str, budget: Budget, limit: int) -> str:
    """Return the hint that doubles a limit."""
    if budget.namespace is None or budget.pid is None:
        return "Raise the limit: `sysctl -w fs.inotify.max_user_%s=%d`, and in a file of /etc/sysctl.d" % (
            what,
            2 * limit,
        )
    return "Raise the limit of the user namespace: `nsenter --user --target %d sysctl -w user.max_inotify_%s=%d`" % (
        budget.pid,
        what,
        2 * limit + 128,
    )


def _whose(budget: Budget, names: Mapping[int, str]) -> str:
    name = names.get(budget.uid, str(budget.uid))
    return name if budget.namespace is None else "%s in its user namespace" % name


def _open_files(files: Files) -> tuple[str, str, str] | None:
    if files.used is None or files.limit is None or files.used < files.limit - FILES_LEFT:
        return None
    return "open_files", "it has %d of %d files open (nofile)" % (files.used, files.limit), RAISE_FILES


RAISE_FILES = (
    "Raise its limit of open files (ulimits: nofile in the compose file, LimitNOFILE of a systemd unit), and restart"
    " it. The limits of inotify do not help"
)


def _few_files(files: Files, budgets: Sequence[Budget]) -> tuple[str, str, str] | None:
    """Return the limit of open files if the process has ended, few are allowed, and instances are left."""
    if files.limit is None or files.limit > FEW_FILES or not _left(budgets):
        return None
    return "open_files", "it may open %d files (nofile), and inotify instances are left" % files.limit, RAISE_FILES


def _past(what: str, budgets: Sequence[Budget], files: Files) -> tuple[str, str, str]:
    """Return that a limit was reached at the time of the line in the log, and is not now, as far as that is known."""
    if _left(budgets):
        message = "its log names the limit of %s, which is not reached now" % what
        return "past", message, "Restart the watcher: it sets its watches when it starts"
    message = "its log names the limit of %s; not all of the use could be counted" % what
    if files.limit is not None:
        message += ", and it may open %d files (nofile)" % files.limit
    return "past", message, "Compare the use of inotify and the open files with their limits"


def _left(budgets: Sequence[Budget]) -> bool:
    return bool(budgets) and all(budget.known for budget in budgets)
