# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Loads the measuring functions that a visit runs, by the names of their modules. Private to this collection.

A visit sends the code of only the areas that it measures (``_received``). If it were imported here, the code of every
area would be sent, to every host and in every run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol, cast

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption
from ansible_collections.tracktion.ops.plugins.module_utils._received import PACKAGE

if TYPE_CHECKING:
    from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

# The names of the processes that read the journal, and find the services of the host, beside those of the areas: no
# area has a dot in its name.
JOURNAL = ".journal"
PRESENCE = ".presence"


class Measuring(Protocol):
    """A module of this package: the options of a measurement and the function that measures."""

    ARGUMENT_SPEC: dict[str, Part]

    def measure(self, options: Options) -> Measurement:
        """Return the measurement that RETURN of the module documents. Raises CannotMeasure."""


def load(name: str) -> Measuring:
    """Return the measuring module ``name``. Raises BadOption if there is none."""
    try:
        return cast("Measuring", importlib.import_module("%s._measures._%s" % (PACKAGE, name)))
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.startswith(PACKAGE):
            raise BadOption("module: %r is not a measuring module of tracktion.ops" % name) from exc
        raise
