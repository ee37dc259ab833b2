# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup, proof and restore of real Redis servers, with writers, damage and killed runs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _manifests, _operations
from tests.integration import recovery_faults
from tests.integration.kill_points import Kill, killed
from tests.integration.modules import run_module
from tests.integration.redis_lab import cache
from tests.keyring import new_age_key
from tests.lab.engine import docker
from tests.lab.servers import is_alive
from tests.lab.shell import wait_until

LIBRARY = "#!lua name=lib\nredis.register_function('one', function() return 1 end)"
SEED = 20261129


@pytest.fixture(scope="module")
def persistent():
    """Redis 8 with an append-only file and save points."""
    with cache("trixie", "--appendonly", "yes", "--save", "3600 1") as found:
        yield found


@pytest.fixture
def options(tmp_path):
    return {"directory": str(tmp_path / "backups"), "state_dir": str(tmp_path / "state")}


def run(server, module, options, check=False, **more):
    if module.endswith("restore_backup"):
        more.setdefault("confirm", ["recovery.restore:redis"])
    return run_module(module, {**server.login(), **options, **more}, check=check)


def fill(client):
    """Write values of all types in two databases, and a library of functions."""
    client.flushall()
    pipeline = client.pipeline()
    for number in range(300):
        pipeline.set("track:%d" % number, "x" * number)
        pipeline.hset("h", "f%d" % number, number)
        pipeline.zadd("z", {"m%d" % number: number / 3})
        pipeline.sadd("s", "member-%d" % number)
        pipeline.rpush("l", "y" * number)
        pipeline.xadd("stream", {"a": number})
        pipeline.set("session:%d" % number, number, ex=1000)
    pipeline.hset("small", mapping={"a": 1, "b": "two"})
    pipeline.sadd("numbers", 1, 2, 3)
    pipeline.pfadd("hll", "a", "b")
    pipeline.setbit("bits", 100000, 1)
    pipeline.xgroup_create("stream", "group", "0")
    pipeline.xreadgroup("group", "consumer", {"stream": ">"}, count=20)
    pipeline.execute_command("SELECT", 3)
    pipeline.set("third", b"\x00\xff\r\n")
    pipeline.execute_command("SELECT", 0)
    pipeline.execute()
    client.function_load(LIBRARY, replace=True)


def content(server, database=0):
    """Return a digest of each value of a database that does not depend on how it is stored."""
    client = server.redis(db=database)
    names = sorted(client.scan_iter(count=1000))
    digests = client.execute_command("DEBUG", "DIGEST-VALUE", *names) if names else []
    return dict(zip(names, digests, strict=True))


@contextlib.contextmanager
def writer(server):
    """Count up two keys that belong together, in transactions, for as long as the context lasts."""
    stop, client = threading.Event(), server.redis()

    def write():
        while not stop.is_set():
            pipeline = client.pipeline(transaction=True)
            pipeline.incr("count:a")
            pipeline.incr("count:b")
            pipeline.execute()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def counted(client):
    return [int(value or 0) for value in client.mget("count:a", "count:b")]


def left_behind():
    """Return the processes that have ended without removing their scratch container."""
    return [mark for mark in recovery_faults.scratch_marks() if not is_alive(mark)]


