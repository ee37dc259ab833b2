# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a command in a container through the engine, bounded in time and output.

A command that does not end in time is killed with its child processes: the engine would let it run. Private to this
collection.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import container_id, is_one_off
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi, summary
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import Rejected
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import LATE, CannotConnect

# Kind of the failure by the status with which the engine rejects a command.
REJECTIONS = {404: "no_container", 409: "not_running"}
LIST_CONTAINERS = "List the containers: `docker ps --all`"
# Seconds after the deadline in which a command that has not ended is looked up and killed.
FOR_KILLING = 0.5


class Exec:
    """The outcome of a command.

    ``exit_code`` is null while unknown. ``killed`` is whether a command that had not ``ended`` was killed, null if it
    had.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.seconds: float | None = None
        self.output = b""
        self.output_bytes = 0
        self.ended: bool | None = None
        self.killed: bool | None = None


def find(api: DockerApi, service: str, project: str | None) -> Mapping[str, Any]:
    """Return the ``summary`` of the container of a compose service, or of that name; a running one first.

    Raises CannotConnect of the kind ``no_container``.
    """
    listed = api.read("containers", "json", all=1)
    rows = [summary(row) for row in listed if not is_one_off(row.get("Labels") or {})]
    found = [
        row for row in rows if service in (row["service"], row["name"]) and (not project or row["project"] == project)
    ]
    if not found:
        raise CannotConnect("no_container", "there is no container of %s" % service, LIST_CONTAINERS)
    return min(found, key=lambda row: row["state"] != "running")


def run(api: DockerApi, identity: str, command: Mapping[str, Any], most_bytes: int) -> Exec:
    """Run ``command`` (fields of the engine: Cmd, User, WorkingDir, Env) and return its outcome when it has ended."""
    try:
        return _run(api, identity, command, most_bytes)
    except Rejected as exc:
        kind = exc.kind if exc.status is None else REJECTIONS.get(exc.status, exc.kind)
        raise CannotConnect(kind, str(exc), LIST_CONTAINERS) from exc


def _run(api: DockerApi, identity: str, command: Mapping[str, Any], most_bytes: int) -> Exec:
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


def _follow(api: DockerApi, started: str, outcome: Exec, most_bytes: int) -> None:
    """Read the output of the command until it ends. Keep at most ``most_bytes`` of it."""
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


def kill(pid: int, identity: str) -> bool:
    """Kill a process of this container and its descendants; return false if that is not certain."""
    family = [pid, *descendants(pid)]
    if any(container_id(member) != identity for member in family):
        # The process id is one of another machine, or was reused.
        return False
    try:
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
    except PermissionError:
        return False
    return True


def descendants(pid: int) -> list[int]:
    """Return the ids of the child processes of a process, and of theirs."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid), encoding="utf-8") as stream:
            children = [int(word) for word in stream.read().split()]
    except OSError:
        return []
    return [found for child in children for found in (child, *descendants(child))]
