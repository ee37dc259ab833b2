# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The networks that compose files give to containers, and how to give them back. Private to this collection."""

from __future__ import annotations

from typing import Collection, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _compose_compare,
    _compose_drift,
    _compose_file,
    _compose_text,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._compose_file import File
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import NOT_NETWORKS, Container
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

# On the network bridge, names of containers do not resolve.
NO_NAMES = "bridge"


class Wanted(NamedTuple):
    """The networks that a container should have.

    ``names``: the engine's names by the names in the compose file. ``mode``: the network_mode of the file. ``certain``:
    whether a compose file says so; else these are the networks that it has and the one that it was created with.
    """

    names: dict[str, str]
    mode: str | None
    certain: bool


class Files:
    """The compose files of containers, each read once."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._read: dict[tuple[str, ...], File | None] = {}

    def of(self, container: Container, deadline: Deadline) -> File | None:
        """Return the files that a container was created from; null if they are not known or cannot be read."""
        source = container.source
        if source is None:
            return None
        key = (source.project, source.directory, *source.files)
        if key not in self._read:
            try:
                self._read[key] = within(deadline, self._timeout, _compose_drift.load, source)
            except (OSError, _compose_file.Unreadable):
                self._read[key] = None
        return self._read[key]

    def defines(self, container: Container, service: str, deadline: Deadline) -> bool:
        """Return whether the files of a container certainly have a service that should have containers."""
        file = self.of(container, deadline)
        return bool(file and service in file.services and file.services[service]["expected"])

    def wanted(self, container: Container, deadline: Deadline) -> Wanted:
        """Return the networks that a container should have."""
        file = self.of(container, deadline)
        service = file.services.get(container.service or "") if file else None
        if file is not None and service is not None:
            mode = _compose_file.text_of(service["layer"].get("network_mode"))
            if mode is not None:
                return Wanted({}, mode, _compose_text.certain(mode) is not None)
            data = {"Config": {"Labels": {PROJECT: container.project}}}
            names = _compose_compare.network_names(service, file, data)
            if not (service["partly"] and "networks" not in service["layer"]) and None not in names.values():
                return Wanted({key: name for key, name in names.items() if name is not None}, None, True)
        found = {*container.networks, *([container.created_on] if container.created_on else [])}
        return Wanted({name: name for name in sorted(found)}, None, False)

    def aliases(self, container: Container, network: str, deadline: Deadline) -> list[str]:
        """Return the names that compose gives to a container on a network, by the engine's name of that."""
        names = [container.service] if container.service else []
        file = self.of(container, deadline)
        service = file.services.get(container.service or "") if file else None
        networks = service["layer"].get("networks") if service else None
        for key, name in self.wanted(container, deadline).names.items():
            of_network = networks.get(key) if name == network and isinstance(networks, dict) else None
            names += [str(each) for each in (of_network or {}).get("aliases") or ()]
        return [name for name in dict.fromkeys(names) if _compose_text.certain(name) == name]


class Common(NamedTuple):
    """How two containers without a common network get one.

    ``connect``: the words of each command after ``docker network connect``. ``recreate``: whether compose has to create
    the containers again instead. ``apart``: whether their compose files give them no common network; null if unknown.
    """

    connect: list[list[str]]
    recreate: list[Container]
    apart: bool | None


def common(
    source: Container, target: Container, name: str, existing: Collection[str] | None, files: Files, deadline: Deadline
) -> Common:
    """Return how ``source`` and ``target``, which it calls ``name``, get a network that both should have.

    ``existing`` are the networks of the engine, null if they are not known.
    """
    ends = [(each.owner or each, each) for each in (source, target)]
    wanted = [files.wanted(end, deadline) for end, _each in ends]
    shared = set(wanted[0].names.values()) & set(wanted[1].names.values()) - {NO_NAMES, *NOT_NETWORKS}
    if not shared:
        return Common([], [], True if all(each.certain for each in wanted) else None)
    ready = [network for network in shared if existing is None or network in existing]
    without = [end for end, _each in ends if end.mode in NOT_NETWORKS]
    if not ready or without:
        return Common([], without or [end for end, _each in ends if end.service], False)
    network = min(ready, key=lambda each: (sum(each not in end.networks for end, _own in ends), each))
    commands = []
    for end, own in ends:
        if network not in end.networks:
            names = files.aliases(end, network, deadline) + ([name] if own is target and end is target else [])
            aliases = ["--alias=" + each for each in dict.fromkeys(names) if each != end.name]
            commands.append([*aliases, network, end.name])
    return Common(commands, [], False)
