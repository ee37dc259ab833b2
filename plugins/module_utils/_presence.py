# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds which services belong to this host, running or not. Private to this collection.

A service belongs to a host if there is a container of it in any state, a compose file with it, a process, or an enabled
unit of systemd. The files of the Docker engine come first: they can be read while the engine is stopped.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, Iterable, Iterator, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._applications import APPLICATIONS
from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _compose_compare,
    _compose_drift,
    _compose_file,
    _compose_text,
    _engine,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._compose_drift import Source
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import (
    AskedEngine,
    Container,
    Host,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine, container_id
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Failure, cut
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# An application in a compose file, a unit or a command line.
APPLICATION = re.compile(r"(?<![A-Za-z0-9])(?:%s)(?![A-Za-z0-9])" % "|".join(APPLICATIONS).replace("_", "[_-]"))
# The name of a host in an environment.
NAMED = re.compile(
    r"(?<![A-Za-z0-9_-])(?:%s)(?![A-Za-z0-9_-])" % "|".join([*APPLICATIONS, "postgres", "rabbitmq", "redis"])
)
# Directories of deployments, where a compose file is found after all of its containers were removed.
DEPLOYMENTS = ("/opt", "/srv")
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
MAX_DIRECTORIES = 500
MAX_SERVICES = 500
MAX_BYTES = 1 << 20
# The arguments of Erlang before those of RabbitMQ are about as many.
MAX_WORDS = 100
# Programs and units of servers outside of containers.
PROGRAMS = {
    "postgres": re.compile(r"(?:^|/)(?:postgres|postmaster)(?:$|[: ])"),
    "redis": re.compile(r"(?:^|/)(?:redis|valkey)-server(?:$| )"),
    "rabbitmq": re.compile(r"(?:^|/)beam(?:\.smp)? .*rabbit"),
}
UNITS = {
    "postgres": re.compile(r"^postgresql(?:[@-].*)?\.service$"),
    "redis": re.compile(r"^(?:redis|valkey)(?:-server)?(?:@.*)?\.service$"),
    "rabbitmq": re.compile(r"^rabbitmq-server\.service$"),
}
SYSTEMD = "/run/systemd/system"
ENABLED = "/etc/systemd/system"


def measure(docker_root: str | None, docker_host: str, compose_files: list[str], seconds: float) -> Part:
    """Return which services belong to this host.

    ``known`` is false, with a ``reason`` and a ``hint``, if its containers are not known. ``services`` has an item for
    each container and for each service of a compose file without one: ``service``, ``project``, ``container`` (null
    without one), ``ports`` (``host`` and ``container``, each may be null), ``host_network`` and ``names`` (servers and
    applications in its environment). ``programs`` are the names of servers and applications outside of containers.
    """
    reason, hint, host = None, None, None
    try:
        host = containers(docker_root, docker_host, Deadline(seconds))
    except Failure as exc:
        reason, hint = cut(str(exc), 300), exc.hint
    found = host.containers if host else []
    services = [of_container(each) for each in found]
    for source in sources(found, compose_files, searching=host is not None):
        services += in_files(source, found)
    return {
        "known": reason is None,
        "reason": reason,
        "hint": hint,
        "services": services[:MAX_SERVICES],
        "programs": sorted({*processes(), *units()}),
    }


def containers(docker_root: str | None, docker_host: str, deadline: Deadline) -> Host | None:
    """Return the containers of this machine; null if it has no engine. Raises Failure if they are not known."""
    # Another socket is that of another engine: without root, or Podman.
    if docker_host == _engine.DEFAULT_HOST:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            return Host(Engine(docker_root))
    try:
        return Host(AskedEngine(DockerApi(_engine.socket_of(docker_host), deadline.remaining(), deadline)))
    except CannotConnect as exc:
        if exc.kind != "no_engine":
            raise Failure("the containers of this host are not known: %s" % exc, exc.hint or _rights.BECOME) from exc
    return None


def of_container(container: Container) -> Part:
    """Return the entry of a container."""
    ports = [{"host": port["host_port"], "container": port["container_port"]} for port in container.ports]
    ports += [{"host": None, "container": port} for port in container.exposed]
    return {
        "service": container.service or container.name,
        "project": container.project,
        "container": container.name,
        "ports": ports,
        "host_network": container.mode == "host",
        "names": named_in(container.environment),
    }


def named_in(values: Iterable[object]) -> list[str]:
    """Return the servers and applications that are named in the values of an environment."""
    return sorted({match.group() for value in values for match in NAMED.finditer(str(value).partition("=")[2])})


def sources(found: Iterable[Container], compose_files: list[str], searching: bool) -> Iterator[Source]:
    """Yield the compose files of Tracktion: those of the options, of the containers, else of deployments."""
    named = [Source("", compose_files, os.path.dirname(compose_files[0]), [])] if compose_files else []
    known = {(each.source.project, *each.source.files): each.source for each in found if each.source}
    matching = [source for source in (*named, *known.values()) if any(map(names_application, source.files))]
    yield from matching
    if searching and not matching and not any(APPLICATION.search(each.service or each.name) for each in found):
        for path in deployed_files():
            if names_application(path):
                directory = os.path.dirname(path)
                yield Source(os.path.basename(directory), [path], directory, [])


def deployed_files() -> Iterator[str]:
    """Yield the compose files in directories of deployments, at most two levels down."""
    directories = [entry for base in DEPLOYMENTS for entry in subdirectories(base)]
    directories += [entry for directory in directories[:MAX_DIRECTORIES] for entry in subdirectories(directory)]
    for directory in directories[:MAX_DIRECTORIES]:
        path = next(
            (path for path in (os.path.join(directory, name) for name in COMPOSE_FILES) if os.path.isfile(path)), None
        )
        if path:
            yield path


def subdirectories(path: str) -> list[str]:
    """Return the directories in a directory, without links."""
    try:
        with os.scandir(path) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def names_application(path: str) -> bool:
    """Return whether a file names an application of Tracktion; false if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return bool(APPLICATION.search(stream.read(MAX_BYTES)))
    except OSError:
        return False


def in_files(source: Source, found: Iterable[Container]) -> Iterator[Part]:
    """Yield the services of compose files that have no container, without those that compose does not start."""
    try:
        file = _compose_drift.load(source)
    except _compose_file.Unreadable:
        return
    present = {each.service for each in found if each.project == source.project or not source.project}
    for name, service in sorted(file.services.items()):
        if service["expected"] and name not in present:
            yield {
                "service": name,
                "project": source.project or None,
                "container": None,
                "ports": list(ports_of(service["layer"], file.environment)),
                "host_network": service["layer"].get("network_mode") == "host",
                "names": [],
            }


def ports_of(layer: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Part]:
    """Yield the ports of a service of a compose file, with the values that compose would use here for variables."""
    ports = layer.get("ports")
    for port in ports if isinstance(ports, list) else []:
        filled = (_compose_text.filled(port, environment) if isinstance(port, str) else port) or ""
        for inner, outer in _compose_compare.published(filled) or ():
            yield {"host": number(outer.rpartition(":")[2]), "container": number(inner.partition("/")[0])}
    exposed = layer.get("expose")
    for port in exposed if isinstance(exposed, list) else []:
        yield {"host": None, "container": number(str(port).partition("/")[0])}


def number(text: str) -> int | None:
    """Return a port; null if it is not certain."""
    return int(text) if text.isdigit() else None


def processes() -> Iterator[str]:
    """Yield the names of servers and applications that run outside of containers of this host."""
    # This host may be a container itself.
    own = container_id(os.getpid())
    for pid in _processes.pids():
        words = _processes.arguments(pid)
        names = list(names_of(words)) if words else []
        if names and container_id(pid) in (None, own):
            yield from names


def names_of(words: Sequence[str]) -> Iterator[str]:
    """Yield the names of the server and of the applications in a command line."""
    for name, pattern in PROGRAMS.items():
        if pattern.search(" ".join(words[:MAX_WORDS]) if name == "rabbitmq" else words[0]):
            yield name
    for match in APPLICATION.finditer(_processes.label(words) or ""):
        yield match.group().replace("-", "_")


def units() -> Iterator[str]:
    """Yield the names of servers and applications with a unit that systemd starts at boot."""
    if not os.path.isdir(SYSTEMD):
        return
    for directory in subdirectories(ENABLED):
        if directory.endswith((".wants", ".requires")):
            for unit in os.listdir(directory):
                yield from (name for name, pattern in UNITS.items() if pattern.match(unit))
                yield from (match.group().replace("-", "_") for match in APPLICATION.finditer(unit))
