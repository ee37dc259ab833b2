# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names of directories of backups. Private to this collection."""

from __future__ import annotations

import calendar
import re
import string
import time
from urllib.parse import unquote_to_bytes

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, cut

STAMP = re.compile(r"\d{8}T\d{6}Z(-[1-9]\d{0,3})?\Z")
INCOMPLETE = re.compile(r"\.\d{8}T\d{6}Z(-[1-9]\d{0,3})?\.incomplete\Z")
PLAIN = frozenset((string.ascii_letters + string.digits + "_.-").encode("ascii"))
# The limit of most file systems.
NAME_BYTES = 255


def quoted(name: str) -> str:
    """Return the name of a directory for the backups of ``name``. Raises BadOption if it is empty or too long.

    All bytes but letters, digits, ``_``, ``-`` and dots are percent-encoded, and a dot at the beginning.
    """
    data = name.encode("utf-8", "surrogateescape")
    text = "".join(
        chr(byte) if byte in PLAIN and not (byte == 0x2E and place == 0) else "%%%02X" % byte
        for place, byte in enumerate(data)
    )
    if not 0 < len(text) <= NAME_BYTES:
        raise BadOption("name: %r is empty or too long for the name of a directory" % cut(name, 80))
    return text


def unquoted(entry: str) -> str | None:
    """Return the name for which ``entry`` is the directory, or null if it is the directory of none."""
    try:
        name = unquote_to_bytes(entry).decode("utf-8", "surrogateescape")
        return name if quoted(name) == entry else None
    except (BadOption, UnicodeError):
        return None


def stamp_of(entry: str) -> str:
    """Return the stamp in the name of a directory, complete or not."""
    return entry[1:].rpartition(".")[0] if entry.startswith(".") else entry


def stamp_key(stamp: str) -> tuple[str, int]:
    """Return the sort key of a stamp: by time, then by the number of those of the same second."""
    base, _dash, number = stamp.partition("-")
    return base, int(number or 1)


def stamp_time(stamp: str) -> float:
    """Return the time of a stamp in seconds since 1970; 0 if it is none."""
    try:
        return float(calendar.timegm(time.strptime(stamp.partition("-")[0], "%Y%m%dT%H%M%SZ")))
    except ValueError:
        return 0.0
