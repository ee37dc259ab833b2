# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proves that an event arrives for a directory, with one watch that is not recursive. Private to this collection."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import struct
import time

IN_CREATE = 0x100
IN_OPEN = 0x20
IN_ONLYDIR = 0x01000000
MASKS = {"open": IN_OPEN, "create": IN_CREATE}
EVENT = struct.Struct("iIII")
# What stands in the way of a watch, and of the watcher's next one as well if it is the same user.
KINDS = {
    errno.EMFILE: ("instance_limit", "max_user_instances (or the open files) of this user is used up"),
    errno.ENOSPC: ("watch_limit", "max_user_watches of this user is used up"),
    errno.EACCES: ("permission", "the directory cannot be read"),
    errno.EROFS: ("read_only", "the file system is mounted read-only"),
}

_libc = ctypes.CDLL(None, use_errno=True)


def probe(path, trigger, timeout):
    """Make a change at ``path`` and wait for its event.

    ``trigger`` is V(open), which opens the directory and changes nothing, or V(create), which creates a file whose name
    starts with a dot and removes it. Returns ``{trigger, arrived, seconds, error}``; ``arrived`` is null where no watch
    could be set or no change be made, and ``error`` ``{kind, message}`` says why.
    """
    try:
        with _instance() as fd:
            if _libc.inotify_add_watch(fd, os.fsencode(path), MASKS[trigger] | IN_ONLYDIR) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch")
            started = time.monotonic()
            _change(path, trigger)
            arrived = _wait(fd, MASKS[trigger], timeout)
            return _outcome(trigger, arrived, round(time.monotonic() - started, 4))
    except OSError as exc:
        kind, message = KINDS.get(exc.errno, ("failed", exc.strerror))
        return _outcome(trigger, None, None, {"kind": kind, "message": message})


def _outcome(trigger, arrived, seconds, error=None):
    return {"trigger": trigger, "arrived": arrived, "seconds": seconds if arrived else None, "error": error}


@contextlib.contextmanager
def _instance():
    fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        yield fd
    finally:
        os.close(fd)


def _change(path, trigger):
    if trigger == "open":
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        return
    name = os.path.join(path, ".tracktion-ops-probe-%d.tmp" % os.getpid())
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.unlink(name)


def _wait(fd, mask, timeout):
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
