# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan that raises limits: what it writes, and what it leaves alone."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _inotify, _inotify_floors
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption

PATH = "/etc/sysctl.d/60-tracktion-inotify.conf"
WATCHES = "fs.inotify.max_user_watches"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A function that makes a plan for a kernel with these limits and a root with these files."""

    def make(files=(), path=PATH, runtime=None, **floors):
        kernel = {"max_user_watches": 100, "max_user_instances": 128, "max_queued_events": 16384, **(runtime or {})}
        monkeypatch.setattr(_inotify, "limit", kernel.__getitem__)
        for name, text in dict(files).items():
            file = tmp_path / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        options = {**dict.fromkeys(_inotify.LIMITS), **floors, "path": path, "sysctl_root": str(tmp_path)}
        return _inotify_floors.Plan(options)

    return make


def test_a_floor_is_raised_and_kept(plan):
    made = plan(max_user_watches=5000000)
    assert made.runtime == {"max_user_watches": 5000000}
    assert made.text.splitlines()[1:] == [WATCHES + " = 5000000"]
    assert made.persisted_after == {"max_user_watches": 5000000}
    assert made.overridden == []


def test_what_holds_now_is_not_lowered_at_boot(plan):
    """A drop-in with the mere floor would lower what somebody has raised by hand."""
    made = plan(runtime={"max_user_watches": 9000000}, max_user_watches=5000000)
    assert made.runtime == {}
    assert made.text.splitlines()[1:] == [WATCHES + " = 9000000"]


def test_what_the_kernel_does_by_itself_is_not_written(plan):
    assert not plan(max_user_instances=128, max_queued_events=16384).changed


def test_what_another_file_keeps_is_not_written(plan):
    files = {"/etc/sysctl.d/99-other.conf": WATCHES + " = 6000000\n"}
    assert not plan(files, runtime={"max_user_watches": 6000000}, max_user_watches=5000000).changed


def test_a_lower_value_of_an_earlier_file_is_overridden(plan):
    made = plan({"/etc/sysctl.d/10-other.conf": WATCHES + " = 5\n"}, max_user_watches=5000000)
    assert made.persisted_before == {"max_user_watches": 5}
    assert made.persisted_after == {"max_user_watches": 5000000}
    assert made.overridden == []


def test_a_later_file_that_undoes_a_floor_is_named(plan):
    made = plan({"/etc/sysctl.d/99-other.conf": "\n" + WATCHES + " = 5\n"}, max_user_watches=5000000)
    (reason,) = made.overridden
    assert "line 2 of /etc/sysctl.d/99-other.conf sets 5" in reason
    assert made.text is not None


def test_a_drop_in_that_is_overridden_is_not_written_again(plan):
    files = {"/etc/sysctl.d/99-other.conf": WATCHES + " = 5\n", PATH: WATCHES + " = 5000000\n"}
    made = plan(files, runtime={"max_user_watches": 5000000}, max_user_watches=5000000)
    assert not made.changed
    assert made.overridden


def test_a_file_that_no_boot_reads_is_named(plan):
    made = plan(path="/etc/inotify.conf", max_user_watches=5000000)
    assert made.overridden == [WATCHES + ": /etc/inotify.conf is not among the files read at boot"]


def test_other_lines_of_the_drop_in_stay(plan):
    made = plan({PATH: "# mine\nvm.swappiness = 1\n" + WATCHES + " = 5\n"}, max_user_watches=5000000)
    assert made.text == "# mine\nvm.swappiness = 1\n" + WATCHES + " = 5000000\n"


def test_the_diff_shows_kernel_and_file(plan):
    kernel, file = plan(max_user_watches=5000000).diff()
    assert (kernel["before"], kernel["after"]) == (WATCHES + " = 100\n", WATCHES + " = 5000000\n")
    assert (file["before"], file["after_header"]) == ("", PATH)


@pytest.mark.parametrize("floor", [0, -1, 1 << 31])
def test_a_floor_that_the_kernel_cannot_hold(plan, floor):
    with pytest.raises(BadOption, match="max_user_watches"):
        plan(max_user_watches=floor)


def test_no_floor_at_all(plan):
    with pytest.raises(BadOption, match="at least one"):
        plan()
