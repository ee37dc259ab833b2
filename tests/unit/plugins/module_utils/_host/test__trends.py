# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trends of simulated series in a history file, about this process and a file system."""

from __future__ import annotations

import json
import os
import threading

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _growth, _history, _trends
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._growth import Subject
from ansible_collections.tracktion.ops.plugins.module_utils._host._history import Sample
from ansible_collections.tracktion.ops.plugins.module_utils._host_visit import probes_of
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline
from ansible_collections.tracktion.ops.plugins.plugin_utils import _probe_options

MIB = 1 << 20
HOUR = 3600.0
OPTIONS = {name: spec.get("default") for name, spec in _trends.ARGUMENT_SPEC.items()}
MOUNT = {
    "mount_point": "/srv",
    "source": "/dev/sda1",
    "type": "ext4",
    "device": 1,
    "in_memory": False,
    "container": None,
    "service": None,
    "read_only": False,
    "used_bytes": 1000 * MIB,
    "available_bytes": 100 * MIB,
}
NOW = Sample("boot", 1e9, 1e6, {}, {})
KEY = "c:x:1"
SYSTEM = "disk /srv /dev/sda1 "


@pytest.fixture
def path(tmp_path):
    os.chmod(tmp_path, 0o700)
    return str(tmp_path / "host.jsonl")


@pytest.fixture
def subject(monkeypatch):
    """One container, which uses 500 MiB of its limit of 1000, is the only one on the host, and has run for days."""
    found = Subject(KEY, 500 * MIB, NOW.up - 9e5, True, None, "f" * 64, 1000 * MIB, 500 * MIB)
    monkeypatch.setattr(_growth, "containers", lambda *_arguments: [found])
    monkeypatch.setattr(_growth, "processes", lambda *_arguments: [])
    monkeypatch.setattr(_history, "now", lambda memory, files: NOW._replace(memory=memory, files=files))
    return found


def write(path, count, memory=None, files=None, interval=1800.0, **how):
    """Write ``count`` samples before now, in which a function of the number of samples that follow gives the bytes."""
    samples = []
    for number in range(count, 0, -1):
        tables = [{} if value is None else {key: int(value(number))} for key, value in ((KEY, memory), (SYSTEM, files))]
        times = {"wall": NOW.wall - number * interval, "up": NOW.up - number * interval}
        samples.append(Sample(**{**NOW._asdict(), **times, "memory": tables[0], "files": tables[1], **how}))
    assert _history.visit(path, samples).problems == []


def trends(available=4000 * MIB, **options):
    context = Context({"docker_root": None, "top": 5, **OPTIONS, **options}, Deadline(5), Deadline(5))
    measured = {"memory": {"available_bytes": available}, "file_systems": [MOUNT]}
    found = _trends.describe(context, measured)["trends"]
    assert context.unknown.parts == []
    return found


def test_nothing_is_measured_without_an_option():
    found = trends()
    assert (found["missing"], found["memory"], found["history"]) == (
        "needs the option history, or samples=10",
        [],
        None,
    )


@pytest.mark.parametrize("options", [{"samples": 0}, {"samples": 201}, {"samples": 2, "interval": 0.0}])
def test_invalid_options(options):
    with pytest.raises(BadOption):
        _trends.check_options({**OPTIONS, **options})


def test_a_leak_in_the_history(path, subject):
    write(path, 47, lambda number: subject.used - number * 5 * MIB)
    found = trends(history=path)
    assert (found["samples"], found["missing"], found["notes"]) == (48, None, [])
    assert found["history"] == {"path": path, "problems": []}
    (leak,) = found["memory"]
    assert (leak["kind"], leak["growing"], leak["samples"], leak["limit_of"]) == ("container", True, 48, "container")
    assert leak["bytes_per_second"] == pytest.approx(5 * MIB / 1800, abs=1)
    assert leak["seconds_to_limit"] == pytest.approx(50 * HOUR, rel=0.01)
    assert (leak["limit_bytes"], leak["room_bytes"]) == (1000 * MIB, 500 * MIB)


def test_the_memory_of_the_host_is_the_nearer_limit(path, subject):
    write(path, 47, lambda number: subject.used - number * 5 * MIB)
    (leak,) = trends(history=path, available=50 * MIB)["memory"]
    assert (leak["limit_of"], leak["limit_bytes"], leak["room_bytes"]) == ("host", None, 50 * MIB)
    assert leak["seconds_to_limit"] == pytest.approx(5 * HOUR, rel=0.01)


def test_flat_memory_and_a_flat_file_system(path, subject):
    write(path, 47, lambda number: subject.used + number % 3 * MIB, lambda number: MOUNT["used_bytes"])
    found = trends(history=path)
    assert [item["growing"] for item in found["memory"] + found["file_systems"]] == [False, False]


def test_a_restarted_container_is_another_series(path, subject):
    write(path, 40, lambda number: subject.used - number * 5 * MIB)
    found = _history.visit(path, [], read_only=True).samples
    renamed = [sample._replace(memory={"c:x:0": 1 * MIB}) for sample in found]
    _trend_file(path, renamed)
    (item,) = trends(history=path)["memory"]
    assert (item["growing"], item["reason"], item["samples"]) == (None, "1 of 10 samples", 1)


