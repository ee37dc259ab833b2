# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container serves an address, and what a program calls itself."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _pg_clients

# As Docker 20.10 lists containers.
ROW = {
    "Id": "0123456789ab",
    "ImageID": "sha256:aa",
    "Names": ["/tracktion-postgres-1"],
    "State": "running",
    "HostConfig": {"NetworkMode": "tracktion_default"},
    "Ports": [
        {"PrivatePort": 5432, "Type": "tcp"},
        {"IP": "127.0.0.1", "PrivatePort": 5432, "PublicPort": 15432, "Type": "tcp"},
        {"IP": "127.0.0.1", "PrivatePort": 9000, "PublicPort": 15433, "Type": "udp"},
    ],
    "NetworkSettings": {"Networks": {"tracktion_default": {"IPAddress": "172.18.0.2", "GlobalIPv6Address": ""}}},
}


@pytest.mark.parametrize(
    ("host", "port", "inner"),
    [
        ("127.0.0.1", 15432, 5432),
        ("localhost", 15432, 5432),
        ("172.18.0.2", 5432, 5432),
        ("127.0.0.1", 15433, None),
        ("127.0.0.1", 5432, None),
        ("192.0.2.1", 15432, None),
        ("", 15432, None),
    ],
)
def test_the_port_in_the_container(host, port, inner):
    assert _pg_clients.serving_port(ROW, {"login_host": host, "login_port": port}) == inner


def test_a_container_without_a_network_of_its_own_publishes_nothing():
    row = {**ROW, "HostConfig": {"NetworkMode": "host"}, "Ports": [], "NetworkSettings": None}
    assert _pg_clients.serving_port(row, {"login_host": "127.0.0.1", "login_port": 15432}) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", 150014),
        ("pg_dump (PostgreSQL) 18.0", 180000),
        ("pg_dump (PostgreSQL) 19beta1", 190000),
        ("", 0),
        ("command not found", 0),
    ],
)
def test_versions(text, number):
    assert _pg_clients.version_number(text) == number
