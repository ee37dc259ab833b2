# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a container, and the meaning of its exit code, by its inspection. Private to this collection."""

from __future__ import annotations

import re
import signal
from typing import Any, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker._compose_compare import CONFIG_HASH
from ansible_collections.tracktion.ops.plugins.module_utils._docker._compose_drift import is_expected
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    PROJECT,
    SERVICE,
    age,
    epoch,
    is_protected,
)
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

CODES = {
    0: "no error: the program finished or was asked to stop",
    1: "the program failed; see its log",
    2: "the program rejected its arguments or its configuration",
    125: "the engine could not start it",
    126: "its command cannot be executed: missing permission, or built for another processor",
    127: "its command was not found in the image",
    128: "the engine could not start it",
}
KILLED = 128 + signal.SIGKILL
SIGNALS = {
    "SIGKILL": "killed: by a stop that took too long, by a user, or by the kernel when memory ran out",
    "SIGTERM": "stopped on request",
    "SIGINT": "interrupted on request",
    "SIGSEGV": "crashed on a bad memory access",
    "SIGABRT": "aborted by the program itself",
    "SIGBUS": "crashed on a bad memory access, or on a file that was truncated",
    "SIGILL": "crashed on an instruction that this processor does not support",
    "SIGHUP": "its terminal was closed",
}

# Characters of an error of the engine.
MAX_ERROR = 600
# What the engine and its runtime put before the reason of an error.
PREFIXES = re.compile(
    r"(?:failed to create (?:shim )?task(?: for container)?: |failed to create shim: |OCI runtime create failed: |"
    r"runc create failed: |(?:container|process|rootfs)_linux\.go:\d+: |starting container process caused: |"
    r"unable to start container process: |error during container init: |container init caused: |"
    r"Cannot (?:re)?start container \S+: |"
    r"driver failed programming external connectivity on endpoint \S+ \([0-9a-f]+\): )"
)
SUFFIX = re.compile(r"(?:: )?unknown$")

# States of Podman that Docker has other names for.
SAME_AS = {"stopped": "exited", "configured": "created", "initialized": "created"}
# Podman restarts a container within so many seconds, if at all. Docker waits no longer than a minute, either.
SOON_SECONDS = 60


def reason_of(error: str | None) -> str | None:
    """Return the reason in an error of the engine, without what comes before it; null for none."""
    text = SUFFIX.sub("", PREFIXES.sub("", printable(error or "").strip()))
    return cut(redact(text), MAX_ERROR) or None


def explain(code: int | None, oom_seen: bool = False) -> str | None:
    """Return the meaning of an exit code; ``oom_seen``: the kernel killed a process of the container, any of them."""
    if code is None:
        return None
    if oom_seen and code == KILLED:
        return "killed by the kernel: out of memory"
    if oom_seen:
        return "%s; before, the kernel had killed one of its processes: out of memory" % explain(code)
    if code in CODES:
        return CODES[code]
    if 128 < code < 160:
        try:
            name = signal.Signals(code - 128).name
        except ValueError:
            return "ended by signal %d" % (code - 128)
        return "%s: %s" % (name, SIGNALS.get(name, "ended by a signal"))
    return "an exit code of the program; see its log"


def facts(data: Mapping[str, Any], expected_services: Sequence[str]) -> Part:
    """Return the facts of one container by its inspection."""
    state, config, host = data["State"], data.get("Config") or {}, data.get("HostConfig") or {}
    labels = config.get("Labels") or {}
    running = state.get("Status") == "running"
    started, finished = epoch(state.get("StartedAt")), epoch(state.get("FinishedAt"))
    code = None if running or started is None else state.get("ExitCode")
    # The engine sets it for any process, and keeps it after a restart.
    oom_seen = bool(state.get("OOMKilled"))
    service = labels.get(SERVICE)
    policy = host.get("RestartPolicy") or {}
    current, error = status(data), reason_of(state.get("Error"))
    return {
        "id": data["Id"],
        "name": data["Name"].lstrip("/"),
        "project": labels.get(PROJECT),
        "service": service,
        "expected": is_expected(service, expected_services),
        "protected": is_protected(labels),
        "created_by_compose": CONFIG_HASH in labels,
        "image": config.get("Image"),
        "status": current,
        "error_message": error,
        "exit_code": code,
        "exit_meaning": explain(code, oom_seen),
        "oom_killed": oom_seen and code == KILLED,
        "oom_killed_before": oom_seen and running,
        "created_seconds": age(epoch(data.get("Created"))),
        # Unless something but a dependency keeps it from being started, which is found later.
        "awaits_start": current == "created" and error is None,
        "started_at": started,
        "uptime_seconds": age(started) if running else None,
        "finished_at": None if running else finished,
        "down_seconds": None if running else age(finished),
        "restarts": data.get("RestartCount"),
        "restart_policy": policy.get("Name") or "no",
        "gave_up": state.get("Status") == "exited"
        and bool(code)
        and has_given_up(policy, data.get("RestartCount") or 0),
        "has_healthcheck": has_healthcheck(config),
        "health": health(state) if running else None,
        "failing_streak": (state.get("Health") or {}).get("FailingStreak") if running else None,
        "memory_limit_set": host.get("Memory") or 0,
        "ports": published((data.get("NetworkSettings") or {}).get("Ports") if running else host.get("PortBindings")),
    }


def has_given_up(policy: Mapping[str, Any], restarts: int) -> bool:
    """Return whether a restart policy has used all the restarts that it allows."""
    allowed = policy.get("MaximumRetryCount") or 0
    return policy.get("Name") == "on-failure" and 0 < allowed <= restarts


def status(data: Mapping[str, Any]) -> str:
    """Return the state of a container by Docker's names."""
    state = data["State"]
    found = SAME_AS.get(state.get("Status"), state.get("Status"))
    # Podman has no state for a container that it is about to restart.
    ended = age(epoch(state.get("FinishedAt")))
    if state.get("Status") == "stopped" and data.get("RestartCount") and ended is not None and ended < SOON_SECONDS:
        return "restarting"
    return found


def health(state: Mapping[str, Any]) -> str | None:
    """Return the state of the health check; null without one, for which Podman has an empty string."""
    status = (state.get("Health") or {}).get("Status")
    return None if status in (None, "", "none") else status


def has_healthcheck(config: Mapping[str, Any]) -> bool:
    """Return whether the configuration of a container has a health check; ``NONE`` turns off that of the image."""
    test = (config.get("Healthcheck") or {}).get("Test") or []
    return bool(test) and test[0] != "NONE"


def listed_ports(row: Mapping[str, Any]) -> list[Part]:
    """Return the published ports in a row of the list of containers."""
    return [
        {"address": port.get("IP") or _listeners.ANY_IPV4, "port": port["PublicPort"], "protocol": port.get("Type")}
        for port in row.get("Ports") or []
        if port.get("PublicPort")
    ]


def published(ports: Mapping[str, Any] | None) -> list[Part]:
    """Return the ports of the host in a mapping of the engine, without those that the engine chooses."""
    found = []
    for inner, bindings in (ports or {}).items():
        for binding in bindings or []:
            port = binding.get("HostPort") or ""
            if port.isdigit() and int(port):
                address = binding.get("HostIp") or _listeners.ANY_IPV4
                found.append({"address": address, "port": int(port), "protocol": inner.partition("/")[2] or "tcp"})
    return sorted(found, key=lambda entry: (entry["port"], entry["address"]))
