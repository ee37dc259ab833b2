# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of real servers: what they contain, what is refused, what a killed run leaves."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._postgresql._postgresql import QueryFailed
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _artefacts, _pg_backup, _run, _space
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Busy, Store
from tests.integration.kill_points import Kill, killed
from tests.integration.recovery import backup, made
from tests.keyring import new_keyring
from tests.lab import file_systems
from tests.lab.engine import install_programs

AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--")


@pytest.fixture
def keyring():
    """A keyring with two keys."""
    with new_keyring():
        yield


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


def test_check_mode_says_what_where_and_how_large_and_writes_nothing(pg15, tmp_path):
    store = Store(str(tmp_path / "backups"))
    planned = backup(pg15, store, check_mode=True)
    assert planned["result"] == "planned"
    assert planned["path"].startswith(str(tmp_path / "backups" / "postgresql" / "tracktion"))
    assert planned["estimated_bytes"] > planned["source_bytes"] > 0
    assert planned["removed"] == []
    assert list(tmp_path.iterdir()) == []
    done = backup(pg15, store, keep=1)
    planned = backup(pg15, store, check_mode=True, keep=1)
    assert planned["removed"] == [done["path"]]
    assert planned["estimated_bytes"] < 2 * done["bytes"] + (20 << 20)
    assert backup(pg15, store, keep=1)["removed"] == [done["path"]]


# tests/bench/bench_recovery_kills.py kills at all steps.
KILLS = [
    ("pg15", Kill("program pg_dump", "during", 0.01), 1),
    ("pg15", Kill("program pg_dump", "during", 0.0, "program"), 1),
    ("pg15", Kill("rename to STAMP", "before"), 1),
    ("pg15", Kill("rename to STAMP", "after"), 2),
    ("pg17", Kill("program pg_dump", "during", 0.5), 1),
]


@pytest.mark.parametrize("name", ["pg15", "pg17"])
def test_a_run_that_is_killed_leaves_nothing_incomplete_as_complete(request, tmp_path, name):
    server = request.getfixturevalue(name)
    store = Store(str(tmp_path / "backups"))
    options = {**server.login("superuser"), "directory": store.directory, "state_dir": str(tmp_path / "state")}
    backup(server, store)
    for kill, complete in [(kill, complete) for of, kill, complete in KILLS if of == name]:
        before = len(store.list("postgresql", "tracktion"))
        result = killed("pg_backup", options, kill).result
        # The module ends by itself if its program was killed.
        assert result is None if kill.victim == "module" else result.get("failed"), result
        artefacts = store.list("postgresql", "tracktion")
        assert len(artefacts) == before + complete - 1
        for artefact in artefacts:
            assert artefact.problem is None
            assert store.verify(artefact, Deadline(60)) == []
    # The next run works, removes what is left, and its backup can be read.
    done = backup(server, store)
    newest = store.list("postgresql", "tracktion")[0]
    assert newest.path == done["path"]
    assert store.incomplete("postgresql", "tracktion") == []


def test_a_second_run_is_refused(pg15, tmp_path, monkeypatch):
    monkeypatch.setattr(_artefacts, "LOCK_SECONDS", 0.2)
    store = Store(str(tmp_path / "backups"))
    with store.create("postgresql", "tracktion"), pytest.raises(Busy, match="another run works on the backups"):
        backup(pg15, store)
    assert store.names() == []


