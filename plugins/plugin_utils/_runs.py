# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of remediate.yml: who it is, whether another is still alive, and what came of its actions so far.

Private to this collection. The outcomes are kept in a file of this run's own, because each action is a task of its own
and the tasks of a run share nothing else that is written as it goes.
"""

from __future__ import annotations

import getpass
import os
import secrets
import time

from ansible import constants as C
from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries, _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._journal import GUARD_SECONDS, append_to, boot_id

OUTCOMES = "tracktion-outcomes.jsonl"
# Larger than what the actions of any run can write.
OUTCOMES_BYTES = 64 << 20
AWX = ("awx", "tower")


def start(task_vars):
    """``{run, who, controller, pid, pid_start}`` of the run that this task belongs to."""
    # A task runs in a worker; its parent is ansible-playbook itself.
    pid = os.getppid()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return {
        "run": "%s-%s" % (stamp, secrets.token_hex(3)),
        "who": who(task_vars),
        "controller": controller(),
        "pid": pid,
        "pid_start": pid_start(pid),
    }


def who(task_vars):
    """Who started the run: the user of AWX and its job, or the user at the shell."""
    for prefix in AWX:
        job = task_vars.get(prefix + "_job_id")
        if job:
            return "%s (job %s)" % (task_vars.get(prefix + "_user_name") or "schedule", job)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "uid %d" % os.getuid()
    behind = os.environ.get("SUDO_USER")
    return "%s@%s" % ("%s (%s)" % (user, behind) if behind else user, os.uname().nodename)


def controller():
    """What two runs share that can see each other's processes."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return " ".join((os.uname().nodename, boot_id(), namespace))


def pid_start(pid):
    """When a process started, in ticks since boot: a later one with its number has another. Null where unknown."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as handle:
            return int(handle.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def is_dead(lock):
    """Whether the run that holds ``lock`` is known to be over: it was started here, and its process is gone."""
    if lock.get("controller") != controller() or not lock.get("pid"):
        return False
    started = pid_start(lock["pid"])
    return started != lock.get("pid_start") if lock.get("pid_start") else started is None


def in_awx(task_vars):
    """Whether this is a job of AWX, whose file system is gone with it."""
    return any(task_vars.get(prefix + "_job_id") for prefix in AWX)


def audit(path, entries):
    """Add entries to the audit log of the controller; without entries, only try whether that works. Raises OSError."""
    directory, name = _safe_files.beside(path, make=True, trusted=_safe_files.behind_sudo())
    with directory, directory.locked(name + ".guard", GUARD_SECONDS):
        append_to(directory, name, entries)
        if not entries:
            directory.append(name, b"")


def outcomes(warn=lambda text: None):
    """What came of the actions of this run so far, as entries. Raises OSError."""
    try:
        with _outcomes_directory() as directory:
            lines = directory.read(OUTCOMES, OUTCOMES_BYTES).splitlines()
    except FileNotFoundError:
        return []
    read = [_journal_entries.parsed(line) for line in lines]
    entries = [entry for entry in read if _is_outcome(entry)]
    if len(entries) < len(read):
        warn("Lines of %s that are not outcomes were passed over" % OUTCOMES)
    return entries


def note_outcome(entry):
    """Add the outcome of an action. Raises OSError."""
    with _outcomes_directory() as directory:
        append_to(directory, OUTCOMES, [entry])


def _outcomes_directory():
    # Made by Ansible for this run, which runs code from there: what is above it, is Ansible's to judge.
    return _safe_files.Directory(C.DEFAULT_LOCAL_TMP, ancestors=False)


def _is_outcome(entry):
    """Whether an entry has what the report and the limits on failures read of it."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("action", "outcome")):
        return False
    if entry["outcome"] == "refused":
        return isinstance(entry.get("reason"), str)
    return isinstance(entry.get("host"), str) and all(
        _journal_entries.epoch(entry.get(name)) is not None for name in ("time", "settle")
    )
