# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports as files on the controller, and as stats, which outlive it in AWX. Private to this collection."""

from __future__ import annotations

import json
import re
import unicodedata

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries, _safe_files

# A report of 300 hosts has some ten MiB.
MOST_BYTES = 64 << 20
FINGERPRINT = re.compile(r"[0-9a-f]{16}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
# The owner can write it, the group can read it.
MODE = 0o640


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
        warn("The earlier report is not used: %s" % (exc.strerror or exc))
        return None
    report = _journal_entries.parsed(content)
    if not isinstance(report, dict) or not isinstance(report.get("findings", []), list):
        warn("The earlier report is not used: %s is not a report" % path)
        return None
    # One of another version is no fault.
    if report.get("schema_version") != schema_version:
        return None
    findings = report.get("findings", [])
    kept = [finding for finding in findings if _is_finding(finding)]
    if len(kept) < len(findings):
        warn("Entries of the earlier report %s that are not findings were passed over" % path)
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
        directory.replace(name, as_json(report), mode=MODE)


def as_json(value):
    """JSON text in which nothing but printable characters is left as it is. Numbers that JSON lacks are null."""
    text = json.dumps(_journal_entries.plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    # Outside of strings, line feeds are the only character that this can find.
    return (re.sub(r"[^\x20-\x7e\n]", _escaped, text) + "\n").encode("utf-8")


def _escaped(match):
    character = match.group()
    # Control and format characters, lone surrogates, separators of lines: what a terminal obeys, or hides.
    if unicodedata.category(character)[0] not in "CZ":
        return character
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def keep(report, path, display):
    """Where the report was written to, or None: a full disk must not cost the person at the terminal the diagnosis."""
    try:
        write(report, path)
    except OSError as exc:
        display.warning("directory: the report cannot be written to %s: %s" % (path, exc.strerror))
        return None
    return path


def stats(name, summary):
    """What an action returns so that ``summary`` is handed out as by set_stats."""
    return {"data": {name: summary}, "per_host": False, "aggregate": True}
