# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of real servers: what they contain, what is refused, what a killed run leaves."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import stat
import subprocess
import threading
import time
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_backup, _run, _space
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Busy, CannotStore, Store
from tests.integration.recovery import backup, made


@pytest.fixture(params=["pg15", "pg17"])
def server(request):
    """Both versions: the host may have the programs of one, the image has those of the other."""
    return request.getfixturevalue(request.param)


@contextlib.contextmanager
def writer(server):
    """Insert rows, each with the next number, as fast as possible."""
    with server.connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS recovery_numbers (n bigint PRIMARY KEY, t timestamptz DEFAULT now())"
        )
        cursor.execute("TRUNCATE recovery_numbers")
    stop = threading.Event()

    def write():
        connection = server.postgres(superuser=True)
        connection.autocommit = True
        with connection.cursor() as cursor:
            number = 0
            while not stop.is_set():
                number += 1
                cursor.execute("INSERT INTO recovery_numbers VALUES (%s)", (number,))
        connection.close()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def test_dump_and_manifest_show_the_same_moment_while_rows_are_written(server, tmp_path):
    store = Store(str(tmp_path / "backups"))
    with writer(server):
        first = backup(server, store)
        second = backup(server, store, format="custom")
    assert first["result"] == "done"
    assert first["files"] > second["files"]
    for result, artefact in zip((second, first), store.list("postgresql", "tracktion"), strict=True):
        assert artefact.path == result["path"]
        assert artefact.problem is None
        assert store.verify(artefact, Deadline(60)) == []
        manifest = artefact.manifest
        assert manifest["server"]["version_num"] // 10000 == int(server.psql("SHOW server_version_num")) // 10000
        assert manifest["server"]["identity"].startswith("postgresql:")
        numbers = made(server, artefact, "recovery_numbers")
        # The rows of the dump are exactly those that the manifest counts: 1 to n.
        assert manifest["contents"]["rows"]["public.recovery_numbers"] == len(numbers)
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        globals_text = Path(artefact.path, "globals.sql").read_text()
        assert "CREATE ROLE" in globals_text
        assert "PASSWORD" not in globals_text
    assert stat.S_IMODE(os.stat(tmp_path / "backups").st_mode) == 0o700


def test_check_mode_says_what_where_and_how_large_and_writes_nothing(server, tmp_path):
    store = Store(str(tmp_path / "backups"))
    planned = backup(server, store, check_mode=True)
    assert planned["result"] == "planned"
    assert planned["path"].startswith(str(tmp_path / "backups" / "postgresql" / "tracktion"))
    assert planned["estimated_bytes"] > planned["source_bytes"] > 0
    assert planned["removed"] == []
    assert list(tmp_path.iterdir()) == []
    done = backup(server, store, keep=1)
    planned = backup(server, store, check_mode=True, keep=1)
    assert planned["removed"] == [done["path"]]
    assert planned["estimated_bytes"] < 2 * done["bytes"] + (20 << 20)
    assert backup(server, store, keep=1)["removed"] == [done["path"]]
