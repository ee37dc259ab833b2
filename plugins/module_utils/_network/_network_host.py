# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the Docker engine, packet filter, forwarding and networks of this machine. Private to this collection."""

from __future__ import annotations

import ipaddress
from typing import Any, Collection, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils import _programs, _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _docker_api,
    _docker_daemon,
    _docker_networks,
    _engine,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import (
    AskedEngine,
    Container,
    Host,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Deadline,
    NotAllowed,
    OutOfTime,
    Unknown,
    error,
)
from ansible_collections.tracktion.ops.plugins.module_utils._network import _network_routes, _port_holders
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_routes import Candidate, Overlap
from ansible_collections.tracktion.ops.plugins.module_utils._network._packet_filter import Filter, Verdict
from ansible_collections.tracktion.ops.plugins.module_utils._types import ErrorInfo, Options, Part

# Most published ports that are tested: each takes a thread.
MAX_PORTS = 100
NOT_FORWARDED = (
    "connections to it come over IPv6, or to a process of the engine, and the rules for these are not evaluated"
)
FORWARDING = "/proc/sys/net/ipv4/ip_forward"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
NOT_READABLE = "the files of the Docker engine cannot be read without privilege"


class EnginePart(TypedDict):
    """The part ``engine`` of the measurement."""

    present: bool
    answers: bool | None
    error: ErrorInfo | None


class FilterPart(TypedDict):
    """The part ``packet_filter`` of the measurement."""

    needed: bool
    forward_policy: str | None
    docker_forward: bool | None
    docker_nat: bool | None
    managers: list[str]


class NetworksParts(TypedDict):
    """Three parts of the measurement."""

    networks: list[Part] | None
    networks_total: int | None
    overlaps: list[Overlap] | None


class EngineOfHost:
    """The Docker engine of this machine: what its files contain, and what its API returns.

    ``host`` has its containers; it is null, with a ``reason`` and a ``hint``, if they are not known. ``present`` is
    whether there is an engine. ``error`` is why the API does not answer; ``networks`` and ``users`` are null then.
    """

    def __init__(self, options: Options, deadline: Deadline, unknown: Unknown) -> None:
        self.api = _docker_api.DockerApi(_engine.socket_of(options["docker_host"]), options["timeout"], deadline)
        self.root: str | None = options["docker_root"]
        self.present = True
        self.host: Host | None = None
        self.reason = ""
        self.hint: str | None = None
        self.error: CannotConnect | None = None
        self.networks: list[dict[str, Any]] | None = None
        self.users: Any = None
        self.firewall_backend: str | None = None
        self.version: int | None = None
        # The networks and the rules of a rootless engine are in a namespace of its own.
        self.rootless = False
        self.is_podman = False
        self._read_api()
        self._read_files()
        if self.present and self.error:
            for part in ("networks", "overlaps"):
                unknown.add(part, self.error)

    def _read_api(self) -> None:
        try:
            info = self.api.read("info")
            self.root = self.root or info.get("DockerRootDir")
            self.rootless = _engine.is_rootless(info)
            self.version = _major(info.get("ServerVersion"))
            self.is_podman = "BuildahVersion" in info
            self.firewall_backend = (info.get("FirewallBackend") or {}).get("Driver")
            self.networks = self.api.read("networks")
            self.users = _docker_networks.attached(self.api.read("containers", "json", all=1))
        except CannotConnect as exc:
            self.error = _engine.unless_forbidden(exc)

    def _read_files(self) -> None:
        try:
            self.host = Host(AskedEngine(self.api) if self.is_podman else Engine(self.root))
            _detach_orphans(self.host)
        except CannotConnect as exc:
            self.reason, self.hint = str(exc), exc.hint
        except PermissionError as exc:
            self.reason, self.hint = NOT_READABLE, _rights.hint_of(exc)
        except FileNotFoundError:
            self.present = self.error is None or self.error.kind != "no_engine"
            self.reason = "there is no Docker engine on this machine: measure where the services run, or name no paths"
            if self.present:
                folder = self.root or "their default directory"
                self.reason = "the files of the Docker engine are not in %s: set docker_root" % folder

    def read_again(self) -> Host | None:
        """Return the containers as they are now by the files of the engine; null if these are not known."""
        try:
            return None if self.is_podman else Host(Engine(self.root))
        except OSError:
            return None

    @property
    def keeps_rules_in_iptables(self) -> bool:
        """Whether its rules are in iptables. An engine that does not name its backend has no other."""
        return self.firewall_backend in (None, "iptables", "iptables+firewalld")

    def describe(self) -> EnginePart:
        """Return the part ``engine``."""
        return {
            "present": self.present,
            "answers": self._answers() if self.present else None,
            "error": error(self.error) if self.present and self.error else None,
        }

    def _answers(self) -> bool | None:
        """Return whether the API answers; null if there was no right, or no time, to find out."""
        return None if isinstance(self.error, (NotAllowed, OutOfTime)) else self.error is None

    def running_in(self, projects: Collection[str]) -> list[Container]:
        """Return the running containers of these projects; none if the containers are not known."""
        containers = self.host.containers if self.host else ()
        return [container for container in containers if container.running and container.project in projects]

    def uses_bridges(self, projects: Collection[str]) -> bool | None:
        """Return whether containers of these projects depend on rules of Docker on this machine; null if not known."""
        if self.rootless or self.is_podman:
            return False
        if self.host is None:
            return None if self.present else False
        return any(container.address() for container in self.running_in(projects))


