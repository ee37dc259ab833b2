# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rights that each area needs, and the checks that are unknown without them: one file an area, ``RIGHTS``.

The integration tests take each right away on a real server; docs/rights.md is made from these files.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Right:
    """A right of the account that an area measures with.

    ``name`` is the right as the product calls it, ``grant`` a part of the hint of each check that is unknown without
    it, and ``unknown`` the names of these checks, without the area.
    """

    area: str
    name: str
    grant: str
    unknown: tuple[str, ...]

    @property
    def checks(self) -> set[str]:
        """The ids of the checks that are unknown without the right."""
        return {"%s.%s" % (self.area, name) for name in self.unknown}


def every() -> list[Right]:
    """Return the rights of all areas, in the order of their files."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [right for name in modules for right in importlib.import_module("%s.%s" % (__name__, name)).RIGHTS]
