# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deleted files that are open, the largest files, and the log files of containers. Private to this collection."""

from __future__ import annotations

from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._descriptors import Descriptors
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

ARGUMENT_SPEC: dict[str, Any] = {}


def describe(context: Context, descriptors: Descriptors) -> Part:
    """Return the parts ``deleted_open_files``, ``largest`` and ``container_logs``. It runs between the two samples."""
    return {"deleted_open_files": None, "largest": None, "container_logs": None}
