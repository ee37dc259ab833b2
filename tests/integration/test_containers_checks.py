# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every check of the area containers fires on its fault, and not without it."""

from __future__ import annotations

import contextlib
import os
import shlex
import struct
import sys
import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from tests.integration.areas import diagnose
from tests.integration.containers import look, own_project, silent, sound
from tests.integration.followed_hints import CONTAINERS
from tests.integration.following import Operator, follow
from tests.integration.modules import run_module, run_module_in_container
from tests.integration.pasting import commands
from tests.lab.engine import docker, install_programs
from tests.lab.faults import every
from tests.lab.faults.containers import HEALTHY, SOUND
from tests.lab.images import ensure_image
from tests.lab.inventory import variables
from tests.lab.shell import wait_until
from tests.lab.throwaway import healthcheck, inspect, wait_for
from tests.slack import SLACK

FAULTS = {name: fault for name, fault in every().items() if fault.area == "containers"}
# Pairs of a fault and a check that fires on it.
FIRES = [(fault.name, check) for fault in FAULTS.values() for check in fault.fires]


@pytest.fixture
def app(tmp_path):
    """A separate project."""
    with own_project(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def broken(lab):
    """The findings about a stack with all faults at once, each in separate containers."""
    with contextlib.ExitStack() as stack:
        for name in FAULTS:
            stack.enter_context(lab.fault(name))
        yield diagnose("containers", {**variables(lab), "containers_starting_seconds_warning": 0})


def test_a_healthy_stack_has_no_findings(lab):
    lab.wait_healthy()
    assert diagnose("containers", variables(lab)) == {}


def test_a_machine_without_an_engine_has_no_findings_unless_required():
    nowhere = {"containers_docker_host": "unix:///nonexistent/docker.sock"}
    assert diagnose("containers", nowhere, before=forget_programs) == {}
    found = diagnose("containers", {**nowhere, "containers_engine_required": True}, before=forget_programs)
    assert list(found) == ["containers.engine_missing"]
    assert sound(found["containers.engine_missing"])


SOCKET = "/var/run/docker.sock"


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_measurement_with_the_python_of_a_distribution(app, suite):
    app.run("web", options=(*SOUND, *HEALTHY))
    socket = ("--volume", "%s:%s" % (SOCKET, SOCKET))
    found = run_module_in_container(ensure_image(suite), "container_state_info", {"project": app.name}, socket)
    assert [container["service"] for container in found["containers"]] == ["web"]
    # A container can reach the engine, but not the control groups of the host.
    assert found["containers"][0]["memory_bytes"] is None
    assert "containers.*" in {entry["part"] for entry in found["unknown"]}
    without = run_module_in_container(ensure_image(suite), "container_state_info")
    assert (without["reachable"], without["engine"]["installed"], without["containers"]) == (True, False, [])


def forget_programs():
    """Simulate a machine without Docker."""
    _engine.PROGRAMS = ()


# The service of each fault.
SERVICES = {
    "bare-service": "bare",
    "changed-limit": "tracklist_service",
    "crash-loop": "crashing",
    "many-processes": "crowded",
    "memory-near-limit": "full",
    "out-of-memory": "greedy",
    "paused": "frozen",
    "port-taken": "barred",
    "restarted-out-of-memory": "risen",
    "slow-start": "late",
    "stopped-service": "file_watcher",
    "throttled": "slow",
    "unhealthy": "sick",
    "worker-out-of-memory": "forgetful",
}


@pytest.mark.parametrize(("fault", "check"), FIRES, ids=["%s-%s" % pair for pair in FIRES])
def test_a_check_fires_on_its_fault(lab, broken, fault, check):
    found = sound(broken[check])
    service = SERVICES.get(fault)
    about = [
        finding
        for finding in found
        if service is None or "%s-%s-" % (lab.project, service) in (finding["object"] or finding["summary"])
    ]
    assert about, found


def test_no_check_fires_on_healthy_containers(lab, broken):
    well = ("postgres", "rabbitmq", "analysis_service", "tracklist_service")
    named = {finding["object"] for findings in broken.values() for finding in findings}
    assert not [name for name in named for service in well if name == lab.container(service)]
    # No fault fires another check.
    (unlimited,) = broken["containers.no_memory_limit"]
    assert unlimited["summary"].startswith("1 service has no memory limit")
    assert "-bare-" in unlimited["summary"]


def test_summaries_name_the_cause(broken, lab):
    def summary(check, service, findings=broken):
        return next(each["summary"] for each in findings["containers." + check] if "-%s-" % service in each["object"])

    # For a moment after each restart it runs, and has no exit code.
    wait_until(
        lambda: "exit code 3" in summary("crash_loop", "crashing", diagnose("containers", variables(lab))),
        "an exit",
        20,
    )
    assert "killed by the kernel" in summary("stopped", "greedy")
    assert "address already in use" in summary("stopped", "barred")
    assert "(pid %d)" % os.getpid() in summary("port_taken", "barred")
    # On a busy machine a container may not use its whole share in each of the sampled periods.
    wait_until(
        lambda: "100 %" in summary("cpu_throttled", "slow", diagnose("containers", variables(lab))), "throttling", 20
    )
    (drift,) = broken["containers.compose_drift"]
    assert "256.0 MiB" in drift["summary"]
    assert "192.0 MiB" in drift["summary"]
    # The container confirms all values of .env.
    assert drift["remedy"]["id"] == "containers.recreate"


def test_hints_can_be_followed(lab, broken):
    install_programs({"setfacl": ("acl",)})
    operator = Operator(directory=lab.directory)
    for hints in CONTAINERS.values():
        follow(operator, hints, broken, lambda: diagnose("containers", variables(lab)))


def test_an_earlier_oom_kill_is_not_why_the_service_stopped(app):
    """The engine notes an OOM kill of any process, and keeps the note."""
    command = "python3 -c 'bytearray(200 << 20)'; touch /lost; exec sleep infinity"
    limit = ("--memory", "32m", "--memory-swap", "32m", "--restart", "unless-stopped")
    name = app.run("forgetful", "sh", "-c", command, options=(*limit, *healthcheck("test -e /lost")))
    wait_for(name, "over it", lambda state: state["Health"]["Status"] == "healthy")
    docker("stop", "--time", "5", name)
    assert inspect(name)["State"]["OOMKilled"]
    found = look(app)
    assert set(found) == {"containers.stopped"}
    (finding,) = sound(found["containers.stopped"])
    assert "exit code 143: SIGTERM: stopped on request; before, the kernel had killed" in finding["summary"]
    assert "It was stopped by a user" in finding["hint"]


def test_a_service_whose_restart_policy_gave_up_is_down(app):
    name = app.run("hopeless", "sh", "-c", "exit 4", options=("--memory", "64m", "--restart", "on-failure:2", *HEALTHY))
    wait_until(lambda: inspect(name)["RestartCount"] == 2, "two restarts", 20)
    wait_for(name, "given up", lambda state: state["Status"] == "exited")
    found = look(app)
    assert set(found) == {"containers.crash_loop"}
    (finding,) = sound(found["containers.crash_loop"])
    assert finding["status"] == "critical"
    assert "2 restarts by its restart policy (on-failure), which has given up; exit code 4" in finding["summary"]
    # A restart is no remedy.
    assert finding["remedy"] is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x7fELF of another machine", "its program /program is built for another processor"),
        (b"#!/bin/sh\r\nexec sleep infinity\r\n", "its command /program is not in the image, or the interpreter"),
    ],
    ids=["foreign", "line-ends-of-windows"],
)
def test_a_program_that_cannot_be_executed_is_why_it_is_in_a_crash_loop(app, tmp_path, content, reason):
    program = tmp_path / "program"
    program.write_bytes(content)
    program.chmod(0o755)
    mount = ("--volume", "%s:/program:ro" % program, "--entrypoint", "/program")
    name = app.run("web", options=(*SOUND, *HEALTHY, *mount))
    wait_until(lambda: inspect(name)["RestartCount"] >= 4, "four restarts", 30)
    (finding,) = sound(look(app)["containers.crash_loop"])
    assert reason in finding["summary"]
    assert finding["remedy"] is None


