# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container or process answers at an endpoint, and whether it is the service that is meant. Private to this
collection.
"""

from __future__ import annotations

import time
from operator import itemgetter
from typing import Any, Collection, Iterable, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _compose_drift,
    _compose_file,
    _container_facts,
    _engine,
    _last_words,
    _port_owner,
    _state_hints,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import (
    AskedEngine,
    Container,
    Host,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, Engine
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._docker._port_owner import INVISIBLE, Owner
from ansible_collections.tracktion.ops.plugins.module_utils._http._proxy_answers import GATEWAY
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _cgroup, _listeners
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Deadline,
)
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# Share of the deadline for an engine whose files cannot be used.
ENGINE_SHARE = 0.2
CPU_FIELDS = ("container", "limit_cpus", "cpu_ratio", "throttled_ratio", "sampled_periods", "hint")
NOT_READABLE = "the files of the Docker engine can be read by root only"


class Contact(NamedTuple):
    """An endpoint after its requests: its service, and the address and port of its url that accepted a connection.

    ``address`` is null if none did. ``proxy`` names what answers on behalf of the service. ``status`` is that of the
    answer, null without one.
    """

    service: str
    address: str | None
    port: int
    proxy: str | None
    status: int | None = None


class Containers:
    """The containers of this machine, and the counters of the CPU of those that run services.

    ``host`` is null if there is no engine, or with a ``reason`` and a ``hint`` if its containers cannot be read.
    """

    def __init__(self, options: Options, services: Iterable[str]) -> None:
        self.options = options
        self.host: Host | None = None
        self.reason: str | None = None
        self.hint: str | None = None
        # The kind of the engine, and the start of a command to it.
        self.kind, self.engine = "docker", "docker"
        self._listening: _listeners.Listeners | None = None
        self._declared: dict[str, list[str]] = {}
        names = set(services)
        if not names:
            return
        self._read()
        self._hierarchies = _cgroup.Hierarchies()
        self._began = time.monotonic()
        running = [each for name in names for each in self.of_service(name) if each.running]
        self._first = {each.id: self._counters(each) for each in running}

    def _read(self) -> None:
        docker_host = self.options["docker_host"]
        self._set_engine("podman" if "podman" in docker_host else "docker")
        if self.options["docker_root"] or docker_host == _engine.DEFAULT_HOST:
            try:
                self.host = Host(Engine(self.options["docker_root"]))
                return
            except FileNotFoundError:
                pass
            except PermissionError:
                self.reason, self.hint = NOT_READABLE, _rights.BECOME
        if not _engine.is_installed(docker_host):
            return
        seconds = min(self.options["timeout"], self.options["deadline"] * ENGINE_SHARE)
        try:
            address = _engine.address({"docker_host": docker_host, "tls": False})
            if not address.path:
                # The containers of an engine on another machine do not answer here.
                self.reason = self.hint = None
                return
            with DockerApi(address, seconds, Deadline(seconds)) as api:
                self._set_engine(_engine.kind_of(api.negotiate()))
                self.host = Host(AskedEngine(api))
                self.reason = self.hint = None
        except CannotConnect as exc:
            if exc.kind != "no_engine":
                self.reason, self.hint = str(exc), exc.hint

    def _set_engine(self, kind: str) -> None:
        self.kind, self.engine = kind, _engine.command(kind, self.options["docker_host"])

    def of_service(self, service: str) -> list[Container]:
        """Return the containers of a service in the project, running ones first."""
        project = self.options["project"]
        everyone = self.host.containers if self.host else ()
        found = [
            each
            for each in everyone
            if _port_owner.is_called(each, service) and (not project or each.project in (None, project))
        ]
        return sorted(found, key=lambda each: (each.state != "running", each.name))

    # Who answers

    def owner(self, contact: Contact) -> Owner | None:
        """Return what answers at a contact; null if nothing was contacted, or on another machine."""
        if contact.address is None or self.host is None:
            return None
        for container in self.host.containers:
            if container.running and contact.address in container.addresses():
                return Owner(container)
        if not _port_owner.is_local(contact.address):
            return None
        publisher = _port_owner.publisher(contact.address, contact.port, self.host.containers)
        if publisher:
            return Owner(publisher)
        if self._listening is None:
            self._listening = _listeners.listeners()
        return _port_owner.listener(contact.address, contact.port, self._listening, self.host.containers)

    def relation(self, contact: Contact, owner: Owner | None) -> str | None:
        """Return ``service`` if the service itself answers, ``proxy`` if something that forwards to it does, ``other``.

        Null if that is not known, or if nothing shows that the service belongs to this machine.
        """
        if owner is None or owner.is_engine or owner == INVISIBLE:
            return None
        own, other = self.of_service(contact.service), owner.container
        if other and any(each is other or (each.running and shares_network(each, other)) for each in own):
            return "service"
        if contact.proxy is not None:
            names = (owner.command, other.name, other.service) if other else (owner.command,)
            return "proxy" if contact.proxy in names else "other"
        at = (contact.address or "", contact.port)
        if any(binding.covers(*at) for each in own for binding in _port_owner.wanted(each)):
            return "other"
        if owner.is_proxy or contact.status in GATEWAY:
            return "proxy"
        if other and any(each.running and _port_owner.are_connected(each, other) for each in own):
            return "proxy"
        if other and not own and _port_owner.resembles(other, contact.service):
            # Such as api-blue for api: which of several deployments is meant is not known.
            return None
        return "other" if own or other or self.compose_options(contact.service) else None

    def compose_options(self, service: str) -> list[str]:
        """Return the options of docker compose for the project on this machine whose files have the service.

        Empty if no file that can be read has it.
        """
        if service not in self._declared:
            self._declared[service] = next((words for words, names in self._services() if service in names), [])
        return self._declared[service]

    def _services(self) -> Iterator[tuple[list[str], Collection[str]]]:
        everyone = self.host.containers if self.host else ()
        labels = [(each.data.get("Config") or {}).get("Labels") or {} for each in everyone]
        project = self.options["project"]
        mine = [each for each in labels if not project or each.get(PROJECT) == project]
        for source in _compose_drift.sources(mine, {"compose_files": []}):
            try:
                yield _compose_drift.words(source), _compose_drift.load(source).services
            except _compose_file.Unreadable:
                continue

    def responder(self, contact: Contact, owner: Owner | None) -> Part | None:
        """Return the part ``responder`` of an endpoint."""
        if owner is None or owner == INVISIBLE:
            return None
        container = owner.container
        return {
            "relation": self.relation(contact, owner),
            "container": container and container.name,
            "service": container and container.service,
            "project": container and container.project,
            "pid": owner.pid or (container and container.pid),
            "command": owner.command or (container and _port_owner.command(container)),
            "compose_options": [] if self.of_service(contact.service) else self.compose_options(contact.service),
        }

    # The container of the service

    def serving(self, contact: Contact, responder: Part | None) -> Container | None:
        """Return the container of the service that is responsible for an endpoint.

        It is the one that answers; else one that is to publish the port, those that do not run first; else any.
        """
        own = self.of_service(contact.service)
        answering = [each for each in own if responder and each.name == responder["container"]]
        publishing = [
            each for each in own if any(binding.first <= contact.port <= binding.last for binding in ports_of(each))
        ]
        publishing.sort(key=lambda each: each.state == "running")
        return next(iter([*answering, *publishing, *own]), None)

    def describe(self, container: Container, contact: Contact) -> Part:
        """Return the part ``container`` of an endpoint."""
        data = as_inspection(container)
        facts = _container_facts.facts(data, [])
        window = self.options["restarts_window"]
        recent = _last_words.recent_restarts(data, None, window)
        uptime, health = facts["uptime_seconds"], facts["health"]
        bound = [each for each in ports_of(container) if each.first <= contact.port <= each.last]
        period = ((container.data.get("Config") or {}).get("Healthcheck") or {}).get("StartPeriod") or 0
        looping = _last_words.is_looping(facts, recent, self.options["restarts"], window)
        longest = max(self.options["starting_seconds"], period / 1e9 if health == "starting" else 0)
        result = {
            "name": container.name,
            "project": container.project,
            "service": container.service,
            "state": container.state,
            "exit_code": container.exit_code,
            "error_message": facts["error_message"],
            "restarts": facts["restarts"],
            "started": facts["started_at"],
            "uptime_seconds": uptime,
            "health": health,
            "looping": looping,
            # Not after a crash: its state would change the severity from one run to the next.
            "starting": container.state == "running"
            and health in (None, "starting")
            and not facts["restarts"]
            and uptime is not None
            and uptime < longest,
            "wants_port": any(each.first <= contact.port <= each.last for each in _port_owner.wanted(container))
            or (container.network_mode == "host" and not container.running),
            "publishes": bool(bound) or container.network_mode == "host",
            "listens": _port_owner.listens(container.pid, bound[0].inner)
            if bound and container.running and container.pid
            else None,
            "inner_port": bound[0].inner if bound else None,
        }
        return {**result, "hint": _state_hints.hint(result, self.engine, container.compose_options)}

    # CPU

    def cpu(self, contact: Contact, responder: Part | None) -> Part | None:
        """Return the part ``cpu`` of an endpoint: of the container that was throttled most, if several may answer."""
        own = [each for each in self.of_service(contact.service) if each.running]
        answering = [each for each in own if responder and each.name == responder["container"]]
        seconds = time.monotonic() - self._began
        found = []
        for container in answering or own:
            change = _cgroup.change(self._first.get(container.id), self._counters(container), seconds)
            if change["throttled_ratio"] is not None:
                hint = _state_hints.of_cpu(container.name, container.wanted, self.engine)
                found.append({"container": container.name, "limit_cpus": cpu_limit(container), "hint": hint, **change})
        best = max(found, key=itemgetter("throttled_ratio"), default=None)
        return best and {name: best[name] for name in CPU_FIELDS}

    def _counters(self, container: Container) -> _cgroup.Reading | None:
        return self._hierarchies.read(container.pid, container.id) if container.pid else None


def shares_network(one: Container, other: Container) -> bool:
    """Return whether two containers share a network namespace."""
    return one.owner is other or other.owner is one or bool(one.owner and one.owner is other.owner)


def ports_of(container: Container) -> Sequence[_port_owner.Binding]:
    """Return the ports that a container publishes; of one that publishes none, those that it is to publish."""
    return _port_owner.published(container) or _port_owner.wanted(container)


def as_inspection(container: Container) -> Mapping[str, Any]:
    """Return the data of a container as the engine answers, whether it is from a file or from the API."""
    data = container.data
    state = {**(data.get("State") or {}), "Status": container.state}
    return {**data, "Id": container.id, "Name": container.name, "State": state, "HostConfig": container.wanted}


def cpu_limit(container: Container) -> float | None:
    """Return the CPUs that a container may use; null without a limit of its own."""
    nano, quota, period = (container.wanted.get(name) or 0 for name in ("NanoCpus", "CpuQuota", "CpuPeriod"))
    if nano > 0:
        return round(nano / 1e9, 4)
    return round(quota / (period or _state_hints.CPU_PERIOD), 4) if quota > 0 else None
