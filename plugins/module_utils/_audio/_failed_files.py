# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the files that the audio service failed to process, in the log of its container. Private to this collection."""

from __future__ import annotations

import re
import time
from typing import Any, Iterable, Mapping, Pattern

from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_engine
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, cut
from ansible_collections.tracktion.ops.plugins.module_utils._printable import printable
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# Bytes of the newest part of the log, and characters of a line that are compared with the patterns.
MAX_BYTES, LONGEST_LINE = 1 << 20, 1000
# Characters of a line in the result, and files that are counted.
SHOWN, MOST_FILES = 200, 10000
PATH = "path"
# A word of failure, and the path of an audio file.
FAILED_WORDS = ("error", "fail", "exception", "cannot", "could not", "unable")
FAILED_PATTERN = (
    r"(?:error|fail|exception|cannot|could not|unable)[^\n]{0,300}?"
    r"(?P<path>/[^\n\"'<>|]{1,300}?\.(?:aac|aiff?|flac|m4a|mp3|mp4|oga|ogg|opus|wav|wma))(?![\w.])"
)


def compiled(options: Options) -> tuple[list[Pattern[str]], Pattern[str] | None]:
    """Return the patterns of failures and of completed work. Raises BadOption."""
    failed = [_compile("failed_patterns", pattern) for pattern in options["failed_patterns"]]
    completed = _compile("completed_pattern", options["completed_pattern"]) if options["completed_pattern"] else None
    return failed, completed


def _compile(option: str, pattern: str) -> Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as exc:
        raise BadOption("%s: %r is not a regular expression: %s" % (option, pattern, exc), "Correct `%s`." % option)


def read(api: DockerApi, identity: str, options: Options, deadline: Deadline) -> Part:
    """Return the part ``log``. Raises CannotConnect, OutOfTime."""
    seconds = deadline.step(options["timeout"])
    end = Deadline(seconds)
    begin = time.time() - options["log_minutes"] * 60
    path = api.address.path
    data, left_out = _log_engine.read(path, identity, begin, MAX_BYTES, seconds)
    part = count(data.decode("utf-8", "backslashreplace").splitlines(), *compiled(options), end, options["top"])
    return {"minutes": options["log_minutes"], "left_out": left_out, **part}


def count(
    lines: Iterable[str], failed: list[Pattern[str]], completed: Pattern[str] | None, end: Deadline, top: int
) -> Part:
    """Return what lines of ``EPOCH TEXT`` say: ``completed``, ``failed``, ``failed_ratio``, ``failed_files``."""
    done = bad = 0
    may_match = _with_a_word if [each.pattern for each in failed] == [FAILED_PATTERN] else _any
    is_whole = True
    files: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines):
        if number % 100 == 0 and end.expired():
            is_whole = False
            break
        moment, _space, text = line[:LONGEST_LINE].partition(" ")
        found = None
        if may_match(text):
            found = next((match for match in (pattern.search(text) for pattern in failed) if match), None)
        if found:
            bad += 1
            path = found.groupdict().get(PATH)
            if path and (path in files or len(files) < MOST_FILES):
                files[path] = _entry(files.get(path), path, moment, text)
        elif completed and completed.search(text):
            done += 1
    entries = sorted(files.values(), key=lambda entry: (-entry["count"], entry["path"]))
    return {
        "completed": done,
        "failed": bad,
        "failed_ratio": round(bad / (bad + done), 4) if bad + done else None,
        "complete": is_whole,
        "failed_files": entries[:top],
        "failed_files_total": len(entries),
    }


def _with_a_word(text: str) -> bool:
    """Return whether a line has one of the words: the default pattern costs ten times as much."""
    lowered = text.lower()
    return any(word in lowered for word in FAILED_WORDS)


def _any(_text: str) -> bool:
    return True


def _entry(earlier: Mapping[str, Any] | None, path: str, moment: str, text: str) -> dict[str, Any]:
    try:
        last: float | None = float(moment)
    except ValueError:
        last = None
    return {
        "path": cut(printable(path), SHOWN),
        "count": (earlier["count"] if earlier else 0) + 1,
        "last_seen": last,
        "exists": None,
        "changed_since": None,
        "line": cut(redact(printable(text)), SHOWN),
    }
