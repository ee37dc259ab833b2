# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counts the directories below a root, within limits of time and number. Private to this collection."""

from __future__ import annotations

import heapq
import os
from typing import AbstractSet

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown

# Directories between two reads of the clock.
STRIDE = 64
# Symbolic links that are kept, to look at what they lead to.
MAX_LINKS = 50


class Tree:
    """The result of a walk.

    ``directories`` includes the root. ``entries`` counts the entries of all directories, ``not_watched`` the
    directories that the watcher does not watch. ``fullest`` holds ``(entries, path)``, ``links`` the first symbolic
    links. If ``complete`` is false, the walk was cut short and every count is a lower bound.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.directories = 0
        self.entries = 0
        self.unreadable = 0
        self.not_watched = 0
        self.not_watched_examples: list[str] = []
        self.complete = True
        self.fullest: list[tuple[int, str]] = []
        self.links: list[str] = []


def walk(
    root: str,
    deadline: Deadline,
    max_directories: int,
    watched: AbstractSet[int] | None = None,
    examples: int = 5,
    top: int = 5,
) -> Tree:
    """Walk the tree below ``root`` like a recursive watcher: symbolic links are not followed.

    ``watched`` holds the inode numbers that the watcher watches, null if they are not known. Devices are not compared,
    because that takes a stat of every directory: if other file systems are mounted below the root, equal inode numbers
    of two file systems are taken for one directory.
    """
    tree = Tree(root)
    pending = [(root, os.stat(root).st_ino)]
    while pending:
        if tree.directories >= max_directories or (tree.directories % STRIDE == 0 and deadline.expired()):
            tree.complete = False
            break
        path, inode = pending.pop()
        tree.directories += 1
        if watched is not None and inode not in watched:
            tree.not_watched += 1
            if len(tree.not_watched_examples) < examples:
                tree.not_watched_examples.append(shown(path))
        entries = _read(path, pending, tree.links)
        if entries is None:
            tree.unreadable += 1
            continue
        tree.entries += entries
        _keep_fullest(tree.fullest, entries, path, top)
    return tree


def _read(path: str, pending: list[tuple[str, int]], links: list[str]) -> int | None:
    """Append the subdirectories of a directory to ``pending``, and its links to ``links``.

    Returns its number of entries, null if it cannot be read.
    """
    number = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                number += 1
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, entry.inode()))
                elif len(links) < MAX_LINKS and entry.is_symlink():
                    links.append(entry.path)
    except OSError:
        return None
    return number


def _keep_fullest(fullest: list[tuple[int, str]], entries: int, path: str, top: int) -> None:
    if len(fullest) < top:
        heapq.heappush(fullest, (entries, path))
    elif entries > fullest[0][0]:
        heapq.heapreplace(fullest, (entries, path))
