# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of the resources of the machine, in containers beside the stack.

The machine is shared: a container that uses the processors has a small weight, and nothing fills the machine's memory.
"""

from __future__ import annotations

import os
import subprocess
import sys

from ..engine import docker
from ..shell import LabError, wait_until
from ..throwaway import project
from . import fault

# Threads per processor: the load average follows within seconds.
HOGS = 16
SMALL_WEIGHT = ("--cpu-shares", "64")
HOG = "for each in $(seq %d); do while :; do :; done & done; wait"
# A parent that starts children and never waits for them.
ZOMBIES = """
import os, time
for number in range(%d):
    if not os.fork():
        os._exit(0)
print("ready", flush=True)
time.sleep(36000)
"""
# The parent, which holds so many MiB, survives, and each of its children is killed: one after so many seconds.
KILLS = """
import os, time
held = bytearray(%d << 20)
open("/proc/self/oom_score_adj", "w").write("0")
while True:
    pid = os.fork()
    if not pid:
        open("/proc/self/oom_score_adj", "w").write("1000")
        bytearray(64 << 20)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    print("killed" if status == 9 else "ended %%d" %% status, flush=True)
    time.sleep(%g)
"""
SMALL_MEMORY = ("--memory", "32m", "--memory-swap", "32m")


@fault(fires=["host_resources.cpu_saturated", "host_resources.cpu_hog"])
def cpu_hog(lab):
    """A container computes with 16 threads for each processor, and all others wait."""
    cores = os.cpu_count() or 1
    with project(lab.project) as others:
        others.run("transcoder", "sh", "-c", HOG % (HOGS * cores), options=SMALL_WEIGHT)
        wait_until(lambda: os.getloadavg()[0] > 3 * cores, "the load average to follow", 60)
        yield


@fault(fires=["host_resources.zombies"])
def zombies(lab):
    """A program outside of containers starts 25 children and never waits for them: they remain as zombies."""
    command = [sys.executable, "-c", ZOMBIES % 25]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as parent:
        try:
            if parent.stdout.readline() != "ready\n":
                raise LabError("the parent of the zombies did not start")
            yield
        finally:
            # Its hint does the same. What it leaves is collected by the first process.
            parent.kill()


@fault(fires=["host_resources.oom_kill"])
def repeated_oom_kills(lab):
    """A program in a container with 32 MiB needs more, again and again, and the kernel kills it."""
    with project(lab.project) as others:
        name = others.run("importer", "python3", "-c", KILLS % (0, 0.3), options=SMALL_MEMORY)
        wait_until(lambda: "killed" in docker("logs", name), "the first kill", 30)
        yield


# A deleted file fills a small file system. It is created once: a restart of the container frees the space.
SPOOL = """
import os, time
if not os.path.exists("/once"):
    open("/once", "w").close()
    spool = open("/spool/decoded.wav", "wb", buffering=0)
    try:
        while spool.write(b"x" * 65536):
            pass
    except OSError:
        os.unlink("/spool/decoded.wav")
        print("full", flush=True)
time.sleep(36000)
"""
LEFTOVERS = "head -c 20000000 /dev/zero >/tmp/leftover.wav; echo full; exec sleep infinity"


@fault(fires=["host_resources.file_system_full"])
def full_temporary_directory(lab):
    """The temporary directory of a container, 16 MiB in memory, is full of what an analysis has left behind."""
    with project(lab.project) as others:
        name = others.run("decoder", "sh", "-c", LEFTOVERS, options=("--tmpfs", "/tmp:size=16m"))
        wait_until(lambda: "full" in docker("logs", name), "the directory to be full", 30)
        yield


@fault(fires=["host_resources.deleted_open_files", "host_resources.file_system_full"])
def deleted_file_open(lab):
    """A program in a container has deleted a file that fills the 16 MiB of its file system, and keeps it open."""
    with project(lab.project) as others:
        name = others.run("spooler", "python3", "-c", SPOOL, options=("--tmpfs", "/spool:size=16m"))
        wait_until(lambda: "full" in docker("logs", name), "the file system to be full", 30)
        yield
