# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan that raises kernel parameters: runtime values, drop-in, and settings that it does not change."""

from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _kernel_parameters, _sysctl_floors
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption
from tests.users import UNPRIVILEGED

PATH = "/etc/sysctl.d/60-tracktion.conf"
KEY = "vm.max_map_count"
OTHER = "net.core.somaxconn"
UNSET = {KEY: 0, OTHER: 128}


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Return a function that plans for a kernel with the given parameters and a root with the given files."""
    kernel = tmp_path / "proc"
    monkeypatch.setattr(_kernel_parameters, "PROC", str(kernel))

    def make(floors, files=(), path=PATH, **runtime):
        values = {KEY: 100, OTHER: 128, **{KEY if name == "now" else name: value for name, value in runtime.items()}}
        for key, value in values.items():
            file = kernel / key.replace(".", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("%s\n" % value)
        for name, text in dict(files).items():
            file = tmp_path / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return _sysctl_floors.Plan(floors, path, str(tmp_path), "sysctl_floors", UNSET.__getitem__)

    return make


def test_a_floor_is_raised_and_persisted(plan):
    made = plan({KEY: 500})
    assert made.runtime == {KEY: 500}
    assert made.text == "# Floors kept by tracktion.ops.sysctl_floors. Raised only, never lowered.\n%s = 500\n" % KEY
    assert (made.persisted_before, made.persisted_after) == ({KEY: None}, {KEY: 500})
    assert made.files == {KEY: PATH}
    assert made.overridden == []


def test_the_current_value_is_not_lowered_at_boot(plan):
    """A drop-in with the floor itself would lower a value that was raised by hand."""
    made = plan({KEY: 500}, now=900)
    assert made.runtime == {}
    assert made.text.splitlines()[1:] == [KEY + " = 900"]


def test_the_default_of_the_kernel_is_not_written(plan):
    assert not plan({OTHER: 128}).changed


def test_a_parameter_that_another_file_sets_is_not_written(plan):
    made = plan({KEY: 500}, {"/etc/sysctl.d/99-other.conf": KEY + " = 600\n"}, now=600)
    assert not made.changed
    assert made.files == {KEY: "/etc/sysctl.d/99-other.conf"}


def test_a_lower_value_of_an_earlier_file_is_overridden(plan):
    made = plan({KEY: 500}, {"/etc/sysctl.d/10-other.conf": KEY + " = 5\n"})
    assert made.persisted_before == {KEY: 5}
    assert made.persisted_after == {KEY: 500}
    assert made.overridden == []


def test_a_later_file_that_undoes_a_floor_is_named(plan):
    made = plan({KEY: 500}, {"/etc/sysctl.d/99-other.conf": "\n" + KEY + " = 5\n"})
    (reason,) = made.overridden
    assert "line 2 of /etc/sysctl.d/99-other.conf sets 5" in reason
    assert made.text is not None


def test_a_later_file_with_an_invalid_value_undoes_a_floor(plan):
    made = plan({KEY: 500}, {"/etc/sysctl.d/99-other.conf": KEY + " = lots\n"})
    assert "sets no whole number" in made.overridden[0]


def test_a_drop_in_that_is_overridden_is_not_written_again(plan):
    files = {"/etc/sysctl.d/99-other.conf": KEY + " = 5\n", PATH: KEY + " = 500\n"}
    made = plan({KEY: 500}, files, now=500)
    assert not made.changed
    assert made.overridden


def test_a_file_that_is_not_read_at_boot_is_named(plan):
    made = plan({KEY: 500}, path="/etc/other.conf")
    assert made.overridden == [KEY + ": /etc/other.conf is not among the files read at boot"]


def test_other_lines_of_the_drop_in_are_kept(plan):
    made = plan({KEY: 500}, {PATH: "# mine\nvm.swappiness = 1\n" + KEY + " = 5\n"})
    assert made.text == "# mine\nvm.swappiness = 1\n" + KEY + " = 500\n"


def test_the_diff_shows_kernel_and_file(plan):
    kernel, file = plan({KEY: 500}).diff()
    assert (kernel["before"], kernel["after"]) == (KEY + " = 100\n", KEY + " = 500\n")
    assert (file["before"], file["after_header"]) == ("", PATH)


def test_two_parameters_are_two_decisions(plan):
    made = plan({KEY: 500, OTHER: 64})
    assert made.runtime == {KEY: 500}
    assert made.after == {KEY: 500, OTHER: 128}
    assert OTHER not in made.text


def test_a_parameter_that_the_kernel_lacks_is_rejected(plan):
    with pytest.raises(BadOption, match=r"net\.core\.somaxcon: this kernel has no such parameter"):
        plan({KEY: 500, "net.core.somaxcon": 4})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("4096\t131072\t6291456", r"several values \(4096 131072 6291456\)"),
        ("music-1", "'music-1'"),
        ("", "empty"),
        ("-1", "it is -1: a floor needs a value of 0 or more"),
        ("0.5", "only a whole number"),
    ],
)
def test_a_parameter_without_a_whole_number_is_rejected(plan, value, reason):
    with pytest.raises(BadOption, match=reason):
        plan({KEY: 500}, now=value)


def test_both_spellings_of_a_name():
    asked = {"net/ipv4/conf/eth0.1/x": 1, "net.ipv4.conf.eth0/2.x": "2", " vm.max_map_count ": 3}
    assert _sysctl_floors.parse_floors(asked) == {
        "net.ipv4.conf.eth0/1.x": 1,
        "net.ipv4.conf.eth0/2.x": 2,
        "vm.max_map_count": 3,
    }
    assert _kernel_parameters.path_of("net.ipv4.conf.eth0/1.x") == "/proc/sys/net/ipv4/conf/eth0.1/x"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "swappiness",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "net/../../etc/passwd",
        "net.//.//.etc.passwd",
        "net.ipv4.//.x",
        "net...core",
        "net.core.",
        ".net.core",
        "net.*.somaxconn",
        "net.core.somaxconn = 5\nkernel.core_pattern",
        "net.core somaxconn",
        "net.core.somaxconn#",
        "-net.core.somaxconn",
        "net.core.som\0axconn",
    ],
)
def test_an_invalid_name_is_rejected(name):
    with pytest.raises(BadOption, match="not the name of one kernel parameter"):
        _sysctl_floors.parse_floors({name: 5})


@pytest.mark.parametrize("floor", [0, -1, 1 << 63, "many", "", None, True, 1.5, "4096 131072 6291456", [1]])
def test_an_invalid_floor_is_rejected(floor):
    with pytest.raises(BadOption, match=r"net\.core\.somaxconn: .* is not a whole number between 1 and"):
        _sysctl_floors.parse_floors({OTHER: floor})


def test_one_parameter_in_two_spellings_is_rejected():
    with pytest.raises(BadOption, match="given twice"):
        _sysctl_floors.parse_floors({OTHER: 5, "net/core/somaxconn": 6})


def test_no_floor_is_rejected():
    with pytest.raises(BadOption, match="names no parameter"):
        _sysctl_floors.parse_floors({})


def move(source, destination):
    os.replace(source, destination)


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
@pytest.mark.parametrize("before", [None, 0o666])
def test_the_drop_in_is_readable_by_all_and_writable_by_root(plan, tmp_path, umask, before):
    made = plan({OTHER: 64, KEY: 50}, {PATH: "# ours\n"} if before else {}, now=10)
    if before:
        (tmp_path / PATH.lstrip("/")).chmod(before)
    old = os.umask(umask)
    try:
        made._write_drop_in(made.text, move)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / PATH.lstrip("/")).stat().st_mode) == 0o644
    assert [path.name for path in (tmp_path / "etc/sysctl.d").iterdir()] == ["60-tracktion.conf"]


@pytest.mark.parametrize("what", ["directory", "link", "linked directory", "temporary", "hard link", "above"])
def test_a_drop_in_that_another_user_could_redirect_is_rejected(plan, tmp_path, what):
    folder, victim = tmp_path / "etc/sysctl.d", tmp_path / "victim"
    folder.mkdir(parents=True)
    victim.write_text(KEY + " = 1\n")
    path = folder / "60-tracktion.conf"
    if what == "directory":
        folder.chmod(0o777)
    elif what == "above":
        folder.parent.chmod(0o777)
    elif what == "link":
        path.symlink_to(victim)
        os.chown(path, UNPRIVILEGED, UNPRIVILEGED, follow_symlinks=False)
    elif what == "linked directory":
        folder.rmdir()
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
        os.chown(folder, UNPRIVILEGED, UNPRIVILEGED, follow_symlinks=False)
    elif what == "hard link":
        os.link(victim, path)
    else:
        (folder / (".60-tracktion.conf.%d" % os.getpid())).symlink_to(victim)
    made = plan({KEY: 500})
    if what == "temporary":
        made.check_possible()
        made._write_drop_in(made.text, move)
        assert path.read_text().endswith(KEY + " = 500\n")
    else:
        for step in (made.check_possible, lambda: made._write_drop_in(made.text, move)):
            with pytest.raises((_sysctl_floors.CannotRaise, OSError), match=r"Run `(chmod o-w|chown -h root|mv -T) "):
                step()
    assert victim.read_text() == KEY + " = 1\n"


def test_a_file_that_would_block_a_reader_is_skipped_or_rejected(plan, tmp_path):
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    os.mkfifo(tmp_path / "etc/sysctl.d/10-fifo.conf")
    made = plan({KEY: 500})
    assert made.text is not None
    os.mkfifo(tmp_path / "etc/sysctl.d/60-tracktion.conf")
    with pytest.raises(BadOption, match=r"path: /etc/sysctl\.d/60-tracktion\.conf cannot be read: .*regular file"):
        plan({KEY: 500})


def test_a_link_to_the_null_device_still_masks_a_file(plan, tmp_path):
    (tmp_path / "etc/sysctl.d").mkdir(parents=True)
    (tmp_path / "etc/sysctl.d/90-other.conf").symlink_to("/dev/null")
    made = plan({KEY: 500}, {"/usr/lib/sysctl.d/90-other.conf": KEY + " = 5\n"})
    assert made.overridden == []