@pytest.mark.parametrize(("each_redis", "method"), [("redis7", "save"), ("redis8", "stream")], indirect=["each_redis"])
def test_a_backup_is_one_moment_and_proven(each_redis, options, method):
    client = each_redis.redis()
    # The server would wait for other replicas.
    client.config_set("repl-diskless-sync-delay", 0)
    fill(client)
    with writer(each_redis):
        before = counted(client)
        made = run(each_redis, "redis_backup", options, method=method)
        after = counted(client)
    assert made.get("result") == "done", made
    manifest = json.loads(Path(made["path"], "manifest.json").read_text())
    contents = manifest["contents"]
    assert contents["databases"]["3"] == {"keys": 1, "expires": 0}
    assert contents["databases"]["0"]["expires"] == 300
    assert list(contents["functions"]) == ["lib"]
    assert contents["unknown"] == {}
    assert each_redis.server.password not in json.dumps(manifest)
    assert run(each_redis, "redis_prove_backup", options)["result"] == "proven"
    with writer(each_redis):
        restored = run(each_redis, "redis_restore_backup", options)
    # The writer has gone on counting in what was restored: the values of the snapshot are in the undo's other half.
    assert restored.get("result") == "done", restored
    undone = run(each_redis, "redis_restore_backup", options, action="undo", restore_id=restored["restore_id"])
    again = run(each_redis, "redis_restore_backup", options, action="undo", restore_id="last")
    assert (again["failed"], undone["restore_id"] in again["hint"]) == (True, True), again
    run(each_redis, "redis_restore_backup", options, action="drop", restore_id=undone["restore_id"])
    one, other = counted(client)
    assert one == other
    assert before[0] <= after[0] <= one
    # A snapshot holds both keys of a transaction, or neither.
    final = run(each_redis, "redis_restore_backup", options)
    one, other = counted(client)
    assert one == other
    assert before[0] <= one <= after[0] + 1
    run(each_redis, "redis_restore_backup", options, action="drop", restore_id=final["restore_id"])


def test_a_restore_survives_a_restart_with_an_append_only_file(persistent, options):
    client = persistent.redis()
    fill(client)
    wanted = content(persistent), content(persistent, 3)
    planned = run(persistent, "redis_backup", options, check=True)
    assert planned["result"] == "planned"
    assert not Path(options["directory"]).exists()
    assert run(persistent, "redis_backup", options)["method"] == "save"
    client.flushall()
    client.function_flush()
    client.set("after", "the backup")
    persistent.redis(db=5).set("other", 1)
    destroyed = content(persistent)
    planned = run(persistent, "redis_restore_backup", options, check=True)
    assert [each["database"] for each in planned["databases"]] == [0, 3, 5]
    assert content(persistent) == destroyed
    restored = run(persistent, "redis_restore_backup", options)
    assert restored.get("persisted") == "aof", restored
    assert (content(persistent), content(persistent, 3)) == wanted
    assert content(persistent, 5) == {}
    assert client.fcall("one", 0) == 1
    # Everysec: what the transaction wrote is on the disk a second later.
    wait_until(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0, "the file to be flushed", 20)
    persistent.docker("restart", "--time", "20", persistent.server.name)
    wait_until(lambda: answers(persistent), "Redis to load its data", 30)
    assert (content(persistent), content(persistent, 3)) == wanted
    undone = run(persistent, "redis_restore_backup", options, action="undo", restore_id=restored["restore_id"])
    assert content(persistent) == destroyed
    assert content(persistent, 5) != {}
    assert persistent.redis().function_list() == []
    run(persistent, "redis_restore_backup", options, action="drop", restore_id=undone["restore_id"])
    assert sorted(persistent.redis().info("keyspace")) == ["db0", "db5"]


def answers(server):
    with contextlib.suppress(Exception):
        return server.redis().ping()
    return False


def test_an_encrypted_backup_is_proven(redis8, options, tmp_path):
    client = redis8.redis()
    client.config_set("repl-diskless-sync-delay", 0)
    fill(client)
    recipient = new_age_key(tmp_path / "key")
    made = run(redis8, "redis_backup", options, encryption_recipients=[recipient], method="stream")
    assert [path.name for path in Path(made["path"]).glob("dump*")] == ["dump.rdb.age"]
    new_age_key(tmp_path / "other")
    other = run(redis8, "redis_prove_backup", options, encryption_identity=str(tmp_path / "other"))
    assert other["kind"] == "cannot_decrypt"
    assert not Path(made["path"], "proof.json").exists()
    assert run(redis8, "redis_prove_backup", options, encryption_identity=str(tmp_path / "key"))["result"] == "proven"


