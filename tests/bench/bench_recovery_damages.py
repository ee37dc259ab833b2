#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flip bits of backups and truncate their files, and restore them: all damage has to be found before the swap.

    python tests/bench/bench_recovery_damages.py [BACKUP ...] [--number 100] [--resealed] [--suite bookworm] [--seed 15]

BACKUP is one of pg_custom, pg_directory, redis, rabbitmq. With --resealed, the manifest has the checksum of the damaged
file, as if it had been damaged before: then it is found by reading the file, or by the comparison of what it restores.
A copy that is equal to the manifest nevertheless is counted as `equal`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from tests.bench.bench_recovery_kills import NAME, PgRestore, RabbitmqRestore, RedisRestore  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402
from tests.integration import recovery_faults  # noqa: E402
from tests.integration.modules import run_module  # noqa: E402
from tests.integration.postgresql import database  # noqa: E402
from tests.integration.rabbitmq import broker  # noqa: E402
from tests.integration.recovery_databases import rich  # noqa: E402
from tests.integration.redis_lab import cache  # noqa: E402

FOUND = {"damaged", "no_backup", "not_loaded"}
# Of a file that was damaged before its checksum was computed.
READ = {*FOUND, "program_failed", "different", "no_archive", "aborted"}


class Custom(PgRestore):
    more = {"format": "custom", "row_hashes": True}

    def __init__(self, folder, server):
        super().__init__(folder, server)
        made = run_module("pg_backup", {**self.backup_options, **self.more})
        assert made["result"] == "done", made


class InDirectory(Custom):
    more = {"format": "directory", "row_hashes": True}


BACKUPS = {
    "pg_custom": (database, Custom),
    "pg_directory": (database, InDirectory),
    "redis": (cache, RedisRestore),
    "rabbitmq": (broker, RabbitmqRestore),
}


def outcomes(program, copies, number, seed, resealed):
    """Return how each damage was found, and the problems."""
    ((kind, name),) = program.store.names()
    artefact = program.store.list(kind, name)[0]
    program.options()
    before = program.left()[0]
    found, problems = Counter(), []
    for directory, damage in recovery_faults.damages(artefact, copies, number, seed, resealed):
        # They take away what the damage before has imported.
        options = {**program.options(), "stamp": artefact.stamp}
        result = run_module(program.module, {**options, "directory": str(directory)})
        outcome = result.get("kind") if result.get("failed") else "equal"
        word, wrong = program.left()
        # With a checksum that fits, a valid message is restored as it is, up to one that the broker rejects.
        changed = word != before and not (resealed and outcome in ("equal", "aborted"))
        if changed or wrong or outcome not in (READ | {"equal"} if resealed else FOUND):
            problems.append("%s: %s, %s %s" % (damage, result.get("msg"), word, wrong))
            print("    " + problems[-1], flush=True)
        found[(damage.split()[0], outcome)] += 1
        if outcome == "equal":
            run_module(program.module, {**options, "state": "ended", "operation": result.get("operation")})
    return found, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backups", nargs="*", default=list(BACKUPS), metavar="BACKUP")
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--resealed", action="store_true")
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--seed", type=int, default=15)
    arguments = parser.parse_args()
    goals = Goals()
    for name in arguments.backups:
        kind, factory = BACKUPS[name]
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(kind(arguments.suite))
            if kind is database:
                stack.enter_context(rich(server, NAME))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracktion-")))
            program = factory(folder / "program", server)
            (folder / "copies").mkdir()
            found, problems = outcomes(program, folder / "copies", arguments.number, arguments.seed, arguments.resealed)
        print("%s%s:" % (name, ", resealed" if arguments.resealed else ""))
        for (damage, outcome), count in sorted(found.items()):
            print("  %-12s %-16s %4d" % (damage, outcome, count), flush=True)
        goals.check("damages of %s that were not found" % name, len(problems), at_most=0)
    goals.exit()


if __name__ == "__main__":
    main()
