# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What http.client needs of a socket, held to a deadline. Private to this collection."""

from __future__ import annotations

import io
import socket


def remaining_timeout(deadline, at_most=None):
    """Seconds that the next step on the wire may take; raises socket.timeout where none are left."""
    left = deadline.remaining(at_most)
    if left <= 0:
        raise socket.timeout("timed out")
    return left


class BoundedSocket:
    """A server that drips one byte a second cannot outlast the deadline.

    ``remaining_timeout()`` returns the seconds that the next step on the wire may take, and raises socket.timeout where
    none are left.
    """

    def __init__(self, sock, remaining_timeout):
        self._sock = sock
        self._remaining_timeout = remaining_timeout

    def sendall(self, data):
        self._sock.settimeout(self._remaining_timeout())
        self._sock.sendall(data)

    def makefile(self, mode):
        # Unbuffered, so that the socket outlives close() until the reply has been read, as http.client expects.
        return io.BufferedReader(
            _BoundedReader(self._sock, self._sock.makefile(mode, buffering=0), self._remaining_timeout)
        )

    def close(self):
        self._sock.close()


class _BoundedReader(io.RawIOBase):
    def __init__(self, sock, raw, remaining_timeout):
        super().__init__()
        self._sock = sock
        self._raw = raw
        self._remaining_timeout = remaining_timeout

    def readable(self):
        return True

    def readinto(self, buffer):
        self._sock.settimeout(self._remaining_timeout())
        return self._raw.readinto(buffer)

    def close(self):
        self._raw.close()
        super().close()
