# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the inotify instances and watches of all processes, in one pass over /proc. Private to this collection.

Behaviour of the kernel, checked on Linux 6.18:

- An instance and its watches are charged to the *effective* uid that created the instance, and to the owner of every
  user namespace between that one and the initial one: see ``_user_namespaces``. /proc does not record the creator; the
  effective uid of the process that holds the instance now is used in its place.
- The limit of a uid applies to all containers of the machine together. A process that sees only the processes of its
  own container cannot know the use.
- After a fork, several processes hold the same instance, which kcmp(2) detects. If kcmp is not permitted, each
  descriptor is counted: the count is then too high, never too low.
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
from typing import Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _user_namespaces
from ansible_collections.tracktion.ops.plugins.module_utils._inotify._user_namespaces import Charge
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline

LIMITS_DIRECTORY = "/proc/sys/fs/inotify"
LIMITS = ("max_user_watches", "max_user_instances", "max_queued_events")

LINK = "anon_inode:inotify"
WATCH = b"inotify wd:"
INODE = re.compile(rb"^inotify wd:\S+ ino:([0-9a-f]+) sdev:([0-9a-f]+) ", re.MULTILINE)
CHUNK = 1 << 20

# Numbers of system calls without a function in the C library, by machine; above 424 they are the same everywhere.
SYS_KCMP = {"x86_64": 312, "aarch64": 272, "ppc64le": 354, "s390x": 343, "riscv64": 272, "armv7l": 378}
SYS_PIDFD_OPEN = 434
SYS_PIDFD_GETFD = 438
KCMP_FILE = 0
FIONREAD = 0x541B

# Seconds for which the next measuring function of the same process reuses a scan.
SCAN_LIFETIME = 5.0
ON_THE_HOST = "Measure on the host itself: set `file_watching_probe_host` to its inventory name"
RAISE_DEADLINE = "Raise `deadline`"

_libc = ctypes.CDLL(None, use_errno=True)
_last_scan: Scan | None = None


class Instance:
    """One inotify instance. ``holders`` are the ``(pid, fd)`` through which it is open, the oldest process first."""

    __slots__ = ("charges", "holders", "watches")

    def __init__(self, pid: int, fd: int, charges: Sequence[Charge], watches: int) -> None:
        self.holders = [(pid, fd)]
        # The users that it is charged to, that of the initial user namespace last.
        self.charges = charges
        self.watches = watches

    @property
    def uid(self) -> int:
        """The uid, in the initial user namespace, that it is charged to."""
        return self.charges[-1].uid

    @property
    def pid(self) -> int:
        """The oldest process that has it open."""
        return self.holders[0][0]

    def read_fdinfo(self) -> bytes:
        """Return its current fdinfo, empty if the instance was closed."""
        try:
            with open("/proc/%d/fdinfo/%d" % self.holders[0], "rb", buffering=0) as stream:
                return stream.read()
        except OSError:
            return b""

    def watched(self) -> set[tuple[int, int]]:
        """Return the ``(device, inode)`` of every watch, numbered as by the kernel."""
        return {(int(device, 16), int(inode, 16)) for inode, device in INODE.findall(self.read_fdinfo())}


