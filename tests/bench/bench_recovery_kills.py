#!/usr/bin/env python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kill backups, proofs and restores at their observed steps, and print a table of the kills and what was left.

    python tests/bench/bench_recovery_kills.py PROGRAM ... [--kills 200] [--seconds 600] [--suite bookworm] [--seed 15]

PROGRAM is one of pg_backup, pg_proof, pg_proof_container, pg_restore, pg_swap, pg_undo, pg_server (the server is
killed during the swap), redis_backup, redis_proof, redis_restore, redis_undo, rabbitmq_backup, rabbitmq_restore.

After each kill: no backup is listed as complete that cannot be read; the live data is exactly the old or the new one
and can be used. After the next run: it has completed, and nothing of the killed one is left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline  # noqa: E402
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import (  # noqa: E402
    _operations,
    _pg_clients,
    _pg_restore,
)
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store  # noqa: E402
from tests.bench.goals import Goals  # noqa: E402
from tests.integration import kill_points, recovery_faults, test_rabbitmq_backups, test_redis_backups  # noqa: E402
from tests.integration.modules import run_module  # noqa: E402
from tests.integration.postgresql import database  # noqa: E402
from tests.integration.rabbitmq import broker  # noqa: E402
from tests.integration.recovery_databases import module_options, rich  # noqa: E402
from tests.integration.redis_lab import cache  # noqa: E402

NAME = "bench_live"
KINDS = ("postgresql", "redis", "rabbitmq")


class Program:
    """A module that is killed. ``options`` are those of the run that is killed."""

    kind = "postgresql"
    module = ""
    # The result of the last run, null if it was killed.
    last = None

    def __init__(self, folder: Path):
        self.folder = folder
        self.store = Store(str(folder / "backups"))
        self.state = folder / "state"

    def common(self):
        return {"directory": self.store.directory, "state_dir": str(self.state)}

    def options(self):
        raise NotImplementedError

    def left(self):
        """Return the word for what the kill has left, and what is wrong with it."""
        return "", []

    def finish(self):
        """Run again, and return what is wrong afterwards."""
        result = run_module(self.module, self.options())
        return [result["msg"]] if result.get("failed") else []

    def broken(self):
        """Return the complete backups that cannot be read."""
        found = []
        for kind, name in self.store.names():
            for artefact in self.store.list(kind, name):
                problems = [artefact.problem] if artefact.problem else self.store.verify(artefact, Deadline(600))
                found += problems or self.unreadable(artefact)
        return found

    def unreadable(self, _artefact):
        return []

    def leftovers(self):
        """Return what is left of killed runs: files, records, temporary directories."""
        found = []
        for kind, name in self.store.names():
            found += [leftover.path for leftover in self.store.incomplete(kind, name)]
        found += [str(path) for path in Path(self.store.directory).iterdir() if path.name not in KINDS]
        found += os.listdir(tempfile.gettempdir())
        running, interrupted = _operations.read(str(self.state))
        found += [str(record) for record in running + interrupted]
        found += [path.name for path in self.state.glob("*.lock") if "operation" in path.name]
        return found


