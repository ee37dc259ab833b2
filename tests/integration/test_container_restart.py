# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module container_restart on containers of a real engine."""

from __future__ import annotations

import os
import socket
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _libraries
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import epoch
from tests.integration.areas import diagnose
from tests.integration.containers import silent
from tests.integration.modules import run_module
from tests.lab.engine import docker
from tests.lab.throwaway import healthcheck, inspect, project, wait_for
from tests.slack import SLACK


@pytest.fixture(scope="module")
def app():
    """A project of three services that depend on each other, the last one with a health check."""
    with project("containers") as found:
        found.web = found.run("web", depends_on=("api",), options=healthcheck("true"))
        found.api = found.run("api", depends_on=("store",))
        found.store = found.run("store", options=("--stop-timeout", "3"))
        wait_for(found.web, "healthy", lambda state: state["Health"]["Status"] == "healthy")
        yield found


def restart(found, check=False, diff=False, **options):
    return run_module("container_restart", {"project": found.name, **options}, check=check, diff=diff)


def started(name):
    return epoch(inspect(name)["State"]["StartedAt"])


def evidence(*names):
    return [{"id": inspect(name)["Id"], "started_at": started(name)} for name in names]


def results(outcome):
    return {entry["service"]: entry["result"] for entry in outcome["containers"]}


def test_check_run_check_run(app):
    before = started(app.web)
    options = {"services": ["web"], "expected": evidence(app.web)}
    planned = restart(app, check=True, diff=True, **options)
    assert (planned["changed"], results(planned)) == (True, {"web": "planned"})
    assert planned["diff"]["before"][app.web]["started_at"] == before
    assert planned["diff"]["after"][app.web]["status"] == "running"
    assert started(app.web) == before

    done = restart(app, diff=True, **options)
    assert (done["changed"], results(done)) == (True, {"web": "restarted"})
    assert started(app.web) > before
    assert done["diff"]["after"][app.web] == done["containers"][0]["after"]
    # The planned state is the actual one, except for the time.
    expected, actual = planned["after"][app.web], done["after"][app.web]
    assert {**actual, "started_at": None} == expected
    assert actual["started_at"] == started(app.web)
    assert inspect(app.web)["State"]["Health"]["Status"] == "healthy"

    again = started(app.web)
    for check in (True, False):
        outcome = restart(app, check=check, **options)
        assert (outcome["changed"], results(outcome)) == (False, {"web": "changed_meanwhile"})
    assert started(app.web) == again


def test_services_are_restarted_after_their_dependencies(app):
    outcome = restart(app, services=["web", "api", "store"])
    assert [entry["service"] for entry in outcome["containers"]] == ["store", "api", "web"]
    assert started(app.store) < started(app.api) < started(app.web)


def test_a_stopped_container_is_started(app):
    docker("stop", "--time", "1", app.api)
    outcome = restart(app, services=["api"])
    assert outcome["before"][app.api]["status"] == "exited"
    assert outcome["after"][app.api]["status"] == "running"
    assert inspect(app.api)["State"]["Running"]


def test_a_container_that_just_started_is_not_restarted(app):
    docker("restart", "--time", "1", app.api)
    before = started(app.api)
    outcome = restart(app, services=["api"], min_uptime=60)
    assert (outcome["changed"], results(outcome)) == (False, {"api": "just_started"})
    assert started(app.api) == before


def test_a_recreated_container_is_not_the_expected_one(app):
    old = evidence(app.store)
    docker("rm", "--force", app.store)
    app.store = app.run("store")
    before = started(app.store)
    outcome = restart(app, names=[app.store], expected=old)
    assert results(outcome) == {"store": "changed_meanwhile"}
    assert started(app.store) == before


def test_protected_containers_are_not_restarted(app):
    vault = app.run("vault", labels={"tracktion.ops.protected": "true"})
    before = started(vault), started(app.api)
    outcome = restart(app, services=["vault", "api"], deny=["api"])
    assert (outcome["changed"], results(outcome)) == (False, {"vault": "protected", "api": "protected"})
    assert restart(app, names=[app.api], deny=[app.api])["containers"][0]["result"] == "protected"
    assert (started(vault), started(app.api)) == before


def test_more_containers_than_the_maximum_are_rejected(app):
    before = started(app.web), started(app.api)
    outcome = restart(app, services=["web", "api"], max_containers=1)
    assert outcome["failed"]
    assert "max_containers" in outcome["msg"]
    assert (started(app.web), started(app.api)) == before


SICK = "test ! -e /sick"


def test_an_unhealthy_container_fails_and_the_rest_is_not_restarted(app):
    # Its health check fails after the second start.
    command = ("sh", "-c", "test -e /born && touch /sick; touch /born; exec sleep infinity")
    sick = app.run("sick", *command, options=healthcheck(SICK))
    late = app.run("late", depends_on=("sick",))
    wait_for(sick, "healthy", lambda state: state["Health"]["Status"] == "healthy")
    before = started(late)
    outcome = restart(app, services=["late", "sick"], deadline=3)
    assert outcome["failed"]
    assert results(outcome) == {"sick": "unhealthy", "late": "not_reached"}
    assert "docker logs --tail 50 %s" % sick in outcome["msg"]
    assert outcome["after"][sick]["health"] in ("unhealthy", "starting")
    assert started(late) == before


