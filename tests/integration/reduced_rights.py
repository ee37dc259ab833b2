# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes rights away from a measuring process, and requests away from those that it may make of an engine."""

from __future__ import annotations

import contextlib
import grp
import os
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.integration.inotify_faults import OTHER_UID, PR_SET_DUMPABLE, call, libc, mount, private_mounts

ENGINE = "/var/run/docker.sock"
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SYSLOG = 1, 2, 12, 19, 21, 34
DMESG_RESTRICT = Path("/proc/sys/kernel/dmesg_restrict")
REQUEST = re.compile(rb"[A-Z]+ (?:/v[0-9.]+)?(/[^ ?]*)")


def become_member(group: str) -> None:
    """Become a user whose only right is to be in a group."""
    os.setgroups([grp.getgrnam(group).gr_gid])
    os.setresgid(OTHER_UID, OTHER_UID, OTHER_UID)
    os.setresuid(OTHER_UID, OTHER_UID, OTHER_UID)
    # A process that has changed its user is hidden even from that user, until it runs another program.
    call(libc.prctl, PR_SET_DUMPABLE, 1, 0, 0, 0)


def hide_processes(level: int, then) -> None:
    """Mount /proc with ``hidepid``, for this process alone, and go on with ``then``."""
    private_mounts()
    mount("proc", "/proc", "proc", "hidepid=%d" % level)
    then()


def closed(paths: list[str], then) -> None:
    """Give each path a mode with which root alone can use it, for this process alone, and go on with ``then``."""
    private_mounts()
    for path in paths:
        mount("none", path, "tmpfs", "mode=700")
    then()


@contextlib.contextmanager
def kernel_log_restricted() -> Iterator[None]:
    """The kernel's log is for those alone who have CAP_SYSLOG."""
    before = DMESG_RESTRICT.read_text()
    DMESG_RESTRICT.write_text("1")
    try:
        yield
    finally:
        DMESG_RESTRICT.write_text(before)


@contextlib.contextmanager
def filtered_engine(path: Path, forbidden: str) -> Iterator[str]:
    """A socket at ``path`` in front of the engine that answers 403 to requests whose path matches; yields its URL."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while True:
                request = head(self.request)
                if not request:
                    return
                if re.search(forbidden.encode(), REQUEST.match(request).group(1)):
                    self.request.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nForbidden")
                    continue
                with socket.socket(socket.AF_UNIX) as engine:
                    engine.connect(ENGINE)
                    # One request a connection: its answer ends where the engine closes it.
                    engine.sendall(
                        re.sub(rb"(?im)^connection:.*\r\n", b"", request)[:-2] + b"Connection: close\r\n\r\n"
                    )
                    while True:
                        chunk = engine.recv(65536)
                        if not chunk:
                            return
                        self.request.sendall(chunk)

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Server(str(path), Handler) as server:
        path.chmod(0o666)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield "unix://%s" % path
        finally:
            server.shutdown()


def head(connection: socket.socket) -> bytes:
    """The head of a request without a body."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        received += chunk
    return received
