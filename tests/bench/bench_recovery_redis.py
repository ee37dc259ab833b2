#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Time backups of Redis, kill runs at random points, and damage backups.

    python tests/bench/bench_recovery_redis.py [--keys 200000] [--kills 100] [--damages 100] [--suite trixie]

Each kill ends the module with all its processes by SIGKILL, after a random part of the time that it takes. After each,
the live data must be the old or the new data, and every complete backup must have the files of its manifest. Damages
are bit flips and truncations of the RDB file; in every second one, the manifest has the checksum of the damaged file.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from tests.bench.goals import Goals  # noqa: E402
from tests.integration.modules import killed_after  # noqa: E402
from tests.integration.redis_lab import cache  # noqa: E402
from tests.integration.test_redis_backups import (  # noqa: E402
    content,
    fill,
    flipped,
    reseal,
    run,
    run_problems,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=200000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--damages", type=int, default=100)
    parser.add_argument("--suite", default="trixie")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    goals, chosen = Goals(), random.Random(arguments.seed)
    with cache(arguments.suite) as server, tempfile.TemporaryDirectory() as folder:
        options = {"directory": folder + "/backups", "state_dir": folder + "/state"}
        client = server.redis()
        fill(client)
        client.config_set("repl-diskless-sync-delay", 0)
        for start in range(0, arguments.keys, 10000):
            client.mset({"many:%d" % number: "%0100d" % number for number in range(start, start + 10000)})
        times(server, options)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print("largest resident memory of a module: %d MiB" % peak)
        client.flushdb()
        fill(client)
        outcomes = kills(server, options, arguments.kills, chosen)
        print("kills: %s" % dict(outcomes))
        goals.check("kills that lost or mixed data", outcomes["lost"], at_most=0)
        outcomes = damages(server, options, arguments.damages, chosen)
        print("damages: %s" % dict(outcomes))
        goals.check("damages that were not found", outcomes["not found"], at_most=0)
    goals.exit()


def times(server, options):
    """Print the seconds of each step."""
    for module, more in (
        ("redis_backup", {"method": "save"}),
        ("redis_backup", {"method": "stream"}),
        ("redis_prove_backup", {}),
        ("redis_restore_backup", {}),
    ):
        result = run(server, module, options, **more)
        print("%s %s: %.1f s" % (module, more.get("method", ""), result["seconds"]))
    run(server, "redis_restore_backup", options, action="drop", restore_id="last")


def kills(server, options, number, chosen):
    """Kill restores and backups in turn, and count how the data is afterwards."""
    outcomes = Counter()
    run(server, "redis_backup", options)
    new = content(server)
    client = server.redis()
    client.flushdb()
    client.set("old", "data")
    old = content(server)
    started = time.monotonic()
    stamp = run(server, "redis_restore_backup", options)["stamp"]
    longest = time.monotonic() - started
    undone = run(server, "redis_restore_backup", options, action="undo", restore_id="last")
    run(server, "redis_restore_backup", options, action="drop", restore_id=undone["restore_id"])
    for each in range(number):
        seconds = chosen.uniform(0.05, longest)
        if each % 2:
            killed_after(seconds, lambda: run(server, "redis_backup", options, keep=3))
            folder = Path(options["directory"], "redis", "redis")
            broken = [complete for complete in folder.glob("2*Z*") if run_problems(complete)]
            outcomes["lost" if broken else "backups complete"] += 1
            continue
        killed_after(seconds, lambda: run(server, "redis_restore_backup", options, stamp=stamp))
        now = content(server)
        outcomes["new" if now == new else "old" if now == old else "lost"] += 1
        if now == new:
            undone = run(server, "redis_restore_backup", options, action="undo", restore_id="last")
            run(server, "redis_restore_backup", options, action="drop", restore_id=undone["restore_id"])
    result = run(server, "redis_restore_backup", options, stamp=stamp)
    outcomes["completed by the next run" if content(server) == new else "lost"] += 1
    assert result["result"] == "done"
    return outcomes


def damages(server, options, number, chosen):
    """Damage a backup, and count what finds it."""
    outcomes = Counter()
    live = content(server)
    made = run(server, "redis_backup", options)
    path, manifest = Path(made["path"], "dump.rdb"), Path(made["path"], "manifest.json")
    good, sealed = path.read_bytes(), manifest.read_bytes()
    for each in range(number):
        bad = flipped(good, chosen) if each % 4 < 3 else good[: chosen.randrange(len(good))]
        path.write_bytes(bad)
        manifest.write_bytes(sealed)
        if each % 2:
            reseal(path.parent, bad)
        refused = run(server, "redis_restore_backup", options, stamp=made["stamp"])
        found = refused.get("kind") in ("damaged", "not_loaded") and content(server) == live
        outcomes["found: %s" % refused["kind"] if found else "not found"] += 1
    return outcomes


if __name__ == "__main__":
    main()
