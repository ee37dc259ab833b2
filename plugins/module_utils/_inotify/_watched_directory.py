# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the facts of a watched directory without walking it. Private to this collection."""

from __future__ import annotations

import difflib
import itertools
import os
import re
import stat
from typing import Collection, Iterable, NamedTuple, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _mounted_paths
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify_probe
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inotify import Instance, Scan
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._inside import resolve
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts, _processes
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# (device, inode), numbered as by the kernel.
Inode = Tuple[int, int]

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
MAX_SIBLINGS = 2000
DIGITS = re.compile(r"\d+")
# Of two names of ten letters, one letter is missing, or two are exchanged.
SIMILAR = 0.8
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
    real = resolve(root, path)
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


class Access(NamedTuple):
    """Whether a user can list a directory, null if that is not decided by modes and access control lists.

    ``denied`` is the first directory that denies it, as a path below the base; null for none.
    """

    readable: bool | None
    uid: int
    denied: str | None = None


def access_of(pid: int, path: str, root: str) -> Access:
    """Return whether a process can list a directory. ``path`` is absolute below ``root``, that of the process."""
    status = _processes.status(pid)
    uid = _processes.effective_uid(status)
    if int(status.get("CapEff", "0"), 16) & (1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH):
        # In another user namespace, capabilities apply only to files of that namespace.
        return Access(True if _processes.in_initial_user_namespace(pid) else None, uid)
    groups = {int(group) for group in status.get("Groups", "").split()} | {int(status["Gid"].split()[1])}
    return access(uid, groups, root, path)


def access(uid: int, groups: Collection[int], base: str, path: str) -> Access:
    """Return whether a user may list a directory, and enter all directories between ``base`` and it."""
    names = [name for name in path.split("/") if name]
    for depth in range(len(names) + 1):
        rest = "/".join(["", *names[:depth]])
        # Traversing needs x, listing needs r and x.
        wanted = _mounted_paths.READ | _mounted_paths.ENTER if depth == len(names) else _mounted_paths.ENTER
        here = base + rest or "/"
        if not _mounted_paths.may(uid, groups, _mounted_paths.Look(os.stat(here), _rules(here), None), wanted):
            return Access(False, uid, rest or "/")
    return Access(True, uid)


def _rules(path: str) -> bytes | None:
    """Return the access control list of a path in the format of the kernel, null if it has none."""
    try:
        return os.getxattr(path, _mounted_paths.ACCESS_LIST)
    except OSError:
        return None


def is_same(first: str, second: str) -> bool:
    """Return whether two paths lead to the same directory. Raises OSError if the first one cannot be read."""
    status = os.stat(first)
    try:
        return os.path.samestat(status, os.stat(second))
    except (FileNotFoundError, NotADirectoryError):
        return False


def similar(path: str) -> str | None:
    """Return a directory beside an empty one whose name is misspelt in one of the two, and that is not empty; or null.

    Names that differ in digits only belong to a series.
    """
    parent, name = os.path.split(path)
    with os.scandir(path) as entries:
        if next(entries, None) is not None:
            return None
    with os.scandir(parent or "/") as entries:
        names = [entry.name for entry in itertools.islice(entries, MAX_SIBLINGS) if entry.is_dir(follow_symlinks=False)]
    wanted = DIGITS.sub("", name)
    others = [each for each in names if each != name and DIGITS.sub("", each) != wanted]
    for other in difflib.get_close_matches(name, others, 3, SIMILAR):
        with os.scandir(os.path.join(parent, other)) as entries:
            if next(entries, None) is not None:
                return os.path.join(parent, other)
    return None


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
