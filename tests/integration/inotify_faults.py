# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that hold inotify watches, and file systems that misbehave, for as long as a test needs them.

Users in here own nothing else on the machine, as inotify's limits count for each user over everything.
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

SOMEBODY = 61234
LIMITS = Path("/proc/sys/fs/inotify")
libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
PR_SET_DUMPABLE = 4
MS_REC, MS_PRIVATE = 0x4000, 1 << 18


def become(uid):
    """Give up all privileges for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # A process that has changed its user is hidden even from that user, until it runs another program.
    call(libc.prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)


@contextlib.contextmanager
def watching(directories, uid=0, instances=1, forks=0, prepare=None):
    """A process that watches these directories with each of its instances, which its forks share; yields its pid."""
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
        with os.fdopen(reading) as said:
            lines = [said.readline().strip() for _number in range(forks + 1)]
            assert lines == ["ready"] * (forks + 1), lines
            yield pid
    finally:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def limits(**values):
    """Limits of the running kernel, put back afterwards. They count for everybody: only ever raise them."""
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
    """The limits of the kernel, for one test at a time, and put back after it."""
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
    """A program that runs for as long as the context lasts."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# Mounts that nobody but this process and its children sees


def private_mounts():
    """From now on, what this process mounts is its own affair."""
    call(libc.unshare, CLONE_NEWNS)
    call(libc.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def mount(source, target, kind, data=""):
    call(libc.mount, os.fsencode(source), os.fsencode(target), kind.encode(), 0, os.fsencode(data))


def call(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), function.__name__)


def hide_inotify():
    """A machine without inotify."""
    private_mounts()
    mount("none", LIMITS, "tmpfs")


def fill_inodes(target, inodes, used):
    """A file system on ``target`` with so many inodes, so many of them used."""
    private_mounts()
    mount("few-inodes", target, "tmpfs", "nr_inodes=%d" % inodes)
    for number in range(used):
        os.close(os.open("%s/%d" % (target, number), os.O_CREAT | os.O_WRONLY))


def overlay(target):
    """An overlay on ``target``."""
    private_mounts()
    work = tempfile.mkdtemp()
    mount("none", work, "tmpfs")
    for name in ("lower", "upper", "work"):
        os.mkdir(os.path.join(work, name))
    mount("overlay", target, "overlay", "lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work".format(work))


def dead_mount(target):
    """A mount on ``target`` whose server never answers, as that of a dead NFS server."""
    private_mounts()
    fd = os.open("/dev/fuse", os.O_RDWR)
    mount("dead", target, "fuse", "fd=%d,rootmode=40000,user_id=0,group_id=0" % fd)


def fuse_mount(target):
    """An empty file system in user space on ``target``, served by a thread of this process."""
    private_mounts()
    fd = os.open("/dev/fuse", os.O_RDWR)
    mount("empty", target, "fuse.empty", "fd=%d,rootmode=40000,user_id=0,group_id=0" % fd)
    threading.Thread(target=_serve, args=(fd,), daemon=True).start()


def _serve(fd):
    """As much of the FUSE protocol as an empty directory needs."""
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
        # FORGET asks for no answer.
        if opcode != 2:
            os.write(fd, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


def python():
    """An interpreter that every user may run."""
    return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
