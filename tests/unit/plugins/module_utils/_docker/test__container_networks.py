# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers and networks, by the files of the engine and by its API."""

from __future__ import annotations

import itertools
import json
import shlex
from types import SimpleNamespace

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _container_networks,
    _containers,
    _docker_networks,
)
from ansible_collections.tracktion.ops.plugins.module_utils._network import _network_host


def endpoint(address, *aliases, network="n" * 64):
    return {"NetworkID": network, "IPAddress": address, "Aliases": list(aliases)}


class Files:
    """The files of an engine, in a temporary directory."""

    def __init__(self, root):
        self.root = root

    def add(self, number, name, service=None, networks=None, mode="stack", ports=None, bindings=None, **labels):
        identity = "%064x" % number
        folder = self.root / "containers" / identity
        folder.mkdir(parents=True)
        compose = {"com.docker.compose.service": service, "com.docker.compose.project": "stack", **labels}
        configuration = {
            "ID": identity,
            "Name": "/" + name,
            "Config": {"Labels": compose if service else {}},
            "State": {"Running": True, "Pid": number},
            "NetworkSettings": {"Networks": networks or {}, "Ports": ports or {}},
        }
        (folder / "config.v2.json").write_text(json.dumps(configuration))
        (folder / "hostconfig.json").write_text(json.dumps({"NetworkMode": mode, "PortBindings": bindings or {}}))
        return identity

    def host(self):
        return _container_networks.Host(_containers.Engine(str(self.root)))


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def test_a_service_is_found_without_containers_of_compose_run(files):
    files.add(1, "stack-web-1", "web")
    files.add(2, "stack-web-run-1", "web", **{"com.docker.compose.oneoff": "True"})
    files.add(3, "other")
    assert [container.name for container in files.host().of_service("web", "stack")] == ["stack-web-1"]
    assert files.host().of_service("web", "another") == []
    assert [container.name for container in files.host().of_service("other", None)] == ["other"]


def test_a_name_is_a_service_of_the_project_or_an_alias_on_a_common_network(files):
    files.add(1, "stack-web-1", "web", {"front": endpoint("172.20.3.2", "web")})
    files.add(2, "stack-db-1", "db")
    files.add(3, "foreign", None, {"front": endpoint("172.20.3.3", "search")})
    files.add(4, "hidden", None, {"back": endpoint("172.20.4.3", "search")})
    host = files.host()
    (web,) = host.of_service("web", None)
    assert [container.name for container in host.meant_by("db", web)] == ["stack-db-1"]
    assert [container.name for container in host.meant_by("search", web)] == ["foreign"]
    assert host.meant_by("web", web) == []


def test_a_container_that_shares_a_network_has_the_addresses_of_its_owner(files):
    owner = files.add(1, "stack-web-1", "web", {"front": endpoint("172.20.3.2", "web")})
    files.add(2, "stack-log-1", "log", mode="container:" + owner)
    (shipper,) = files.host().of_service("log", None)
    assert (shipper.networks, shipper.address()) == (["front"], "172.20.3.2")
    assert (shipper.network_mode, shipper.owner.name) == ("shared", "stack-web-1")
    # The names are those of the owner.
    assert shipper.aliases(["front"]) == set()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("stack", "networks"),
        ("default", "networks"),
        ("host", "host"),
        ("none", "none"),
        ("container:gone", "orphaned"),
    ],
)
def test_the_network_mode_of_a_container(files, mode, expected):
    files.add(1, "stack-web-1", "web", {mode: endpoint("")} if mode in ("host", "none") else None, mode=mode)
    (web,) = files.host().of_service("web", None)
    assert (web.network_mode, web.networks) == (expected, [])


def test_published_ports_are_listed_once_with_configured_ones(files):
    both = [{"HostIp": "::", "HostPort": "8001"}, {"HostIp": "0.0.0.0", "HostPort": "8001"}]
    files.add(1, "a", ports={"80/tcp": both, "81/tcp": None, "82/udp": both})
    files.add(
        2, "b", bindings={"5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": "15432"}], "1/tcp": [{"HostPort": ""}]}
    )
    (first, second) = sorted(files.host().containers, key=lambda container: container.name)
    assert first.ports == [{"host_address": "0.0.0.0", "host_port": 8001, "container_port": 80}]
    assert second.ports == [{"host_address": "127.0.0.1", "host_port": 15432, "container_port": 5432}]


