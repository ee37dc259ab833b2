# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _history_store as store
from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from tests.mutations import damaged, mutated
from tests.slack import SLACK

NOW = 1795400000.0
TIME = "2026-11-23T02:13:20Z"
ENTRY = {
    "id": "cache.full",
    "object": None,
    "title": "Full",
    "status": "critical",
    "summary": "full",
    "runs": "01",
    "since": TIME,
    "first_seen": TIME,
}


def state(*hosts, area="cache", **entry):
    return {host: {area: {"time": TIME, "findings": {"0123456789abcdef": {**ENTRY, **entry}}}} for host in hosts}


def record(*hosts, **entry):
    return {"run": {"time": TIME, "scope": "s", "counts": {}, "charts": []}, "state": state(*hosts, **entry)}


@pytest.fixture
def directory(tmp_path):
    with store.opened(str(tmp_path / "history"), make=True) as opened:
        yield opened


def test_what_a_run_did_not_measure_is_carried_over(directory):
    store.write(directory, record("a", "b"), store.Limits(), NOW)
    store.write(directory, record("b", summary="fuller"), store.Limits(), NOW + 1)
    found = store.read(directory)
    assert found["state"] == {**state("a"), **state("b", summary="fuller")}
    assert len(found["runs"]) == 2
    assert not found["problems"]


def test_limits(directory):
    for number in range(8):
        store.write(directory, record("a"), store.Limits(runs=5), NOW + number)
    assert len(store._names(directory)) == 5
    size = directory.size(store._names(directory)[0])
    store.write(directory, record("a"), store.Limits(size=3 * size), NOW + 10)
    assert len(store._names(directory)) == 3
    store.write(directory, record("a"), store.Limits(days=1), NOW + 2 * store.DAY)
    assert len(store._names(directory)) == 1
    assert store.write(directory, record("a"), store.Limits(size=10), NOW) == [
        "this run is not kept: it has %d bytes" % size
    ]
    assert store.write(directory, record("a"), store.Limits(runs=0), NOW) == []
    assert len(store._names(directory)) == 1


def test_a_file_of_another_version_and_a_damaged_one_are_left_out_and_kept(directory, tmp_path):
    store.write(directory, record("a"), store.Limits(), NOW)
    newer = json.dumps({"schema": store.SCHEMA, "schema_version": 99, "time": TIME, "charts": []})
    for name, text in (("20270101T000000Z-000001", newer), ("20270101T000000Z-000002", "{")):
        (tmp_path / "history" / (name + ".jsonl")).write_text(text + "\n{}\n")
    found = store.read(directory)
    assert found["state"] == state("a")
    assert "it is not complete" in found["problems"][0]
    assert "another version of this collection wrote it (version 99)" in found["problems"][1]
    store.write(directory, record("a"), store.Limits(), NOW + 1)
    assert len(store._names(directory)) == 4


def test_the_rest_of_a_killed_run_is_replaced(directory, tmp_path):
    (tmp_path / "history" / store.TEMPORARY).write_text("half of a r")
    store.write(directory, record("a"), store.Limits(), NOW)
    assert sorted(os.listdir(tmp_path / "history")) == sorted([store.LOCK, *store._names(directory)])


def _keep_writing(path):
    with store.opened(path, make=True) as directory:
        for number in range(100000):
            store.write(directory, record("host-%d" % (number % 50)), store.Limits(runs=20), NOW + number)


def test_kill_at_any_moment_leaves_a_valid_history(tmp_path):
    chance = random.Random(20261129)
    path = tmp_path / "history"
    for _turn in range(5):
        process = multiprocessing.get_context("fork").Process(target=_keep_writing, args=(str(path),))
        process.start()
        until = time.monotonic() + 5 * SLACK
        before = set(path.glob("*.jsonl"))
        while set(path.glob("*.jsonl")) <= before:
            assert time.monotonic() < until
        time.sleep(chance.random() * 0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with store.opened(str(path), make=False) as directory:
            found = store.read(directory)
        assert found["state"]
        assert not found["problems"]


def _write_some(path, host):
    with store.opened(path, make=True) as directory:
        for number in range(5):
            store.write(directory, record(host), store.Limits(), NOW + number)


def test_runs_at_the_same_time_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    hosts = ["a", "b", "c", "d"]
    processes = [context.Process(target=_write_some, args=(str(tmp_path / "history"), host)) for host in hosts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with store.opened(str(tmp_path / "history"), make=False) as directory:
        found = store.read(directory)
    assert sorted(found["state"]) == hosts
    assert len(found["runs"]) == 20


def test_no_mutation_of_a_file_raises(directory, tmp_path):
    store.write(directory, record("a", "b"), store.Limits(), NOW)
    path = tmp_path / "history" / store._names(directory)[0]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    chance = random.Random(20261130)
    used = 0
    for _turn in range(300):
        content = b"\n".join(json.dumps(mutated(line, chance)).encode() for line in lines)
        path.write_bytes(damaged(content, chance))
        found = store.read(directory)
        used += bool(found["state"])
        store.unpack(store.pack(found))
    assert used > 10


def test_a_link_and_a_directory_of_another_user_are_rejected(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotADirectoryError):
        store.opened(str(tmp_path / "fifo"), make=True)
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(_safe_files.Unsafe):
        store.opened(str(tmp_path / "open"), make=True)


def test_a_run_that_is_a_link_is_not_followed(directory, tmp_path):
    store.write(directory, record("a"), store.Limits(), NOW)
    name = "20270101T000000Z-000001.jsonl"
    (tmp_path / "history" / name).symlink_to(tmp_path / "history" / store._names(directory)[0])
    assert "symbolic link" in store.read(directory)["problems"][0]


@pytest.mark.parametrize("text", ["", "x", "eJw=", None, "AAAA"])
def test_a_packed_text_that_is_damaged_is_rejected(text):
    with pytest.raises(ValueError, match=r"padding|damaged|complete|base64|characters"):
        store.unpack(text)


def test_a_packed_text_that_explodes_is_rejected():
    bomb = store.pack(" " * (9 * store.FILE_BYTES))
    with pytest.raises(ValueError, match="too large"):
        store.unpack(bomb)
