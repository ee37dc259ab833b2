# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Loads the measuring functions that a visit runs, by the names of their modules. Private to this collection.

A visit sends the code of only the areas that it measures (``receive``). If it were imported here, Ansible would read,
pack and send the code of every area, for every host and every run.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import json
import marshal
import sys
import zlib
from types import CodeType
from typing import TYPE_CHECKING, Mapping, Protocol, Sequence, cast

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption

if TYPE_CHECKING:
    from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

PACKAGE = "ansible_collections.tracktion.ops.plugins.module_utils"
# The names of the processes that read the journal, and find the services of the host, beside those of the areas: no
# area has a dot in its name.
JOURNAL = ".journal"
PRESENCE = ".presence"


class Measuring(Protocol):
    """A module of this package: the options of a measurement and the function that measures."""

    ARGUMENT_SPEC: dict[str, Part]

    def measure(self, options: Options) -> Measurement:
        """Return the measurement that RETURN of the module documents. Raises CannotMeasure."""


class Received(importlib.abc.SourceLoader):
    """Imports modules of this package from sources that the visit sent, or from their code if it was sent too."""

    def __init__(self, sources: Mapping[str, str], compiled: Mapping[str, CodeType]) -> None:
        self._sources = sources
        self._compiled = compiled
        self._folders = {name.rpartition(".")[0] for name in sources}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module, or of a folder of modules, that the visit sent; null for all others."""
        name = fullname[len(PACKAGE) + 1 :]
        if not fullname.startswith(PACKAGE + ".") or (name not in self._sources and name not in self._folders):
            return None
        # Not spec_from_loader(), with which modules of a folder would be searched in the working directory too.
        return importlib.machinery.ModuleSpec(fullname, self, is_package=name in self._folders)

    def get_filename(self, fullname: str) -> str:
        return fullname[len(PACKAGE) + 1 :]

    def get_data(self, path: str) -> bytes:
        if path in self._folders:
            return b""
        if path not in self._sources:
            raise OSError("no source of %s was sent" % path)
        return self._sources[path].encode("utf-8")

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code of a module, compiled here unless its code was sent."""
        return self._compiled.get(self.get_filename(fullname)) or super().get_code(fullname)


def pack(sources: Mapping[str, str], shared: Sequence[str], compiled: bool = False) -> str:
    """Return the sources ``{name below module_utils: text}`` as one word, for receive().

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


def _data(word: str) -> bytes:
    return zlib.decompress(base64.b64decode(word))


def receive(packed: str) -> None:
    """Import modules that are missing on this host from the packed sources from now on, and the shared ones at once.

    This process imports them before it starts those of the areas, each of which would have to compile them.
    """
    word, _dot, compiled = packed.partition(".")
    code = json.loads(_data(word).decode("utf-8"))
    # It comes from the controller, as the sources do.
    codes = marshal.loads(_data(compiled)) if compiled else {}  # noqa: S302
    sys.meta_path.append(Received(code["sources"], codes))
    for name in code["shared"]:
        # The area that imports it again reports why it cannot.
        with contextlib.suppress(Exception):
            importlib.import_module(PACKAGE + "." + name)


def load(name: str) -> Measuring:
    """Return the measuring module ``name``. Raises BadOption if there is none."""
    try:
        return cast("Measuring", importlib.import_module("%s._measures._%s" % (PACKAGE, name)))
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.startswith(PACKAGE):
            raise BadOption("module: %r is not a measuring module of tracktion.ops" % name) from exc
        raise
