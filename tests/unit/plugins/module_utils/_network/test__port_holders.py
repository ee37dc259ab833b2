# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that listen on published ports."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners, _processes
from ansible_collections.tracktion.ops.plugins.module_utils._network import _port_holders

LISTENING = {("tcp", 80): [("127.0.0.1", "1")], ("tcp", 81): [("0.0.0.0", "2")], ("tcp", 82): [("::", "3")]}
COMMANDS = {"1": "nginx", "2": "dockerd", "3": "python3 -m http.server"}


@pytest.fixture(autouse=True)
def processes(monkeypatch):
    proxy = ["/usr/bin/docker-proxy", "-proto", "tcp", "-host-ip", "127.0.0.1", "-host-port", "83"]
    monkeypatch.setattr(_listeners, "listeners", lambda: {**LISTENING, ("tcp", 83): [("127.0.0.1", "9")]})
    monkeypatch.setattr(_listeners, "holder", lambda inode: {"pid": int(inode), "command": COMMANDS.get(inode)})
    monkeypatch.setattr(_processes, "pids", lambda: [5])
    monkeypatch.setattr(_processes, "arguments", lambda _pid: proxy)


@pytest.mark.parametrize(
    ("port", "address", "command"),
    [
        (80, "127.0.0.1", "nginx"),
        (80, "0.0.0.0", "nginx"),
        # On another address.
        (80, "192.0.2.1", None),
        (81, "0.0.0.0", None),
        (82, "127.0.0.1", "python3 -m http.server"),
        (83, "127.0.0.1", None),
        # The rules of the engine lead to the container.
        (84, "0.0.0.0", None),
    ],
)
def test_a_process_that_is_not_of_the_engine(port, address, command):
    (found,) = _port_holders.foreign([{"host_port": port, "host_address": address}])
    assert (found and found["command"]) == command
