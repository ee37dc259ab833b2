#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill ansible-playbook at each task of restore.yml, of its undo, of backup.yml and of prove_backup.yml.

    python tests/bench/bench_controller_kills.py [RUN ...] [--random 20] [--suite bookworm] [--seed 15]

RUN is one of restore, undo, backup, prove_backup. First at the begin of each task, then at random moments of tasks.
A database of PostgreSQL, and two services that restore.yml stops. After each kill, and the end of the module that was
at work: the name is that of the old or of the new database. After the next run, which has to succeed: it is the wanted
one, both services run, and no record, database or incomplete backup is left.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from tests.bench.goals import Goals  # noqa: E402
from tests.integration.controller_kills import rig  # noqa: E402
from tests.integration.postgresql import database  # noqa: E402

RUNS = ("restore", "undo", "backup", "prove_backup")


def one(found, which, kill="", seconds=0.0):
    """Kill one run and run again. Return what the kill left, the problems, and the first run."""
    # The first backup: those of backup.yml are of the other rows.
    first = {"recovery_stamp": found.stamp}
    options = {**found.services, **first} if which in ("restore", "undo") else {}
    if which == "undo":
        assert found.run("restore", **first).code == 0
        options = {**options, "recovery_undo": "last"}
    wanted = "new" if which == "restore" else "old"
    playbook = "restore" if which == "undo" else which
    run = found.run(playbook, kill=kill, seconds=seconds, **options)
    left = "%s, %s" % (found.live(), "+".join(found.running()) or "no service")
    problems = [] if found.live() in ("old", "new") else [found.live()]
    if kill:
        again = found.run(playbook, **options)
        # Killed after the work was done, before its report.
        if again.code and not (which == "undo" and " aside since the last restore of " in again.output):
            problems.append("next run: " + again.output[-1500:])
    if found.live() != wanted or found.running() != ["api", "web"]:
        problems.append("next run: %s, %s" % (found.live(), found.running()))
    problems += ["left: " + each for each in found.left()]
    found.reset()
    return "killed, " + left if run.code < 0 else "completed, " + left, problems, run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", default=list(RUNS), metavar="RUN")
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--seed", type=int, default=15)
    arguments = parser.parse_args()
    goals = Goals()
    chance = random.Random(arguments.seed)
    with (
        database(arguments.suite) as pg,
        tempfile.TemporaryDirectory() as folder,
        rig(pg, "bench_controller", Path(folder)) as found,
    ):
        for which in arguments.runs:
            began = time.monotonic()
            _left, wrong, run = one(found, which)
            assert not wrong, wrong
            whole = time.monotonic() - began
            points = [(task, 0.0) for task in run.tasks]
            # Half of a task that lasts as long as the whole run.
            points += [(chance.choice(run.tasks), chance.uniform(0, whole / 2)) for _number in range(arguments.random)]
            total = 0
            for task, seconds in points:
                left, wrong, _run = one(found, which, task, seconds)
                total += len(wrong)
                print("%-13s %-60s %5.2f s  %s" % (which, task[:60], seconds, left), flush=True)
                for text in wrong:
                    print("    " + text, flush=True)
            goals.check("problems of %s, %d kills" % (which, len(points)), total, at_most=0)
    goals.exit()


if __name__ == "__main__":
    main()
