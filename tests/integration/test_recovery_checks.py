# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each check of the area recovery fires on real files of a backup, and is quiet on a good one."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from tests.integration.areas import diagnose, evaluate, visit
from tests.integration.modules import run_module
from tests.integration.recovery import backup
from tests.lab import file_systems
from tests.rights import recovery
from tests.users import UNPRIVILEGED, shared_directory

DAY = 86400.0
# These depend on the machine of the test.
OF_MACHINE = {"recovery.same_file_system", "recovery.does_not_fit"}


def found(folder, before=None, **settings):
    """Return the findings of the area by id, without those that depend on the machine of the test."""
    findings = diagnose("recovery", {"recovery_directory": str(folder), **settings}, before)
    return {name: each for name, each in findings.items() if name not in OF_MACHINE or each[0]["status"] == "unknown"}


def statuses(folder, before=None, **settings):
    return {name: each[0]["status"] for name, each in found(folder, before, **settings).items()}


def proof(artefact, result="proven", age=0.0, **fields):
    now = time.time() - age
    return {
        "schema_version": 1,
        "result": result,
        "started": now,
        "finished": now,
        "server_version": "15.4",
        "manifest_sha256": artefact.manifest_sha256,
        "differences": [],
        "differences_total": 0,
        "reason": None,
        **fields,
    }


@pytest.fixture
def store(pg15, tmp_path):
    """A directory with one good backup of a real server."""
    store = Store(str(tmp_path / "backups"))
    backup(pg15, store)
    return store


def newest(store):
    return store.list("postgresql", "tracktion")[0]


