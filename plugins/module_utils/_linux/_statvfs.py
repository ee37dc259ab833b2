# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the sizes of file systems in processes that can be abandoned. Private to this collection.

A call on a mount whose server is gone may stay in state D, which even SIGKILL does not end. One process reads all local
file systems one after the other; mounts that may hang get processes of their own. A process that hangs costs its mount
the timeout, and another process reads the rest.

A process that is left behind carries the number of the device in its name, so that the next measurement finds it in
/proc and starts no second one: no file is needed, and another user cannot forge it, because the owner is compared.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import time
from typing import Dict, Iterable, NamedTuple, NoReturn, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline

# File systems that answer from memory of this kernel. All others may wait for a server or for another process.
LOCAL = frozenset(
    ("bcachefs", "btrfs", "devtmpfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hugetlbfs", "jfs", "nilfs2", "overlay")
    + ("ramfs", "reiserfs", "rootfs", "squashfs", "tmpfs", "ubifs", "vfat", "xfs", "zfs", "erofs", "iso9660", "udf")
)
# Processes at the same time for mounts that may hang.
SIDE_BY_SIDE = 64
# The name of a process, at most 15 characters for the kernel.
NAME = "statvfs%08x"
RECORD = struct.Struct("=II7QQ")
PAUSE = 0.02
# States of a process that is not waiting in the kernel: it has no CPU, or has ended.
NOT_HANGING = "RZX"


class Target(NamedTuple):
    """A mount to read. ``may_hang``: its file system, or one on the way to it, is not local."""

    device: int
    path: str
    may_hang: bool


class Sizes(NamedTuple):
    """Numbers of statvfs(3): sizes in bytes, inodes, and the flags."""

    bytes: int
    free: int
    available: int
    inodes: int
    inodes_free: int
    inodes_available: int
    flags: int


class Answer(NamedTuple):
    """The sizes; or the error number; or, of a mount that hangs, since when (epoch seconds)."""

    sizes: Sizes | None = None
    errno: int | None = None
    hung_since: float | None = None


# Answers by the position of their targets; the missing ones were not read before the deadline.
Answers = Dict[int, Answer]


class _Reader:
    """A process that reads the targets at ``positions``, in this order."""

    def __init__(self, targets: Sequence[Target], positions: Sequence[int]) -> None:
        self.positions = list(positions)
        self.done = 0
        self.received = b""
        self.pipe, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _read_in_child(writing, [(position, targets[position]) for position in self.positions])
        os.close(writing)
        self.moved = time.monotonic()

    def receive(self, answers: Answers) -> bool:
        """Take what the process has written. Return whether it continues."""
        chunk = os.read(self.pipe, 65536)
        self.received += chunk
        while len(self.received) >= RECORD.size:
            position, error, *numbers = RECORD.unpack_from(self.received)
            self.received = self.received[RECORD.size :]
            answers[position] = Answer(errno=error) if error else Answer(_sizes(numbers))
            self.done += 1
            self.moved = time.monotonic()
        return bool(chunk)

    def is_waiting_for_cpu(self) -> bool:
        """Return whether the process only lacks a CPU."""
        with contextlib.suppress(OSError, IndexError):
            return _processes.stat(self.pid)[0] in NOT_HANGING
        return False

    def end(self) -> None:
        """Kill the process, and leave it behind if the kernel does not end it at once."""
        os.close(self.pipe)
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        for _attempt in range(10):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                    time.sleep(0.001)
                    continue
            return


def read(targets: Sequence[Target], timeout: float, deadline: Deadline) -> Answers:
    """Return the answer of each target, by its position. A mount hangs after ``timeout`` seconds without an answer."""
    answers: Answers = {}
    remote = [position for position, target in enumerate(targets) if target.may_hang]
    if remote:
        since = left_behind(timeout, deadline)
        for position in remote:
            if targets[position].device in since:
                answers[position] = Answer(hung_since=since[targets[position].device])
        remote = [position for position in remote if position not in answers]
    local = [position for position, target in enumerate(targets) if not target.may_hang]
    shares = [local, *(remote[start::SIDE_BY_SIDE] for start in range(SIDE_BY_SIDE))]
    readers: list[_Reader] = []
    try:
        readers += [_Reader(targets, share) for share in shares if share]
        _collect(targets, readers, answers, timeout, deadline)
    finally:
        for reader in readers:
            reader.end()
    return answers


