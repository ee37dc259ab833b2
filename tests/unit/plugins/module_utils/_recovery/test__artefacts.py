# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups in a directory: killed writers, damaged and planted files, rotation. Needs root, for a second user."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import time
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, OutOfTime
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _artefacts, _manifests
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._artefacts import Busy, CannotStore, Store
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._storage import Damaged
from tests.users import UNPRIVILEGED

DAY = 86400.0


def forever():
    return Deadline(float("inf"))


def manifest(pending, files):
    return {
        "schema_version": 1,
        "kind": pending.kind,
        "name": pending.name,
        "stamp": pending.stamp,
        "host": "music",
        "started": 1.5,
        "finished": 2.5,
        "server": {
            "version": "15.4",
            "version_num": 150004,
            "identity": None,
            "address": "127.0.0.1:5432",
            "container": None,
        },
        "tool": "pg_dump (PostgreSQL) 15.4",
        "collection_version": "0.4.0",
        "source_bytes": 12345678,
        "files": files,
        "encryption": None,
        "contents": {"tables": {"public.t\udcff": {"rows": 3}}},
    }


def write(store, kind="postgresql", name="tracktion", content=b"dump" * 1000, fields=None):
    with store.create(kind, name) as pending:
        (Path(pending.path) / "dump").mkdir()
        (Path(pending.path) / "dump" / "toc.dat").write_bytes(content)
        (Path(pending.path) / "globals.sql").write_bytes(b"CREATE ROLE a;\n")
        return pending.finish({**manifest(pending, pending.files(forever())), **(fields or {})})


def proof(artefact, result="proven"):
    return {
        "schema_version": 1,
        "result": result,
        "started": 3.0,
        "finished": 4.0,
        "server_version": "15.4",
        "manifest_sha256": artefact.manifest_sha256,
        "differences": [],
        "differences_total": 0,
        "reason": None,
    }


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "backups"))


def only(store):
    (artefact,) = store.list("postgresql", "tracktion")
    return artefact


def test_a_backup_is_listed_as_it_was_written(store):
    written = write(store)
    artefact = only(store)
    assert artefact == written
    assert artefact.problem is None
    assert artefact.proof is None
    assert not artefact.proven
    assert artefact.manifest["contents"] == {"tables": {"public.t\udcff": {"rows": 3}}}
    assert [each["path"] for each in artefact.manifest["files"]] == ["dump/toc.dat", "globals.sql"]
    assert artefact.bytes == 4015
    assert abs(artefact.time - time.time()) < 60
    assert store.verify(artefact, forever()) == []
    assert store.names() == [("postgresql", "tracktion")]
    assert store.incomplete("postgresql", "tracktion") == []


def test_modes_are_private_whatever_the_umask(store):
    before = os.umask(0)
    try:
        artefact = write(store)
    finally:
        os.umask(before)
    for folder, _names, files in os.walk(store.directory):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700, folder
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600, name
    assert artefact.path.startswith(store.directory)


@pytest.mark.parametrize(
    "name", ["a/b", "..", ".hidden", "with space", "\u00e4", "%41", "new\nline", "\udcff", "A-b_c.d", "x" * 63]
)
def test_names_survive_the_file_system(store, name):
    write(store, name=name)
    assert store.names() == [("postgresql", name)]
    assert os.listdir(store.directory) == ["postgresql"]


@pytest.mark.parametrize("name", ["", "\u00e4" * 60])
def test_a_name_that_no_directory_can_have_is_rejected(store, name):
    with pytest.raises(BadOption, match="empty or too long"):
        write(store, name=name)


def test_two_backups_of_one_second_have_different_stamps(store):
    stamps = [write(store).stamp for _each in range(12)]
    assert len(set(stamps)) == 12
    assert [each.stamp for each in store.list("postgresql", "tracktion")] == stamps[::-1]


def test_the_last_backup_is_the_newest_one_also_if_the_clock_was_set_back(store, monkeypatch):
    first = write(store)
    now = time.gmtime(time.time() - 3600)
    monkeypatch.setattr(time, "gmtime", lambda *_seconds: now)
    assert [write(store).stamp, write(store).stamp] == [first.stamp + "-2", first.stamp + "-3"]
    # The number of a backup that was removed is not used again.
    store.rotate("postgresql", "tracktion", 1, 0)
    assert write(store).stamp == first.stamp + "-4"


