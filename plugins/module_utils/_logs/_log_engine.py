# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads container logs through the API of the Docker engine. Raises CannotConnect. Private to this collection."""

from __future__ import annotations

import collections
import struct
from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi, summary
from ansible_collections.tracktion.ops.plugins.module_utils._logs import _log_times
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import LATE, CannotConnect

# Shortest line that is assumed, to turn a budget of bytes into the number of lines to request.
SHORTEST_LINE = 100
CHUNK = 65536


def containers(path: str, seconds: float) -> list[dict[str, Any]]:
    """Return ``id, name, service, project, state`` of all containers."""
    return [summary(row) for row in DockerApi(path, seconds).read("containers", "json", all=1)]


def inspect(path: str, identity: str, seconds: float) -> dict[str, Any]:
    """Return the configuration and state of a container, which hold its log driver."""
    found = DockerApi(path, seconds).read("containers", identity, "json")
    try:
        str(found["HostConfig"]["LogConfig"]["Type"])
    except (KeyError, TypeError) as exc:
        raise CannotConnect("failed", "the engine does not return its log driver") from exc
    return dict(found)


def read(path: str, identity: str, begin: float, budget: int, seconds: float) -> tuple[bytes, str | None]:
    """Return the newest lines of a container as ``with_epoch()`` does, and why some are missing, or null.

    Keeps at most ``budget`` bytes, and reads for at most ``seconds``.
    """
    most = max(1000, budget // SHORTEST_LINE)
    query = {"stdout": 1, "stderr": 1, "timestamps": 1, "since": int(begin), "tail": most}
    kept: collections.deque[bytes] = collections.deque()
    size, left_out = 0, None
    with DockerApi(path, seconds).stream("GET", "containers", identity, "logs", **query) as answer:
        try:
            for chunk in iter(lambda: answer.read_some(CHUNK), b""):
                kept.append(chunk)
                size += len(chunk)
                while size - len(kept[0]) > budget:
                    size -= len(kept.popleft())
                    left_out = "it is larger than the budget of %d bytes" % budget
        except CannotConnect as exc:
            # Keep what was received.
            late = exc.kind in LATE
            left_out = "the engine took more than %.1f s" % seconds if late else str(exc)
    # If the start was dropped, the rest may begin in the middle of a frame.
    lines = with_epoch(without_frames(b"".join(kept)))
    if left_out is None and lines.count(b"\n") >= most:
        left_out = "it has more than %d lines" % most
    return lines, left_out


def without_frames(data: bytes) -> bytes:
    """Return the text of a log stream: the engine multiplexes outputs in frames with a header of 8 bytes.

    The stream of a container with a terminal has no frames.
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


def _first_frame(data: bytes) -> int | None:
    """Return the offset of the first frame; null for none."""
    for kind in (b"\1\0\0\0", b"\2\0\0\0"):
        if data.startswith(kind):
            return 0
    offsets = [data.find(kind, 0, 4 * CHUNK) for kind in (b"\n\1\0\0\0", b"\n\2\0\0\0")]
    found = [offset + 1 for offset in offsets if offset >= 0]
    return min(found) if found else None


def with_epoch(data: bytes) -> bytes:
    """Return lines that begin with the engine's time, with epoch seconds instead; without those that do not."""
    lines = []
    for line in data.split(b"\n"):
        when, _space, text = line.partition(b" ")
        moment = _log_times.of_text(when)
        if moment is not None:
            lines.append(b"%.6f %s\n" % (moment, text))
    return b"".join(lines)
