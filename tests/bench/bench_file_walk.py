#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The walk for the largest files over 500,000 files, compared with ``du -x``, and the mounts of 10,000 bind mounts.

python tests/bench/bench_file_walk.py [--files 500000] [--mounts 10000] [--runs 5]

The files are empty and the cache is warm: what is measured is the walk. Needs root for the mounts, which are made in a
mount namespace of their own. Goals: not slower than du; a budget that is kept, with what was left out named. Two
processes walk, which take 1.5 times the processor time of du: the first goal needs a second processor that is free.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import Engine  # noqa: E402
from ansible_collections.tracktion.ops.plugins.module_utils._host import _file_systems, _largest, _places  # noqa: E402
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Unknown  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402
from tests.integration.inotify_faults import call, libc, private_mounts  # noqa: E402

FILES_EACH = 40
SUBDIRECTORIES = 50
MS_BIND = 0x1000
BUDGET = 0.3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=500000)
    parser.add_argument("--mounts", type=int, default=10000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    goals = Goals()
    with tempfile.TemporaryDirectory() as folder:
        files = populate(folder, arguments.files)
        contenders = {"walk": lambda: walked(folder, files), "du -x -s": lambda: du(folder)}
        contenders["walk"]()
        times = {name: [] for name in contenders}
        processor = {name: [] for name in contenders}
        # In turns, so that other load on the machine affects both.
        for _run in range(arguments.runs):
            for name, contender in contenders.items():
                before, started = used(), time.perf_counter()
                contender()
                times[name].append(time.perf_counter() - started)
                processor[name].append(used() - before)
        print(
            "%d files; %d runs, %d processors, load %.1f" % (files, arguments.runs, os.cpu_count(), os.getloadavg()[0])
        )
        for name in contenders:
            figures = (name, statistics.median(times[name]), min(times[name]), statistics.median(processor[name]))
            print("  %-10s median %.3f s, least %.3f s; processor time %.3f s" % figures)
        goals.check("walk, least, by that of du", min(times["walk"]) / min(times["du -x -s"]), at_most=1.0)
        started = time.perf_counter()
        part = _largest.walk(folder, (), BUDGET, 10)
        goals.check(
            "seconds of a walk with a budget of %g" % BUDGET, time.perf_counter() - started, at_most=BUDGET + 0.5
        )
        goals.check(
            "directories that it names as left out", part["left_out_total"], at_least=0 if part["complete"] else 1
        )
    mounts(arguments.mounts, goals)
    goals.exit()


def populate(folder, wanted):
    """Create directories with files. Return the number of files."""
    made = number = 0
    while made < wanted:
        path = "%s/%d/%d" % (folder, number // SUBDIRECTORIES, number % SUBDIRECTORIES)
        os.makedirs(path)
        descriptor = os.open(path, os.O_RDONLY)
        for position in range(FILES_EACH):
            name = "a-file-with-a-longer-name-%d.flac" % position
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
        os.close(descriptor)
        made += FILES_EACH
        number += 1
    return made


def walked(folder, files):
    part = _largest.walk(folder, (), 600.0, 10)
    if part["files"] != files:
        raise SystemExit("the walk found %d of %d files" % (part["files"], files))


def du(folder):
    subprocess.run(["du", "-x", "-s", folder], stdout=subprocess.DEVNULL, check=True)


def used():
    """Return the processor time of this process and of those that it has waited for."""
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


def mounts(number, goals):
    """Measure the file systems of a namespace with many mounts, in a process of its own."""
    known = len(goals.missed)
    pid = os.fork()
    if pid == 0:
        try:
            private_mounts()
            with tempfile.TemporaryDirectory() as folder:
                call(libc.mount, b"none", folder.encode(), b"tmpfs", 0, None)
                for position in range(number):
                    path = "%s/%d" % (folder, position)
                    os.mkdir(path)
                    call(libc.mount, b"/tmp", path.encode(), None, MS_BIND, None)
                started, unknown = time.perf_counter(), Unknown()
                view = _places.look([], [], Deadline(60), unknown)
                found = _file_systems.measure(view.places, Engine(), 2.0, Deadline(60), unknown)
                seconds = time.perf_counter() - started
                print("%d mounts, %d file systems" % (len(view.table), len(found)))
                goals.check("seconds for the sizes of their file systems", seconds, at_most=1.5)
                call(libc.umount2, folder.encode(), 2)
        finally:
            os._exit(len(goals.missed) > known)
    if os.waitpid(pid, 0)[1]:
        goals.missed.append("the mounts")


if __name__ == "__main__":
    main()