class Postgres(Program):
    """Of a database with one of everything."""

    def __init__(self, folder, pg):
        super().__init__(folder)
        self.pg = pg
        self.confirm = ["recovery.restore:%s" % NAME]
        self.backup_options = self.restoring(login_db=NAME)
        for name in ("accept_cve", "confirm"):
            del self.backup_options[name]
        found = run_module("pg_backup", self.backup_options)
        assert not found.get("failed"), found
        pg.server.exec("psql", "-qXU", "postgres", "-d", NAME, "-c", "delete from lib.tracks where id > 400")
        self.old, self.rows = self.oid(), {"old": 400, "new": 500}

    def restoring(self, **more):
        return {
            **module_options(self.pg, NAME, self.store.directory, state_dir=str(self.state)),
            "confirm": self.confirm,
            **more,
        }

    def oid(self):
        return self.pg.psql("select oid from pg_database where datname = '%s'" % NAME)

    def count(self):
        with contextlib.closing(self.pg.postgres(superuser=True, dbname=NAME)) as connection:
            cursor = connection.cursor()
            cursor.execute("select count(*) from lib.tracks")
            return cursor.fetchone()[0]

    def live(self):
        """Return the word for the live database, and what is wrong with it."""
        word = "old" if self.oid() == self.old else "new"
        rows = self.count()
        return word, [] if rows == self.rows[word] else ["%s has %d rows" % (word, rows)]

    def unreadable(self, artefact):
        folder = str(Path(artefact.path).parent)
        number = artefact.manifest["server"]["version_num"]
        with _pg_clients.find(dict(self.restoring()), number, folder, Deadline(600)) as clients:
            try:
                clients.run("pg_restore", ["--file=/dev/null", os.path.join(artefact.path, "dump")], Deadline(600))
            except _pg_clients._run.ProgramFailed as exc:
                return [str(exc)]
        return []

    def databases(self, like):
        return self.pg.psql("select datname from pg_database where datname like '%s'" % like).split()

    def leftovers(self):
        return super().leftovers() + self.databases("tracktion_ops_%")


class PgBackup(Postgres):
    module = "pg_backup"

    def options(self):
        return {**self.backup_options, "keep": 2}

    def left(self):
        complete = len(self.store.list(self.kind, NAME))
        return "%d complete" % complete, [] if complete else ["no backup is complete"]


class PgProof(Postgres):
    module, scratch = "pg_prove_backup", "server"

    def options(self):
        return self.restoring(scratch=self.scratch, confirm=None)

    def restoring(self, **more):
        found = super().restoring(**more)
        if found["confirm"] is None:
            del found["confirm"]
        return found

    def left(self):
        proven = self.store.list(self.kind, NAME)[0].proven
        word, problems = self.live()
        return "proven" if proven else "not proven", problems + ([] if word == "old" else ["the database changed"])

    def finish(self):
        problems = super().finish()
        newest = self.store.list(self.kind, NAME)[0]
        problems += [] if newest.proven else ["not proven"]
        (Path(newest.path) / "proof.json").unlink(missing_ok=True)
        return problems


class PgProofContainer(PgProof):
    scratch = "container"

    def leftovers(self):
        marks = recovery_faults.scratch_marks()
        return super().leftovers() + [mark for mark in marks if not os.path.exists("/proc/" + mark.split(":")[0])]


class PgRestore(Postgres):
    """The step that loads and compares."""

    module = "pg_restore_backup"

    def options(self):
        return self.restoring(state="prepared")

    def left(self):
        word, problems = self.live()
        return word, problems + ([] if word == "old" else ["the database changed"])

    def finish(self):
        lease = (self.last or {}).get("operation") or ""
        prepared = run_module(self.module, self.restoring(state="prepared", operation=lease))
        if "when its lease ends" in (prepared.get("msg") or ""):
            # Killed after it had written the lease of its run, which does not know of it. The message says until when.
            until = max(each["until"] or 0 for each in _operations.read(str(self.state))[0])
            time.sleep(max(0, until - time.time()) + 1)
            prepared = run_module(self.module, self.restoring(state="prepared"))
        if prepared.get("failed"):
            return [prepared["msg"]]
        run_module(self.module, self.restoring(state="ended", operation=prepared["operation"]))
        self.pg.psql('drop database "%s"' % prepared["new"])
        return [] if prepared["result"] == "prepared" else [prepared["result"]]


