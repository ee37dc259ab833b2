# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures proof and restore of PostgreSQL beside plain programs.

python -m tests.bench.bench_pg_restore speed [MEGABYTES]           5000 by default
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.modules import run_module
from tests.integration.postgresql import database
from tests.integration.recovery_databases import backed_up, module_options, rich

NAME = "bench_live"


def speed(megabytes):
    """Generated rows, so that most of the time is that of the server."""
    columns = "n, md5(n::text) || repeat(md5((n * 7)::text), 30) as t"
    fill = "create table lib.big as select " + columns + " from generate_series(1, %d) n"
    with (
        database("trixie", max_wal_size="4GB") as pg,
        rich(pg, NAME),
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
    ):
        command = ("psql", "-qXU", "postgres", "-d", NAME, "-c", fill % (megabytes * 1000))
        pg.server.exec(*command, timeout=3600)
        backed_up(pg, NAME, folder, row_hashes=False)
        rows = []
        pg.server.exec("pg_dump", "-U", "postgres", "-Fc", "-f", "/tmp/plain", NAME, timeout=3600)
        pg.server.exec("createdb", "-U", "postgres", "-T", "template0", "plain")
        began = time.monotonic()
        pg.server.exec("pg_restore", "-U", "postgres", "-e", "-j2", "-d", "plain", "/tmp/plain", timeout=3600)
        rows.append(("pg_restore -j2", time.monotonic() - began))
        for scratch in ("server", "container"):
            began = time.monotonic()
            done = run_module("pg_prove_backup", module_options(pg, NAME, Path(folder), scratch=scratch, deadline=3600))
            assert done["result"] == "proven", done
            rows.append(("proof, %s" % scratch, time.monotonic() - began))
        options = {"confirm": ["recovery.restore:%s" % NAME], "deadline": 3600}
        began = time.monotonic()
        prepared = run_module("pg_restore_backup", module_options(pg, NAME, Path(folder), state="prepared", **options))
        rows.append(("restore, prepared", time.monotonic() - began))
        step = {name: prepared[name] for name in ("new", "stamp", "operation")}
        swapped = run_module(
            "pg_restore_backup", module_options(pg, NAME, Path(folder), state="swapped", **options, **step)
        )
        rows.append(("restore, swap", swapped["seconds"]))
        for title, seconds in rows:
            print("%-20s %8.2f s   %.2f x pg_restore" % (title, seconds, seconds / rows[0][1]))
        print("greatest memory of a module: %d MB" % (resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024))


if __name__ == "__main__":
    PROGRAMS = {"speed": (speed, 5000)}
    program, default = PROGRAMS[sys.argv[1]]
    program(*map(int, sys.argv[2:]) if len(sys.argv) > 2 else [default])