class Scan:
    """The result of one pass over /proc.

    ``complete`` is false if the deadline expired or if /proc does not show the whole machine; ``reason`` says why and
    ``hint`` how to see more. ``unreadable`` holds, by uid, the pids of the processes whose descriptors cannot be read.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.seconds = 0.0
        self.instances: list[Instance] = []
        self.processes = 0
        self.vanished = 0
        self.unreadable: dict[int, list[int]] = {}
        self.complete = True
        self.reason: str | None = None
        self.hint: str | None = None

    def mark_incomplete(self, reason: str, hint: str | None = None) -> None:
        """Note that the pass did not see everything. The first reason is kept."""
        self.complete = False
        if self.reason is None:
            self.reason, self.hint = reason, hint

    @property
    def known(self) -> bool:
        """Whether every process was read."""
        return self.complete and not self.unreadable

    @property
    def unreadable_reason(self) -> str:
        """Which descriptors could not be read."""
        pids = sorted(pid for pids in self.unreadable.values() for pid in pids)
        if os.geteuid():
            return "the descriptors of %d processes cannot be read without privilege" % len(pids)
        return "the descriptors of some processes cannot be read, not even by root: %s" % ", ".join(map(str, pids[:10]))

    @property
    def hidden_reason(self) -> str | None:
        """Why the use of some users is not known; null if every process was read."""
        return self.reason or (self.unreadable_reason if self.unreadable else None)

    @property
    def hidden_hint(self) -> str | None:
        """How to read every process; null if every process was read."""
        if self.reason:
            return self.hint
        return _rights.hint("CAP_SYS_PTRACE") if self.unreadable else None


def scan(deadline: Deadline) -> Scan:
    """Read the inotify instances of every process until ``deadline``."""
    global _last_scan
    found = Scan()
    restriction = view_restriction()
    if restriction:
        found.mark_incomplete(*restriction)
    open_files = _OpenFiles()
    for pid in _processes.pids():
        if deadline.expired():
            found.mark_incomplete("the deadline expired after %d processes" % found.processes, RAISE_DEADLINE)
            break
        found.processes += 1
        _read_process(pid, found, open_files)
    # A process that starts or ends is unreadable for a moment, even for root: try once more.
    unreadable, found.unreadable = found.unreadable, {}
    for pid in [pid for pids in unreadable.values() for pid in pids]:
        _read_process(pid, found, open_files)
    found.seconds = time.monotonic() - found.started
    _last_scan = found
    return found


def recent_scan(deadline: Deadline) -> Scan:
    """Return, once, the scan that the previous measuring function of this process made; else make a new one."""
    global _last_scan
    found, _last_scan = _last_scan, None
    if found is None or time.monotonic() - found.started > SCAN_LIFETIME:
        found = scan(deadline)
        _last_scan = None
    return found


def limit(name: str) -> int:
    """Return the current value of a limit. Raises OSError if this kernel or container has no inotify."""
    with open("%s/%s" % (LIMITS_DIRECTORY, name), encoding="utf-8") as stream:
        return int(stream.read())


def limits() -> dict[str, int]:
    """Return the current limits by name. Raises CannotConnect (``no_inotify``) if they cannot be read."""
    try:
        return {name: limit(name) for name in LIMITS}
    except (OSError, ValueError) as exc:
        raise CannotConnect(
            "no_inotify",
            "The inotify limits cannot be read: %s" % exc,
            "Measure on the host that runs the watcher. inotify needs Linux with %s mounted." % LIMITS_DIRECTORY,
        ) from exc


def queued_bytes(instance: Instance) -> int | None:
    """Return the bytes of unread events in the queue of an instance, null if they cannot be read.

    Uses a duplicate of the descriptor, so that no event is consumed.
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
        # The descriptor number may have been reused since the scan.
        if os.readlink("/proc/self/fd/%d" % duplicate) != LINK:
            return None
        answer = bytearray(4)
        fcntl.ioctl(duplicate, FIONREAD, answer)
        return struct.unpack("i", answer)[0]
    except OSError:
        return None
    finally:
        os.close(duplicate)


def _read_process(pid: int, found: Scan, open_files: _OpenFiles) -> None:
    """Add the instances of a process to ``found``, or count it as vanished or unreadable."""
    try:
        _add_instances(pid, found, open_files)
    except (FileNotFoundError, ProcessLookupError):
        found.vanished += 1
    except PermissionError:
        _add_unreadable(pid, found)


def _add_instances(pid: int, found: Scan, open_files: _OpenFiles) -> None:
    descriptors = _inotify_descriptors(pid)
    if not descriptors:
        return
    charges = _user_namespaces.charges(pid)
    for fd in descriptors:
        try:
            known = open_files.find(pid, fd)
            if known is not None:
                known.holders.append((pid, fd))
                continue
            instance = Instance(pid, fd, charges, _count_watches(pid, fd))
        except FileNotFoundError:
            continue
        open_files.add(instance)
        found.instances.append(instance)


