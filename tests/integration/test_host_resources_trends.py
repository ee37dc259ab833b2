# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Leaks of real processes and containers, found by a loop and by a history of diagnoses. Flat ones stay quiet.

They leak 1 MiB a second instead of 1 MiB a minute, and are measured every second instead of every half minute.
"""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._host import _history
from tests.integration import growth_faults as faults
from tests.integration.areas import diagnose, fired
from tests.integration.modules import run_module
from tests.integration.playbooks import LOCAL, inventory, run_playbook
from tests.lab import file_systems
from tests.lab.throwaway import project

MIB = 1 << 20
LIMIT = ("--memory", "192m", "--memory-swap", "192m", "--network", "none")
VISITS = 14


@pytest.fixture(scope="module")
def services():
    """A container that leaks, one that is noisy, and a process outside of them that fills the host in three hours."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    available = int(re.search(r"MemAvailable: +(\d+) kB", text).group(1)) // 1024
    rate = 1 + available // (3 * 3600)
    with project("host_resources") as found, faults.orphan(faults.LEAK, str(rate)) as pid:
        leaking = found.run("leaking", "python3", "-c", faults.LEAK, "1", options=LIMIT)
        noisy = found.run("noisy", "python3", "-c", faults.NOISE, options=LIMIT)
        yield {"leaking": leaking, "noisy": noisy, "pid": pid, "rate": rate}


@pytest.fixture
def path(tmp_path):
    os.chmod(tmp_path, 0o700)
    return str(tmp_path / "history" / "host.jsonl")


@pytest.fixture
def disks(tmp_path):
    """A file system that fills, and one that is nearly full and stays so, in a namespace of their own."""
    with file_systems.namespace() as found:
        filling, full = tmp_path / "filling", tmp_path / "flat"
        inner = found.ext4(filling, "96M")
        faults.leave_free(inner, 15 * MIB)
        faults.leave_free(found.tmpfs(full, "8m"), 1 * MIB)
        with faults.orphan(faults.FILL, str(inner / "log"), "200"):
            yield {"enter": found.enter, "filling": str(filling), "flat": str(full)}


def visit(path, before=None, **settings):
    """Return the findings of a diagnosis that keeps a history."""
    short = {"tracktion_sample_seconds": 0.1, "host_resources_warm_up": 0, "host_resources_top": 40}
    return diagnose("host_resources", {**short, "host_resources_history": path, **settings}, before)


def test_the_loop_of_the_guide_finds_a_leak_beside_noise(services):
    """Twelve samples: `ansible HOST -m tracktion.ops.host_resources_info -a 'samples=12 interval=1'`."""
    options = {"samples": 12, "interval": 1.0, "sample_seconds": 0.1, "top": 150, "warm_up_seconds": 0}
    found = run_module("host_resources_info", options)["trends"]
    assert (found["samples"], found["history"], found["missing"]) == (12, None, "12 of 24 samples")
    of_container = {item["container"]: item for item in found["memory"] if item["kind"] == "container"}
    leak, noise = of_container[services["leaking"]], of_container[services["noisy"]]
    assert leak["growing"] is True
    assert leak["bytes_per_second"] == pytest.approx(MIB, rel=0.15)
    assert leak["bytes_per_second_low"] <= leak["bytes_per_second"] <= leak["bytes_per_second_high"]
    assert (leak["limit_of"], leak["limit_bytes"]) == ("container", 192 * MIB)
    assert noise["growing"] is None
    assert noise["reason"]
    of_process = {item["pid"]: item for item in found["memory"] if item["kind"] == "process"}
    assert of_process[services["pid"]]["growing"] is True
    assert of_process[services["pid"]]["bytes_per_second"] == pytest.approx(services["rate"] * MIB, rel=0.15)
    # The process of the container, if it is one of the largest of this machine, is the same leak.
    inner = [item for item in of_process.values() if item["container"] == services["leaking"] and item["growing"]]
    assert all(item["in_growing_container"] for item in inner)


