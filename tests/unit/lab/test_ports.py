# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ports: free when they are given out."""

from __future__ import annotations

import socket

import pytest

from tests.lab import ports
from tests.lab.shell import LabError


def test_ports_are_different_and_can_be_bound():
    chosen = ports.free_ports(20)

    assert len(set(chosen)) == 20
    for port in chosen:
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))


def test_a_port_in_use_is_not_free():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]

        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_only_free_ports_of_the_range_are_chosen(monkeypatch):
    port = ports.free_ports(1)[0]
    monkeypatch.setattr(ports, "RANGE", range(port, port + 1))

    assert ports.free_ports(1) == [port]
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        with pytest.raises(LabError, match="no 1 free ports"):
            ports.free_ports(1)
