# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests for who answers at an address of this machine."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _port_owner
from tests.unit.plugins.engine_files import STOPPED, bound, container, host


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("127.0.0.1", 8001, "any"),
        # A port of all addresses is published for IPv6, too.
        ("::1", 8001, "any"),
        ("127.0.0.1", 8002, "here"),
        ("192.0.2.1", 8002, None),
        ("::1", 8003, "six"),
        ("127.0.0.1", 8003, None),
        ("127.0.0.1", 8004, None),
        ("127.0.0.1", 8005, None),
    ],
)
def test_the_publisher_of_a_port(address, port, expected):
    known = host(
        container("any", ports=bound(8001)),
        container("here", ports=bound(8002, "127.0.0.1")),
        container("six", ports=bound(8003, "::1")),
        container("udp", ports=bound(8004, inner="8000/udp")),
        container("down", state=STOPPED, wanted=bound(8005)),
    )
    found = _port_owner.publisher(address, port, known.values())
    assert (found and found.name) == expected


def test_a_range_of_ports_is_wanted_by_each_replica():
    known = host(container("one", "s", state=STOPPED, wanted=bound("8001-8003")))
    (binding,) = _port_owner.wanted(known["one"])
    assert [binding.covers("127.0.0.1", port) for port in (8000, 8001, 8003, 8004)] == [False, True, True, False]
    assert list(_port_owner.bindings(bound("0"))) == list(_port_owner.bindings(bound(""))) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (container("tracktion-api-1", "api"), True),
        (container("api"), True),
        (container("tracktion_api"), True),
        (container("x-apiary"), False),
        (container("old-api", "web"), False),
        (container("web-1", "web", networks={"n": {"Aliases": ["api"]}}), True),
        (
            container(
                "stack_api.1.k2",
                labels={"com.docker.swarm.service.name": "stack_api", "com.docker.stack.namespace": "stack"},
            ),
            True,
        ),
        (container("systemd-x", labels={"PODMAN_SYSTEMD_UNIT": "api.service"}), True),
        (container("k8s_x", labels={"io.kubernetes.container.name": "api"}), True),
        (container("web-1", "web", labels={"com.docker.swarm.service.name": "web"}), False),
    ],
)
def test_names_of_a_service(given, expected):
    (found,) = host(given).values()
    assert _port_owner.is_called(found, "api") is expected


@pytest.mark.parametrize(
    ("owner", "engine", "proxy"),
    [
        (_port_owner.Owner(None, 1, "docker-proxy"), True, False),
        (_port_owner.Owner(None, 1, "rootlesskit-docker-proxy"), True, False),
        (_port_owner.Owner(None, 1, "rootlessport"), True, False),
        (_port_owner.Owner(None, 1, "nginx"), False, True),
        (_port_owner.Owner(None, 1, "python3 -m http.server"), False, False),
        (
            _port_owner.Owner(
                host(container("a", image="registry:5000/lib/nginx:1.25", Path="/docker-entrypoint.sh"))["a"]
            ),
            False,
            True,
        ),
        (_port_owner.Owner(host(container("a", Path="/usr/sbin/haproxy", Args=["-W"]))["a"]), False, True),
        (_port_owner.Owner(host(container("a", image="traefik@sha256:12"))["a"]), False, True),
        (_port_owner.Owner(host(container("nginx-docs", image="docs", Path="python3"))["nginx-docs"]), False, False),
    ],
)
def test_engines_and_proxies(owner, engine, proxy):
    assert (owner.is_engine, owner.is_proxy) == (engine, proxy)


def test_the_command_of_a_container_without_its_arguments():
    (found,) = host(container("a", Path="python3", Args=["-m", "app", "--password", "hunter2"])).values()
    assert _port_owner.command(found) == "python3 -m app"
    (found,) = host(container("a")).values()
    assert _port_owner.command(found) is None


def test_addresses_of_this_machine():
    assert _port_owner.is_local("127.0.0.1")
    assert not _port_owner.is_local("192.0.2.1")
    assert not _port_owner.is_local("fe80::1%nothing")