def aged(monkeypatch, seconds):
    """Measure as if so many seconds had passed since the backup: the process that measures is a copy of this one."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + seconds)


def test_a_proven_backup_is_quiet(store):
    assert statuses(store.directory) == {"recovery.never_proven": "info"}
    store.write_proof(newest(store), proof(newest(store)))
    assert statuses(store.directory) == {}
    assert statuses(store.directory, recovery_databases=["tracktion"]) == {}


def test_a_host_without_backups_is_not_here_unless_they_are_wanted(tmp_path):
    missing = tmp_path / "missing"
    # A default: the directory of the role does not exist on the machine of the test.
    if not os.path.exists("/var/backups/tracktion"):
        assert diagnose("recovery", {}) == {}
    assert statuses(missing) == {"recovery.no_backup": "warning"}
    wanted = found(missing, recovery_databases=["tracktion", "other"])
    assert [each["status"] for each in wanted["recovery.backup_missing"]] == ["critical", "critical"]
    assert not missing.exists()


@pytest.mark.parametrize("apart", ["remedies", "adopted"])
def test_backups_of_remedies_and_archives_of_others_are_no_scheduled_backups(store, tmp_path, apart):
    """Otherwise they would be too old a day later, on a host that wants no backups."""
    others = tmp_path / "others"
    shutil.copytree(store.directory, others / apart)
    measured = run_module("recovery_info", {"directory": str(others)})
    assert (measured["exists"], measured["targets"]) == (False, [])
    assert run_module("recovery_info", {"directory": store.directory})["exists"]


def test_old_backups_and_proofs(store, monkeypatch):
    store.write_proof(newest(store), proof(newest(store)))
    aged(monkeypatch, 27 * 3600)
    assert statuses(store.directory) == {"recovery.backup_old": "warning"}
    aged(monkeypatch, 8 * DAY)
    assert statuses(store.directory) == {"recovery.backup_old": "critical", "recovery.proof_old": "warning"}
    os.unlink(os.path.join(newest(store).path, "proof.json"))
    assert statuses(store.directory)["recovery.never_proven"] == "warning"


def test_the_last_proof_counts(store):
    artefact = newest(store)
    store.write_proof(artefact, proof(artefact, "different", differences_total=3))
    findings = found(store.directory)
    assert findings["recovery.proof_failed"][0]["status"] == "critical"
    assert "3 differences" in findings["recovery.proof_failed"][0]["summary"]
    store.write_proof(artefact, proof(artefact, "failed", reason="role app does not exist"))
    assert "role app does not exist" in found(store.directory)["recovery.proof_failed"][0]["summary"]
    store.write_proof(artefact, proof(artefact))
    assert statuses(store.directory) == {}


def test_damage_and_leftovers(store):
    artefact = newest(store)
    store.write_proof(artefact, proof(artefact))
    toc = Path(artefact.path, "dump", "toc.dat")
    content = toc.read_bytes()
    toc.write_bytes(content[:-1])
    assert statuses(store.directory) == {"recovery.backup_damaged": "critical"}
    assert "dump/toc.dat has" in found(store.directory)["recovery.backup_damaged"][0]["summary"]
    toc.unlink()
    assert "dump/toc.dat is missing" in found(store.directory)["recovery.backup_damaged"][0]["summary"]
    toc.write_bytes(content)
    toc.chmod(0o600)
    leftover = Path(artefact.path).parent / ".20260101T000000Z.incomplete"
    leftover.mkdir()
    assert statuses(store.directory) == {"recovery.backup_incomplete": "warning"}
    # While a run works on it, it is none.
    with store.locked("postgresql", "tracktion"):
        assert statuses(store.directory) == {}
    leftover.rmdir()
    shutil.copytree(artefact.path, Path(artefact.path).parent / "20250101T000000Z")
    assert statuses(store.directory) == {"recovery.backup_damaged": "warning"}
    assert store.verify(newest(store), Deadline(60)) == []


def test_backups_that_others_can_read_or_change(store):
    artefact = newest(store)
    store.write_proof(artefact, proof(artefact))
    toc = Path(artefact.path, "dump", "toc.dat")
    toc.chmod(0o644)
    # The directories above it are closed.
    assert statuses(store.directory) == {}
    for folder in (toc.parent, *list(toc.parents)[1:5]):
        folder.chmod(0o755)
    assert statuses(store.directory) == {"recovery.readable_by_others": "warning"}
    Path(store.directory).chmod(0o777)
    assert statuses(store.directory)["recovery.directory_unusable"] == "warning"
    assert "can be written by every user" in found(store.directory)["recovery.directory_unusable"][0]["summary"]


def test_a_full_disk_and_a_disk_of_its_own(store, tmp_path):
    with file_systems.namespace() as space:
        small = tmp_path / "small"
        space.ext4(small, "32M")
        space.run("cp", "-a", store.directory, small / "backups")
        findings = diagnose("recovery", {"recovery_directory": str(small / "backups")}, space.enter)
        assert "recovery.does_not_fit" not in findings
        assert "recovery.same_file_system" not in findings
        space.run("fallocate", "-l", "14M", small / "filler")
        findings = diagnose("recovery", {"recovery_directory": str(small / "backups")}, space.enter)
        assert findings["recovery.does_not_fit"][0]["status"] == "warning"


def test_backups_beside_the_data(store, tmp_path):
    data = str(tmp_path)
    area, outcome, settings = visit("recovery", {"recovery_directory": store.directory})
    outcome["measurement"]["backups"]["directory"]["shares_with"] = data
    assert evaluate(area, outcome, settings)["recovery.same_file_system"][0]["status"] == "info"
    settings["recovery_fetch_to"] = "/srv/backups"
    assert "recovery.same_file_system" not in evaluate(area, outcome, settings)


def test_without_the_right_to_read_them_all_checks_are_unknown():
    (right,) = recovery.RIGHTS
    with shared_directory(0o755) as above:
        private = above / "backups"
        private.mkdir(mode=0o700)
        findings = diagnose("recovery", {"recovery_directory": str(private)}, lambda: os.setresuid(*[UNPRIVILEGED] * 3))
    assert {name for name, each in findings.items() if each[0]["status"] == "unknown"} == right.checks
    assert all("--become" in each[0]["hint"] for each in findings.values())