def test_what_is_not_finished_is_removed(store):
    with store.create("redis", "cache") as pending:
        Path(pending.path, "dump.rdb").write_bytes(b"x")
        assert [(each.stamp, each.active) for each in store.incomplete("redis", "cache")] == [(pending.stamp, True)]
        assert store.list("redis", "cache") == []
    assert store.names() == []


def test_a_second_run_is_rejected_and_says_who_works(store):
    other = Store(store.directory)
    with store.create("redis", "cache"):
        busy = pytest.raises(Busy, match=r"since 20.* \(backup, pid %d\)" % os.getpid())
        with busy, other.locked("redis", "cache", seconds=0.1):
            pass
        # Another name is not affected.
        with other.locked("redis", "sessions", seconds=0.1):
            pass
    with other.locked("redis", "cache", seconds=0.1):
        pass


def killed_writer(store, seconds):
    """Start a process that writes, proves and rotates backups, and kill it after ``seconds``."""
    child = os.fork()
    if child == 0:
        try:
            while True:
                artefact = write(store, content=os.urandom(300000))
                store.write_proof(artefact, proof(artefact))
                store.rotate("postgresql", "tracktion", 2, 0)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def test_a_writer_that_is_killed_leaves_no_incomplete_backup_as_a_complete_one(store):
    write(store)
    seen = 0
    chance = random.Random(1)
    for _round in range(20):
        killed_writer(store, chance.uniform(0.0, 0.15))
        for artefact in store.list("postgresql", "tracktion"):
            seen += 1
            assert artefact.problem is None
            assert artefact.proof_problem is None
            assert store.verify(artefact, forever()) == []
        assert all(each.active is False for each in store.incomplete("postgresql", "tracktion"))
    # The next run removes what is left, and works.
    artefact = write(store)
    assert store.incomplete("postgresql", "tracktion") == []
    store.rotate("postgresql", "tracktion", 1, 0)
    assert artefact.stamp in [each.stamp for each in store.list("postgresql", "tracktion")]
    assert seen


