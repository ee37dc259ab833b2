# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kills a restart at every step and at random moments; the next run must start what it had stopped, and nothing else.

python tests/bench/bench_restart_kills.py [RANDOM KILLS [FIRST STEP]]

A stack of three services, and one that a person has stopped. Prints a line for each kill point. The points before and
after each note on the disk and each request to the engine come first, then kills after a random time.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operations  # noqa: E402
from tests.integration.stacks import Killed, kill_at, needs, restart, running, states  # noqa: E402
from tests.lab.throwaway import healthcheck, project, wait_for  # noqa: E402

ALL = {"store", "api", "web"}


def killed_after(seconds):
    """Return a function that makes the module kill itself after ``seconds``."""

    def before():
        def end():
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=end, daemon=True).start()

    return before


def kill(stack, directory, before):
    """Return whether the run was killed, the services that then ran, and what is wrong after the next run."""
    idle = states(stack)[stack.idle]
    state = Path(directory) / "state"
    try:
        restart(stack, state, before=before, health_timeout=30)
        was_killed = False
    except Killed:
        was_killed = True
    left = running(stack)
    problems = []
    outcome = restart(stack, state, state="started", health_timeout=30)
    if outcome.get("failed"):
        problems.append(outcome["msg"])
    if running(stack) != ALL:
        problems.append("running: %s" % sorted(running(stack)))
    if states(stack)[stack.idle] != idle:
        problems.append("the stopped service was changed")
    if _operations.read(str(state)) != ([], []):
        problems.append("the record remains")
    return was_killed, left, problems


def main():
    """Run all points and print a table. The exit status is 1 if one of them has a problem."""
    number, first = map(int, [*sys.argv[1:], *("30", "1")[len(sys.argv) - 1 :]])
    chance = random.Random(5)
    failed = killed = 0
    with project("bench") as stack:
        stack.store = stack.run("store", options=healthcheck("true"))
        stack.api = stack.run("api", labels=needs("store:service_healthy:false"), options=healthcheck("true"))
        stack.web = stack.run("web", labels=needs("api:service_healthy:false"), options=healthcheck("true"))
        stack.idle = stack.run("idle", "true", options=("--restart", "no"))
        for name in (stack.store, stack.api, stack.web):
            wait_for(name, "healthy", lambda state: state["Health"]["Status"] == "healthy")
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            restart(stack, Path(directory) / "state")
        whole = time.monotonic() - began
        # Three stops with three calls each, three starts with two, before and after each.
        points = [("step %d" % point, lambda point=point: kill_at(point)) for point in range(first, 31)]
        moments = [chance.uniform(0.2, whole) for _kill in range(number)]
        points += [("%.2f s" % moment, killed_after(moment)) for moment in moments]
        for name, before in points:
            with tempfile.TemporaryDirectory() as directory:
                was_killed, left, problems = kill(stack, directory, before)
            killed += was_killed
            failed += bool(problems)
            done = "killed" if was_killed else "completed"
            row = (name, done, ",".join(sorted(left)) or "none", "; ".join(problems) or "ok")
            print("%-10s %-9s running then: %-16s %s" % row, flush=True)
    print("%d points, %d kills, %d with a problem; a restart takes %.1f s" % (len(points), killed, failed, whole))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
