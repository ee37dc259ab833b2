# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The measuring functions a visit can run, by the name of the module that is their other front.

Private to this collection. A visit brings the code of just the areas that it measures along (``receive``). Were it
imported here, Ansible would search through, pack and send the code of every area, for every host and every run.
"""

from __future__ import annotations

import base64
import importlib
import importlib.abc
import importlib.machinery
import json
import sys
import zlib

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption

PACKAGE = "ansible_collections.tracktion.ops.plugins.module_utils"


class Received(importlib.abc.SourceLoader):
    """Imports modules of this package from their sources, which were sent along."""

    def __init__(self, sources):
        self._sources = sources
        self._folders = {name.rpartition(".")[0] for name in sources}

    def find_spec(self, fullname, path=None, target=None):
        name = fullname[len(PACKAGE) + 1 :]
        if not fullname.startswith(PACKAGE + ".") or (name not in self._sources and name not in self._folders):
            return None
        # Not by spec_from_loader(), which would have a folder's modules looked for in the working directory too.
        return importlib.machinery.ModuleSpec(fullname, self, is_package=name in self._folders)

    def get_filename(self, fullname):
        return fullname[len(PACKAGE) + 1 :]

    def get_data(self, path):
        if path in self._folders:
            return b""
        if path not in self._sources:
            raise OSError("no source of %s was sent" % path)
        return self._sources[path].encode("utf-8")


def pack(sources):
    """The sources ``{name below module_utils: text}`` as one word, for receive()."""
    return base64.b64encode(zlib.compress(json.dumps(sources).encode("utf-8"))).decode("ascii")


def receive(packed):
    """From now on, import what is not here from the sources that were sent."""
    sys.meta_path.append(Received(json.loads(zlib.decompress(base64.b64decode(packed)).decode("utf-8"))))


def load(name):
    """The measuring module ``name``: its ``ARGUMENT_SPEC`` and its ``measure(options)``."""
    try:
        return importlib.import_module("%s._measures._%s" % (PACKAGE, name))
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.startswith(PACKAGE):
            raise BadOption("module: %r is not a measuring module of tracktion.ops" % name) from exc
        raise