def _detach_orphans(host: Host) -> None:
    """Mark the containers that share the network of a container which was restarted since: that network is dead."""
    for container in host.containers:
        owner = container.owner
        if owner and container.pid and owner.pid and _processes.networks_differ(container.pid, owner.pid):
            container.share(None)


def _major(version: str | None) -> int | None:
    """Return the first number of a version; null if there is none."""
    number = (version or "").split(".")[0]
    return int(number) if number.isdigit() else None


def packet_filter(engine: EngineOfHost, projects: Collection[str], seconds: float, unknown: Unknown) -> Filter | None:
    """Return the rules of the machine; null if no container depends on them or they cannot be read."""
    if engine.uses_bridges(projects) is False:
        return None
    try:
        rules = Filter(seconds)
    except _programs.Failed as exc:
        hint = None if isinstance(exc, _programs.Absent) else _rights.hint("CAP_NET_ADMIN")
        for part in ("packet_filter", "published_ports.firewall"):
            unknown.add(part, "the rules of iptables cannot be read (%s)" % exc, hint)
        return None
    if rules.unread:
        unknown.add("published_ports.firewall", rules.unread)
    if not engine.keeps_rules_in_iptables:
        unknown.add("packet_filter", "the engine keeps its rules in %s, not in iptables" % engine.firewall_backend)
    return rules


def describe_filter(engine: EngineOfHost, projects: Collection[str], rules: Filter | None) -> FilterPart | None:
    """Return the part ``packet_filter``; null if the rules are needed and not known."""
    needed = engine.uses_bridges(projects)
    if needed is not False and (rules is None or not engine.keeps_rules_in_iptables):
        return None
    return {
        "needed": needed is not False,
        "forward_policy": rules.forward_policy if rules else None,
        "docker_forward": rules.jumps("filter", "FORWARD", "DOCKER") if rules else None,
        "docker_nat": rules.jumps("nat", "PREROUTING", "DOCKER") if rules else None,
        "managers": rules.managers if rules else [],
    }


def published_ports(
    engine: EngineOfHost, projects: Collection[str], rules: Filter | None, unknown: Unknown
) -> list[Part] | None:
    """Return the published ports of the running containers with the verdict of the rules; null if not known."""
    if engine.host is None and engine.present:
        unknown.add("published_ports", engine.reason, engine.hint)
        return None
    found: list[Part] = []
    for container in engine.running_in(projects):
        for port in container.ports:
            entry: Part = dict(port, container=container.name, service=container.service, project=container.project)
            entry["networks"] = container.networks
            entry["compose_options"] = container.compose_options
            entry["loopback"] = ipaddress.ip_address(port["host_address"]).is_loopback
            entry.update(_verdict(entry, container, rules, engine.networks)._asdict())
            found.append(entry)
    local = not engine.rootless and not engine.is_podman
    for entry, holder in zip(found, _port_holders.foreign(found) if local else [None] * len(found)):
        entry["held_by"] = dict(holder) if holder else None
    if any(each["firewall"] is None and not each["loopback"] for each in found):
        # The first reason for a part is reported, so a more specific one goes before this.
        unknown.add("published_ports.firewall", NOT_FORWARDED)
    if len(found) > MAX_PORTS:
        unknown.add("published_ports", "%d more than %d were not tested" % (len(found) - MAX_PORTS, MAX_PORTS))
    return found[:MAX_PORTS]


