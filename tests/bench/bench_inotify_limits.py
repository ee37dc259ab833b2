#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""inotify_limits on 100,000 watches in 500 processes, against a shell script that counts the same, and inotify-info.

python tests/bench/bench_inotify_limits.py [--inotify-info PATH] [--processes 500] [--watches 100000] [--runs 5]

inotify-info is the C++ tool of github.com/mikesart/inotify-info, built by its own `make`. As root: the limit of
instances is raised for the run where it is too low, and put back.
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

from ansible_collections.tracktion.ops.plugins.module_utils._measures import _inotify_limits  # noqa: E402
from tests.integration import inotify_faults as faults  # noqa: E402

# Per user: instances and watches. One grep for each file would take twenty times as long.
SHELL = r"""
find /proc/[0-9]*/fd -lname anon_inode:inotify -printf '%p\n' 2>/dev/null |
  sed 's,/fd/,/fdinfo/,' | xargs grep -c '^inotify' 2>/dev/null |
  while IFS=: read -r file watches; do
    pid=${file#/proc/}; echo "$(stat -c %u /proc/${pid%%/*}) $watches"
  done | awk '{ instances[$1]++; watches[$1] += $2 } END { for (u in watches) print u, instances[u], watches[u] }'
"""
ALONE = (
    "import sys; sys.path.insert(0, %r); "
    "from ansible_collections.tracktion.ops.plugins.module_utils import _inotify_limits as m; "
    "m.measure({name: option.get('default') for name, option in m.ARGUMENT_SPEC.items()})"
) % str(ROOT / "playbooks" / "collections")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inotify-info", default=shutil.which("inotify-info"))
    parser.add_argument("--processes", type=int, default=500)
    parser.add_argument("--watches", type=int, default=100000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()

    limit = int((faults.LIMITS / "max_user_instances").read_text())
    raised = {"max_user_instances": arguments.processes + 50} if limit < arguments.processes + 50 else {}
    with faults.limits(**raised), held(arguments.processes, arguments.watches) as pids:
        contenders = {
            "inotify_limits, measuring": measure,
            "inotify_limits, with the start of Python": lambda: command(sys.executable, "-c", ALONE),
            "find and grep in a shell": lambda: command("sh", "-c", SHELL),
        }
        if arguments.inotify_info:
            contenders["inotify-info (C++)"] = lambda: command(arguments.inotify_info)
        times = {name: [] for name in contenders}
        # In turns, so that what else the machine does meets all of them.
        for _run in range(arguments.runs):
            for name, contender in contenders.items():
                started = time.perf_counter()
                contender()
                times[name].append(time.perf_counter() - started)
        seen = next(user for user in measure()["users"] if user["uid"] == faults.SOMEBODY)
    print("%d watches in %d processes; %d runs" % (arguments.watches, len(pids), arguments.runs))
    if (seen["watches_at_least"], seen["instances_at_least"]) != (arguments.watches, len(pids)):
        raise SystemExit(
            "inotify_limits counted %(watches_at_least)d watches in %(instances_at_least)d instances" % seen
        )
    table(times)
    if not arguments.inotify_info:
        print("inotify-info is absent: build it from github.com/mikesart/inotify-info and name it with --inotify-info")


def measure():
    return _inotify_limits.measure(
        {name: option.get("default") for name, option in _inotify_limits.ARGUMENT_SPEC.items()}
    )


def command(*words):
    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False)


def table(times):
    ours = statistics.median(times["inotify_limits, measuring"])
    print("%-42s %8s %8s %8s %7s" % ("", "median", "least", "most", "ratio"))
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print("%-42s %7.3fs %7.3fs %7.3fs %7.2f" % (name, median, min(seconds), max(seconds), median / ours))


@contextlib.contextmanager
def held(processes, watches):
    """So many processes of one user with so many watches between them."""
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
    """A process that watches these directories; returns once it does."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            faults.become(faults.SOMEBODY)
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
