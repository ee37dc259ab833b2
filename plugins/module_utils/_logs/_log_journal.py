# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the newest entries of systemd's journal. Private to this collection."""

from __future__ import annotations

import json
import os
import re
import selectors
import time
from typing import Any, Iterable

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_levels
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

FIELDS = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_TRANSPORT,CONTAINER_NAME"
# Selects all units.
ALL = "*"
# Name of a machine's directory.
MACHINE = re.compile(r"[0-9a-f]{32}")
JOURNALS = ("/var/log/journal", "/run/log/journal")
# Level by the priority of an entry, for messages that hold none.
TAGS = {0: "[critical] ", 1: "[critical] ", 2: "[critical] ", 3: "[error] ", 4: "[warning] "}


def command(options: Options, begin: float) -> list[str]:
    """Return the command that prints the entries since ``begin`` in JSON, newest first."""
    words = ["journalctl", "--output=json", "--reverse", "--no-pager", "--quiet", "--since=@%d" % begin]
    words += ["--output-fields=" + FIELDS, *_directory(options)]
    if ALL not in options["journal_units"]:
        words += ["--unit=" + unit for unit in options["journal_units"]]
    return words


def _directory(options: Options) -> list[str]:
    return ["--directory=" + options["journal_directory"]] if options["journal_directory"] else []


def read(options: Options, begin: float, seconds: float) -> tuple[dict[str, bytes], str | None, str | None]:
    """Return the text by unit, why some of it is missing or null, and why it cannot be read or null.

    Reads the newest entries first, until ``max_bytes`` or ``seconds`` are used up.
    """
    began = time.monotonic()
    try:
        process = _programs.start(command(options, begin))
    except _programs.Failed as exc:
        return {}, None, str(exc)
    data, left_out = _collect(process, options["max_bytes"], seconds)
    if left_out is not None:
        process.kill()
    _output, stderr = process.communicate()
    if process.returncode and left_out is None:
        return {}, None, cut(printable(redact(stderr.decode("utf-8", "replace").strip())), 200) or "journalctl failed"
    if not data and not left_out and not has_files(options):
        return {}, None, "no journal files exist, or they cannot be read"
    rows = data.split(b"\n")
    # Parsing many entries takes time, too.
    units, parsed = by_unit(rows, Deadline(max(0.2, seconds - (time.monotonic() - began)) + seconds / 8))
    if parsed < len(rows):
        left_out = "the journal took more than %.1f s" % seconds
    return units, left_out, None


def is_hidden(options: Options) -> bool:
    """Return whether the account lacks the right to read files of the system's journal.

    Without the right, journalctl shows only the account's own entries and does not fail.
    """
    roots = [options["journal_directory"]] if options["journal_directory"] else JOURNALS
    for root in roots:
        try:
            # Only directories of machines: others may be mounts that hang.
            below = [name for name in os.listdir(root) if MACHINE.fullmatch(name)]
        except PermissionError:
            return True
        except OSError:
            continue
        for folder in ["", *below]:
            path = os.path.join(root, folder, "system.journal")
            if not os.access(path, os.R_OK) and (os.path.exists(path) or not os.access(os.path.dirname(path), os.X_OK)):
                return True
    return False


def has_files(options: Options) -> bool:
    """Return whether the account can read any journal file."""
    words = ["journalctl", "--quiet", "--no-pager", "--lines=1", "--output=cat", *_directory(options)]
    try:
        return bool(_programs.output(words, 5))
    except _programs.Failed:
        return False


def _collect(process: Any, most: int, seconds: float) -> tuple[bytes, str | None]:
    """Return the output of a process, and why some of it is missing or null."""
    parts: list[bytes] = []
    end, size = time.monotonic() + seconds, 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while size < most:
            if not selector.select(max(0.0, end - time.monotonic())):
                return b"".join(parts), "the journal took more than %.1f s" % seconds
            chunk = os.read(process.stdout.fileno(), min(65536, most - size))
            if not chunk:
                return b"".join(parts), None
            parts.append(chunk)
            size += len(chunk)
    return b"".join(parts), "it is larger than the budget of %d bytes" % most


def by_unit(rows: Iterable[bytes], deadline: Deadline) -> tuple[dict[str, bytes], int]:
    """Return the lines of each unit, each after its epoch seconds, and the number of entries that were parsed.

    ``rows`` are newest first, the lines of a unit oldest first.
    """
    units: dict[str, list[bytes]] = {}
    parsed = 0
    for row in rows:
        if deadline.expired():
            break
        parsed += 1
        try:
            entry = json.loads(row.decode("utf-8", "replace"))
            moment = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        except (ValueError, KeyError, TypeError):
            # The last row may be truncated.
            continue
        # The kernel's log and those of containers are read elsewhere.
        if entry.get("_TRANSPORT") == "kernel" or entry.get("CONTAINER_NAME"):
            continue
        unit = entry.get("_SYSTEMD_UNIT") or entry.get("SYSLOG_IDENTIFIER") or "(no unit)"
        text = _message(entry)
        lines = b"".join(b"%.6f %s\n" % (moment, line) for line in text.split(b"\n"))
        units.setdefault(str(unit), []).append(lines)
    return {unit: b"".join(reversed(found)) for unit, found in units.items()}, parsed


def _message(entry: dict[str, Any]) -> bytes:
    """Return the message of an entry, with its level in front if the message holds none."""
    message = entry.get("MESSAGE")
    if isinstance(message, list):
        # A message that is not UTF-8 is a list of bytes.
        message = bytes(byte for byte in message if isinstance(byte, int) and 0 <= byte < 256).decode(
            "utf-8", "replace"
        )
    message = message or ""
    priority = str(entry.get("PRIORITY", ""))
    if priority.isdigit() and _log_levels.by_format(message) is None:
        message = TAGS.get(int(priority), "") + message
    return message.encode("utf-8", "replace").rstrip(b"\n")
