# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sends requests to HTTP endpoints in parallel, and times each phase of the answers. Private to this collection."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Iterable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine, age
from ansible_collections.tracktion.ops.plugins.module_utils._http._endpoint import FAMILIES, NUMBERS, Endpoint
from ansible_collections.tracktion.ops.plugins.module_utils._in_threads import measure_all, reject_duplicates
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Unknown, reached
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

ENDPOINT_SPEC = {
    "name": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "service": {"type": "str"},
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
}


def measure(options: Options) -> Measurement:
    """Return the measurement that the module tracktion.ops.endpoint_info documents. Raises BadOption."""
    endpoints = read_endpoints(options)
    began, unknown = time.monotonic(), Unknown()
    measured = measure_all(endpoints, options["deadline"], unknown, "endpoints")
    add_containers([entry for entry in measured if entry["ok"] is False], options, unknown)
    parts = {
        "endpoints": measured,
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


def add_containers(failing: Iterable[Part], options: Options, unknown: Unknown) -> None:
    """Add ``container`` to each failing endpoint with a ``service``, if this host has a Docker engine."""
    engine = Engine(options["docker_root"])
    for entry in failing:
        if entry["service"]:
            with contextlib.suppress(FileNotFoundError):
                containers = engine.of_service(entry["service"])
                if containers is None:
                    reason = "the files of the Docker engine can be read by root only"
                    unknown.add("endpoints.%s.container" % entry["name"], reason, _rights.BECOME)
                entry["container"] = container_result(containers or [], options["project"])


def container_result(containers: Iterable[Mapping[str, Any]], project: str | None) -> Part | None:
    """Return the first container of the project, if one is named: running containers come first."""
    for container in containers:
        if not project or container["project"] == project:
            fields = ("name", "project", "state", "exit_code", "restarts", "started")
            uptime = age(container["started"]) if container["state"] == "running" else None
            return {**{field: container[field] for field in fields}, "uptime_seconds": uptime}
    return None
