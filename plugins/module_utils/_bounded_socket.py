# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of a socket that http.client needs, limited by a deadline. Private to this collection."""

from __future__ import annotations

import io
import socket
from typing import Any, Callable

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline


def remaining_timeout(deadline: Deadline, at_most: float | None = None) -> float:
    """Return the seconds for the next send or read. Raises socket.timeout if none are left."""
    left = deadline.remaining(at_most)
    if left <= 0:
        raise socket.timeout("timed out")
    return left


class BoundedSocket:
    """A socket on which the whole exchange ends at a deadline, even if the server sends one byte a second.

    ``remaining_timeout()`` returns the seconds for the next send or read, and raises socket.timeout if none are left.
    """

    def __init__(self, sock: socket.socket, remaining_timeout: Callable[[], float]) -> None:
        self._sock = sock
        self._remaining_timeout = remaining_timeout

    def sendall(self, data: bytes) -> None:
        """Send all bytes. Raises OSError, and socket.timeout once no time is left."""
        self._sock.settimeout(self._remaining_timeout())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a reader whose reads end at the deadline, as http.client wants it: ``mode`` is "rb"."""
        # Unbuffered, so that the socket outlives close() until the reply has been read, as http.client expects.
        raw = self._sock.makefile(mode, buffering=0)  # type: ignore[call-overload]  # http.client passes "rb"
        return io.BufferedReader(_BoundedReader(self._sock, raw, self._remaining_timeout))

    def close(self) -> None:
        """Close the socket. A reader of ``makefile()`` keeps it open until it is closed too."""
        self._sock.close()


class _BoundedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, raw: io.RawIOBase, remaining_timeout: Callable[[], float]) -> None:
        super().__init__()
        self._sock = sock
        self._raw = raw
        self._remaining_timeout = remaining_timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Return the bytes read into ``buffer``, 0 at the end. Raises socket.timeout once no time is left."""
        self._sock.settimeout(self._remaining_timeout())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
