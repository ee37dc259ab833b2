# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sockets that listen for connections, with their processes. Private to this collection."""

from __future__ import annotations

import contextlib

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._host._context import Context
from ansible_collections.tracktion.ops.plugins.module_utils._host._descriptors import Descriptors
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners, _sockets
from ansible_collections.tracktion.ops.plugins.module_utils._linux._sockets import Socket
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

# A host listens on more ports than lists have items.
MANY = 5
MOST_SOCKETS = 100000
NO_PROCESS: Part = {
    "pid": None, "user": None, "command": None, "unit": None, "container": None, "service": None, "project": None,
}  # fmt: skip


def read(context: Context) -> list[Socket]:
    """Return the sockets of this network namespace that wait for connections or datagrams, by protocol and port."""
    found: list[Socket] = []
    for tables, state in ((_sockets.TCP, _sockets.LISTEN), (_sockets.UDP, _sockets.CLOSED)):
        for table in tables:
            # A table is absent without IPv6.
            with contextlib.suppress(OSError):
                found += _sockets.parse(table, beginning(context, table, state), (state,))
    return sorted(found, key=lambda each: (each.protocol, each.port, each.address))


def beginning(context: Context, table: str, state: str) -> str:
    """Return the text of a table, of TCP up to the first connection: the kernel lists the listening sockets first.

    A host may have 100,000 connections. Raises OSError.
    """
    lines = []
    with open("%s/net/%s" % (context.proc, table), encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream):
            if number and table in _sockets.TCP and line.split(None, 4)[3:4] != [state]:
                break
            if number > MOST_SOCKETS:
                break
            lines.append(line)
    return "".join(lines)


def describe(context: Context, sockets: list[Socket], descriptors: Descriptors) -> Part:
    """Return the parts ``listeners`` and ``listeners_total``. The process of a socket is null if it is hidden."""
    found = []
    for each in sockets[: MANY * context.top]:
        pid = descriptors.holders.get(each.inode)
        process = context.first.get(pid) if pid is not None else None
        owner = context.describe(process.pid, process.name) if process else dict(NO_PROCESS)
        if process and (owner["command"] or "").startswith(_listeners.PROXY):
            owner.update(context.publisher(each.protocol, each.port))
        # Of a listening socket: connections that its process has not accepted.
        backlog = each.receive_queue if each.protocol == "tcp" else None
        found.append(
            {"protocol": each.protocol, "address": each.address, "port": each.port, "backlog": backlog, **owner}
        )
    if any(item["pid"] is None for item in found):
        hidden = descriptors.unreadable or not descriptors.complete
        if hidden:
            reason = "the descriptors of %d processes cannot be read" % descriptors.unreadable
            context.unknown.add(
                "listeners.*",
                reason if descriptors.unreadable else "the deadline expired before all processes were read",
                _rights.hint("CAP_SYS_PTRACE") if descriptors.unreadable else None,
            )
    return {"listeners": found, "listeners_total": len(sockets)}
