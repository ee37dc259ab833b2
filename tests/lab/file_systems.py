# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small file systems in a mount namespace of their own, which other processes of the machine do not see."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from .shell import run

CLONE_NEWNS = 0x00020000
HOLD = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x00020000) == 0
assert libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None) == 0
print("ready", flush=True)
sys.stdin.read()
"""
# A FUSE server that answers INIT only. It reads the other requests, so that the kernel waits for them in state D, and
# not even SIGKILL ends the process that asks, as with a failed NFS server.
SERVE = """
import ctypes, os, select, struct, sys
target = os.fsencode(sys.argv[1])
fd = os.open("/dev/fuse", os.O_RDWR)
data = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fd
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mount(b"nas:/music", target, b"fuse.stuck", 0, data) == 0, os.strerror(ctypes.get_errno())
started = struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, *[0] * 8)
print("ready", flush=True)
while True:
    select.select([fd], [], [])
    request = os.read(fd, 1 << 17)
    _length, opcode, unique = struct.unpack_from("<IIQ", request)
    if opcode == 26:
        os.write(fd, struct.pack("<IiQ", 16 + len(started), 0, unique) + started)
"""
libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A mount namespace that a process holds."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def enter(self) -> None:
        """Move this process, which must have one thread, to the namespace."""
        descriptor = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY)
        try:
            if libc.setns(descriptor, CLONE_NEWNS) < 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)

    def path(self, inner: str | Path) -> Path:
        """Return the path by which a process outside of the namespace reaches a file in it."""
        return Path(f"/proc/{self.pid}/root") / str(inner).lstrip("/")

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in a process in the namespace. Raises AssertionError if it raised; it prints why."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                self.enter()
                function()
                status = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)
        _pid, status = os.waitpid(child, 0)
        if status:
            raise AssertionError("the function failed in the mount namespace")

    def run(self, *command: str | Path) -> str:
        """Run a command in the namespace and return its output."""
        return run("nsenter", "--mount", "--target", str(self.pid), "--", *command)

    def ext4(self, target: Path, size: str, *options: str) -> Path:
        """Mount a new ext4 file system of a size such as 64M. ``options`` are those of mkfs.ext4."""
        image = target.with_name(target.name + ".image")
        run("truncate", "--size", size, image)
        run("mkfs.ext4", "-q", "-F", "-m", "0", *options, image)
        target.mkdir(exist_ok=True)
        self.run("mount", "-o", "loop", image, target)
        return self.path(target)

    def tmpfs(self, target: Path, size: str) -> Path:
        """Mount a new tmpfs."""
        target.mkdir(exist_ok=True)
        self.run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", target)
        return self.path(target)


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """A mount namespace. Its mounts go away with it."""
    with _program(sys.executable, "-c", HOLD) as process:
        yield Namespace(process.pid)


@contextlib.contextmanager
def stuck_mount(found: Namespace, target: Path) -> Iterator[None]:
    """A mount in the namespace that never answers. Processes that wait for it go on afterwards."""
    target.mkdir(exist_ok=True)
    enter = ("nsenter", "--mount", "--target", str(found.pid), "--")
    with _program(*enter, sys.executable, "-c", SERVE, str(target)):
        yield


@contextlib.contextmanager
def _program(*command: str) -> Iterator[subprocess.Popen]:
    """Run a program that prints ``ready``, and end it."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the program did not start")
            yield process
        finally:
            process.kill()
