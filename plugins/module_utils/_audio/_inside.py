# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the probe program where the audio service runs: in its container, or with an interpreter of this host.

Private to this collection.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import Any, Mapping, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._audio import _requests
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_exec, _engine, _state_hints
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

PYTHON = "python3"
INTERPRETER = re.compile(r"^/.*/python(?:3(?:\.\d+)?)?$")
# Processes of the container among which its interpreter is looked for.
MOST_PROCESSES = 50
MAX_OUTPUT = 1 << 19
# What the engine, or a shell, says about a program that is not there.
NO_PROGRAM = re.compile(r"executable file not found|no such file or directory|not found", re.IGNORECASE)
# Seconds of the deadline that are left to read the answer.
RESERVE_SECONDS = 0.5


class Target(NamedTuple):
    """Where the program runs. ``identity`` is null on the host; ``limit`` is the memory limit by the engine."""

    container: str | None
    identity: str | None
    started: str | None
    python: str
    limit: int | None
    mounts: list[tuple[str, str]]
    pid: int | None


def find(options: Options, deadline: Deadline) -> tuple[Target, DockerApi | None]:
    """Return the target, and the client of its engine. Raises CannotConnect, BadOption."""
    if not options["service"]:
        return Target(None, None, None, options["python"] or PYTHON, None, [], None), None
    api = DockerApi(_engine.socket_of(options["docker_host"]), options["timeout"], deadline)
    try:
        with api:
            row = _docker_exec.find(api, options["service"], options["project"])
            if row["state"] != "running":
                raise _not_running(row)
            data = api.read("containers", row["id"], "json")
    except CannotConnect as exc:
        raise _engine.unless_forbidden(exc) from exc
    pid = (data.get("State") or {}).get("Pid")
    points = data.get("Mounts") or []
    return Target(
        container=row["name"],
        identity=row["id"],
        started=(data.get("State") or {}).get("StartedAt"),
        python=options["python"] or _interpreter(pid),
        limit=(data.get("HostConfig") or {}).get("Memory") or None,
        mounts=[(str(each.get("Source") or each.get("Name")), str(each.get("Destination"))) for each in points],
        pid=pid,
    ), api


def _not_running(row: Mapping[str, Any]) -> CannotConnect:
    hint = _state_hints.hint({**row, "error_message": None, "looping": False, "starting": False})
    return CannotConnect("not_running", "the container %s is %s" % (row["name"], row["state"]), hint)


def _interpreter(pid: int | None) -> str:
    """Return the path of the interpreter that the service uses, such as that of a virtual environment."""
    if pid:
        for member in [pid, *_docker_exec.descendants(pid)][:MOST_PROCESSES]:
            words = _processes.arguments(member)
            if words and INTERPRETER.match(words[0]):
                return words[0]
    return PYTHON


def run(target: Target, api: DockerApi | None, options: Options, request: Part, deadline: Deadline) -> Part:
    """Return the answer of the program. Raises CannotConnect, also if there is no interpreter."""
    argv = _requests.argv(target.python, request)
    if api is None:
        return _on_host(argv, deadline)
    command: Part = {"Cmd": argv}
    if options["user"]:
        command["User"] = options["user"]
    seconds = deadline.step()
    try:
        outcome = _docker_exec.run(api.another(seconds, Deadline(seconds)), str(target.identity), command, MAX_OUTPUT)
    except CannotConnect as exc:
        if NO_PROGRAM.search(str(exc)):
            raise _no_python(target) from exc
        raise _engine.unless_forbidden(exc) from exc
    if not outcome.ended:
        raise _late(seconds)
    if outcome.exit_code in (126, 127) and NO_PROGRAM.search(outcome.output.decode("utf-8", "replace")):
        raise _no_python(target)
    return _requests.answer(outcome.output, outcome.exit_code)


def _no_python(target: Target) -> CannotConnect:
    name = shell_quote(target.container or "")
    return CannotConnect(
        "failed",
        "there is no %s in the container %s" % (target.python, target.container),
        "Set `python` to the interpreter of the service. What runs in the container: `docker top %s`" % name,
    )


def _late(seconds: float) -> CannotConnect:
    hint = "Raise `deadline`, or measure when the host is less busy: `uptime`."
    return CannotConnect("no_answer", "the probe does not end within %.1f s" % seconds, hint)


def _on_host(argv: list[str], deadline: Deadline) -> Part:
    seconds = deadline.step()
    try:
        # A measuring function has no AnsibleModule whose run_command it could call.
        with subprocess.Popen(  # noqa: S603  # pylint: disable=ansible-bad-function
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        ) as process:
            try:
                output, _errors = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired as exc:
                for pid in (process.pid, *_docker_exec.descendants(process.pid)):
                    _kill(pid)
                raise _late(seconds) from exc
    except OSError as exc:
        raise CannotConnect(
            "failed",
            "%s cannot be run: %s" % (argv[0], exc.strerror or exc),
            "Set `python` to an interpreter of this host: `ls -l /usr/bin/python3`",
        ) from exc
    return _requests.answer(output[:MAX_OUTPUT], process.returncode)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except OSError:
        pass


def describe(target: Target, options: Options, seconds: float) -> Part:
    """Return the part ``target``, without what only the program knows."""
    return {
        "service": options["service"] or None,
        "container": target.container,
        "python": target.python,
        "uid": None,
        "gid": None,
        "seconds": round(seconds, 3),
        "mounts": ["%s on %s" % mount for mount in target.mounts[: options["top"]]],
    }


def inside(target: Target, path: str) -> str:
    """Return the path in the container of a path of the host below one of its mounts; any other path as it is."""
    for source, destination in sorted(target.mounts, key=lambda mount: -len(mount[0])):
        if path.startswith(source.rstrip("/") + "/") and not path.startswith(destination.rstrip("/") + "/"):
            return destination.rstrip("/") + path[len(source.rstrip("/")) :]
    return path


def with_host_paths(target: Target, music: list[Part]) -> list[Part]:
    """Return the library with the ``host_path`` of what denies access; null if it is not in a mount."""
    for part in music:
        for entry in (part["first_unreadable"], *part["unreadable"]):
            if entry is not None:
                entry["host_path"] = entry["denied"] if target.container is None else _outside(target, entry["denied"])
    return music


def _outside(target: Target, path: str) -> str | None:
    for source, destination in sorted(target.mounts, key=lambda mount: -len(mount[1])):
        below = destination.rstrip("/")
        if source.startswith("/") and (path == destination or path.startswith(below + "/")):
            return source.rstrip("/") + path[len(below) :]
    return None


def now() -> float:
    """Return the time of this host, in epoch seconds."""
    return time.time()