def test_a_container_that_ends_at_once_fails_with_its_exit_code(app):
    command = ("sh", "-c", "test -e /born && exit 3; touch /born; exec sleep infinity")
    brief = app.run("brief", *command)
    outcome = restart(app, services=["brief"], deadline=30)
    assert outcome["failed"]
    assert "ended with exit code 3" in outcome["msg"]
    assert outcome["containers"][0]["exit_code"] == 3
    assert inspect(brief)["State"]["ExitCode"] == 3


def test_a_container_that_ends_after_some_seconds_fails(app):
    """A program that loads much before it connects to its servers."""
    command = ("sh", "-c", "test -e /born && { sleep 5; exit 3; }; touch /born; exec sleep infinity")
    app.run("loading", *command)
    outcome = restart(app, services=["loading"], deadline=60)
    assert outcome["failed"]
    assert "ended with exit code 3" in outcome["msg"]


def test_a_container_whose_restart_policy_gave_up_fails_before_the_deadline(app):
    command = ("sh", "-c", "test -e /born && exit 5; touch /born; exec sleep infinity")
    brief = app.run("hopeless", *command, options=("--restart", "on-failure:1"))
    began = time.monotonic()
    outcome = restart(app, names=[brief], deadline=60)
    assert time.monotonic() - began < 60
    assert outcome["failed"]
    assert "ended with exit code 5" in outcome["msg"]


def test_a_crash_loop_fails_before_the_deadline(app):
    command = ("sh", "-c", "test -e /born && exit 4; touch /born; exec sleep infinity")
    app.run("loop", *command, options=("--restart", "unless-stopped"))
    began = time.monotonic()
    outcome = restart(app, services=["loop"], deadline=60)
    assert outcome["failed"]
    assert "again and again" in outcome["msg"]
    assert time.monotonic() - began < 60


def test_a_paused_container_is_not_restarted(app):
    frozen = app.run("frozen")
    docker("pause", frozen)
    for check in (True, False):
        outcome = restart(app, check=check, services=["frozen"])
        assert (outcome["failed"], results(outcome)) == (True, {"frozen": "not_restartable"})
    assert inspect(frozen)["State"]["Paused"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"project": "lab-nowhere", "services": ["web"]}, "there is no compose project lab-nowhere"),
        ({"services": ["nothing"]}, "there is no container of the service nothing"),
        ({"names": ["lab-nothing"]}, "there is no container lab-nothing"),
        ({}, "services, names"),
    ],
)
def test_a_missing_container_is_named(app, options, expected):
    outcome = restart(app, **options)
    assert outcome["failed"]
    assert expected in outcome["msg"]


def test_a_service_of_two_projects_needs_the_projects_name(app):
    with project("containers") as other:
        namesake = other.run("web")
        before = started(app.web), started(namesake)
        outcome = run_module("container_restart", {"services": ["web"]})
        assert outcome["failed"]
        assert "project" in outcome["msg"]
        assert other.name in outcome["msg"]
        assert (started(app.web), started(namesake)) == before


def test_a_rejected_restart_is_not_a_refused_connection(app):
    """Both failures have kinds of their own."""
    # Before its first start, nothing shows that its program is missing.
    barred = app.run("barred", options=("--init=false", "--entrypoint", "/nowhere"), verb="create")
    outcome = restart(app, services=["barred"])
    assert (outcome["failed"], results(outcome)) == (True, {"barred": "rejected"})
    assert "no such file" in outcome["msg"]
    assert inspect(barred)["State"]["Status"] != "running"


def test_a_missing_engine_is_named(tmp_path):
    path = tmp_path / "docker.sock"
    nowhere = {"services": ["web"], "docker_host": "unix://%s" % path}
    outcome = run_module("container_restart", nowhere)
    assert (outcome["failed"], outcome["kind"]) == (True, "no_engine")
    assert "docker_host" in outcome["msg"]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert run_module("container_restart", nowhere)["kind"] == "refused"
        (finding,) = diagnose("containers", {"containers_docker_host": nowhere["docker_host"]})[
            "containers.unreachable"
        ]
    assert finding["summary"].startswith("refused: ")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("container_restart", {"services": ["web"]}),
        ("container_recreate", {"project": "lab", "service": "web"}),
        ("docker_prune", {"kinds": ["images", "build_cache"]}),
    ],
)
def test_an_engine_that_never_answers_fails_within_the_timeout(tmp_path, name, options):
    with silent(tmp_path / "docker.sock") as host:
        began = time.monotonic()
        outcome = run_module(name, {**options, "docker_host": host, "timeout": 1})
        assert time.monotonic() - began < 4 * SLACK
    assert (outcome["failed"], outcome["kind"]) == (True, "no_answer")


def test_a_missing_permission_has_a_hint(tmp_path):
    path = tmp_path / "docker.sock"
    tmp_path.chmod(0o755)
    with silent(path) as host:
        path.chmod(0o600)
        options = {"services": ["web"], "docker_host": host}
        outcome = run_module("container_restart", options, before=without_privileges)
    assert (outcome["failed"], outcome["kind"]) == (True, "permission")
    assert "become" in outcome["msg"]


def without_privileges():
    # Import the library as root: the user cannot read its files.
    _libraries.require("docker")
    os.setuid(65534)
