# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removes old files by name, none that a process has open. Private to this collection.

The kernel grants a write lease (fcntl(2), F_SETLEASE) only on a file that no process has open, in whatever container or
mount namespace. A process that opens the file waits until the lease ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
from typing import Any, Iterable, Iterator, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._host import _removable
from ansible_collections.tracktion.ops.plugins.module_utils._host._places import Tables
from ansible_collections.tracktion.ops.plugins.module_utils._host._removable import Candidate, Kept, Root
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

SPEC: dict[str, Any] = {
    "roots": {"type": "list", "elements": "path", "required": True},
    "patterns": {"type": "list", "elements": "str", "required": True},
    "older_than": {"type": "float", "default": 604800.0},
    "deny": {"type": "list", "elements": "path", "default": []},
    "max_files": {"type": "int", "default": 1000},
    "max_bytes": {"type": "int"},
    "deadline": {"type": "float", "default": 60.0},
}
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Items of each list in the result, and characters of a path in it.
LISTED = 100
PATH_LENGTH = 300
# Errors of a lease on a file system without leases, or without the right to take one.
WITHOUT_LEASE = (errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class Found(NamedTuple):
    """A file that may be removed, and its root."""

    root: Root
    file: Candidate

    @property
    def path(self) -> str:
        """The path of the file."""
        return self.root.join(self.file.folder, self.file.name)


def delete(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.delete_files) returns. Raises BadOption before anything is removed."""
    for name, least in (("older_than", 0), ("max_files", 1), ("deadline", 1)):
        if options[name] < least:
            raise BadOption("%s: is %s, below %s" % (name, options[name], least), hint="Correct `%s`." % name)
    if options["max_bytes"] is not None and options["max_bytes"] < 1:
        raise BadOption("max_bytes: is below 1", hint="Correct `max_bytes`.")
    pattern = _removable.compiled(options["patterns"])
    # A process that opens a file sends this signal to the holder of its lease.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    deadline = Deadline(options["deadline"])
    roots: list[Root] = []
    kept: list[Kept] = []
    try:
        for path in options["roots"]:
            _removable.reject(os.path.normpath(path), "roots")
        for path in dict.fromkeys(map(os.path.normpath, options["roots"])):
            try:
                roots.append(Root(path, options["deny"]))
            except FileNotFoundError:
                continue
            except OSError:
                kept.append(Kept(path, "unreadable"))
        found: list[Found] = []
        for root in roots:
            for each in _removable.find(root, pattern, options["older_than"], deadline):
                if isinstance(each, Kept):
                    kept.append(each)
                else:
                    found.append(Found(root, each))
        complete = not deadline.expired()
        return dict(_remove_all(_once(found), kept, options, check_mode, deadline), complete=complete)
    finally:
        for root in roots:
            os.close(root.descriptor)


def _once(found: Iterable[Found]) -> list[Found]:
    """Return the files, each once although roots may overlap, the oldest first."""
    by_inode = {(each.file.device, each.file.inode): each for each in found}
    return sorted(by_inode.values(), key=lambda each: (each.file.modified, each.path))


def _remove_all(found: list[Found], kept: list[Kept], options: Options, check_mode: bool, deadline: Deadline) -> Part:
    openers = _Openers()
    gone: list[Found] = []
    failed: list[Part] = []
    left: list[Found] = []
    size = 0
    most = options["max_bytes"]
    for each in found:
        over = len(gone) >= options["max_files"] or (most is not None and size + each.file.bytes > most)
        if over or deadline.expired():
            left.append(each)
            kept.append(Kept(each.path, "over_cap"))
            continue
        try:
            reason = _remove(each, openers, check_mode)
        except FileNotFoundError:
            # Removed by another process: there is nothing to do.
            continue
        except OSError as exc:
            left.append(each)
            failed.append({"path": text(each.path), "message": exc.strerror or str(exc)})
            continue
        if reason:
            kept.append(Kept(each.path, reason))
        else:
            gone.append(each)
            size += each.file.bytes
    return _outcome(gone, left, kept, failed, check_mode)


def _remove(found: Found, openers: _Openers, check_mode: bool) -> str | None:
    """Remove a file. Return why it is kept, a word of REASONS, or null. Raises OSError."""
    file = found.file
    folder = found.root.open(file.folder)
    try:
        descriptor = _open(file.name, folder)
        try:
            if not _is_same(os.fstat(descriptor), file):
                return "changed"
            reason = _lease(descriptor) or ""
            if reason == "unsupported":
                reason = openers.reason(file.device, file.inode)
            if reason:
                return reason
            # The name may have been given to another file since.
            if not _is_same(os.stat(file.name, dir_fd=folder, follow_symlinks=False), file):
                return "changed"
            if not check_mode:
                os.unlink(file.name, dir_fd=folder)
            return None
        finally:
            # This ends the lease too.
            os.close(descriptor)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):
            return "changed"
        raise
    finally:
        os.close(folder)


def _open(name: str, folder: int) -> int:
    """Open a file without a change of its access time, if that is permitted."""
    try:
        return os.open(name, FILE | os.O_NOATIME, dir_fd=folder)
    except PermissionError:
        return os.open(name, FILE, dir_fd=folder)


def _is_same(info: os.stat_result, file: Candidate) -> bool:
    """Return whether a file is the one that was found, unchanged and with one name."""
    return (
        stat.S_ISREG(info.st_mode)
        and (info.st_dev, info.st_ino, info.st_mtime) == (file.device, file.inode, file.modified)
        and info.st_nlink == 1
    )


def _lease(descriptor: int) -> str | None:
    """Take a write lease. Return null, ``open`` if a process has the file open, or ``unsupported``. Raises OSError."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EBUSY):
            return "open"
        if exc.errno in WITHOUT_LEASE:
            return "unsupported"
        raise
    return None


class _Openers:
    """The open files of all processes, from /proc: where the kernel grants no lease. Read once, when it is needed."""

    def __init__(self) -> None:
        self._files: set[tuple[int, int]] | None = None
        self._hidden = False

    def reason(self, device: int, inode: int) -> str:
        """Return ``open``, ``maybe_open`` if processes are hidden from this account, or an empty text."""
        if self._files is None:
            self._files = set()
            self._read(self._files)
        if (device, inode) in self._files:
            return "open"
        return "maybe_open" if self._hidden else ""

    def _read(self, files: set[tuple[int, int]]) -> None:
        self._hidden = _processes.view_restriction("") is not None
        tables = Tables()
        for pid in _processes.pids():
            if pid == os.getpid():
                continue
            try:
                for number in os.listdir("/proc/%d/fd" % pid):
                    with contextlib.suppress(FileNotFoundError):
                        files.update(_opened(pid, number, tables))
            except PermissionError:
                self._hidden = True
            except (FileNotFoundError, ProcessLookupError):
                # It has ended.
                continue


def _opened(pid: int, number: str, tables: Tables) -> Iterator[tuple[int, int]]:
    """Yield device and inode of an open file. One of a mount that may hang is asked for nothing. Raises OSError."""
    path = "/proc/%d/fd/%s" % (pid, number)
    if os.readlink(path).startswith("/") and tables.local_device(pid, number) is not None:
        info = os.stat(path)
        yield info.st_dev, info.st_ino


def _outcome(gone: list[Found], left: list[Found], kept: list[Kept], failed: list[Part], check_mode: bool) -> Part:
    """Return ``changed``, ``before``, ``after``, the lists, ``diff``, and ``failed`` with ``msg`` on failure."""
    counts: dict[str, int] = {}
    for each in kept:
        counts[each.reason] = counts.get(each.reason, 0) + 1
    removable = sorted(text(each.path) for each in [*gone, *left])
    result: Part = {
        "changed": bool(gone),
        "before": total([*gone, *left]),
        "after": total(left),
        "deleted": [
            {
                "path": text(each.path),
                "bytes": each.file.bytes,
                "modified": round(each.file.modified, 3),
                "result": "planned" if check_mode else "deleted",
            }
            for each in gone[:LISTED]
        ],
        "deleted_total": len(gone),
        "kept": [{"path": text(each.path), "reason": each.reason} for each in kept[:LISTED]],
        "kept_total": counts,
        "diff": {
            "before": {"files": removable[:LISTED]},
            "after": {"files": sorted(text(each.path) for each in left)[:LISTED]},
        },
    }
    if failed:
        result.update(failed=True, msg="Could not delete %(path)s: %(message)s" % failed[0])
    return result


def total(found: Iterable[Found]) -> Part:
    """Return the number and the disk space of files."""
    sizes = [each.file.bytes for each in found]
    return {"count": len(sizes), "bytes": sum(sizes)}


def text(path: str) -> str:
    """Return a path as text of limited length."""
    return cut(shown(path), PATH_LENGTH)
