# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removable entries of the build cache, and their order."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _build_cache


def entry(identity, *upon, day=1, **fields):
    return {"ID": identity, "Parents": list(upon), "LastUsedAt": "2026-01-%02dT00:00:00Z" % day, **fields}


def removable(*entries):
    return [found["ID"] for found, _used in _build_cache.removable(list(entries))]


def test_children_come_before_parents():
    assert removable(entry("base"), entry("middle", "base"), entry("top", "middle")) == ["top", "middle", "base"]
    both = removable(entry("top", "left", "right"), entry("left", "base"), entry("right", "base"), entry("base"))
    assert (both[0], both[-1]) == ("top", "base")


@pytest.mark.parametrize("held", [{"InUse": True}, {"Shared": True}])
def test_a_held_entry_holds_its_parents(held):
    tower = entry("base"), entry("middle", "base"), entry("top", "middle", **held)
    assert removable(*tower, entry("other")) == ["other"]


def test_last_use_is_that_of_the_children():
    found = _build_cache.removable([entry("base", day=1), entry("top", "base", day=9)])
    assert [used for _entry, used in found] == [1767916800.0, 1767916800.0]
    assert _build_cache.removable([{"ID": "a"}]) == [({"ID": "a"}, None)]


def test_old_engines_name_one_parent():
    assert _build_cache.parents({"Parent": "base"}) == ["base"]
    assert _build_cache.parents({"Parent": ""}) == []
