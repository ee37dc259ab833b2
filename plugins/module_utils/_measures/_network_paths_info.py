# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests the network paths of services and reads the network configuration of this machine. Private to this collection.

Files, rules and the engine are read first. Then all paths are tested at the same time.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import DAEMON_CONFIGURATION
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, Unknown, reached
from ansible_collections.tracktion.ops.plugins.module_utils._network import (
    _network_host,
    _network_paths,
    _path_ends,
    _resolvers,
)
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_path import Target
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_paths import Wanted
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ARGUMENT_SPEC: dict[str, Any] = {
    "paths": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "from": {"type": "str", "required": True},
            "to": {"type": "str", "required": True},
            "method": {"type": "str", "choices": ["GET", "HEAD"], "default": "GET"},
            "validate_certs": {"type": "bool", "default": True},
        },
    },
    "external_endpoints": {"type": "list", "elements": "str", "default": []},
    "check_resolver": {"type": "bool", "default": True},
    "project": {"type": "str", "default": ""},
    "docker_host": {"type": "str", "default": _engine.DEFAULT_HOST},
    "docker_root": {"type": "path"},
    "daemon_config": {"type": "path", "default": DAEMON_CONFIGURATION},
    "top": {"type": "int", "default": 20},
    "timeout": {"type": "float", "default": 3.0},
    "deadline": {"type": "float", "default": 15.0},
}

# Part of the deadline that is kept for building the result.
RESERVE_SECONDS = 0.5


def measure(options: Options) -> Measurement:
    """Return the measurement that the module tracktion.ops.network_paths_info documents."""
    wanted = [
        Wanted(path["from"], Target(path["to"], path["method"], path["validate_certs"])) for path in options["paths"]
    ]
    external = [Target(to, option="external_endpoints") for to in options["external_endpoints"]]
    for option in ("timeout", "top"):
        if options[option] <= 0:
            # With such a value every path would fail, or nothing would be returned.
            raise BadOption("%s: %s is not above 0" % (option, options[option]))
    deadline = Deadline(max(0.2, options["deadline"] - RESERVE_SECONDS))
    # An engine or a program that hangs must leave time for the paths.
    before = Deadline(deadline.remaining() / 2)
    unknown = Unknown()
    engine = _network_host.EngineOfHost(options, before, unknown)
    ends = _path_ends.Ends(engine, options["timeout"], deadline)
    paths = _network_paths.Paths(wanted, engine, options["project"], ends, unknown)
    projects = {options["project"]} if options["project"] else paths.projects
    rules = _network_host.packet_filter(engine, projects, before.remaining(options["timeout"]), unknown)
    ports = _network_host.published_ports(engine, projects, rules, unknown)
    parts: Part = {
        "engine": engine.describe(),
        "daemon": _network_host.daemon(options["daemon_config"], engine, before.remaining(options["timeout"]), unknown),
        "forwarding": {"ipv4": _network_host.forwards(unknown), "needed": engine.uses_bridges(projects)},
        "packet_filter": _network_host.describe_filter(engine, projects, rules),
    }
    if parts["forwarding"]["needed"] is None:
        unknown.add("forwarding.needed", engine.reason, engine.hint)
    parts.update(_network_host.networks(engine, projects, options["top"], before, unknown))
    containers = _resolvers.subjects(engine, projects, unknown) if options["check_resolver"] else []
    dns = (parts["daemon"] or {}).get("dns") or []
    # A flag of the engine is a text.
    dns = [dns] if isinstance(dns, str) else dns
    parts.update(_network_paths.measure(paths, external, ports, containers, dns, options, deadline, unknown))
    return reached(parts, unknown)
