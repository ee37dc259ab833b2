# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Computes the parts of the measurement from the answer of the probe program. Private to this collection."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact, redact_setting
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# Bytes that the decoding of a file takes: 173 MB for the library and the extractors, and three copies of the samples
# (44,100 a second of 4 bytes each). Measured with Essentia 2.1b6.dev1389: 205 MB for 60 s, 812 MB for 1200 s.
BASE_BYTES, BYTES_PER_SECOND = 173000000, 3 * 44100 * 4
# Multiples of the tempo that detectors take for it.
OCTAVES = (0.5, 1.0, 2.0)
TEXT = 300
DEEP = ("imports", "formats", "silence_references", "tempo_references", "key_references")
FLATS = {"db": "c#", "eb": "d#", "gb": "f#", "ab": "g#", "bb": "a#"}


def memory(found: Part, limit: int | None, seconds: float) -> Part:
    """Return the part ``memory``: limit and use of the container, and what a file of ``seconds`` needs.

    The rule: ``needed = 173 MB + seconds * 529,200``, that is 491 MB for 10 minutes and 4.0 GB for two hours.
    """
    limits = [each for each in (found["limit"], limit) if each]
    return {
        "limit": min(limits) if limits else None,
        "used": found["used"],
        "longest_seconds": seconds,
        "needed": int(BASE_BYTES + BYTES_PER_SECOND * seconds),
    }


def tempo(found: Part) -> Part:
    """Return a result with the ``octave`` that is nearest to the reference, and the ratio ``error`` to that."""
    octave = error = None
    value, reference = found.get("value"), found["reference"]
    if value and value > 0:
        octave = min(OCTAVES, key=lambda each: abs(value / (reference * each) - 1))
        error = round(abs(value / (reference * octave) - 1), 4)
    return {**_step(found), "reference": reference, "value": _rounded(value), "octave": octave, "error": error}


def key(found: Part) -> Part:
    """Return a result with whether the key is that of the reference (``matches``). C is taken for C major."""
    value = found.get("value")
    matches = None if value is None else _key_of(value) == _key_of(found["reference"])
    return {
        **_step(found),
        "reference": found["reference"],
        "value": cut(printable(value), 60) if value else None,
        "matches": matches,
    }


def _key_of(text: str) -> tuple[str, str]:
    words = text.lower().replace("_", " ").split()
    tone = words[0] if words else ""
    is_minor = any(word.startswith("min") for word in words[1:]) or (tone.endswith("m") and len(tone) > 1)
    tone = tone.rstrip("m")
    return FLATS.get(tone, tone), "minor" if is_minor else "major"


def silence(found: Part) -> Part:
    """Return the result for silence."""
    return {**_step(found), "value": _rounded(found.get("value"))}


def _step(found: Part) -> Part:
    return {
        "state": found["state"],
        "message": message(found.get("message")),
        "confidence": _rounded(found.get("confidence")),
        "seconds": found["took"],
    }


def _rounded(value: float | None) -> float | None:
    """Return a finite number with 3 digits; null for anything else."""
    return round(value, 3) if isinstance(value, (int, float)) and abs(value) < 1e12 else None


def format_of(found: Part) -> Part:
    """Return the result of a format, with whether it was decoded to its length (``ok``)."""
    seconds = found.get("seconds")
    is_whole = seconds is not None and seconds >= found["stated_seconds"] * 0.9
    return {
        "format": found["format"],
        "ok": None if found["state"] is None else found["state"] == "ok" and is_whole,
        "state": found["state"],
        "message": message(found["message"]),
        "decoded_seconds": _rounded(seconds),
        "stated_seconds": found["stated_seconds"],
    }


def deep(found: Part) -> Part:
    """Return the parts of the expensive part, each of which is a list."""
    return {
        "imports": [
            {
                **found["imported"],
                "message": message(found["imported"]["message"]),
                "memory_left": found["memory_left"],
            }
        ],
        "formats": [format_of(each) for each in found["formats"]],
        "silence_references": [silence(each) for each in found["silence"]],
        "tempo_references": [tempo(each) for each in found["tempo"]],
        "key_references": [key(each) for each in found["key"]],
    }


def as_parts(kept: Part | None, asked: bool) -> Part:
    """Return the parts of the expensive part: empty if it was not asked for, null if it was and has no result."""
    nothing: list[Part] | None = None if asked else []
    return {**dict.fromkeys(DEEP, nothing), "age_seconds": None, **(kept or {})}


def files(found: Sequence[Part], asked: Sequence[str], inside: Sequence[str]) -> list[Part]:
    """Return the part ``files``, in the order in which they were named. Null fields for those without a result."""
    by_path = {each["path"]: each for each in found}
    parts = []
    for path, path_inside in zip(asked, inside):
        each = by_path.get(path_inside)
        numbers = ("stated_seconds", "decoded_seconds", "peak", "seconds")
        plain = ("bytes", "container", "sample_rate", "channels", "fault", "peak_bytes")
        is_examined = each is not None and each["fault"] is not None
        part: Part = {"path": path, "path_inside": path_inside, "examined": is_examined}
        part.update({name: each.get(name) if each else None for name in plain})
        part.update({name: _rounded(each.get(name)) if each else None for name in numbers})
        part.update(codec=cut(printable(each["codec"]), 30) if each and each["codec"] else None)
        part.update(message=message(each["message"]) if each else None)
        parts.append(part)
    return parts


def settings(found: Sequence[Part], wanted: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Return the part ``settings``: the value of each, what is expected, and whether they are the same."""
    return [
        {
            "name": row["name"],
            "source": "$" + row["environment"] if row["environment"] else row["path"],
            "value": _setting(row["name"], each["value"]),
            "expected": str(row["expected"]),
            "matches": None if each["error"] else same(each["value"], row["expected"]),
            "error": message(each["error"]),
        }
        for each, row in zip(found, wanted)
    ]


def _setting(name: str, value: Any) -> str | None:
    return None if value is None else cut(printable(redact_setting(name, str(value)) or ""), 100)


def same(value: Any, expected: Any) -> bool:
    """Return whether two values are the same number, or the same text. A bool is the text of it."""
    texts = [str(each).strip() for each in (value, expected)]
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return texts[0].lower() == texts[1].lower()
    return abs(numbers[0] - numbers[1]) <= 1e-9 * max(1.0, abs(numbers[1]))


def message(text: str | None) -> str | None:
    """Return the text of an error in one line, without secrets."""
    return cut(redact(printable(" ".join(text.split()))), TEXT) if text else None


def unlisted(options: Options) -> Part:
    """Return the parts of the program when it did not run: null, or nothing was asked."""
    return {
        "music": None,
        "temporary": None,
        "memory": None,
        "library": None,
        "settings": None if options["settings"] else [],
        "files": None if options["files"] else [],
    }
