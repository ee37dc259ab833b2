# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The DNS servers that containers use."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._network import _dns, _network_namespace, _resolvers
from ansible_collections.tracktion.ops.plugins.module_utils._network._dns import Configuration

ENGINE = "nameserver 127.0.0.11\noptions ndots:0\n"


@pytest.mark.parametrize(
    ("text", "settings", "of_engine", "expected"),
    [
        # Without settings, the engine queries the servers of this machine; those on loopback by itself.
        (ENGINE, [], [], [("192.0.2.1", "host", 7), ("127.0.0.1", "host", None)]),
        (ENGINE, [], ["192.0.2.2"], [("192.0.2.2", "engine", 7)]),
        (ENGINE, ["192.0.2.3"], ["192.0.2.2"], [("192.0.2.3", "container", 7)]),
        # Newer engines write down what they query, and how.
        (
            ENGINE + "# ExtServers: [host(192.0.2.1) 192.0.2.9]\n",
            [],
            [],
            [("192.0.2.1", "host", None), ("192.0.2.9", "file", 7)],
        ),
        (ENGINE + "# ExtServers: []\n", [], [], []),
        # On the network bridge, the container itself queries them.
        ("nameserver 192.0.2.1\nnameserver 192.0.2.9\n", [], [], [("192.0.2.1", "host", 7), ("192.0.2.9", "file", 7)]),
    ],
)
def test_servers_of_a_container(text, settings, of_engine, expected):
    of_host = ("192.0.2.1", "127.0.0.1")
    assert _resolvers.behind_engine(Configuration(text), settings, of_engine, of_host, 7) == expected


def test_a_server_that_fails_on_the_host_too_is_no_failure_of_the_container():
    subject = _resolvers.Subject("web-1", "web", "stack", [], 7, [])
    failed = {"answers": False, "seconds": 1.0, "error": {"kind": "dns_timeout", "message": "", "hint": None}}
    servers = [
        (_resolvers.Server(address, "host", 7), dict(failed, address=address)) for address in ("10.0.0.1", "10.0.0.2")
    ]
    found = _resolvers._of_container(subject, servers, {"10.0.0.1"})
    assert (found["answering"], found["failing"]) == (0, ["10.0.0.2"])


def test_servers_behind_systemd_resolved_are_queried_too(monkeypatch):
    texts = {"/etc/resolv.conf": "nameserver 127.0.0.53\n", _resolvers.BEHIND_SYSTEMD: "nameserver 192.0.2.1\n"}

    def ask(_name, server, _seconds):
        if server == "192.0.2.1":
            raise _dns.failure("dns_timeout", "no answer")
        return ["127.0.0.1"]

    def read(_root="/", resolv_conf="/etc/resolv.conf"):
        return Configuration(texts[resolv_conf])

    monkeypatch.setattr(_network_namespace, "read_configuration", read)
    monkeypatch.setattr(_dns, "ask", ask)
    resolver = _resolvers.query([], [], 1.0)["resolver"]
    assert (resolver["answering"], resolver["first_answers"]) == (1, True)
    assert [(each["address"], each["answers"]) for each in resolver["upstream"]] == [("192.0.2.1", False)]
