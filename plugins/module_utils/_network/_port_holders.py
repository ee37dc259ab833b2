# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds processes that listen on the published ports of containers. Private to this collection."""

from __future__ import annotations

from typing import Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners, _processes
from ansible_collections.tracktion.ops.plugins.module_utils._linux._listeners import Holder
from ansible_collections.tracktion.ops.plugins.module_utils._types import Part

PORT_OPTION = "-host-port"


def foreign(ports: Sequence[Part]) -> list[Holder | None]:
    """Return for each published port the process that listens on it instead of one of the engine, else null.

    Without a process that listens, the rules of the engine lead to the container.
    """
    listening = _listeners.listeners() if ports else {}
    proxied = _proxied() if ports else set()
    return [None if port["host_port"] in proxied else _foreign(port, listening) for port in ports]


def _foreign(port: Part, listening: _listeners.Listeners) -> Holder | None:
    for address, inode in listening.get(("tcp", port["host_port"]), ()):
        found = _listeners.holder(inode) if _listeners.overlap(address, port["host_address"]) else None
        if found is not None:
            return None if _listeners.is_of_engine(found["command"]) else found
    return None


def _proxied() -> set[int]:
    """Return the ports that proxies of the engine listen on."""
    found: set[int] = set()
    for pid in _processes.pids():
        words = _processes.arguments(pid)
        if words and words[0].endswith(_listeners.PROXY) and PORT_OPTION in words[:-1]:
            port = words[words.index(PORT_OPTION) + 1]
            found.update([int(port)] if port.isdigit() else [])
    return found