def test_a_table_that_is_locked_ends_the_backup_with_its_name(pg15, tmp_path):
    store = Store(str(tmp_path / "backups"))
    with contextlib.closing(pg15.postgres(superuser=True)) as blocker:
        with blocker.cursor() as cursor:
            cursor.execute("CREATE TABLE recovery_locked (n int)")
            blocker.commit()
            cursor.execute("LOCK TABLE recovery_locked IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        with pytest.raises(_run.ProgramFailed, match=r"timeout.*LOCK TABLE.*recovery_locked") as caught:
            backup(pg15, store, lock_timeout=1)
        assert time.monotonic() - begun < 60
        assert "Wait for the session that locks the table" in caught.value.hint
        blocker.rollback()
    pg15.psql("DROP TABLE recovery_locked")
    assert store.names() == []


def test_wrong_passwords_and_missing_rights_are_named(pg15, tmp_path):
    store = Store(str(tmp_path / "backups"))
    with pytest.raises(CannotConnect) as caught:
        backup(pg15, store, login_password="wr0ng")
    assert caught.value.kind == "authentication"
    pg15.psql("CREATE ROLE recovery_poor LOGIN PASSWORD 'poor'")
    try:
        with pytest.raises((_run.ProgramFailed, QueryFailed), match="permission denied"):
            backup(pg15, store, login_user="recovery_poor", login_password="poor")
    finally:
        pg15.psql("DROP ROLE recovery_poor")
    with pytest.raises(CannotConnect, match="does not exist"):
        backup(pg15, store, database="no_such_database")
    assert store.names() == []


def fill(path, left):
    """Write a file until only ``left`` bytes are free."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as stream:
        while _space.free(str(path)).bytes > left:
            stream.write(bytes(4096))


def outcome(server, store):
    """Make a backup and return why it failed, or null."""
    try:
        backup(server, store)
    except (Failure, OSError) as exc:
        return str(exc)
    return None


@pytest.fixture
def small(tmp_path):
    """Call a function in a process that has a small file system at the path that is its argument."""
    # The engine does not see the file system: the programs must be those of this machine.
    install_programs({"/usr/lib/postgresql/15/bin/pg_dump": ("postgresql-client-15",)})
    with file_systems.namespace() as found:
        found.ext4(tmp_path / "small", "32M")

        def call(work):
            return found.call(lambda: work(tmp_path / "small"))

        yield call


def test_a_database_that_does_not_fit_is_refused_before_anything_is_written(pg15, small):
    def refused(folder):
        (folder / "filler").write_bytes(b"1" * (12 << 20))
        with pytest.raises(_space.NoSpace, match=r"needs about .* are free"):
            backup(pg15, Store(str(folder / "backups")))
        assert not (folder / "backups").exists()

    small(refused)


def test_a_disk_that_becomes_full_ends_the_backup_and_leaves_the_last_one(pg15, small):
    """The expected size is too small, or another program takes the space."""

    def filled(folder):
        _space.check = lambda path, *_wanted: _space.free(path)
        store = Store(str(folder / "backups"))
        good = backup(pg15, store)
        refused = 0
        # At each stage: before the first file, in the dump, in the globals, in the manifest.
        for left in (0, 16 << 10, 64 << 10, 128 << 10, good["bytes"] // 2, good["bytes"] - 8192, good["bytes"] + 8192):
            fill(folder / "filler", left)
            reason = outcome(pg15, store)
            (folder / "filler").unlink()
            refused += reason is not None
            assert reason is None or "space" in reason.lower(), reason
            assert store.incomplete("postgresql", "tracktion") == []
            for artefact in store.list("postgresql", "tracktion"):
                assert store.verify(artefact, Deadline(60)) == []
        assert refused >= 4
        assert good["path"] in [each.path for each in store.list("postgresql", "tracktion")]

    small(filled)


def test_the_password_is_in_no_file_of_the_backup(pg15, tmp_path):
    store = Store(str(tmp_path / "backups"))
    result = backup(pg15, store, globals_passwords=True)
    secret = pg15.server.password
    assert secret not in repr(result)
    for folder, _folders, names in os.walk(tmp_path):
        for name in names:
            assert secret.encode() not in Path(folder, name).read_bytes()
    assert "PASSWORD 'SCRAM-SHA-256" in Path(result["path"], "globals.sql").read_text()


def test_a_server_in_recovery_is_refused(pg15, tmp_path):
    run, data = pg15.server.exec, "/tmp/recovery-standby"
    run(*AS_POSTGRES, "pg_basebackup", "-D", data, "-U", "postgres", "-c", "fast", "-X", "stream")
    run(*AS_POSTGRES, "touch", data + "/standby.signal")
    options = "-p 5499 -c listen_addresses=* -c max_prepared_transactions=10 -c restore_command=false"
    run(*AS_POSTGRES, "pg_ctl", "-D", data, "-w", "-s", "-l", "/tmp/recovery-standby.log", "-o", options, "start")
    try:
        with pytest.raises(_pg_backup.InRecovery, match="in recovery"):
            backup(pg15, Store(str(tmp_path / "backups")), login_host=pg15.server.address, login_port=5499)
    finally:
        run(*AS_POSTGRES, "pg_ctl", "-D", data, "-m", "immediate", "-s", "stop")
        run("rm", "-rf", data)


def test_encrypted_files_are_complete_and_not_readable(pg15, tmp_path, keyring):
    store = Store(str(tmp_path / "backups"))
    result = backup(pg15, store, encryption_recipients=["backup@example.org"], format="custom")
    assert result["encryption"] == "gpg"
    (artefact,) = store.list("postgresql", "tracktion")
    assert [each["path"] for each in artefact.manifest["files"]] == ["dump.gpg", "globals.sql.gpg"]
    assert store.verify(artefact, Deadline(60)) == []
    assert not Path(artefact.path, "dump.gpg").read_bytes().startswith(b"PGDMP")
