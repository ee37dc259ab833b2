# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a container is, and what its exit code means, out of the engine's inspection. Private to this collection."""

from __future__ import annotations

import signal

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

CODES = {
    0: "it ended without an error: it was done, or was told to stop",
    1: "the program failed; its log says why",
    2: "the program refused its arguments or its configuration",
    125: "the engine could not start it",
    126: "its command cannot be executed: permissions, or made for another processor",
    127: "its command was not found in the image",
    128: "the engine could not start it",
}
KILLED = 128 + signal.SIGKILL
SIGNALS = {
    "SIGKILL": "killed at once: by a stop that took too long, by somebody, or by the kernel for want of memory",
    "SIGTERM": "stopped on request",
    "SIGINT": "interrupted on request",
    "SIGSEGV": "crashed on a bad memory access",
    "SIGABRT": "gave up by itself (abort)",
    "SIGBUS": "crashed on a bad memory access, or its file was cut short",
    "SIGILL": "crashed on an instruction that this processor does not know",
    "SIGHUP": "its terminal went away",
}


# States that Podman tells of, by the words of Docker: what it has still to clean up, and what it has not begun with.
SAME_AS = {"stopped": "exited", "configured": "created", "initialized": "created"}
# Seconds within which Podman starts a container again, if at all; Docker waits no longer than a minute either.
SOON_SECONDS = 60


def explain(code, oom_seen=False):
    """What an exit code means, and whether the kernel had killed one of its processes, this or another."""
    if code is None:
        return None
    if oom_seen and code == KILLED:
        return "killed by the kernel, because it used more memory than it may"
    if oom_seen:
        return explain(code) + "; before, the kernel had killed one of its processes for want of memory"
    if code in CODES:
        return CODES[code]
    if 128 < code < 160:
        try:
            name = signal.Signals(code - 128).name
        except ValueError:
            return "ended by signal %d" % (code - 128)
        return "%s: %s" % (name, SIGNALS.get(name, "ended by a signal"))
    return "the program's own code; its log says why"


def facts(data, expected_services):
    """The facts of one container, out of what the engine's inspection returned."""
    state, config, host = data["State"], data.get("Config") or {}, data.get("HostConfig") or {}
    labels = config.get("Labels") or {}
    running = state.get("Status") == "running"
    started, finished = epoch(state.get("StartedAt")), epoch(state.get("FinishedAt"))
    code = None if running or started is None else state.get("ExitCode")
    # Set by any of its processes, and kept while it runs again.
    oom_seen = bool(state.get("OOMKilled"))
    service = labels.get(SERVICE)
    policy = host.get("RestartPolicy") or {}
    return {
        "id": data["Id"],
        "name": data["Name"].lstrip("/"),
        "project": labels.get(PROJECT),
        "service": service,
        "expected": service in expected_services,
        "protected": is_protected(labels),
        "image": config.get("Image"),
        "status": status(data),
        "error_message": cut(redact(printable(state.get("Error") or "")), 300) or None,
        "exit_code": code,
        "exit_meaning": explain(code, oom_seen),
        "oom_killed": oom_seen and code == KILLED,
        "oom_killed_before": oom_seen and running,
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


def has_given_up(policy, restarts):
    """Whether a restart policy has used up all the restarts that it allows."""
    allowed = policy.get("MaximumRetryCount") or 0
    return policy.get("Name") == "on-failure" and 0 < allowed <= restarts


def status(data):
    """The state of a container, in the words of Docker."""
    state = data["State"]
    found = SAME_AS.get(state.get("Status"), state.get("Status"))
    # Podman has no word for one that it is about to start once more.
    ended = age(epoch(state.get("FinishedAt")))
    if state.get("Status") == "stopped" and data.get("RestartCount") and ended is not None and ended < SOON_SECONDS:
        return "restarting"
    return found


def health(state):
    """What the health check says; null where there is none, for which Podman has an empty word."""
    status = (state.get("Health") or {}).get("Status")
    return None if status in (None, "", "none") else status


def has_healthcheck(config):
    test = (config.get("Healthcheck") or {}).get("Test") or []
    return bool(test) and test[0] != "NONE"


def published(ports):
    """The ports of the host in a mapping of the engine; not those that it is to choose."""
    found = []
    for inner, bindings in (ports or {}).items():
        for binding in bindings or []:
            port = binding.get("HostPort") or ""
            if port.isdigit() and int(port):
                address = binding.get("HostIp") or _listeners.ANY_IPV4
                found.append({"address": address, "port": int(port), "protocol": inner.partition("/")[2] or "tcp"})
    return sorted(found, key=lambda entry: (entry["port"], entry["address"]))
