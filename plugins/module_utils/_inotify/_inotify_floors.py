# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans the floors of the inotify limits, given or computed. Private to this collection."""

from __future__ import annotations

import os

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify, _inotify_sizing, _inotify_use
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _kernel_parameters, _processes
from ansible_collections.tracktion.ops.plugins.module_utils._linux._sysctl_floors import CannotRaise, Plan
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._measures._inotify_limits import key_of
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part


def plan(options: Options) -> tuple[Plan, dict[str, _inotify_sizing.AutomaticFloor]]:
    """Return the plan for the floors that the options ask for, and the automatic floors by limit.

    Raises BadOption, CannotRaise or CannotConnect.
    """
    requested = [name for name in _inotify.LIMITS if options.get(name) is not None]
    if not requested:
        raise BadOption("state=raised needs at least one of the floors %s" % ", ".join(_inotify.LIMITS))
    runtime = _inotify.limits()
    memory = _inotify_sizing.total_memory()
    computed = [name for name in requested if options[name] == _inotify_sizing.AUTO]
    if computed and os.geteuid() and not _kernel_parameters.read_only(key_of(computed[0])):
        raise CannotRaise(
            "%s: auto needs the use of all users, which only root can count: run this task with become: true."
            % computed[0]
        )
    users = _count_use(options, runtime) if computed else []
    floors = _inotify_sizing.floors(options, runtime, memory, users)
    for name, floor in floors.items():
        if not 1 <= floor <= _inotify_sizing.GREATEST:
            raise BadOption("%s: %d is not between 1 and %d" % (name, floor, _inotify_sizing.GREATEST))

    def kernel_default(key: str) -> int:
        # A given floor is enforced whatever the kernel's default may be; an automatic one accepts the current value as
        # the default.
        name = name_of(key)
        return _inotify_sizing.kernel_default(name, runtime[name] if name in computed else 0, memory) or 0

    wanted = {key_of(name): floor for name, floor in floors.items()}
    planned = Plan(wanted, options["path"], options["sysctl_root"], "inotify_limits", kernel_default)
    return planned, {name: _inotify_sizing.automatic(name, options, runtime[name], memory, users) for name in computed}


def _count_use(options: Options, runtime: dict[str, int]) -> list[Part]:
    return _inotify_use.count_users(_inotify.scan(Deadline(options["deadline"])), runtime, _processes.user_names())


def name_of(key: str) -> str:
    """Return the name of the limit that a key sets: ``max_user_watches`` for ``fs.inotify.max_user_watches``."""
    return key.rpartition(".")[2]