def test_truncation_and_changed_bits_are_found(store):
    artefact = write(store, content=os.urandom(5000))
    chance = random.Random(2)
    for name in ("dump/toc.dat", "globals.sql"):
        path = Path(artefact.path, name)
        original = path.read_bytes()
        for _round in range(20):
            changed = bytearray(original)
            place = chance.randrange(len(changed) * 8)
            changed[place // 8] ^= 1 << place % 8
            path.write_bytes(changed)
            assert store.verify(artefact, forever()) == ["%s does not have the checksum of the manifest" % name]
        path.write_bytes(original[:-1])
        assert store.verify(artefact, forever()) == [
            "%s has %d bytes, not %d as in the manifest" % (name, len(original) - 1, len(original))
        ]
        path.unlink()
        assert store.verify(artefact, forever()) == ["%s is missing" % name]
        path.write_bytes(original)
        path.chmod(0o600)
    assert store.verify(artefact, forever()) == []


def test_every_changed_bit_of_a_manifest_is_found_or_harmless(store):
    artefact = write(store)
    path = Path(artefact.path, "manifest.json")
    original = path.read_bytes()
    chance = random.Random(3)
    for _round in range(300):
        changed = bytearray(original)
        place = chance.randrange(len(changed) * 8)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        found = only(store)
        # White space between values may change into other white space.
        assert found.problem or found.manifest == artefact.manifest
        assert found.problem or json.loads(bytes(changed)) == json.loads(original)
    for length in (0, 1, len(original) // 2, len(original) - 3):
        path.write_bytes(original[:length])
        assert only(store).problem
        assert store.verify(only(store), forever())


@pytest.mark.parametrize(
    "text", [b"[]", b"null", b'{"schema_version": true}', b"[" * 100000, b"\xff", b'{"files": NaN}']
)
def test_a_manifest_of_another_shape_has_a_problem(store, text):
    Path(write(store).path, "manifest.json").write_bytes(text)
    assert only(store).problem.startswith("the manifest")
    assert only(store).manifest is None


def test_a_manifest_of_a_later_version_says_so(store):
    path = Path(write(store).path, "manifest.json")
    path.write_bytes(json.dumps(dict(json.loads(path.read_bytes()), schema_version=9)).encode())
    assert only(store).problem == "the manifest has version 9; this version of the collection reads up to 1"


def test_a_backup_of_another_database_is_not_one_of_this(store):
    artefact = write(store, name="other")
    with store.locked("postgresql", "tracktion"):
        os.rename(artefact.path, os.path.join(store.folder("postgresql", "tracktion"), artefact.stamp))
    assert "it is the manifest of postgresql other" in only(store).problem


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (lambda path: (path / "extra").write_bytes(b""), "extra is not in the manifest"),
        (lambda path: (path / "sub").mkdir() or (path / "sub" / "x").write_bytes(b""), "sub/x is not in the manifest"),
        (lambda path: (path / "extra").symlink_to("/etc/passwd"), "is a symbolic link"),
        (lambda path: os.mkfifo(path / "extra"), "is a FIFO"),
        (lambda path: os.link(path / "globals.sql", path / "extra"), "hard links"),
        (lambda path: os.chown(path / "globals.sql", UNPRIVILEGED, UNPRIVILEGED), "belongs to nobody"),
        (lambda path: os.chown(path, UNPRIVILEGED, UNPRIVILEGED), "belongs to nobody"),
        (lambda path: (path / "dump").chmod(0o777), "can be written by every user"),
        (lambda path: (path / "globals.sql").unlink() or (path / "globals.sql").symlink_to("x"), "is a symbolic link"),
    ],
)
def test_planted_files_are_found(store, plant, reason):
    artefact = write(store)
    plant(Path(artefact.path))
    assert any(reason in problem for problem in store.verify(artefact, forever())), store.verify(artefact, forever())


def test_a_link_among_the_written_files_is_rejected(store):
    with store.create("redis", "cache") as pending:
        Path(pending.path, "dump.rdb").symlink_to("/etc/passwd")
        with pytest.raises(CannotStore, match="symbolic link"):
            pending.files(forever())
    assert store.names() == []


def test_a_directory_that_others_can_write_is_rejected(tmp_path):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(CannotStore, match="can be written by every user"):
        write(Store(str(open_to_all)))


def test_files_that_change_while_the_backup_is_finished_are_found(store):
    with store.create("redis", "cache") as pending:
        path = Path(pending.path, "dump.rdb")
        path.write_bytes(b"1234")
        content = manifest(pending, pending.files(forever()))
        path.write_bytes(b"12345")
        with pytest.raises(Damaged, match="not 4 as in the manifest"):
            pending.finish(content)
    assert store.names() == []


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("name", "other", "it is the manifest of postgresql other"),
        ("files", [{"path": "../x", "bytes": 1, "sha256": "0" * 64}], "not a path below"),
        ("files", [{"path": "/x", "bytes": 1, "sha256": "0" * 64}], "not a path below"),
        ("files", [{"path": "x", "bytes": -1, "sha256": "0" * 64}], "size or checksum"),
        ("files", [{"path": "x", "bytes": 1, "sha256": "0" * 63}], "size or checksum"),
        ("files", [{"path": "x", "bytes": 1, "sha256": "0" * 64}] * 2, "twice"),
        ("started", float("nan"), "not finite"),
        ("source_bytes", True, "wrong type"),
        ("contents", None, "wrong type"),
    ],
)
def test_an_invalid_manifest_is_not_written(store, field, value, reason):
    with pytest.raises(BadOption, match=reason):
        write(store, fields={field: value})
    assert store.names() == []


def test_verification_ends_at_its_deadline(store):
    artefact = write(store)
    with pytest.raises(OutOfTime):
        store.verify(artefact, Deadline(0))


# Proofs


