# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mounts of a host and of its containers, each file system once. Private to this collection.

An overlay counts as the file system that it writes to. A mount of autofs is not entered, so that it mounts nothing.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from typing import Container, Iterable, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import container_id
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts, _statvfs
from ansible_collections.tracktion.ops.plugins.module_utils._linux._mounts import Mount
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown

# File systems without space of their own, or full by design.
PSEUDO = _mounts.NO_INODES | frozenset(
    ("fuse.gvfsd-fuse", "fuse.lxcfs", "fuse.portal", "fuse.fuse-overlayfs", "aufs", "cpuset", "nfsd", "shiftfs")
)
IN_MEMORY = ("tmpfs", "ramfs")
# Below these, the engine hides files of the kernel by mounts.
KERNEL = ("/proc", "/sys")
FIRST_PROCESS = 1
MOUNT_ID = re.compile(r"^mnt_id:\s*(\d+)$", re.MULTILINE)


class Place(NamedTuple):
    """A mount to measure: where it is seen, and the path by which this process reaches it."""

    mount: Mount
    path: str
    # The process whose mounts it is one of; null for those of this process.
    pid: int | None
    # The id of the container of that process.
    container: str | None
    may_hang: bool


class View(NamedTuple):
    """The mounts of this process, and those that only other processes see."""

    table: Sequence[Mount]
    places: Sequence[Place]
    # Device of an overlay -> device of the file system that it writes to.
    backing: Mapping[int, int]

    def device(self, number: int) -> int:
        """Return the device that space is used on: for an overlay, that of its upper directory."""
        return self.backing.get(number, number)


def look(pids: Iterable[int], ignored: Iterable[str], deadline: Deadline, unknown: Unknown) -> View:
    """Return the mounts of the namespaces of these processes, each file system once. Raises OSError without /proc.

    ``ignored`` are patterns of mount points that are left out.
    """
    table = _mounts.visible(_mounts.mounts())
    places: dict[int, Place] = {}
    for place in of_table(table):
        keep(places, place)
    known = set(places)
    denied = 0
    try:
        for pid in namespaces(pids):
            if pid is None:
                denied += 1
                continue
            if deadline.expired():
                unknown.add("file_systems[...]", "there was no time for the mounts of all containers")
                break
            with contextlib.suppress(OSError):
                for place in of_table(other_mounts(pid, known), pid, container_id(pid)):
                    keep(places, place)
    except OSError as exc:
        unknown.add("file_systems[...]", exc.strerror or exc, _rights.hint_of(exc))
    if denied:
        hint = _rights.hint("CAP_SYS_PTRACE")
        unknown.add("file_systems[...]", "the mounts of %d processes cannot be read" % denied, hint)
    pattern = re.compile("|".join(map(fnmatch.translate, ignored)) or "(?!)")
    kept = [place for place in places.values() if not pattern.match(place.mount.point)]
    return View(table, kept, backing(table))


def of_table(table: Sequence[Mount], pid: int | None = None, container: str | None = None) -> Iterator[Place]:
    """Yield the mounts with space of their own."""
    root = "" if pid is None else "/proc/%d/root" % pid
    remote = _mounts.may_hang(table, PSEUDO)
    for mount in table:
        own_root = pid is None and mount.type == "overlay" and mount.point == "/"
        if (mount.type in PSEUDO and not own_root) or _mounts.inside(mount.point, KERNEL):
            continue
        yield Place(mount, root + mount.point, pid, container, _mounts.inside(mount.point, remote))


def keep(places: dict[int, Place], place: Place) -> None:
    """Keep the best place of each file system: its root, at the shortest path; a container's for its memory."""
    known = places.get(place.mount.device)
    if known is None or rank(place) < rank(known):
        places[place.mount.device] = place


def rank(place: Place) -> tuple[bool, bool, bool, bool, bool, int, str]:
    """Return the sort key of the places of one file system. The path of a container names what is in memory best."""
    mount = place.mount
    return (
        place.may_hang,
        (place.container is not None) != (mount.type in IN_MEMORY),
        place.pid is not None,
        "ro" in mount.options.split(","),
        mount.root != "/",
        len(mount.point),
        mount.point,
    )


def namespaces(pids: Iterable[int]) -> Iterator[int | None]:
    """Yield a process of each mount namespace other than this one; null for a process without permission."""
    seen = {os.readlink("/proc/self/ns/mnt")}
    for pid in pids:
        try:
            namespace = os.readlink("/proc/%d/ns/mnt" % pid)
        except PermissionError:
            # Its mounts are those of the host. It may have capabilities that even root lacks here.
            if pid != FIRST_PROCESS:
                yield None
            continue
        except OSError:
            continue
        if namespace not in seen:
            seen.add(namespace)
            yield pid


def other_mounts(pid: int, known: Container[int]) -> list[Mount]:
    """Return the mounts of another namespace: no local disks that are ``known`` (devices). Raises OSError."""
    found = []
    with open("/proc/%d/mountinfo" % pid, encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            kind = line.partition(" - ")[2].partition(" ")[0]
            if not kind or kind in PSEUDO:
                continue
            mount = _mounts.parse(line)
            if mount.device not in known or mount.type in IN_MEMORY or mount.type not in _statvfs.LOCAL:
                found.append(mount)
    return _mounts.visible(found)


def backing(table: Sequence[Mount]) -> dict[int, int]:
    """Return the device on which each overlay stores what is written to it."""
    plain = [mount for mount in table if mount.type != "overlay"]
    found = {}
    for mount in table:
        upper = option(mount.super_options, "upperdir") if mount.type == "overlay" else None
        below = _mounts.mount_of(upper, plain) if upper else None
        if below is not None:
            found[mount.device] = below.device
    return found


def option(options: str, name: str) -> str | None:
    """Return the value of a mount option; null without it."""
    prefix = name + "="
    return next((word[len(prefix) :] for word in options.split(",") if word.startswith(prefix)), None)


class Tables:
    """The mounts of all mount namespaces that were asked for, by their ids, which are unique in the kernel."""

    def __init__(self) -> None:
        self._by_id = {mount.id: mount for mount in _mounts.mounts()}
        self._read = {os.readlink("/proc/self/ns/mnt")}

    def local_device(self, pid: int, fd: str) -> int | None:
        """Return the device that an open file of a process is on. Raises OSError if the process has ended.

        Null if the file system may hang, so that the state of the file cannot be read, or is internal to the kernel.
        """
        with open("/proc/%d/fdinfo/%s" % (pid, fd), encoding="ascii", errors="replace") as stream:
            match = MOUNT_ID.search(stream.read())
        namespace = os.readlink("/proc/%d/ns/mnt" % pid)
        if namespace not in self._read:
            self._read.add(namespace)
            self._by_id.update((mount.id, mount) for mount in _mounts.mounts(pid))
        mount = self._by_id.get(int(match.group(1))) if match else None
        return mount.device if mount is not None and mount.type in _statvfs.LOCAL else None