def _verdict(port: Part, container: Container, rules: Filter | None, networks: list[dict[str, Any]] | None) -> Verdict:
    """Return what the rules do with connections from outside to a published port."""
    address = container.address()
    # The rules for IPv6 are not evaluated.
    if port["loopback"] or rules is None or address is None or ":" in port["host_address"]:
        return Verdict()
    network_id = next(each["NetworkID"] for each in container.attached.values() if each.get("IPAddress") == address)
    known = next((each for each in networks or () if each["Id"] == network_id), {"Id": network_id, "Driver": "bridge"})
    host_address = None if port["host_address"] in ANY_ADDRESS else port["host_address"]
    bridge = _docker_networks.bridge(known)
    return rules.verdict(port["host_port"], port["container_port"], address, bridge, host_address)


def daemon(path: str, engine: EngineOfHost, seconds: float, unknown: Unknown) -> Any:
    """Return the settings of the engine's configuration file and flags; null if it cannot be read."""
    try:
        return _docker_daemon.describe(path, _docker_daemon.flags(seconds) if engine.present else {}, engine.version)
    except OSError as exc:
        unknown.add("daemon", "%s: %s" % (path, exc.strerror), _rights.hint_of(exc))
        return None


def forwards(unknown: Unknown) -> bool | None:
    """Return whether the kernel forwards IPv4 packets."""
    try:
        with open(FORWARDING, encoding="utf-8") as stream:
            return stream.read().strip() != "0"
    except OSError as exc:
        unknown.add("forwarding", "%s: %s" % (FORWARDING, exc.strerror))
        return None


def networks(
    engine: EngineOfHost, projects: Collection[str], top: int, deadline: Deadline, unknown: Unknown
) -> NetworksParts:
    """Return the networks of the engine, those of the projects first, and their overlaps with routes of the host."""
    if not engine.present:
        return {"networks": [], "networks_total": 0, "overlaps": []}
    if engine.networks is None or engine.users is None:
        return {"networks": None, "networks_total": None, "overlaps": None}
    routes, reason = _network_routes.read(deadline.remaining(engine.api.timeout))
    if reason:
        unknown.add("routes", reason)
    described: list[Part] = []
    candidates: list[Candidate] = []
    for network in engine.networks:
        entry: Part = _docker_networks.describe(network, engine.users)
        entry["ours"] = entry["project"] in projects
        entry["unused"] = entry["removable"] and not entry["containers"]
        described.append(entry)
        # The host itself reaches a network by its bridge. A network of another driver can have addresses of the host.
        if entry["bridge"] and not engine.rootless:
            subnets = _docker_networks.subnets(network)
            candidates += _network_routes.overlaps(entry["name"], entry["bridge"], subnets, routes)
    bridges = {entry["name"]: entry["bridge"] for entry in described}
    overlaps = [_decided(candidate, bridges, deadline) for candidate in candidates[:top]]
    described.sort(key=lambda entry: (not entry["ours"], not entry["unused"], entry["name"]))
    for entry in described:
        entry["containers_total"] = len(entry["containers"])
        entry["containers"] = entry["containers"][:top]
    return {"networks": described[:top], "networks_total": len(described), "overlaps": overlaps}


def _decided(candidate: Candidate, bridges: dict[str, str], deadline: Deadline) -> Overlap:
    """Return an overlap with the loser by the kernel's own choice of the device, if it is known."""
    overlap = candidate.overlap
    device = _network_routes.device_to(candidate.address, deadline.remaining(1.0))
    bridge = bridges[overlap["network"]]
    if device in (bridge, overlap["device"]):
        overlap["loser"] = "route" if device == bridge else "containers"
    return overlap
