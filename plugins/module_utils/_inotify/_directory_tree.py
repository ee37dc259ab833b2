# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counts the directories below a root, bounded in time and number. Private to this collection."""

from __future__ import annotations

import heapq
import os

from ansible_collections.tracktion.ops.plugins.module_utils._printable import shown

# Directories between two looks at the clock.
STRIDE = 64


class Tree:
    """What a walk found: ``directories`` with the root, ``entries`` in them, those without a watch of the watcher.

    ``complete`` is false where the walk was cut short; every count is then a lower bound.
    """

    def __init__(self, root):
        self.root = root
        self.directories = 0
        self.entries = 0
        self.unreadable = 0
        self.not_watched = 0
        self.not_watched_examples = []
        self.complete = True
        self.fullest = []


def walk(root, deadline, most, watched=None, examples=5, top=5):
    """Walk the tree below ``root`` as a recursive watcher does: symbolic links are not followed.

    ``watched`` holds the inode numbers that the watcher watches, null where nobody knows. They are compared without
    their device, which a walk could only learn by a stat of every directory: where file systems are mounted below the
    root, a number of one may pass for that of another.
    """
    tree = Tree(root)
    waiting = [(root, os.stat(root).st_ino)]
    while waiting:
        if tree.directories >= most or (tree.directories % STRIDE == 0 and deadline.expired()):
            tree.complete = False
            break
        path, inode = waiting.pop()
        tree.directories += 1
        if watched is not None and inode not in watched:
            tree.not_watched += 1
            if len(tree.not_watched_examples) < examples:
                tree.not_watched_examples.append(shown(path))
        entries = _read(path, waiting)
        if entries is None:
            tree.unreadable += 1
            continue
        tree.entries += entries
        _remember(tree.fullest, entries, path, top)
    return tree


def _read(path, waiting):
    """Count what is in a directory and add its directories to ``waiting``; null where it cannot be read."""
    number = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                number += 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, entry.inode()))
    except OSError:
        return None
    return number


def _remember(fullest, entries, path, top):
    if len(fullest) < top:
        heapq.heappush(fullest, (entries, path))
    elif entries > fullest[0][0]:
        heapq.heapreplace(fullest, (entries, path))
