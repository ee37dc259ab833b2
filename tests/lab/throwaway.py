# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers to restart, break and remove, labelled as compose labels its own."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator

from .engine import docker
from .images import ensure_image
from .servers import LABEL, PROCESS_LABEL, this_process
from .shell import attempt, wait_until

COMPOSE = "com.docker.compose"


class Project:
    """A compose project that compose has never seen: its containers only carry the labels."""

    def __init__(self, name: str, owner: str) -> None:
        self.name = name
        self.owner = owner
        self.containers: list[str] = []
        # What compose would have noted as the file that they were made of.
        self.compose_file: str | None = None

    def run(
        self,
        service: str,
        *command: str,
        depends_on: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
        labels: dict[str, str] | None = None,
        verb: str = "run",
    ) -> str:
        """Start a container of a service and return its name; without a command it sleeps."""
        name = f"{self.name}-{service}-{secrets.token_hex(2)}"
        marks = {
            LABEL: self.owner,
            PROCESS_LABEL: this_process(),
            f"{COMPOSE}.project": self.name,
            f"{COMPOSE}.service": service,
            f"{COMPOSE}.oneoff": "False",
            f"{COMPOSE}.depends_on": ",".join(f"{other}:service_started:false" for other in depends_on),
            **({f"{COMPOSE}.project.config_files": self.compose_file} if self.compose_file else {}),
            **(labels or {}),
        }
        self.containers.append(name)
        docker(
            verb,
            *(["--detach"] if verb == "run" else []),
            "--init",
            "--name",
            name,
            *(word for key, value in marks.items() for word in ("--label", f"{key}={value}")),
            *options,
            ensure_image("bookworm"),
            *(command or ("sleep", "infinity")),
        )
        return name

    def remove(self) -> None:
        """Nothing of it is left."""
        if self.containers:
            attempt("docker", "rm", "--force", "--volumes", *self.containers)


@contextlib.contextmanager
def project(owner: str, name: str | None = None) -> Iterator[Project]:
    """A project of its own (or containers beside those of project ``name``), gone when the context is left."""
    found = Project(name or f"tracktion-lab-{secrets.token_hex(4)}", owner)
    try:
        yield found
    finally:
        found.remove()


def healthcheck(command: str, interval: str = "1s") -> tuple[str, ...]:
    """Options of ``docker run`` for a health check. Each run of it costs the engine 65 ms of CPU time."""
    return ("--health-cmd", command, "--health-interval", interval, "--health-timeout", "2s", "--health-retries", "2")


def inspect(name: str) -> dict:
    """What the engine says about a container."""
    return json.loads(docker("inspect", name))[0]


def wait_for(name: str, what: str, check, seconds: float = 20):
    """Wait until ``check(state)`` is true of a container's state."""
    return wait_until(lambda: check(inspect(name)["State"]), f"{name} to be {what}", seconds)