def test_a_key_whose_time_is_over_is_no_difference(each_redis, options):
    client = each_redis.redis()
    client.set("lasting", 1)
    client.set("short", 1, px=1500)
    made = run(each_redis, "redis_backup", options)
    assert made["expires"] == 1
    wait_until(lambda: not client.exists("short"), "the key to expire", 10)
    assert run(each_redis, "redis_prove_backup", options)["result"] == "proven"
    restored = run(each_redis, "redis_restore_backup", options)
    assert restored["result"] == "done"
    assert sorted(client.keys()) == [b"lasting"]
    run(each_redis, "redis_restore_backup", options, action="drop", restore_id=restored["restore_id"])


def test_damage_is_found_before_anything_is_replaced(redis8, options):
    client = redis8.redis()
    fill(client)
    made = run(redis8, "redis_backup", options)
    path = Path(made["path"], "dump.rdb")
    good, live = path.read_bytes(), content(redis8)
    chosen = random.Random(SEED)
    damages = [flipped(good, chosen) for _number in range(2)] + [good[: chosen.randrange(len(good))]]
    for number, bad in enumerate(damages):
        path.write_bytes(bad)
        # Also with a manifest that has the checksum of the damaged file: the file was damaged before that.
        if number:
            reseal(path.parent, bad)
        failed = run(redis8, "redis_prove_backup", options)
        assert failed["result"] == "failed", failed
        refused = run(redis8, "redis_restore_backup", options)
        assert refused["failed"], refused
        assert refused["kind"] in ("damaged", "not_loaded")
        assert content(redis8) == live
    path.unlink()
    assert "missing" in run(redis8, "redis_restore_backup", options)["msg"]
    assert content(redis8) == live


def flipped(data, chosen):
    place = chosen.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chosen.randrange(8)]) + data[place + 1 :]


