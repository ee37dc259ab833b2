# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Uses up one user's inotify watches or instances and holds them; it needs no privilege."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import tempfile

libc = ctypes.CDLL(None, use_errno=True)
IN_CREATE = 0x100
# Every instance can watch every directory once, so that many watches need neither many directories nor many instances.
INSTANCES = 60


def limit(name: str) -> int:
    """One of the kernel's limits per user."""
    with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as file:
        return int(file.read())


def take(call, *arguments: int | bytes) -> int | None:
    """The result of one call, or None when the limit is reached."""
    result = call(*arguments)
    if result >= 0:
        return result
    error = ctypes.get_errno()
    if error in (errno.ENOSPC, errno.EMFILE):
        return None
    raise OSError(error, os.strerror(error))


def exhaust_instances() -> int:
    """Open instances until there are none left."""
    count = 0
    while take(libc.inotify_init) is not None:
        count += 1
    return count


def exhaust_watches() -> int:
    """Add watches until there are none left, with few instances."""
    root = tempfile.mkdtemp()
    directories = [
        os.path.join(root, str(number)).encode() for number in range(limit("max_user_watches") // INSTANCES + 1)
    ]
    for directory in directories:
        os.mkdir(directory)
    count = 0
    for _count in range(INSTANCES):
        instance = libc.inotify_init()
        if instance < 0:
            raise SystemExit("no inotify instance left for this user")
        for directory in directories:
            if take(libc.inotify_add_watch, instance, directory, IN_CREATE) is None:
                return count
            count += 1
    return count


print("holding", {"watches": exhaust_watches, "instances": exhaust_instances}[sys.argv[1]](), sys.argv[1], flush=True)
signal.pause()
