# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Growth over time: how long until something is full, and what leaks. Private to this collection."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

ARGUMENT_SPEC: dict[str, Any] = {}


def describe(context: Context, measured: Mapping[str, Any]) -> Part:
    """Return the part ``trends``. ``measured`` are all other parts; it runs last."""
    return {"trends": None}