def test_a_container_whose_shared_network_was_disconnected(app):
    owner = app.run("owner", options=(*SOUND, *HEALTHY))
    side = app.run("side", options=(*SOUND, *HEALTHY, "--network", "container:%s" % owner))
    assert look(app) == {}
    docker("restart", "--time", "1", owner)
    (finding,) = sound(look(app)["containers.network_disconnected"])
    assert (finding["status"], finding["object"]) == ("critical", side)
    assert "%s, which was restarted after it started" % owner in finding["summary"]
    (command,) = commands(finding["hint"])
    Operator().run(command)
    assert look(app) == {}
    docker("rm", "--force", owner)
    (finding,) = sound(look(app)["containers.network_disconnected"])
    assert "a container that was removed" in finding["summary"]


def test_a_stopped_service_with_a_restart_policy_is_down(app):
    name = app.run("web", options=("--memory", "64m", "--restart", "on-failure:2", *HEALTHY))
    docker("stop", "--time", "5", name)
    found = look(app)
    assert set(found) == {"containers.stopped"}
    (finding,) = sound(found["containers.stopped"])
    assert finding["status"] == "critical"
    assert "It was stopped by a user" not in finding["hint"]


def test_an_access_control_list_grants_what_the_mode_does_not(app, tmp_path):
    shared = tmp_path / "it's shared"
    shared.mkdir(mode=0o700)
    (shared / "file").write_text("")
    options = (*SOUND, *HEALTHY, "--user", "12345:12345", "--volume", "%s:/data:ro" % shared)
    name = app.run("reader", options=options)
    (finding,) = sound(look(app)["containers.path_denied"])
    # The command of the hint quotes the path.
    command = finding["hint"].split("`")[1]
    assert shlex.split(command) == ["setfacl", "-R", "-m", "u:12345:rX", "--", str(shared)]
    allow(shared, 12345)
    docker("exec", name, "ls", "/data")
    assert look(app) == {}
    # An entry for another user does not help.
    allow(shared, 12346)
    assert "containers.path_denied" in look(app)


