#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup, proof, restore and undo with the servers of other Debian releases than those of the tests.

    python tests/bench/bench_recovery_versions.py [SUITE ...] [--products postgresql redis rabbitmq]

bullseye has PostgreSQL 13, Redis 6.0 and RabbitMQ 3.8; forky PostgreSQL 18. Their images are built first (a minute).
The names of the steps that fail are printed with the message of the module.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from tests.bench.goals import Goals  # noqa: E402
from tests.integration import test_rabbitmq_backups  # noqa: E402
from tests.integration.modules import run_module  # noqa: E402
from tests.integration.postgresql import database  # noqa: E402
from tests.integration.rabbitmq import broker  # noqa: E402
from tests.integration.recovery_databases import contents_of, differences, module_options, rich  # noqa: E402
from tests.integration.redis_lab import Cache  # noqa: E402
from tests.lab import images  # noqa: E402
from tests.lab.servers import redis_server  # noqa: E402

NAME = "bench_live"


class Steps:
    """Runs modules, and prints a line for each."""

    def __init__(self, title):
        self.title, self.failed = title, 0

    def run(self, step, module, options, wanted):
        result = run_module(module, options)
        good = result.get("result") in wanted and not result.get("failed")
        self.note(step, good, "%s s" % result.get("seconds") if good else result.get("msg"))
        return result

    def note(self, step, good, text=""):
        self.failed += not good
        print("  %-12s %-24s %-6s %s" % (self.title, step, "ok" if good else "FAILED", text), flush=True)


def postgresql(suite, folder):
    with database(suite) as pg, rich(pg, NAME, stop="0"):
        steps = Steps("PostgreSQL %s" % pg.psql("show server_version").split()[0])
        options = module_options(pg, NAME, folder / "backups", state_dir=str(folder / "state"))
        backup = {name: value for name, value in options.items() if name != "accept_cve"}
        backup["login_db"] = NAME
        for form in ("custom", "directory"):
            more = {"format": form, "row_hashes": True}
            steps.run("backup, %s" % form, "pg_backup", {**backup, **more}, ["done"])
            for scratch in ("server", "container"):
                wanted = {**options, "scratch": scratch}
                steps.run("proof, %s" % scratch, "pg_prove_backup", wanted, ["proven"])
        then = contents_of(pg, NAME)
        pg.server.exec("psql", "-qXU", "postgres", "-d", NAME, "-c", "truncate lib.events")
        options["confirm"] = ["recovery.restore:%s" % NAME]
        made = steps.run("restore", "pg_restore_backup", {**options, "state": "prepared"}, ["prepared"])
        more = {name: made.get(name) or "" for name in ("new", "stamp", "operation")}
        steps.run("swap", "pg_restore_backup", {**options, **more, "state": "swapped"}, ["restored"])
        left = differences(then, contents_of(pg, NAME))
        steps.note("the same contents", not left, left)
        steps.run("undo", "pg_restore_backup", {**options, "state": "undone"}, ["undone"])
        steps.note("undone", differences(then, contents_of(pg, NAME)) != [])
        return steps.failed


def redis(suite, folder):
    with redis_server(suite) as server:
        cache = Cache(server)
        client = cache.redis()
        steps = Steps("Redis %s" % client.info("server")["redis_version"])
        client.config_set("repl-diskless-sync-delay", 0)
        pipeline = client.pipeline()
        for number in range(3000):
            pipeline.set("track:%d" % number, "x" * number)
            pipeline.hset("h", "f%d" % number, number)
            pipeline.xadd("stream", {"a": number})
        pipeline.execute()

        def values():
            return {name: client.dump(name) for name in client.scan_iter(count=1000)}

        options = {**cache.login(), "directory": str(folder / "backups"), "state_dir": str(folder / "state")}
        then = values()
        for method in ("save", "stream"):
            steps.run("backup, %s" % method, "redis_backup", {**options, "method": method}, ["done"])
            steps.run("proof", "redis_prove_backup", options, ["proven"])
        client.flushall()
        client.set("other", 1)
        options["confirm"] = ["recovery.restore:redis"]
        steps.run("restore", "redis_restore_backup", options, ["done"])
        now = values()
        # The checksum in DUMP depends on how a value is stored.
        steps.note("the same contents", set(now) == set(then) and client.hlen("h") == client.xlen("stream") == 3000)
        steps.run("undo", "redis_restore_backup", {**options, "action": "undo", "restore_id": "last"}, ["done"])
        steps.note("undone", list(values()) == [b"other"])
        return steps.failed


def rabbitmq(suite, folder):
    lab = test_rabbitmq_backups
    with broker(suite) as server:
        steps = Steps("RabbitMQ %s" % server.rabbitmq_api("GET", "/overview")["rabbitmq_version"])
        lab.declare(server)
        options = {**server.login(), "directory": str(folder / "backups"), "state_dir": str(folder / "state")}
        before, messages = lab.definitions(server), lab.taken(server)
        more = {"messages_of": ["audio.*"], "password_hashes": True}
        steps.run("backup", "rabbitmq_backup", {**options, **more}, ["done"])
        steps.run("proof", "rabbitmq_prove_backup", options, ["proven"])
        lab.forget(server)
        options["confirm"] = ["recovery.restore:rabbitmq"]
        steps.run("restore", "rabbitmq_restore_backup", {**options, "messages": True}, ["done"])
        steps.note("the same definitions", lab.definitions(server) == before)
        steps.note("the same messages", lab.taken(server) == messages)
        return steps.failed


def main():
    programs = {"postgresql": postgresql, "redis": redis, "rabbitmq": rabbitmq}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", default=["bullseye", "forky"], metavar="SUITE")
    parser.add_argument("--products", nargs="+", default=list(programs), choices=list(programs))
    arguments = parser.parse_args()
    images.SUITES = (*images.SUITES, *arguments.suites)
    goals, failed = Goals(), 0
    for suite in arguments.suites:
        for product in arguments.products:
            with contextlib.ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracktion-")))
                try:
                    failed += programs[product](suite, folder)
                except Exception:
                    traceback.print_exc()
                    failed += 1
    goals.check("steps that failed", failed, at_most=0)
    goals.exit()


if __name__ == "__main__":
    main()