class PgSwap(Postgres):
    module = "pg_restore_backup"

    def __init__(self, folder, pg):
        super().__init__(folder, pg)
        self.prepared = self.note = None

    def options(self):
        self.prepared = run_module(self.module, self.restoring(state="prepared"))
        assert self.prepared["result"] == "prepared", self.prepared
        self.note = self.pg.psql(
            "select shobj_description(oid, 'pg_database') from pg_database where datname = '%s'" % self.prepared["new"]
        )
        return self.restoring(state="swapped", **{name: self.prepared[name] for name in ("new", "stamp", "operation")})

    def left(self):
        return self.live()

    def finish(self):
        """Restore completely by the next run, and go back."""
        lease = self.prepared["operation"]
        swapped, records = self.oid() != self.old, _operations.read(str(self.state))
        again = run_module(self.module, self.restoring(state="prepared", broken=[lease]))
        if again.get("failed"):
            return [again["msg"]]
        # Without a record, the run had ended its work: another one begins anew.
        wanted = "restored" if swapped and records != ([], []) else "prepared"
        problems = [] if again["result"] == wanted else ["%s instead of %s" % (again["result"], wanted)]
        if again["result"] == "prepared" and swapped:
            self.pg.psql('drop database "%s"' % again["new"])
        elif again["result"] == "prepared":
            step = {name: again[name] for name in ("new", "stamp", "operation")}
            done = run_module(self.module, self.restoring(state="swapped", **step))
            problems += [done["msg"]] if done.get("failed") else []
        problems += self.live()[1]
        run_module(self.module, self.restoring(state="ended", operation=again["operation"]))
        return problems + self.undo() + self.wait_again()

    def undo(self):
        """Undo the restore, and return what is wrong."""
        undone = run_module(self.module, self.restoring(state="undone"))
        return [undone["msg"]] if undone.get("failed") else []

    def wait_again(self):
        """Return what is wrong after the undo. Instead of another restore, let the copy wait for its swap again."""
        problems = [] if self.oid() == self.old and self.count() == 400 else ["not undone"]
        aside, new = self.databases(NAME + "_undone_%")[0], self.prepared["new"]
        self.pg.psql('alter database "%s" rename to "%s"' % (aside, new))
        self.pg.psql('comment on database "%s" is $$%s$$' % (new, self.note))
        self.pg.psql('alter database "%s" allow_connections false' % new)
        return problems

    def leftovers(self):
        return [name for name in super().leftovers() if name != self.prepared["new"]]


class PgUndo(PgSwap):
    """The undo of a restore: the names are those of before it again."""

    def options(self):
        wanted = super().options()
        done = run_module(self.module, wanted)
        assert done["result"] == "restored", done
        run_module(self.module, self.restoring(state="ended", operation=done["operation"]))
        return self.restoring(state="undone")

    def finish(self):
        # With a record of it, the next run ends what is left to do.
        unfinished = self.oid() != self.old or _operations.read(str(self.state)) != ([], [])
        return (self.undo() if unfinished else []) + self.wait_again()


class Redis(Program):
    kind = "redis"

    def __init__(self, folder, server):
        super().__init__(folder)
        self.server = server
        self.login = {**server.login(), **self.common()}
        client = server.redis()
        client.config_set("repl-diskless-sync-delay", 0)
        test_redis_backups.fill(client)
        pipeline = client.pipeline()
        # Their times to live must not end during the runs.
        for name in client.scan_iter("session:*"):
            pipeline.expire(name, 86400)
        for number in range(5000):
            pipeline.set("many:%d" % number, number)
        pipeline.execute()
        self.new = self.data()
        self.made = run_module("redis_backup", self.login)
        assert self.made["result"] == "done", self.made
        client.flushall()
        client.set("old", "data")
        self.old = self.data()

    def data(self):
        # A time to live goes on.
        return test_redis_backups.content(self.server)

    def live(self):
        found = self.data()
        word = "old" if found == self.old else "new" if found == self.new else "mixed"
        return word, ["the data is neither the old nor the new one"] if word == "mixed" else []

    def restore(self, **more):
        return {**self.login, "confirm": ["recovery.restore:redis"], **more}

    def done(self, **more):
        result = run_module("redis_restore_backup", self.restore(**more))
        return [result["msg"]] if result.get("failed") else []


class RedisBackup(Redis):
    module = "redis_backup"

    def options(self):
        return {**self.login, "keep": 2}

    def left(self):
        _word, problems = self.live()
        return "%d complete" % len(self.store.list(self.kind, "redis")), problems


