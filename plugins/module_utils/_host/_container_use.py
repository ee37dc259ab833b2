# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CPU and memory of each container, with and without a limit, from its control groups. Private to this collection.

The groups are found by their names, which contain the id of the container with every engine. They can be read without
privileges, and while the engine does not answer.
"""

from __future__ import annotations

import os
from typing import Dict, Iterable, Iterator

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import id_in
from ansible_collections.tracktion.ops.plugins.module_utils._host import _rates
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import first as largest
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _cgroup
from ansible_collections.tracktion.ops.plugins.module_utils._linux._cgroup import CONTROLLERS, Hierarchies, Reading
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Levels of groups above that of a container: kubepods.slice/kubepods-burstable.slice/kubepods-pod<uid>.slice.
MOST_LEVELS = 8
# A group without groups below it has the directories . and .. only.
LEAF_LINKS = 2

# Id of a container -> its counters.
Sample = Dict[str, Reading]


class Groups:
    """The control groups of the containers: id -> directory by controller."""

    def __init__(self, hierarchies: Hierarchies, deadline: Deadline) -> None:
        self.directories: dict[str, dict[str, str]] = {}
        roots = hierarchies.of_controller.get("memory"), hierarchies.of_controller.get("cpu"), hierarchies.unified
        for root in dict.fromkeys(filter(None, roots)):
            for path in find(root, deadline):
                identity = id_in("0::/%s" % path)
                if identity is not None:
                    self.directories.setdefault(identity, _directories(hierarchies, path))

    def read(self) -> Sample:
        """Return the counters of all containers."""
        return {identity: _cgroup.reading(folders) for identity, folders in self.directories.items()}


def find(root: str, deadline: Deadline, level: int = 0, path: str = "") -> Iterator[str]:
    """Yield the paths below ``root`` of groups that are named by the id of a container."""
    folder = os.path.join(root, path)
    try:
        if level > MOST_LEVELS or deadline.expired() or os.stat(folder).st_nlink == LEAF_LINKS:
            return
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        # The group was removed, or belongs to another user.
        return
    for name in names:
        inner = os.path.join(path, name)
        if id_in("0::/%s" % name):
            yield inner
        else:
            yield from find(root, deadline, level + 1, inner)


def _directories(hierarchies: Hierarchies, path: str) -> dict[str, str]:
    """Return the directory of a group by controller: those of version 1 first, as long as they exist."""
    found = {}
    for controller in CONTROLLERS:
        for root in (hierarchies.of_controller.get(controller), hierarchies.unified):
            folder = os.path.join(root, path) if root else ""
            if folder and controller not in found and os.path.isdir(folder):
                found[controller] = folder
    return found


def killed_by_limit(containers: Iterable[Part]) -> int:
    """Return the processes that were killed in the interval because their container reached its own limit."""
    return sum(each["new_oom_kills"] or 0 for each in containers if each["memory_limit_bytes"] is not None)


def describe(
    context: Context, first: Sample, second: Sample, seconds: float, cores: int | None, memory: int | None
) -> Part:
    """Return the parts ``containers`` (those with the most CPU and the most memory) and ``containers_total``."""
    found = []
    for identity, now in second.items():
        changed = _cgroup.change(first.get(identity), now, seconds)
        cpu = changed["cpu_ratio"]
        found.append(
            {
                "id": identity,
                **context.named(identity),
                "cpu_ratio": cpu,
                "cpu_of_host_ratio": _rates.ratio(cpu, cores),
                "memory_bytes": now["memory_bytes"],
                "memory_limit_bytes": now["memory_limit_bytes"],
                "memory_ratio": _rates.ratio(now["memory_bytes"], now["memory_limit_bytes"]),
                "memory_of_host_ratio": _rates.ratio(now["memory_bytes"], memory),
                "oom_kills": now["oom_kills"],
                "new_oom_kills": changed["new_oom_kills"],
                "pids": now["pids"],
            }
        )
    by_cpu, by_memory = largest(found, "cpu_ratio", context.top), largest(found, "memory_bytes", context.top)
    killed = [item for item in found if item["new_oom_kills"]]
    chosen = {item["id"]: item for item in (*by_cpu, *by_memory, *killed[: context.top])}
    return {"containers": list(chosen.values()), "containers_total": len(found)}