def test_a_range_of_ports_of_a_stopped_container_is_no_published_port(files):
    files.add(1, "a", bindings={"80/tcp": [{"HostIp": "", "HostPort": "8001-8003"}]})
    (only,) = files.host().containers
    assert only.ports == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-25T08:22:59.5Z", 1795594979.5),
        ("2026-11-25T10:22:59.500000001+02:00", 1795594979.5),
        ("2026-11-25T03:52:59.5-04:30", 1795594979.5),
        ("0001-01-01T00:00:00Z", None),
    ],
)
def test_timestamps_of_any_time_zone(text, expected):
    assert _containers.epoch(text) == expected


def test_a_rootless_engine_has_no_networks_in_the_namespace_of_the_host():
    engine = object.__new__(_network_host.EngineOfHost)
    web = SimpleNamespace(running=True, project="stack", address=lambda: "172.20.3.2")
    engine.host, engine.present, engine.rootless = SimpleNamespace(containers=[web]), True, False
    engine.is_podman = False
    assert engine.uses_bridges({"stack"})
    assert not engine.uses_bridges({"other"})
    engine.rootless = True
    assert not engine.uses_bridges({"stack"})


NETWORK = {
    "Id": "6d1aff69ed8c" + "0" * 52,
    "Name": "stack_old",
    "Driver": "bridge",
    "Scope": "local",
    "EnableIPv6": True,
    "Internal": True,
    "IPAM": {
        "Driver": "default",
        "Config": [{"Subnet": "172.20.9.0/24", "Gateway": "172.20.9.1"}, {"Subnet": "fd00::/64"}],
    },
    "Options": {"com.docker.network.driver.mtu": "1400"},
    "Labels": {"com.docker.compose.project": "stack", "note": "it's old"},
}


def test_the_command_that_creates_a_network_again():
    words = shlex.split(_docker_networks.create_command(NETWORK))
    assert words[:5] == ["docker", "network", "create", "--driver", "bridge"]
    assert words[-1] == "stack_old"
    options = [" ".join(pair) for pair in itertools.pairwise(words)]
    for wanted in ("--subnet 172.20.9.0/24", "--gateway 172.20.9.1", "--subnet fd00::/64", "--label note=it's old"):
        assert wanted in options
    assert {"--ipv6", "--internal"} < set(words)
    assert "--opt com.docker.network.driver.mtu=1400" in options


@pytest.mark.parametrize(
    ("container", "used"),
    [
        (
            {"Id": "1" * 64, "Names": ["/a"], "NetworkSettings": {"Networks": {"x": {"NetworkID": NETWORK["Id"]}}}},
            ["a"],
        ),
        ({"Id": "1" * 64, "Names": ["/a"], "NetworkSettings": {"Networks": {"stack_old": {"NetworkID": ""}}}}, ["a"]),
        ({"Id": "1" * 64, "Names": ["/a"], "HostConfig": {"NetworkMode": "stack_old"}}, ["a"]),
        ({"Id": "1" * 64, "Names": ["/a"], "NetworkSettings": {"Networks": {"other": {"NetworkID": "2" * 64}}}}, []),
    ],
)
def test_containers_of_a_network(container, used):
    described = _docker_networks.describe(NETWORK, _docker_networks.attached([container]))
    assert described["containers"] == used
    assert (described["project"], described["bridge"], described["removable"]) == ("stack", "br-6d1aff69ed8c", True)


def test_networks_of_the_engine_are_not_removable():
    for changes in ({"Name": "bridge"}, {"Scope": "swarm"}, {"ConfigOnly": True}):
        assert not _docker_networks.describe({**NETWORK, **changes}, {})["removable"]


def test_a_project_may_give_the_name_of_a_service_to_another_one(files):
    files.add(1, "stack-web-1", "web", {"front": endpoint("172.20.3.2")})
    files.add(2, "stack-pg-1", "pg", {"back": endpoint("172.20.4.3", "pg")})
    files.add(3, "stack-pooler-1", "pooler", {"front": endpoint("172.20.3.3", "pg")})
    foreign = {"com.docker.compose.project": "other"}
    files.add(4, "other-pg-1", "pg", {"front": endpoint("172.20.3.4", "pg", "api")}, **foreign)
    files.add(5, "stack-api-1", "api", {"back": endpoint("172.20.4.5", "api")})

    def meant(name):
        host = files.host()
        (web,) = host.of_service("web", None)
        return [container.name for container in host.meant_by(name, web)]

    assert meant("pg") == ["stack-pooler-1"]
    # Another project cannot.
    assert meant("api") == ["stack-api-1"]
    files.add(6, "stack-pg-2", "pg", {"front": endpoint("172.20.3.6", "pg")})
    assert meant("pg") == ["stack-pg-1", "stack-pg-2"]
