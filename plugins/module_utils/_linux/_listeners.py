# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the processes that listen on the ports of this machine. Private to this collection."""

from __future__ import annotations

import ipaddress
import re
from typing import Dict, Iterable, List, Tuple, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes, _sockets
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

ANY_IPV4 = str(ipaddress.IPv4Address(0))
ANY = (ANY_IPV4, str(ipaddress.IPv6Address(0)))
# The program that Docker runs for each published port.
PROXY = "docker-proxy"
# Programs that listen on the published ports of containers.
OF_ENGINES = re.compile(
    PROXY + r"|dockerd|rootlesskit\S*|rootlessport\S*|conmon|slirp4netns|pasta\S*|podman|containerd\S*|systemd"
)
# (protocol, port) -> [(address, inode)]
Listeners = Dict[Tuple[str, int], List[Tuple[str, str]]]


class Holder(TypedDict):
    """The process that holds a socket."""

    pid: int
    command: str | None


def listeners() -> Listeners:
    """Return all listening sockets of this network namespace."""
    found: Listeners = {}
    for tables, state in ((_sockets.TCP, _sockets.LISTEN), (_sockets.UDP, _sockets.CLOSED)):
        for each in _sockets.read("self", tables, (state,)):
            found.setdefault((each.protocol, each.port), []).append((each.address, each.inode))
    return found


def is_of_engine(command: str | None) -> bool:
    """Return whether the program of a holder listens for containers."""
    return bool(OF_ENGINES.fullmatch((command or "").split(" ", 1)[0]))


def target(pid: int) -> str | None:
    """Return the address of the container to which a proxy of Docker forwards connections; null if it is not known."""
    words = _processes.arguments(pid)
    at = words.index("-container-ip") + 1 if "-container-ip" in words else len(words)
    return words[at] if at < len(words) else None


def overlap(one: str, other: str) -> bool:
    """Return whether two addresses cannot listen on the same port."""
    return one == other or one in ANY or other in ANY


def holder(inode: str) -> Holder | None:
    """Return the oldest process that has a socket open, from which the others inherit it; null if none is visible."""
    found = []
    for pid in _processes.pids():
        try:
            if inode in _sockets.of_process(pid):
                found.append((_processes.started(pid) or 0, pid))
        except OSError:
            continue
    if not found:
        return None
    _started, pid = min(found)
    return {"pid": pid, "command": _processes.label(_processes.arguments(pid))}


def taken(container: Part, listening: Listeners, running: Iterable[Part]) -> list[Part]:
    """Return the ports of the stopped ``container`` that another process or container holds.

    ``running`` are the facts of the running containers: the engine's proxy listens on their ports.
    """
    found: list[Part] = []
    for wanted in container["ports"]:
        inodes = [
            inode
            for address, inode in listening.get((wanted["protocol"], wanted["port"]), ())
            if overlap(address, wanted["address"])
        ]
        if not inodes:
            continue
        by = next((other["name"] for other in running if publishes(other, wanted)), None)
        process = None if by else holder(inodes[0])
        found.append(
            {
                "container": container["name"],
                "service": container["service"],
                "address": wanted["address"],
                "port": wanted["port"],
                "protocol": wanted["protocol"],
                "held_by_container": by,
                "held_by_pid": process["pid"] if process else None,
                "held_by_command": process["command"] if process else None,
            }
        )
    return found


def publishes(container: Part, wanted: Part) -> bool:
    """Return whether a container publishes the port, on an address that overlaps with the wanted one."""
    return any(
        (port["port"], port["protocol"]) == (wanted["port"], wanted["protocol"])
        and overlap(port["address"], wanted["address"])
        for port in container["ports"]
    )


def is_local(docker_host: str) -> bool:
    """Return whether the engine runs on this machine, so that /proc shows the processes of its containers."""
    return docker_host.split("://", 1)[0] in ("unix", "http+unix")