def reseal(folder, data=None, change=None):
    """Write a manifest with other checksums or contents, as if the backup had been made so."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["checksum"]
    if data is not None:
        manifest["files"][0].update(bytes=len(data), sha256=_manifests.checksum(data))
    if change:
        change(manifest["contents"])
    path.write_bytes(_manifests.written(_manifests.sealed(manifest)))


@pytest.mark.parametrize(
    "change",
    [
        lambda contents: contents.pop("databases"),
        lambda contents: contents["functions"].clear(),
        lambda contents: contents["databases"]["0"].update(keys=1),
    ],
)
def test_a_manifest_that_lacks_an_item_is_different(redis8, options, change):
    fill(redis8.redis())
    made = run(redis8, "redis_backup", options)
    reseal(Path(made["path"]), change=change)
    assert run(redis8, "redis_prove_backup", options)["result"] == "different"


def test_a_backup_is_refused_with_the_reason(redis8, options, tmp_path):
    fill(redis8.redis())
    refused = run(redis8, "redis_backup", options, login_password="wrong")
    assert refused["kind"] == "authentication"
    with redis8.user("operator", "+@all", "-sync", "-config", "~*"):
        login = {"login_user": "operator", "login_password": "secret"}
        refused = run(redis8, "redis_backup", options, **login)
        assert "Allow it: `" in refused["msg"]
        assert "+sync" in refused["msg"]
    assert run(redis8, "redis_prove_backup", options)["kind"] == "no_backup"
    assert not list(Path(options["directory"]).rglob("dump.rdb"))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(small)], check=True)
    try:
        assert run(redis8, "redis_backup", options, directory=str(small))["kind"] == "no_space"
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_restore_is_refused_with_the_reason(redis7, redis8, options):
    client = redis8.redis()
    client.set("one", 1)
    run(redis8, "redis_backup", options)

    def refused(server=redis8, **more):
        return run(server, "redis_restore_backup", options, check=True, **more)

    assert "the server is Redis 7.0" in refused(redis7)["msg"]
    assert refused(name="another")["kind"] == "no_backup"
    assert refused(login_password="wrong")["kind"] == "authentication"
    assert run(redis8, "redis_restore_backup", options, confirm=["recovery.restore:another"])["kind"] == "not_confirmed"
    with _operations.begin(options["state_dir"], "backup", "redis:redis"):
        assert refused()["kind"] == "busy"
        assert run(redis8, "redis_backup", options)["kind"] == "busy"
    # Of a server that does not answer.
    client.replicaof("127.0.0.1", 1)
    try:
        assert "the server is a replica of 127.0.0.1:1" in refused()["msg"]
    finally:
        client.replicaof("NO", "ONE")
    assert refused()["result"] == "planned"


def test_a_save_that_would_fail_is_not_begun():
    with cache("trixie", "--save", "3600 1", "--enable-protected-configs", "yes") as server:
        client = server.redis()
        client.set("big", os.urandom(4 << 20))
        server.exec("redis", "mkdir", "/small")
        # The mount has to be made in the container, which has no right to.
        pid = docker("inspect", "--format", "{{.State.Pid}}", server.server.name).strip()
        inside = ["nsenter", "--target", pid, "--mount"]
        subprocess.run([*inside, "mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "none", "/small"], check=True)
        client.config_set("dir", "/small")
        client.config_set("repl-diskless-sync-delay", 0)
        with tempfile.TemporaryDirectory(prefix="tracktion-") as folder:
            options = {"directory": folder + "/backups", "state_dir": folder + "/state"}
            refused = run(server, "redis_backup", options, method="save")
            assert refused["kind"] == "not_saved"
            assert "a save that fails would block writes" in refused["msg"]
            made = run(server, "redis_backup", options)
            assert made["method"] == "stream"
            assert client.set("still", "writable")
            # After a save that did fail, the server takes no restore either.
            # The process that has sent the snapshot may not have ended.
            wait_until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], "the snapshot", 20)
            client.bgsave()
            wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the save", 20)
            assert run(server, "redis_restore_backup", options)["kind"] == "not_restored"


def test_a_restore_without_memory_for_both_copies_is_refused(redis8, options):
    client = redis8.redis()
    client.set("big", os.urandom(8 << 20))
    run(redis8, "redis_backup", options)
    client.config_set("maxmemory", client.info("memory")["used_memory"] + (4 << 20))
    refused = run(redis8, "redis_restore_backup", options, check=True)
    assert "CONFIG SET maxmemory" in refused["hint"]
    client.config_set("maxmemory", "256mb")
    assert run(redis8, "redis_restore_backup", options, check=True)["result"] == "planned"


# tests/bench/bench_recovery_kills.py kills at all steps. The last one leaves the new data.
KILLS = [Kill("HSET", "after"), Kill("RESTORE", "after"), Kill("MULTI", "before"), Kill("MULTI", "after")]


def test_runs_that_are_killed_leave_the_old_or_the_new_data(redis8, options):
    client = redis8.redis()
    fill(client)
    new = content(redis8)
    stamp = run(redis8, "redis_backup", options)["stamp"]
    client.flushall()
    client.set("old", "data")
    old = content(redis8)
    for step in ("rename to manifest.json", "rename to STAMP"):
        assert killed("redis_backup", {**redis8.login(), **options}, Kill(step)).result is None
        assert [each.name for each in Path(options["directory"], "redis", "redis").glob("2*")] == [stamp]
    wanted = {**redis8.login(), **options, "stamp": stamp, "confirm": ["recovery.restore:redis"]}
    for kill in KILLS:
        assert killed("redis_restore_backup", wanted, kill).result is None
        assert content(redis8) == (new if kill is KILLS[-1] else old)
    client.flushall()
    client.set("old", "data")
    # A busy engine may not have ended the programs of the killed run yet.
    tried = []

    def is_restored():
        tried.append(run(redis8, "redis_restore_backup", options, stamp=stamp))
        return tried[-1].get("result") == "done" or tried[-1].get("kind") != "busy"

    wait_until(is_restored, "the killed run to end", 60)
    assert tried[-1].get("result") == "done", tried
    assert content(redis8) == new
    # The engine may have created a container after its process was killed: the next run removes it.
    wait_until(lambda: run(redis8, "redis_prove_backup", options) and not left_behind(), "the containers to go", 60)
    assert not list(Path(options["directory"]).glob(".scratch-*"))


def run_problems(folder):
    """Return what differs between the files of a backup and its manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return [
        each["path"]
        for each in manifest["files"]
        if _manifests.checksum((folder / each["path"]).read_bytes()) != each["sha256"]
    ]
