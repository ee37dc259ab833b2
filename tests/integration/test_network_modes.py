# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths of containers without a network of their own, with a disconnected network, and of ended processes."""

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
    """Containers in all network modes."""
    ensure()
    with faults.Containers(PROJECT, MODES) as made:
        yield made


def findings_of(*wanted, **settings):
    """Return the findings about paths between these containers, by object."""
    paths = [{"from": start, "to": to} for start, to in wanted]
    mine = {"tracktion_compose_project": PROJECT, "network_paths": paths, "network_timeout": 2, **settings}
    found = diagnose("network", {"network_check_resolver": False, **mine})
    return {finding["object"].replace(PROJECT + "-", ""): finding for listed in found.values() for finding in listed}


@pytest.mark.usefixtures("modes")
def test_a_container_that_shares_a_network_has_its_paths():
    assert findings_of(("web", "db:8000"), ("side", "web:8000"), ("side", "db:8000"), ("side", "localhost:8000")) == {}


@pytest.mark.usefixtures("modes")
@pytest.mark.parametrize(
    ("start", "to", "check", "summary", "hint"),
    [
        (
            "onhost",
            "db:8000",
            "path_dns",
            "cannot resolve db",
            "on the network of the host, names of containers do not resolve",
        ),
        ("onnone", "db:8000", "not_on_common_network", "is on no network", "Remove network_mode: none"),
        ("web", "onnone:8000", "not_on_common_network", "is on no network", "Remove network_mode: none"),
        ("web", "onhost:8000", "path_dns", "cannot resolve onhost", 'extra_hosts: ["onhost:host-gateway"]'),
        ("web", "side:8000", "path_dns", "cannot resolve side", "shares the network of {project}-db-1"),
    ],
)
def test_a_container_without_a_network_of_its_own(start, to, check, summary, hint):
    (finding,) = findings_of((start, to)).values()
    assert (finding["id"], finding["status"]) == ("network." + check, "critical")
    assert summary in finding["summary"]
    assert hint.replace("{project}", PROJECT) in finding["hint"]
    assert "network connect" not in finding["hint"]


@pytest.mark.parametrize("how", ["restarted", "replaced"])
def test_a_container_that_shares_a_disconnected_network(modes, how):
    try:
        if how == "restarted":
            docker("restart", "--time", "1", modes.name("db"))
        else:
            modes.make("db")
        found = findings_of(("side", "web:8000"), ("side", "db:8000"), ("web", "side:8000"))
        # One finding per direction.
        assert set(found) == {"side-1 -> web:8000", "web-1 -> side:8000"}
        for finding in found.values():
            assert finding["id"] == "network.not_on_common_network"
            assert "--force-recreate --no-deps -- side" in finding["hint"]
        assert "disconnected, so web cannot be reached" in found["side-1 -> web:8000"]["summary"]
    finally:
        modes.make("side")
    assert findings_of(("side", "web:8000")) == {}


def test_the_hint_for_a_restarting_service_is_its_log(modes):
    docker("update", "--restart", "always", modes.name("db"))
    docker("exec", modes.name("db"), "sh", "-c", "echo 'raise SystemExit(1)' >http.py; kill $(pidof python3)")

    def waits_long():
        # The engine doubles the delay after each restart.
        found = modes.inspect("db")
        return found["State"]["Restarting"] and found["RestartCount"] > 4

    def while_it_waits():
        # On a busy machine, the delay may end before the container is inspected.
        found = findings_of(("web", "db:8000")).values()
        return found if any("is restarting" in finding["summary"] for finding in found) else None

    try:
        wait_until(waits_long, "a container that restarts repeatedly", 30)
        (finding,) = wait_until(while_it_waits, "the finding", 30)
        assert "is restarting" in finding["summary"]
        assert finding["hint"].startswith("Find out why it restarts: `docker logs")
    finally:
        modes.make("db")
        modes.make("side")


def test_an_unused_address_of_a_name(modes):
    """The hosts file of the container gives a name two addresses, one of them unused."""
    (endpoint,) = modes.inspect("db")["NetworkSettings"]["Networks"].values()
    free = str(ipaddress.ip_address(endpoint["IPAddress"]) + 100)
    lines = "".join("%s cluster\n" % address for address in (free, endpoint["IPAddress"]))
    docker("exec", "--interactive", modes.name("web"), "sh", "-c", "cat >>/etc/hosts", stdin=lines)
    (finding,) = findings_of(("web", "cluster:8000")).values()
    assert (finding["id"], finding["status"]) == ("network.path_timeout", "warning")
    assert "no answer comes from %s" % free in finding["summary"]
    assert "grep -F -e %s" % free in finding["hint"]


def test_process_ids_in_the_files_of_the_engine_that_are_outdated(modes, tmp_path):
    """After a crash of the machine, other processes may have these ids. They are not used."""
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
    found = findings_of(("web", "db:8000"), ("db", "db:8001"), tracktion_docker_root=str(tmp_path))
    assert "its process %d is gone" % os.getpid() in found["web"]["summary"]
    # The paths of other containers are tested.
    assert found["db-1 -> db:8001"]["status"] == "critical"
