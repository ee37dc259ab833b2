# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The containers at both ends of a path, and where its name leads to. Private to this collection."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_networks
from ansible_collections.tracktion.ops.plugins.module_utils._docker._compose_networks import NO_NAMES
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import Container, Host
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners, _processes, _sockets
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_host import EngineOfHost
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Most ports of a container that are returned.
# The name server and the distribution port of Erlang, which RabbitMQ uses between nodes: no client connects to them.
BETWEEN_NODES = (4369, 25672)
MOST_PORTS = 10
HOSTS = "/etc/hosts"
# What ``hosts_origin`` means.
ORIGINS = {
    "extra_hosts": "extra_hosts",
    "hostname": "its own hostname",
    "link": "a link",
    "mount": "a mounted file",
    "file": "changed in the container",
}
# An address of this machine in /proc/net/fib_trie.
_LOCAL = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")
# Failures after which the sockets of the target container show more.
AT_THE_SERVER = ("refused", "closed", "timeout", "no_answer")


class Ends:
    """Describes the ends of paths by the containers of this machine."""

    def __init__(self, engine: EngineOfHost, timeout: float, deadline: Deadline) -> None:
        self.engine = engine
        self._deadline = deadline
        self._files = _compose_networks.Files(timeout)

    def describe(self, name: str, source: Container | None) -> Part:
        """Return the fields about both ends of a path: the container, those that ``name`` means, a common network."""
        host = self.engine.host
        found: list[Container] = host.meant_by(name, source) if source and host else []
        running = [each for each in found if each.running]
        common = None
        # From the network of the host, names of containers do not resolve, but all containers can be reached.
        modes = {each.network_mode for each in running}
        if source and running and source.running and "host" not in {source.network_mode, *modes}:
            common = any(set(each.networks) & set(source.networks) for each in running)
        target = next(iter(running or found), None)
        return {
            "networks": source.networks if source else [],
            "network_mode": source and source.network_mode,
            "network_owner": _owner(source),
            "compose_options": source.compose_options if source else [],
            "target_container": target and target.name,
            "target_service": target and target.service,
            "target_project": target and target.project,
            "target_compose_options": target.compose_options if target else [],
            "target_state": target and target.state,
            "target_addresses": sorted({address for each in running for address in each.addresses()}),
            "target_networks": sorted({name for each in running for name in each.networks}),
            "target_network_mode": target and target.network_mode,
            "target_network_owner": _owner(target),
            "common_network": common,
            **self._common(name, source, target, common),
            **_not_resolved_yet(),
        }

    def _common(self, name: str, source: Container | None, target: Container | None, common: bool | None) -> Part:
        """Return how both ends get a common network, or the target its name on the network that both have."""
        part: Part = {
            "file_networks": None,
            "target_file_networks": None,
            "reconnect": [],
            "recreate": [],
            "apart": None,
            "rename": [],
        }
        if source is None or target is None or common is None:
            return part
        if common:
            part["rename"] = self._rename(name, source, target)
            return part
        existing = None if self.engine.networks is None else [each["Name"] for each in self.engine.networks]
        way = _compose_networks.common(source, target, name, existing, self._files, self._deadline)
        part.update(reconnect=way.connect, apart=way.apart)
        part["recreate"] = [
            {"service": each.service, "compose_options": each.compose_options} for each in way.recreate if each.service
        ]
        for field, end in (("file_networks", source), ("target_file_networks", target)):
            wanted = self._files.wanted(end.owner or end, self._deadline)
            if wanted.certain:
                part[field] = {"mode": wanted.mode, "names": list(wanted.names), "full_names": [*wanted.names.values()]}
        return part

    def _rename(self, name: str, source: Container, target: Container) -> list[list[str]]:
        """Return the words after ``docker network`` that give the target its name on a network of both.

        None if it has the name, or if no network of both can have names.
        """
        if target.owner or target.mode in ("host", "none") or name == target.name:
            return []
        shared = sorted(set(source.networks) & set(target.networks) - {NO_NAMES})
        if not shared or name in target.aliases(shared):
            return []
        names = [*self._files.aliases(target, shared[0], self._deadline), *target.aliases(shared[:1]), name]
        # The engine itself adds the start of the id.
        aliases = ["--alias=" + each for each in dict.fromkeys(names) if each not in (target.name, target.id[:12])]
        return [["disconnect", shared[0], target.name], ["connect", *aliases, shared[0], target.name]]

    def reconnect(self, name: str) -> list[list[str]]:
        """Return the words after ``docker network connect`` that give a container its networks, if it lost them all."""
        containers = self.engine.host.containers if self.engine.host else ()
        container = next((each for each in containers if each.name == name), None)
        if container is None or container.networks or container.network_mode != "networks":
            return []
        existing = None if self.engine.networks is None else {each["Name"] for each in self.engine.networks}
        return [
            [*("--alias=" + each for each in self._files.aliases(container, network, self._deadline)), network, name]
            for network in self._files.wanted(container, self._deadline).names.values()
            if network != NO_NAMES and (existing is None or network in existing)
        ]

    def add_origin(self, entry: Part, source: Container) -> None:
        """Fill in where the addresses of a path come from and whom they belong to, once they are known."""
        name = str(entry["host"]).rstrip(".")
        found_as = entry["found_as"]
        if entry["name_source"] == "dns" and found_as and found_as.lower() != name.lower():
            entry["search_domain"] = found_as[len(name) + 1 :]
        if entry["name_source"] == "hosts":
            entry["hosts_origin"], entry["hosts_file"] = hosts_origin(name.lower(), source)
        entry["resolved_by"] = _resolved_by(entry)
        if entry["addresses"] and entry["name_source"] != "address":
            self._add_owners(entry, name, source)

    def _add_owners(self, entry: Part, name: str, source: Container) -> None:
        host = self.engine.host
        if host is None or _in_swarm(source, self.engine):
            return
        wrong = self._wrong(entry, name, source, host)
        if wrong:
            # A container that was restarted since may have another address.
            now = self._wrong(entry, name, source, self.engine.read_again() or host)
            wrong = None if now is None else [address for address in wrong if address in now]
        if wrong is not None:
            entry["wrong_addresses"] = wrong
            entry["misled"] = len(wrong) == len(entry["addresses"])
            entry["owners"] = [owner(address, entry["port"], source, host) for address in wrong]

    def _wrong(self, entry: Part, name: str, source: Container, host: Host) -> list[str] | None:
        """Return the addresses that belong to no container with this name; null if no container is meant."""
        meant = [each for each in host.meant_by(name, source) if each.project == source.project]
        addresses: Sequence[str] = entry["addresses"]
        if not meant:
            return self._of_other_projects(entry, name, source, host)
        rightful = [*meant, source] if source.is_called(name) else meant
        own = {_sockets.plain(address) for each in rightful for address in each.addresses()}
        found = []
        for address in addresses:
            if _sockets.plain(address) in own:
                continue
            if _sockets.is_loopback(address) and source.network_mode != "host":
                if any(_same_network(source, each) for each in rightful):
                    continue
            elif is_of_host(address) and any(
                each.network_mode == "host" or _publishes(each, address, entry["port"]) for each in rightful
            ):
                continue
            if self._may_be_of_stopped(address, entry, meant, source, host):
                continue
            found.append(address)
        return found

    def _may_be_of_stopped(
        self, address: str, entry: Part, meant: Sequence[Container], source: Container, host: Host
    ) -> bool:
        """Return whether an address may be that of a container that has just ended, which the engine forgets later."""
        if all(each.running for each in meant) or entry["hosts_origin"] or entry["search_domain"]:
            return False
        found = owner(address, entry["port"], source, host)
        return not found["container"] and not found["local"]

    def _of_other_projects(self, entry: Part, name: str, source: Container, host: Host) -> list[str] | None:
        """Return the addresses if all belong to other projects or processes, and the own one defines such a service."""
        owners = [owner(address, entry["port"], source, host) for address in entry["addresses"]]
        if not all(each["process"] or (each["container"] and each["project"] != source.project) for each in owners):
            return None
        if not self._files.defines(source, name, self._deadline):
            return None
        # The service that is meant has no container.
        entry.update(dict.fromkeys(("target_container", "target_service", "target_state")), target_addresses=[])
        return list(entry["addresses"])

    def listening(self, failure: str | None, name: str | None, port: int) -> Part | None:
        """Return what listens on the port of a container, after a failure that its sockets may explain; else null."""
        if failure not in AT_THE_SERVER or name is None or self.engine.host is None:
            return None
        found = next((each for each in self.engine.host.containers if each.name == name), None)
        return None if found is None or not found.running or found.pid is None else listening(found.pid, port)


