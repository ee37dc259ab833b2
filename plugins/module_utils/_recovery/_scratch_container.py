# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container without a network in which a backup is restored and compared. Private to this collection.

It has a label with the process that started it, so that a later run removes it if that process was killed, and its
program ends by ``timeout`` at the latest.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from types import TracebackType
from typing import Any, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_exec
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import Rejected, address
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _process_mark
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

LABEL = "tracktion.ops.scratch"
# The kernel ends it before any other process if memory gets short.
FIRST_TO_GO = 1000
LOG_BYTES, LOG_LINES = 65536, 40
# Seconds for a request that makes the engine work.
REQUEST_SECONDS = 60.0
# Seconds that the program of the container gets after the deadline.
SPARE_SECONDS = 30
OUTPUT_BYTES = 64 * 1024 * 1024


def engine(options: Options, deadline: Deadline) -> DockerApi:
    """Return a client of the engine in ``docker_host``. Raises BadOption."""
    wanted = {"docker_host": options["docker_host"], "tls": False}
    return DockerApi(address(wanted), REQUEST_SECONDS, deadline)


def image_of(api: DockerApi, identity: str) -> tuple[str, str]:
    """Return the id of the image of a container, and the container's name. Raises CannotConnect."""
    data = api.read("containers", identity, "json")
    return data["Image"], data["Name"].lstrip("/")


class NoScratch(Failure):
    """No scratch server could be started here, for a reason that proves nothing about the backup."""

    kind = "no_scratch_server"


class Scratch:
    """A running container. A context manager that removes it with its volumes.

    ``command`` is what it runs. ``mounts`` are directories of the host: path in the container -> path, and whether it
    is writable; ``tmpfs`` are paths in memory. Without ``user``, it runs as the user of this process, so that it can
    read the files of this process. ``shared_memory`` is the size of /dev/shm in bytes.
    """

    def __init__(
        self,
        api: DockerApi,
        image: str,
        command: Sequence[str],
        mounts: Mapping[str, tuple[str, bool]],
        environment: Mapping[str, str] | None = None,
        tmpfs: Sequence[str] = (),
        user: str | None = None,
        shared_memory: int | None = None,
    ) -> None:
        self.api = api
        seconds = int(api.deadline.remaining(86400)) + SPARE_SECONDS
        self._body: dict[str, Any] = {
            "Image": image,
            # As the first process of a container, timeout of coreutils 9.10 ends at once.
            "Entrypoint": ["sh", "-c", 'timeout "$@"; exit $?', "sh", str(seconds)],
            "Cmd": list(command),
            "User": user or "%d:%d" % (os.geteuid(), os.getegid()),
            "WorkingDir": "/",
            "Env": ["%s=%s" % pair for pair in (environment or {}).items()],
            "Labels": {LABEL: _process_mark.own()},
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {
                "NetworkMode": "none",
                "Mounts": [
                    {"Type": "bind", "Target": target, "Source": source, "ReadOnly": not writable}
                    for target, (source, writable) in mounts.items()
                ],
                # Podman knows no option for the owner. The container has one user.
                "Tmpfs": dict.fromkeys(tmpfs, "mode=1777"),
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "OomScoreAdj": FIRST_TO_GO,
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "5m"}},
                **({"ShmSize": shared_memory} if shared_memory else {}),
            },
        }
        self.identity = ""

    def __enter__(self) -> Scratch:
        name = "tracktion-scratch-%s" % secrets.token_hex(4)
        self.identity = self.api.ask("POST", "containers", "create", body=self._body, name=name)["Id"]
        try:
            self.api.ask("POST", "containers", self.identity, "start")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        # Also after the deadline. A container that stays is removed by the next run.
        with contextlib.suppress(CannotConnect):
            remove(self.api.another(REQUEST_SECONDS), self.identity)

    def exit_code(self) -> int | None:
        """Return the exit code of its program; null while it runs."""
        state = self.api.read("containers", self.identity, "json")["State"]
        return None if state["Running"] else state["ExitCode"]

    def wait(self) -> int:
        """Wait for the end of its program and return the exit code. Raises CannotConnect."""
        api = self.api.another(max(1.0, self.api.deadline.remaining(86400)), self.api.deadline)
        return api.ask("POST", "containers", self.identity, "wait")["StatusCode"]

    def log(self) -> list[str]:
        """Return the last lines of its output."""
        with self.api.stream("GET", "containers", self.identity, "logs", stdout=1, stderr=1, tail=LOG_LINES) as answer:
            data = answer.read(LOG_BYTES)
        text = b""
        while len(data) >= 8:
            size = int.from_bytes(data[4:8], "big")
            text, data = text + data[8 : 8 + size], data[8 + size :]
        return [printable(line) for line in text.decode("utf-8", "surrogateescape").splitlines() if line.strip()]

    def run(self, *command: str, environment: Sequence[str] = ()) -> tuple[int | None, str]:
        """Run a command in it, and return its exit code and its output. Raises CannotConnect."""
        wanted = {"Cmd": list(command), "Env": list(environment)}
        api = self.api.another(max(1.0, self.api.deadline.remaining(86400)), self.api.deadline)
        outcome = _docker_exec.run(api, self.identity, wanted, OUTPUT_BYTES)
        return outcome.exit_code, outcome.output.decode("utf-8", "replace")


def remove(api: DockerApi, identity: str) -> None:
    """Remove a container and its own volumes, running or not. Raises CannotConnect."""
    with contextlib.suppress(_Gone):
        try:
            api.ask("DELETE", "containers", identity, force=1, v=1)
        except Rejected as exc:
            if exc.status in (404, 409):
                raise _Gone
            raise


class _Gone(Exception):
    """It does not exist any more, or is being removed."""


def sweep(api: DockerApi) -> list[str]:
    """Remove the containers whose process has ended without removing them, and return their names."""
    removed = []
    for row in api.read("containers", "json", all=1, filters={"label": [LABEL]}):
        if _process_mark.is_dead(row["Labels"][LABEL]):
            remove(api, row["Id"])
            removed.append(row["Names"][0].lstrip("/"))
    return removed
