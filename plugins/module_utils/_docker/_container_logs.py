# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logs of containers that the engine writes to files without a maximum size. Private to this collection."""

from __future__ import annotations

import os
from typing import Any, Iterable, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Unknown
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# The driver that has no maximum size by default.
WITHOUT_LIMIT = "json-file"
LARGEST = 5


def is_unbounded(configuration: Mapping[str, Any]) -> bool:
    """Return whether the host configuration of a container asks for a log file without a maximum size."""
    settings = configuration.get("LogConfig") or {}
    return settings.get("Type") == WITHOUT_LIMIT and not (settings.get("Config") or {}).get("max-size")


def unrotated(inspected: Iterable[Mapping[str, Any]], is_local: bool, unknown: Unknown) -> Part:
    """Return the number and size of these logs, with the largest."""
    total, sizes = 0, []
    problem: OSError | None = None
    for data in inspected:
        if not is_unbounded(data.get("HostConfig") or {}):
            continue
        total += 1
        try:
            if is_local and data.get("LogPath"):
                sizes.append({"name": data["Name"].lstrip("/"), "bytes": os.stat(data["LogPath"]).st_size})
        except FileNotFoundError:
            # It was removed, or never started.
            continue
        except OSError as exc:
            problem = exc
    if problem is not None:
        unknown.add("unrotated_logs.bytes", problem.strerror or problem, _rights.hint_of(problem))
    is_known = is_local and problem is None
    sizes.sort(key=lambda each: -each["bytes"])
    return {
        "total": total,
        "bytes": sum(each["bytes"] for each in sizes) if is_known else None,
        "largest": sizes[:LARGEST],
    }
