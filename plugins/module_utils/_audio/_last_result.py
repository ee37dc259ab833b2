# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps the last result of the expensive part in a file, and reads it back. Private to this collection."""

from __future__ import annotations

import json
from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._audio._results import DEEP
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

VERSION = 1
MAX_BYTES = 1 << 17


def read(path: str, of: Mapping[str, Any], now: float, most: float) -> Part | None:
    """Return the result in the file, with ``age_seconds``; null without one that is valid.

    It is valid if it is of the same ``of`` (a mapping that names what was tested), and at most ``most`` seconds old.
    """
    try:
        directory, name = _safe_files.beside(path)
        with directory:
            found = json.loads(directory.read(name, MAX_BYTES).decode("utf-8"))
    except (OSError, ValueError):
        return None
    return parse(found, of, now, most)


def parse(found: Any, of: Mapping[str, Any], now: float, most: float) -> Part | None:
    """Return the result in the content of the file; null if it is not valid."""
    if not isinstance(found, dict) or found.get("version") != VERSION or found.get("of") != dict(of):
        return None
    time, deep = found.get("time"), found.get("deep")
    if not isinstance(time, (int, float)) or isinstance(time, bool) or not isinstance(deep, dict):
        return None
    # A clock that was set back makes it invalid, too.
    if not 0 <= now - time <= most or not all(isinstance(deep.get(name), list) for name in DEEP):
        return None
    return {**deep, "age_seconds": round(now - time, 1)}


def write(path: str, of: Mapping[str, Any], now: float, deep: Mapping[str, Any]) -> None:
    """Replace the file, at once and flushed to the disk. Raises OSError."""
    content = {"version": VERSION, "time": now, "of": dict(of), "deep": dict(deep)}
    directory, name = _safe_files.beside(path, make=True)
    with directory:
        directory.check(name)
        directory.replace(name, json.dumps(content).encode("utf-8"))