def test_a_proof_is_one_of_its_manifest_only(store):
    artefact = write(store)
    store.write_proof(artefact, proof(artefact))
    assert only(store).proven
    assert store.verify(only(store), forever()) == []
    with pytest.raises(BadOption, match="not one of the manifest"):
        store.write_proof(artefact, dict(proof(artefact), manifest_sha256="0" * 64))
    Path(artefact.path, "proof.json").write_bytes(_manifests.written(dict(proof(artefact), manifest_sha256="0" * 64)))
    assert only(store).proof is None
    assert only(store).proof_problem == "proof.json is one of another manifest"
    Path(artefact.path, "proof.json").write_bytes(b"{}")
    assert only(store).proof_problem == "the proof is invalid: schema_version is missing"
    store.write_proof(artefact, proof(artefact, "failed"))
    assert only(store).proof["result"] == "failed"
    assert not only(store).proven


# Rotation


def fake(stamp, proven=False, problem=None):
    result = {"result": "proven" if proven else "failed"}
    when = _artefacts.stamp_time(stamp)
    return _artefacts.Artefact("redis", "cache", stamp, "/x/" + stamp, when, None, None, problem, result, None)


def days(*ages, **fields):
    now = _artefacts.stamp_time("20260701T000000Z")
    return [fake(time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now - age * DAY)), **fields) for age in ages]


def removed(artefacts, keep, age, protect=None):
    now = _artefacts.stamp_time("20260701T000000Z")
    return [artefacts.index(each) for each in _artefacts.rotation(artefacts, keep, age * DAY, now, protect)]


def test_rotation_by_count_and_age():
    artefacts = days(0, 1, 2, 3, 4)
    assert removed(artefacts, 3, 0) == [4, 3]
    assert removed(artefacts, 0, 0) == []
    assert removed(artefacts, 0, 2.5) == [4, 3]
    assert removed(artefacts, 4, 1.5) == [4, 3, 2]
    assert removed(artefacts, 1, 0, protect=artefacts[3].stamp) == [4, 2, 1]


def test_rotation_keeps_the_newest_the_newest_proven_and_what_cannot_be_read():
    assert removed(days(100, 200), 1, 1) == [1]
    artefacts = days(0, 1) + days(2, 3, proven=True)
    assert removed(artefacts, 1, 0) == [3, 1]
    artefacts = days(0, problem="the manifest is not JSON") + days(1, 2) + days(3, problem="?")
    assert removed(artefacts, 1, 0) == [2]


def test_rotation_removes_files_and_leftovers_and_spares_what_is_in_use(store):
    artefacts = [write(store) for _each in range(4)]
    leftover = Path(artefacts[0].path).parent / ".20200101T000000Z.incomplete"
    leftover.mkdir()
    with store.in_use(artefacts[1]):
        gone = store.rotate("postgresql", "tracktion", 1, 0)
    assert [each.stamp for each in gone] == [artefacts[0].stamp, artefacts[2].stamp]
    assert [each.stamp for each in store.list("postgresql", "tracktion")] == [artefacts[3].stamp, artefacts[1].stamp]
    assert not leftover.exists()
    with pytest.raises(CannotStore), store.in_use(artefacts[0]):
        pass


def test_rotation_within_a_run_keeps_what_the_run_writes(store):
    first = write(store)
    with store.create("postgresql", "tracktion") as pending:
        assert store.rotate("postgresql", "tracktion", 1, 0) == []
        assert os.path.isdir(pending.path)
        Path(pending.path, "dump").write_bytes(b"1")
        second = pending.finish(manifest(pending, pending.files(forever())))
        assert store.rotate("postgresql", "tracktion", 1, 0) == [first]
    assert [each.stamp for each in store.list("postgresql", "tracktion")] == [second.stamp]


def test_directories_of_others_are_not_names(store):
    write(store)
    base = Path(store.directory, "postgresql")
    for name in ("lost+found", ".snapshot", "empty"):
        (base / name).mkdir()
    (base / "file").write_bytes(b"")
    assert store.names() == [("postgresql", "tracktion")]


def test_a_relative_directory_is_rejected():
    with pytest.raises(BadOption, match="not an absolute path"):
        Store("backups")
