# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounted file systems: whether inotify tells of their changes, and their inodes. Private to this collection."""

from __future__ import annotations

import os
import re

from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

# inotify lives in the kernel that makes the change. These hold changes that another kernel, or another layer, makes.
REMOTE = "changes made by other machines give no events here"
HOST = "changes made on the host side of the share give no events here"
PARTIAL = {
    "nfs": REMOTE,
    "nfs4": REMOTE,
    "cifs": REMOTE,
    "smb3": REMOTE,
    "smbfs": REMOTE,
    "afs": REMOTE,
    "ceph": REMOTE,
    "coda": REMOTE,
    "glusterfs": REMOTE,
    "gfs2": REMOTE,
    "gpfs": REMOTE,
    "lustre": REMOTE,
    "ocfs2": REMOTE,
    "orangefs": REMOTE,
    "pvfs2": REMOTE,
    "beegfs": REMOTE,
    "9p": HOST,
    "virtiofs": HOST,
    "vboxsf": HOST,
    "prl_fs": HOST,
    "fuse": "changes that do not pass through this mount give no events",
    "overlay": "changes made directly in its lower or upper directory give no events",
    "aufs": "changes made directly in a branch give no events",
}
# Made up by the kernel as they are read: nothing ever "changes".
NONE = frozenset(
    ("cgroup", "cgroup2", "configfs", "debugfs", "devpts", "efivarfs", "proc", "securityfs", "sysfs", "tracefs")
)
# Have no inodes of their own to run out of, or are full by design.
NO_INODES = NONE | frozenset(
    ("autofs", "binfmt_misc", "bpf", "devtmpfs", "erofs", "fusectl", "hugetlbfs", "iso9660", "mqueue", "nsfs")
    + ("overlay", "pstore", "ramfs", "rpc_pipefs", "selinuxfs", "squashfs", "udf")
)
ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount:
    """One line of /proc/<pid>/mountinfo. ``device`` is the superblock's number, as in the fdinfo of a watch."""

    __slots__ = ("device", "point", "source", "type")

    def __init__(self, device, point, kind, source):
        self.device = device
        self.point = point
        self.type = kind
        self.source = source


def mounts(pid="self"):
    """Everything mounted in the mount namespace of a process, in the order of mounting."""
    with open("/proc/%s/mountinfo" % pid, encoding="utf-8", errors="surrogateescape") as stream:
        return [parse(line) for line in stream if " - " in line]


def parse(line):
    before, _dash, after = line.rstrip("\n").partition(" - ")
    fields, kind = before.split(" "), after.split(" ")
    major, _colon, minor = fields[2].partition(":")
    return Mount(int(major) << 20 | int(minor), unescape(fields[4]), kind[0], unescape(kind[1]))


def unescape(text):
    return ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)


def mount_of(path, table):
    """The mount that a real, absolute path lies on, or null. Of mounts on one point, the last one covers the others."""
    best = None
    for mount in table:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def delivery(kind):
    """``(events, reason)``: V(all), V(partial) or V(none) of the changes on a file system of this type give events."""
    if kind in NONE:
        return "none", "%s is made up by the kernel as it is read" % kind
    reason = PARTIAL.get(kind) or (PARTIAL["fuse"] if kind.startswith("fuse.") else None)
    return ("partial", reason) if reason else ("all", None)


def inode_use(table, timeout, deadline, unknown, top):
    """Inode use of every file system that has a fixed number of them, the fullest first."""
    found, seen = [], set()
    # Of mounts on one point, only the last can be reached.
    for mount in {mount.point: mount for mount in table}.values():
        own_root = mount.type == "overlay" and mount.point == "/"
        if (mount.type in NO_INODES and not own_root) or mount.device in seen:
            continue
        seen.add(mount.device)
        try:
            numbers = within(deadline, timeout, os.statvfs, mount.point)
        except OSError as exc:
            unknown.add("file_systems", "%s (%s): %s" % (printable(mount.point), mount.type, exc.strerror or exc))
            continue
        if numbers.f_files:
            found.append(describe(mount, numbers))
    return sorted(found, key=lambda file_system: -file_system["inodes_ratio"])[:top]


def describe(mount, numbers):
    used = numbers.f_files - numbers.f_ffree
    return {
        "mount_point": printable(mount.point),
        "source": printable(mount.source),
        "type": mount.type,
        "inodes": numbers.f_files,
        "inodes_used": used,
        "inodes_free": numbers.f_ffree,
        "inodes_ratio": round(used / numbers.f_files, 4),
    }


def printable(path):
    """A path or a source as text that can be shown and sent; a source may have a password in it."""
    return redact(shown(path))
