# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resource use of containers, from two readings of the kernel's counters. Private to this collection."""

from __future__ import annotations

import time
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _cgroup
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Why a rootless engine may have no control groups to read.
WITHOUT_ROOT = (
    "an engine without root makes them only with version 2 of cgroups, delegated to its user"
    " (Delegate=yes by `systemctl edit user@.service`)"
)
# States in which a container has processes.
ALIVE = ("running", "paused")
CHANGES = ("cpu_ratio", "throttled_ratio", "sampled_periods", "new_oom_kills")
FIELDS = (*_cgroup.FIELDS, *CHANGES, "memory_ratio", "pids_ratio")


class Use:
    """Takes the first reading when it is created, and the second in ``finish``; other work can be done in between."""

    def __init__(self, inspected: Iterable[Mapping[str, Any]]) -> None:
        self.hierarchies = _cgroup.Hierarchies()
        alive = [data for data in inspected if data["State"].get("Status") in ALIVE]
        self.pids: dict[str, int | None] = {data["Id"]: data["State"].get("Pid") for data in alive}
        self.first = self.read()
        self.began = time.monotonic()

    def read(self) -> dict[str, Any]:
        """Return the counters of each container by id, null if they cannot be read."""
        return {name: self.hierarchies.read(pid, name) if pid else None for name, pid in self.pids.items()}

    def finish(
        self,
        containers: Sequence[Part],
        sample_seconds: float,
        deadline: Deadline,
        unknown: Unknown,
        state_now: Callable[[str], Mapping[str, Any] | None],
        rootless: bool | None = False,
    ) -> None:
        """Add ``FIELDS`` to the facts of the containers. ``state_now`` returns the current state of one by its id."""
        if self.pids:
            time.sleep(deadline.remaining(max(0.0, self.began + sample_seconds - time.monotonic())))
        second, seconds = self.read(), time.monotonic() - self.began
        unread = []
        for container in containers:
            now = second.get(container["id"])
            if now is not None:
                container.update(now)
                container.update(_cgroup.change(self.first.get(container["id"]), now, seconds))
                container["memory_ratio"] = ratio(now["memory_bytes"], now["memory_limit_bytes"])
                container["pids_ratio"] = ratio(now["pids"], now["pids_limit"])
            elif container["id"] in second:
                container["ended_meanwhile"] = self.has_ended(state_now(container["id"]), container["id"])
                if not container["ended_meanwhile"]:
                    unread.append(container["name"])
        if unread:
            why = "; " + WITHOUT_ROOT if rootless else ""
            reason = "the control groups cannot be read from here: %s%s" % (", ".join(unread[:5]), why)
            unknown.add("containers.*", reason, None if rootless else _rights.hint("view of the processes of the host"))

    def has_ended(self, state: Mapping[str, Any] | None, name: str) -> bool:
        """Return whether the process of a container has ended since the first reading."""
        return state is not None and (state.get("Status") not in ALIVE or state.get("Pid") != self.pids[name])


def ratio(used: float | None, limit: float | None) -> float | None:
    """Return the used part of a limit; 0 without a limit, null if the use is unknown."""
    if used is None:
        return None
    return round(used / limit, 4) if limit else 0.0
