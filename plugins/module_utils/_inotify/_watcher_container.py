# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container of a watcher by the files of the engine, also while it is down. Private to this collection."""

from __future__ import annotations

import os
import re
from typing import Any, Mapping, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_users
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_users import User
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine

# The data directory of an engine that maps the users of containers: /var/lib/docker/100000.100000.
REMAPPED = re.compile(r"/\d+\.\d+$")
MAX_BYTES = 1 << 16


class Mount(NamedTuple):
    """A directory of the host, or a file, and where the container has it."""

    source: str
    destination: str


class Container:
    """The mounts, environment, user, limits and log of a container; empty or null without one."""

    def __init__(self, engine: Engine, identity: str | None) -> None:
        self._engine = engine
        self._identity = identity or ""
        self._data = engine.file(self._identity, "config.v2.json") or {} if identity else {}
        self._host = engine.file(self._identity, "hostconfig.json") or {} if identity else {}
        volumes = os.path.join(os.path.dirname(engine.root), "volumes")
        self.mounts = sorted(_mounts(self._data, volumes), key=lambda mount: -len(mount.destination))

    @property
    def known(self) -> bool:
        """Whether there is a container, and its configuration can be read."""
        return bool(self._data)

    @property
    def name(self) -> str | None:
        """Its name."""
        return str(self._data.get("Name") or "").lstrip("/") or None

    @property
    def log(self) -> str | None:
        """The log file, null for other drivers than ``json-file``."""
        return self._data.get("LogPath") or None

    def setting(self, names: list[str]) -> str | None:
        """Return the value of the first of these variables that is set, if it is an absolute path; else null."""
        rows = [str(row).partition("=") for row in (self._data.get("Config") or {}).get("Env") or []]
        given = {name: value for name, _equals, value in rows}
        path = next((given[name] for name in names if given.get(name)), "")
        return path if path.startswith("/") else None

    def open_files(self) -> int | None:
        """Return its own limit of open files, null for that of the engine."""
        for limit in self._host.get("Ulimits") or []:
            if limit.get("Name") == "nofile":
                return limit.get("Soft")
        return None

    def to_host(self, path: str) -> Mount | None:
        """Return the path of the host, and the path itself, of a path in the container; null if it is not mounted."""
        for mount in self.mounts:
            rest = below(path, mount.destination)
            if rest is not None:
                return Mount(mount.source.rstrip("/") + rest, path)
        return None

    def to_container(self, path: str) -> Mount | None:
        """Return where the container has a path of the host; null if no mount covers it."""
        for mount in sorted(self.mounts, key=lambda mount: -len(mount.source)):
            rest = below(path, os.path.realpath(mount.source))
            if rest is not None:
                return Mount(path, mount.destination.rstrip("/") + rest or "/")
        return None

    def base(self, host_path: str) -> str:
        """Return the source of the mount that covers a path of the host: directories above it do not count."""
        covering = [mount.source for mount in self.mounts if below(host_path, mount.source) is not None]
        return max(covering, key=len, default="/")

    def user(self) -> User | None:
        """Return the user that it runs as; null if its name, or its number on the host, is not known from here."""
        if not self._data or REMAPPED.search(os.path.dirname(self._engine.root)):
            return None
        layers: dict[str, str | None] = {}
        name = (self._data.get("Config") or {}).get("User") or "0"
        if not name.replace(":", "").isdigit() or ":" not in name:
            layers = self._layers()
        return _container_users.user_of(
            {"Config": self._data.get("Config"), "HostConfig": self._host, "GraphDriver": {"Data": layers}}
        )

    def overrides_modes(self) -> bool:
        """Return whether root of the container may read every file: the engine grants it, unless it was dropped."""
        dropped = {str(name).upper().replace("CAP_", "") for name in self._host.get("CapDrop") or []}
        added = {str(name).upper().replace("CAP_", "") for name in self._host.get("CapAdd") or []}
        if self._host.get("Privileged") or added & {"ALL", "DAC_OVERRIDE", "DAC_READ_SEARCH"}:
            return True
        return not dropped & {"ALL", "DAC_OVERRIDE"}

    def _layers(self) -> dict[str, str | None]:
        """Return the directories of its files, as an inspection does (overlay2); empty if they cannot be found."""
        root = os.path.dirname(self._engine.root)
        overlay = os.path.join(root, "overlay2")
        number = _read("%s/image/overlay2/layerdb/mounts/%s/mount-id" % (root, self._identity))
        if not re.fullmatch(r"[0-9a-f]{64}", number):
            return {}
        lower = _read("%s/%s/lower" % (overlay, number))
        links = [part for part in lower.split(":") if re.fullmatch(r"l/[A-Z0-9]+", part)]
        below_it = [os.path.realpath(os.path.join(overlay, part)) for part in links]
        return {"UpperDir": "%s/%s/diff" % (overlay, number), "LowerDir": ":".join(below_it)}


def _mounts(data: Mapping[str, Any], volumes: str) -> list[Mount]:
    found = []
    for point in (data.get("MountPoints") or {}).values():
        source, destination = point.get("Source"), point.get("Destination")
        if not source and point.get("Driver") == "local" and point.get("Name"):
            source = os.path.join(volumes, point["Name"], "_data")
        if source and destination:
            found.append(Mount(os.path.normpath(source), os.path.normpath(destination)))
    return found


def below(path: str, directory: str) -> str | None:
    """Return the rest of a path below a directory, with its slash, empty for the directory; null for other paths."""
    if path == directory:
        return ""
    prefix = directory.rstrip("/") + "/"
    return path[len(prefix) - 1 :] if path.startswith(prefix) else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(MAX_BYTES).strip()
    except OSError:
        return ""
