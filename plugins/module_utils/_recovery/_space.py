# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The free space for a backup. Private to this collection."""

from __future__ import annotations

import os
from typing import NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Failure
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote

# A backup of the same data is never exactly as large as the last one.
GROWTH = 1.2
# Files of the catalogue, the manifest and the lock.
LEAST_BYTES = 16 << 20
UNITS = ("KiB", "MiB", "GiB", "TiB")


class NoSpace(Failure):
    """The file system has too little space for what will be written. Nothing was written."""

    kind = "no_space"


class Space(NamedTuple):
    """The file system that a path is or will be on. ``inodes`` is null where the file system has no limit of them."""

    device: int
    bytes: int
    inodes: int | None
    total_bytes: int


def free(path: str) -> Space:
    """Return the space that this process can use at ``path``, which need not exist yet. Raises OSError."""
    existing = os.path.abspath(path)
    while not os.path.lexists(existing) and existing != "/":
        existing = os.path.dirname(existing)
    info = os.statvfs(existing)
    # f_bavail leaves out the blocks that are reserved for root: they are not for backups.
    return Space(
        os.stat(existing).st_dev,
        info.f_bavail * info.f_frsize,
        info.f_favail if info.f_files else None,
        info.f_blocks * info.f_frsize,
    )


def needed(source_bytes: int | None, last_bytes: int | None = None, last_source_bytes: int | None = None) -> int | None:
    """Return the bytes that the next backup is expected to take, or null if nothing is known.

    With an earlier backup: its size, in proportion to the growth of the source, and 20 % more. Without one: the size of
    the source, which compression and indexes make an upper limit as a rule.
    """
    if last_bytes is not None:
        factor = max(1.0, source_bytes / last_source_bytes) if source_bytes and last_source_bytes else 1.0
        return LEAST_BYTES + int(last_bytes * factor * GROWTH)
    return None if source_bytes is None else LEAST_BYTES + source_bytes


def check(path: str, wanted_bytes: int, wanted_inodes: int = 16, what: str = "The backup") -> Space:
    """Return the space at ``path``. Raises NoSpace if it is less than what is wanted, and OSError."""
    space = free(path)
    hint = "Free space, or use another `directory`: `df -h -- %s`." % shell_quote(path)
    if space.bytes < wanted_bytes:
        text = "%s needs about %s at %s, and %s are free"
        raise NoSpace(text % (what, shown(wanted_bytes), shell_quote(path), shown(space.bytes)), hint)
    if space.inodes is not None and space.inodes < wanted_inodes:
        text = "%s needs about %d inodes at %s, and %d are free"
        hint = hint.replace("df -h", "df -i")
        raise NoSpace(text % (what, wanted_inodes, shell_quote(path), space.inodes), hint)
    return space


def shown(number: float) -> str:
    """Return a number of bytes for a person: ``1.5 KiB``."""
    unit = "B"
    for larger in UNITS:
        if number < 1024:
            break
        number, unit = number / 1024.0, larger
    return "%d B" % number if unit == "B" else "%.1f %s" % (number, unit)
