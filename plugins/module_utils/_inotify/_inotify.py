# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who holds inotify instances and watches on this machine, in one pass over /proc. Private to this collection.

What the kernel does, checked on Linux 6.18:

- An instance and its watches are charged to the *effective* uid that created the instance, and to the owner of every
  user namespace between that one and the initial one. The creator is not recorded anywhere we can read; the
  effective uid of the process that holds the instance now stands for it.
- The budget of a uid is one for all containers of the machine. A process that sees only the processes of its own
  container cannot know what is used.
- After a fork, several processes hold the same instance; kcmp(2) says so. Where kcmp is not allowed, each descriptor
  is counted: too many rather than too few.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import struct
import time
from bisect import bisect_left

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes

LIMITS_DIRECTORY = "/proc/sys/fs/inotify"
LIMITS = ("max_user_watches", "max_user_instances", "max_queued_events")

LINK = "anon_inode:inotify"
WATCH = b"inotify wd:"
INODE = re.compile(rb"^inotify wd:\S+ ino:([0-9a-f]+) sdev:([0-9a-f]+) ", re.MULTILINE)
CHUNK = 1 << 20

NS_GET_PARENT = 0xB702
NS_GET_OWNER_UID = 0xB704

# System calls that the C library has no function for, by machine; those above 424 have one number everywhere.
SYS_KCMP = {"x86_64": 312, "aarch64": 272, "ppc64le": 354, "s390x": 343, "riscv64": 272, "armv7l": 378}
SYS_PIDFD_OPEN = 434
SYS_PIDFD_GETFD = 438
KCMP_FILE = 0
FIONREAD = 0x541B

# Seconds for which a scan of one measuring module serves the next one of the same process.
KEPT = 5.0
ON_THE_HOST = "Measure on the host: set `file_watching_probe_host` to it"
RAISE_DEADLINE = "Raise `file_watching_deadline`"

_libc = ctypes.CDLL(None, use_errno=True)
_kept = None


class Instance:
    """One inotify instance: ``holders`` are the ``(pid, fd)`` through which it is open, the oldest process first."""

    __slots__ = ("holders", "uid", "watches")

    def __init__(self, pid, fd, uid, watches):
        self.holders = [(pid, fd)]
        self.uid = uid
        self.watches = watches

    @property
    def pid(self):
        return self.holders[0][0]

    def text(self):
        """What /proc says about its watches now; empty when it is gone."""
        try:
            with open("/proc/%d/fdinfo/%d" % self.holders[0], "rb", buffering=0) as stream:
                return stream.read()
        except OSError:
            return b""

    def watched(self):
        """The ``(device, inode)`` of every watch, as the kernel numbers them."""
        return {(int(device, 16), int(inode, 16)) for inode, device in INODE.findall(self.text())}


class Scan:
    """What one pass over /proc found.

    ``complete`` is false where the deadline came first or where the view of /proc is not that of the whole machine;
    ``reason`` says why, ``hint`` how to see more. ``unreadable`` has the ids of the processes whose descriptors could
    not be read, by uid.
    """

    def __init__(self):
        self.started = time.monotonic()
        self.seconds = None
        self.instances = []
        self.processes = 0
        self.vanished = 0
        self.unreadable = {}
        self.complete = True
        self.reason = None
        self.hint = None

    def incomplete(self, reason, hint=None):
        self.complete = False
        if self.reason is None:
            self.reason, self.hint = reason, hint


def scan(deadline):
    """Read the inotify instances of every process, until ``deadline``."""
    global _kept
    found = Scan()
    blind = what_hides_processes()
    if blind:
        found.incomplete(*blind)
    same = _SameFile()
    for pid in _processes.pids():
        if deadline.expired():
            found.incomplete("the deadline came after %d processes" % found.processes, RAISE_DEADLINE)
            break
        found.processes += 1
        _take(pid, found, same)
    # A process that starts or ends is closed to all for a moment.
    closed, found.unreadable = found.unreadable, {}
    for pid in [pid for mine in closed.values() for pid in mine]:
        _take(pid, found, same)
    found.seconds = time.monotonic() - found.started
    _kept = found
    return found


def _take(pid, found, same):
    try:
        _read_process(pid, found, same)
    except (FileNotFoundError, ProcessLookupError):
        found.vanished += 1
    except PermissionError:
        _count_unreadable(pid, found)


def recent_scan(deadline):
    """The scan that the module before us made in this process, once; else a new one."""
    global _kept
    found, _kept = _kept, None
    if found is None or time.monotonic() - found.started > KEPT:
        found = scan(deadline)
        _kept = None
    return found


def limit(name):
    """The value of a limit that holds now; raises OSError where this kernel or this container has no inotify."""
    with open("%s/%s" % (LIMITS_DIRECTORY, name), encoding="utf-8") as stream:
        return int(stream.read())


def namespace_limit(name):
    """The limit ``max_inotify_*`` of our own user namespace, null on kernels without it."""
    try:
        with open("/proc/sys/user/%s" % name, encoding="utf-8") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return None


