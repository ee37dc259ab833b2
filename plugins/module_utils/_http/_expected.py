# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares the JSON of an answer with the expected values. Private to this collection."""

from __future__ import annotations

import json
from typing import Any, Callable, Iterable, Mapping, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._http._http_redact import HIDDEN, conceal, hide
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut

VALUE_LENGTH = 80


class Mismatch(TypedDict):
    """A path with another value than expected, both values in JSON; ``found`` is null for none, or for null."""

    path: str
    expected: str
    found: str | None


def mismatches(text: str, expected: Mapping[Any, Any]) -> list[Mismatch]:
    """Return the paths of ``expected`` at which the JSON in ``text`` has another value."""
    if not expected:
        return []
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return [{"path": "", "expected": "JSON", "found": None}]
    found: list[Mismatch] = []
    for path, value in expected.items():
        actual = follow(document, str(path))
        # True equals 1 in Python and not in JSON.
        if actual != value or isinstance(actual, bool) != isinstance(value, bool):
            actual_text = None if actual is None else json.dumps(actual)
            found.append({"path": str(path), "expected": json.dumps(value), "found": actual_text})
    return found


def follow(document: Any, path: str) -> Any:
    """Return the value at a path such as ``checks.database.healthy`` or ``tracks.0.title``; null for none."""
    for part in path.split("."):
        if isinstance(document, dict):
            document = document.get(part)
        elif isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document


def redacted(mismatch: Mismatch, secrets: Iterable[str], shows_body: bool = True) -> Mismatch:
    """Return a mismatch without secrets, and without the value found unless ``shows_body``."""
    name, found = mismatch["path"], mismatch["found"]
    if found is not None:
        found = _redacted_value(name, found, secrets, conceal) if shows_body else HIDDEN
    return {"path": name, "expected": _redacted_value(name, mismatch["expected"], secrets, hide), "found": found}


def _redacted_value(name: str, value: str, secrets: Iterable[str], redact: Callable[..., str]) -> str:
    """Redact a value as ``name: value``, so that the name of a secret hides it."""
    text = redact("%s: %s" % (name, value), secrets)
    return cut(text[len(name) + 2 :] if text.startswith(name + ": ") else text, VALUE_LENGTH)
