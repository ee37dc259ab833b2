# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The networks of a Docker engine and their containers. Private to this collection."""

from __future__ import annotations

import ipaddress
from typing import Any, Iterable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    PROJECT,
    age,
    epoch,
    is_protected,
    name_of,
)
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# The engine creates these itself, and again if they are removed.
PREDEFINED = ("bridge", "host", "none", "docker_gwbridge", "ingress")


def attached(containers: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return the names of containers by the id and the name of their networks, stopped containers included.

    ``containers`` is the list of all containers: the inspection of a network has no stopped containers.
    """
    users: dict[str, set[str]] = {}
    for container in containers:
        name = name_of(container)
        for network_name, endpoint in ((container.get("NetworkSettings") or {}).get("Networks") or {}).items():
            for key in (network_name, endpoint.get("NetworkID") or network_name):
                users.setdefault(key, set()).add(name)
        mode = (container.get("HostConfig") or {}).get("NetworkMode")
        if mode:
            users.setdefault(mode, set()).add(name)
    return users


def describe(network: Mapping[str, Any], users: Mapping[str, set[str]]) -> Part:
    """Return what a measurement holds about a network. ``users`` is what ``attached`` returns."""
    labels = network.get("Labels") or {}
    containers = users.get(network["Id"], set()) | users.get(network["Name"], set())
    containers |= {endpoint.get("Name") or "?" for endpoint in (network.get("Containers") or {}).values()}
    return {
        "id": network["Id"],
        "name": network["Name"],
        "driver": network.get("Driver"),
        "scope": network.get("Scope"),
        "project": labels.get(PROJECT),
        "internal": bool(network.get("Internal")),
        "bridge": bridge(network),
        "subnets": [str(subnet) for subnet in subnets(network)],
        "containers": sorted(containers),
        "age_seconds": age(epoch(network.get("Created"))),
        "protected": is_protected(labels),
        "removable": is_removable(network),
    }


def is_removable(network: Mapping[str, Any]) -> bool:
    """Return whether a user created the network, on this host alone, and containers can be attached to it."""
    # A network that only configures others never has containers.
    return network["Name"] not in PREDEFINED and network.get("Scope") == "local" and not network.get("ConfigOnly")


def bridge(network: Mapping[str, Any]) -> str | None:
    """Return the device of a bridge network, null for networks of other drivers."""
    if network.get("Driver") != "bridge":
        return None
    options = network.get("Options") or {}
    return options.get("com.docker.network.bridge.name") or "br-" + network["Id"][:12]


def subnets(network: Mapping[str, Any]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return the subnets of a network."""
    found = []
    for entry in (network.get("IPAM") or {}).get("Config") or ():
        try:
            found.append(ipaddress.ip_network(entry.get("Subnet") or "", strict=False))
        except ValueError:
            continue
    return found


def create_options(network: Mapping[str, Any]) -> list[str]:
    """Return the words after ``docker network create`` that create the network again."""
    words: list[str] = ["--driver", network.get("Driver") or "bridge"]
    ipam = network.get("IPAM") or {}
    if ipam.get("Driver") not in (None, "", "default"):
        words += ["--ipam-driver", ipam["Driver"]]
    for entry in ipam.get("Config") or ():
        for key, option in (("Subnet", "--subnet"), ("IPRange", "--ip-range"), ("Gateway", "--gateway")):
            if entry.get(key):
                words += [option, entry[key]]
        for name, address in sorted((entry.get("AuxiliaryAddresses") or entry.get("AuxAddress") or {}).items()):
            words += ["--aux-address", "%s=%s" % (name, address)]
    for name, value in sorted((ipam.get("Options") or {}).items()):
        words += ["--ipam-opt", "%s=%s" % (name, value)]
    for key, option in (("EnableIPv6", "--ipv6"), ("Internal", "--internal"), ("Attachable", "--attachable")):
        if network.get(key):
            words.append(option)
    for name, value in sorted((network.get("Options") or {}).items()):
        words += ["--opt", "%s=%s" % (name, value)]
    for name, value in sorted((network.get("Labels") or {}).items()):
        words += ["--label", "%s=%s" % (name, value)]
    return [*words, "--", network["Name"]]


def create_command(network: Mapping[str, Any]) -> str:
    """Return the command that creates the network again."""
    return " ".join(["docker", "network", "create", *map(shell_quote, create_options(network))])
