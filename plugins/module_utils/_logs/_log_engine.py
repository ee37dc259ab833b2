# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks a Docker engine for logs that only it can read; raises CannotConnect. Private to this collection."""

from __future__ import annotations

import collections
import struct

from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi, summary
from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_times
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect

# What a line has at least, for how many lines are asked for.
SHORTEST_LINE = 100
CHUNK = 65536


def containers(path, seconds):
    """All containers: ``id, name, service, project, state`` each."""
    return [summary(row) for row in DockerApi(path, seconds).read("containers", "json", all=1)]


def driver(path, identity, seconds):
    """The log driver of a container."""
    found = DockerApi(path, seconds).read("containers", identity, "json")
    try:
        return found["HostConfig"]["LogConfig"]["Type"]
    except (KeyError, TypeError) as exc:
        raise CannotConnect("failed", "the engine does not tell its log driver") from exc


def read(path, identity, begin, budget, seconds):
    """``(lines with their time before them, what was left out or null)``: the newest of a container's log.

    No more than ``budget`` bytes are kept, no longer than ``seconds`` are read.
    """
    most = max(1000, budget // SHORTEST_LINE)
    wanted = {"stdout": 1, "stderr": 1, "timestamps": 1, "since": int(begin), "tail": most}
    kept, size, left_out = collections.deque(), 0, None
    with DockerApi(path, seconds).stream("GET", "containers", identity, "logs", **wanted) as answer:
        try:
            for chunk in iter(lambda: answer.read_some(CHUNK), b""):
                kept.append(chunk)
                size += len(chunk)
                while size - len(kept[0]) > budget:
                    size -= len(kept.popleft())
                    left_out = "there is more than %d bytes" % budget
        except CannotConnect as exc:
            # What came until then counts.
            left_out = "the engine took more than %.1f s" % seconds if exc.kind in ("timeout", "deadline") else str(exc)
    # Where the start was dropped, what is kept may begin in the middle of a frame.
    lines = stamped(unframed(b"".join(kept)))
    if left_out is None and lines.count(b"\n") >= most:
        left_out = "there are more than %d lines" % most
    return lines, left_out


def unframed(data):
    """The text of a stream in which the engine has put the outputs of a container: frames with a header of 8 bytes.

    A container with a terminal has no frames.
    """
    at = _first_frame(data)
    if at is None:
        return data
    parts = []
    while at + 8 <= len(data) and data[at] in (0, 1, 2) and data[at + 1 : at + 4] == b"\0\0\0":
        (length,) = struct.unpack(">I", data[at + 4 : at + 8])
        parts.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(parts)


def _first_frame(data):
    for kind in (b"\1\0\0\0", b"\2\0\0\0"):
        if data.startswith(kind):
            return 0
    places = [data.find(kind, 0, 4 * CHUNK) for kind in (b"\n\1\0\0\0", b"\n\2\0\0\0")]
    found = [place + 1 for place in places if place >= 0]
    return min(found) if found else None


def stamped(data):
    """Lines with the engine's time before them, as lines with epoch seconds before them."""
    written = []
    for line in data.split(b"\n"):
        when, _space, text = line.partition(b" ")
        moment = _log_times.of_text(when)
        if moment is not None:
            written.append(b"%.6f %s\n" % (moment, text))
    return b"".join(written)