def allow(path, uid):
    """Set the list like setfacl -m u:<uid>:rx, which is not installed everywhere."""
    no_id = 0xFFFFFFFF
    rules = [(0x01, 7, no_id), (0x02, 5, uid), (0x04, 0, no_id), (0x10, 5, no_id), (0x20, 0, no_id)]
    packed = b"".join(struct.pack("<HHI", *rule) for rule in rules)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)


@pytest.mark.parametrize(
    ("option", "value"),
    [("top", 0), ("top", -1), ("max_containers", 0), ("timeout", 0), ("deadline", -1), ("docker_host", "")],
)
def test_an_option_under_which_nothing_would_be_found_is_rejected(option, value):
    outcome = run_module("container_state_info", {option: value})
    assert outcome["failed"]
    assert outcome["msg"].startswith(option + ": ")


def test_a_port_held_by_another_container_names_it(app):
    first = app.run("first", options=(*SOUND, *HEALTHY, "--publish", "127.0.0.1::8000"))
    port = inspect(first)["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"]
    # A port that the engine chooses is not in use.
    app.run("second", options=(*SOUND, "--publish", "127.0.0.1:0:8000"), verb="create")
    assert "containers.port_taken" not in look(app)
    third = app.run("third", options=(*SOUND, "--publish", "%s:8000" % port), verb="create")
    (finding,) = sound(look(app)["containers.port_taken"])
    assert third in finding["object"]
    assert "held by container %s" % first in finding["summary"]
    assert first in finding["hint"]


def test_a_service_that_finished_its_work_is_no_finding(app):
    done = app.run("migration", "true")
    wait_for(done, "done", lambda state: state["Status"] == "exited")
    assert look(app) == {}
    # Unless it is an expected service.
    (finding,) = sound(look(app, containers_expected_services=["migration"])["containers.stopped"])
    assert finding["status"] == "critical"


def test_a_container_that_ends_during_the_measurement_is_not_unknown(app):
    app.run("brief", "sleep", "2", options=(*SOUND, *HEALTHY))
    assert look(app, tracktion_sample_seconds=3) == {}


def test_missing_expected_services_are_found(app):
    app.run("web", options=(*SOUND, *HEALTHY))
    found = look(app, containers_expected_services=["web", "worker"])
    assert [finding["object"] for finding in sound(found["containers.missing_service"])] == ["worker"]
    # An existing service is not missing if fewer containers are inspected.
    app.run("worker", options=(*SOUND, *HEALTHY))
    few = look(app, containers_expected_services=["web", "worker"], containers_max_containers=1)
    assert "containers.missing_service" not in few


COMPOSE = """
services:
  web: {image: "${REGISTRY}web:2", mem_limit: "${LIMIT:-64m}", volumes: ["./data:/data:ro", "named:/named"]}
  same: {image: "${IMAGE:-%s}", mem_limit: 64m}
  unsure: {image: "${ONLY_IN_A_SHELL}", mem_limit: 64m}
  worker: {image: worker}
  tool: {image: tool, profiles: [tools]}
volumes: {named: {}}
"""


def test_a_compose_file_is_compared_to_the_containers(app, tmp_path):
    web, same = (app.run(name, options=(*SOUND, *HEALTHY)) for name in ("web", "same"))
    app.run("unsure", options=(*SOUND, *HEALTHY))
    (tmp_path / "docker-compose.yaml").write_text(COMPOSE % inspect(same)["Config"]["Image"])
    (tmp_path / ".env").write_text("# where from\nexport REGISTRY='registry/'\n")
    settings = {"containers_compose_files": [str(tmp_path / "docker-compose.yaml")]}
    found = look(app, **settings)
    (drift,) = sound(found["containers.compose_drift"])
    assert drift["object"] == "%s image" % web
    assert "${REGISTRY}web:2" in drift["summary"]
    assert [each["object"] for each in sound(found["containers.compose_missing"])] == ["%s worker" % app.name]
    assert [each["object"] for each in sound(found["containers.path_missing"])] == [str(tmp_path / "data")]


