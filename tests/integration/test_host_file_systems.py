# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""File systems and files of a host: each check fires on a real file system, and stays quiet without the fault."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.integration import remedies
from tests.integration.areas import diagnose, evaluate, fired, visit
from tests.integration.modules import run_module
from tests.lab.file_systems import namespace, stuck_mount
from tests.lab.shell import wait_until

MIB = 1 << 20
OLD = 1_000_000_000
# Containers of other tests have file systems too.
FAST = {"tracktion_sample_seconds": 0.1, "host_resources_deadline": 60, "host_resources_top": 200}
HOLD = """
import os, sys
stream = open(sys.argv[1], "wb")
stream.write(b"x" * int(sys.argv[2]))
stream.flush()
os.unlink(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""
CHECKS = (
    "file_system_full",
    "inodes_used",
    "temporary_files",
    "file_system_read_only",
    "mount_hung",
    "deleted_open_files",
)


def write(path, size, modified=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as stream:
        stream.write(b"x" * size)
        stream.flush()
        # Blocks are allocated when they are written.
        os.fsync(stream.fileno())
    if modified:
        os.utime(path, (modified, modified))


def fill(path):
    """Write to a file until its file system is full."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as stream:
        while stream.write(b"x" * 65536):
            pass


def look(before=None, **settings):
    """Return the measurement and the findings of the area."""
    area, outcome, settings = visit("host_resources", {**FAST, **settings}, before)
    assert outcome["error"] is None, outcome["error"]
    return outcome["measurement"]["resources"], evaluate(area, outcome, settings)


