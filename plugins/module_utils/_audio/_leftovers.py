# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deletes old temporary files that no process has open. Private to this collection.

Part of the program that runs inside the container of the audio service: standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from typing import Any, Dict, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._audio import _surroundings

Part = Dict[str, Any]

# The file system has no leases, or the file belongs to another user.
NO_LEASE = (errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOLCK, errno.EOPNOTSUPP)


def delete(request: Mapping[str, Any], is_check: bool, most: int) -> Part:
    """Delete at most ``most`` leftovers, the oldest first; only list them in check mode.

    Returns ``path`` of the directory, ``deleted`` and ``kept`` (``path``, ``bytes``, ``age_seconds``, ``reason``) and
    ``left``, the number of leftovers beyond ``most``. A file that is not known to be closed is kept.
    """
    path = _surroundings.temporary_path(request)
    found: Part = {"path": _surroundings.shown(path), "deleted": [], "kept": [], "left": 0, "error": None}
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        return {**found, "error": "%s: %s" % (found["path"], exc.strerror)}
    try:
        now = time.time()
        old = _surroundings.old_files(path, request, now)[1]
        is_open, known = _surroundings.open_files() if old else (set(), True)
        old.sort(key=lambda row: row[1].st_mtime)
        for each, info in old:
            if len(found["deleted"]) >= most:
                found["left"] += 1
                continue
            reason = None if (info.st_dev, info.st_ino) not in is_open else "open"
            reason = reason or _remove(folder, os.path.basename(each), info, known, is_check)
            entry = {
                "path": _surroundings.shown(each),
                "bytes": info.st_blocks * 512,
                "age_seconds": round(now - info.st_mtime, 1),
                "reason": reason,
            }
            found["kept" if reason else "deleted"].append(entry)
    finally:
        os.close(folder)
    return found


def _remove(folder: int, name: str, info: os.stat_result, known: bool, is_check: bool) -> str | None:
    """Delete a file if it is still the one that was found and is closed. Return why it is kept; null if it is not."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return "gone"
    except OSError as exc:
        return "changed" if exc.errno == errno.ELOOP else "no_permission"
    try:
        now = os.fstat(descriptor)
        if not stat.S_ISREG(now.st_mode) or _differ(now, info):
            return "changed"
        if now.st_nlink != 1:
            return "hard_linked"
        reason = _is_open(descriptor, known)
        if reason or is_check:
            return reason
        # The lease is held until the file is closed: a process that opens it in between waits, and then has its own.
        if _differ(os.stat(name, dir_fd=folder, follow_symlinks=False), info):
            return "changed"
        os.unlink(name, dir_fd=folder)
    except OSError as exc:
        return "gone" if exc.errno == errno.ENOENT else "no_permission"
    finally:
        os.close(descriptor)
    return None


def _differ(now: os.stat_result, info: os.stat_result) -> bool:
    return (now.st_dev, now.st_ino, now.st_mtime_ns) != (info.st_dev, info.st_ino, info.st_mtime_ns)


def _is_open(descriptor: int, known: bool) -> str | None:
    """Return ``open`` or ``maybe_open``; null if no other process has the file open, also outside of the container."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as exc:
        if exc.errno not in NO_LEASE:
            return "open"
        # The processes of the container were compared before.
        return None if known else "maybe_open"
    return None
