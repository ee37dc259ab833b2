# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How high the inotify limits are by themselves, and how high they should be. Private to this collection."""

from __future__ import annotations

import os

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption

AUTO = "auto"
FLOOR = {"type": "str"}
ARGUMENT_SPEC = {
    "max_user_watches": FLOOR,
    "max_user_instances": FLOOR,
    "max_queued_events": FLOOR,
    "memory_share": {"type": "float", "default": 0.01},
    "headroom": {"type": "float", "default": 2.0},
}

# What the kernel itself reckons with when it sizes max_user_watches to one percent of memory (fs/notify/inotify:
# a mark and two inodes); 23.5 GiB gave 192,536 watches.
BYTES_PER_WATCH = 1310
# Older and newer kernels, with other options, have between 1000 and 1800 bytes.
COST_RANGE = (1000, 1800)
SMALLEST_DEFAULT, GREATEST_DEFAULT = 8192, 1 << 20
FIXED_DEFAULTS = {"max_user_instances": 128, "max_queued_events": 16384}
# The limits that are counted for each user, and where a user has the count. Events are counted for each instance.
USE = {"max_user_watches": "watches_at_least", "max_user_instances": "instances_at_least"}
GREATEST = (1 << 31) - 1


def kernel_default(name, runtime, memory):
    """What the kernel sets by itself at boot.

    max_user_watches depends on the build of the kernel. A value that can be the default is taken for it; beside any
    other one, the least that the default can be is returned. Null where memory is not known.
    """
    if name in FIXED_DEFAULTS:
        return FIXED_DEFAULTS[name]
    if memory is None:
        return None
    least, greatest = (watches_for(memory // 100, cost) for cost in reversed(COST_RANGE))
    return runtime if least <= runtime <= greatest else least


def watches_for(budget, cost):
    """As many watches as this many bytes pay for, within the bounds of the kernel."""
    return min(max(budget // cost, SMALLEST_DEFAULT), GREATEST_DEFAULT)


def total_memory():
    """Bytes of memory of the machine, null where they cannot be read."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def floors(options, runtime, memory, users):
    """The floors that the options ask for, as numbers by limit. Raises BadOption."""
    check_sizing(options)
    wanted = {}
    for name in _inotify.LIMITS:
        asked = options.get(name)
        if asked == AUTO:
            wanted[name] = automatic(name, options, runtime[name], memory, users)["floor"]
        elif asked is not None:
            wanted[name] = number(name, asked)
    return wanted


def automatic(name, options, runtime, memory, users):
    """The floor that a limit should have on this machine, and what it comes from.

    The greatest of: what the memory pays for, as the kernel does it by itself since 5.11, at the dearest cost of a
    watch, so that no newer kernel is corrected; the use of the fullest user times the headroom; what holds now.
    """
    by_memory = FIXED_DEFAULTS.get(name)
    if by_memory is None:
        by_memory = watches_for(int((memory or 0) * options["memory_share"]), max(COST_RANGE))
    fullest = max(users, key=lambda user: user[USE[name]], default=None) if name in USE else None
    used = fullest[USE[name]] if fullest else 0
    by_use = with_headroom(used, options["headroom"], runtime)
    return {
        "floor": min(max(by_memory, by_use, runtime), GREATEST),
        "by_memory": by_memory,
        "by_use": by_use,
        "used_at_least": used,
        "user": fullest["name"] if used else None,
    }


def with_headroom(used, headroom, runtime):
    """The use times the headroom; beyond the limit of now, the next power of two.

    Use that grows from run to run would otherwise move the floor in every run.
    """
    wanted = int(used * headroom)
    return wanted if wanted <= runtime else 1 << (wanted - 1).bit_length()


def number(name, asked):
    """A floor that is given as a number."""
    try:
        return int(asked)
    except ValueError:
        raise BadOption("%s: %s is neither a whole number nor %s" % (name, asked, AUTO))


def check_sizing(options):
    if not 0 <= options["memory_share"] <= 1:
        raise BadOption("memory_share: %g is not between 0 and 1" % options["memory_share"])
    if not 1 <= options["headroom"] <= 1000:
        raise BadOption("headroom: %g is not between 1 and 1000" % options["headroom"])
