# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Queries the DNS servers of this machine and of its containers. Private to this collection."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import Container
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotConnect,
    Deadline,
    Unknown,
    error,
    out_of_time,
)
from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns, _network_namespace
from ansible_collections.tracktion.ops.plugins.module_utils._network._dns import Configuration
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_host import EngineOfHost
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Most containers whose servers are queried.
MAX_CONTAINERS = 40
# A name to which every DNS server replies by itself, with an address or with NXDOMAIN.
HARMLESS_NAME = "localhost."
ANSWERS = ("nxdomain", "no_address", "servfail", "dns_denied")
# The DNS server of the engine in a container, and that of systemd-resolved. They forward queries to others.
OF_ENGINE, OF_SYSTEMD = "127.0.0.11", "127.0.0.53"
# The servers behind systemd-resolved, which the engine uses too.
BEHIND_SYSTEMD = "/run/systemd/resolve/resolv.conf"


class Subject(NamedTuple):
    """A container whose servers are queried. ``dns`` are those of its settings."""

    name: str
    service: str | None
    project: str | None
    compose_options: list[str]
    pid: int
    dns: list[str]


class Server(NamedTuple):
    """A server and who names it: ``container`` or ``engine`` (their settings), ``host``, or ``file`` (resolv.conf).

    ``pid``: the process in whose network it is queried; null for that of this machine.
    """

    address: str
    origin: str
    pid: int | None


def subjects(engine: EngineOfHost, projects: set[str], unknown: Unknown) -> list[Subject] | None:
    """Return the running containers of these projects with a network that leads to servers; null if not known.

    Containers that share a network have the servers of the other container. An internal network leads to none.
    """
    if engine.host is None:
        if engine.present:
            unknown.add("container_resolvers", engine.reason, engine.hint)
        return None if engine.present else []
    running = engine.running_in(projects)
    if running and engine.networks is None:
        # Which networks are internal is not known.
        unknown.add("container_resolvers", engine.error or "the networks of the engine are not known")
        return None
    internal = {each["Name"] for each in engine.networks or () if each.get("Internal")}
    found: list[Subject] = []
    for container in running:
        if container.network_mode != "networks" or not set(container.networks) - internal or container.pid is None:
            continue
        try:
            _network_namespace.check_access(container.pid, container.id)
        except _network_namespace.Gone:
            continue
        except _network_namespace.Forbidden as exc:
            unknown.add("container_resolvers", exc, exc.hint)
            return None
        found.append(_subject(container, container.pid))
    if len(found) > MAX_CONTAINERS:
        reason = "those of %d more than %d containers were not queried" % (len(found) - MAX_CONTAINERS, MAX_CONTAINERS)
        unknown.add("container_resolvers[...]", reason)
    return found[:MAX_CONTAINERS]


def _subject(container: Container, pid: int) -> Subject:
    dns = [str(each) for each in container.settings.get("Dns") or ()]
    return Subject(str(container.name), container.service, container.project, container.compose_options, pid, dns)


def behind_engine(
    own: Configuration, settings: Sequence[str], of_engine: Sequence[str], of_host: Sequence[str], pid: int
) -> list[Server]:
    """Return the servers that a container uses, or those that the engine's server queries for it.

    ``settings`` are those of the container, ``of_engine`` those in the configuration of the engine. Newer engines write
    the servers into resolv.conf. Older ones use those that this machine had when the container was started.
    """
    if own.servers != (OF_ENGINE,):
        return [Server(each, _origin(each, settings, of_engine, of_host), pid) for each in own.servers]
    if own.behind_engine is not None:
        return [
            Server(address, _origin(address, settings, of_engine, of_host), None if is_of_host else pid)
            for address, is_of_host in own.behind_engine
        ]
    for origin, servers in (("container", settings), ("engine", of_engine), ("host", of_host)):
        if servers:
            # The engine itself queries a server of this machine.
            local = [origin == "host" and each.startswith("127.") for each in servers]
            return [Server(each, origin, None if here else pid) for each, here in zip(servers, local)]
    return []


