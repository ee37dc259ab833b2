# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The open descriptors of all processes, in one pass over /proc/<pid>/fd. Private to this collection."""

from __future__ import annotations

import os
from typing import Collection, Iterator, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context

SOCKET = "socket:["
DELETED = " (deleted)"
# Processes between two looks at the deadline.
AT_ONCE = 50
# Descriptors of one process between two looks at the deadline.
MANY = 5000


class Deleted(NamedTuple):
    """A descriptor whose file has been removed. ``path`` may have surrogates for bytes that are not UTF-8."""

    pid: int
    fd: str
    path: str


class Descriptors:
    """What the pass found. ``holders``: inode of a wanted socket -> the oldest process that has it open.

    ``unreadable`` is the number of processes whose descriptors this account may not list; ``complete`` is whether the
    deadline allowed for all others.
    """

    def __init__(self) -> None:
        self.holders: dict[str, int] = {}
        self.deleted: list[Deleted] = []
        self.unreadable = 0
        self.complete = True


def walk(context: Context, sockets: Collection[str]) -> Descriptors:
    """Read the descriptors of all processes of the first sample. ``sockets`` are the inodes of the wanted sockets."""
    found = Descriptors()
    # The oldest first: those that inherit a socket come after the one that opened it.
    processes = sorted((each for each in context.first.values() if not each.is_kernel), key=lambda each: each.started)
    for position, process in enumerate(processes):
        if position % AT_ONCE == 0 and context.deadline.expired():
            found.complete = False
            break
        try:
            for number, (fd, target) in enumerate(targets("%s/%d/fd" % (context.proc, process.pid))):
                if number % MANY == MANY - 1 and context.deadline.expired():
                    break
                if target.startswith(SOCKET):
                    inode = target[len(SOCKET) : -1]
                    if inode in sockets:
                        found.holders.setdefault(inode, process.pid)
                elif target.endswith(DELETED) and target.startswith("/"):
                    found.deleted.append(Deleted(process.pid, fd, target[: -len(DELETED)]))
        except PermissionError:
            found.unreadable += 1
        except OSError:
            # It has ended.
            continue
    return found


def targets(folder: str) -> Iterator[tuple[str, str]]:
    """Yield each descriptor in a folder and the target of its link. Raises OSError if the folder cannot be listed."""
    for fd in os.listdir(folder):
        try:
            yield fd, os.readlink(folder + "/" + fd)
        except FileNotFoundError:
            continue
