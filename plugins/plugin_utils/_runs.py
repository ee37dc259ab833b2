# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of remediate.yml: who it is, whether another is still alive, and what came of its actions so far.

Private to this collection. The outcomes are kept in a file of this run's own, because each action is a task of its own
and the tasks of a run share nothing else that is written as it goes.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import secrets
import time

from ansible import constants as C
from ansible_collections.tracktion.ops.plugins.module_utils._journal import append, boot_id

OUTCOMES = "tracktion-outcomes.jsonl"


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
    for prefix in ("awx", "tower"):
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


def audit(path, entries):
    """Add entries to the audit log of the controller. Raises OSError."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(os.path.abspath(path) + ".guard", "w", encoding="ascii") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        append(path, entries)


def outcomes():
    """What came of the actions of this run so far, as entries."""
    try:
        with open(_outcomes_path(), encoding="utf-8") as handle:
            return [json.loads(line) for line in handle]
    except FileNotFoundError:
        return []


def note_outcome(entry):
    append(_outcomes_path(), [entry])


def _outcomes_path():
    return os.path.join(C.DEFAULT_LOCAL_TMP, OUTCOMES)
