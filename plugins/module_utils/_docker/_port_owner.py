# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container or process answers at an address of this machine. Private to this collection.

By the ports that containers publish, and by the listening sockets of the kernel. A process that an engine uses to
publish a port (docker-proxy, rootlesskit) does not count: the container behind it does.
"""

from __future__ import annotations

import os
import re
import socket
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import Container
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import container_id
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners, _processes, _sockets

# Programs that forward requests to other servers.
PROXIES = (
    "nginx\\S*|openresty|haproxy\\S*|traefik\\S*|caddy\\S*|envoy\\S*|apache2|httpd|varnish\\S*|kong\\S*|oauth2-proxy|"
    "lighttpd|squid|hitch|stunnel4?|socat|sshd?|autossh|kubectl|cloudflared|tailscaled?|systemd-socket-proxyd"
)
# Labels with the name of a service, for containers that compose did not create.
SERVICE_LABELS = (
    "com.docker.swarm.service.name",
    "io.kubernetes.container.name",
    "com.hashicorp.nomad.task_name",
    "PODMAN_SYSTEMD_UNIT",
)
SWARM_NAMESPACE = "com.docker.stack.namespace"


class Binding(NamedTuple):
    """A port that a container publishes or is to publish: any of ``first`` to ``last`` for a range."""

    address: str
    first: int
    last: int
    # The port in the container.
    inner: int

    def covers(self, address: str, port: int) -> bool:
        """Return whether a connection to this address and port may reach the container."""
        return self.first <= port <= self.last and _listeners.overlap(self.address, address)


class Owner(NamedTuple):
    """What answers: a container, or a process outside of the known containers."""

    container: Container | None
    pid: int | None = None
    command: str | None = None

    @property
    def is_engine(self) -> bool:
        """Whether it is a process of an engine, so that the container behind it is not known."""
        return self.container is None and _listeners.is_of_engine(self.command)

    @property
    def is_proxy(self) -> bool:
        """Whether its program, or the image of its container, is one that forwards requests."""
        names = [self.command or ""]
        if self.container:
            image = str((self.container.data.get("Config") or {}).get("Image") or "").rpartition("/")[2]
            names = [re.split("[:@]", image)[0], *map(os.path.basename, words(self.container)[:2])]
        return any(re.fullmatch(PROXIES, name) for name in names)


def words(container: Container) -> list[str]:
    """Return the command line of a container. It may contain passwords: do not report it."""
    return [str(container.data.get("Path") or ""), *map(str, container.data.get("Args") or [])]


def command(container: Container) -> str | None:
    """Return the program of a container, with the script that it runs."""
    return _processes.label(words(container))


# Something listens, and its process is not visible.
INVISIBLE = Owner(None)


def bindings(ports: Mapping[str, Any] | None) -> Iterator[Binding]:
    """Yield the TCP ports in a mapping of the engine, without those that it chooses by itself."""
    for inner, entries in (ports or {}).items():
        number, _slash, protocol = inner.partition("/")
        for entry in entries or []:
            match = re.fullmatch(r"(\d+)(?:-(\d+))?", entry.get("HostPort") or "")
            if match and number.isdigit() and protocol in ("", "tcp") and int(match.group(1)):
                first, last = int(match.group(1)), int(match.group(2) or match.group(1))
                yield Binding(entry.get("HostIp") or _listeners.ANY_IPV4, first, last, int(number))


def published(container: Container) -> list[Binding]:
    """Return the ports that a running container publishes."""
    if not container.running:
        return []
    return list(bindings((container.data.get("NetworkSettings") or {}).get("Ports")))


def wanted(container: Container) -> list[Binding]:
    """Return the ports that a container is to publish whenever it runs."""
    return list(bindings(container.wanted.get("PortBindings")))


def is_called(container: Container, service: str) -> bool:
    """Return whether a container is one of a service: of compose or another orchestrator, or by its name."""
    if container.is_called(service):
        return True
    labels = (container.data.get("Config") or {}).get("Labels") or {}
    for label in SERVICE_LABELS:
        value = str(labels.get(label) or "")
        namespace = str(labels.get(SWARM_NAMESPACE) or "")
        if service in (value, value.rpartition(".service")[0], value[len(namespace) + 1 :] if namespace else value):
            return True
    if container.service is not None:
        # Aliases are names of a replacement, such as a second deployment of the service.
        return service in container.aliases(container.attached)
    return resembles(container, service)


def resembles(container: Container, service: str) -> bool:
    """Return whether the name of a container has the name of a service in it, with more words."""
    return bool(re.search(r"(?:^|[-_.])%s(?:[-_.]|$)" % re.escape(service), container.name or ""))


def is_local(address: str) -> bool:
    """Return whether an address is one of this machine."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True


def publisher(address: str, port: int, containers: Iterable[Container]) -> Container | None:
    """Return the running container that publishes this port of this machine; null if none does."""
    found = None
    for container in containers:
        for binding in published(container):
            if binding.covers(address, port) and (found is None or binding.address == address):
                found = container
    return found


def listener(address: str, port: int, listening: _listeners.Listeners, containers: Sequence[Container]) -> Owner | None:
    """Return what listens at an address of this machine, null if nothing does.

    Return INVISIBLE if its process is not visible.
    """
    at_port = [entry for entry in listening.get(("tcp", port), ()) if _listeners.overlap(entry[0], address)]
    if not at_port:
        return None
    _address, inode = min(at_port, key=lambda entry: entry[0] != address)
    holder = _listeners.holder(inode)
    if holder is None:
        return INVISIBLE
    identity = container_id(holder["pid"])
    container = next((each for each in containers if each.id == identity), None)
    return Owner(container, holder["pid"], holder["command"])


def listens(pid: int, port: int) -> str | None:
    """Return whether something in the network namespace of a process listens on a port: ``yes``, ``loopback``, ``no``.

    Null if that cannot be read.
    """
    if not os.access("/proc/%d/net/tcp" % pid, os.R_OK):
        return None
    found = {each.address for each in _sockets.read(pid, states=(_sockets.LISTEN,)) if each.port == port}
    if not found:
        return "no"
    return "loopback" if all(map(_sockets.is_loopback, found)) else "yes"


def peers(pid: int) -> set[str]:
    """Return the other ends of the connections in the network namespace of a process, also of those just closed."""
    return {_sockets.plain(each.remote_address) for each in _sockets.read(pid) if each.state != _sockets.LISTEN}


def are_connected(one: Container, other: Container) -> bool:
    """Return whether two containers have, or just had, a connection between them."""
    if one.pid is None or other.pid is None:
        return False
    return bool(peers(one.pid) & other.addresses() or peers(other.pid) & one.addresses())