def _origin(address: str, settings: Sequence[str], of_engine: Sequence[str], of_host: Sequence[str]) -> str:
    for origin, servers in (("container", settings), ("engine", of_engine), ("host", of_host)):
        if address in servers:
            return origin
    return "file"


def query(containers: Sequence[Subject], of_engine: Sequence[str], seconds: float) -> Part:
    """Return the parts ``resolver`` and ``container_resolvers``. All servers are queried at the same time.

    Changes the namespaces of threads: call it in a process of its own.
    """
    host = _network_namespace.read_configuration()
    behind = _network_namespace.read_configuration(resolv_conf=BEHIND_SYSTEMD) if OF_SYSTEMD in host.servers else None
    upstream = list(behind.servers) if behind and not behind.problem else []
    used_by_engine = upstream if set(host.servers) == {OF_SYSTEMD} else host.servers
    of_host = [Server(each, "host", None) for each in (*host.servers, *upstream)]
    wanted: list[tuple[Subject, list[Server]]] = []
    for each in containers:
        try:
            own = _network_namespace.read_configuration("/proc/%d/root" % each.pid)
        except OSError:
            # It ended in the meantime.
            continue
        wanted.append((each, behind_engine(own, each.dns, of_engine, used_by_engine, each.pid)))
    results = _query_all({*of_host, *(server for _each, servers in wanted for server in servers)}, host, seconds)
    of_servers = [results[server] for server in of_host]
    own_servers = of_servers[: len(host.servers)]
    dead = {each["address"] for each in of_servers if each["answers"] is False}
    return {
        "resolver": {
            "checked": True,
            "servers": own_servers,
            "answering": sum(bool(server["answers"]) for server in own_servers),
            "first_answers": own_servers[0]["answers"],
            "upstream": of_servers[len(host.servers) :],
        },
        "container_resolvers": [
            _of_container(each, [(server, results[server]) for server in servers], dead) for each, servers in wanted
        ],
    }


def _of_container(subject: Subject, servers: Sequence[tuple[Server, Part]], dead: set[str]) -> Part:
    described = [dict(result, origin=server.origin, fails_on_host=server.address in dead) for server, result in servers]
    return {
        "container": subject.name,
        "service": subject.service,
        "project": subject.project,
        "compose_options": subject.compose_options,
        "servers": described,
        "answering": sum(bool(each["answers"]) for each in described),
        "failing": [each["address"] for each in described if each["answers"] is False and not each["fails_on_host"]],
    }


def _query_all(servers: set[Server], host: Configuration, seconds: float) -> dict[Server, Part]:
    """Return the result of each server."""
    nothing = {"answers": None, "seconds": None, "error": None}
    results: dict[Server, Part] = {server: dict(nothing, address=server.address) for server in servers}

    def ask(server: Server) -> None:
        try:
            if server.pid is not None:
                _network_namespace.enter(server.pid)
        except OSError:
            return
        results[server] = _query(server.address, host if server.pid is None else None, seconds)

    threads = [threading.Thread(target=ask, args=(server,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    end = Deadline(seconds + 1.0)
    for thread in threads:
        thread.join(end.remaining())
    return results


def _query(server: str, configuration: Configuration | None, seconds: float) -> Part:
    deadline = Deadline(seconds)
    problem: CannotConnect | None = None
    try:
        _dns.ask(HARMLESS_NAME, server, seconds)
    except CannotConnect as exc:
        problem = configuration.explained(exc) if configuration else exc
    answers = problem is None or problem.kind in ANSWERS
    return {
        "address": server,
        "answers": answers,
        "seconds": round(seconds - deadline.remaining(), 6),
        "error": error(problem) if problem and not answers else None,
    }


def measured(results: Any, reason: str | None, is_wanted: bool, known: bool, unknown: Unknown) -> Part:
    """Return both parts of the measurement by the results of ``query()``."""
    if not is_wanted:
        return {"resolver": {"checked": False, "servers": [], "upstream": []}, "container_resolvers": []}
    if results is None:
        for part in ("resolver", "container_resolvers"):
            unknown.add(part, reason or out_of_time(0.0))
        return {"resolver": None, "container_resolvers": None}
    return dict(results, container_resolvers=results["container_resolvers"] if known else None)
