# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Docker engine of this machine and what stands between its containers and others. Private to this collection."""

from __future__ import annotations

import ipaddress

from ansible_collections.tracktion.ops.plugins.module_utils import _programs, _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_api, _docker_daemon, _docker_networks
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import AskedEngine, Host
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    NotAllowed,
    OutOfTime,
    error,
)
from ansible_collections.tracktion.ops.plugins.module_utils._network import _network_routes, _packet_filter

# Published ports that are tried at most: each takes a thread.
MAX_PORTS = 100
VERDICT = ("firewall", "rule", "rule_command")
NOT_FORWARDED = "connections to it come over IPv6, or to a process of the engine: the rules for these are not read"
FORWARDING = "/proc/sys/net/ipv4/ip_forward"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
NOT_READABLE = "the files of the Docker engine cannot be read without privilege"


class EngineOfHost:
    """The Docker engine of this machine: what its files say, and what it answers itself.

    ``host`` holds its containers and is null, with a ``reason``, where they are not known; ``present`` says whether
    there is an engine at all.
    """

    def __init__(self, options, deadline, unknown):
        self.api = _docker_api.DockerApi(_docker_api.socket_of(options["docker_host"]), options["timeout"], deadline)
        self.root = options["docker_root"]
        self.present = True
        self.host = self.reason = self.hint = self.error = None
        self.networks = self.users = self.firewall_backend = self.version = None
        # The networks and the rules of an engine without root are in a namespace of its own.
        self.rootless = False
        self.is_podman = False
        self._ask()
        self._read()
        if self.present and self.error:
            for part in ("networks", "overlaps"):
                unknown.add(part, self.error)

    def _ask(self):
        try:
            about = self.api.read("info")
            self.root = self.root or about.get("DockerRootDir")
            self.rootless = _docker_api.is_rootless(about)
            self.version = _major(about.get("ServerVersion"))
            self.is_podman = "BuildahVersion" in about
            self.firewall_backend = (about.get("FirewallBackend") or {}).get("Driver")
            self.networks = self.api.read("networks")
            self.users = _docker_networks.attached(self.api.read("containers", "json", all=1))
        except CannotConnect as exc:
            self.error = _docker_api.unless_forbidden(exc)

    def _read(self):
        try:
            self.host = Host(AskedEngine(self.api) if self.is_podman else Engine(self.root))
            self._part()
        except CannotConnect as exc:
            self.reason, self.hint = str(exc), exc.hint
        except PermissionError as exc:
            self.reason, self.hint = NOT_READABLE, _rights.hint_of(exc)
        except FileNotFoundError:
            self.present = self.error is None or self.error.kind != "no_engine"
            self.reason = "there is no Docker engine on this machine: measure where the services run, or name no paths"
            if self.present:
                where = self.root or "their place"
                self.reason = "the files of the Docker engine are not in %s: set docker_root" % where

    def _part(self):
        """Who shares the network of a container that was started anew since is left with one that leads nowhere."""
        for container in self.host.containers:
            owner = container.owner
            if owner and container.running and owner.running and _processes.networks_differ(container.pid, owner.pid):
                container.share(None)

    @property
    def keeps_rules_in_iptables(self):
        return self.firewall_backend in (None, "iptables", "iptables+firewalld")

    def describe(self):
        return {
            "present": self.present,
            "answers": self._answers() if self.present else None,
            "error": error(self.error) if self.present and self.error else None,
        }

    def _answers(self):
        """Whether it answers; null where there was no right, or no time, to find out."""
        return None if isinstance(self.error, (NotAllowed, OutOfTime)) else self.error is None

    def running_in(self, projects):
        """The running containers of these projects; none where the containers are not known."""
        containers = self.host.containers if self.host else ()
        return [container for container in containers if container.running and container.project in projects]

    def uses_bridges(self, projects):
        """Whether containers of ours depend on Docker's rules of this machine; null where that is not known."""
        if self.rootless or self.is_podman:
            return False
        if self.host is None:
            return None if self.present else False
        return any(container.address() for container in self.running_in(projects))


def _major(version):
    """The first number of a version, null where there is none."""
    number = (version or "").split(".")[0]
    return int(number) if number.isdigit() else None


def packet_filter(engine, projects, seconds, unknown):
    """The rules of the machine, where containers depend on them and they can be read; else null."""
    if engine.uses_bridges(projects) is False:
        return None
    try:
        rules = _packet_filter.Filter(seconds)
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


