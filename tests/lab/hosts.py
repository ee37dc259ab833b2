# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Throwaway managed hosts: containers with sshd on the stack's network, for tests over ssh and for fleets."""

from __future__ import annotations

import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import inventory
from .engine import docker, install_programs
from .images import ensure_image
from .paths import CONTAINER_FILES
from .servers import LABEL
from .shell import LabError, run, step, wait_until
from .stack import Stack

# Which stack a host belongs to.
HOST_LABEL = "tracktion.lab.host"
# More at once only queue at the engine.
PARALLEL = 4
DOCKER_SOCKET = "/var/run/docker.sock"


def scale(stack: Stack, count: int, suite: str | None = None, docker_socket: bool = False) -> Path:
    """Leave exactly so many hosts running, and return the inventory of them (group `fleet`)."""
    if not stack.exists:
        raise LabError(f"hosts live on a stack's network, and {stack.project} is down; first: lab up{stack.option}")
    image = ensure_image(suite or stack.state["suite"])
    key = ensure_key(stack)
    wanted = [f"host-{number:02}" for number in range(1, count + 1)]
    present = running(stack)
    with step(f"{count} hosts"), ThreadPoolExecutor(PARALLEL) as pool:
        surplus = [name for name in present if name not in wanted or present[name] != image]
        list(pool.map(lambda name: remove(stack, name), surplus))
        missing = [name for name in wanted if name not in present or name in surplus]
        list(pool.map(lambda name: start(stack, name, image, key, docker_socket), missing))
    file = stack.directory / "hosts.yml"
    file.write_text(inventory.of_hosts(stack, variables_of_hosts(stack), key), encoding="utf-8")
    return file


def ensure_key(stack: Stack) -> Path:
    """The private key that opens this stack's hosts."""
    key = stack.directory / "ssh" / "id_ed25519"
    if not key.exists():
        install_programs({"ssh-keygen": ("openssh-client",)})
        key.parent.mkdir(mode=0o700, exist_ok=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", stack.project, "-f", key)
    return key


def running(stack: Stack) -> dict[str, str]:
    """The stack's hosts, running or not, and their images."""
    listing = docker(
        "ps", "--all", "--filter", f"label={HOST_LABEL}={stack.project}", "--format", "{{.Names}} {{.Image}}"
    )
    rows = (line.split() for line in listing.splitlines())
    return {container.removeprefix(f"{stack.project}-"): image for container, image in rows}


def start(stack: Stack, name: str, image: str, key: Path, docker_socket: bool) -> None:
    """Start one host and wait until its sshd greets."""
    container = f"{stack.project}-{name}"
    docker(
        "run", "--detach", "--init", "--name", container, "--hostname", name, "--network", stack.network,
        "--label", f"{LABEL}={stack.project}", "--label", f"{HOST_LABEL}={stack.project}",
        "--volume", f"{CONTAINER_FILES}:/lab:ro",
        "--volume", f"{key}.pub:/authorized_key:ro",
        "--volume", f"{stack.watched_directory}:/music",
        *(["--volume", f"{DOCKER_SOCKET}:{DOCKER_SOCKET}"] if docker_socket else []),
        image, "/bin/sh", "/lab/host.sh",
    )  # fmt: skip
    address = docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)
    wait_until(lambda: greets(address.strip()), f"sshd of {container}", timeout=30)


def greets(address: str) -> bool:
    """Whether an ssh server speaks at this address."""
    with contextlib.suppress(OSError), socket.create_connection((address, 22), timeout=2) as connection:
        return connection.recv(4) == b"SSH-"
    return False


def remove(stack: Stack, name: str) -> None:
    """Remove one host."""
    docker("rm", "--force", "--volumes", f"{stack.project}-{name}")


def variables_of_hosts(stack: Stack) -> dict[str, dict[str, str]]:
    """What only one host has, by its name: how to reach it."""
    names = sorted(running(stack))
    if not names:
        return {}
    found = docker(
        "inspect", "--format", "{{.Id}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
        *(f"{stack.project}-{name}" for name in names),
    ).splitlines()  # fmt: skip
    return {name: variables_of_host(*line.split()) for name, line in zip(names, found, strict=True)}


def variables_of_host(container: str, address: str) -> dict[str, str]:
    """A new host may get the address of one that is gone, and must not get its ssh connection, which ssh keeps open."""
    return {"ansible_host": address, "ansible_control_path": f"%(directory)s/lab-{container[:12]}"}
