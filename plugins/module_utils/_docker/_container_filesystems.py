# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file systems that containers write to: that of the engine, volumes, and those in memory.

Private to this collection.
They are read through the first process of each container, as it sees them.
"""

from __future__ import annotations

import os
from typing import Any, Iterable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

SHARED_MEMORY = "/dev/shm"  # noqa: S108
DATA_ROOT = "/var/lib/docker"


def filesystems(
    inspected: Iterable[Mapping[str, Any]],
    data_root: str | None,
    options: Options,
    deadline: Deadline,
    unknown: Unknown,
) -> list[Part]:
    """Return the file systems, each once, the fullest first."""
    found: dict[tuple[int, str], Part] = {}
    root = data_root or DATA_ROOT
    on_host: int | None = None
    try:
        on_host = within(deadline, options["timeout"], os.stat, root).st_dev
        add(found, None, root, "engine", within(deadline, options["timeout"], os.statvfs, root), on_host)
    except OSError as exc:
        unknown.add("filesystems[...]", "%s: %s" % (root, exc.strerror or exc), _rights.hint_of(exc))
    running = [data for data in inspected if (data.get("State") or {}).get("Pid")]
    ended = 0
    for data in running:
        pid = data["State"]["Pid"]
        try:
            seen = within(deadline, options["timeout"], look, pid, targets(data))
        except (FileNotFoundError, ProcessLookupError):
            ended += 1
            continue
        except OSError as exc:
            unknown.add(
                "filesystems[...]", "%s: %s" % (data["Name"].lstrip("/"), exc.strerror or exc), _rights.hint_of(exc)
            )
            continue
        for target, kind, status, device in seen:
            if device != on_host:
                add(found, data["Name"].lstrip("/"), target, kind, status, device)
    if running and ended == len(running):
        hint = _rights.hint("view of the processes of the host")
        unknown.add("filesystems[...]", "the processes of the containers cannot be seen", hint)
    return sorted(found.values(), key=lambda entry: -entry["used_ratio"])[: options["top"]]


def targets(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the paths in a container that may be file systems of their own, with what they are."""
    found = [(SHARED_MEMORY, "shm")]
    host = data.get("HostConfig") or {}
    found += [(path, "tmpfs") for path in host.get("Tmpfs") or {}]
    for mount in data.get("Mounts") or []:
        if mount.get("RW") and mount.get("Destination"):
            found.append((mount["Destination"], mount.get("Type") or "bind"))
    return found


def look(pid: int, paths: Iterable[tuple[str, str]]) -> list[tuple[str, str, os.statvfs_result, int]]:
    """Return path, kind, state and device of the mount points among these paths, as the process sees them."""
    with open("/proc/%d/mountinfo" % pid, encoding="utf-8", errors="replace") as stream:
        mounted = {line.split()[4] for line in stream}
    found = []
    for path, kind in paths:
        if path.rstrip("/") in mounted:
            # A mount point is no link, so that the path stays in the container.
            inside = "/proc/%d/root%s" % (pid, path)
            found.append((path, kind, os.statvfs(inside), os.stat(inside).st_dev))
    return found


def add(
    found: dict[tuple[int, str], Part],
    container: str | None,
    path: str,
    kind: str,
    status: os.statvfs_result,
    device: int,
) -> None:
    """Add a file system; only the container to one that is known."""
    if status.f_flag & os.ST_RDONLY or not status.f_blocks:
        return
    # Each container has its own file systems in memory.
    key = (device, container or "" if kind in ("shm", "tmpfs") else "")
    if key in found:
        if container and container not in found[key]["containers"]:
            found[key]["containers"].append(container)
        return
    usable = status.f_blocks - status.f_bfree + status.f_bavail
    found[key] = {
        "path": path,
        "kind": kind,
        "device": device,
        "containers": [container] if container else [],
        "bytes": status.f_blocks * status.f_frsize,
        "available_bytes": status.f_bavail * status.f_frsize,
        "used_ratio": round(1 - status.f_bavail / usable, 4) if usable else 1.0,
        "inodes_ratio": round(1 - status.f_favail / status.f_files, 4) if status.f_files else 0.0,
    }
