# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container of a process, and its state by the files of the engine. Private to this collection.

Read from the cgroup of the process and from the files of the Docker engine, so that neither a library nor a responding
engine is needed. The files can be read by root only.
"""

from __future__ import annotations

import calendar
import json
import os
import re
import time
from typing import Any, Mapping, overload

from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Not the group of Podman's own process beside a container (libpod-conmon-<id>).
ID = re.compile(r"(?:^|[/-])(?<!-conmon-)([0-9a-f]{64})(?:\.scope)?(?:$|/)", re.MULTILINE)
DEFAULT_ROOT = "/var/lib/docker"
DAEMON_CONFIGURATION = "/etc/docker/daemon.json"
# The start of the mode of a container that shares a namespace of another one, before the id of that one.
SHARES = "container:"
MAX_BYTES = 1 << 20
# Labels of compose.
SERVICE = "com.docker.compose.service"
PROJECT = "com.docker.compose.project"
VOLUME = "com.docker.compose.volume"
ONE_OFF = "com.docker.compose.oneoff"
# The label of objects that no remedy may change.
PROTECTED_LABEL = "tracktion.ops.protected"
# Flag of the state -> state. The first one that is set counts.
STATES = {
    "RemovalInProgress": "removing",
    "Dead": "dead",
    "Restarting": "restarting",
    "Paused": "paused",
    "Running": "running",
}
# Seconds by which the engine notes the start of a container too late.
STARTING = 1.0
FIELDS = ("id", "name", "service", "project", "one_off", "state", "exit_code", "restarts", "started", "finished")


def is_protected(labels: Mapping[str, str]) -> bool:
    """Return whether no remedy may change an object with these labels: any value but ``false`` protects it."""
    return labels.get(PROTECTED_LABEL, "false").lower() != "false"


def is_one_off(labels: Mapping[str, str]) -> bool:
    """Return whether ``docker compose run`` started the container: it is no container of the service then."""
    return labels.get(ONE_OFF, "False") == "True"


def name_of(row: Mapping[str, Any]) -> str:
    """Return the name of a container in a list of the engine. Links add names with a slash, which are skipped."""
    names = [name.lstrip("/") for name in row.get("Names") or ()]
    own = [name for name in names if "/" not in name]
    return (own or names or [row["Id"][:12]])[0]


def container_id(pid: int) -> str | None:
    """Return the id of the container that a process runs in, null outside of containers."""
    try:
        with open("/proc/%d/cgroup" % pid, encoding="utf-8", errors="replace") as stream:
            return id_in(stream.read())
    except OSError:
        return None


def id_in(cgroup: str) -> str | None:
    """Return the id of a container in the text of /proc/<pid>/cgroup, the innermost of nested containers."""
    found = ID.findall(cgroup)
    return found[-1] if found else None


def container_name(pid: int) -> str | None:
    """Return the name of the container that a process runs in; null outside of containers, and if it is not known."""
    return container_and_project(pid)[0]


def container_and_project(pid: int) -> tuple[str | None, str | None]:
    """Return the name of the container that a process runs in, and its compose project; null as far as not known."""
    container = Engine().container(container_id(pid))
    return (container["name"], container["project"]) if container else (None, None)


class Engine:
    """The containers of a Docker engine by its files. Fields are null if a file is missing or cannot be read."""

    def __init__(self, root: str | None = None) -> None:
        self.root = os.path.join(root or _data_root(), "containers")
        self._known: dict[str, Part] = {}

    @overload
    def container(self, identity: str) -> Part: ...

    @overload
    def container(self, identity: None) -> None: ...

    def container(self, identity: str | None) -> Part | None:
        """Return the ``FIELDS`` of a container, the unknown ones null; null without an id."""
        if identity is None:
            return None
        if identity not in self._known:
            self._known[identity] = self._read(identity) or dict(dict.fromkeys(FIELDS), id=identity)
        return self._known[identity]

    def of_service(self, service: str) -> list[Part] | None:
        """Return the containers of a compose service, or of that name, running ones first; null without permission.

        Containers of ``compose run`` are left out. Raises FileNotFoundError if there is no engine.
        """
        try:
            found = self.all()
        except PermissionError:
            return None
        found = [
            container
            for container in found
            if service == container["name"] or (service == container["service"] and not container["one_off"])
        ]
        return sorted(found, key=lambda container: (container["state"] != "running", -(container["started"] or 0)))

    def all(self) -> list[Part]:
        """Return all containers. Raises FileNotFoundError if there is no engine, PermissionError without permission."""
        return [self.container(name) for name in os.listdir(self.root) if len(name) == 64]

    def file(self, identity: str, name: str) -> dict[str, Any] | None:
        """Return the mapping in one of the files of a container, null if it cannot be read."""
        try:
            with open("%s/%s/%s" % (self.root, identity, name), encoding="utf-8", errors="replace") as stream:
                data = json.loads(stream.read(MAX_BYTES))
        except (OSError, ValueError):
            return None
        return data if isinstance(data, dict) else None

    def _read(self, identity: str) -> Part | None:
        data = self.file(identity, "config.v2.json")
        return None if data is None else summary(data)


def summary(data: Mapping[str, Any]) -> Part:
    """Return the ``FIELDS`` of a container by its config.v2.json."""
    labels = (data.get("Config") or {}).get("Labels") or {}
    state = data.get("State") or {}
    return {
        "id": data.get("ID"),
        "name": (data.get("Name") or "").lstrip("/") or None,
        "service": labels.get(SERVICE),
        "project": labels.get(PROJECT),
        "one_off": is_one_off(labels),
        "state": _state(state),
        "exit_code": state.get("ExitCode"),
        "restarts": data.get("RestartCount"),
        "started": epoch(state.get("StartedAt")),
        "finished": epoch(state.get("FinishedAt")),
    }


def _state(state: Mapping[str, Any]) -> str | None:
    """Return the state by the engine's names, which its files hold as flags."""
    for field, name in STATES.items():
        if state.get(field):
            return name
    if not state:
        return None
    return "created" if state.get("StartedAt") and epoch(state["StartedAt"]) is None else "exited"


def epoch(text: str | None) -> float | None:
    """Return epoch seconds of a timestamp of the engine (RFC 3339); null for none and for year 1, which means never."""
    match = re.match(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(?:Z|([+-])(\d\d):(\d\d))$", text or "")
    if not match or match.group(1) == "0001":
        return None
    whole = calendar.timegm(tuple(int(part) for part in match.groups()[:6]))
    sign, hours, minutes = match.groups()[7:]
    if sign:
        whole -= int(sign + "1") * (int(hours) * 3600 + int(minutes) * 60)
    return round(whole + float(match.group(7) or 0), 3)


def writes_since(started: float | None) -> float | None:
    """Return the time from which on what a container has written is of its present run. ``started``: as noted.

    The engine notes the start some time after the program has begun to write.
    """
    return None if started is None else started - STARTING


def age(moment: float | None) -> float | None:
    """Return the seconds since a moment, at least 0."""
    return None if moment is None else max(0.0, round(time.time() - moment, 1))


def _data_root() -> str:
    try:
        with open(DAEMON_CONFIGURATION, encoding="utf-8") as stream:
            return json.load(stream).get("data-root") or DEFAULT_ROOT
    except (OSError, ValueError, AttributeError):
        return DEFAULT_ROOT
