# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks a Docker engine for logs that only it can read. Private to this collection.

Three requests of HTTP over the engine's socket: no client library is needed for that. An engine that does not answer
is left after the time-out.
"""

from __future__ import annotations

import collections
import http.client
import json
import socket
import struct
import time
import urllib.parse

from ansible_collections.tracktion.ops.plugins.module_utils import _log_times

# Of the API, as old as engine 1.12.
VERSION = "v1.24"
# What a line has at least, for how many lines are asked for.
SHORTEST_LINE = 100
CHUNK = 65536


class Refused(OSError):
    """The engine said no."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket of the file system."""

    def __init__(self, path, seconds):
        super().__init__("localhost", timeout=max(0.1, seconds))
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def _get(path, seconds, page, **query):
    """The open answer to a request. Raises OSError."""
    connection = _Connection(path, seconds)
    try:
        connection.request("GET", "/%s/%s?%s" % (VERSION, page, urllib.parse.urlencode(query)))
        answer = connection.getresponse()
        if answer.status != 200:
            raise Refused(_said(answer))
    except http.client.HTTPException as exc:
        raise OSError("the engine answers no HTTP: %s" % exc) from exc
    except socket.timeout as exc:
        raise OSError("the engine does not answer within %.1f s" % seconds) from exc
    return connection, answer


def _said(answer):
    text = answer.read(10000).decode("utf-8", "replace")
    try:
        return json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        return text.strip() or "status %d" % answer.status


def containers(path, seconds):
    """All containers: ``id, name, service, project, state`` each."""
    connection, answer = _get(path, seconds, "containers/json", all=1)
    try:
        rows = json.loads(answer.read().decode("utf-8", "replace"))
    except ValueError as exc:
        raise OSError("the engine answers no JSON") from exc
    finally:
        connection.close()
    return [
        {
            "id": row["Id"],
            "name": (row.get("Names") or [row["Id"][:12]])[0].lstrip("/"),
            "service": (row.get("Labels") or {}).get("com.docker.compose.service"),
            "project": (row.get("Labels") or {}).get("com.docker.compose.project"),
            "state": row.get("State"),
        }
        for row in rows
    ]


def driver(path, identity, seconds):
    """The log driver of a container."""
    connection, answer = _get(path, seconds, "containers/%s/json" % identity)
    try:
        return json.loads(answer.read().decode("utf-8", "replace"))["HostConfig"]["LogConfig"]["Type"]
    except (ValueError, KeyError, TypeError) as exc:
        raise OSError("the engine does not tell its log driver") from exc
    finally:
        connection.close()


def read(path, identity, begin, budget, seconds):
    """``(lines with their time before them, what was left out or null)``: the newest of a container's log.

    No more than ``budget`` bytes are kept, no longer than ``seconds`` are read.
    """
    end = time.monotonic() + seconds
    most = max(1000, budget // SHORTEST_LINE)
    connection, answer = _get(
        path, seconds, "containers/%s/logs" % identity, stdout=1, stderr=1, timestamps=1, since=int(begin), tail=most
    )
    kept, size, left_out = collections.deque(), 0, None
    try:
        while True:
            if time.monotonic() > end:
                left_out = "the engine took more than %.1f s" % seconds
                break
            chunk = answer.read(CHUNK)
            if not chunk:
                break
            kept.append(chunk)
            size += len(chunk)
            while size - len(kept[0]) > budget:
                size -= len(kept.popleft())
                left_out = "there is more than %d bytes" % budget
    except socket.timeout:
        left_out = "the engine took more than %.1f s" % seconds
    except http.client.HTTPException as exc:
        left_out = "the engine broke off: %s" % type(exc).__name__
    finally:
        connection.close()
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
