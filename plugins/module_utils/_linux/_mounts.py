# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounted file systems: whether they give inotify events, and their inodes. Private to this collection."""

from __future__ import annotations

import os
import re
from typing import Container, Iterable, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _statvfs
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# Type -> why some changes give no events: inotify reports only changes made by this kernel, through this mount.
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
# The kernel generates the content at each read, so that no event is given.
NONE = frozenset(
    ("cgroup", "cgroup2", "configfs", "debugfs", "devpts", "efivarfs", "proc", "securityfs", "sysfs", "tracefs")
)
# File systems without a fixed number of inodes, or full by design.
NO_INODES = NONE | frozenset(
    ("autofs", "binfmt_misc", "bpf", "devtmpfs", "erofs", "fusectl", "hugetlbfs", "iso9660", "mqueue", "nsfs")
    + ("overlay", "pstore", "ramfs", "rpc_pipefs", "selinuxfs", "squashfs", "udf")
)
ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount:
    """One line of /proc/<pid>/mountinfo. ``device`` is the superblock's number, as in the fdinfo of a watch.

    ``root`` is the directory of the file system that is mounted, ``options`` are those of the mount, ``super_options``
    those of the file system.
    """

    __slots__ = ("device", "id", "options", "parent", "point", "root", "source", "super_options", "type")

    def __init__(self, device: int, point: str, kind: str, source: str) -> None:
        self.device = device
        self.point = point
        self.type = kind
        self.source = source
        self.id = self.parent = 0
        self.root = "/"
        self.options = self.super_options = ""


def mounts(pid: int | str = "self") -> list[Mount]:
    """Return the mounts in the mount namespace of a process, in the order of mounting."""
    with open("/proc/%s/mountinfo" % pid, encoding="utf-8", errors="surrogateescape") as stream:
        return [parse(line) for line in stream if " - " in line]


def parse(line: str) -> Mount:
    """Return a line of /proc/<pid>/mountinfo (proc(5)).

    The device is numbered as in the kernel: major << 20 | minor.
    """
    before, _dash, after = line.rstrip("\n").partition(" - ")
    fields, kind = before.split(" "), after.split(" ")
    major, _colon, minor = fields[2].partition(":")
    mount = Mount(int(major) << 20 | int(minor), unescape(fields[4]), kind[0], unescape(kind[1]))
    mount.id, mount.parent, mount.root = int(fields[0]), int(fields[1]), unescape(fields[3])
    mount.options, mount.super_options = fields[5], kind[2] if len(kind) > 2 else ""
    return mount


def visible(table: Sequence[Mount]) -> list[Mount]:
    """Return the mounts that a path leads to: those that no other mount hides."""
    by_id = {mount.id: mount for mount in table}
    # The last one of several on the same directory of the same mount.
    last = {(mount.parent, mount.point): mount for mount in table}
    reached: dict[int, bool] = {}

    def is_visible(mount: Mount) -> bool:
        return reached[mount.id] and (mount.id, mount.point) not in last

    for mount in table:
        chain = []
        each: Mount | None = mount
        while each is not None and each.id not in reached:
            chain.append(each)
            # Until it is known, in case of a circle.
            reached[each.id] = True
            each = by_id.get(each.parent)
        for each in reversed(chain):
            parent = by_id.get(each.parent)
            above = parent is None or (reached[parent.id] if parent.point == each.point else is_visible(parent))
            reached[each.id] = above and last[each.parent, each.point] is each and not _is_covered(each, last)
    return [mount for mount in table if is_visible(mount)]


def _is_covered(mount: Mount, last: Mapping[tuple[int, str], Mount]) -> bool:
    """Return whether another mount is on a directory between the mount point of its parent and its own."""
    point = mount.point
    while point != "/":
        point = os.path.dirname(point)
        if (mount.parent, point) in last and last[mount.parent, point] is not mount:
            return True
    return False


def unescape(text: str) -> str:
    """Return a path of mountinfo or fstab(5), in which some bytes are written in octal."""
    return text if "\\" not in text else ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)


def mount_of(path: str, table: Iterable[Mount]) -> Mount | None:
    """Return the mount that holds a real, absolute path, or null. The last mount on a mount point hides the others."""
    best = None
    for mount in table:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def delivery(kind: str) -> tuple[str, str | None]:
    """Return ``(events, reason)``: whether ``all``, a ``partial`` set or ``none`` of the changes give events."""
    if kind in NONE:
        return "none", "the kernel generates the content of %s at each read" % kind
    reason = PARTIAL.get(kind) or (PARTIAL["fuse"] if kind.startswith("fuse.") else None)
    return ("partial", reason) if reason else ("all", None)


def inside(path: str, folders: Container[str]) -> bool:
    """Return whether an absolute path is one of the folders, or below one."""
    while path not in folders:
        if path in ("/", ""):
            return False
        path = os.path.dirname(path)
    return True


def may_hang(table: Iterable[Mount], ignored: Container[str] = ()) -> set[str]:
    """Return the mount points of file systems that may wait for a server. A path below one of them may hang too."""
    return {mount.point for mount in table if mount.type not in _statvfs.LOCAL and mount.type not in ignored}


def inode_use(table: Sequence[Mount], timeout: float, deadline: Deadline, unknown: Unknown, top: int) -> list[Part]:
    """Return the inode use of every file system with a fixed number of inodes, the fullest first."""
    remote = may_hang(table, NO_INODES)
    chosen: dict[int, Mount] = {}
    for mount in visible(table):
        own_root = mount.type == "overlay" and mount.point == "/"
        if mount.type not in NO_INODES or own_root:
            chosen.setdefault(mount.device, mount)
    targets = [_statvfs.Target(mount.device, mount.point, inside(mount.point, remote)) for mount in chosen.values()]
    answers = _statvfs.read(targets, timeout, deadline)
    found = []
    for position, mount in enumerate(chosen.values()):
        answer = answers.get(position, _statvfs.Answer())
        if answer.sizes is None:
            reason = os.strerror(answer.errno) if answer.errno else "no answer"
            unknown.add("file_systems", "%s (%s): %s" % (printable(mount.point), mount.type, reason))
        elif answer.sizes.inodes:
            found.append(_describe(mount, answer.sizes))
    return sorted(found, key=lambda file_system: -file_system["inodes_ratio"])[:top]


def _describe(mount: Mount, sizes: _statvfs.Sizes) -> Part:
    used = sizes.inodes - sizes.inodes_free
    return {
        "mount_point": printable(mount.point),
        "source": printable(mount.source),
        "type": mount.type,
        "inodes": sizes.inodes,
        "inodes_used": used,
        "inodes_free": sizes.inodes_free,
        "inodes_ratio": round(used / sizes.inodes, 4),
    }


def printable(path: str) -> str:
    """Return a path or a source as text. A password in a source is redacted."""
    return redact(shown(path))
