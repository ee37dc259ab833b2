# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verifies that a directory gives events, with one watch that is not recursive. Private to this collection."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import struct
import time
from typing import Iterator, TypedDict

IN_CREATE = 0x100
IN_OPEN = 0x20
IN_ONLYDIR = 0x01000000
MASKS = {"open": IN_OPEN, "create": IN_CREATE}
EVENT = struct.Struct("iIII")
# errno -> kind and message. The limits also prevent the next watch of the watcher, if it runs as the same user.
KINDS = {
    errno.EMFILE: ("instance_limit", "the measuring user has reached max_user_instances"),
    errno.ENOSPC: ("watch_limit", "the measuring user has reached max_user_watches"),
    errno.ENFILE: ("open_files", "the machine has reached its limit of open files (fs.file-max)"),
    errno.EACCES: ("permission", "the directory cannot be read"),
    errno.EROFS: ("read_only", "the file system is mounted read-only"),
}

_libc = ctypes.CDLL(None, use_errno=True)


class ProbeError(TypedDict):
    """Why no event could be produced. ``of_watcher``: whether a limit is one of the watcher, too; null if unknown."""

    kind: str
    message: str
    of_watcher: bool | None


class ProbeResult(TypedDict):
    """``arrived`` is null, with an ``error``, if no watch could be set or no change could be made."""

    trigger: str
    arrived: bool | None
    seconds: float | None
    error: ProbeError | None


def probe(path: str, trigger: str, timeout: float) -> ProbeResult:
    """Make a change in the directory ``path`` and wait up to ``timeout`` seconds for its event.

    ``trigger`` is ``open``, which opens the directory and changes nothing, or ``create``, which creates and removes a
    file whose name starts with a dot.
    """
    try:
        with _instance() as fd:
            if _libc.inotify_add_watch(fd, os.fsencode(path), MASKS[trigger] | IN_ONLYDIR) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch")
            started = time.monotonic()
            _change(path, trigger)
            arrived = _wait(fd, MASKS[trigger], timeout)
            seconds = round(time.monotonic() - started, 4) if arrived else None
            return {"trigger": trigger, "arrived": arrived, "seconds": seconds, "error": None}
    except OSError as exc:
        if exc.errno == errno.EMFILE and not _opens_files():
            return _failed(trigger, "open_files", "the measuring process has reached its limit of open files (nofile)")
        kind, message = KINDS.get(exc.errno or 0, ("failed", exc.strerror or str(exc)))
        return _failed(trigger, kind, message)


def _failed(trigger: str, kind: str, message: str) -> ProbeResult:
    error: ProbeError = {"kind": kind, "message": message, "of_watcher": None}
    return {"trigger": trigger, "arrived": None, "seconds": None, "error": error}


def _opens_files() -> bool:
    """Return whether this process can open another file. EMFILE of inotify_init stands for two limits."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _instance() -> Iterator[int]:
    fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        yield fd
    finally:
        os.close(fd)


def _change(path: str, trigger: str) -> None:
    if trigger == "open":
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        return
    name = os.path.join(path, ".tracktion-ops-probe-%d.tmp" % os.getpid())
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.unlink(name)


def _wait(fd: int, mask: int, timeout: float) -> bool:
    end = time.monotonic() + timeout
    while True:
        ready, _writable, _failed = select.select([fd], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return False
        data = os.read(fd, 65536)
        while data:
            _watch, got, _cookie, length = EVENT.unpack_from(data)
            if got & mask:
                return True
            data = data[EVENT.size + length :]
