# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._redis import _redis_access as access

ROW = " 0: %s 00000000:00000000 00:00000000 00000000 0 0 4711\n"
TABLE = "header\n" + ROW % "%s:18EB 00000000:0000 0A" + ROW % "00000000:18EB 0100007F:1234 01"


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ([], False),
        (["*", "-::*"], False),
        (["127.0.0.1", "-::1"], True),
        (["127.0.0.1", "10.0.0.1"], False),
        (["localhost"], True),
        (["0.0.0.0"], False),
    ],
)
def test_only_loopback_addresses_are_safe(bind, expected):
    assert access.is_loopback_only(bind) is expected


@pytest.mark.parametrize(
    ("namespace", "listener", "loopback_only", "expected"),
    [
        ("net:[1]", "0100007F", False, True),
        ("net:[1]", "0100007F", True, False),
        ("net:[2]", "0100007F", False, False),
        # What listens is not visible.
        ("net:[2]", "00000000", False, None),
        ("net:[2]", "00000000", None, None),
    ],
)
def test_a_published_port_can_be_reached_from_other_hosts(tmp_path, namespace, listener, loopback_only, expected):
    for name, target in (("self", "net:[1]"), ("7", namespace)):
        (tmp_path / "proc" / name / "ns").mkdir(parents=True)
        (tmp_path / "proc" / name / "ns/net").symlink_to(target)
    (tmp_path / "proc" / str(os.getpid()) / "net").mkdir(parents=True)
    (tmp_path / "proc" / str(os.getpid()) / "net/tcp").write_text(TABLE % listener)
    assert access._is_beyond_host(7, 6379, loopback_only, str(tmp_path)) is expected
    assert access._is_beyond_host(None, 6379, loopback_only, str(tmp_path)) is None
    assert access._is_beyond_host(8, 6379, loopback_only, str(tmp_path)) is None


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("docker-proxy", ["/usr/bin/docker-proxy", "-host-ip", "0.0.0.0", "-container-ip", "172.18.0.2"], True),
        ("docker-proxy", ["/usr/bin/docker-proxy", "-host-ip", "0.0.0.0", "-container-ip", "172.18.0.3"], False),
        ("dockerd", ["dockerd"], True),
        ("redis-server", ["redis-server"], False),
    ],
)
def test_another_server_on_the_port_is_not_taken_for_this_one(monkeypatch, tmp_path, command, arguments, expected):
    for name, target in (("self", "net:[1]"), ("7", "net:[2]")):
        (tmp_path / "proc" / name / "ns").mkdir(parents=True)
        (tmp_path / "proc" / name / "ns/net").symlink_to(target)
    for pid, rows in ((os.getpid(), TABLE % "00000000"), (7, "header\n" + ROW % "020012AC:18EB 010012AC:1234 01")):
        (tmp_path / "proc" / str(pid) / "net").mkdir(parents=True)
        (tmp_path / "proc" / str(pid) / "net/tcp").write_text(rows)
    monkeypatch.setattr(access._listeners, "holder", lambda inode: {"pid": 9, "command": command})
    monkeypatch.setattr(access._listeners._processes, "arguments", lambda _pid: arguments)
    assert access._is_beyond_host(7, 6379, False, str(tmp_path)) is expected
