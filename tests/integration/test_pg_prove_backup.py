# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module pg_prove_backup against real servers."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._pg_databases import Session
from tests.integration import recovery_faults
from tests.integration.modules import run_module
from tests.integration.recovery_databases import backed_up, module_options, options, rich
from tests.lab.shell import wait_until

NAME = "proof_source"


@pytest.fixture(scope="module", params=["pg15", "pg17"])
def source(request, tmp_path_factory):
    """A database with one of everything, and a directory with a backup of it."""
    pg = request.getfixturevalue(request.param)
    directory = tmp_path_factory.mktemp("backups")
    with rich(pg, NAME):
        artefact = backed_up(pg, NAME, directory)
        yield pg, directory, artefact


def prove(pg, directory, check=False, **options):
    return run_module("pg_prove_backup", module_options(pg, NAME, directory, **options), check=check)


def proof(artefact):
    return json.loads(Path(artefact.path, "proof.json").read_text())


def scratches(pg):
    return pg.psql("select count(*) from pg_database where datname like 'tracktion_ops_%'")


def containers(pid):
    """Return the scratch containers of this process and of the one with this pid. Other tests have some, too."""
    ours = ("%d:" % pid, "%d:" % os.getpid())
    return [mark for mark in recovery_faults.scratch_marks() if mark.startswith(ours)]


@pytest.mark.parametrize("scratch", ["container", "server"])
def test_a_good_backup_is_proven(source, scratch):
    pg, directory, artefact = source
    planned = prove(pg, directory, check=True, scratch=scratch)
    assert (planned["result"], planned["changed"]) == ("planned", True)
    assert planned["space"]["free"] > planned["space"]["needed"] > 0
    found = prove(pg, directory, scratch=scratch)
    assert not found.get("failed"), found["msg"]
    assert found["result"] == proof(artefact)["result"] == "proven"
    assert (Store(str(directory)).list("postgresql", NAME)[0]).proven
    assert scratches(pg) == "0"


def test_a_proof_reports_each_difference(source, tmp_path):
    pg, _directory, _artefact = source

    def change(manifest):
        manifest["contents"]["rows"]["lib.tracks"] += 1
        manifest["contents"]["sections"]["comments"]["table lib.gone"] = "x"

    artefact = backed_up(pg, NAME, tmp_path, change=change)
    found = prove(pg, tmp_path, scratch="server")
    assert found["failed"]
    assert (found["result"], found["differences_total"]) == ("different", 2)
    assert found["differences"][0] == {"item": "rows: lib.tracks", "expected": 501, "found": 500}
    assert proof(artefact)["differences"] == found["differences"]
    accepted = ["rows: lib.tracks", "comments: table lib.gone"]
    assert prove(pg, tmp_path, scratch="server", accept_differences=accepted)["result"] == "proven"


def test_a_damaged_backup_is_not_proven(source, tmp_path):
    pg, _directory, artefact = source
    for directory, damage in recovery_faults.damages(artefact, tmp_path, 4, seed=time.time_ns()):
        found = prove(pg, directory, scratch="server")
        assert found["failed"]
        assert found.get("result") == "failed" or found["kind"] == "no_backup", (damage, found)


def test_a_killed_proof_leaves_nothing_after_the_next_one(source):
    pg, directory, _artefact = source
    for scratch in ("server", "container"):
        process = recovery_faults.begun("pg_prove_backup", module_options(pg, NAME, directory, scratch=scratch))
        wait_until(lambda pid=process.pid: scratches(pg) != "0" or containers(pid), "a scratch", 60)
        process.kill()
        process.communicate()
        assert prove(pg, directory, scratch=scratch)["result"] == "proven"
        assert scratches(pg) == "0"
        # A proof of another test may have begun to remove it.
        wait_until(lambda pid=process.pid: not containers(pid), "the end of the scratch container", 30)


def test_the_server_ends_a_statement_whose_run_was_killed(source):
    """A CREATE DATABASE would otherwise complete when the next run has removed what was left."""
    pg, _directory, _artefact = source
    pid = os.fork()
    if pid == 0:
        try:
            with Session(options(pg, "postgres", maintenance_db="postgres"), Deadline(300)) as session:
                session.rows("SELECT pg_sleep(299.5)")
        finally:
            os._exit(0)
    sleeping = "select count(*) from pg_stat_activity where query like '%pg_sleep(299.5)' and pid <> pg_backend_pid()"
    wait_until(lambda: pg.psql(sleeping) == "1", "the statement", 10)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_until(lambda: pg.psql(sleeping) == "0", "its end", 10)


def test_a_failure_of_the_machine_proves_nothing(source, tmp_path):
    pg, _directory, _artefact = source
    artefact = backed_up(pg, NAME, tmp_path)
    options = {"scratch": "container", "docker_host": "unix:///nonexistent.sock"}
    assert prove(pg, tmp_path, **options)["kind"] == "no_scratch_server"
    # Whichever step the deadline ends.
    assert prove(pg, tmp_path, scratch="server", deadline=0.2)["failed"]

    assert not Path(artefact.path, "proof.json").exists()

    def change(manifest):
        manifest["source_bytes"] = 1 << 50

    backed_up(pg, NAME, tmp_path, change=change)
    for scratch in ("server", "container"):
        assert "a copy of the database needs about" in prove(pg, tmp_path, scratch=scratch)["msg"]
