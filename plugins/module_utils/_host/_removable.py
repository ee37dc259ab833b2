# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds old files by name below a directory, for their removal. Private to this collection.

Directories are opened one below the other by descriptor, and no link is followed. A directory on another mount is not
entered: the mount of an open directory is in /proc/self/fdinfo, which shows bind mounts too.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import stat
import time
from typing import Container, Iterable, Iterator, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._host._places import MOUNT_ID, Tables
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _mounts
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# Directories that cannot be a root themselves.
NOT_ITSELF = frozenset(
    ("/", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/var", "/var/cache", "/var/lib", "/var/spool")
)
# The same, with all directories below them.
NOT_BELOW = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys", "/usr"),
    *("/var/lib/containerd", "/var/lib/containers", "/var/lib/docker", "/var/lib/dpkg", "/var/lib/rpm"),
    *("/var/lib/elasticsearch", "/var/lib/mongodb", "/var/lib/mysql", "/var/lib/pgsql", "/var/lib/postgresql"),
    *("/var/lib/rabbitmq", "/var/lib/redis", "/var/lib/tracktion"),
)
# Files and directories that only the data directory of a database has.
OF_DATABASE = frozenset(
    ("PG_VERSION", "appendonly.aof", "appendonlydir", "dump.rdb", "ibdata1", "mnesia", "WiredTiger", "schema.DAT")
)
# Why a file is kept -> what it means.
REASONS = {
    "open": "a process has it open",
    "maybe_open": "it cannot be known whether a process has it open",
    "hard_linked": "it has several names, so that its space would not be freed",
    "not_regular": "it is a link, a directory or another special file",
    "mount_point": "another file system is mounted there",
    "database": "the directory holds the data of a database",
    "denied": "the deny list protects it",
    "unreadable": "it cannot be read",
    "changed": "it was changed or replaced meanwhile",
    "over_cap": "the maximum of files or bytes of one run is reached",
}
MAX_DEPTH = 100


class Candidate(NamedTuple):
    """A file that may be removed. ``folder`` are the names of the directories from the root to it."""

    folder: tuple[str, ...]
    name: str
    device: int
    inode: int
    bytes: int
    modified: float


class Kept(NamedTuple):
    """A file or directory that is not removed, and a word of REASONS."""

    path: str
    reason: str


class Root:
    """An open directory below which files may be removed. A context manager. Raises OSError, BadOption."""

    def __init__(self, path: str, deny: Sequence[str] = (), option: str = "roots") -> None:
        self.path = os.path.normpath(path)
        self.deny = tuple(os.path.normpath(each) for each in deny)
        reject(self.path, option)
        self.descriptor = _open_from("/", [name for name in self.path.split("/") if name], self.path, option)
        self.mount = mount_id(self.descriptor)
        self.device = os.fstat(self.descriptor).st_dev

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.descriptor)

    def open(self, folder: Sequence[str]) -> int:
        """Return a descriptor of a directory below the root. Raises OSError, also for one on another mount."""
        descriptor = os.open(".", FOLDER, dir_fd=self.descriptor)
        try:
            for name in folder:
                inner = os.open(name, FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            if mount_id(descriptor) != self.mount or os.fstat(descriptor).st_dev != self.device:
                raise OSError("another file system is mounted there")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def join(self, folder: Sequence[str], name: str = "") -> str:
        """Return the path of a file below the root."""
        return "/".join([self.path.rstrip("/"), *folder, *([name] if name else [])])

    def is_denied(self, path: str) -> bool:
        """Return whether the deny list names a path, or a directory above it."""
        return any(path == each or path.startswith(each.rstrip("/") + "/") for each in self.deny)


def reject(path: str, option: str) -> None:
    """Raise BadOption for a directory whose files are not for removal, and for a path that is not absolute."""
    hint = "Name a directory of logs or temporary files in `%s`, such as /var/log." % option
    if not path.startswith("/"):
        raise BadOption("%s: %s is not an absolute path" % (option, shown(path)), hint=hint)
    path = "/" + path.lstrip("/")
    if path in NOT_ITSELF or any(path == each or path.startswith(each + "/") for each in NOT_BELOW):
        raise BadOption("%s: files below %s are never removed" % (option, shown(path)), hint=hint)


def compiled(patterns: Sequence[str], option: str = "patterns") -> re.Pattern[str]:
    """Return what matches a file name. Raises BadOption for a pattern that matches almost every name."""
    for pattern in patterns:
        # At least two characters that are neither wildcards nor in brackets, such as ``.1`` in ``*.1``.
        plain = re.sub(r"\[[^]]*\]", "?", pattern)
        if "/" in pattern or len(plain) - plain.count("*") < 2 or not re.search(r"[^*?]", plain):
            raise BadOption(
                "%s: %r is no pattern of file names, or matches too many" % (option, pattern),
                hint="Set `%s` to patterns such as *.log.gz." % option,
            )
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or "(?!)")


