# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the facts of a watched directory without walking it. Private to this collection."""

from __future__ import annotations

import os
import stat
from typing import Collection, Iterable, NamedTuple, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify_probe
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify import Instance, Scan
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts, _processes
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# (device, inode), numbered as by the kernel.
Inode = Tuple[int, int]

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
ACL = "system.posix_acl_access"
FACTS = ("exists", "is_directory", "mode", "uid", "gid", "readable", "file_system", "event")


class Inspected(NamedTuple):
    """``facts`` are the ``FACTS``; ``real``, the path from here, and ``inode`` are null if it is no directory."""

    facts: Part
    real: str | None
    inode: Inode | None


def inspect(path: str, root: str, mounts: list[_mounts.Mount], trigger: str, timeout: float) -> Inspected:
    """Return whether a directory exists, its file system, and whether an event arrives.

    ``root`` is the directory that is / for ``path``, empty for that of this process; ``mounts`` are the mounts there.
    ``trigger`` and ``timeout`` are those of ``_inotify_probe.probe``.
    """
    real = root + path if root else os.path.realpath(path)
    facts: Part = dict.fromkeys(FACTS)
    try:
        status = os.stat(real)
    except (FileNotFoundError, NotADirectoryError):
        return Inspected(dict(facts, exists=False, is_directory=False), None, None)
    facts.update(
        exists=True,
        is_directory=stat.S_ISDIR(status.st_mode),
        mode="%04o" % stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        readable=os.access(real, os.R_OK | os.X_OK),
    )
    mount = _mounts.mount_of(real[len(root) :] or "/", mounts)
    if mount:
        events, reason = _mounts.delivery(mount.type)
        facts["file_system"] = {
            "type": mount.type,
            "mount_point": _mounts.printable(mount.point),
            "source": _mounts.printable(mount.source),
            "events": events,
            "reason": reason,
        }
    if not facts["is_directory"]:
        return Inspected(facts, None, None)
    if facts["readable"]:
        facts["event"] = _inotify_probe.probe(real, trigger, timeout)
    return Inspected(facts, real, (mount.device if mount else _kernel_device(status.st_dev), status.st_ino))


def _kernel_device(number: int) -> int:
    """Return a device number in the form of the kernel's fdinfo."""
    return os.major(number) << 20 | os.minor(number)


def readable_by(pid: int, real: str, root: str) -> bool | None:
    """Return whether a process can list a directory, by modes and capabilities; null if they do not decide it."""
    status = _processes.status(pid)
    if int(status.get("CapEff", "0"), 16) & (1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH):
        # In another user namespace, capabilities apply only to files of that namespace.
        return True if _processes.in_initial_user_namespace(pid) else None
    uid = _processes.effective_uid(status)
    groups = {int(group) for group in status.get("Groups", "").split()} | {int(status["Gid"].split()[1])}
    names = [name for name in real[len(root) :].split("/") if name]
    here = root or "/"
    for depth in range(len(names) + 1):
        here = os.path.join(here, names[depth - 1]) if depth else here
        # Traversing needs x, listing needs r and x.
        if not _permits(os.stat(here), uid, groups, 0o5 if depth == len(names) else 0o1):
            return None if _has_acl(here) else False
    return True


def _permits(status: os.stat_result, uid: int, groups: Collection[int], wanted: int) -> bool:
    if status.st_uid == uid:
        wanted <<= 6
    elif status.st_gid in groups:
        wanted <<= 3
    return stat.S_IMODE(status.st_mode) & wanted == wanted


def _has_acl(path: str) -> bool:
    try:
        return ACL in os.listxattr(path)
    except OSError:
        return False


def holders(inodes: Iterable[Inode], scan: Scan) -> dict[Inode, list[Instance]]:
    """Return, by inode, the instances with a watch on it. Each instance is read once."""
    needles = {inode: b" ino:%x sdev:%x " % (inode[1], inode[0]) for inode in inodes}
    found: dict[Inode, list[Instance]] = {inode: [] for inode in needles}
    if needles:
        for instance in scan.instances:
            text = instance.read_fdinfo()
            for inode, needle in needles.items():
                if needle in text:
                    found[inode].append(instance)
    return found