class RedisProof(Redis):
    module = "redis_prove_backup"

    def options(self):
        return self.login

    def left(self):
        _word, problems = self.live()
        return "proven" if self.store.list(self.kind, "redis")[0].proven else "not proven", problems

    def finish(self):
        problems = super().finish()
        newest = self.store.list(self.kind, "redis")[0]
        problems += [] if newest.proven else ["not proven"]
        (Path(newest.path) / "proof.json").unlink(missing_ok=True)
        return problems


class RedisRestore(Redis):
    module = "redis_restore_backup"

    def options(self):
        return self.restore(stamp=self.made["stamp"])

    def left(self):
        return self.live()

    def finish(self):
        problems = self.done(stamp=self.made["stamp"]) if self.live()[0] == "old" else []
        problems += [] if self.live()[0] == "new" else ["not restored"]
        problems += self.done(action="undo", restore_id="last")
        problems += [] if self.live()[0] == "old" else ["not undone"]
        problems += self.done(action="drop", restore_id="last")
        found = sorted(self.server.redis().info("keyspace"))
        return problems + ([] if found == ["db0"] else ["databases are left: %s" % found])


class RedisUndo(RedisRestore):
    def options(self):
        problems = self.done(stamp=self.made["stamp"])
        assert not problems, problems
        return self.restore(action="undo", restore_id="last")

    def finish(self):
        problems = self.done(action="undo", restore_id="last") if self.live()[0] == "new" else []
        problems += [] if self.live()[0] == "old" else ["not undone"]
        return problems + self.done(action="drop", restore_id="last")


class Rabbitmq(Program):
    kind = "rabbitmq"

    def __init__(self, folder, server):
        super().__init__(folder)
        self.server = server
        # What an earlier program has restored is not declared twice.
        test_rabbitmq_backups.forget(server)
        test_rabbitmq_backups.declare(server)
        self.login = {**server.login(), **self.common()}
        self.before = test_rabbitmq_backups.definitions(server)
        options = {"messages_of": ["audio.requests"], "password_hashes": True}
        self.made = run_module("rabbitmq_backup", {**self.login, **options})
        assert self.made["result"] == "done", self.made
        test_rabbitmq_backups.call_proven(self.made)

    def left(self):
        here = test_rabbitmq_backups.definitions(self.server)
        items = sum(map(len, here.values()))
        return "%d items" % items, []


class RabbitmqBackup(Rabbitmq):
    module = "rabbitmq_backup"

    def options(self):
        return {**self.login, "messages_of": ["audio.requests"], "password_hashes": True, "keep": 2}

    def left(self):
        taken = {each[2] for each in test_rabbitmq_backups.taken(self.server)}
        lost = test_rabbitmq_backups.MESSAGES - len(taken)
        word = "%d complete" % len(self.store.list(self.kind, "rabbitmq"))
        return word, ["%d messages are lost" % lost] if lost else []


class RabbitmqRestore(Rabbitmq):
    module = "rabbitmq_restore_backup"

    def options(self):
        test_rabbitmq_backups.forget(self.server)
        confirm = {"confirm": ["recovery.restore:rabbitmq"]}
        return {**self.login, **confirm, "messages": True, "stamp": self.made["stamp"]}

    def finish(self):
        confirm = {"confirm": ["recovery.restore:rabbitmq"]}
        options = {**self.login, **confirm, "messages": True, "stamp": self.made["stamp"]}
        done = run_module(self.module, options)
        # A run that was killed may have been complete.
        problems = [done["msg"]] if done.get("failed") and "messages already" not in done["msg"] else []
        if test_rabbitmq_backups.definitions(self.server) != self.before:
            problems.append("the definitions differ")
        taken = test_rabbitmq_backups.taken(self.server)
        if {each[2] for each in taken} != set(range(test_rabbitmq_backups.MESSAGES)):
            problems.append("%d messages" % len(taken))
        return problems


PROGRAMS = {
    "pg_backup": (database, PgBackup),
    "pg_proof": (database, PgProof),
    "pg_proof_container": (database, PgProofContainer),
    "pg_restore": (database, PgRestore),
    "pg_swap": (database, PgSwap),
    "pg_undo": (database, PgUndo),
    "pg_server": (database, PgSwap),
    "redis_backup": (cache, RedisBackup),
    "redis_proof": (cache, RedisProof),
    "redis_restore": (cache, RedisRestore),
    "redis_undo": (cache, RedisUndo),
    "rabbitmq_backup": (broker, RabbitmqBackup),
    "rabbitmq_restore": (broker, RabbitmqRestore),
}