def _inotify_descriptors(pid: int) -> list[int]:
    descriptors = []
    directory = os.open("/proc/%d/fd" % pid, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in os.listdir(directory):
            try:
                if os.readlink(name, dir_fd=directory) == LINK:
                    descriptors.append(int(name))
            except FileNotFoundError:
                continue
    finally:
        os.close(directory)
    return sorted(descriptors)


def _count_watches(pid: int, fd: int) -> int:
    watches, tail = 0, b""
    with open("/proc/%d/fdinfo/%d" % (pid, fd), "rb", buffering=0) as stream:
        while True:
            chunk = stream.read(CHUNK)
            if not chunk:
                return watches
            chunk = tail + chunk
            watches += chunk.count(WATCH)
            # Shorter than WATCH, so that no watch is counted twice.
            tail = chunk[-(len(WATCH) - 1) :]


def _add_unreadable(pid: int, found: Scan) -> None:
    try:
        status = _processes.status(pid)
    except (FileNotFoundError, ProcessLookupError):
        found.vanished += 1
        return
    except PermissionError:
        # /proc is mounted with hidepid=1: only the owner is visible, for kernel threads too.
        with contextlib.suppress(OSError):
            found.unreadable.setdefault(os.stat("/proc/%d" % pid).st_uid, []).append(pid)
        return
    # Kernel threads and zombies have no memory and no descriptors.
    if "VmSize" in status:
        uid = _processes.effective_uid(status)
        found.unreadable.setdefault(uid, []).append(pid)


def view_restriction() -> tuple[str, str | None] | None:
    """Return ``(reason, hint)`` if /proc does not show all processes of the machine, else null."""
    return _processes.view_restriction(ON_THE_HOST)


class _OpenFiles:
    """Detects descriptors of the same instance, by the order that kcmp(2) defines on open files."""

    def __init__(self) -> None:
        self._syscall = SYS_KCMP.get(os.uname().machine)
        self._sorted: list[_OpenFile] = []
        # Where the descriptor of the last find() belongs; null if kcmp failed.
        self._position: int | None = None

    def find(self, pid: int, fd: int) -> Instance | None:
        """Return the known instance that this descriptor is open to, or null."""
        self._position = None
        if self._syscall is None:
            return None
        wanted = _OpenFile(self._syscall, pid, fd)
        # If kcmp is not permitted, or a process has ended, the descriptor is counted by itself and never compared with.
        with contextlib.suppress(OSError):
            position = bisect_left(self._sorted, wanted)
            if position < len(self._sorted) and self._sorted[position].compare(wanted) == 0:
                return self._sorted[position].instance
            self._position = position
        return None

    def add(self, instance: Instance) -> None:
        """Add the instance whose descriptor the last find() did not know."""
        if self._syscall is not None and self._position is not None:
            pid, fd = instance.holders[0]
            self._sorted.insert(self._position, _OpenFile(self._syscall, pid, fd, instance))


class _OpenFile:
    """An open file in the order of kcmp(2)."""

    __slots__ = ("fd", "instance", "pid", "syscall")

    def __init__(self, syscall: int, pid: int, fd: int, instance: Instance | None = None) -> None:
        self.syscall = syscall
        self.pid = pid
        self.fd = fd
        self.instance = instance

    def __lt__(self, other: _OpenFile) -> bool:
        return self.compare(other) == 1

    def compare(self, other: _OpenFile) -> int:
        """Return 0 if both are the same open file, 1 if this one is less, 2 if it is greater."""
        answer = _libc.syscall(
            self.syscall, self.pid, other.pid, KCMP_FILE, ctypes.c_ulong(self.fd), ctypes.c_ulong(other.fd)
        )
        if answer < 0:
            raise OSError(ctypes.get_errno(), "kcmp")
        return answer
