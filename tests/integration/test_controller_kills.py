# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""restore.yml whose controller is killed while the services are stopped: the next run completes it, in order.

tests/bench/bench_controller_kills.py kills at all tasks.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import tempfile
import time
from datetime import datetime

import pytest

from tests.integration.controller_kills import rig
from tests.integration.modules import run_module
from tests.integration.recovery_databases import module_options
from tests.lab.shell import attempt, wait_until

NAME = "controller_kills"


@pytest.fixture(scope="module")
def restoring(pg15, tmp_path_factory):
    with rig(pg15, NAME, tmp_path_factory.mktemp("kills")) as found:
        yield found


@contextlib.contextmanager
def watched(found):
    """Yield a function that returns what has happened since, in its order.

    By the events of the engine, of which it keeps the last ones only, and by the log of the server.
    """
    since = "%.9f" % time.time()
    names = {container: container.split("-")[-2] for container in found.stack.containers}
    filters = ["container=%s" % name for name in names] + ["event=die", "event=start"]
    words = [word for each in filters for word in ("--filter", each)]
    found.pg.psql("alter role postgres in database postgres set log_statement = 'all'")
    with tempfile.TemporaryFile("w+") as events:
        command = ["docker", "events", "--since", since, *words, "--format", "{{json .}}"]
        with subprocess.Popen(command, stdout=events, stdin=subprocess.DEVNULL) as listener:
            try:
                yield lambda: sequence(engine_steps(events, names), server_steps(found.pg.server.name, since))
            finally:
                listener.terminate()
                found.pg.psql("alter role postgres in database postgres reset log_statement")


def engine_steps(events, names):
    def lines():
        events.seek(0)
        found = events.read().splitlines(keepends=True)
        return [line for line in found if line.endswith("\n")]

    # A stop and a start of each.
    wait_until(lambda: len(lines()) >= 2 * len(names), "the events of the engine", 10)
    rows = [json.loads(line) for line in lines()]
    return [(row["timeNano"], "%s %s" % (row["Action"], names[row["Actor"]["Attributes"]["name"]])) for row in rows]


def server_steps(name, since):
    log = attempt("docker", "logs", "--timestamps", "--since", since, name)
    lines = (log.stdout + log.stderr).splitlines()
    found = [
        (line, re.search(r'statement: .*(ALTER .*DATABASE "%s" RENAME TO|COMMIT$)' % NAME, line)) for line in lines
    ]
    return [(nanoseconds(line.split()[0]), match.group(1).split()[0]) for line, match in found if match]


def sequence(*steps):
    ordered = [what for _when, what in sorted(itertools.chain(*steps))]
    # Other transactions have committed, too: the one of the swap follows the rename.
    commit = ordered.index("COMMIT", ordered.index("ALTER"))
    return [what for place, what in enumerate(ordered) if what != "COMMIT" or place == commit]


def nanoseconds(text):
    whole, _dot, rest = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(whole + "+00:00").timestamp()) * 10**9 + int(rest.ljust(9, "0"))


def test_a_restore_whose_controller_is_killed_is_completed_in_order(restoring):
    with watched(restoring) as happened:
        killed = restoring.run("restore", kill="Swap the databases", **restoring.services)
        assert killed.code < 0
        assert (restoring.live(), restoring.running()) == ("old", [])
        # A run that cannot go on names what is stopped.
        options = module_options(restoring.pg, NAME, restoring.folder / "backups", state="prepared")
        refused = run_module("pg_restore_backup", {**options, "state_dir": str(restoring.state)})
        assert refused["kind"] == "not_confirmed"
        assert "docker start %s" % " ".join(restoring.stack.containers[::-1]) in refused["hint"]
        # The next one starts them, also if it would not have stopped them.
        done = restoring.run("restore")
        assert done.code == 0, done.output
        assert (restoring.live(), restoring.running(), restoring.left()) == ("new", ["api", "web"], [])
        assert happened() == ["die web", "die api", "ALTER", "COMMIT", "start api", "start web"]


def test_an_undo_whose_controller_is_killed_does_not_go_back_twice(restoring):
    before = restoring.others()
    if restoring.live() == "old":
        assert restoring.run("restore").code == 0
    killed = restoring.run("restore", kill="Start the services", recovery_undo="last", **restoring.services)
    assert killed.code < 0
    assert (restoring.live(), restoring.running()) == ("old", [])
    done = restoring.run("restore", recovery_undo="last", **restoring.services)
    assert done.code == 0, done.output
    assert "is again the database before the restore" in done.output
    assert (restoring.live(), restoring.running(), restoring.left()) == ("old", ["api", "web"], [])
    assert len(restoring.others()) == max(len(before), 1)
