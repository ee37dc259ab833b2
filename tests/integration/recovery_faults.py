# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interrupts restores of PostgreSQL, and damages backups: for a few tests, and for many runs of the bench."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.integration.modules import IN_CONTAINER, ROOT, run_module
from tests.integration.recovery_databases import module_options

ENVIRONMENT = {"PYTHONPATH": "%s:%s" % (ROOT, ROOT / "playbooks/collections")}


def begun(name, options):
    """Return a process that runs a module."""
    command = [sys.executable, "-c", IN_CONTAINER, json.dumps([name, options])]
    return subprocess.Popen(
        command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def result_of(process, seconds=120):
    """Return the result of a module, or null if it was killed."""
    output = process.communicate(timeout=seconds)[0]
    return json.loads(output.strip().splitlines()[-1]) if output.strip() else None


def programs_of(pid):
    """Return the process ids below a process."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found, new = [], [pid]
    while new:
        new = [child for child, parent in pairs if parent in new]
        found += new
    return found


class Restores:
    """Restores of one database that are interrupted. ``seconds`` are the durations of the steps without that."""

    def __init__(self, pg, name, directory, seed):
        self.pg, self.name, self.directory = pg, name, Path(directory)
        self.random = random.Random(seed)
        self.seconds = {"prepared": 3.0, "swapped": 0.9}
        self.outcomes = {}

    def options(self, state, **more):
        confirm = ["recovery.restore:%s" % self.name]
        return module_options(self.pg, self.name, self.directory, state=state, confirm=confirm, **more)

    def oid(self):
        return self.pg.psql("select oid from pg_database where datname = '%s'" % self.name)

    def mark(self):
        """Return the rows of the live database, over a new connection: it accepts connections."""
        with (
            contextlib.closing(self.pg.postgres(superuser=True, dbname=self.name)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("select count(*) from lib.tracks")
            return cursor.fetchone()[0]

    def interrupted(self, whole, changed):
        """Interrupt one restore at a random point, check the invariants, and finish it by a second run.

        ``whole`` and ``changed`` are the rows of the backup and of the current database.
        """
        before = self.oid()
        state = self.random.choice(["prepared", "swapped"])
        target = self.random.choice(["module", "module", "program"])
        step = {}
        if state == "swapped":
            prepared = run_module("pg_restore_backup", self.options("prepared"))
            step = {"new": prepared["new"], "stamp": prepared["stamp"]}
            # The lease holds the operation for the next step of the same run.
            step["operation"] = prepared["operation"]
        delay = self.random.uniform(0, self.seconds[state])
        process = begun("pg_restore_backup", self.options(state, **step))
        time.sleep(delay)
        victims = programs_of(process.pid) if target == "program" else [process.pid]
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, 9)
        killed = result_of(process)
        swapped = self.oid() != before
        assert self.mark() == (whole if swapped else changed), (state, target, delay, swapped)
        outcome = "finished" if killed and not killed.get("failed") else "failed" if killed else "killed"
        key = (state, target, outcome, "new" if swapped else "old")
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        # Another run would wait for the end of the lease.
        lease = (killed or {}).get("operation") or step.get("operation") or ""
        if not swapped or not killed:
            prepared = run_module("pg_restore_backup", self.options("prepared", operation=lease))
            assert not prepared.get("failed"), (key, delay, prepared["msg"])
            assert prepared["result"] == ("restored" if swapped else "prepared"), (key, delay, prepared)
        if not swapped:
            step = {name: prepared[name] for name in ("new", "stamp", "operation")}
            done = run_module("pg_restore_backup", self.options("swapped", **step))
            assert not done.get("failed"), (key, delay, done["msg"])
        assert self.mark() == whole
        run_module("pg_restore_backup", self.options("ended", operation=lease))
        left = "select count(*) from pg_database where datname like 'tracktion_ops_%'"
        assert self.pg.psql(left) == "0"


def bit_flipped(path, chance):
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data) * 8)
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


def truncated(path, chance):
    """Cut the end of a file."""
    with path.open("r+b") as file:
        file.truncate(chance.randrange(path.stat().st_size))


def damages(artefact, copies, number, seed):
    """Yield directories with a copy of a backup, each with one damaged file, and what was done."""
    chance = random.Random(seed)
    original = Path(artefact.path)
    files = [path for path in sorted(original.rglob("*")) if path.is_file() and path.name != "proof.json"]
    for each in range(number):
        directory = Path(copies) / str(each)
        copy = directory / "postgresql" / original.parent.name / original.name
        shutil.copytree(original, copy)
        os.chmod(directory / "postgresql", 0o700)
        target = copy / chance.choice(files).relative_to(original)
        damage = chance.choice([bit_flipped, truncated])
        damage(target, chance)
        yield directory, "%s of %s" % (damage.__name__, target.name)
        shutil.rmtree(directory)