def find(
    root: Root, pattern: re.Pattern[str], older_than: float, deadline: Deadline, now: float | None = None
) -> Iterator[Candidate | Kept]:
    """Yield the files below a root whose names match and that were not changed for ``older_than`` seconds.

    Beside them, yields what would match, and is kept. Ends early if the deadline expires.
    """
    now = time.time() if now is None else now
    mounted = {mount.point for mount in _mounts.mounts()}
    waiting: list[tuple[str, ...]] = [()]
    while waiting and not deadline.expired():
        folder = waiting.pop()
        path = root.join(folder)
        # Not even opened: the file system of another mount may hang.
        if folder and path in mounted:
            yield Kept(path, "mount_point")
            continue
        if root.is_denied(path):
            yield Kept(path, "denied")
            continue
        try:
            descriptor = root.open(folder)
        except OSError as exc:
            yield Kept(path, "mount_point" if exc.errno is None else "unreadable")
            continue
        try:
            with os.scandir(descriptor) as entries:
                everything = list(entries)
            if any(entry.name in OF_DATABASE for entry in everything):
                yield Kept(path, "database")
                continue
            for entry in everything:
                if entry.is_dir(follow_symlinks=False):
                    if len(folder) < MAX_DEPTH:
                        waiting.append((*folder, entry.name))
                elif pattern.match(entry.name):
                    yield from _evaluated(root, folder, entry, now - older_than)
        finally:
            os.close(descriptor)


def _evaluated(
    root: Root, folder: tuple[str, ...], entry: os.DirEntry[str], before: float
) -> Iterator[Candidate | Kept]:
    path = root.join(folder, entry.name)
    try:
        info = entry.stat(follow_symlinks=False)
    except OSError:
        return
    if root.is_denied(path):
        yield Kept(path, "denied")
    elif not stat.S_ISREG(info.st_mode):
        yield Kept(path, "not_regular")
    elif info.st_mtime > before:
        return
    elif info.st_nlink != 1:
        yield Kept(path, "hard_linked")
    else:
        yield Candidate(folder, entry.name, info.st_dev, info.st_ino, info.st_blocks * 512, info.st_mtime)


def opened(pids: Iterable[int], names: Container[str]) -> set[tuple[int, int]]:
    """Return device and inode of the files with these names that processes have open, in any mount namespace."""
    found = set()
    tables = Tables()
    for pid in pids:
        folder = "/proc/%d/fd/" % pid
        with contextlib.suppress(OSError):
            for number in os.listdir(folder):
                with contextlib.suppress(FileNotFoundError):
                    target = os.readlink(folder + number)
                    inner = target.startswith("/") and target[target.rindex("/") + 1 :] in names
                    if inner and tables.local_device(pid, number) is not None:
                        info = os.stat(folder + number)
                        found.add((info.st_dev, info.st_ino))
    return found


def mount_id(descriptor: int) -> int | None:
    """Return the id of the mount that an open file is on; null if /proc does not show it."""
    with contextlib.suppress(OSError), open("/proc/self/fdinfo/%d" % descriptor, encoding="ascii") as stream:
        match = MOUNT_ID.search(stream.read())
        return int(match.group(1)) if match else None
    return None


def _open_from(start: str, names: Sequence[str], path: str, option: str) -> int:
    """Return a descriptor of a directory. Raises BadOption if a link is on the way to it, OSError otherwise."""
    descriptor = os.open(start, FOLDER)
    try:
        for name in names:
            if stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                raise BadOption(
                    "%s: %s leads through a symbolic link" % (option, shown(path)),
                    hint="Name the real directory in `%s`: `readlink -f -- DIRECTORY`." % option,
                )
            inner = os.open(name, FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
