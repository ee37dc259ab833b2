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

FOLDER = Path(_measures.__file__).parent


def packed(names):
    """The code of the measuring modules ``names``, as M(tracktion.ops.measure) takes it."""
    with os.scandir(FOLDER) as entries:
        files = sorted((entry.name, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in entries)
    return _row_cache.parsed(json.dumps([sorted(names), files]), lambda _key: _measures.pack(sources(names)))


def sources(names):
    """``{module name: source}`` of the measuring modules, and of everything of this collection that they import."""
    found, wanted = {}, ["_" + name for name in names]
    while wanted:
        name = wanted.pop()
        path = FOLDER / (name + ".py")
        # What is not there is told by the host, by the name of the probe that asked for it.
        if name not in found and path.exists():
            found[name] = path.read_text(encoding="utf-8")
            wanted += imported(found[name])
    return found


def imported(source):
    """The modules of ``module_utils`` that a source imports, wherever it does."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == _measures.PACKAGE:
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_measures.PACKAGE + "."):
            names.append(node.module[len(_measures.PACKAGE) + 1 :])
    return names