def _not_resolved_yet() -> Part:
    names = ("resolved_by", "search_domain", "hosts_origin", "hosts_file", "wrong_addresses", "owners", "listening")
    return {**dict.fromkeys(names), "misled": False}


def _resolved_by(entry: Part) -> str | None:
    """Return where the addresses of a name come from, in a few words; null for a name that is an address."""
    if entry["name_source"] == "hosts":
        origin = entry["hosts_origin"]
        return "its hosts file" + ("" if origin == "file" else " (%s)" % ORIGINS[origin])
    if entry["search_domain"]:
        return "%s as %s, with a search domain" % (entry["name_server"], entry["found_as"])
    return entry["name_server"]


def _owner(container: Container | None) -> str | None:
    """Return the name of the container whose network a container shares."""
    return container.owner.name if container and container.owner else None


def hosts_origin(name: str, container: Container) -> tuple[str, str | None]:
    """Return why a container's hosts file has a name, and the file on this machine that is mounted there, or null.

    ``extra_hosts`` and ``link`` are settings of the container, ``hostname`` is its own name, ``mount`` a file that is
    mounted. ``file``: it was changed in the container.
    """
    settings = container.settings
    for volume in settings.get("Binds") or ():
        path, _colon, rest = str(volume).partition(":")
        if rest.split(":")[0] == HOSTS:
            return "mount", path
    for mount in settings.get("Mounts") or ():
        if mount.get("Target") == HOSTS:
            return "mount", mount.get("Source")
    extra = [str(each).replace("=", ":").partition(":")[0].lower() for each in settings.get("ExtraHosts") or ()]
    if name in extra:
        return "extra_hosts", None
    if name == (container.hostname or "").lower():
        return "hostname", None
    links = [str(each).rpartition("/")[2].rpartition(":")[2] for each in settings.get("Links") or ()]
    return ("link" if name in links else "file"), None