def queued_bytes(instance):
    """Bytes of events that wait to be read from an instance, null where we may not look.

    Looks through a duplicate of the descriptor, which neither reads nor disturbs anything.
    """
    pid, fd = instance.holders[0]
    process = _libc.syscall(SYS_PIDFD_OPEN, pid, 0)
    if process < 0:
        return None
    try:
        duplicate = _libc.syscall(SYS_PIDFD_GETFD, process, fd, 0)
    finally:
        os.close(process)
    if duplicate < 0:
        return None
    try:
        # Between our reading the link and now the number may have been given to something else.
        if os.readlink("/proc/self/fd/%d" % duplicate) != LINK:
            return None
        answer = bytearray(4)
        fcntl.ioctl(duplicate, FIONREAD, answer)
        return struct.unpack("i", answer)[0]
    except OSError:
        return None
    finally:
        os.close(duplicate)


def _read_process(pid, found, same):
    directory = os.open("/proc/%d/fd" % pid, os.O_RDONLY | os.O_DIRECTORY)
    try:
        mine = []
        for name in os.listdir(directory):
            try:
                if os.readlink(name, dir_fd=directory) == LINK:
                    mine.append(int(name))
            except FileNotFoundError:
                continue
    finally:
        os.close(directory)
    if not mine:
        return
    uid = charged_uid(pid)
    for fd in sorted(mine):
        try:
            known = same.as_before(pid, fd)
            if known is not None:
                known.holders.append((pid, fd))
                continue
            instance = Instance(pid, fd, uid, _count_watches(pid, fd))
        except FileNotFoundError:
            continue
        same.remember(instance)
        found.instances.append(instance)


def _count_watches(pid, fd):
    watches, tail = 0, b""
    with open("/proc/%d/fdinfo/%d" % (pid, fd), "rb", buffering=0) as stream:
        while True:
            chunk = stream.read(CHUNK)
            if not chunk:
                return watches
            chunk = tail + chunk
            watches += chunk.count(WATCH)
            # Shorter than what is counted, so that nothing is counted twice.
            tail = chunk[-(len(WATCH) - 1) :]


def _count_unreadable(pid, found):
    try:
        status = _processes.status(pid)
    except (FileNotFoundError, ProcessLookupError):
        found.vanished += 1
        return
    except PermissionError:
        # /proc is mounted with hidepid=1: no more than the owner is shown, kernel threads included.
        with contextlib.suppress(OSError):
            found.unreadable.setdefault(os.stat("/proc/%d" % pid).st_uid, []).append(pid)
        return
    # Kernel threads and zombies have no memory and no descriptors.
    if "VmSize" in status:
        uid = _processes.effective_uid(status)
        found.unreadable.setdefault(uid, []).append(pid)


def charged_uid(pid):
    """The uid, in the initial user namespace, that pays for what a process watches.

    Raises PermissionError where the namespace of the process is not ours to look at.
    """
    if _processes.in_initial_user_namespace(pid):
        return _processes.effective_uid(_processes.status(pid))
    namespace = os.open("/proc/%d/ns/user" % pid, os.O_RDONLY)
    try:
        while True:
            owner = bytearray(4)
            fcntl.ioctl(namespace, NS_GET_OWNER_UID, owner)
            parent = fcntl.ioctl(namespace, NS_GET_PARENT)
            os.close(namespace)
            namespace = parent
            if os.fstat(parent).st_ino == _processes.INITIAL_USER_NAMESPACE:
                return struct.unpack("I", owner)[0]
    finally:
        os.close(namespace)


def what_hides_processes():
    """Why this view of /proc is not the whole machine's, and what to do about it; null where it is."""
    try:
        if not _processes.in_initial_pid_namespace():
            return "this runs inside a container, which sees only its own processes", ON_THE_HOST
        if not _processes.in_initial_user_namespace():
            return "this runs inside a user namespace, which does not see the uids of the machine", ON_THE_HOST
    except OSError as exc:
        return "namespaces cannot be told apart: %s" % exc, _rights.hint("CAP_SYS_PTRACE")
    if not os.access("/proc/1/status", os.R_OK):
        return "/proc hides the processes of others (hidepid)", _rights.hint("CAP_SYS_PTRACE")
    return None


class _SameFile:
    """Finds descriptors that are open to the same instance, by the order kcmp(2) puts open files into."""

    def __init__(self):
        self._number = SYS_KCMP.get(os.uname().machine)
        self._sorted = []

    def as_before(self, pid, fd):
        """The instance that this descriptor is one more holder of, or null."""
        if self._number is None:
            return None
        wanted = _Place(self._number, pid, fd)
        try:
            self._at = bisect_left(self._sorted, wanted)
            if self._at < len(self._sorted) and self._sorted[self._at].order(wanted) == 0:
                return self._sorted[self._at].instance
        except OSError:
            # kcmp is not allowed, or one of the processes is gone: counted by itself, and never compared with.
            self._at = None
        return None

    def remember(self, instance):
        if self._number is not None and self._at is not None:
            self._sorted.insert(self._at, _Place(self._number, instance.pid, instance.holders[0][1], instance))


class _Place:
    """An open file in kcmp's order."""

    __slots__ = ("fd", "instance", "number", "pid")

    def __init__(self, number, pid, fd, instance=None):
        self.number = number
        self.pid = pid
        self.fd = fd
        self.instance = instance

    def __lt__(self, other):
        return self.order(other) == 1

    def order(self, other):
        """0 for the same open file, 1 for an earlier one, 2 for a later one."""
        answer = _libc.syscall(
            self.number, self.pid, other.pid, KCMP_FILE, ctypes.c_ulong(self.fd), ctypes.c_ulong(other.fd)
        )
        if answer < 0:
            raise OSError(ctypes.get_errno(), "kcmp")
        return answer