def test_containers_without_a_compose_file_are_not_compared(app):
    app.compose_file = None
    app.run("web", options=(*SOUND, *HEALTHY))
    found = look(app)
    assert set(found) == {"containers.compose_missing", "containers.compose_drift", "containers.compose_orphan"}
    assert {finding["status"] for (finding,) in found.values()} == {"unknown"}


def test_a_container_that_was_created_a_moment_ago_is_starting(app):
    """As during `compose up`, before the services that it depends on are healthy."""
    name = app.run("web", options=(*SOUND, *HEALTHY), verb="create")
    (finding,) = look(app)["containers.stopped"]
    assert finding["status"] == "info"
    assert "%s is created since" % name in finding["summary"]
    (finding,) = look(app, containers_starting_seconds_warning=0)["containers.stopped"]
    assert finding["status"] == "critical"


@pytest.mark.parametrize("content", [None, "services: [", "- a list"])
def test_a_compose_file_that_cannot_be_read_is_unknown(app, tmp_path, content):
    app.run("web", options=(*SOUND, *HEALTHY))
    path = tmp_path / "compose.yaml"
    if content is not None:
        path.write_text(content)
    found = look(app, containers_compose_files=[str(path)])
    assert set(found) == {"containers.compose_missing", "containers.compose_drift", "containers.compose_orphan"}
    for (finding,) in found.values():
        assert finding["status"] == "unknown"
        assert str(path) in finding["summary"]


def test_the_diagnosis_needs_no_library(app):
    app.run("web", options=SOUND)

    def forget_docker():
        sys.modules["docker"] = None

    settings = {"tracktion_compose_project": app.name, "containers_expected_services": []}
    assert set(diagnose("containers", settings, before=forget_docker)) == {"containers.no_healthcheck"}


def test_without_pyyaml_the_comparison_is_unknown(app, tmp_path):
    app.run("web", options=(*SOUND, *HEALTHY))
    path = tmp_path / "compose.yaml"
    path.write_text("services: {}")
    settings = {"tracktion_compose_project": app.name, "containers_compose_files": [str(path)]}
    settings["containers_expected_services"] = []

    def forget_yaml():
        sys.modules["yaml"] = None

    found = diagnose("containers", settings, before=forget_yaml)
    assert {finding["status"] for findings in found.values() for finding in findings} == {"unknown"}
    assert "PyYAML" in found["containers.compose_drift"][0]["summary"]
    assert "tracktion.ops.prepare" in found["containers.compose_drift"][0]["hint"]


# The engine


def test_an_engine_that_is_down_is_found(tmp_path):
    found = diagnose("containers", {"containers_docker_host": "unix://%s" % (tmp_path / "docker.sock")})
    (finding,) = sound(found["containers.unreachable"])
    assert finding["status"] == "critical"
    assert "no_engine" in finding["summary"]


def test_an_engine_that_hangs_is_found_in_time(tmp_path):
    with silent(tmp_path / "docker.sock") as host:
        began = time.monotonic()
        found = diagnose("containers", {"containers_docker_host": host, "containers_timeout": 1})
        assert time.monotonic() - began < 4 * SLACK
    (finding,) = sound(found["containers.unreachable"])
    assert "no_answer" in finding["summary"]
    assert "journalctl" in finding["hint"]


def test_faults_of_the_engine_are_found(app, tmp_path):
    wrong = tmp_path / "daemon.json"
    wrong.write_text('{"live-restore": true,}')
    settings = {"containers_engine_version_warning": 1000, "containers_live_restore_wanted": True}
    found = look(app, tracktion_docker_daemon_config=str(wrong), **settings)
    for check in ("engine_old", "live_restore", "daemon_configuration"):
        assert sound(found["containers." + check])
    assert str(wrong) in found["containers.daemon_configuration"][0]["summary"]
    wrong.write_text('{"live-restore": true}')
    assert "containers.daemon_configuration" not in look(app, tracktion_docker_daemon_config=str(wrong))


def test_disk_use_that_takes_too_long_is_unknown(app):
    found = look(app, containers_disk_seconds=0.0001)
    assert set(found) == {"containers.reclaimable", "containers.stopped_space", "containers.unused_volume"}
    assert {findings[0]["status"] for findings in found.values()} == {"unknown"}