def _collect(
    targets: Sequence[Target], readers: list[_Reader], answers: Answers, timeout: float, deadline: Deadline
) -> None:
    """Receive until all readers have ended, or the deadline has come. A reader that hangs is replaced."""
    while readers and not deadline.expired():
        pause = min(max(0.0, reader.moved + timeout - time.monotonic()) for reader in readers)
        # Not select(), which accepts no descriptors above 1023.
        poll = select.poll()
        by_pipe = {reader.pipe: reader for reader in readers}
        for pipe in by_pipe:
            poll.register(pipe, select.POLLIN)
        for pipe, _event in poll.poll(1000 * deadline.remaining(max(pause, PAUSE))):
            reader = by_pipe[pipe]
            if not reader.receive(answers):
                readers.remove(reader)
                reader.end()
        for reader in list(readers):
            if time.monotonic() < reader.moved + timeout or reader.is_waiting_for_cpu():
                continue
            if reader.done < len(reader.positions):
                answers[reader.positions[reader.done]] = Answer(hung_since=round(time.time() - timeout, 3))
            rest = reader.positions[reader.done + 1 :]
            readers.remove(reader)
            reader.end()
            if rest:
                readers.append(_Reader(targets, rest))


def left_behind(timeout: float, deadline: Deadline) -> dict[int, float]:
    """Return since when processes of earlier measurements hang, by device (epoch seconds).

    One that has just begun may belong to another measurement that runs now: it gets its timeout.
    """
    found = _named()
    while found and not deadline.expired():
        now = time.time()
        if all(now - since > timeout for since in found.values()):
            break
        time.sleep(PAUSE)
        found = _named()
    return found


def _named() -> dict[int, float]:
    """Return the processes of this user whose name says that they read a mount: device -> start."""
    prefix, found = NAME[: NAME.index("%")], {}
    user = os.geteuid()
    for pid in _processes.pids():
        with contextlib.suppress(OSError, ValueError):
            with open("/proc/%d/comm" % pid, encoding="utf-8", errors="replace") as stream:
                name = stream.read(64).rstrip("\n")
            if not name.startswith(prefix) or pid == os.getpid() or os.stat("/proc/%d" % pid).st_uid != user:
                continue
            started = _processes.started(pid)
            # A zombie has left the kernel.
            if started is not None and _processes.stat(pid)[0] not in "ZX":
                found[int(name[len(prefix) :], 16)] = started
    return found


def _read_in_child(pipe: int, targets: Iterable[tuple[int, Target]]) -> NoReturn:
    """Write one record for each target, and end the process."""
    try:
        close_all_but(pipe)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for position, target in targets:
            if target.may_hang:
                _rename(NAME % (target.device & 0xFFFFFFFF))
            try:
                got = os.statvfs(target.path)
                record = RECORD.pack(
                    position, 0, got.f_frsize, got.f_blocks, got.f_bfree, got.f_bavail, got.f_files, got.f_ffree,
                    got.f_favail, got.f_flag,
                )  # fmt: skip
            except OSError as exc:
                record = RECORD.pack(position, exc.errno or 5, *[0] * 8)
            os.write(pipe, record)
        os._exit(0)
    finally:
        os._exit(1)


def close_all_but(*kept: int) -> None:
    """Close all other descriptors: a process that is left behind must hold none that another process waits for."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _rename(name: str) -> None:
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as stream:
        stream.write(name)


def _sizes(numbers: Sequence[int]) -> Sizes:
    unit, blocks, free, available, inodes, inodes_free, inodes_available, flags = numbers
    return Sizes(blocks * unit, free * unit, available * unit, inodes, inodes_free, inodes_available, flags)
