# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""backup.yml as a user runs it: its plan, its report, its exit status, copies on the controller."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operations
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Store
from tests.integration.playbooks import LOCAL, ROOT, inventory, playbook_command, run_playbook
from tests.integration.postgresql import session
from tests.lab.shell import wait_until


@pytest.fixture
def hosts(pg15, tmp_path):
    """Two hosts of one server; the second has a wrong password."""
    common = {
        **LOCAL,
        "database_login_host": pg15.server.host,
        "database_login_port": pg15.server.port,
        "database_login_user": pg15.server.user,
        "recovery_products": ["postgresql"],
    }
    found = {}
    for name, password in (("good", pg15.server.password), ("poor", "wr0ng-password")):
        own = {"recovery_directory": str(tmp_path / name), "tracktion_state_dir": str(tmp_path / (name + ".state"))}
        found[name] = {**common, **own, "database_login_password": password}
    return inventory(tmp_path / "hosts.yml", found)


def report(tmp_path):
    return json.loads((tmp_path / "reports" / "backup.json").read_text())


def test_a_plan_then_backups_with_copies_and_a_host_that_fails(pg15, hosts, tmp_path):
    reports, fetched = tmp_path / "reports", tmp_path / "fetched"
    plan = run_playbook("backup", hosts, reports, "--check", "--limit", "good")
    assert plan.code == 0, plan.output
    assert report(tmp_path)["items"][0]["status"] == "planned"
    assert report(tmp_path)["items"][0]["estimated_bytes"] > 1 << 20
    assert not (tmp_path / "good").exists()

    run = run_playbook("backup", hosts, reports, "-vvv", extra={"recovery_fetch_to": str(fetched)})
    assert run.code == 2
    assert "wr0ng-password" not in run.output
    assert pg15.server.password not in run.output
    by_host = {item["host"]: item for item in report(tmp_path)["items"]}
    assert by_host["good"]["status"] == "done"
    assert by_host["poor"]["status"] == "failed"
    assert "password authentication failed" in by_host["poor"]["message"]
    assert not (tmp_path / "poor").exists()
    for directory in (tmp_path / "good", fetched / "good"):
        store = Store(str(directory))
        (artefact,) = store.list("postgresql", "tracktion")
        assert artefact.problem is None
        assert store.verify(artefact, Deadline(60)) == []
    for folder, _folders, names in os.walk(tmp_path / "good"):
        assert not any(name.startswith(".progress") for name in names), folder
    diagnosis = run_playbook("diagnose", hosts, reports, "--limit", "good", "-e", '{"tracktion_areas": ["recovery"]}')
    assert {finding["id"] for finding in diagnosis.report["findings"]} <= {
        "recovery.never_proven",
        "recovery.same_file_system",
    }


def test_a_run_without_a_host_fails(hosts, tmp_path):
    run = run_playbook("backup", hosts, tmp_path / "reports", extra={"tracktion_hosts": "no_such_host"})
    assert run.code == 2
    assert "Nothing was done" in run.output


def test_the_backup_continues_if_the_controller_is_killed(pg15, hosts, tmp_path):
    command = playbook_command("backup", hosts, tmp_path / "reports", "--limit", "good")
    store = Store(str(tmp_path / "good"))
    environment = {**os.environ, "ANSIBLE_REMOTE_TMP": str(tmp_path / "remote")}
    quiet = {"stdout": subprocess.DEVNULL, "start_new_session": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **quiet) as process:
        wait_until(lambda: store.incomplete("postgresql", "tracktion"), "the backup to begin", 60)
        os.killpg(process.pid, signal.SIGKILL)
    # The password is in no file any more that Ansible has sent. At its end, Ansible removes all of them.
    for path in (tmp_path / "remote").rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            assert pg15.server.password.encode() not in path.read_bytes(), path
    wait_until(lambda: store.list("postgresql", "tracktion"), "the backup to be complete", 60)
    (artefact,) = store.list("postgresql", "tracktion")
    assert store.verify(artefact, Deadline(60)) == []
    assert run_playbook("backup", hosts, tmp_path / "reports", "--limit", "good").code == 0
    assert len(store.list("postgresql", "tracktion")) == 2
    assert Path(artefact.path).exists()


def test_a_run_whose_process_on_the_host_is_killed_ends(pg15, hosts, tmp_path):
    """Without a result: neither of the module nor of Ansible's process that waits for it."""
    state = str(tmp_path / "good.state")
    command = playbook_command("backup", hosts, tmp_path / "reports", "--limit", "good")
    pg15.psql("CREATE TABLE recovery_locked (n int)")
    try:
        with session(pg15, "LOCK TABLE recovery_locked IN ACCESS EXCLUSIVE MODE", superuser=True):
            output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, **output) as process:
                wait_until(lambda: _operations.read(state)[0], "the backup to begin", 60)
                pid = _operations.read(state)[0][0]["pid"]
                for victim in [*waiting_for(pid), pid]:
                    os.kill(victim, signal.SIGKILL)
                text = process.communicate(timeout=120)[0]
        assert process.returncode == 2
        assert "ended without a result: its process was killed" in text
    finally:
        pg15.psql("DROP TABLE recovery_locked")
    assert Store(str(tmp_path / "good")).list("postgresql", "tracktion") == []


def waiting_for(pid):
    """Return the processes of Ansible that wait for a module."""
    found = []
    while True:
        pid = int(Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[1])
        if b"async_wrapper" not in Path("/proc/%d/cmdline" % pid).read_bytes():
            return found[::-1]
        found.append(pid)
