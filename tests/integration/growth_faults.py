# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that leak, or use memory without a leak, and a file system that fills."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import time

from ansible_collections.tracktion.ops.plugins.module_utils._host import _history
from tests.lab.shell import wait_until

# Both follow the clock, so that a busy machine changes nothing. A leak, by its MiB a second.
LEAK = """
import sys, time
kept, began = [], time.monotonic()
while True:
    while len(kept) < 8 * float(sys.argv[1]) * (time.monotonic() - began):
        kept.append(b"x" * (1 << 17))
    time.sleep(0.05)
"""
# Noise around 24 MiB: it begins at its peak.
NOISE = """
import random, time
kept, value = [b"x" * (1 << 20) for number in range(48)], 0.0
while True:
    value = 0.5 * value + random.gauss(0, 3)
    wanted = int(min(40, max(8, 24 + value)))
    del kept[wanted:]
    while len(kept) < wanted:
        kept.append(b"x" * (1 << 20))
    time.sleep(0.3)
"""
# A file that grows, by its path and KiB a second.
FILL = """
import sys, time
written, began = 0, time.monotonic()
with open(sys.argv[1], "wb", buffering=0) as stream:
    while True:
        wanted = int(1024 * float(sys.argv[2]) * (time.monotonic() - began))
        stream.write(bytes(max(0, wanted - written)))
        written = max(wanted, written)
        time.sleep(0.05)
"""


@contextlib.contextmanager
def orphan(code, *arguments):
    """A process that is no child of this one, as a service: the diagnosis leaves out its own processes."""
    started = subprocess.run(
        ["sh", "-c", 'python3 -c "$@" >/dev/null 2>&1 & echo $!', "sh", code, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    pid = int(started.stdout)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not os.path.exists("/proc/%d" % pid) or _is_zombie(pid), "the process to end", 30)


def _is_zombie(pid):
    with contextlib.suppress(OSError), open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as stream:
        return stream.read().rpartition(")")[2].split()[0] == "Z"
    return True


def leave_free(folder, size):
    """Fill a small file system up to ``size`` bytes."""
    free = os.statvfs(folder)
    with open(os.path.join(folder, "full"), "wb", buffering=0) as stream:
        stream.write(bytes(free.f_bavail * free.f_frsize - size))


def _write_on(path, started):
    empty = _history.now({}, {})
    while True:
        _history.visit(path, [empty])
        started.set()


def kill_a_writer(path, seconds):
    """Start a process that writes the history without a pause, and kill it with SIGKILL after ``seconds``."""
    context = multiprocessing.get_context("fork")
    started = context.Event()
    writer = context.Process(target=_write_on, args=(path, started))
    writer.start()
    try:
        assert started.wait(60)
        time.sleep(seconds)
    finally:
        writer.kill()
        writer.join()