def kills(program, number, seconds, chance, server=None):
    """Kill runs, and return the outcomes and the problems."""
    first = kill_points.killed(program.module, program.options())
    assert not first.result.get("failed"), first.result
    program.last = first.result
    left = program.finish() + program.leftovers()
    assert not left, left
    outcomes, problems = Counter(), []
    ends = time.monotonic() + seconds
    wanted = of_server(first.steps, server.server.name, chance) if server else []
    # An interrupt ends the kills, and the table shows those before it.
    with contextlib.suppress(KeyboardInterrupt):
        for kill in wanted or kill_points.chosen(first.steps, number, chance):
            if time.monotonic() > ends:
                break
            problems += one(program, kill, outcomes, server)
    return outcomes, problems, len(first.steps)


def one(program, kill, outcomes, server):
    """Kill one run, count the outcome, and return the problems."""
    options = program.options()
    run = kill_points.killed(program.module, options, kill)
    title = run.steps[kill.step - 1] if kill.step <= len(run.steps) else "end"
    if server:
        server.server.start()
        server.connection = server.postgres(superuser=True, application_name="lab control")
        server.connection.autocommit = True
    program.last = run.result
    word, wrong = program.left()
    wrong = wrong + program.broken()
    ended = "killed" if run.result is None else "failed" if run.result.get("failed") else "done"
    victim = {"module": "", "program": " (program)"}.get(kill.victim, " (server)")
    outcomes[(kill.how + victim, title, ended, word)] += 1
    wrong += ["next run: " + text for text in program.finish()]
    wrong += ["left: " + text for text in program.leftovers()]
    problems = ["%s, %s: %s" % (kill, title, text) for text in wrong]
    for text in problems:
        print("    " + text, flush=True)
    print("\r%d kills" % sum(outcomes.values()), end="\r", file=sys.stderr, flush=True)
    for name in program.databases(NAME + "_before_%") if isinstance(program, Postgres) else []:
        program.pg.psql('drop database "%s"' % name)
    return problems


def of_server(steps, name, chance):
    """Return kills of the server before each statement."""
    places = [place for place, title in enumerate(steps, 1) if title.isupper() or title[:6].isupper()]
    found = [kill_points.Kill(place, "before", 0.0, name) for place in places]
    chance.shuffle(found)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", choices=sorted(PROGRAMS), metavar="PROGRAM")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--seed", type=int, default=15)
    arguments = parser.parse_args()
    goals = Goals()
    # The run after one that was killed when it had written its lease waits until that ends.
    _pg_restore.LEASE_SECONDS = 5.0
    for name in arguments.programs:
        kind, program = PROGRAMS[name]
        folder = Path(tempfile.mkdtemp(prefix="tracktion-"))
        (folder / "tmp").mkdir()
        began = time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                server = stack.enter_context(kind(arguments.suite))
                if kind is database:
                    stack.enter_context(rich(server, NAME))
                tempfile.tempdir = str(folder / "tmp")
                work = program(folder, server)
                chance = random.Random(arguments.seed)
                killed = server if name == "pg_server" else None
                outcomes, problems, steps = kills(work, arguments.kills, arguments.seconds, chance, killed)
        finally:
            tempfile.tempdir = None
            shutil.rmtree(folder, ignore_errors=True)
        total = sum(outcomes.values())
        seconds = time.monotonic() - began
        print("%s (%s): %d kills, %d steps, %.0f s" % (name, arguments.suite, total, steps, seconds))
        for (how, title, ended, word), count in sorted(outcomes.items()):
            print("  %-17s %-42s %-7s %-12s %4d" % (how, title, ended, word, count))
        goals.check("problems of %s" % name, len(problems), at_most=0)
    goals.exit()


if __name__ == "__main__":
    main()
