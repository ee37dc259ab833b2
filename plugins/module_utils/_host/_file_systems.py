# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bytes and inodes of the mounted file systems. Private to this collection."""

from __future__ import annotations

from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

ARGUMENT_SPEC: dict[str, Any] = {}


def describe(context: Context) -> Part:
    """Return the part ``file_systems``."""
    return {"file_systems": None}
