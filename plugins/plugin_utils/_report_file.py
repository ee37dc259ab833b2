# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports as files on the controller, and as stats of the run. Private to this collection."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display
from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values

# The owner can write it, the group can read it.
MODE = 0o640

# A surrogate without its pair, as JSON in ASCII writes it.
LONE_SURROGATE = re.compile(r"\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f])|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f]")
# Python does not print numbers with more digits.
DIGITS = 4000
DEPTH = 100


def write(report: Mapping[str, Any], path: str, sticky: bool = False) -> None:
    """Replace the file in one step, so that a reader never sees a part of it. Raises OSError.

    ``sticky`` accepts a directory such as /tmp, for a file that an operator names.
    """
    directory, name = _safe_files.beside(path, make=True, sticky=sticky, trusted=_safe_files.behind_sudo())
    with directory:
        directory.replace(name, (as_json(report) + "\n").encode("ascii"), mode=MODE)


def as_json(data: object) -> str:
    """Return ``data`` as valid JSON in printable ASCII, which every terminal shows unchanged and every parser reads.

    Each item of a list in it, such as a finding, is one line. Never raises: numbers that JSON does not have become
    null; lone surrogates and other types become text.
    """
    try:
        text = _lines(data)
        valid = not LONE_SURROGATE.search(text)
    except (TypeError, ValueError, RecursionError):
        valid = False
    if not valid:
        text = _lines(_plain(data))
    return text.replace("\x7f", "\\u007f")


def _lines(data: object) -> str:
    # Python encodes with indentation ten times as slowly.
    if not isinstance(data, dict):
        return _dumps(data)
    fields = ["  %s: %s" % (_dumps(str(key)), _field(value)) for key, value in data.items()]
    return "{\n%s\n}" % ",\n".join(fields)


def _field(value: object) -> str:
    if not isinstance(value, list) or not value:
        return _dumps(value)
    return "[\n    %s\n  ]" % ",\n    ".join(map(_dumps, value))


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def _plain(value: object, depth: int = 0) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) < 10**DIGITS else None
    if depth < DEPTH and isinstance(value, dict):
        return {_plain(str(key)): _plain(inner, depth + 1) for key, inner in value.items()}
    if depth < DEPTH and isinstance(value, (list, tuple)):
        return [_plain(inner, depth + 1) for inner in value]
    return _plain("(too deep)" if isinstance(value, (dict, list, tuple)) else str(value))


def keep(report: Mapping[str, Any], path: str, display: Display) -> str | None:
    """Write the report; return its path, or None with a warning if it cannot be written. The run goes on."""
    try:
        write(report, path)
    except OSError as exc:
        display.warning(clean("directory: the report cannot be written to %s: %s" % (path, exc.strerror)))
        return None
    return path


def stats(name: str, summary: Values) -> Values:
    """Return ``ansible_stats`` for the result of an action: they have the effect of set_stats."""
    return {"data": {name: summary}, "per_host": False, "aggregate": True}
