#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare backup, proof and restore with plain pg_dump and pg_restore, and kill backups at random points.

    python tests/bench/bench_recovery.py [--megabytes 5000] [--rounds 3] [--proofs 1] [--kills 200] [--suite bookworm]

The database is generated. Rounds of `pg_dump -Fd -j2` and of pg_backup with its defaults are interleaved, on the same
server; so are those of `pg_restore -j2`, of proofs and of restores. The server runs without fsync, so that the plain
programs do not wait for the disk. `memory` is the highest resident memory of the process of a module, without that of
the programs that it starts.

For the kills, the module or its pg_dump is killed by SIGKILL after a random part of the time that a backup takes.
After each, every backup that is listed as complete is verified by its checksums, and read by pg_restore.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

import psycopg2  # noqa: E402

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, Failure  # noqa: E402
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (  # noqa: E402
    _pg_archive,
    _pg_backup,
    _pg_clients,
    _pg_prove,
    _pg_restore,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402
from tests.integration.recovery import options_of  # noqa: E402
from tests.lab.servers import postgres_server  # noqa: E402

TABLES = 10
ROW_BYTES = 250
# Text that gzip reduces to about a third, as with real data.
ROWS = """
CREATE TABLE part_{table} (id bigint PRIMARY KEY, title text, tags text, made timestamptz);
INSERT INTO part_{table} SELECT n, md5(n::text) || ' ' || md5((n / 7)::text), repeat(md5((n % 1000)::text), 4), now()
FROM generate_series(1, {rows}) AS n;
"""


def fill(server, megabytes):
    """Generate the tables, and return the size of the database in bytes."""
    rows = megabytes * 1000000 // TABLES // ROW_BYTES
    with contextlib.closing(connected(server)) as connection, connection.cursor() as cursor:
        for table in range(TABLES):
            cursor.execute(ROWS.format(table=table, rows=rows))
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SELECT pg_database_size('tracktion')")
        return cursor.fetchone()[0]


def connected(server):
    connection = psycopg2.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, dbname="tracktion"
    )
    connection.autocommit = True
    return connection


def wanted(server, store, **options):
    found = options_of(server, _pg_backup.ARGUMENT_SPEC, directory=store.directory, **options)
    found["state_dir"] = store.directory + ".state"
    return found


def wanted_of(server, store, spec, **options):
    """Return the options of a proof or a restore of the database, which read a backup of this server."""
    common = {"database": "tracktion", "accept_cve": [_pg_archive.CVE], "directory": store.directory}
    found = options_of(server, spec, **common, **options)
    found["state_dir"] = store.directory + ".state"
    return found


