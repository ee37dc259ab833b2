# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports as files on the controller, and as stats, which outlive it in AWX. Private to this collection."""

from __future__ import annotations

import json
import math
import re

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries, _safe_files
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean

# A report of 300 hosts has some ten MiB.
MOST_BYTES = 64 << 20
FINGERPRINT = re.compile(r"[0-9a-f]{16}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
# The owner can write it, the group can read it.
MODE = 0o640

# A surrogate without its other half, as JSON in ASCII has it.
LONE_SURROGATE = re.compile(r"\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f])|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f]")
# Numbers of more digits are not printed by Python, nor read by others.
DIGITS = 4000
DEPTH = 100


def previous(path, schema_version, warn=lambda text: None):
    """The report of the run before, with those of its findings that can be used; None where there is none.

    Of a finding, ``fingerprint`` and ``first_seen`` can be relied on. ``warn(text)`` is called for what is passed over.
    """
    try:
        directory, name = _safe_files.beside(path, trusted=_safe_files.behind_sudo())
        with directory:
            content = directory.read(name, MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as exc:
        warn(clean("The earlier report is not used: %s" % (exc.strerror or exc)))
        return None
    report = _journal_entries.parsed(content)
    if not isinstance(report, dict) or not isinstance(report.get("findings", []), list):
        warn(clean("The earlier report is not used: %s is not a report" % path))
        return None
    # One of another version is no fault.
    if report.get("schema_version") != schema_version:
        return None
    findings = report.get("findings", [])
    kept = [finding for finding in findings if _is_finding(finding)]
    if len(kept) < len(findings):
        warn(clean("Entries of the earlier report %s that are not findings were passed over" % path))
    return {**report, "findings": kept}


def _is_finding(value):
    """Whether fingerprint and time are as this collection writes them."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("fingerprint"), str)
        and isinstance(value.get("first_seen"), str)
        and bool(FINGERPRINT.fullmatch(value["fingerprint"]))
        and bool(TIME.fullmatch(value["first_seen"]))
    )


def write(report, path, sticky=False):
    """Put the report in place in one step: a reader never sees half of it. Raises OSError.

    ``sticky`` accepts a directory such as /tmp, for a file that an operator names.
    """
    directory, name = _safe_files.beside(path, make=True, sticky=sticky, trusted=_safe_files.behind_sudo())
    with directory:
        directory.replace(name, (as_json(report) + "\n").encode("ascii"), mode=MODE)


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
