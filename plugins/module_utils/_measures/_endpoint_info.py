# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sends requests to HTTP endpoints in parallel, and times each phase of the answers. Private to this collection."""

from __future__ import annotations

import time
from typing import Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine, _service_state
from ansible_collections.tracktion.ops.plugins.module_utils._docker._port_owner import INVISIBLE, is_local
from ansible_collections.tracktion.ops.plugins.module_utils._http._endpoint import FAMILIES, NUMBERS, Endpoint
from ansible_collections.tracktion.ops.plugins.module_utils._http._proxy_answers import GATEWAY, UNNAMED
from ansible_collections.tracktion.ops.plugins.module_utils._http._responders import Contact, Containers
from ansible_collections.tracktion.ops.plugins.module_utils._in_threads import measure_all, reject_duplicates
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Unknown, reached
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

# Errors of endpoints at which nothing has accepted the connection.
NOT_CONNECTED = ("name_resolution", "refused", "timeout", "no_route")
# Dependencies that are named.
NAMED = 20
WHO_LISTENS = "the process that listens there is not visible"
ENDPOINT_SPEC = {
    "name": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "service": {"type": "str"},
    "proxy": {"type": "str"},
    "method": {"type": "str", "choices": ["GET", "HEAD", "POST"], "default": "GET"},
    "headers": {"type": "dict", "no_log": True},
    "body": {"type": "raw", "no_log": True},
    "status": {"type": "list", "elements": "int", "default": [200]},
    "body_contains": {"type": "str"},
    "body_json": {"type": "dict"},
    "requests": {"type": "int"},
    "timeout": {"type": "float"},
    "max_body_bytes": {"type": "int"},
    "max_redirects": {"type": "int", "default": 5},
    "address_family": {"type": "str", "choices": sorted(FAMILIES), "default": "any"},
    "validate_certs": {"type": "bool", "default": True},
    "ca_cert": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
}
ARGUMENT_SPEC = {
    "endpoints": {"type": "list", "elements": "dict", "required": True, "options": ENDPOINT_SPEC},
    "requests": {"type": "int", "default": 1},
    "timeout": {"type": "float", "default": 5.0},
    "deadline": {"type": "float", "default": 15.0},
    "max_body_bytes": {"type": "int", "default": 1 << 20},
    "show_bodies": {"type": "bool", "default": True},
    "project": {"type": "str"},
    "docker_root": {"type": "path"},
    **_engine.SOCKET_SPEC,
    **_service_state.SPEC,
    "starting_seconds": {"type": "float", "default": 30.0},
}


def measure(options: Options) -> Measurement:
    """Return the measurement that the module tracktion.ops.endpoint_info documents. Raises BadOption."""
    endpoints = read_endpoints(options)
    began, unknown = time.monotonic(), Unknown()
    containers = Containers(options, [each.entry["service"] for each in endpoints if each.entry["service"]])
    seconds = max(0.0, options["deadline"] - (time.monotonic() - began))
    measured = measure_all(endpoints, seconds, unknown, "endpoints")
    add_containers(measured, endpoints, containers, unknown)
    add_named(measured)
    parts = {
        "endpoints": measured,
        "engine": containers.kind,
        "totals": {"endpoints": len(measured), "ok": sum(1 for entry in measured if entry["ok"])},
        "seconds": round(time.monotonic() - began, 4),
    }
    return reached(parts, unknown)


def read_endpoints(options: Options) -> list[Endpoint]:
    """Return the endpoints of the options. Raises BadOption before any request is sent."""
    for name in ("deadline", *NUMBERS):
        if options[name] <= 0:
            raise BadOption("%s: must be above 0" % name, hint="Set `%s`." % name)
    endpoints = [Endpoint(entry, options) for entry in options["endpoints"]]
    reject_duplicates("endpoints", endpoints)
    return endpoints


def add_named(measured: Sequence[Part]) -> None:
    """Add to each endpoint what endpoints of its service report as failing: paths of dependencies, ``named``."""
    found: dict[str, list[str]] = {}
    for entry in measured:
        report = entry["report"] if not entry["foreign"] and not entry["proxy"] else None
        for part in (report or {}).get("failing") or ():
            found.setdefault(entry["service"] or entry["name"], []).append(part["path"])
    for entry in measured:
        named = found.get(entry["service"] or entry["name"], [])
        entry["named"] = sorted(set(named))[:NAMED]


def add_containers(
    measured: Sequence[Part], endpoints: Sequence[Endpoint], containers: Containers, unknown: Unknown
) -> None:
    """Add to each endpoint with a ``service`` what answers there, and the container of the service."""
    for entry, endpoint in zip(measured, endpoints):
        if not entry["service"] or entry["answered"] is None:
            continue
        if containers.host is None:
            if containers.reason and is_connected(entry) and is_local(entry["address"]):
                entry["foreign"] = None
            if containers.reason and (entry["foreign"] is None or entry["ok"] is False):
                unknown.add("endpoints.%s" % entry["name"], containers.reason, containers.hint)
            continue
        address = entry["address"] if is_connected(entry) else None
        contact = Contact(entry["service"], address, entry["port"], endpoint.entry["proxy"], entry["status"])
        owner = containers.owner(contact)
        responder = containers.responder(contact, owner)
        serving = containers.serving(contact, responder)
        relation = responder["relation"] if responder else None
        entry["responder"] = responder
        # A proxy that answers well while no container of the service runs shows nothing about the service.
        is_down = serving is not None and not serving.running
        entry["foreign"] = relation == "other" or bool(relation == "proxy" and is_down and entry["ok"])
        if owner == INVISIBLE and serving is not None:
            entry["foreign"] = None
            unknown.add("endpoints.%s" % entry["name"], WHO_LISTENS, _rights.hint("CAP_SYS_PTRACE"))
        if relation == "service" and entry["status"] not in GATEWAY:
            # A web server that is the service itself.
            entry["proxy"] = None
        if responder and relation == "proxy":
            name = endpoint.first.proxy(True) if endpoint.first else None
            entry["proxy"] = responder["command"] or name if name == UNNAMED else name
        if serving and (entry["ok"] is False or entry["foreign"]):
            entry["container"] = containers.describe(serving, contact)
        entry["cpu"] = containers.cpu(contact, responder)


def is_connected(entry: Part) -> bool:
    """Return whether something has accepted a connection of an endpoint."""
    return entry["error"] is None or entry["error"]["kind"] not in NOT_CONNECTED
