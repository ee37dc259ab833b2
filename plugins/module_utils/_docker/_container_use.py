# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What containers use, from two readings of the kernel's counters. Private to this collection."""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _cgroup

# Why there may be no control groups to read, where the engine runs without root.
WITHOUT_ROOT = (
    "an engine without root makes them only with version 2 of cgroups, delegated to its user"
    " (Delegate=yes by `systemctl edit user@.service`)"
)
# States in which a container has processes.
ALIVE = ("running", "paused")
CHANGES = ("cpu_ratio", "throttled_ratio", "sampled_periods", "new_oom_kills")
FIELDS = (*_cgroup.FIELDS, *CHANGES, "memory_ratio", "pids_ratio")


class Use:
    """The first reading is taken at once; what else there is to do is done before the second one."""

    def __init__(self, inspected):
        self.hierarchies = _cgroup.Hierarchies()
        alive = [data for data in inspected if data["State"].get("Status") in ALIVE]
        self.pids = {data["Id"]: data["State"].get("Pid") for data in alive}
        self.first = self.read()
        self.began = time.monotonic()

    def read(self):
        return {name: self.hierarchies.read(pid, name) if pid else None for name, pid in self.pids.items()}

    def finish(self, containers, sample_seconds, deadline, unknown, state_now, rootless=False):
        """Add ``FIELDS`` to the facts of those that were read; ``state_now`` tells the state of one now."""
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

    def has_ended(self, state, name):
        """Whether the process that was to be read is over, as in a container that ends again and again."""
        return state is not None and (state.get("Status") not in ALIVE or state.get("Pid") != self.pids[name])


def ratio(used, limit):
    """Use of a limit; 0 where there is none to reach, null where the use is not known."""
    if used is None:
        return None
    return round(used / limit, 4) if limit else 0.0
