# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private directories of a run: what a killed one has left is removed, and nothing else."""

from __future__ import annotations

import os

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _process_mark, _scratch_directory


def test_directories_of_processes_that_have_ended_are_removed(tmp_path):
    left = tmp_path / (".scratch-%d.00000000-abc" % os.getpid())
    (left / "decrypted").mkdir(parents=True)
    others = [".scratch-of-others", ".scratch-", ".scratch-12-x", "scratch-1.00000000-abc"]
    for name in others:
        (tmp_path / name).mkdir()
    with _scratch_directory.made(str(tmp_path)) as own:
        assert not left.exists()
        # Another run leaves it alone.
        _scratch_directory.sweep(str(tmp_path))
        assert os.stat(own).st_mode & 0o777 == 0o700
        assert _process_mark.own().replace(":", ".") in own
        # The path is an argument of --volume.
        assert ":" not in own
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_directories_of_other_users_are_kept(tmp_path):
    other = tmp_path / (".scratch-%d.00000000-abc" % os.getpid())
    other.mkdir()
    os.chown(other, 12345, 12345)
    _scratch_directory.sweep(str(tmp_path))
    assert other.exists()
