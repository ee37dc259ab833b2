# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The free space for a backup."""

from __future__ import annotations

import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _space

MIB = 1 << 20


def test_the_space_of_a_path_that_does_not_exist_is_that_of_its_parent(tmp_path):
    space = _space.free(str(tmp_path / "not" / "yet"))
    assert space.device == os.stat(tmp_path).st_dev
    assert 0 < space.bytes <= space.total_bytes
    # The free bytes change between two calls.
    assert space.total_bytes == _space.free(str(tmp_path)).total_bytes


def test_the_need_follows_the_last_backup_and_the_growth_of_the_source():
    assert _space.needed(None) is None
    assert _space.needed(100 * MIB) == 116 * MIB
    assert _space.needed(100 * MIB, 10 * MIB, 50 * MIB) == 16 * MIB + int(20 * MIB * 1.2)
    # A source that has shrunk does not count: most of it may be free space within it.
    assert _space.needed(50 * MIB, 10 * MIB, 100 * MIB) == 28 * MIB
    assert _space.needed(None, 10 * MIB) == 28 * MIB


def test_too_little_space_is_refused_with_both_numbers(tmp_path):
    free = _space.free(str(tmp_path)).bytes
    assert _space.check(str(tmp_path), 1).bytes > 0
    with pytest.raises(_space.NoSpace, match=r"needs about .* at .*, and .* are free") as caught:
        _space.check(str(tmp_path / "later"), 2 * free)
    assert caught.value.hint.startswith("Free space")
    with pytest.raises(_space.NoSpace, match="inodes"):
        _space.check(str(tmp_path), 1, 1 << 60)


@pytest.mark.parametrize(("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 50, "5120.0 TiB")])
def test_bytes_for_a_person(number, text):
    assert _space.shown(number) == text
