# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a command in a container through the Docker engine, bounded in time and output.

A command that does not end in time is killed with what it has started: the engine itself would let it run on. Private
to this collection.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import container_id, is_one_off
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import summary
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import LATE, Rejected
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect

# What it means that the engine does not run a command, by the status of its answer.
REFUSALS = {404: "no_container", 409: "not_running"}
LIST_CONTAINERS = "See which there are: `docker ps --all`"
# Seconds beyond its deadline in which a command that has not ended is looked up, to be killed.
FOR_KILLING = 0.5


class Exec:
    """What a command came to: ``exit_code`` (null while unknown), ``seconds``, ``output``, ``output_bytes``, ``ended``.

    ``killed`` says whether a command that had not ``ended`` is gone; null where it had.
    """

    def __init__(self):
        self.exit_code = None
        self.seconds = None
        self.output = b""
        self.output_bytes = 0
        self.ended = None
        self.killed = None


def find(api, service, project):
    """The container of a compose service, or of that name, as summary() puts it; a running one before others."""
    listed = api.read("containers", "json", all=1)
    rows = [summary(row) for row in listed if not is_one_off(row.get("Labels") or {})]
    found = [
        row for row in rows if service in (row["service"], row["name"]) and (not project or row["project"] == project)
    ]
    if not found:
        raise CannotConnect("no_container", "there is no container of %s" % service, LIST_CONTAINERS)
    return min(found, key=lambda row: row["state"] != "running")


def run(api, identity, command, most_bytes):
    """Run ``command`` (the engine's own fields: Cmd, User, WorkingDir, Env) and wait for its end: an Exec."""
    try:
        return _run(api, identity, command, most_bytes)
    except Rejected as exc:
        raise CannotConnect(REFUSALS.get(exc.status, exc.kind), str(exc), LIST_CONTAINERS) from exc


def _run(api, identity, command, most_bytes):
    wanted = {"AttachStdout": True, "AttachStderr": True, **command}
    started = api.ask("POST", "containers", identity, "exec", body=wanted)["Id"]
    outcome, began = Exec(), time.monotonic()
    try:
        _follow(api, started, outcome, most_bytes)
        outcome.ended = True
    except CannotConnect as exc:
        if exc.kind not in LATE:
            raise
        outcome.ended = False
    outcome.seconds = round(time.monotonic() - began, 4)
    last = api.another(max(FOR_KILLING, api.deadline.remaining(api.timeout)))
    state = last.read("exec", started, "json")
    if not outcome.ended and state["Running"]:
        outcome.killed = kill(state["Pid"], identity)
    elif not state["Running"]:
        outcome.ended, outcome.exit_code = True, state["ExitCode"]
    return outcome


def _follow(api, started, outcome, most_bytes):
    """Read what the command says until it ends. What is beyond ``most_bytes`` is let go."""
    with api.stream("POST", "exec", started, "start", body={}) as answer:
        while True:
            header = answer.read(8)
            if len(header) < 8:
                return
            left = int.from_bytes(header[4:8], "big")
            while left:
                chunk = answer.read(min(left, 65536))
                if not chunk:
                    return
                left -= len(chunk)
                outcome.output_bytes += len(chunk)
                outcome.output += chunk[: max(0, most_bytes - len(outcome.output))]


def kill(pid, identity):
    """Kill a process of this container and what it has started; false where that is not certain to be done."""
    family = [pid, *descendants(pid)]
    if any(container_id(member) != identity for member in family):
        # The number is one of another machine's, or has been taken by another process since.
        return False
    try:
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
    except PermissionError:
        return False
    return True


def descendants(pid):
    """The ids of the processes that a process has started, and of those that they have."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid), encoding="utf-8") as stream:
            children = [int(word) for word in stream.read().split()]
    except OSError:
        return []
    return [found for child in children for found in (child, *descendants(child))]
