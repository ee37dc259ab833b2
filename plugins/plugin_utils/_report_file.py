# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports as files on the controller, and as stats, which outlive it in AWX. Private to this collection."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile

from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean

# A surrogate without its other half, as JSON in ASCII has it.
LONE_SURROGATE = re.compile(r"\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f])|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f]")
# Numbers of more digits are not printed by Python, nor read by others.
DIGITS = 4000
DEPTH = 100


def previous(path, schema_version):
    """The report of the run before, or None where there is none or it cannot be used."""
    try:
        with open(path, encoding="utf-8") as stream:
            report = json.load(stream)
        return report if report.get("schema_version") == schema_version else None
    except (OSError, ValueError, AttributeError):
        return None


def write(report, path):
    """Put the report in place in one step: a reader never sees half of it."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".report")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(as_json(report) + "\n")
        os.chmod(temporary, 0o640)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def as_json(data: object) -> str:
    """Return ``data`` as valid JSON in printable ASCII: a terminal shows it as it is, and every parser reads it.

    Never raises: numbers that JSON does not have become null, and lone surrogates and other types become text.
    """
    try:
        text = json.dumps(data, indent=2, allow_nan=False)
        valid = not LONE_SURROGATE.search(text)
    except (TypeError, ValueError, RecursionError):
        valid = False
    if not valid:
        text = json.dumps(_plain(data), indent=2, allow_nan=False)
    return text.replace("\x7f", "\\u007f")


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


def keep(report, path, display):
    """Where the report was written to, or None: a full disk must not cost the person at the terminal the diagnosis."""
    try:
        write(report, path)
    except OSError as exc:
        display.warning(clean("directory: the report cannot be written to %s: %s" % (path, exc.strerror)))
        return None
    return path


def stats(name, summary):
    """What an action returns so that ``summary`` is handed out as by set_stats."""
    return {"data": {name: summary}, "per_host": False, "aggregate": True}
