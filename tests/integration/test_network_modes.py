# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ways of containers that have no networks of their own, or no network that leads anywhere, or that are gone."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest

from tests.integration import network_faults as faults
from tests.integration.areas import diagnose
from tests.lab.engine import docker, ensure
from tests.lab.shell import wait_until

PROJECT = "tracktion-test-modes-%d" % os.getpid()
MODES = {"db": "default", "web": "default", "onhost": "host", "onnone": "none", "side": "container:db"}


@pytest.fixture(scope="module")
def modes():
    """Containers in all kinds of networks."""
    ensure()
    with faults.Containers(PROJECT, MODES) as made:
        yield made


def ways(*wanted, **settings):
    """Findings about ways between these containers, by object."""
    paths = [{"from": start, "to": to} for start, to in wanted]
    mine = {"network_compose_project": PROJECT, "network_paths": paths, "network_timeout": 2, **settings}
    found = diagnose("network", {"network_check_resolver": False, **mine})
    return {finding["object"].replace(PROJECT + "-", ""): finding for listed in found.values() for finding in listed}


@pytest.mark.usefixtures("modes")
def test_a_container_beside_another_one_goes_its_ways():
    assert ways(("web", "db:8000"), ("side", "web:8000"), ("side", "db:8000"), ("side", "localhost:8000")) == {}


@pytest.mark.usefixtures("modes")
@pytest.mark.parametrize(
    ("start", "to", "check", "told", "advised"),
    [
        ("onhost", "db:8000", "path_dns", "cannot resolve db", "on the host's network, where no container has a name"),
        ("onnone", "db:8000", "not_on_common_network", "is on no network", "Take network_mode: none out"),
        ("web", "onnone:8000", "not_on_common_network", "is on no network", "Take network_mode: none out"),
        ("web", "onhost:8000", "path_dns", "cannot resolve onhost", 'extra_hosts: ["onhost:host-gateway"]'),
        ("web", "side:8000", "path_dns", "cannot resolve side", "shares the network of {project}-db-1"),
    ],
)
def test_who_has_no_network_of_its_own(start, to, check, told, advised):
    (finding,) = ways((start, to)).values()
    assert (finding["id"], finding["status"]) == ("network." + check, "critical")
    assert told in finding["summary"]
    assert advised.replace("{project}", PROJECT) in finding["hint"]
    assert "network connect" not in finding["hint"]


@pytest.mark.parametrize("how", ["restarted", "made anew"])
def test_who_shares_a_network_that_is_no_more(modes, how):
    try:
        if how == "restarted":
            docker("restart", "--time", "1", modes.name("db"))
        else:
            modes.make("db")
        found = ways(("side", "web:8000"), ("side", "db:8000"), ("web", "side:8000"))
        # One trouble, one finding, for whoever goes and for whoever comes.
        assert set(found) == {"side-1 -> web:8000", "web-1 -> side:8000"}
        for finding in found.values():
            assert finding["id"] == "network.not_on_common_network"
            assert "--force-recreate --no-deps -- side" in finding["hint"]
        assert "leads nowhere" in found["side-1 -> web:8000"]["summary"]
    finally:
        modes.make("side")
    assert ways(("side", "web:8000")) == {}


def test_a_service_that_does_not_stay_up_is_to_be_looked_at_not_started(modes):
    docker("update", "--restart", "always", modes.name("db"))
    docker("exec", modes.name("db"), "sh", "-c", "echo 'raise SystemExit(1)' >http.py; kill $(pidof python3)")

    def waits_long():
        # From one start to the next, the engine waits twice as long.
        found = modes.inspect("db")
        return found["State"]["Restarting"] and found["RestartCount"] > 4

    try:
        wait_until(waits_long, "a container that is restarted again and again", 30)
        (finding,) = ways(("web", "db:8000")).values()
        assert "is restarting" in finding["summary"]
        assert finding["hint"].startswith("Why it does not stay up: `docker logs")
    finally:
        modes.make("db")
        modes.make("side")


def test_an_address_of_a_name_that_nobody_has(modes):
    """The container's own hosts file gives a name two addresses, one of them free."""
    (endpoint,) = modes.inspect("db")["NetworkSettings"]["Networks"].values()
    free = str(ipaddress.ip_address(endpoint["IPAddress"]) + 100)
    lines = "".join("%s cluster\n" % address for address in (free, endpoint["IPAddress"]))
    docker("exec", "--interactive", modes.name("web"), "sh", "-c", "cat >>/etc/hosts", stdin=lines)
    (finding,) = ways(("web", "cluster:8000")).values()
    assert (finding["id"], finding["status"]) == ("network.path_timeout", "warning")
    assert "no answer comes from %s" % free in finding["summary"]
    assert "grep -F -e %s" % free in finding["hint"]


def test_processes_that_the_files_of_the_engine_only_remember(modes, tmp_path):
    """As after a crash of the machine: whatever has their number now is not looked from."""
    root = Path(docker("info", "--format", "{{.DockerRootDir}}").strip())
    for service in ("web", "db"):
        identity = modes.inspect(service)["Id"]
        folder = tmp_path / "containers" / identity
        folder.mkdir(parents=True)
        for name in ("config.v2.json", "hostconfig.json"):
            text = (root / "containers" / identity / name).read_text()
            pid = '"Pid":%d' % modes.inspect(service)["State"]["Pid"]
            assert name == "hostconfig.json" or pid in text
            (folder / name).write_text(text.replace(pid, '"Pid":%d' % os.getpid()) if service == "web" else text)
    found = ways(("web", "db:8000"), ("db", "db:8001"), network_docker_root=str(tmp_path))
    assert "its process %d is gone" % os.getpid() in found["web"]["summary"]
    # The others are looked from all the same.
    assert found["db-1 -> db:8001"]["status"] == "critical"
