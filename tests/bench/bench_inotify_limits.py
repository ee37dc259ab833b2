#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""inotify_limits with 100,000 watches in 500 processes, compared with a shell script and inotify-info.

python tests/bench/bench_inotify_limits.py [--inotify-info PATH] [--processes 500] [--watches 100000] [--runs 5]

inotify-info is the C++ tool of github.com/mikesart/inotify-info, built with its own `make`. Needs root: if the limit of
instances is too low, it is raised for the run and restored. The benchmark fails if a program that it times fails, or if
a count is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
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

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _inotify_limits  # noqa: E402
from tests.integration import inotify_faults as faults  # noqa: E402

# Prints uid, instances and watches of each user. One grep for each file would take twenty times as long.
SHELL = r"""
find /proc/[0-9]*/fd -lname anon_inode:inotify -printf '%p\n' 2>/dev/null |
  sed 's,/fd/,/fdinfo/,' | xargs grep -c '^inotify' 2>/dev/null |
  while IFS=: read -r file watches; do
    pid=${file#/proc/}; echo "$(stat -c %u /proc/${pid%%/*}) $watches"
  done | awk '{ instances[$1]++; watches[$1] += $2 } END { for (u in watches) print u, instances[u], watches[u] }'
"""
# Prints the users of the measurement.
NEW_PROCESS = """
import json, sys
sys.path.insert(0, %r)
from ansible_collections.tracktion.ops.plugins.module_utils._measures import _inotify_limits as module
measured = module.measure({name: option.get("default") for name, option in module.ARGUMENT_SPEC.items()})
print(json.dumps(measured["users"]))
""" % str(ROOT / "playbooks" / "collections")
MEASURE = "inotify_limits, measure()"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inotify-info", default=shutil.which("inotify-info"))
    parser.add_argument("--processes", type=int, default=500)
    parser.add_argument("--watches", type=int, default=100000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()

    limit = int((faults.LIMITS / "max_user_instances").read_text())
    raised = {"max_user_instances": arguments.processes + 50} if limit < arguments.processes + 50 else {}
    expected = (arguments.processes, arguments.watches)
    with faults.limits(**raised), held(arguments.processes, arguments.watches):
        # Each returns the instances and watches of the test user, or null if its output has no users.
        contenders = {
            MEASURE: lambda: use_in(measure()["users"]),
            "inotify_limits, new Python process": lambda: use_in(json.loads(run(sys.executable, "-c", NEW_PROCESS))),
            "find and grep in a shell": lambda: use_in_table(run("sh", "-c", SHELL)),
        }
        if arguments.inotify_info:
            contenders["inotify-info (C++)"] = lambda: run_inotify_info(arguments.inotify_info)
        times = {name: [] for name in contenders}
        # In turns, so that other load on the machine affects all of them.
        for _run in range(arguments.runs):
            for name, contender in contenders.items():
                started = time.perf_counter()
                found = contender()
                times[name].append(time.perf_counter() - started)
                if found not in (None, expected):
                    raise SystemExit("%s counted %s (instances, watches), not %s" % (name, found, expected))
    print("%d watches in %d processes; %d runs" % (arguments.watches, arguments.processes, arguments.runs))
    table(times)
    if not arguments.inotify_info:
        print("inotify-info is absent: build it from github.com/mikesart/inotify-info and set --inotify-info")


def measure():
    return _inotify_limits.measure(
        {name: option.get("default") for name, option in _inotify_limits.ARGUMENT_SPEC.items()}
    )


def use_in(users):
    """Return the instances and watches of the test user in a measurement."""
    user = next(user for user in users if user["uid"] == faults.OTHER_UID)
    return user["instances_at_least"], user["watches_at_least"]


def use_in_table(text):
    """Return the instances and watches of the test user in the output of ``SHELL``."""
    rows = [[int(word) for word in line.split()] for line in text.splitlines()]
    return next((instances, watches) for uid, instances, watches in rows if uid == faults.OTHER_UID)


def run_inotify_info(path):
    """Run inotify-info, which reports processes, not users."""
    run(path)


def run(*words):
    """Return the output of a program. Raises SystemExit if it fails."""
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, text=True, check=False)
    if done.returncode:
        raise SystemExit("%s failed with %d: %s" % (words[0], done.returncode, done.stderr.strip()))
    return done.stdout


def table(times):
    reference = statistics.median(times[MEASURE])
    print("%-42s %8s %8s %8s %7s" % ("", "median", "least", "most", "ratio"))
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print("%-42s %7.3fs %7.3fs %7.3fs %7.2f" % (name, median, min(seconds), max(seconds), median / reference))


@contextlib.contextmanager
def held(processes, watches):
    """Run processes of the test user that hold this number of watches together."""
    each, more = divmod(watches, processes)
    pids = []
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        folders = [os.path.join(root, str(number)) for number in range(each + bool(more))]
        for folder in folders:
            os.mkdir(folder)
        try:
            for number in range(processes):
                pids.append(hold(folders[: each + (number < more)]))
            yield pids
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def hold(folders):
    """Start a process that watches these directories; return its pid when it does."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            faults.become(faults.OTHER_UID)
            fd = faults.libc.inotify_init1(0)
            for folder in folders:
                faults.libc.inotify_add_watch(fd, os.fsencode(folder), 0x100)
            os.close(writing)
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return pid


if __name__ == "__main__":
    main()
