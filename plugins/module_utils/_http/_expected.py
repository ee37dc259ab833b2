# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the JSON of an answer has to hold, and what it holds instead. Private to this collection."""

from __future__ import annotations

import json

from ansible_collections.tracktion.ops.plugins.module_utils._http._http_redact import HIDDEN, conceal, hide
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


def hidden(mismatch, secrets, shows_body=True):
    """A mismatch as it may be shown: without the value that was found, where the body may not be shown."""
    name, found = mismatch["path"], mismatch["found"]
    if found is not None:
        found = shown_value(name, found, secrets, conceal) if shows_body else HIDDEN
    return {"path": name, "expected": shown_value(name, mismatch["expected"], secrets, hide), "found": found}


def shown_value(name, value, secrets, redacted):
    """A value is judged together with its name: ``token: "..."``."""
    text = redacted("%s: %s" % (name, value), secrets)
    return cut(text[len(name) + 2 :] if text.startswith(name + ": ") else text, VALUE_LENGTH)