def started(act, report=None):
    """Start a module in a process and return its pid. ``report`` is the descriptor for its result."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            result = act()
            if report is not None:
                os.write(report, json.dumps(result).encode())
            status = 0
        except Failure as exc:
            print("    %s" % exc, flush=True)
        finally:
            os._exit(status)
    return child


def backing_up(server, store, **options):
    return lambda: _pg_backup.backup(wanted(server, store, **options), False)


def timed(act):
    """Return the result of a module, its seconds, and the highest resident memory (MB) of its process."""
    begun, peak = time.monotonic(), 0.0
    reading, writing = os.pipe()
    child = started(act, writing)
    os.close(writing)
    while True:
        with contextlib.suppress(OSError, IndexError):
            text = Path("/proc/%d/status" % child).read_text()
            peak = max(peak, int(text.partition("VmHWM:")[2].split()[0]) / 1024)
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            if status:
                raise SystemExit("a module failed")
            seconds = time.monotonic() - begun
            with open(reading, "rb") as stream:
                return json.loads(stream.read()), seconds, peak
        time.sleep(0.05)


def plain(server, clients, folder):
    """Return the seconds of pg_dump."""
    shutil.rmtree(folder / "plain", ignore_errors=True)
    begun = time.monotonic()
    arguments = ["--format=directory", "--jobs=2", "--file=%s" % (folder / "plain")]
    clients.run("pg_dump", arguments, Deadline(36000), "tracktion")
    return time.monotonic() - begun


def compare(server, clients, folder, rounds, goals):
    """Print the times of both, interleaved. Return the seconds of a backup."""
    store = Store(str(folder / "backups"))
    times = {"pg_dump": [], "pg_backup": []}
    peak = 0.0
    for number in range(rounds):
        times["pg_dump"].append(plain(server, clients, folder))
        _result, seconds, memory = timed(backing_up(server, store))
        times["pg_backup"].append(seconds)
        peak = max(peak, memory)
        print("  round %d: pg_dump %.1f s, pg_backup %.1f s" % (number + 1, times["pg_dump"][-1], seconds), flush=True)
    newest = store.list("postgresql", "tracktion")[0]
    print("  backup: %.1f MB in %d files" % (newest.bytes / 1e6, len(newest.manifest["files"])))
    ratio = statistics.median(times["pg_backup"]) / statistics.median(times["pg_dump"])
    goals.check("pg_backup compared with pg_dump -Fd -j2 (ratio of medians)", ratio, at_most=1.1)
    goals.check("memory of the module (MB)", peak, at_most=200)
    return statistics.median(times["pg_backup"])


def prove(server, clients, folder, rounds, goals):
    """Print the times of pg_restore, of proofs and of restores of one backup, interleaved."""
    store = Store(str(folder / "backups"))
    newest = store.list("postgresql", "tracktion")[0]
    times = {"pg_restore": [], "proof": [], "restore": [], "swap": []}
    peak = 0.0
    for number in range(rounds):
        times["pg_restore"].append(plain_restore(server, clients, newest))
        for name, act in (("proof", proving(server, store)), ("restore", restoring(server, store))):
            result, seconds, memory = timed(act)
            times[name].append(seconds)
            peak = max(peak, memory)
        step = {name: result[name] for name in ("new", "stamp", "operation")}
        result, _seconds, memory = timed(restoring(server, store, state="swapped", **step))
        times["swap"].append(result["seconds"])
        shown = ", ".join("%s %.2f s" % (name, each[-1]) for name, each in times.items())
        print("  round %d: %s" % (number + 1, shown), flush=True)
        with contextlib.closing(connected(server)) as connection, connection.cursor() as cursor:
            cursor.execute('DROP DATABASE "%s"' % result["old"])
    middle = {name: statistics.median(each) for name, each in times.items()}
    ratio = middle["proof"] / middle["pg_restore"]
    goals.check("proof compared with pg_restore -j2 (ratio of medians)", ratio, at_most=1.3)
    print("  restore compared with pg_restore -j2: %.2f" % (middle["restore"] / middle["pg_restore"]))
    goals.check("the swap (s)", max(times["swap"]), at_most=2)
    goals.check("memory of proof and restore (MB)", peak, at_most=200)


def plain_restore(server, clients, artefact):
    """Return the seconds of pg_restore into an empty database."""
    with contextlib.closing(connected(server)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE plain TEMPLATE template0")
        begun = time.monotonic()
        arguments = ["--dbname=plain", "--exit-on-error", "--jobs=2", os.path.join(artefact.path, "dump")]
        clients.run("pg_restore", arguments, Deadline(36000), "plain")
        seconds = time.monotonic() - begun
        cursor.execute("DROP DATABASE plain")
    return seconds


def proving(server, store):
    options = wanted_of(server, store, _pg_prove.SPEC)
    return lambda: _pg_prove.prove(options, False)


def restoring(server, store, state="prepared", **options):
    confirmed = {"confirm": ["recovery.restore:tracktion"], "state": state, **options}
    found = wanted_of(server, store, _pg_restore.SPEC, **confirmed)
    return lambda: _pg_restore.restore(found, False)


def kill(server, clients, folder, seconds, kills, goals):
    """Kill backups at random points, and print what was found after each."""
    store = Store(str(folder / "killed"))
    outcomes, bad = Counter(), 0
    chance = random.Random(15)
    for number in range(kills):
        victim = ("module", "pg_dump")[number % 2]
        child = started(backing_up(server, store, keep=2))
        time.sleep(chance.uniform(0, seconds * 1.2))
        pids = [child] if victim == "module" else dumps(child)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _pid, status = os.waitpid(child, 0)
        outcomes["%s: %s" % (victim, "completed before" if status == 0 else "ended")] += 1
        for artefact in store.list("postgresql", "tracktion"):
            readable = artefact.problem is None and not store.verify(artefact, Deadline(3600))
            if readable:
                clients.run("pg_restore", ["--file=/dev/null", os.path.join(artefact.path, "dump")], Deadline(3600))
            bad += not readable
    _pg_backup.backup(wanted(server, store, keep=2), False)
    for text, count in sorted(outcomes.items()):
        print("  %-40s %d" % (text, count))
    goals.check("backups that are listed as complete and are not", bad, at_most=0)
    left = len(store.incomplete("postgresql", "tracktion"))
    goals.check("incomplete backups after the next run", left, at_most=0)


def dumps(parent):
    """Return the pids of the programs that a process has started."""
    found = subprocess.run(["pgrep", "-P", str(parent)], stdout=subprocess.PIPE, text=True, check=False).stdout
    return [int(pid) for pid in found.split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--proofs", type=int, default=1)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--suite", default="bookworm")
    arguments = parser.parse_args()
    goals = Goals()
    folder = Path(tempfile.mkdtemp(prefix="tracktion-bench-", dir="/var/tmp"))
    try:
        with postgres_server(arguments.suite, fsync="off", max_wal_size="4GB") as server:
            size = fill(server, arguments.megabytes)
            print("%d MB in %d tables, load %.1f" % (size / 1e6, TABLES, os.getloadavg()[0]), flush=True)
            number = 150000 if arguments.suite == "bookworm" else 170000
            with _pg_clients.find(options_of(server), number, str(folder), Deadline(36000)) as clients:
                if arguments.rounds:
                    seconds = compare(server, clients, folder, arguments.rounds, goals)
                else:
                    _result, seconds, _memory = timed(backing_up(server, Store(str(folder / "backups"))))
                if arguments.proofs:
                    prove(server, clients, folder, arguments.proofs, goals)
                if arguments.kills:
                    kill(server, clients, folder, seconds, arguments.kills, goals)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    goals.exit()


if __name__ == "__main__":
    main()
