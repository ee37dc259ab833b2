# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks HTTP endpoints, all side by side, and times every phase of their answers. Private to this collection."""

from __future__ import annotations

import contextlib
import time

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine, age
from ansible_collections.tracktion.ops.plugins.module_utils._http._endpoint import FAMILIES, NUMBERS, Endpoint
from ansible_collections.tracktion.ops.plugins.module_utils._in_threads import measure_all, reject_duplicates
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Unknown, reached

BECOME = "Measure with become: `ansible-playbook tracktion.ops.diagnose --become`"
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


def measure(options):
    """What all endpoints answer. Raises BadOption."""
    endpoints = read(options)
    began, unknown = time.monotonic(), Unknown()
    measured = measure_all(endpoints, options["deadline"], unknown, "endpoints")
    find_containers([found for found in measured if found["ok"] is False], options, unknown)
    parts = {
        "endpoints": measured,
        "totals": {"endpoints": len(measured), "ok": sum(1 for found in measured if found["ok"])},
        "seconds": round(time.monotonic() - began, 4),
    }
    return reached(parts, unknown)


def read(options):
    """The endpoints of the options, nothing of which is asked before all are understood."""
    for name in ("deadline", *NUMBERS):
        if options[name] <= 0:
            raise BadOption("%s: must be above 0" % name, hint="set %s" % name)
    endpoints = [Endpoint(wanted, options) for wanted in options["endpoints"]]
    reject_duplicates("endpoints", endpoints)
    return endpoints


def find_containers(failing, options, unknown):
    """Say of each failing endpoint with a ``service`` how its container fares; null where there is no engine here."""
    engine = Engine(options["docker_root"])
    for found in failing:
        if found["service"]:
            with contextlib.suppress(FileNotFoundError):
                containers = engine.of_service(found["service"])
                if containers is None:
                    reason = "the files of the Docker engine cannot be read without privilege"
                    unknown.add("endpoints.%s.container" % found["name"], reason, BECOME)
                found["container"] = described(containers or [], options["project"])


def described(containers, project):
    """The container of the service, in its project where that is named; of several the one that runs."""
    for container in containers:
        if not project or container["project"] == project:
            told = {
                field: container[field] for field in ("name", "project", "state", "exit_code", "restarts", "started")
            }
            return {**told, "uptime_seconds": age(told["started"]) if told["state"] == "running" else None}
    return None
