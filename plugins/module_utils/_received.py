# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imports modules of this folder from sources that the controller sent. Private to this collection.

The program of a visit executes this file first, on a host that has nothing of this collection: it imports only what
comes with Python.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import sys
from types import CodeType
from typing import Mapping, Sequence

PACKAGE = "ansible_collections.tracktion.ops.plugins.module_utils"


class Received(importlib.abc.SourceLoader):
    """Imports modules of this package from sources that the visit sent, or from their code if it was sent too."""

    def __init__(self, sources: Mapping[str, str], compiled: Mapping[str, CodeType]) -> None:
        self._sources = sources
        self._compiled = compiled
        self._folders = {name.rpartition(".")[0] for name in sources} | {""}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module, or of a folder of modules, that the visit sent; null for all others."""
        if (PACKAGE + ".").startswith(fullname + "."):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        name = self.get_filename(fullname)
        if not fullname.startswith(PACKAGE + ".") or (name not in self._sources and name not in self._folders):
            return None
        # Not spec_from_loader(), with which modules of a folder would be searched in the working directory too.
        return importlib.machinery.ModuleSpec(fullname, self, is_package=name in self._folders)

    def get_filename(self, fullname: str) -> str:
        return fullname[len(PACKAGE) + 1 :]

    def get_data(self, path: str) -> bytes:
        if path in self._sources:
            return self._sources[path].encode("utf-8")
        if path in self._folders:
            return b""
        raise OSError("no source of %s was sent" % path)

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code of a module, compiled here unless its code was sent."""
        return self._compiled.get(self.get_filename(fullname)) or super().get_code(fullname)


def receive(sources: Mapping[str, str], shared: Sequence[str], compiled: Mapping[str, CodeType]) -> None:
    """Import modules of this package from the sources from now on, and the ``shared`` ones at once.

    This process imports them before it starts those of the areas, each of which would have to compile them.
    """
    sys.meta_path.insert(0, Received(sources, compiled))
    for name in shared:
        # The area that imports it again reports why it cannot.
        with contextlib.suppress(Exception):
            importlib.import_module(PACKAGE + "." + name)
