# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses, names and published ports of containers. Private to this collection.

Read from the files of the engine, which works while the engine hangs. Podman has no such files; its API is used.
"""

from __future__ import annotations

from typing import Any, Collection, Iterator, Mapping, Protocol

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_drift
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import SHARES, is_one_off, summary
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# The engine's names for the network of the host and for no network.
NOT_NETWORKS = ("host", "none")


class Files(Protocol):
    """The files of an engine, or what stands in for them."""

    def all(self) -> list[Part]:
        """Return the ``_containers.summary()`` of every container. Raises FileNotFoundError, PermissionError."""

    def file(self, identity: str, name: str) -> dict[str, Any] | None:
        """Return a file of the container with the id ``identity``, such as hostconfig.json; null if it is missing."""


class AskedEngine:
    """The content of the files of an engine, by its API."""

    def __init__(self, api: DockerApi) -> None:
        """Raises CannotConnect."""
        inspected = {row["Id"]: api.inspect(row["Id"]) for row in api.all_containers()}
        self._inspected = {identity: data for identity, data in inspected.items() if data}

    def all(self) -> list[Part]:
        """Return the ``_containers.summary()`` of every container that ran or exists when the engine was asked."""
        return [summary(dict(data, ID=identity)) for identity, data in self._inspected.items()]

    def file(self, identity: str, name: str) -> dict[str, Any] | None:
        """Return what ``hostconfig.json`` or ``config.v2.json`` of a container would hold.

        Raises KeyError for another id.
        """
        data = self._inspected[identity]
        return data.get("HostConfig") if name == "hostconfig.json" else data


class Host:
    """The containers of this machine."""

    def __init__(self, engine: Files) -> None:
        """Raises FileNotFoundError if there is no engine, PermissionError if its files cannot be read."""
        everyone = [Container(engine, summary) for summary in engine.all() if summary["name"]]
        by_id = {container.id: container for container in everyone}
        for container in everyone:
            container.join(by_id)
        self.containers = [container for container in everyone if not container.one_off]

    def of_service(self, service: str, project: str | None) -> list[Container]:
        """Return the containers of a service, or of this name, running ones first."""
        found = [each for each in self.containers if each.is_called(service) and project in (None, each.project)]
        return sorted(found, key=lambda each: (not each.running, each.name))

    def meant_by(self, name: str, source: Container) -> list[Container]:
        """Return the containers that a name means to a container.

        These are the ones of its project with this name. If it shares no network with them, its project may have given
        the name to another service, such as a pooler. If its project has neither, others on its networks are meant.
        """
        others = [each for each in self.containers if each.id != source.id]
        called = [each for each in others if each.project == source.project and each.is_called(name)]
        networks = set(source.networks)
        if any(each.running and networks.intersection(each.networks) for each in called):
            return called
        named = [each for each in others if name in each.aliases(source.networks)]
        return [each for each in named if each.project == source.project and each not in called] or called or named


class Container:
    """One container, by the files of the engine."""

    def __init__(self, engine: Files, summary: Mapping[str, Any]) -> None:
        self.id, self.name = summary["id"], summary["name"]
        self.service, self.project = summary["service"], summary["project"]
        self.state, self.exit_code = summary["state"], summary["exit_code"]
        # Its configuration and state, and what it was created with, as the engine keeps them.
        self.data = data = engine.file(self.id, "config.v2.json") or {}
        labels = (data.get("Config") or {}).get("Labels") or {}
        self.one_off = is_one_off(labels)
        # What compose created it from; null if compose recorded nothing.
        self.source = _compose_drift.source(labels)
        # The options of docker compose for its project and files.
        self.compose_options = _compose_drift.words(self.source) if self.source else []
        self.hostname: str | None = (data.get("Config") or {}).get("Hostname")
        settings = data.get("NetworkSettings") or {}
        self.pid = (data.get("State") or {}).get("Pid") or None
        self.attached: dict[str, Any] = settings.get("Networks") or {}
        self.wanted = wanted = engine.file(self.id, "hostconfig.json") or {}
        self.mode = wanted.get("NetworkMode") or ""
        self.settings = wanted
        # The container whose network it shares.
        self.owner: Container | None = None
        # The ports that should be published, too: a container that lost its network has none.
        self.ports = list(published({**(wanted.get("PortBindings") or {}), **(settings.get("Ports") or {})}))
        self.environment: list[str] = (data.get("Config") or {}).get("Env") or []
        # The TCP ports that its image or its compose file exposes.
        exposed = (each.partition("/") for each in (data.get("Config") or {}).get("ExposedPorts") or {})
        self.exposed = sorted(int(port) for port, _slash, protocol in exposed if protocol == "tcp" and port.isdigit())

    def join(self, by_id: Mapping[str, Container]) -> None:
        """Use the networks of the other container if it shares one's network."""
        if self.mode.startswith(SHARES):
            self.share(by_id.get(self.mode[len(SHARES) :]))

    def share(self, owner: Container | None) -> None:
        """Use the networks of another container, none if that is null."""
        self.owner, self.attached = owner, owner.attached if owner else {}

    @property
    def network_mode(self) -> str:
        """``networks``, ``host``, ``none``, ``shared``, or ``orphaned`` if the other container no longer exists."""
        if self.mode.startswith(SHARES):
            return "shared" if self.owner else "orphaned"
        return self.mode if self.mode in NOT_NETWORKS else "networks"

    @property
    def running(self) -> bool:
        """Whether it has a process: a paused container has one, one that is being restarted may have none."""
        return self.state in ("running", "paused") and self.pid is not None

    @property
    def networks(self) -> list[str]:
        """The names of its networks."""
        return sorted(set(self.attached).difference(NOT_NETWORKS))

    def is_called(self, name: str) -> bool:
        """Return whether ``name`` is its compose service or its own name."""
        return name in (self.service, self.name)

    def aliases(self, networks: Collection[str]) -> set[str]:
        """Return its names on these networks; none if they are those of another container."""
        if self.mode.startswith(SHARES):
            return set()
        return {alias for name in networks for alias in (self.attached.get(name) or {}).get("Aliases") or ()}

    @property
    def created_on(self) -> str | None:
        """The network that it was created with, which it may have lost since; null for none of its own."""
        mode = "bridge" if self.mode == "default" else self.mode
        return None if not mode or mode in NOT_NETWORKS or mode.startswith(SHARES) else mode

    def addresses(self) -> set[str]:
        """Return its addresses on all networks."""
        names = ("IPAddress", "GlobalIPv6Address")
        return {each[name] for each in self.attached.values() for name in names if each and each.get(name)}

    def address(self, network_id: str | None = None) -> str | None:
        """Return its IPv4 address on a network, or on its first one; null if it has none."""
        for each in self.attached.values():
            if each.get("IPAddress") and network_id in (None, each.get("NetworkID")):
                return each["IPAddress"]
        return None


def published(ports: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the published TCP ports, each once, by an IPv4 address if there is one."""
    seen: set[int] = set()
    for inner, bindings in sorted(ports.items()):
        port, _slash, protocol = inner.partition("/")
        # IPv4 first: 0.0.0.0 before ::.
        for binding in sorted(bindings or (), key=lambda each: ":" in (each.get("HostIp") or "")):
            # A range, of which the engine chooses a port at the start, is none yet.
            text = binding.get("HostPort") or ""
            outer = int(text) if text.isdigit() else 0
            if protocol == "tcp" and outer and outer not in seen:
                seen.add(outer)
                yield {
                    "host_address": binding.get("HostIp") or "0.0.0.0",
                    "host_port": outer,
                    "container_port": int(port),
                }
