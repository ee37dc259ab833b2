# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The code that a visit takes along: the measuring modules it wants, and what they import. Private to this collection.

Ansible finds what a module imports by parsing all of it, in every run: 2 ms a file. Here it is found once, and kept
until a file has changed.
"""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

from ansible_collections.tracktion.ops.plugins.module_utils import _measures
from ansible_collections.tracktion.ops.plugins.plugin_utils import _row_cache

FOLDER = Path(_measures.__file__).parents[1]


def packed(names):
    """The code of the measuring modules ``names``, as M(tracktion.ops.measure) takes it."""
    files = sorted((entry.path, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in _entries(FOLDER))
    return _row_cache.parsed(json.dumps([sorted(names), files]), lambda _key: _measures.pack(sources(names)))


def _entries(folder):
    with os.scandir(folder) as entries:
        for entry in entries:
            yield from _entries(entry.path) if entry.is_dir() else [entry]


def sources(names):
    """``{name below module_utils: source}`` of the measuring modules and of what they import of this collection."""
    found, wanted = {}, ["_measures._" + name for name in names]
    while wanted:
        name = wanted.pop()
        path = FOLDER / (name.replace(".", "/") + ".py")
        # What is not there is a name in a module; or a probe's mistake, which the host tells by the name of the probe.
        if name not in found and path.exists():
            found[name] = path.read_text(encoding="utf-8")
            wanted += imported(found[name])
    return found


def imported(source):
    """What a source imports of ``module_utils``, wherever it does: modules, and names that may be modules."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and ((node.module or "") + ".").startswith(_measures.PACKAGE + "."):
            place = node.module[len(_measures.PACKAGE) + 1 :]
            names += [place] + [(place + "." + alias.name).lstrip(".") for alias in node.names]
    return names