def owner(address: str, port: int, source: Container, host: Host) -> Part:
    """Return whom an address belongs to: a container, or the process of this machine that listens on the port."""
    running = [each for each in host.containers if each.running]
    holder = next((each for each in running if _sockets.plain(address) in map(_sockets.plain, each.addresses())), None)
    local = holder is None and is_of_host(address)
    if _sockets.is_loopback(address):
        holder, local = source, source.network_mode == "host"
    if local:
        holder = next((each for each in running if _publishes(each, address, port)), None)
    process = _listener_of_host(address, port) if local and holder is None else None
    return {
        "address": address,
        "container": holder and holder.name,
        "project": holder and holder.project,
        "process": process,
        "local": local,
    }


def _listener_of_host(address: str, port: int) -> str | None:
    """Return the command of the process of this machine that listens on a port; null if none is visible."""
    for each in _sockets.read("self", states=(_sockets.LISTEN,)):
        if each.port == port and _listeners.overlap(_sockets.plain(each.address), _sockets.plain(address)):
            found = _listeners.holder(each.inode)
            return found["command"] if found else None
    return None


def listening(pid: int, port: int) -> Part:
    """Return on which addresses of the network of a process a server listens on ``port``, and on what ports others do.

    ``waiting`` is the number of connections that it has not accepted yet.
    """
    sockets = list(_sockets.read(pid, states=(_sockets.LISTEN,)))
    own = [each for each in sockets if each.port == port]
    command = next((_command(pid, each.inode) for each in own), None)
    others = sorted({each.port for each in sockets if not _sockets.is_loopback(each.address)} - {port, *BETWEEN_NODES})
    return {
        "addresses": sorted({_sockets.plain(each.address) for each in own}),
        "loopback": bool(own) and all(_sockets.is_loopback(each.address) for each in own),
        "command": command,
        "waiting": sum(each.receive_queue for each in own),
        "other_ports": others[:MOST_PORTS],
    }


def _command(pid: int, inode: str) -> str | None:
    """Return the program that has a socket open, of those in the network namespace of a process."""
    for each in _processes.pids():
        try:
            if not _processes.networks_differ(pid, each) and inode in _sockets.of_process(each):
                return _processes.label(_processes.arguments(each))
        except OSError:
            continue
    return None


def _publishes(container: Container, address: str, port: int) -> bool:
    """Return whether a container publishes a port at an address of this machine."""
    return any(
        each["host_port"] == port and _listeners.overlap(_sockets.plain(each["host_address"]), _sockets.plain(address))
        for each in container.ports
    )


def is_of_host(address: str) -> bool:
    """Return whether this machine has an address."""
    parsed = ipaddress.ip_address(_sockets.plain(address))
    return parsed.is_loopback or str(parsed) in _own_addresses()


def _own_addresses() -> set[str]:
    """Return the addresses of the interfaces of this machine."""
    found: set[str] = set()
    with contextlib.suppress(OSError), open("/proc/self/net/fib_trie", encoding="utf-8") as stream:
        found.update(_LOCAL.findall(stream.read()))
    with contextlib.suppress(OSError), open("/proc/self/net/if_inet6", encoding="utf-8") as stream:
        found.update(str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))) for line in stream)
    return found


def _same_network(one: Container, other: Container) -> bool:
    """Return whether two containers share one network namespace."""
    return len({(each.owner or each).id for each in (one, other)}) == 1


def _in_swarm(container: Container, engine: EngineOfHost) -> bool:
    """Return whether a container is on a network of a swarm, whose services have addresses of their own."""
    return any(each["Name"] in container.networks and each.get("Scope") == "swarm" for each in engine.networks or ())
