# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers by the files of an engine, in memory."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import Host
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import summary

SERVICE, PROJECT = "com.docker.compose.service", "com.docker.compose.project"
RUNNING = {"Running": True, "Pid": 4242, "StartedAt": "2026-01-01T00:00:00Z"}
STOPPED = {"Running": False, "Pid": 0, "StartedAt": "2026-01-01T00:00:00Z"}


class Files:
    """Files of an engine in memory: name -> (config.v2.json, hostconfig.json)."""

    def __init__(self, containers):
        self.containers = containers

    def all(self):
        return [summary(data) for data, _host in self.containers.values()]

    def file(self, identity, name):
        return self.containers[identity][name == "hostconfig.json"]


def container(
    name,
    service=None,
    state=None,
    ports=None,
    wanted=None,
    networks=None,
    mode="default",
    labels=None,
    project="app",
    **config,
):
    """Return the two files of a container; ``config`` are further fields of the first."""
    labels = {**(labels or {}), **({SERVICE: service, PROJECT: project} if service else {})}
    data = {
        "ID": name,
        "Name": "/" + name,
        "Config": {"Labels": labels, "Image": config.pop("image", "app")},
        "State": state or RUNNING,
        "NetworkSettings": {"Ports": ports, "Networks": networks or {}},
        **config,
    }
    return data, {"NetworkMode": mode, "PortBindings": wanted}


def host(*containers):
    """Return the containers of a machine by name."""
    found = Host(Files({data["ID"]: (data, host) for data, host in containers}))
    return {each.name: each for each in found.containers}


def bound(port, address="0.0.0.0", inner="8000/tcp"):
    """Return a mapping of ports, as the engine has it, with one port of the machine."""
    return {inner: [{"HostIp": address, "HostPort": str(port)}]}
