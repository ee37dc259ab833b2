# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container a process belongs to, and what the engine's own files say about it. Private to this collection.

Read from the cgroup of the process and from the files of the Docker engine, so that neither a library nor an engine
that answers is needed. Reading the files takes root.
"""

from __future__ import annotations

import calendar
import json
import os
import re
import time

# The group of Podman's own process beside a container (libpod-conmon-<id>) is none of the container's.
ID = re.compile(r"(?:^|[/-])(?<!-conmon-)([0-9a-f]{64})(?:\.scope)?(?:$|/)", re.MULTILINE)
DEFAULT_ROOT = "/var/lib/docker"
DAEMON_CONFIGURATION = "/etc/docker/daemon.json"
MAX_BYTES = 1 << 20
# Labels of compose.
SERVICE = "com.docker.compose.service"
PROJECT = "com.docker.compose.project"
VOLUME = "com.docker.compose.volume"
ONE_OFF = "com.docker.compose.oneoff"
# The label of what no remedy may touch.
PROTECTED_LABEL = "tracktion.ops.protected"
FIELDS = ("id", "name", "service", "project", "one_off", "state", "exit_code", "restarts", "started", "finished")


def is_protected(labels):
    """Whether no remedy may touch what carries these labels: by any value of the label but ``false``."""
    return labels.get(PROTECTED_LABEL, "false").lower() != "false"


def is_one_off(labels):
    """Whether somebody runs it by the way (docker compose run): that is no container of its service."""
    return labels.get(ONE_OFF, "False") == "True"


def name_of(row):
    """The name of a container in a list of the engine. A link gives it more, with the other container's before them."""
    names = [name.lstrip("/") for name in row.get("Names") or ()]
    own = [name for name in names if "/" not in name]
    return (own or names or [row["Id"][:12]])[0]


def container_id(pid):
    """The id of the container that a process runs in, null outside of containers."""
    try:
        with open("/proc/%d/cgroup" % pid, encoding="utf-8", errors="replace") as stream:
            return id_in(stream.read())
    except OSError:
        return None


def id_in(cgroup):
    """The container's id in the text of /proc/<pid>/cgroup: the innermost, where one container holds another."""
    found = ID.findall(cgroup)
    return found[-1] if found else None


class Engine:
    """What the files of a Docker engine say about its containers; null where there are none or we may not read them."""

    def __init__(self, root=None):
        self.root = os.path.join(root or _data_root(), "containers")
        self._known = {}

    def container(self, identity):
        """The ``FIELDS``, the unknown ones null."""
        if identity is None:
            return None
        if identity not in self._known:
            self._known[identity] = self._read(identity) or dict(dict.fromkeys(FIELDS), id=identity)
        return self._known[identity]

    def of_service(self, service):
        """The containers of a compose service, or of that name, the running ones first; null where they cannot be read.

        What somebody tries out with ``compose run`` is not the service.
        Raises FileNotFoundError where there is no engine here.
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

    def all(self):
        """All containers. Raises FileNotFoundError where there is no engine, PermissionError where we may not look."""
        return [self.container(name) for name in os.listdir(self.root) if len(name) == 64]

    def file(self, identity, name):
        """What one of the engine's files about a container holds, as a mapping; null where it cannot be read."""
        try:
            with open("%s/%s/%s" % (self.root, identity, name), encoding="utf-8", errors="replace") as stream:
                data = json.loads(stream.read(MAX_BYTES))
        except (OSError, ValueError):
            return None
        return data if isinstance(data, dict) else None

    def _read(self, identity):
        data = self.file(identity, "config.v2.json")
        return None if data is None else summary(data)


def summary(data):
    """What we tell about a container, out of its config.v2.json."""
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


def _state(state):
    for field, name in (("Restarting", "restarting"), ("Paused", "paused"), ("Running", "running"), ("Dead", "dead")):
        if state.get(field):
            return name
    return "exited" if state else None


def epoch(text):
    """Epoch seconds of the engine's time stamps (RFC 3339); null for none and for year one, its "never"."""
    match = re.match(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(?:Z|([+-])(\d\d):(\d\d))$", text or "")
    if not match or match.group(1) == "0001":
        return None
    whole = calendar.timegm(tuple(int(part) for part in match.groups()[:6]))
    sign, hours, minutes = match.groups()[7:]
    if sign:
        whole -= int(sign + "1") * (int(hours) * 3600 + int(minutes) * 60)
    return round(whole + float(match.group(7) or 0), 3)


def age(moment):
    return None if moment is None else max(0.0, round(time.time() - moment, 1))


def _data_root():
    try:
        with open(DAEMON_CONFIGURATION, encoding="utf-8") as stream:
            return json.load(stream).get("data-root") or DEFAULT_ROOT
    except (OSError, ValueError, AttributeError):
        return DEFAULT_ROOT