def test_diagnoses_with_a_history_find_what_grows_beside_noise(services, disks, path):
    """A writer is killed between two of them, and the file has a sample of another boot."""
    assert "host_resources.memory_leak" not in visit(path, disks["enter"])
    for number in range(1, VISITS):
        began = time.monotonic()
        if number == 4:
            faults.kill_a_writer(path, 0.05)
            other = _history.now({}, {})._replace(boot="before", up=5.0)
            _history.visit(path, [other])
        findings = visit(path, disks["enter"])
        # The machine decides how long a diagnosis takes.
        time.sleep(max(0.0, began + 0.7 - time.monotonic()))
    found = {finding["object"]: finding for finding in fired(findings, "host_resources.memory_leak")}
    assert found[services["leaking"]]["status"] == "critical"
    assert "the limit of 192.0 MiB is" in found[services["leaking"]]["summary"]
    assert "docker restart %s" % services["leaking"] in found[services["leaking"]]["hint"]
    assert services["noisy"] not in found
    (process,) = [found[name] for name in found if name.endswith("(pid %d)" % services["pid"])]
    assert "the end of the host's available memory (" in process["summary"]
    assert "/proc/%d/status" % services["pid"] in process["hint"]
    filling = {finding["object"]: finding for finding in fired(findings, "host_resources.file_system_filling")}
    assert filling[disks["filling"]]["status"] == "critical"
    assert disks["flat"] not in filling
    # One line states what is missing for slow leaks.
    (missing,) = fired(findings, "host_resources.trends_missing", "info")
    assert missing["summary"].startswith("No statement about slow growth yet: ")
    assert not fired(findings, "host_resources.history_unusable")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_without_the_option_nothing_is_written_and_trends_are_quiet(tmp_path):
    findings = visit("")
    assert not [name for name in findings if name.endswith(("_leak", "_filling", "_unusable", "_missing"))]
    assert os.listdir(tmp_path) == []


def test_in_check_mode_nothing_is_written(path):
    run_module("host_resources_info", {"history": path, "sample_seconds": 0.1}, check=True)
    assert not os.path.exists(os.path.dirname(path))


def test_a_diagnosis_in_check_mode_writes_nothing(path, tmp_path):
    hosts = inventory(tmp_path / "inventory.yml", {"here": LOCAL}, host_resources_history=path)
    extra = {"tracktion_areas": ["host_resources"], "tracktion_sample_seconds": 0.1}
    found = run_playbook("diagnose", hosts, tmp_path / "reports", "--check", extra=extra)
    assert "host_resources.trends_missing" in {finding["id"] for finding in found.report["findings"]}
    assert not os.path.exists(os.path.dirname(path))


@pytest.mark.parametrize(
    ("content", "summary"),
    [
        (
            b'{"v":1,"boot":"a","wall',
            "history: 1 of 1 lines are damaged, and were skipped; it was renamed to host.jsonl.old",
        ),
        (b'{"v":9}\n', "history: 1 lines are of another version (9); it was renamed to host.jsonl.old"),
        (None, "is a symbolic link, not a regular file"),
    ],
)
def test_a_bad_file_fires_and_the_rest_is_measured(path, content, summary):
    os.mkdir(os.path.dirname(path), 0o700)
    if content is None:
        os.symlink("/etc/hostname", path)
    else:
        with open(path, "wb") as stream:
            stream.write(content)
    findings = visit(path)
    (finding,) = fired(findings, "host_resources.history_unusable", "warning")
    assert summary in finding["summary"]
    assert fired(findings, "host_resources.trends_missing", "info")
    if content is None:
        assert os.path.islink(path)
    else:
        assert not fired(visit(path), "host_resources.history_unusable")


def test_a_history_on_a_full_file_system(tmp_path):
    with file_systems.namespace() as found:
        inner = found.tmpfs(tmp_path / "full", "64k")
        path = str(tmp_path / "full" / "host.jsonl")
        os.chmod(inner, 0o700)
        faults.leave_free(inner, 0)
        findings = visit(path, found.enter)
    (finding,) = fired(findings, "host_resources.history_unusable", "warning")
    assert "No space left on device" in finding["summary"]
    assert fired(findings, "host_resources.trends_missing", "info")
