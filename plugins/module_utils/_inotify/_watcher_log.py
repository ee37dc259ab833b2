# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the log of a watcher's container says about inotify. Private to this collection.

Read from the file of the engine (log driver ``json-file``), so that the engine does not have to answer.
"""

from __future__ import annotations

import json
import os
import re
from typing import Iterator, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import epoch
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

# Bytes at the end of the log, and characters of a line in the result.
TAIL = 128 << 10
LINE_LENGTH = 200
# Kind -> pattern; a line has the first kind that matches, and may say that the watcher polls from now on as well.
KINDS = {
    "overflow": r"IN_Q_OVERFLOW|\b(?:inotify|fsnotify|event)[\w :-]{0,40}\boverflow|queue or buffer overflow",
    "watches": r"watch limit reached|ENOSPC.{0,120}watch|watch.{0,160}(?:ENOSPC|no space left on device)|"
    r"inotify.{0,120}(?:ENOSPC|no space left on device)|max_user_watches|"
    r"limit (?:on|for|of) (?:the )?(?:number of )?(?:inotify|file) watch(?:es|ers)",
    "instances": r"instance limit reached|inotify.{0,120}(?:EMFILE|too many open files)|max_user_instances|"
    r"fsnotify.{0,120}too many open files|(?:EMFILE|too many open files).{0,120}(?:inotify|watch)",
    "files": r"\bEMFILE\b|too many open files",
}
# Every line of a kind has one of these words: few lines are compared with the patterns.
WORDS = ("overflow", "limit", "enospc", "emfile", "no space left", "too many open files", "max_user_", "poll")
FALLBACK = r"(?:fall|fell|switch|revert|chang)\w*.{0,60}\bpoll|\bpolling (?:instead|fallback|as fallback)|using polling"


class Line(NamedTuple):
    """The last line of a kind, and when it was written (seconds since 1970, null if not known)."""

    text: str
    time: float | None


def read(path: str | None, since: float | None) -> dict[str, Line]:
    """Return the last line of each kind, written after ``since``; ``fallback`` is a kind, too.

    Empty if the log cannot be read, or is none of the driver ``json-file``.
    """
    if not path:
        return {}
    found: dict[str, Line] = {}
    for text, time in _lines(path):
        lowered = text.lower()
        if (since is not None and time is not None and time < since) or not any(word in lowered for word in WORDS):
            continue
        line = Line(cut(redact(printable(text.strip())), LINE_LENGTH), time)
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, text, re.IGNORECASE)), None)
        if kind:
            found[kind] = line
        if re.search(FALLBACK, text, re.IGNORECASE):
            found["fallback"] = line
    return found


def _lines(path: str) -> Iterator[tuple[str, float | None]]:
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
            data = stream.read(TAIL)
    except OSError:
        return
    for row in data.split(b"\n"):
        try:
            entry = json.loads(row)
            yield str(entry["log"]), epoch(entry.get("time"))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
