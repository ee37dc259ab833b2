# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The users that inotify instances are charged to, and the limits of user namespaces. Private to this collection.

The kernel charges an instance and its watches to the effective uid in the user namespace of the process, then to the
owner of that namespace in its parent, and so on. The first limit that is reached rejects it. The limit of the initial
namespace is fs.inotify.max_user_*; that of another one is user.max_inotify_*, which only a process inside can read.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from typing import NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes

NS_GET_PARENT = 0xB702
NS_GET_OWNER_UID = 0xB704
CLONE_NEWUSER = 0x10000000
LIMITS_DIRECTORY = "/proc/sys/user"
# Limit of fs.inotify -> limit of a user namespace. There is none for queued events.
NAMES = {"max_user_watches": "max_inotify_watches", "max_user_instances": "max_inotify_instances"}

_libc = ctypes.CDLL(None, use_errno=True)


class Charge(NamedTuple):
    """A user namespace, by its inode, and a uid as the initial user namespace numbers it."""

    namespace: int
    uid: int


def charges(pid: int) -> tuple[Charge, ...]:
    """Return the users that the watches of a process are charged to, that of the initial user namespace last.

    Raises PermissionError if the user namespace of the process cannot be opened.
    """
    uid = _processes.effective_uid(_processes.status(pid))
    if _processes.in_initial_user_namespace(pid):
        return (Charge(_processes.INITIAL_USER_NAMESPACE, uid),)
    found = []
    namespace = os.open("/proc/%d/ns/user" % pid, os.O_RDONLY)
    try:
        while True:
            inode = os.fstat(namespace).st_ino
            found.append(Charge(inode, uid))
            if inode == _processes.INITIAL_USER_NAMESPACE:
                return tuple(found)
            owner = bytearray(4)
            fcntl.ioctl(namespace, NS_GET_OWNER_UID, owner)
            uid = struct.unpack("I", owner)[0]
            parent = fcntl.ioctl(namespace, NS_GET_PARENT)
            os.close(namespace)
            namespace = parent
    finally:
        os.close(namespace)


def limits(pid: int, wanted: int) -> dict[str, int] | None:
    """Return the limits of the user namespace with the inode ``wanted``, that of a process or one above it.

    The names are those of fs.inotify. Null if they cannot be read.
    """
    try:
        namespace = os.open("/proc/%d/ns/user" % pid, os.O_RDONLY)
    except OSError:
        return None
    try:
        while os.fstat(namespace).st_ino != wanted:
            parent = fcntl.ioctl(namespace, NS_GET_PARENT)
            os.close(namespace)
            namespace = parent
        return _read_inside(namespace)
    except OSError:
        return None
    finally:
        os.close(namespace)


def own_limit(name: str) -> int | None:
    """Return a limit ``max_inotify_*`` of the user namespace of this process, null on kernels without it."""
    try:
        with open("%s/%s" % (LIMITS_DIRECTORY, name), encoding="utf-8") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return None


def _read_inside(namespace: int) -> dict[str, int] | None:
    """Return the limits of the user namespace with this descriptor, as a child process that enters it reads them."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing of the parent may run here: neither handlers nor buffers.
        try:
            if _libc.setns(namespace, CLONE_NEWUSER) == 0:
                values = [own_limit(name) for name in NAMES.values()]
                os.write(writing, " ".join("-" if value is None else str(value) for value in values).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as output:
        words = output.read().split()
    os.waitpid(child, 0)
    return {name: int(word) for name, word in zip(NAMES, words) if word != "-"} or None
