# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The code that a visit sends to a host: the measuring modules it needs, and their imports. Private to this collection.

Ansible parses all files of a module in every run to find its imports, 2 ms a file. Here the imports are found once and
cached until a file changes.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils import _measures
from ansible_collections.tracktion.ops.plugins.plugin_utils import _row_cache

FOLDER = Path(_measures.__file__).parents[1]
# The start of the names of measuring modules below FOLDER.
MEASURING = "_measures._"


def processes(plan: Mapping[str, Mapping[str, Any]], others: Iterable[str]) -> list[list[str]]:
    """Return the files that each process on the host runs: one process for each area, and for each of ``others``.

    ``plan`` are the areas with their ``probes``, each of which names its ``module``.
    """
    areas = [[MEASURING + probe["module"] for probe in area["probes"].values()] for area in plan.values()]
    return [*areas, *([name] for name in others)]


def packed(wanted: Iterable[Iterable[str]], compiled: bool = False) -> str:
    """Return the code for the option ``code`` of M(tracktion.ops.measure).

    ``wanted``: what each process of the visit runs, as names below module_utils (``_measures._pg_activity``).
    ``compiled``: for a host that has the Python of the controller.
    """
    wanted = sorted(sorted(names) for names in wanted)
    python = importlib.util.MAGIC_NUMBER.hex() if compiled else None
    return _row_cache.parsed(json.dumps([wanted, files(), python]), lambda _key: _pack(wanted, compiled))


@cache
def files() -> list[tuple[str, int, int]]:
    """Return path, time and size of all files that can be sent: once, before Ansible forks a process for each host."""
    return sorted((entry.path, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in _entries(FOLDER))


def _pack(wanted: list[list[str]], compiled: bool) -> str:
    sent = sources(name for names in wanted for name in names)
    users = Counter(name for names in wanted for name in sources(names, at_import=True))
    return _measures.pack(sent, sorted(name for name, count in users.items() if count > 1), compiled)


def _entries(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield from _entries(entry.path) if entry.is_dir() else [entry]


def sources(names: Iterable[str], at_import: bool = False) -> dict[str, str]:
    """Return the sources of files and of their imports from this collection, by name below module_utils.

    ``at_import``: only of imports that are executed when the files are imported, not of those within functions.
    """
    found: dict[str, str] = {}
    wanted = list(names)
    while wanted:
        name = wanted.pop()
        path = FOLDER / (name.replace(".", "/") + ".py")
        # Without a file, it is a name in a module, or a wrong module of a probe, which the host reports.
        if name not in found and path.exists():
            found[name] = path.read_text(encoding="utf-8")
            wanted += imported(found[name], at_import)
    return found


def imported(source: str, at_import: bool = False) -> list[str]:
    """Return what a source imports from ``module_utils``: modules, and names that may be modules."""
    names: list[str] = []
    for node in _nodes(ast.parse(source), at_import):
        package = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if isinstance(node, ast.ImportFrom) and (package + ".").startswith(_measures.PACKAGE + "."):
            inner = package[len(_measures.PACKAGE) + 1 :]
            names += [inner] + [(inner + "." + alias.name).lstrip(".") for alias in node.names]
    return names


def _nodes(tree: ast.Module, at_import: bool) -> Iterable[ast.AST]:
    """Return the nodes of a source; ``at_import``: its statements outside of functions, classes and conditions."""
    return tree.body if at_import else ast.walk(tree)
