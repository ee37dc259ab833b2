# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""playbooks/prove_backup.yml and restore.yml after backup.yml: what a person does after a database was lost."""

from __future__ import annotations

import getpass
import json
import subprocess

import pytest

from tests.integration.playbooks import LOCAL, inventory, run_playbook
from tests.integration.recovery_databases import contents_of, differences, drop, rich

NAME = "restore_playbook"
CONFIRM = {"tracktion_confirm": ["recovery.restore:%s" % NAME]}


@pytest.fixture
def source(pg15):
    with rich(pg15, NAME):
        yield pg15
        for name in pg15.psql("select datname from pg_database where datname like '%s_%%'" % NAME).split():
            drop(pg15, name)


def test_a_lost_database_is_back_after_backup_proof_and_restore(source, tmp_path):
    settings = {
        **source.settings(role="superuser", login_db=NAME),
        "recovery_directory": str(tmp_path / "backups"),
        "recovery_products": ["postgresql"],
        "recovery_row_hashes": True,
        "recovery_accept_cve": ["CVE-2026-116314"],
        "tracktion_state_dir": str(tmp_path / "state"),
    }
    hosts = inventory(tmp_path / "hosts.yml", {"local": LOCAL}, **settings)

    def run(name, *arguments, **extra):
        done = run_playbook(name, hosts, tmp_path, *arguments, extra=extra)
        report = json.loads((tmp_path / ("prove.json" if name == "prove_backup" else name + ".json")).read_text())
        return done, report["items"][0]

    assert run("backup")[0].code == 0
    then = contents_of(source, NAME)
    planned, item = run("prove_backup", "--check")
    assert (planned.code, item["status"]) == (0, "planned"), planned.output
    proven, item = run("prove_backup")
    assert (proven.code, item["result"]) == (0, "proven"), proven.output

    drop(source, NAME)
    refused, item = run("restore")
    assert refused.code == 2
    assert "recovery.restore:%s" % NAME in refused.output
    planned, item = run("restore", "--check")
    assert (planned.code, item["status"]) == (0, "planned"), planned.output
    assert "would restore the backup" in planned.output
    done, item = run("restore", **CONFIRM)
    assert (done.code, item["result"]) == (0, "restored"), done.output
    assert differences(then, contents_of(source, NAME)) == []

    logged = [json.loads(line) for line in (tmp_path / "state/audit.jsonl").read_text().splitlines()]
    assert logged
    assert all(entry["who"].startswith(getpass.getuser()) for entry in logged), logged

    # One of an archive without a manifest puts this one aside, and is undone.
    archive = tmp_path / "old.dump"
    with archive.open("wb") as stream:
        command = ["docker", "exec", source.server.name, "pg_dump", "-U", "postgres", "-Fc", NAME]
        subprocess.run(command, stdout=stream, check=True, timeout=60)
    oid = "select oid from pg_database where datname = '%s'" % NAME
    first = source.psql(oid)
    confirm = [*CONFIRM["tracktion_confirm"], "recovery.adopt:%s" % archive]
    planned, item = run("restore", "--check", recovery_archive=str(archive))
    assert (planned.code, item["status"]) == (0, "planned"), planned.output
    done, item = run("restore", tracktion_confirm=confirm, recovery_archive=str(archive))
    assert (done.code, item["result"]) == (0, "restored"), done.output
    assert differences(then, contents_of(source, NAME)) == []
    undone, item = run("restore", **CONFIRM, recovery_undo="last")
    assert (undone.code, item["result"]) == (0, "undone"), undone.output
    assert source.psql(oid) == first
    aside = source.psql("select datname from pg_database where datname like '%s_undone_%%'" % NAME)
    dropped, item = run("restore", recovery_drop_old=aside)
    assert (dropped.code, item["result"]) == (0, "dropped"), dropped.output