def test_a_process_of_an_earlier_boot_is_another_series(path, subject):
    write(path, 40, lambda number: subject.used - number * 5 * MIB, boot="before")
    found = trends(history=path)
    (item,) = found["memory"]
    assert (item["growing"], item["reason"]) == (None, "1 of 10 samples")
    assert found["notes"] == ["1 reboot"]
    assert found["samples"] == 41


def test_a_disk_goes_on_after_a_reboot(path, subject):
    write(path, 13, files=lambda number: MOUNT["used_bytes"] - number * 5 * MIB, boot="before")
    (system,) = trends(history=path)["file_systems"]
    assert (system["growing"], system["samples"]) == (True, 14)
    assert system["seconds_to_limit_at_most"] == pytest.approx(10 * HOUR, rel=0.01)
    assert system["free_ratio"] == round(100 / 1100, 4)


def test_a_clock_that_was_set_changes_no_trend(path, subject):
    write(path, 47, lambda number: subject.used - number * 5 * MIB)
    samples = _history.visit(path, [], read_only=True).samples
    _trend_file(
        path, [one._replace(wall=one.wall + (86400 if number > 20 else 0)) for number, one in enumerate(samples)]
    )
    found = trends(history=path)
    assert found["memory"][0]["bytes_per_second"] == pytest.approx(5 * MIB / 1800, abs=1)
    assert found["notes"] == ["the clock of the host was set by +86400 s", "the clock of the host was set by -86400 s"]


def test_the_warm_up_does_not_count(path, subject, monkeypatch):
    young = subject._replace(started=NOW.up - 500)
    monkeypatch.setattr(_growth, "containers", lambda *_arguments: [young])
    write(path, 11, lambda number: subject.used - number * 40 * MIB, interval=30.0)
    (item,) = trends(history=path)["memory"]
    assert (item["growing"], item["reason"]) == (None, "0 of 10 samples, after a warm-up of 600 s")
    os.unlink(path)
    write(path, 11, lambda number: subject.used - number * 40 * MIB, interval=30.0)
    assert trends(history=path, warm_up_seconds=0.0)["memory"][0]["growing"] is True


def test_a_process_in_a_growing_container_is_marked(path, subject, monkeypatch):
    own = Subject(KEY, subject.used, subject.started, True, os.getpid(), None, None, None)
    monkeypatch.setattr(_growth, "processes", lambda *_arguments: [own])
    monkeypatch.setattr(Context, "group", lambda *_arguments: "0::/system.slice/docker-%s.scope" % subject.identity)
    write(path, 47, lambda number: subject.used - number * 5 * MIB)
    container, process = trends(history=path)["memory"]
    assert (container["in_growing_container"], process["in_growing_container"]) == (False, True)
    assert process["limit_of"] == "container"


def test_a_file_that_cannot_be_used_does_not_lose_the_measurement(path, subject):
    os.symlink("/etc/passwd", path)
    found = trends(history=path)
    assert "is a symbolic link" in found["history"]["problems"][0]
    assert (found["samples"], found["missing"]) == (1, "1 of 24 samples")
    assert found["memory"][0]["reason"] == "1 of 10 samples"


def test_a_history_on_a_file_system_that_hangs_does_not_lose_the_measurement(path, subject, monkeypatch):
    monkeypatch.setattr(_trends, "HISTORY_SECONDS", 0.05)
    end = threading.Event()
    monkeypatch.setattr(_history, "visit", lambda *_arguments: end.wait(60))
    try:
        found = trends(history=path)
    finally:
        end.set()
    assert found["history"]["problems"] == ["history: no answer within 0.1 s, as from a mount whose server is gone"]
    assert found["memory"][0]["reason"] == "1 of 10 samples"


def test_in_check_mode_nothing_is_written(path, subject):
    write(path, 3, lambda number: subject.used)
    before = os.stat(path)
    found = trends(history=path, read_only=True)
    assert found["samples"] == 4
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_visit_in_check_mode_writes_nothing(path, check_mode):
    options = {"history": path, "sample_seconds": 0.0}
    probes = {"resources": {"module": "host_resources_info", "options": options}}
    found = probes_of({"deadline": 30.0, "probes": _probe_options.validated(probes)}, check_mode)["resources"]()
    assert found["trends"]["samples"] == 1
    assert os.path.exists(path) is not check_mode


def test_lists_are_bounded_and_growth_comes_first(subject, path, monkeypatch):
    many = [subject._replace(key="c:%d" % number, identity=str(number) * 64) for number in range(9)]
    monkeypatch.setattr(_growth, "containers", lambda *_arguments: [*many, subject])
    write(path, 47, lambda number: subject.used - number * 5 * MIB)
    found = trends(history=path)
    assert (len(found["memory"]), found["memory_total"]) == (5, 10)
    assert [item["growing"] for item in found["memory"]] == [True, None, None, None, None]


def _trend_file(path, samples):
    with open(path, "wb") as stream:
        stream.write(b"".join(map(_history.encode, samples)))


def test_a_sample_of_the_history_holds_no_names(path, subject):
    trends(history=path)
    with open(path, encoding="utf-8") as stream:
        assert set(json.loads(stream.read())) == {"v", "boot", "wall", "up", "memory", "files"}
