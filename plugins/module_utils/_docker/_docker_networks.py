# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The networks of a Docker engine, and who uses them. Private to this collection."""

from __future__ import annotations

import ipaddress

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, age, epoch, is_protected
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import summary
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote

# The engine makes these by itself, and again when they are gone.
PREDEFINED = ("bridge", "host", "none", "docker_gwbridge", "ingress")


def attached(containers):
    """Names of containers by the id of the network that they are on, or will be on when they are started again.

    Out of a list of all containers: the engine's own description of a network leaves out those that are stopped.
    """
    users = {}
    for container in containers:
        name = summary(container)["name"]
        for network_name, endpoint in ((container.get("NetworkSettings") or {}).get("Networks") or {}).items():
            for key in (network_name, endpoint.get("NetworkID") or network_name):
                users.setdefault(key, set()).add(name)
        mode = (container.get("HostConfig") or {}).get("NetworkMode")
        if mode:
            users.setdefault(mode, set()).add(name)
    return users


def describe(network, users):
    """What we tell about a network."""
    labels = network.get("Labels") or {}
    on_it = users.get(network["Id"], set()) | users.get(network["Name"], set())
    on_it |= {endpoint.get("Name") or "?" for endpoint in (network.get("Containers") or {}).values()}
    return {
        "id": network["Id"],
        "name": network["Name"],
        "driver": network.get("Driver"),
        "scope": network.get("Scope"),
        "project": labels.get(PROJECT),
        "internal": bool(network.get("Internal")),
        "bridge": bridge(network),
        "subnets": [str(subnet) for subnet in subnets(network)],
        "containers": sorted(on_it),
        "age_seconds": age(epoch(network.get("Created"))),
        "protected": is_protected(labels),
        "removable": is_removable(network),
    }


def is_removable(network):
    """Whether it is a network of this host alone that a person made, and that containers can be attached to."""
    # One that only configures others has no containers ever.
    return network["Name"] not in PREDEFINED and network.get("Scope") == "local" and not network.get("ConfigOnly")


def bridge(network):
    """The device of a bridge network, null for networks of other drivers."""
    if network.get("Driver") != "bridge":
        return None
    options = network.get("Options") or {}
    return options.get("com.docker.network.bridge.name") or "br-" + network["Id"][:12]


def subnets(network):
    found = []
    for entry in (network.get("IPAM") or {}).get("Config") or ():
        try:
            found.append(ipaddress.ip_network(entry.get("Subnet") or "", strict=False))
        except ValueError:
            continue
    return found


def create_options(network):
    """What follows ``docker network create`` to make a network like this one again: a list of words."""
    words = ["--driver", network.get("Driver") or "bridge"]
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


def create_command(network):
    """The command that makes a network like this one again."""
    return " ".join(["docker", "network", "create", *map(shell_quote, create_options(network))])
