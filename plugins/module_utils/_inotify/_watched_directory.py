# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be said about a watched directory without walking it. Private to this collection."""

from __future__ import annotations

import os
import stat

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _inotify_probe
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts, _processes

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
ACL = "system.posix_acl_access"
FACTS = ("exists", "is_directory", "mode", "uid", "gid", "readable", "file_system", "event")


def look(path, root, table, trigger, timeout):
    """The facts of a directory: it exists, what it lies on, and whether an event arrives.

    ``root`` is the directory that stands for / where ``path`` counts, ``table`` the mounts there. Returns a mapping
    with the ``FACTS``, and for the next steps ``real`` and ``inode`` (``(device, inode)``), null where there is no
    directory.
    """
    real = root + path if root else os.path.realpath(path)
    try:
        status = os.stat(real)
    except (FileNotFoundError, NotADirectoryError):
        return dict(dict.fromkeys(FACTS), exists=False, is_directory=False, real=None, inode=None)
    facts = {
        "exists": True,
        "is_directory": stat.S_ISDIR(status.st_mode),
        "mode": "%04o" % stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "readable": os.access(real, os.R_OK | os.X_OK),
        "file_system": None,
        "event": None,
        "real": None,
        "inode": None,
    }
    mount = _mounts.mount_of(real[len(root) :] or "/", table)
    if mount:
        events, reason = _mounts.delivery(mount.type)
        facts["file_system"] = {
            "type": mount.type,
            "mount_point": _mounts.printable(mount.point),
            "source": _mounts.printable(mount.source),
            "events": events,
            "reason": reason,
        }
    if facts["is_directory"]:
        facts["real"] = real
        facts["inode"] = (mount.device if mount else kernel_device(status.st_dev), status.st_ino)
        if facts["readable"]:
            facts["event"] = _inotify_probe.probe(real, trigger, timeout)
    return facts


def kernel_device(number):
    """A device number as the kernel writes it in fdinfo."""
    return os.major(number) << 20 | os.minor(number)


def readable_by(pid, real, root):
    """Whether a process may list a directory, by modes and capabilities; null where that does not settle it."""
    status = _processes.status(pid)
    if int(status.get("CapEff", "0"), 16) & (1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH):
        # Only over files of its own user namespace.
        return True if _processes.in_initial_user_namespace(pid) else None
    uid = _processes.effective_uid(status)
    groups = {int(group) for group in status.get("Groups", "").split()} | {int(status["Gid"].split()[1])}
    names = [name for name in real[len(root) :].split("/") if name]
    here = root or "/"
    for depth in range(len(names) + 1):
        here = os.path.join(here, names[depth - 1]) if depth else here
        # Passing through takes x, listing takes r as well.
        if not _permits(os.stat(here), uid, groups, 0o5 if depth == len(names) else 0o1):
            return None if _has_acl(here) else False
    return True


def _permits(status, uid, groups, wanted):
    if status.st_uid == uid:
        wanted <<= 6
    elif status.st_gid in groups:
        wanted <<= 3
    return stat.S_IMODE(status.st_mode) & wanted == wanted


def _has_acl(path):
    try:
        return ACL in os.listxattr(path)
    except OSError:
        return False


def holders(inodes, scan):
    """By ``(device, inode)``, the instances with a watch on it; every instance is read once."""
    found = {inode: [] for inode in inodes}
    needles = {inode: b" ino:%x sdev:%x " % (inode[1], inode[0]) for inode in inodes}
    if needles:
        for instance in scan.instances:
            text = instance.text()
            for inode, needle in needles.items():
                if needle in text:
                    found[inode].append(instance)
    return found
