# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The current run of remediate.yml: its id, its user, the outcomes of its actions; and whether another run is alive.

Private to this collection. The outcomes are kept in a file of the run, because its actions are separate tasks, which
share no other storage.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible import constants as C
from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries, _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._journal import GUARD_SECONDS, append_to, boot_id
from ansible_collections.tracktion.ops.plugins.module_utils._local_user import local_user
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Run, Values

OUTCOMES = "tracktion-outcomes.jsonl"
# More than the actions of any run write.
OUTCOMES_BYTES = 64 << 20
AWX = ("awx", "tower")


def start(task_vars: Mapping[str, Any]) -> Run:
    """Return a new id for the run of this task, its user and its process."""
    # A task runs in a worker process; its parent is ansible-playbook.
    pid = os.getppid()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return {
        "run": "%s-%s" % (stamp, secrets.token_hex(3)),
        "who": who(task_vars),
        "controller": controller(),
        "pid": pid,
        "pid_start": pid_start(pid),
    }


def who(task_vars: Mapping[str, Any]) -> str:
    """Return who started the run: the user and the job of AWX, or the user of the shell."""
    for prefix in AWX:
        job = task_vars.get(prefix + "_job_id")
        if job:
            return "%s (job %s)" % (task_vars.get(prefix + "_user_name") or "schedule", job)
    return local_user()


def controller() -> str:
    """Return a text that is equal for runs that can see each other's processes."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return " ".join((os.uname().nodename, boot_id(), namespace))


def pid_start(pid: int) -> int | None:
    """Return the start of a process in ticks since boot, which differs for a later one with the same pid; or null."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as handle:
            return int(handle.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def is_dead(lock: Mapping[str, Any]) -> bool:
    """Return whether the run that holds ``lock`` was started on this controller and its process has ended."""
    if lock.get("controller") != controller() or not lock.get("pid"):
        return False
    started = pid_start(lock["pid"])
    return started != lock.get("pid_start") if lock.get("pid_start") else started is None


def in_awx(task_vars: Mapping[str, Any]) -> bool:
    """Return whether this is a job of AWX, whose files are lost at its end."""
    return any(task_vars.get(prefix + "_job_id") for prefix in AWX)


def audit(path: str, entries: Sequence[Values]) -> None:
    """Add entries to the audit log of the controller. Without entries, test that it can be written. Raises OSError."""
    directory, name = _safe_files.beside(path, make=True, trusted=_safe_files.behind_sudo())
    with directory, directory.locked(name + ".guard", GUARD_SECONDS):
        append_to(directory, name, entries)
        if not entries:
            directory.append(name, b"")


def outcomes(warn: Callable[[str], object] = lambda text: None) -> list[Values]:
    """Return the outcomes of the actions of this run so far. Raises OSError."""
    try:
        with _outcomes_directory() as directory:
            lines = directory.read(OUTCOMES, OUTCOMES_BYTES).splitlines()
    except FileNotFoundError:
        return []
    entries = [entry for entry in map(_journal_entries.parsed, lines) if isinstance(entry, dict) and _is_outcome(entry)]
    if len(entries) < len(lines):
        warn("Lines of %s that are not outcomes are ignored" % OUTCOMES)
    return entries


def note_outcome(entry: Values) -> None:
    """Add the outcome of an action. Raises OSError."""
    with _outcomes_directory() as directory:
        append_to(directory, OUTCOMES, [entry])


def _outcomes_directory() -> _safe_files.Directory:
    # Ansible made it and runs code from there, so the directories above it are not checked.
    return _safe_files.Directory(C.DEFAULT_LOCAL_TMP, ancestors=False)


def _is_outcome(entry: Values) -> bool:
    """Return whether an entry has the fields that the report and the limit on failures read."""
    if not all(isinstance(entry.get(name), str) for name in ("action", "outcome")):
        return False
    if entry["outcome"] == "refused":
        return isinstance(entry.get("reason"), str)
    return isinstance(entry.get("host"), str) and all(
        _journal_entries.epoch(entry.get(name)) is not None for name in ("time", "settle")
    )
