# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Floors for the inotify limits, given or computed, as a plan. Private to this collection."""

from __future__ import annotations

import os

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify, _inotify_sizing
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _kernel_parameters, _processes
from ansible_collections.tracktion.ops.plugins.module_utils._linux._sysctl_floors import CannotRaise, Plan
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._measures._inotify_limits import (
    count_users,
    key_of,
    runtime_limits,
)


def plan(options):
    """``(plan, automatic)``: what has to change, and by limit what its automatic floor comes from."""
    asked = [name for name in _inotify.LIMITS if options.get(name) is not None]
    if not asked:
        raise BadOption("state=raised needs at least one of the floors %s" % ", ".join(_inotify.LIMITS))
    runtime = runtime_limits()
    memory = _inotify_sizing.total_memory()
    computed = [name for name in asked if options[name] == _inotify_sizing.AUTO]
    if computed and os.geteuid() and not _kernel_parameters.read_only(key_of(computed[0])):
        raise CannotRaise(
            "%s: auto needs the use of all users, which only root can count: run this task with become: true."
            % computed[0]
        )
    users = count_use(options, runtime) if computed else []
    floors = _inotify_sizing.floors(options, runtime, memory, users)
    for name, floor in floors.items():
        if not 1 <= floor <= _inotify_sizing.GREATEST:
            raise BadOption("%s: %d is not between 1 and %d" % (name, floor, _inotify_sizing.GREATEST))

    def by_itself(key):
        # A floor of one's own holds whatever the default may be; an automatic one leaves a default that it finds alone.
        name = name_of(key)
        return _inotify_sizing.kernel_default(name, runtime[name] if name in computed else 0, memory) or 0

    wanted = {key_of(name): floor for name, floor in floors.items()}
    made = Plan(wanted, options["path"], options["sysctl_root"], "inotify_limits", by_itself)
    return made, {name: _inotify_sizing.automatic(name, options, runtime[name], memory, users) for name in computed}


def count_use(options, runtime):
    return count_users(_inotify.scan(Deadline(options["deadline"])), runtime, _processes.user_names())


def name_of(key):
    """The limit that a key is, ``max_user_watches`` for ``fs.inotify.max_user_watches``."""
    return key.rpartition(".")[2]
