# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""sysctl_floors with real kernel parameters, in network namespaces of its own."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

from tests.integration import inotify_faults as faults
from tests.integration import kernels
from tests.integration.modules import run_module, run_module_in_container
from tests.lab.images import ensure_image

DROP_IN = "/etc/sysctl.d/60-tracktion-sysctl.conf"
BACKLOG = "net.core.somaxconn"
KEEPALIVE = "net.ipv4.tcp_keepalive_time"
MAPS = "vm.max_map_count"


@pytest.fixture
def kernel(tmp_path):
    with kernels.kernel(tmp_path) as found:
        yield found


@pytest.fixture
def raise_to(kernel):
    """Return a function that raises parameters of the kernel to floors."""

    def run(floors, **options):
        arguments = {"floors": floors, "sysctl_root": str(kernel.root)}
        return run_module("sysctl_floors", arguments, before=kernel.enter, **options)

    return run


@pytest.fixture
def drop_in(kernel):
    return kernel.file("60-tracktion-sysctl.conf")


def test_check_mode_change_and_second_run(kernel, drop_in, raise_to):
    before = kernel.get(BACKLOG), kernel.get(KEEPALIVE)
    floors = {BACKLOG: before[0] + 100, "net/ipv4/tcp_keepalive_time": str(before[1] + 7)}

    first = raise_to(floors, check=True, diff=True)
    assert first["changed"] is True
    assert (kernel.get(BACKLOG), kernel.get(KEEPALIVE)) == before
    assert not drop_in.exists()

    second = raise_to(floors, diff=True)
    assert (second["changed"], second["diff"], second["raised"]) == (True, first["diff"], first["raised"])
    assert (kernel.get(BACKLOG), kernel.get(KEEPALIVE)) == (before[0] + 100, before[1] + 7)
    assert drop_in.read_text() == second["diff"][1]["after"]
    assert drop_in.stat().st_mode & 0o777 == 0o644
    assert os.listdir(drop_in.parent) == [drop_in.name]
    (entry, _other) = second["parameters"]
    assert (entry["runtime"], entry["persisted"], entry["file"]) == (before[0] + 100, before[0] + 100, DROP_IN)

    written = drop_in.stat().st_mtime_ns
    for check in (True, False):
        again = raise_to(floors, check=check, diff=True)
        assert (again["changed"], again["diff"]) == (False, [])
    assert drop_in.stat().st_mtime_ns == written


def test_a_boot_restores_the_floor(kernel, drop_in, raise_to):
    """The real sysctl loads the drop-in after the value was reset."""
    before = kernel.get(BACKLOG)
    raise_to({BACKLOG: before + 100})
    kernel.set(BACKLOG, before)
    kernel.run("sysctl", "--load=%s" % drop_in)
    assert kernel.get(BACKLOG) == before + 100


def test_a_higher_value_in_a_file_is_not_changed(kernel, drop_in, raise_to):
    kernel.set(BACKLOG, 9000)
    kernel.file("50-theirs.conf").write_text(BACKLOG + " = 9000\n")
    result = raise_to({BACKLOG: 8000})
    assert result["changed"] is False
    assert kernel.get(BACKLOG) == 9000
    assert not drop_in.exists()
    assert result["parameters"][0]["file"] == "/etc/sysctl.d/50-theirs.conf"


def test_a_higher_value_without_a_file_is_written(kernel, drop_in, raise_to):
    kernel.set(BACKLOG, 9000)
    result = raise_to({BACKLOG: 8000})
    assert (result["raised"]["before"], result["raised"]["after"]) == ({BACKLOG: 9000}, {BACKLOG: 9000})
    assert kernel.get(BACKLOG) == 9000
    assert BACKLOG + " = 9000\n" in drop_in.read_text()


def test_a_value_that_drifted_is_raised_again(kernel, raise_to):
    raise_to({BACKLOG: 9000})
    kernel.set(BACKLOG, 100)
    assert raise_to({BACKLOG: 9000})["changed"] is True
    assert kernel.get(BACKLOG) == 9000


def test_a_file_that_undoes_a_floor_is_named_and_the_task_fails(kernel, raise_to):
    theirs = kernel.file("99-theirs.conf")
    theirs.write_text("# theirs\nnet/core/somaxconn = 128\n")
    for check in (True, False, True):
        result = raise_to({BACKLOG: 9000}, check=check)
        assert result["failed"] is True
        assert "line 2 of /etc/sysctl.d/99-theirs.conf sets 128" in result["msg"]
    assert kernel.get(BACKLOG) == 9000
    assert theirs.read_text().startswith("# theirs\n")
    theirs.unlink()
    assert raise_to({BACKLOG: 9000})["changed"] is False


def test_only_the_own_lines_of_a_broken_drop_in_are_corrected(kernel, drop_in, raise_to):
    drop_in.write_bytes(b"# caf\xe9\nthis is no setting\nnet.core.somaxconn = lots\n")
    result = raise_to({BACKLOG: 9000})
    assert result["changed"] is True
    assert drop_in.read_bytes() == b"# caf\xe9\nthis is no setting\nnet.core.somaxconn = 9000\n"
    (line,) = result["broken_lines"]
    assert (line["file"], line["line"], line["text"]) == (DROP_IN, 2, "this is no setting")


