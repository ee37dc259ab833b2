# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that hold inotify watches, and faulty file systems, for the duration of a test.

The test user owns no other process on the machine, because inotify's limits apply to each user across the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

# The uid of the test user.
OTHER_UID = 61234
LIMITS = Path("/proc/sys/fs/inotify")
libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
PR_SET_DUMPABLE = 4
MS_REC, MS_PRIVATE = 0x4000, 1 << 18


def become(uid):
    """Change to this user and drop all privileges."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # After a change of user, /proc denies access even to that user, unless the process is dumpable.
    call(libc.prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)


@contextlib.contextmanager
def watching(directories, uid=0, instances=1, forks=0, prepare=None):
    """Run a process that watches these directories with each of its instances, shared with its forks; yield its pid."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        try:
            if prepare:
                prepare()
            if uid:
                become(uid)
            for _number in range(instances):
                fd = libc.inotify_init1(0)
                for directory in directories if fd >= 0 else ():
                    # IN_CREATE | IN_OPEN
                    if libc.inotify_add_watch(fd, os.fsencode(directory), 0x120) < 0:
                        os.write(writing, b"error %d\n" % ctypes.get_errno())
            for _number in range(forks):
                if os.fork() == 0:
                    break
            os.write(writing, b"ready\n")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(writing)
        with os.fdopen(reading) as output:
            lines = [output.readline().strip() for _number in range(forks + 1)]
            assert lines == ["ready"] * (forks + 1), lines
            yield pid
    finally:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def limits(**values):
    """Set limits of the running kernel and restore them. They apply to all users: only raise them."""
    before = {name: (LIMITS / name).read_text() for name in values}
    try:
        for name, value in values.items():
            (LIMITS / name).write_text("%d\n" % value)
        yield
    finally:
        for name, value in before.items():
            (LIMITS / name).write_text(value)


@contextlib.contextmanager
def limits_put_back():
    """Lock the limits of the kernel for one test, and restore them."""
    with open("/run/lock/tracktion-test-inotify", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = {name: (LIMITS / name).read_text() for name in os.listdir(LIMITS)}
        try:
            yield
        finally:
            for name, value in before.items():
                (LIMITS / name).write_text(value)


@contextlib.contextmanager
def program(*words, **options):
    """Run a program during the context."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# Mounts in a private mount namespace


def private_mounts():
    """Move this process to a mount namespace of its own."""
    call(libc.unshare, CLONE_NEWNS)
    call(libc.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def mount(source, target, kind, data=""):
    call(libc.mount, os.fsencode(source), os.fsencode(target), kind.encode(), 0, os.fsencode(data))


def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), function.__name__)


def hide_inotify():
    """Hide inotify from this process."""
    private_mounts()
    mount("none", LIMITS, "tmpfs")


def fill_inodes(target, inodes, used):
    """Mount a file system on ``target`` with the given numbers of inodes and used inodes."""
    private_mounts()
    mount("few-inodes", target, "tmpfs", "nr_inodes=%d" % inodes)
    for number in range(used):
        os.close(os.open("%s/%d" % (target, number), os.O_CREAT | os.O_WRONLY))


def overlay(target):
    """Mount an overlay on ``target``."""
    private_mounts()
    work = tempfile.mkdtemp()
    mount("none", work, "tmpfs")
    for name in ("lower", "upper", "work"):
        os.mkdir(os.path.join(work, name))
    mount("overlay", target, "overlay", "lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work".format(work))


def dead_mount(target):
    """Mount a file system on ``target`` whose server never answers, like a failed NFS server."""
    private_mounts()
    fd = os.open("/dev/fuse", os.O_RDWR)
    mount("dead", target, "fuse", "fd=%d,rootmode=40000,user_id=0,group_id=0" % fd)


def fuse_mount(target):
    """Mount an empty FUSE file system on ``target``, served by a thread of this process."""
    private_mounts()
    fd = os.open("/dev/fuse", os.O_RDWR)
    mount("empty", target, "fuse.empty", "fd=%d,rootmode=40000,user_id=0,group_id=0" % fd)
    threading.Thread(target=_serve, args=(fd,), daemon=True).start()


def _serve(fd):
    """Serve the part of the FUSE protocol that an empty directory needs."""
    attributes = struct.pack("<6Q10I", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
    answers = {
        3: struct.pack("<QII", 1, 0, 0) + attributes,  # GETATTR
        17: bytes(80),  # STATFS
        26: struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, *[0] * 8),  # INIT
        27: struct.pack("<QII", 0, 0, 0),  # OPENDIR
        28: b"",  # READDIR
        29: b"",  # RELEASEDIR
    }
    while True:
        select.select([fd], [], [])
        try:
            request = os.read(fd, 1 << 17)
        except OSError:
            return
        _length, opcode, unique = struct.unpack_from("<IIQ", request)
        if opcode in answers:
            body, error = answers[opcode], 0
        else:
            body, error = b"", -38
        # FORGET has no reply.
        if opcode != 2:
            os.write(fd, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


def python():
    """Return an interpreter that every user can execute."""
    return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