def describe_filter(engine, projects, rules):
    """What of the rules is told; null where they are needed and not known."""
    needed = engine.uses_bridges(projects)
    if needed is not False and (rules is None or not engine.keeps_rules_in_iptables):
        return None
    return {
        "needed": needed is not False,
        "forward_policy": rules and rules.forward_policy,
        "docker_forward": rules and rules.jumps("filter", "FORWARD", "DOCKER"),
        "docker_nat": rules and rules.jumps("nat", "PREROUTING", "DOCKER"),
        "managers": rules.managers if rules else [],
    }


def published_ports(engine, projects, rules, unknown):
    """What the running containers of our projects publish, and whether rules let it in; null where not known."""
    if engine.host is None and engine.present:
        unknown.add("published_ports", engine.reason, engine.hint)
        return None
    found = []
    for container in engine.running_in(projects):
        for port in container.ports:
            entry = dict(port, container=container.name, service=container.service, project=container.project)
            entry["networks"] = container.networks
            entry["compose_options"] = container.compose_options
            entry["loopback"] = ipaddress.ip_address(port["host_address"]).is_loopback
            entry.update(_verdict(entry, container, rules, engine.networks))
            found.append(entry)
    if any(each["firewall"] is None and not each["loopback"] for each in found):
        # The first reason is told: where there is another, it stands before this one.
        unknown.add("published_ports.firewall", NOT_FORWARDED)
    if len(found) > MAX_PORTS:
        unknown.add("published_ports", "%d more than %d were not tried" % (len(found) - MAX_PORTS, MAX_PORTS))
    return found[:MAX_PORTS]


def _verdict(port, container, rules, networks):
    """What becomes of connections from outside to a published port: ``firewall, rule, rule_command``."""
    address = container.address()
    # The rules for IPv6 are not read.
    if port["loopback"] or rules is None or address is None or ":" in port["host_address"]:
        return dict.fromkeys(VERDICT)
    network_id = next(each["NetworkID"] for each in container.attached.values() if each.get("IPAddress") == address)
    known = next((each for each in networks or () if each["Id"] == network_id), {"Id": network_id, "Driver": "bridge"})
    host_address = None if port["host_address"] in ANY_ADDRESS else port["host_address"]
    bridge = _docker_networks.bridge(known)
    told = rules.verdict(port["host_port"], port["container_port"], address, bridge, host_address)
    return dict(zip(VERDICT, told))


def daemon(path, engine, seconds, unknown):
    """What the engine's configuration says; null where we may not read it."""
    try:
        return _docker_daemon.describe(path, _docker_daemon.flags(seconds) if engine.present else {}, engine.version)
    except OSError as exc:
        unknown.add("daemon", "%s: %s" % (path, exc.strerror), _rights.hint_of(exc))
        return None


def forwards(unknown):
    """Whether this machine hands packets from one network to another."""
    try:
        with open(FORWARDING, encoding="utf-8") as stream:
            return stream.read().strip() != "0"
    except OSError as exc:
        unknown.add("forwarding", "%s: %s" % (FORWARDING, exc.strerror))
        return None


def networks(engine, projects, top, deadline, unknown):
    """The engine's networks, those of our projects first, and where routes of the host cross them."""
    if not engine.present:
        return {"networks": [], "networks_total": 0, "overlaps": []}
    if engine.networks is None or engine.users is None:
        return {"networks": None, "networks_total": None, "overlaps": None}
    routes, reason = _network_routes.read(deadline.remaining(engine.api.timeout))
    if reason:
        unknown.add("routes", reason)
    described, overlaps = [], []
    for network in engine.networks:
        entry = _docker_networks.describe(network, engine.users)
        entry["ours"] = entry["project"] in projects
        entry["unused"] = entry["removable"] and not entry["containers"]
        described.append(entry)
        # A bridge is how this machine itself reaches a network. Those of other drivers may well be the machine's own.
        if entry["bridge"] and not engine.rootless:
            subnets = _docker_networks.subnets(network)
            overlaps += _network_routes.overlaps(entry["name"], entry["bridge"], subnets, routes)
    overlaps = [_decided(overlap, described, deadline) for overlap in overlaps[:top]]
    described.sort(key=lambda entry: (not entry["ours"], not entry["unused"], entry["name"]))
    for entry in described:
        entry["containers_total"] = len(entry["containers"])
        entry["containers"] = entry["containers"][:top]
    return {"networks": described[:top], "networks_total": len(described), "overlaps": overlaps}


def _decided(overlap, described, deadline):
    """An overlap with who loses by what the kernel does, where it says so."""
    device = _network_routes.device_to(overlap.pop("address"), deadline.remaining(1.0))
    bridge = next(entry["bridge"] for entry in described if entry["name"] == overlap["network"])
    if device in (bridge, overlap["device"]):
        overlap["loser"] = "route" if device == bridge else "containers"
    return overlap
