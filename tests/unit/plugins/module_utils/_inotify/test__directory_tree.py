# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The walk of a directory tree."""

from __future__ import annotations

import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._inotify import _directory_tree
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline


@pytest.fixture
def music(tmp_path):
    """Seven directories including the root, one name that is not UTF-8, links that form a cycle, three files."""
    for name in ("a/b/c", "a/d"):
        (tmp_path / name).mkdir(parents=True)
    os.mkdir(os.fsencode(str(tmp_path)) + b"/caf\xe9")
    os.mkdir(os.fsencode(str(tmp_path)) + b"/caf\xe9/x")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "b" / "self").symlink_to(".")
    for name in ("a/1.mp3", "a/2.mp3", "a/3.mp3"):
        (tmp_path / name).touch()
    return str(tmp_path)


def test_a_tree_is_counted(music):
    tree = _directory_tree.walk(music, Deadline(5), 1000)
    assert (tree.directories, tree.entries, tree.unreadable, tree.complete) == (7, 11, 0, True)
    assert max(tree.fullest) == (6, music + "/a")


def test_directories_without_a_watch_are_counted_and_listed(music):
    watched = {os.stat(music).st_ino, os.stat(music + "/a").st_ino}
    tree = _directory_tree.walk(music, Deadline(5), 1000, watched)
    assert tree.not_watched == 5
    assert len(tree.not_watched_examples) == 5
    assert music + "/caf\\xe9" in tree.not_watched_examples


def test_a_walk_ends_at_the_maximum(music):
    tree = _directory_tree.walk(music, Deadline(5), 3)
    assert (tree.directories, tree.complete) == (3, False)


def test_a_walk_ends_at_the_deadline(music):
    assert not _directory_tree.walk(music, Deadline(0), 1000).complete
