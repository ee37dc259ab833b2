# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The limits that apply to one process, and what is left of each. Private to this collection."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _user_namespaces
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify import Scan
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._user_namespaces import Charge
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes


class Budget(NamedTuple):
    """The limits of a user in one user namespace, and how much of them its processes hold.

    ``known`` is false if processes of the user could not be read: then the numbers are lower bounds. ``namespace`` and
    ``pid``, a process in it, are null for the limits of the machine.
    """

    uid: int
    namespace: int | None
    pid: int | None
    max_watches: int
    max_instances: int
    watches: int
    instances: int
    known: bool


def of_process(pid: int, scan: Scan, machine: Mapping[str, int]) -> list[Budget]:
    """Return the budgets of a process, that of the machine last. Raises PermissionError, and OSError if it ended."""
    charges = _user_namespaces.charges(pid)
    found = []
    for charge in charges[:-1]:
        own = _user_namespaces.limits(pid, charge.namespace)
        if own:
            found.append(_budget(charge, scan, own, machine, pid))
    return [*found, _budget(charges[-1], scan, machine, machine)]


def of_user(uid: int, scan: Scan, machine: Mapping[str, int]) -> list[Budget]:
    """Return the budget of a user of the machine."""
    return [_budget(Charge(_processes.INITIAL_USER_NAMESPACE, uid), scan, machine, machine)]


def scarcest(budgets: Sequence[Budget]) -> Budget:
    """Return the budget with the fewest watches left."""
    return min(budgets, key=lambda budget: budget.max_watches - budget.watches)


def _budget(
    charge: Charge, scan: Scan, limits: Mapping[str, int], machine: Mapping[str, int], pid: int | None = None
) -> Budget:
    held = [instance for instance in scan.instances if charge in instance.charges]
    return Budget(
        charge.uid,
        None if charge.namespace == _processes.INITIAL_USER_NAMESPACE else charge.namespace,
        pid,
        limits.get("max_user_watches", machine["max_user_watches"]),
        limits.get("max_user_instances", machine["max_user_instances"]),
        sum(instance.watches for instance in held),
        len(held),
        scan.complete and not scan.unreadable.get(charge.uid),
    )
