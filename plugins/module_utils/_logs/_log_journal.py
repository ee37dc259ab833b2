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

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_levels
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline, cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

FIELDS = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_TRANSPORT,CONTAINER_NAME"
# A unit pattern that means all of them.
ALL = "*"
MACHINE = re.compile(r"[0-9a-f]{32}")
JOURNALS = ("/var/log/journal", "/run/log/journal")
# What a program that writes no level itself meant by the priority of its entry.
TAGS = {0: "[critical] ", 1: "[critical] ", 2: "[critical] ", 3: "[error] ", 4: "[warning] "}


def command(options, begin):
    words = ["journalctl", "--output=json", "--reverse", "--no-pager", "--quiet", "--since=@%d" % begin]
    words += ["--output-fields=" + FIELDS]
    if options["journal_directory"]:
        words += ["--directory=" + options["journal_directory"]]
    if ALL not in options["journal_units"]:
        words += ["--unit=" + unit for unit in options["journal_units"]]
    return words


def read(options, begin, seconds):
    """``(text by unit, what was left out or null, why it could not be read or null)``.

    The newest entries come first, until ``max_bytes`` or ``seconds`` are used up.
    """
    began = time.monotonic()
    try:
        process = _programs.start(command(options, begin))
    except _programs.Failed as exc:
        return {}, None, str(exc)
    data, left_out = _collect(process, options["max_bytes"], seconds)
    said = b""
    if left_out is None:
        _output, said = process.communicate()
    else:
        process.kill()
        process.communicate()
    if process.returncode and left_out is None:
        return {}, None, cut(printable(redact(said.decode("utf-8", "replace").strip())), 200) or "journalctl failed"
    if not data and not left_out and not has_files(options):
        return {}, None, "there are no journal files, or they may not be read"
    rows = data.split(b"\n")
    # A backlog takes its time to be taken apart, too.
    units, taken = by_unit(rows, Deadline(max(0.2, seconds - (time.monotonic() - began)) + seconds / 8))
    if taken < len(rows):
        left_out = "the journal took more than %.1f s" % seconds
    return units, left_out, None


def is_hidden(options: dict) -> bool:
    """Return whether there are files of the system's journal that we may not read.

    Without the right, journalctl shows the entries of our own account alone, and does not fail.
    """
    roots = [options["journal_directory"]] if options["journal_directory"] else JOURNALS
    for root in roots:
        try:
            # No other directories: what is mounted there may hang.
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


def has_files(options):
    """Whether there is any journal that we may read."""
    words = ["journalctl", "--quiet", "--no-pager", "--lines=1", "--output=cat"]
    words += ["--directory=" + options["journal_directory"]] if options["journal_directory"] else []
    try:
        return bool(_programs.output(words, 5))
    except _programs.Failed:
        return False


def _collect(process, most, seconds):
    """What the process writes, and why not all of it was taken, or null."""
    end, parts, size = time.monotonic() + seconds, [], 0
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
    return b"".join(parts), "there is more than %d bytes" % most


def by_unit(rows, deadline):
    """``(the lines of each unit with their time before them, how many entries were looked at)``.

    The entries are the newest first, the lines of a unit the oldest first.
    """
    units, taken = {}, 0
    for row in rows:
        if deadline.expired():
            break
        taken += 1
        try:
            entry = json.loads(row.decode("utf-8", "replace"))
            moment = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        except (ValueError, KeyError, TypeError):
            # The last one may be cut in two.
            continue
        # The kernel is read by itself, and containers by their engine.
        if entry.get("_TRANSPORT") == "kernel" or entry.get("CONTAINER_NAME"):
            continue
        unit = entry.get("_SYSTEMD_UNIT") or entry.get("SYSLOG_IDENTIFIER") or "(no unit)"
        text = _message(entry)
        lines = b"".join(b"%.6f %s\n" % (moment, line) for line in text.split(b"\n"))
        units.setdefault(str(unit), []).append(lines)
    return {unit: b"".join(reversed(found)) for unit, found in units.items()}, taken


def _message(entry):
    message = entry.get("MESSAGE")
    if isinstance(message, list):
        # What is no text comes as numbers.
        message = bytes(byte for byte in message if isinstance(byte, int) and 0 <= byte < 256).decode(
            "utf-8", "replace"
        )
    message = message or ""
    priority = str(entry.get("PRIORITY", ""))
    if priority.isdigit() and _log_levels.by_format(message) is None:
        message = TAGS.get(int(priority), "") + message
    return message.encode("utf-8", "replace").rstrip(b"\n")
