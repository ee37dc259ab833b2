# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the JSON of an answer has to hold, and what it holds instead. Private to this collection."""

from __future__ import annotations

import json

from ansible_collections.tracktion.ops.plugins.module_utils._http._http_redact import hide
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut

VALUE_LENGTH = 80


def mismatches(text, expected):
    """The paths of ``expected`` at which the JSON in ``text`` holds something else."""
    if not expected:
        return []
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return [{"path": "", "expected": "JSON", "found": None}]
    found = []
    for path, value in expected.items():
        actual = follow(document, str(path))
        # To Python true is 1, to JSON it is not.
        if actual != value or isinstance(actual, bool) != isinstance(value, bool):
            told = None if actual is None else json.dumps(actual)
            found.append({"path": str(path), "expected": json.dumps(value), "found": told})
    return found


def follow(document, path):
    """What stands at ``checks.database.healthy`` or ``tracks.0.title``; null where nothing does."""
    for part in path.split("."):
        if isinstance(document, dict):
            document = document.get(part)
        elif isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document


def hidden(mismatch, secrets):
    """A mismatch as it may be shown."""
    name = mismatch["path"]
    values = {field: shown_value(name, mismatch[field], secrets) for field in ("expected", "found")}
    return {"path": name, **values}


def shown_value(name, value, secrets):
    """A value is judged together with its name: ``token: "..."``."""
    if value is None:
        return None
    text = hide("%s: %s" % (name, value), secrets)
    return cut(text[len(name) + 2 :] if text.startswith(name + ": ") else text, VALUE_LENGTH)
