# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Computes the kernel's default inotify limits and the automatic floors. Private to this collection."""

from __future__ import annotations

import os
from typing import Sequence, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

AUTO = "auto"
FLOOR = {"type": "str"}
ARGUMENT_SPEC = {
    "max_user_watches": FLOOR,
    "max_user_instances": FLOOR,
    "max_queued_events": FLOOR,
    "memory_share": {"type": "float", "default": 0.01},
    "headroom": {"type": "float", "default": 2.0},
}

# The size that the kernel assumes when it sets max_user_watches to one percent of memory (fs/notify/inotify: a mark
# and two inodes); 23.5 GiB gave 192,536 watches.
BYTES_PER_WATCH = 1310
# Older and newer kernels, with other options, assume between 1000 and 1800 bytes.
COST_RANGE = (1000, 1800)
SMALLEST_DEFAULT, GREATEST_DEFAULT = 8192, 1 << 20
FIXED_DEFAULTS = {"max_user_instances": 128, "max_queued_events": 16384}
# Limit -> field of a user that counts its use. max_queued_events applies to each instance, not to a user.
USE = {"max_user_watches": "watches_at_least", "max_user_instances": "instances_at_least"}
GREATEST = (1 << 31) - 1


class AutomaticFloor(TypedDict):
    """The floor computed for a limit, and the numbers that it comes from."""

    floor: int
    by_memory: int
    by_use: int
    used_at_least: int
    user: str | None


def kernel_default(name: str, runtime: int, memory: int | None) -> int | None:
    """Return the value that the kernel sets for a limit at boot if no file sets it.

    The default of max_user_watches depends on the build of the kernel: ``runtime`` is returned if it can be the
    default, else the lowest possible default. Null if ``memory`` (bytes) is not known.
    """
    if name in FIXED_DEFAULTS:
        return FIXED_DEFAULTS[name]
    if memory is None:
        return None
    least, greatest = (watches_for(memory // 100, cost) for cost in reversed(COST_RANGE))
    return runtime if least <= runtime <= greatest else least


def watches_for(budget: int, cost: int) -> int:
    """Return how many watches of ``cost`` bytes fit into ``budget`` bytes, within the bounds of the kernel."""
    return min(max(budget // cost, SMALLEST_DEFAULT), GREATEST_DEFAULT)


def total_memory() -> int | None:
    """Return the bytes of memory of the machine, null if they cannot be read."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def floors(options: Options, runtime: dict[str, int], memory: int | None, users: Sequence[Part]) -> dict[str, int]:
    """Return the floors that the options ask for, as numbers by limit. Raises BadOption."""
    _check_sizing(options)
    found = {}
    for name in _inotify.LIMITS:
        requested = options.get(name)
        if requested == AUTO:
            found[name] = automatic(name, options, runtime[name], memory, users)["floor"]
        elif requested is not None:
            found[name] = _number(name, requested)
    return found


def automatic(name: str, options: Options, runtime: int, memory: int | None, users: Sequence[Part]) -> AutomaticFloor:
    """Return the automatic floor of a limit.

    It is the greatest of: the watches that fit into the share of memory, as computed by the kernel since 5.11 but with
    the largest size of a watch, so that the default of a newer kernel is not raised; the highest use of one user times
    the headroom; the current value.
    """
    by_memory = FIXED_DEFAULTS.get(name)
    if by_memory is None:
        by_memory = watches_for(int((memory or 0) * options["memory_share"]), max(COST_RANGE))
    highest = max(users, key=lambda user: user[USE[name]], default=None) if name in USE else None
    used = highest[USE[name]] if highest else 0
    by_use = _with_headroom(used, options["headroom"], runtime)
    return {
        "floor": min(max(by_memory, by_use, runtime), GREATEST),
        "by_memory": by_memory,
        "by_use": by_use,
        "used_at_least": used,
        "user": highest["name"] if highest and used else None,
    }


def _with_headroom(used: int, headroom: float, runtime: int) -> int:
    """Return the use times the headroom, rounded up to a power of two if it exceeds the current limit.

    Without the rounding, growing use would raise the floor in every run.
    """
    wanted = int(used * headroom)
    return wanted if wanted <= runtime else 1 << (wanted - 1).bit_length()


def _number(name: str, requested: str | int) -> int:
    try:
        return int(requested)
    except ValueError:
        raise BadOption("%s: %s is neither a whole number nor %s" % (name, requested, AUTO))


def _check_sizing(options: Options) -> None:
    if not 0 <= options["memory_share"] <= 1:
        raise BadOption("memory_share: %g is not between 0 and 1" % options["memory_share"])
    if not 1 <= options["headroom"] <= 1000:
        raise BadOption("headroom: %g is not between 1 and 1000" % options["headroom"])
