# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps the history of runs in a directory, on the controller or on a host. Private to this collection.

One file for each run, with two lines of JSON: what charts need of this run, and the state of all findings after it. The
state of what a run did not measure is carried over from the run before, so the newest file has the state of everything.
A file is renamed into place, so a run that is killed leaves none. Runs at the same time wait for each other.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import time
import zlib
from typing import Any, Iterable, Mapping, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils import _history_state, _safe_files
from ansible_collections.tracktion.ops.plugins.module_utils._clean import clean

SCHEMA = "tracktion.ops/run"
SCHEMA_VERSION = 1
NAME = re.compile(r"(\d{8}T\d{6}Z)-(\d{6})\.jsonl")
STAMP = "%Y%m%dT%H%M%SZ"
LOCK = ".lock"
# The file under which the next run is written; of a run that was killed, the next one replaces it.
TEMPORARY = ".new"
LOCK_SECONDS = 10.0
# A run with 10,000 findings has 3 MiB.
FILE_BYTES = 32 << 20
# Earlier runs that are read for charts.
CHARTED = 30
MODE = 0o640
DAY = 86400


class Limits(NamedTuple):
    """What is kept: the newest ``runs``, none older than ``days``, and at most ``size`` bytes in all."""

    runs: int = 100
    days: int = 90
    size: int = 64 << 20


def empty() -> dict[str, Any]:
    """Return a history without runs: ``state`` by host and area, ``runs`` (the oldest first), ``problems`` (texts)."""
    return {"state": {}, "runs": [], "problems": []}


def read(directory: _safe_files.Directory, charted: int = CHARTED) -> dict[str, Any]:
    """Return the history as ``empty()`` describes it. A file that is not valid is left out, and is a problem.

    Raises OSError if the directory cannot be read.
    """
    found = empty()
    has_state = False
    for name in reversed(_names(directory)):
        if has_state and len(found["runs"]) >= charted:
            break
        try:
            lines = directory.read(name, FILE_BYTES).split(b"\n", 1)
            run = _run(lines[0])
            state = {} if has_state else _history_state.valid(_parsed(lines[1] if len(lines) > 1 else b""))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as exc:
            found["problems"].append(clean("%s is not used: %s" % (name, getattr(exc, "strerror", None) or exc)))
            continue
        if not has_state:
            found["state"] = state
            has_state = True
        if len(found["runs"]) < charted:
            found["runs"].insert(0, run)
    return found


def write(directory: _safe_files.Directory, record: Mapping[str, Any], limits: Limits, now: float) -> list[str]:
    """Keep a run and remove what exceeds the limits. Return problems. Raises OSError.

    ``record``: ``run`` (see ``read``) and ``state`` of what this run has measured.
    """
    if limits.runs < 1:
        return []
    with directory.locked(LOCK, LOCK_SECONDS):
        earlier = read(directory, charted=0)
        state = _history_state.carried(earlier["state"], record["state"])
        lines = [dict(record["run"], schema=SCHEMA, schema_version=SCHEMA_VERSION), state]
        content = "".join("%s\n" % json.dumps(line, separators=(",", ":")) for line in lines).encode("ascii")
        if len(content) > min(FILE_BYTES, limits.size):
            return ["this run is not kept: it has %d bytes" % len(content)]
        name = _next_name(directory, now)
        # First, so that a disk that is full because of the history gets room.
        _prune(directory, limits._replace(runs=limits.runs - 1, size=limits.size - len(content)), now)
        directory.replace(name, content, mode=MODE, temporary=TEMPORARY)
    return []


def pack(value: object) -> str:
    """Return plain data as a short text, for the options and the result of a module."""
    return base64.b64encode(zlib.compress(json.dumps(value).encode("ascii"))).decode("ascii")


def unpack(text: object) -> Any:
    """Return the data that ``pack()`` has packed. Raises ValueError."""
    try:
        inflate = zlib.decompressobj()
        content = inflate.decompress(base64.b64decode(str(text), validate=True), 8 * FILE_BYTES)
        if inflate.unconsumed_tail:
            raise ValueError("it is too large")
    except zlib.error as exc:
        raise ValueError("it is damaged: %s" % exc) from exc
    return _parsed(content)


def _names(directory: _safe_files.Directory) -> list[str]:
    """Return the names of the files of runs, the oldest first."""
    return sorted(name for name in os.listdir(directory.descriptor) if NAME.fullmatch(name))


def _next_name(directory: _safe_files.Directory, now: float) -> str:
    """Return a name that is sorted after all others, also within a second and after the clock was set back."""
    stamp, number = time.strftime(STAMP, time.gmtime(now)), 0
    match = NAME.fullmatch((_names(directory) or [""])[-1])
    if match and match.group(1) >= stamp:
        stamp, number = match.group(1), int(match.group(2)) + 1
    return "%s-%06d.jsonl" % (stamp, number)


def _run(line: bytes) -> dict[str, Any]:
    """Return the first line of a file. Raises ValueError."""
    run = _parsed(line)
    if not isinstance(run, dict) or run.get("schema") != SCHEMA:
        raise ValueError("it is not the file of a run")
    if run.get("schema_version") != SCHEMA_VERSION:
        raise ValueError("another version of this collection wrote it (version %r)" % (run.get("schema_version"),))
    if not _history_state.is_time(run.get("time")) or not isinstance(run.get("charts"), list):
        raise ValueError("it is not the file of a run")
    return run


def _prune(directory: _safe_files.Directory, limits: Limits, now: float) -> None:
    oldest = time.strftime(STAMP, time.gmtime(max(0, now - limits.days * DAY)))
    total = 0
    for number, name in enumerate(reversed(_names(directory))):
        total += directory.size(name)
        if number >= limits.runs or total > limits.size or name < oldest:
            with contextlib.suppress(FileNotFoundError):
                directory.unlink(name)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise ValueError("it is not complete, or not JSON") from exc


def _no_constant(name: str) -> None:
    raise ValueError("%s is not JSON" % name)


def opened(path: str, make: bool, trusted: Iterable[int] = ()) -> _safe_files.Directory:
    """Return the open directory of a history. Raises OSError if it is missing or another user can change it."""
    return _safe_files.Directory(path, make=make, mode=0o750, trusted=trusted)
