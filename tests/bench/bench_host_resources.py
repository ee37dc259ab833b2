#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""host_resources_info with 1,000 more processes and 200 more mounts, compared with the commands of the runbook.

python tests/bench/bench_host_resources.py [--processes 1000] [--mounts 200] [--runs 7]

Needs root. The mounts are in a mount namespace of this process. The interval between the two samples is no work, and is
taken off. Commands that are not installed are named and left out. The benchmark fails if it misses a goal.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _host_resources_info  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402
from tests.integration.inotify_faults import mount, private_mounts  # noqa: E402

INTERVAL = 0.5
COMMANDS = (
    ("top", "-b", "-n1"), ("free",), ("df",), ("df", "-i"), ("ss", "-tuln"), ("iostat",),
)  # fmt: skip
MEASURE, RUNBOOK = "host_resources_info, less the interval", "the commands, one by one"
# Seconds, and the share of the time of the commands.
MOST_SECONDS, MOST_SHARE = 0.3, 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1000)
    parser.add_argument("--mounts", type=int, default=200)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()

    there = [command for command in COMMANDS if shutil.which(command[0])]
    absent = sorted({command[0] for command in COMMANDS if command not in there})
    times = {name: [] for name in (MEASURE, RUNBOOK, *map(" ".join, there))}
    cpu = []
    with mounted(arguments.mounts), started(arguments.processes):
        # In turns, so that other load on the machine affects all of them.
        for _run in range(arguments.runs):
            began, used = time.perf_counter(), time.process_time()
            measured = measure()
            times[MEASURE].append(time.perf_counter() - began - measured["sample_seconds"])
            cpu.append(time.process_time() - used)
            if measured["processes"]["total"] < arguments.processes:
                raise SystemExit("only %d processes were measured" % measured["processes"]["total"])
            of_run = {command: run(*command) for command in there}
            times[RUNBOOK].append(sum(of_run.values()))
            for command, seconds in of_run.items():
                times[" ".join(command)].append(seconds)
    print("%d processes, %d mounts; %d runs" % (measured["processes"]["total"], arguments.mounts, arguments.runs))
    print("%-42s %8s %8s %8s" % ("", "median", "least", "most"))
    for name, seconds in times.items():
        print("%-42s %7.3fs %7.3fs %7.3fs" % (name, statistics.median(seconds), min(seconds), max(seconds)))
    print("CPU time of the module: %.3f s" % statistics.median(cpu))
    if absent:
        print("not installed, and left out: %s" % ", ".join(absent))
    goals = Goals()
    own, others = (statistics.median(times[name]) for name in (MEASURE, RUNBOOK))
    goals.check("the module, less the interval, in seconds", own, at_most=MOST_SECONDS)
    goals.check("as a share of the commands", own / others, at_most=MOST_SHARE)
    goals.exit()


def measure():
    """Return a measurement with the default options and a short interval."""
    options = {name: option.get("default") for name, option in _host_resources_info.ARGUMENT_SPEC.items()}
    return _host_resources_info.measure({**options, "sample_seconds": INTERVAL})


def run(*words):
    """Return the seconds of a command. Raises SystemExit if it fails."""
    began = time.perf_counter()
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit("%s failed: %s" % (" ".join(words), done.stderr.decode(errors="replace").strip()))
    return time.perf_counter() - began


@contextlib.contextmanager
def mounted(number):
    """Mount this number of small file systems, for this process and its children alone."""
    private_mounts()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for each in range(number):
            point = os.path.join(folder, str(each))
            os.mkdir(point)
            mount("none", point, "tmpfs", "size=64k")
        try:
            yield
        finally:
            for each in range(number):
                subprocess.run(["umount", os.path.join(folder, str(each))], check=True)


@contextlib.contextmanager
def started(number):
    """Run this number of processes that sleep."""
    pids = []
    try:
        for _each in range(number):
            pid = os.fork()
            if not pid:
                signal.pause()
                os._exit(0)
            pids.append(pid)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