def test_a_dot_in_the_name_of_an_interface(kernel, drop_in, raise_to):
    kernel.run("ip", "link", "set", "lo", "name", "eth0.1")
    key = "net.ipv4.neigh.eth0/1.gc_stale_time"
    for spelling in (key, "net/ipv4/neigh/eth0.1/gc_stale_time"):
        assert "failed" not in raise_to({spelling: 77})
    assert kernel.run("cat", "/proc/sys/net/ipv4/neigh/eth0.1/gc_stale_time") == "77"
    assert drop_in.read_text().count("gc_stale_time") == 1
    # The real sysctl accepts the drop-in.
    assert kernel.run("sysctl", "--load=%s" % drop_in) == key + " = 77"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("net.ipv4.tcp_rmem", "it holds several values"),
        ("net.core.somaxcon", "this kernel has no such parameter"),
        ("net.core", "it is a group of parameters"),
        ("net.ipv4.route.flush", "it cannot be read"),
        ("kernel.ostype", "it is 'Linux'"),
        ("net.core.../.../etc", "not the name of one kernel parameter"),
        ("net.ipv4.//.//.etc.passwd", "not the name of one kernel parameter"),
    ],
)
def test_an_invalid_parameter_is_rejected_before_any_change(kernel, drop_in, raise_to, name, reason):
    before = kernel.get(BACKLOG)
    result = raise_to({BACKLOG: before + 1, name: 5})
    assert result["failed"] is True
    assert result["msg"].startswith("floors: %s: " % name)
    assert reason in result["msg"]
    assert kernel.get(BACKLOG) == before
    assert not drop_in.exists()


def test_a_value_that_the_kernel_rejects_is_reported_with_earlier_changes(kernel, drop_in, raise_to):
    before = kernel.get(BACKLOG), kernel.get("net.ipv4.ip_default_ttl")
    result = raise_to({BACKLOG: before[0] + 1, "net.ipv4.ip_default_ttl": 300})
    assert (result["failed"], result["changed"]) == (True, True)
    assert "The kernel rejected net.ipv4.ip_default_ttl = 300: Invalid argument" in result["msg"]
    assert result["raised"]["after"] == {BACKLOG: before[0] + 1, "net.ipv4.ip_default_ttl": before[1]}
    assert result["raised"]["persisted_after"] == dict.fromkeys(result["raised"]["after"])
    assert (kernel.get(BACKLOG), kernel.get("net.ipv4.ip_default_ttl")) == (before[0] + 1, before[1])
    assert not drop_in.exists()


def test_raising_needs_root(kernel):
    def enter():
        kernel.enter()
        faults.become(faults.OTHER_UID)

    before = kernel.get(BACKLOG)
    arguments = {"floors": {BACKLOG: before + 1}, "sysctl_root": "/nonexistent"}
    for check in (True, False):
        result = run_module("sysctl_floors", arguments, check=check, before=enter)
        assert result["failed"] is True
        assert "become: true" in result["msg"]
    assert kernel.get(BACKLOG) == before


def test_root_of_a_user_namespace_must_raise_it_on_the_host():
    def enter():
        faults.become(faults.OTHER_UID)
        faults.call(faults.libc.unshare, 0x10000000)
        Path("/proc/self/uid_map").write_text("0 %d 1" % faults.OTHER_UID)
        faults.call(faults.libc.setuid, ctypes.c_uint(0))

    before = int(Path("/proc/sys/vm/max_map_count").read_text())
    result = run_module("sysctl_floors", {"floors": {MAPS: before + 1}, "sysctl_root": "/nonexistent"}, before=enter)
    assert result["changed"] is False
    assert "raise it on the host" in result["raised"]["skipped_reason"]
    assert int(Path("/proc/sys/vm/max_map_count").read_text()) == before


def test_in_an_ordinary_container_nothing_is_changed():
    floors = {BACKLOG: 1 << 20, "net.core.busy_poll": 50}
    result = run_module_in_container(ensure_image("bookworm"), "sysctl_floors", {"floors": floors})
    assert "failed" not in result
    assert result["changed"] is False
    assert "read-only" in result["raised"]["skipped_reason"]
    assert result["raised"]["after"] == result["raised"]["before"]
    # The network namespace of the container has only the first parameter.
    assert result["raised"]["before"]["net.core.busy_poll"] is None


def test_a_read_only_directory_of_the_drop_in_is_rejected_before_any_change(kernel, raise_to):
    def enter():
        kernel.enter()
        faults.private_mounts()
        faults.mount("none", kernel.root / "etc", "tmpfs")
        subprocess.run(["mount", "-o", "remount,ro", str(kernel.root / "etc")], check=True)

    before = kernel.get(BACKLOG)
    arguments = {"floors": {BACKLOG: before + 1}, "sysctl_root": str(kernel.root)}
    result = run_module("sysctl_floors", arguments, before=enter)
    assert result["failed"] is True
    assert "read-only file system" in result["msg"]
    assert kernel.get(BACKLOG) == before
