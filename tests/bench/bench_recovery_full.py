#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run backups, proofs and restores while the disk of the backups, or that of the state directory, is nearly full.

    python tests/bench/bench_recovery_full.py [PROGRAM ...] [--suite bookworm]

As root: both directories are small file systems on loop devices; then a tablespace of PostgreSQL is one. The checks of
the free space are switched off, so that the disk becomes full at each stage. PROGRAM is one of bench_recovery_kills.py.
After each run: no backup is listed as complete that cannot be read, and the live data is the old or the new one. Then
the space is freed, and the next run has to complete.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _space  # noqa: E402
from tests.bench.bench_recovery_kills import NAME, PROGRAMS  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402
from tests.integration.modules import run_module  # noqa: E402
from tests.integration.postgresql import database  # noqa: E402
from tests.integration.recovery_databases import rich  # noqa: E402
from tests.lab.engine import docker  # noqa: E402

DEFAULT = (
    *("pg_backup", "pg_proof", "pg_restore", "pg_swap"),
    *("redis_backup", "redis_proof", "redis_restore", "rabbitmq_backup", "rabbitmq_restore"),
)
# Bytes that are left: from nothing to more than a run needs.
LEFT = (0, 4096, 16384, 65536, 131072, 1 << 20)


@contextlib.contextmanager
def small(path: Path, megabytes: int = 64):
    """A small file system at a path."""
    path.mkdir()
    image = path.with_name(path.name + ".image")
    subprocess.run(["truncate", "--size", "%dM" % megabytes, image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "1024", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, path], check=True)
    path.chmod(0o700)
    (path / "lost+found").rmdir()
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@contextlib.contextmanager
def filled(path: Path, left: int):
    """Leave this number of free bytes."""
    filler = path / ".filler"
    with open(filler, "wb", buffering=0) as stream, contextlib.suppress(OSError):
        while _space.free(str(path)).bytes > left:
            stream.write(bytes(1024))
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def tablespace(server, megabytes: int = 48):
    """A small tablespace of PostgreSQL with the database."""
    pid = docker("inspect", "--format", "{{.State.Pid}}", server.server.name).strip()
    server.server.exec("mkdir", "-p", "/small")
    mount = ["mount", "-t", "tmpfs", "-o", "size=%dm,mode=777" % megabytes, "none", "/small"]
    subprocess.run(["nsenter", "--target", pid, "--mount", *mount], check=True)
    server.server.exec("install", "-d", "-o", "postgres", "/small/space")
    server.psql("create tablespace small location '/small/space'")
    server.psql("alter database %s set tablespace small" % NAME)
    yield


@contextlib.contextmanager
def filled_server(server, left: int):
    """Leave this number of free bytes in the tablespace."""
    script = (
        "n=$(($(df --output=avail -B1 /small | tail -1) - $1)); [ $n -gt 0 ] && head -c $n /dev/zero > /small/filler"
    )
    server.server.exec("sh", "-c", script + "; true", "sh", str(left))
    try:
        yield
    finally:
        server.server.exec("rm", "-f", "/small/filler")


def without_checks():
    _space.check = lambda path, *_wanted: _space.free(path)


# An empty database has 7.5 MB.
LEFT_OF_SERVER = (0, 7 << 20, 8 << 20, 17 << 19, 9 << 20)


def runs(program, which, goals):
    """Run with each number of free bytes; print the outcomes."""
    directory = Path(program.store.directory) if which == "backups" else program.state
    full = (
        (lambda left: filled_server(program.pg, left)) if which == "server" else (lambda left: filled(directory, left))
    )
    # What a swap needs is prepared here.
    program.options()
    assert not program.finish()
    outcomes, problems = Counter(), []
    for left in LEFT_OF_SERVER if which == "server" else LEFT:
        options = program.options()
        with full(left):
            result = run_module(program.module, options, before=without_checks)
            word, wrong = program.left()
        wrong += program.broken()
        text = result.get("msg") or ""
        if result.get("failed") and "space" not in text.lower():
            wrong.append("the message does not name the disk: %s" % text)
        program.last = result
        wrong += ["next run: " + each for each in program.finish()]
        wrong += ["left: " + each for each in program.leftovers() if not each.endswith("/.filler")]
        ended = result.get("kind", "failed") if result.get("failed") else "done"
        outcomes[(left, ended, word)] += 1
        problems += wrong
        for each in wrong:
            print("    %d bytes left, %s: %s" % (left, ended, each), flush=True)
    print("%s, %s full:" % (type(program).__name__, which))
    for (left, ended, word), _count in sorted(outcomes.items()):
        print("  %8d bytes left  %-16s %s" % (left, ended, word), flush=True)
    goals.check("problems of %s" % type(program).__name__, len(problems), at_most=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", default=DEFAULT, metavar="PROGRAM")
    parser.add_argument("--full", nargs="+", default=["backups", "state", "server"], metavar="DISK")
    parser.add_argument("--suite", default="bookworm")
    arguments = parser.parse_args()
    goals = Goals()
    for name in arguments.programs:
        kind, factory = PROGRAMS[name]
        with kind(arguments.suite) as server:
            for which in [each for each in arguments.full if each != "server" or kind is database]:
                with contextlib.ExitStack() as stack:
                    if kind is database:
                        stack.enter_context(rich(server, NAME))
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracktion-")))
                    stack.enter_context(tablespace(server) if which == "server" else small(folder / which))
                    (folder / "tmp").mkdir()
                    tempfile.tempdir = str(folder / "tmp")
                    try:
                        program = factory(folder, server)
                        runs(program, which, goals)
                    finally:
                        tempfile.tempdir = None
    goals.exit()


if __name__ == "__main__":
    main()
