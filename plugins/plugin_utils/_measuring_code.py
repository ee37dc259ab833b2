# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The code that a visit sends to a host: the measuring modules it needs, and their imports. Private to this collection.

Ansible parses all files of a module in every run to find its imports, 2 ms a file. Here the imports are found once and
cached until a file changes. On the host, a module of Ansible's compiles what it imports of Ansible, which takes 0.2 s;
the program of a visit imports only what comes with Python.
"""

from __future__ import annotations

import ast
import base64
import importlib.util
import json
import marshal
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils import _received
from ansible_collections.tracktion.ops.plugins.plugin_utils import _row_cache

FOLDER = Path(_received.__file__).parent
# The start of the names of measuring modules below FOLDER.
MEASURING = "_measures._"
# What the program itself runs.
BASE = ("_host_visit", "_received")
# The program, which follows the file of the module visit: this sets ARGUMENTS, the options as JSON. Any Python can read
# the first lines.
PROGRAM = """
CODE = "%s"

import sys

if sys.version_info < (3, 8):
    sys.exit("A visit requires a minimum of Python 3.8, and this is Python {0[0]}.{0[1]}.".format(sys.version_info))
# Nothing is imported from the directory of this file, or from the current one.
if not getattr(sys.flags, "safe_path", False):
    del sys.path[0]

import base64, json, marshal, types, zlib

request = json.loads(ARGUMENTS)
word, _dot, compiled = CODE.partition(".")
code = json.loads(zlib.decompress(base64.b64decode(word)).decode("utf-8"))
codes = marshal.loads(zlib.decompress(base64.b64decode(compiled))) if compiled else {}
received = types.ModuleType("received")
exec(codes.get("_received") or code["sources"]["_received"], received.__dict__)
received.receive(code["sources"], code["shared"], codes)

from ansible_collections.tracktion.ops.plugins.module_utils import _host_visit

# A login may have printed text without an end of line.
print("\\n" + json.dumps(_host_visit.run(request)))
"""


def processes(plan: Mapping[str, Mapping[str, Any]], others: Iterable[str]) -> list[list[str]]:
    """Return the files that each process on the host runs: one process for each area, and for each of ``others``.

    ``plan`` are the areas with their ``probes``, each of which names its ``module``.
    """
    areas = [[MEASURING + probe["module"] for probe in area["probes"].values()] for area in plan.values()]
    return [*areas, *([name] for name in others)]


def packed(wanted: Iterable[Iterable[str]], compiled: bool = False) -> str:
    """Return the code for the program.

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
    sent = sources(name for names in [BASE, *wanted] for name in names)
    users = Counter(name for names in wanted for name in sources(names, at_import=True))
    return _word_of(sent, sorted(name for name, count in users.items() if count > 1), compiled)


def _word_of(sources: Mapping[str, str], shared: Sequence[str], compiled: bool = False) -> str:
    """Return the sources ``{name below module_utils: text}`` as one word, for the program of the visit.

    ``shared`` are the names of those that several processes of the visit import. With ``compiled``, their code follows
    after a dot: only a host with the same Python can read it, and it is three times as long.
    """
    word = _word(json.dumps({"sources": sources, "shared": shared}).encode("utf-8"))
    if not compiled:
        return word
    codes = {name: compile(text, name, "exec", dont_inherit=True) for name, text in sources.items()}
    return "%s.%s" % (word, _word(marshal.dumps(codes)))


def _word(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode("ascii")


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
        # Without a file, it is a name in a module, or a wrong module of a probe, which the host reports.
        path = _path(name)
        if name not in found and path:
            found[name] = path.read_text(encoding="utf-8")
            wanted += imported(found[name], at_import)
    return found


def _path(name: str) -> Path | None:
    path = FOLDER / name.replace(".", "/")
    return next((each for each in (path.with_name(path.name + ".py"), path / "__init__.py") if each.exists()), None)


def imported(source: str, at_import: bool = False) -> list[str]:
    """Return what a source imports from ``module_utils``: modules, and names that may be modules."""
    return [name for is_at_import, name in _imports(source) if is_at_import or not at_import]


@cache
def _imports(source: str) -> list[tuple[bool, str]]:
    """Return the same names, each with whether its import is outside of functions, classes and conditions."""
    tree = ast.parse(source)
    names: list[tuple[bool, str]] = []
    for node in ast.walk(tree):
        package = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if isinstance(node, ast.ImportFrom) and (package + ".").startswith(_received.PACKAGE + "."):
            inner = package[len(_received.PACKAGE) + 1 :]
            found = [inner] + [(inner + "." + alias.name).lstrip(".") for alias in node.names]
            names += [(node in tree.body, name) for name in found]
    return names
