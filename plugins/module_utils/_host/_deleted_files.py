# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that were deleted and that processes still have open: they keep their space. Private to this collection.

Files that are only mapped into memory, without a descriptor, are not found.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Iterable, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._descriptors import Descriptors
from ansible_collections.tracktion.ops.plugins.module_utils._host._places import Tables, View
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Objects of the kernel that have a name like a deleted file, and shared memory: they are in memory, not on a disk.
NO_FILES = ("/memfd:", "/dev/", "/SYSV", "/anon_hugepage", "/[", "/proc/", "/i915", "/drm mm object", "/dmabuf")
# Descriptors between two looks at the deadline.
AT_ONCE = 50
PATH_LENGTH = 300


class Held(NamedTuple):
    """A deleted file. ``device`` is the file system that loses the space, ``processes`` are those that have it open."""

    device: int
    path: str
    bytes: int
    processes: list[int]
    fd: str


def find(context: Context, descriptors: Descriptors, view: View) -> list[Held]:
    """Return the deleted files that hold space, the largest first."""
    found: dict[tuple[int, int], Held] = {}
    tables = Tables()
    for position, deleted in enumerate(descriptors.deleted):
        if position % AT_ONCE == 0 and context.deadline.expired():
            context.unknown.add("deleted_open_files[...]", "there was no time for all open files")
            break
        if deleted.path.startswith(NO_FILES):
            continue
        with contextlib.suppress(OSError, ValueError):
            device = tables.local_device(deleted.pid, deleted.fd)
            info = os.stat("/proc/%d/fd/%s" % (deleted.pid, deleted.fd)) if device is not None else None
            # A file may have a name that ends like this.
            if device is None or info is None or not stat.S_ISREG(info.st_mode) or info.st_nlink:
                continue
            held = found.setdefault(
                (device, info.st_ino),
                Held(view.device(device), deleted.path, info.st_blocks * 512, [], deleted.fd),
            )
            if deleted.pid not in held.processes:
                held.processes.append(deleted.pid)
    if descriptors.unreadable > is_first_closed():
        hint = _rights.hint("CAP_SYS_PTRACE")
        reason = "the open files of %d processes cannot be read" % descriptors.unreadable
        context.unknown.add("deleted_open_files[...]", reason, hint)
    return sorted((each for each in found.values() if each.bytes), key=lambda each: -each.bytes)


def is_first_closed() -> bool:
    """Return whether a root with all rights cannot read the first process.

    That process may have capabilities that a root in a container or sandbox lacks.
    """
    try:
        os.readlink("/proc/1/ns/mnt")
    except PermissionError:
        return _rights.has("CAP_SYS_PTRACE")
    except OSError:
        return False
    return False


def describe(context: Context, held: Sequence[Held], file_systems: Iterable[Part], top: int) -> list[Part]:
    """Return the largest deleted files as the measurement has them, with the state of their file systems."""
    by_device = {entry["device"]: entry for entry in file_systems}
    found = []
    for each in held[:top]:
        entry = by_device.get(each.device) or {}
        pid = each.processes[0]
        process = context.first.get(pid)
        found.append(
            dict(
                context.describe(pid, process.name if process else str(pid)),
                path=cut(shown(each.path), PATH_LENGTH),
                fd=int(each.fd),
                bytes=each.bytes,
                processes=len(each.processes),
                device=each.device,
                mount_point=entry.get("mount_point"),
                in_memory=entry.get("in_memory"),
                file_system_bytes=entry.get("bytes"),
                file_system_available_bytes=entry.get("available_bytes"),
                file_system_used_ratio=entry.get("used_ratio"),
            )
        )
    return found