def about(findings, name, part, status=None):
    """Return the findings of a check whose object has ``part`` in it: the machine may have others."""
    found = [finding for finding in fired(findings, "host_resources." + name) if str(part) in finding["object"]]
    assert not status or [finding["status"] for finding in found] == [status], (name, findings.get(name), found)
    for finding in found:
        assert not finding["summary"].startswith(finding["title"]), finding["summary"]
        assert "None" not in finding["summary"], finding["summary"]
    return found


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """File systems with all faults at once, measured twice, and what was found."""
    folder = tmp_path_factory.mktemp("mounts")
    with namespace() as found:
        full = found.ext4(folder / "full", "64M")
        write(full / "music" / "mix.wav", 20 * MIB)
        for number in range(20):
            write(full / "log" / ("app.log.%d.gz" % number), 128 * 1024, OLD)
            write(full / "tmp" / ("decoded-%d.wav" % number), 128 * 1024, OLD)
        write(full / "log" / "app.log", MIB, OLD)
        small = found.ext4(folder / "small", "64M", "-N", "12000")
        for name in range(11400):
            os.close(os.open(small / str(name), os.O_CREAT | os.O_WRONLY))
        found.ext4(folder / "stopped", "8M")
        # The kernel stops to write to it as after an error.
        found.run("mount", "-o", "remount,abort", folder / "stopped")
        healthy = found.ext4(folder / "healthy", "64M")
        write(healthy / "file", 10 * MIB)
        found.ext4(folder / "readonly", "8M")
        found.run("mount", "-o", "remount,ro", folder / "readonly")
        (folder / "fstab").write_text("# fstab\n/dev/x %s ext4 defaults 0 2\n" % (folder / "readonly"))
        found.run("mount", "--bind", folder / "fstab", "/etc/fstab")
        held = [sys.executable, "-c", HOLD, str(full / "spool"), str(10 * MIB)]
        with (
            stuck_mount(found, folder / "stuck"),
            subprocess.Popen(held, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        ):
            assert process.stdout.readline() == "ready\n"
            fill(full / "rest")
            settings = {
                "host_resources_mount_timeout": 1.0,
                "host_resources_log_roots": [str(folder / "full" / "log")],
                "host_resources_temporary_roots": [str(folder / "full" / "tmp")],
                "host_resources_temporary_patterns": ["decoded-*.wav"],
                "file_watching_directories": [str(folder / "full" / "music")],
            }
            measured, findings = look(found.enter, **settings)
            yield folder, found, settings, measured, findings, process.pid
            process.kill()


def test_high_and_harmless_is_info(broken):
    """A real measurement with other sizes: 95 % of 10 TB with 500 GiB free are no warning."""
    folder, found, settings, _measured, _findings, _pid = broken
    area, outcome, variables = visit("host_resources", {**FAST, **settings}, found.enter)
    entry = item(outcome["measurement"]["resources"], folder / "healthy")
    sizes = [
        (10 << 40, 500 << 30, "info"),
        (10 << 40, 4 << 30, "critical"),
        (1 << 40, 30 << 30, "info"),
        (100 << 30, 9 << 30, "warning"),
        (100 << 30, 1 << 30, "critical"),
        (100 << 30, 30 << 30, None),
    ]
    for size, available, status in sizes:
        entry.update(bytes=size, available_bytes=available, used_bytes=size - available)
        entry.update(used_ratio=1 - available / size, reserved_bytes=0)
        fired_now = about(evaluate(area, outcome, variables), "file_system_full", folder / "healthy")
        assert [finding["status"] for finding in fired_now] == ([status] if status else []), (size, available)


def item(measured, path):
    (entry,) = [each for each in measured["file_systems"] if each["mount_point"] == str(path)]
    return entry


def test_a_full_file_system_names_what_fills_it(broken):
    folder, _found, _settings, measured, findings, _pid = broken
    (finding,) = about(findings, "file_system_full", folder / "full", "critical")
    # The rest that filled it is as large as the music, or larger.
    assert "%s (" % (folder / "full" / "music" / "mix.wav") in finding["summary"]
    assert "%s (" % (folder / "full" / "rest") in finding["summary"]
    assert finding["remedy"]["id"] == "host_resources.delete_logs"
    entry = item(measured, folder / "full")
    assert entry["available_bytes"] < MIB
    assert {"deleted", "file"} <= {each["kind"] for each in entry["causes"]}
    assert entry["log_files"] == entry["temporary_files"] == 20
    assert not about(findings, "file_system_full", folder / "healthy")
    roots = [each["root"] for each in measured["largest"]]
    assert roots.index(str(folder / "full" / "music")) < roots.index(str(folder / "full"))


def test_sizes_are_those_of_df(broken):
    folder, found, _settings, measured, _findings, _pid = broken
    line = found.run("df", "--block-size=1", "--output=size,used,avail,itotal,iused", folder / "healthy").splitlines()
    size, used, available, inodes, inodes_used = map(int, line[1].split())
    entry = item(measured, folder / "healthy")
    assert (entry["bytes"], entry["used_bytes"], entry["available_bytes"]) == (size, used, available)
    assert (entry["inodes"], entry["inodes_used"]) == (inodes, inodes_used)


def test_exhausted_inodes(broken):
    folder, _found, _settings, _measured, findings, _pid = broken
    (finding,) = about(findings, "inodes_used", folder / "small", "warning")
    assert "inodes" in finding["summary"]
    # There are no logs.
    assert finding["remedy"] is None
    assert not about(findings, "inodes_used", folder / "healthy")


def test_read_only_file_systems(broken):
    folder, _found, _settings, _measured, findings, _pid = broken
    about(findings, "file_system_read_only", folder / "stopped", "critical")
    (finding,) = about(findings, "file_system_read_only", folder / "readonly", "warning")
    assert "mount -o remount,rw" in finding["hint"]
    assert not about(findings, "file_system_read_only", folder / "healthy")


def test_a_hung_mount_costs_only_itself(broken):
    folder, _found, _settings, measured, findings, _pid = broken
    (finding,) = about(findings, "mount_hung", folder / "stuck", "critical")
    assert "nas:/music" in finding["summary"]
    entry = item(measured, folder / "stuck")
    assert entry["bytes"] is None
    assert measured["file_systems"].index(entry) == 0
    assert not about(findings, "mount_hung", folder / "healthy")


def test_a_deleted_open_file(broken):
    folder, _found, _settings, measured, findings, pid = broken
    (finding,) = about(findings, "deleted_open_files", folder / "full" / "spool", "critical")
    assert "pid %d" % pid in finding["summary"]
    (entry,) = [each for each in measured["deleted_open_files"] if each["pid"] == pid]
    assert entry["bytes"] == pytest.approx(10 * MIB, abs=65536)
    assert entry["mount_point"] == str(folder / "full")


def test_ten_visits_leave_one_process(broken):
    """It is found by its name, and the mount stays hung since the first visit."""
    folder, found, settings, measured, _findings, _pid = broken
    device = item(measured, folder / "stuck")["device"]
    name = "statvfs%08x" % device
    since = item(measured, folder / "stuck")["hung_since"]
    assert len(stuck(name)) == 1
    for _visit in range(9):
        again, _findings = look(found.enter, **settings)
        entry = item(again, folder / "stuck")
        assert entry["hung"]
        assert entry["hung_since"] == pytest.approx(since, abs=60)
        assert len(stuck(name)) == 1
    # Another mount namespace, as that of a container, shows the same mount.
    _measured, findings = look(**settings)
    (finding,) = about(findings, "mount_hung", folder / "stuck", "critical")
    assert "`nsenter --mount --target " in finding["hint"]
    assert len(stuck(name)) == 1


def stuck(name):
    """The processes of this name that are no zombies."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/comm" % pid) as stream, open("/proc/%s/stat" % pid) as status:
                if stream.read().strip() == name and status.read().rpartition(")")[2].split()[0] != "Z":
                    found.append(int(pid))
        except OSError:
            continue
    return found


def test_remedies_free_the_file_system(broken, monkeypatch):
    """Last, because it mends. Check mode first; only what was offered is gone."""
    folder, found, settings, _measured, findings, _pid = broken
    full = found.path(folder / "full")
    (finding,) = about(findings, "temporary_files", folder / "full", "info")
    assert finding["remedy"]["id"] == "host_resources.delete_temporary"
    (first,) = about(findings, "file_system_full", folder / "full")
    for proposal, pattern in ((finding["remedy"], "tmp/decoded-*"), (first["remedy"], "log/*.gz")):
        for check in (True, False):
            before = sorted(full.glob(pattern))
            with monkeypatch.context() as patched:
                patched.setattr(remedies, "run_module", partial(run_module, before=found.enter))
                done = remedies.carry_out(proposal, {}, check, **settings)
            assert done["deleted_total"] == 20, done
            assert sorted(full.glob(pattern)) == (before if check else [])
    assert (full / "log" / "app.log").exists()
    assert (full / "music" / "mix.wav").exists()
    _measured, after = look(found.enter, **settings)
    assert not about(after, "temporary_files", folder / "full")
    for left in about(after, "file_system_full", folder / "full"):
        assert left["remedy"] is None


def waiting_in_the_kernel():
    """Return the threads in state D. The process of one may have ended."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/task/*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text(errors="replace").rpartition(")")[2].split()[0] == "D":
                found.add(path)
    return found


def test_a_watched_directory_on_a_hung_mount_leaves_no_further_process(broken):
    folder, found, *_rest = broken
    path = str(folder / "stuck" / "music")
    settings = {"file_watching_directories": [path], "file_watching_timeout": 0.5}
    before = waiting_in_the_kernel()
    for _visit in range(3):
        (finding,) = fired(diagnose("file_watching", settings, found.enter), "file_watching.directory_not_answering")
        assert finding["object"] == path
    # Others on this machine may wait for a disk for a moment.
    wait_until(lambda: not waiting_in_the_kernel() - before, "no process to be left behind", 10)
