# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of containers, as the area host_resources finds them on a real engine."""

from __future__ import annotations

import os

import pytest

from tests.integration.areas import diagnose, evaluate, fired, visit
from tests.integration.followed_hints import HOST_RESOURCES
from tests.integration.following import Operator, follow
from tests.integration.modules import run_module
from tests.lab.engine import docker
from tests.lab.shell import wait_until
from tests.lab.throwaway import project

MIB = 1 << 20
SETTINGS = {
    "tracktion_sample_seconds": 0.1,
    "host_resources_deadline": 60,
    "host_resources_deleted_bytes": 8 * MIB,
    # Many containers of other tests may run at the same time.
    "host_resources_top": 200,
}
# Fills the memory of the container, keeps a deleted file open, and writes a large log.
WORK = """
import os, time
for folder in ("/tmp", "/dev/shm"):
    try:
        with open(folder + "/data", "wb", buffering=0) as stream:
            while stream.write(b"x" * 65536):
                pass
    except OSError:
        pass
spool = open("/spool", "wb")
spool.write(b"x" * (12 << 20))
spool.flush()
os.fsync(spool.fileno())
os.unlink("/spool")
print("x" * (2 << 20), flush=True)
open("/ready", "w").close()
time.sleep(36000)
"""
LIMITS = ("--tmpfs", "/tmp:size=8m", "--shm-size", "8m", "--log-driver", "json-file")


@pytest.fixture(scope="module")
def found():
    """Names of a container with faults and of one without, the measurement and the findings."""
    with project("host-files") as mine:
        bad = mine.run("analysis_service", "python3", "-c", WORK, options=LIMITS)
        good = mine.run("file_watcher", options=(*LIMITS, "--log-opt", "max-size=10m"))
        wait_until(lambda: docker("exec", bad, "ls", "/").count("ready"), "the container to fill its disks", 60)
        area, outcome, settings = visit("host_resources", SETTINGS)
        assert outcome["error"] is None
        measured = outcome["measurement"]["resources"]
        yield bad, good, measured, evaluate(area, outcome, settings)


@pytest.mark.parametrize("path", ["/tmp", "/dev/shm"])
def test_memory_of_a_container(found, path):
    bad, good, _measured, findings = found
    objects = {finding["object"]: finding for finding in fired(findings, "host_resources.file_system_full")}
    finding = objects["%s %s" % (bad, path)]
    assert finding["status"] == "critical"
    assert "%s/data (" % path in finding["summary"]
    assert "docker exec %s du " % bad in finding["hint"]
    assert finding["remedy"] is None
    assert "%s %s" % (good, path) not in objects


def test_a_deleted_open_file(found):
    bad, good, measured, findings = found
    objects = {finding["object"]: finding for finding in fired(findings, "host_resources.deleted_open_files")}
    finding = objects["%s /spool" % bad]
    # The disk of the engine is not nearly full.
    assert "docker restart %s" % bad in finding["hint"]
    assert "of analysis_service" in finding["summary"]
    assert not any(name.startswith(good) for name in objects)
    (entry,) = [each for each in measured["deleted_open_files"] if each["container"] == bad]
    assert entry["bytes"] == pytest.approx(12 * MIB, abs=65536)
    assert entry["mount_point"] is not None


def test_log_files_without_rotation(found):
    bad, good, measured, _findings = found
    logs = {each["container"]: each for each in measured["container_logs"]}
    assert logs[bad]["bytes"] >= 2 * MIB
    assert logs[bad]["service"] == "analysis_service"
    assert good not in logs
    assert measured["container_logs_bytes"] >= logs[bad]["bytes"]


def test_the_overlay_is_counted_as_its_disk(found):
    bad, _good, measured, _findings = found
    mine = {each["mount_point"] for each in measured["file_systems"] if each["container"] == bad}
    assert mine <= {"/tmp", "/dev/shm", "/dev"}
    assert not [each for each in measured["file_systems"] if each["type"] == "overlay"]


def test_a_log_that_a_container_has_open_is_kept(tmp_path):
    """The container sees it under another path."""
    for name in ("open.gz", "closed.gz"):
        (tmp_path / name).write_bytes(b"x" * 1000)
        os.utime(tmp_path / name, (1e9, 1e9))
    hold = "import sys, time; held = open('/logs/open.gz', 'rb'); print('ready', flush=True); time.sleep(36000)"
    options = {"roots": [str(tmp_path)], "patterns": ["*.gz"], "older_than": 3600}
    with project("host-files") as mine:
        name = mine.run("analysis_service", "python3", "-c", hold, options=("--volume", "%s:/logs:ro" % tmp_path))
        wait_until(lambda: "ready" in docker("logs", name), "the file to be open", 30)
        planned, done = run_module("delete_files", options, check=True), run_module("delete_files", options)
        assert os.listdir(tmp_path) == ["open.gz"]
    assert planned["kept"] == done["kept"] == [{"path": str(tmp_path / "open.gz"), "reason": "open"}]
    assert run_module("delete_files", options)["deleted_total"] == 1


def test_the_hints_of_the_faults_of_the_lab(lab):
    """Both faults at once; what frees one of them leaves the other."""

    def measure():
        return diagnose("host_resources", SETTINGS)

    names = ("deleted-file-open", "full-temporary-directory")
    with lab.fault(names[0]), lab.fault(names[1]):
        for name in names:
            follow(Operator(directory=lab.directory), HOST_RESOURCES[name], measure(), measure)
