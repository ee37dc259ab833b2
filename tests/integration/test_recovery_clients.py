# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client programs for a backup: those of the host, or those of the server's image in a throwaway container."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, OutOfTime
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_clients, _run
from tests.integration.recovery import options_of
from tests.lab.engine import docker, install_programs
from tests.lab.shell import attempt, wait_until
from tests.lab.stack import DATABASE_ROLES


def labelled(server):
    """Return the throwaway containers of this server; other tests have others."""
    found = docker("ps", "--all", "--quiet", "--filter", "label=" + _pg_clients.LABEL).split()
    shared = "container:" + docker("inspect", "--format", "{{.Id}}", server.name).strip()
    form = "{{.HostConfig.NetworkMode}}"
    return [each for each in found if attempt("docker", "inspect", "--format", form, each).stdout.strip() == shared]


def test_a_throwaway_container_has_the_programs_of_the_server(pg17, tmp_path):
    """The password is neither in an argument, an environment or a file, nor in what the engine reports."""
    # Not the superuser: the container of the server has its password in its environment.
    password = pg17.passwords["application"]
    options = options_of(pg17.server, login_user=DATABASE_ROLES["application"], login_password=password)
    seen = []

    def watch():
        seen.append(subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout)
        seen.extend(attempt("docker", "inspect", identity).stdout for identity in labelled(pg17.server))

    with _pg_clients.find(options, 170000, str(tmp_path), Deadline(60)) as clients:
        assert clients.container == pg17.server.name
        assert clients.version.startswith("pg_dump (PostgreSQL) 17.")
        assert clients.version_num > 170000
        target = str(tmp_path / "slept")
        sql = "SELECT pg_sleep(2), current_setting('server_version_num')"
        clients.run("psql", ["-XAtc", sql], Deadline(60), "tracktion", target, watch)
        assert Path(target).read_text().strip().startswith("|17")
        with pytest.raises(OutOfTime):
            clients.run("psql", ["-XAtc", "SELECT pg_sleep(60)"], Deadline(3), "tracktion")
    assert any("tracktion-recovery" in text for text in seen)
    assert not any(password in text for text in seen)
    assert labelled(pg17.server) == []


def test_a_wrong_password_is_named(pg17, tmp_path):
    options = dict(options_of(pg17.server), login_password="wr0ng-secret")
    with _pg_clients.find(options, 170000, str(tmp_path), Deadline(60)) as clients:
        with pytest.raises(_run.ProgramFailed, match="password authentication failed") as caught:
            clients.run("psql", ["-XAtc", "SELECT 1"], Deadline(60), "tracktion")
        assert "wr0ng" not in str(caught.value)


def test_the_container_of_a_killed_run_is_removed_by_the_next_one(pg17, tmp_path):
    options = options_of(pg17.server)
    child = os.fork()
    if child == 0:
        try:
            with _pg_clients.find(options, 170000, str(tmp_path), Deadline(60)) as clients:
                clients.run("psql", ["-XAtc", "SELECT pg_sleep(300)"], Deadline(300), "tracktion")
        finally:
            os._exit(1)
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)%' AND pid <> pg_backend_pid()"
    wait_until(lambda: pg17.server.exec("psql", "-U", "postgres", "-XAtc", running).strip() == "1", "psql", 60)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with _pg_clients.find(options, 170000, str(tmp_path), Deadline(60)) as clients:
        assert clients.container
    wait_until(lambda: labelled(pg17.server) == [], "the container to be removed", 30)


def test_the_programs_of_the_host_are_used_if_they_have_the_version(pg15, tmp_path):
    install_programs({"/usr/lib/postgresql/15/bin/pg_dump": ("postgresql-client-15",)})
    options = options_of(pg15.server)
    with _pg_clients.find(options, 150000, str(tmp_path), Deadline(60)) as clients:
        assert clients.container is None
        begun = time.monotonic()
        assert clients.run("psql", ["-XAtc", "SELECT 1 + 1"], Deadline(60), "tracktion").strip() == "2"
        assert time.monotonic() - begun < 30


def test_without_programs_of_the_version_the_message_says_how_to_get_them(pg15, tmp_path):
    with pytest.raises(_pg_clients.NoClient, match=r"pg_dump of PostgreSQL 14 is not on this host, nor") as caught:
        _pg_clients.find(options_of(pg15.server), 140000, str(tmp_path), Deadline(60))
    assert "postgresql-client-14" in caught.value.hint
    elsewhere = dict(options_of(pg15.server), login_host="192.0.2.1")
    with pytest.raises(_pg_clients.NoClient, match="no container of it serves this port"):
        _pg_clients.find(elsewhere, 140000, str(tmp_path), Deadline(60))
