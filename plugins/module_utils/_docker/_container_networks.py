# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What containers have of the network: their addresses, names and published ports. Private to this collection.

Read from the engine's files, so that an engine that hangs does not keep us from looking. Podman has no such files and
is asked.
"""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _compose_drift
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import is_one_off, summary

SHARES = "container:"
# The engine's names for the network of the host and for none at all.
NOT_NETWORKS = ("host", "none")


class AskedEngine:
    """What the files of an engine would say, by what it answers."""

    def __init__(self, api):
        """Raises CannotConnect."""
        rows = api.read("containers", "json", all=1)
        self._inspected = {row["Id"]: api.read("containers", row["Id"], "json") for row in rows}

    def all(self):
        return [summary(dict(data, ID=identity)) for identity, data in self._inspected.items()]

    def file(self, identity, name):
        data = self._inspected[identity]
        return data.get("HostConfig") if name == "hostconfig.json" else data


class Host:
    """The containers of this machine."""

    def __init__(self, engine):
        """Raises FileNotFoundError where there is no engine, PermissionError where its files are not ours to read."""
        everyone = [Container(engine, summary) for summary in engine.all() if summary["name"]]
        by_id = {container.id: container for container in everyone}
        for container in everyone:
            container.join(by_id)
        self.containers = [container for container in everyone if not container.one_off]

    def of_service(self, service, project):
        """The containers of a service (or of this name), the running ones first."""
        found = [each for each in self.containers if each.is_called(service) and project in (None, each.project)]
        return sorted(found, key=lambda each: (not each.running, each.name))

    def behind(self, name, source):
        """The containers that a container means by a name: of its own project, or on a network of its."""
        return [
            each
            for each in self.containers
            if each.id != source.id
            and ((each.project == source.project and each.is_called(name)) or name in each.aliases(source.networks))
        ]


class Container:
    """One container, as the files of the engine tell of it."""

    def __init__(self, engine, summary):
        self.id, self.name = summary["id"], summary["name"]
        self.service, self.project = summary["service"], summary["project"]
        self.state, self.exit_code = summary["state"], summary["exit_code"]
        data = engine.file(self.id, "config.v2.json") or {}
        labels = (data.get("Config") or {}).get("Labels") or {}
        self.one_off = is_one_off(labels)
        source = _compose_drift.source(labels)
        # What tells docker compose which project and files made it; empty where compose noted none.
        self.compose_options = _compose_drift.words(source) if source else []
        settings = data.get("NetworkSettings") or {}
        self.pid = (data.get("State") or {}).get("Pid") or None
        self.attached = settings.get("Networks") or {}
        wanted = engine.file(self.id, "hostconfig.json") or {}
        self.mode = wanted.get("NetworkMode") or ""
        # The container whose network it shares.
        self.owner = None
        # What is published now, and what should be: a container that lost its network has no ports any more.
        self.ports = list(published({**(wanted.get("PortBindings") or {}), **(settings.get("Ports") or {})}))

    def join(self, by_id):
        """Where it shares the network of another container, it is where that one is."""
        if self.mode.startswith(SHARES):
            self.share(by_id.get(self.mode[len(SHARES) :]))

    def share(self, owner):
        """It is on the networks of another container, on none where that one is null."""
        self.owner, self.attached = owner, owner.attached if owner else {}

    @property
    def network_mode(self):
        """``networks`` of its own, ``host``, ``none``, ``shared``, or ``orphaned``: the one it shared with is gone."""
        if self.mode.startswith(SHARES):
            return "shared" if self.owner else "orphaned"
        return self.mode if self.mode in NOT_NETWORKS else "networks"

    @property
    def running(self):
        return self.state in ("running", "paused") and self.pid is not None

    @property
    def networks(self):
        """The names of its networks."""
        return sorted(set(self.attached).difference(NOT_NETWORKS))

    def is_called(self, name):
        return name in (self.service, self.name)

    def aliases(self, networks):
        """The names it has on these networks: none, where they are those of another container."""
        if self.mode.startswith(SHARES):
            return set()
        return {alias for name in networks for alias in (self.attached.get(name) or {}).get("Aliases") or ()}

    def address(self, network_id=None):
        """Its IPv4 address, on a network or on its first one; null where it has none."""
        for each in self.attached.values():
            if each.get("IPAddress") and network_id in (None, each.get("NetworkID")):
                return each["IPAddress"]
        return None


def published(ports):
    """The TCP ports that are open to the outside, each once: an IPv4 address where there is one."""
    seen = set()
    for inner, bindings in sorted(ports.items()):
        port, _slash, protocol = inner.partition("/")
        # IPv4 first: 0.0.0.0 before ::.
        for binding in sorted(bindings or (), key=lambda each: ":" in (each.get("HostIp") or "")):
            outer = int(binding.get("HostPort") or 0)
            if protocol == "tcp" and outer and outer not in seen:
                seen.add(outer)
                yield {
                    "host_address": binding.get("HostIp") or "0.0.0.0",
                    "host_port": outer,
                    "container_port": int(port),
                }
