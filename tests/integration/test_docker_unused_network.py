# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module docker_unused_network with a real engine."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess

import pytest

from tests.integration.modules import run_module
from tests.lab.engine import docker, ensure
from tests.lab.images import ensure_image
from tests.lab.servers import LABEL
from tests.lab.shell import attempt

PROJECT = "tracktion-test-networks-%d" % os.getpid()


def inspect(name):
    """Return the inspection of a network, null if there is none."""
    found = attempt("docker", "network", "inspect", name)
    return json.loads(found.stdout)[0] if found.returncode == 0 else None


@contextlib.contextmanager
def network(name, *options, project=PROJECT):
    labels = ["--label", "com.docker.compose.project=%s" % project] if project else []
    docker("network", "create", *labels, *options, name)
    try:
        yield inspect(name)
    finally:
        attempt("docker", "network", "rm", name)


@pytest.fixture
def unused():
    """An unused network with options and labels of several kinds."""
    ensure()
    options = ["--internal", "--label", "note=it's old", "--opt", "com.docker.network.driver.mtu=1400"]
    with network(PROJECT + "_old", *options) as made:
        yield made


def run(found, check=False, **changes):
    arguments = {"name": found["Name"], "id": found["Id"], "project": PROJECT, **changes}
    return run_module("docker_unused_network", arguments, check=check, diff=True)


def test_check_run_check_run(unused):
    would = run(unused, check=True)
    assert (would["changed"], would["after"], would["skipped_reason"]) == (True, None, None)
    assert inspect(unused["Name"])["Id"] == unused["Id"]

    did = run(unused)
    assert {**did, "before": None} == {**would, "before": None}
    assert inspect(unused["Name"]) is None

    for check in (True, False):
        again = run(unused, check=check)
        assert (again["changed"], again["before"], again["undo"]) == (False, None, None)
        assert again["skipped_reason"] == "the network no longer exists"


def test_the_result_has_the_undo_command(unused):
    result = run(unused)
    assert (result["before"]["name"], result["before"]["containers"]) == (unused["Name"], [])
    assert result["diff"] == {"before": result["undo"] + "\n", "after": ""}

    subprocess.run(shlex.split(result["undo"]), check=True, capture_output=True)
    again = inspect(unused["Name"])
    for part in ("Driver", "IPAM", "Internal", "Options", "Labels", "EnableIPv6"):
        assert again[part] == unused[part], part


def test_a_network_that_was_created_again_is_kept(unused):
    docker("network", "rm", unused["Name"])
    with network(unused["Name"]) as newer:
        assert run(unused)["changed"] is False
        assert inspect(unused["Name"])["Id"] == newer["Id"]


@pytest.fixture
def container(unused):
    name = PROJECT + "-container"
    options = ["--detach", "--init", "--label", "%s=test" % LABEL, "--network", unused["Name"], "--name", name]
    docker("run", *options, ensure_image("bookworm"), "sleep", "infinity")
    yield name
    attempt("docker", "rm", "--force", name)


def test_a_network_of_a_stopped_container_is_kept(unused, container):
    for state in ("running", "stopped"):
        if state == "stopped":
            docker("stop", "--time", "2", container)
            assert not inspect(unused["Name"])["Containers"]
        for check in (True, False):
            result = run(unused, check=check)
            assert (result["changed"], result["skipped_reason"]) == (False, "it is in use by %s" % container)
    assert inspect(unused["Name"])
    docker("start", container)


@pytest.mark.parametrize("name", ["bridge", "host", "none"])
def test_networks_of_the_engine_are_rejected(name):
    result = run(inspect(name))
    assert result["failed"]
    assert "was created by the engine, or is not a network of this host alone" in result["msg"]
    assert inspect(name)


@pytest.mark.parametrize("whose", ["another", None])
def test_a_network_of_another_project_or_of_none_is_rejected(whose):
    ensure()
    with network(PROJECT + "_foreign", project=whose) as foreign:
        assert "not to %s" % PROJECT in run(foreign)["msg"]
        assert inspect(foreign["Name"])


def test_a_protected_network_is_rejected():
    ensure()
    with network(PROJECT + "_protected", "--label", "tracktion.ops.protected=") as protected:
        assert "tracktion.ops.protected" in run(protected)["msg"]
        assert inspect(protected["Name"])


def test_a_wrong_name_or_a_partial_id_removes_nothing(unused):
    assert "is named %s" % unused["Name"] in run(unused, name="other")["msg"]
    assert run(unused, id=unused["Id"][:12])["skipped_reason"] == "the network no longer exists"
    assert inspect(unused["Name"])


def test_a_missing_engine_is_a_failure_with_a_hint(unused):
    result = run(unused, docker_host="unix:///nonexistent/docker.sock")
    assert result["failed"]
    assert "docker_host" in result["hint"]
