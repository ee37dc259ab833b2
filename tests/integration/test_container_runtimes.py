# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Diagnosis and remedies with other runtimes: compose v1, Podman, rootless engines."""

from __future__ import annotations

import json
import os
import secrets
from functools import partial

import docker as sdk
import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _scratch_container
from tests.integration.containers import sound
from tests.integration.inotify_faults import OTHER_UID, become
from tests.integration.modules import run_module, run_module_in_container
from tests.integration.runtimes import (
    COMPOSE,
    SOCKET,
    OldProject,
    as_of_a_user,
    demanding_engine,
    diagnose,
    engine_over_tcp,
    objects_by_check,
    visit,
)
from tests.lab.certificates import make_certificates
from tests.lab.engine import compose_command, docker, install_programs
from tests.lab.images import ensure_image
from tests.lab.podman import IMAGE, OTHER_USER, podman, remove_containers
from tests.lab.shell import attempt, run, wait_until
from tests.lab.throwaway import inspect, project

# Compose v1


@pytest.fixture
def old(tmp_path):
    """A project that compose v1 has started."""
    project = OldProject(tmp_path)
    project.write()
    try:
        project.compose("up", "--detach")
        yield project
    finally:
        project.remove()


def test_a_project_of_compose_v1_is_diagnosed_and_recreated_by_compose_v1(old):
    web, db = ("%s_%s_1" % (old.name, service) for service in ("web", "db"))
    labels = inspect(web)["Config"]["Labels"]
    assert labels[COMPOSE + ".version"].startswith("1.")
    assert labels[COMPOSE + ".project.config_files"] == "deploy/docker-compose.yml"
    # A container of compose run is not one of the service.
    old.compose("run", "--detach", "web", "sleep", "infinity")
    lacks = {"no_healthcheck": [db, web]}
    assert objects_by_check(old.look()) == lacks
    # A change that was not applied is found, and planned in check mode.
    old.write(limit="96m")
    found = old.look()
    assert objects_by_check(found) == {"compose_drift": ["%s memory_limit_bytes" % each for each in (db, web)], **lacks}
    remedies = {each["remedy"]["target"]: each["remedy"] for each in sound(found["containers.compose_drift"])}
    remedy = remedies["%s web" % old.name]
    assert remedy["id"] == "containers.recreate"
    before = {name: inspect(name)["Id"] for name in (web, db)}
    planned = old.recreate(check=True, **remedy["vars"])
    assert (planned["changed"], planned["result"]) == (True, "planned")
    assert planned["after"][web]["memory_limit_set"] == 96 << 20
    assert {name: inspect(name)["Id"] for name in (web, db)} == before
    # Compose v1 applies it to this service only.
    done = old.recreate(**remedy["vars"])
    assert (done["changed"], done["result"]) == (True, "recreated"), done
    after = inspect(web)
    assert after["Config"]["Labels"][COMPOSE + ".version"].startswith("1.")
    assert after["HostConfig"]["Memory"] == 96 << 20
    assert inspect(db)["Id"] == before[db]
    assert objects_by_check(old.look()) == {"compose_drift": ["%s memory_limit_bytes" % db], **lacks}
    # A second run does nothing.
    for check in (True, False):
        again = old.recreate(check=check)
        assert (again["changed"], again["result"]) == (False, "as_wanted")
    assert old.recreate(**remedy["vars"])["result"] == "changed_meanwhile"
    assert inspect(web)["Id"] == after["Id"]
    # The plan has the name of a missing container.
    docker("rm", "--force", web)
    assert list(old.recreate(check=True)["after"]) == [web]
    assert old.recreate()["result"] == "recreated"
    assert inspect(web)["State"]["Running"]


# Podman

SOUND = ("--memory", "64m", "--restart", "unless-stopped")


@pytest.fixture(scope="module")
def engine():
    """A Podman of root."""
    with podman() as found:
        yield found


@pytest.fixture
def app(engine):
    """Labels of a project whose containers are removed after the test."""
    name = "app-%s" % secrets.token_hex(4)
    yield {COMPOSE + ".project": name}
    remove_containers(engine)


def of(app, service):
    return {**app, COMPOSE + ".service": service}


def look(engine, **settings):
    """Return the findings about all containers of an engine, without those about compose files, which do not exist."""
    everything = {"containers_docker_host": engine.host, "containers_expected_services": [], **settings}
    found = diagnose("containers", everything)
    return {check: findings for check, findings in found.items() if ".compose_" not in check}


def test_a_scratch_container_of_podman_runs_and_is_removed(engine, tmp_path):
    """For the proof of a backup. Debian's Podman has no init for containers."""
    (tmp_path / "backup").write_text("of a database\n")
    (tmp_path / "sockets").mkdir()
    api = _scratch_container.engine({"docker_host": engine.host}, Deadline(60))
    api.negotiate()
    command = ["sh", "-c", "echo started; sleep 60"]
    mounts = {"/backup": (str(tmp_path), False), "/sockets": (str(tmp_path / "sockets"), True)}
    with _scratch_container.Scratch(api, IMAGE, command, mounts, tmpfs=["/data"], shared_memory=1 << 26) as scratch:
        script = "cat /backup/backup; touch /sockets/a /data/b && echo writable; touch /backup/c 2>&- || echo read-only"
        code, output = scratch.run("sh", "-c", script)
        assert (code, output.splitlines()) == (0, ["of a database", "writable", "read-only"])
        # Podman writes the log a moment after the program does.
        wait_until(lambda: scratch.log() == ["started"], "the output of the program", 10)
        assert scratch.exit_code() is None
    assert os.listdir(tmp_path / "sockets") == ["a"]
    assert engine.run("ps", "--all", "--quiet", "--filter", "label=%s" % _scratch_container.LABEL) == ""


def test_healthy_containers_of_podman_are_measured_without_findings(engine, app):
    engine.start("well", options=(*SOUND, "--health-cmd", "true"), labels=of(app, "web"))
    engine.run("healthcheck", "run", "well")
    engine.start("done", "true", labels=of(app, "migration"))
    assert look(engine) == {}
    state = visit("containers", {"containers_docker_host": engine.host})["state"]
    assert (state["engine"]["kind"], state["engine"]["rootless"]) == ("podman", False)
    facts = {each["name"]: each for each in state["containers"]}
    assert facts["well"]["health"] == "healthy"
    assert facts["well"]["memory_limit_bytes"] == 64 << 20
    assert 0 < facts["well"]["memory_bytes"] < 64 << 20
    assert facts["well"]["pids"] == 1
    assert (facts["done"]["health"], facts["done"]["exit_code"]) == (None, 0)


def test_faults_of_containers_of_podman_are_found(engine, app):
    healthy = ("--health-cmd", "true")
    engine.start("failed", "sh", "-c", "exit 3", labels=of(app, "failed"))
    engine.start("crashing", "sh", "-c", "exit 4", options=(*SOUND, *healthy), labels=of(app, "crashing"))
    engine.start("frozen", options=(*SOUND, *healthy), labels=of(app, "frozen"))
    engine.run("pause", "frozen")
    engine.start("sick", options=(*SOUND, "--health-cmd", "false", "--health-retries", "1"), labels=of(app, "sick"))
    assert engine.attempt("healthcheck", "run", "sick").returncode == 1
    engine.start("bare", labels=of(app, "bare"))
    # Files in /dev/shm are in memory.
    hold = "dd if=/dev/zero of=/dev/shm/held bs=1M count=29 && echo held; sleep infinity"
    engine.start("full", "sh", "-c", hold, options=("--memory", "31m", *SOUND[2:], *healthy), labels=of(app, "full"))
    wait_until(lambda: "held" in engine.run("logs", "full"), "full memory", 10)
    wait_until(lambda: int(engine.inspect("crashing", ".RestartCount")) >= 4, "four restarts", 20)
    found = look(engine, containers_starting_seconds_warning=3600)
    assert objects_by_check(found) == {
        "stopped": ["failed"],
        "crash_loop": ["crashing"],
        "paused": ["frozen"],
        "unhealthy": ["sick"],
        "memory_near_limit": ["full"],
        "no_healthcheck": ["bare"],
        "no_restart_policy": ["bare"],
        "no_memory_limit": [None],
    }
    for findings in found.values():
        sound(findings)
    (stopped,) = (each for each in found["containers.stopped"] if each["object"] == "failed")
    assert "exit code 3" in stopped["summary"]
    # The hint has the command of this engine.
    command = "podman --url %s logs --tail 50 failed" % engine.host
    assert command in stopped["hint"]
    assert engine.attempt(*command.split()[1:]).returncode == 0


def test_a_health_check_that_never_runs_has_a_hint_for_podman(engine, app):
    engine.start("waiting", options=(*SOUND, "--health-cmd", "true"), labels=of(app, "web"))
    (finding,) = sound(look(engine, containers_starting_seconds_warning=0)["containers.starting_long"])
    assert "timers of systemd" in finding["hint"]


def test_a_container_of_podman_without_a_health_check_is_restarted(engine, app):
    name = engine.start("web", options=SOUND, labels=of(app, "web"))
    before = engine.inspect(name, ".State.StartedAt")
    wanted = {"docker_host": engine.host, "names": [name], "deadline": 20}
    assert run_module("container_restart", wanted, check=True)["containers"][0]["result"] == "planned"
    assert engine.inspect(name, ".State.StartedAt") == before
    done = run_module("container_restart", wanted)
    assert (done["changed"], done["containers"][0]["result"]) == (True, "restarted"), done
    assert engine.inspect(name, ".State.StartedAt") != before


def test_unused_objects_of_podman_are_found_and_removed(engine, app):
    engine.run("import", str(engine.home / "box.tar"))
    engine.start("stray", "true")
    kept = engine.start("kept", "true", labels={"tracktion.ops.protected": "true"})
    wait_until(lambda: engine.inspect(kept, ".State.Status") == "exited", "the end of it", 10)
    found = look(engine, containers_reclaimable_info=1, containers_stopped_bytes_info=0)
    assert objects_by_check(found) == {"reclaimable": [None], "stopped_space": [None]}
    wanted = {"docker_host": engine.host, "kinds": ["images", "containers"], "older_than": 0}
    planned = run_module("docker_prune", wanted, check=True)
    assert sorted(each["kind"] for each in planned["removed"]) == ["container", "image"]
    done = run_module("docker_prune", wanted)
    assert [each["result"] for each in done["removed"]] == ["removed", "removed"], done
    assert engine.run("ps", "--all", "--format", "{{.Names}}").split() == [kept]
    assert engine.run("images", "--filter", "dangling=true", "--quiet") == ""
    assert run_module("docker_prune", wanted)["changed"] is False


NEW_FILE = """
services:
  web:
    image: {image}
    network_mode: none
    restart: always
    stop_signal: SIGKILL
    mem_limit: {limit}
"""


def test_a_project_of_compose_v2_in_podman_is_diagnosed_and_recreated(engine, app, tmp_path):
    name, path = app[COMPOSE + ".project"], tmp_path / "compose.yaml"
    path.write_text(NEW_FILE.format(image=IMAGE, limit="64m"))
    up = (*compose_command(), "--project-name", name, "--file", str(path), "up", "--detach")
    run(*up, env={"DOCKER_HOST": engine.host})
    settings = {"containers_docker_host": engine.host, "containers_expected_services": ["web"]}
    settings["tracktion_compose_project"] = name
    # Podman has another name for the image than the file.
    assert engine.inspect("%s-web-1" % name, ".ImageName") != IMAGE
    lacks = {"no_healthcheck": ["%s-web-1" % name]}
    assert objects_by_check(diagnose("containers", settings)) == lacks
    path.write_text(NEW_FILE.format(image=IMAGE, limit="32m"))
    found = diagnose("containers", settings)
    assert objects_by_check(found) == {"compose_drift": ["%s-web-1 memory_limit_bytes" % name], **lacks}
    wanted = dict(found["containers.compose_drift"][0]["remedy"]["vars"], docker_host=engine.host)
    wanted["compose_command"] = list(compose_command())
    before = engine.inspect("%s-web-1" % name, ".Id")
    assert run_module("container_recreate", wanted, check=True)["result"] == "planned"
    assert engine.inspect("%s-web-1" % name, ".Id") == before
    assert run_module("container_recreate", wanted)["result"] == "recreated"
    assert engine.inspect("%s-web-1" % name, ".HostConfig.Memory") == str(32 << 20)
    assert objects_by_check(diagnose("containers", settings)) == lacks
    wanted["expected"] = None
    assert run_module("container_recreate", wanted)["result"] == "as_wanted"


def test_paths_are_tested_from_a_container_of_podman(engine, app):
    engine.start("web", labels=of(app, "web"))
    settings = {"network_docker_host": engine.host, "tracktion_compose_project": app[COMPOSE + ".project"]}
    settings.update(network_check_resolver=False, network_paths=[{"from": "web", "to": "127.0.0.1:1"}])
    found = diagnose("network", settings)
    # Nothing listens in the container. The rules of Docker are not expected, because Podman has its own.
    assert list(found) == ["network.path_refused"]
    assert sound(found["network.path_refused"])[0]["object"].startswith("web")
    gone = dict(settings, network_paths=[{"from": "other", "to": "127.0.0.1:1"}])
    assert list(diagnose("network", gone)) == ["network.service_not_looked_from"]


def test_a_command_is_run_in_a_container_of_podman(engine, app):
    engine.start("web", labels=of(app, "web"))
    commands = [
        {"name": "well", "service": "web", "argv": ["echo", "hello"], "output_contains": "hello"},
        {"name": "wrong", "service": "web", "argv": ["sh", "-c", "exit 7"]},
        {"name": "long", "service": "web", "argv": ["sleep", "60"], "timeout": 1},
    ]
    found = run_module("container_probe_info", {"docker_host": engine.host, "commands": commands})
    commands = {each["name"]: each for each in found["commands"]}
    assert (commands["well"]["ok"], commands["wrong"]["exit_code"]) == (True, 7)
    assert (commands["long"]["ok"], commands["long"]["killed"]) == (False, True)
    # Only this process was killed.
    assert "sleep 60" not in engine.run("top", "web", "args")
    assert engine.inspect("web", ".State.Status") == "running"


def test_a_project_of_podman_compose_is_diagnosed_and_not_recreated(engine, app, tmp_path):
    install_programs({"podman-compose": ("podman-compose",), "unshare": ("util-linux",)})
    name, path = app[COMPOSE + ".project"], tmp_path / "compose.yaml"
    service = {"image": IMAGE, "restart": "always", "mem_limit": "64m"}
    path.write_text(json.dumps({"services": {"web": service}}))
    # Its bridge and its rules are in a separate network namespace, and are removed with it.
    command = ("unshare", "--net", "env", "--chdir=%s" % tmp_path, "podman-compose", "--project-name", name)
    try:
        run(*command, "up", "-d", env=engine.environment)
        web = "%s_web_1" % name
        settings = {"containers_docker_host": engine.host, "tracktion_compose_project": name}
        settings["containers_expected_services"] = ["web"]
        lacks = {"no_healthcheck": [web]}
        assert objects_by_check(diagnose("containers", settings)) == lacks
        path.write_text(json.dumps({"services": {"web": {**service, "mem_limit": "32m"}}}))
        found = diagnose("containers", settings)
        assert objects_by_check(found) == {"compose_drift": ["%s memory_limit_bytes" % web], **lacks}
        wanted = dict(found["containers.compose_drift"][0]["remedy"]["vars"], docker_host=engine.host)
        refused = run_module("container_recreate", wanted)
        assert "podman-compose up -d web" in refused["msg"]
        assert engine.inspect(web, ".State.Status") == "running"
    finally:
        attempt(*command, "down", "-t", "0", env=engine.environment)


TALK = "while :; do echo ERROR no database; sleep 0.1; done"


@pytest.mark.parametrize("user", [None, OTHER_USER])
def test_the_logs_of_podman_are_read(user):
    with podman(user) as engine:
        engine.start("talking", "sh", "-c", TALK, labels=of({COMPOSE + ".project": "app"}, "web"))
        settings = {"logs_docker_host": engine.host, "tracktion_compose_project": "app"}
        # It would be a burst after a second.
        settings.update(logs_new_signature_info=3, logs_kernel_log="", logs_burst_floor=1000000)
        wait_until(lambda: "logs.new_error_signature" in diagnose("logs", settings), "three errors", 10)
        (finding,) = diagnose("logs", settings)["logs.new_error_signature"]
        assert "no database" in finding["summary"]
        assert finding["object"].startswith("web")


# Rootless engines


@pytest.fixture(scope="module")
def rootless():
    """A rootless Podman with one service."""
    with podman(OTHER_USER) as found:
        found.start("web", options=("--restart", "always"), labels=of({COMPOSE + ".project": "app"}, "web"))
        yield found


def test_resource_use_of_a_rootless_engine_is_unknown(rootless):
    state = visit("containers", {"containers_docker_host": rootless.host})["state"]
    assert (state["engine"]["kind"], state["engine"]["rootless"]) == ("podman", True)
    (facts,) = state["containers"]
    assert (facts["status"], facts["service"]) == ("running", "web")
    assert {facts[name] for name in ("memory_bytes", "memory_ratio", "cpu_ratio", "pids", "oom_kills")} == {None}
    found = look(rootless)
    unknown = {check: findings for check, findings in found.items() if findings[0]["status"] == "unknown"}
    assert {check.removeprefix("containers.") for check in unknown} == {
        "cpu_throttled",
        "oom_killed",
        "open_files_near_limit",
        "pids_near_limit",
        "zombies",
    }
    for (finding,) in unknown.values():
        assert "without root" in finding["summary"]
        assert "Delegate=yes" in finding["summary"]
    assert objects_by_check({check: found[check] for check in set(found) - set(unknown)}) == {
        "no_healthcheck": ["web"],
        "no_memory_limit": [None],
    }


def test_the_hint_for_a_closed_socket_names_its_user(rootless):
    # Import the library as root: the user cannot read its files.
    assert sdk.__version__
    unprivileged = partial(become, OTHER_UID)
    with as_of_a_user(rootless.socket) as host:
        hints = {
            host: "--become-user=%s`" % OTHER_USER,
            "unix://" + SOCKET: "group docker",
        }
        for docker_host, hint in hints.items():
            found = diagnose("containers", {"containers_docker_host": docker_host}, before=unprivileged)
            (finding,) = found["containers.unreachable"]
            assert "no permission to use" in finding["summary"]
            assert hint in finding["hint"]
            # Everything else is unknown.
            assert {each["status"] for findings in found.values() for each in findings} == {"unknown"}
        logs = {"logs_docker_host": host}
        (finding,) = diagnose("logs", logs, before=unprivileged)["logs.unreadable"]
        assert "no permission to use" in finding["summary"]


# Engines at a port


@pytest.fixture(scope="module")
def web():
    """A container of the engine of the machine, and its project."""
    with project("containers") as found:
        yield found.run("web", options=SOUND), found.name


def measured_and_planned(name, project_name, **connection):
    """Return the measurement by the socket client, and a planned restart by the SDK."""
    state = run_module("container_state_info", {**connection, "project": project_name, "disk_seconds": 0})
    planned = run_module("container_restart", {**connection, "names": [name]}, check=True)
    return state, planned


def test_an_engine_at_a_port_is_measured_and_acted_on(web):
    name, project_name = web
    with engine_over_tcp() as port:
        state, planned = measured_and_planned(name, project_name, docker_host="tcp://127.0.0.1:%d" % port)
    assert [each["name"] for each in state["containers"]] == [name], state
    assert planned["containers"][0]["result"] == "planned", planned


def test_an_engine_over_tls_is_measured_and_acted_on(web, tmp_path):
    name, project_name = web
    made = make_certificates(tmp_path / "ours", "operator")
    other = make_certificates(tmp_path / "others", "operator")
    trusted = {"tls": True, "ca_path": str(made.ca_cert)}
    known = {"client_cert": str(made.client_cert), "client_key": str(made.client_key)}
    with engine_over_tcp(made) as port:
        connection = {"docker_host": "tcp://localhost:%d" % port}
        for options in ({**trusted, **known}, {"tls": True, "validate_certs": False, **known}):
            state, planned = measured_and_planned(name, project_name, **connection, **options)
            assert [each["name"] for each in state["containers"]] == [name], state
            assert [each["result"] for each in planned.get("containers", [])] == ["planned"], planned
        # Both clients report the same failures.
        for options, kinds in (
            ({**trusted, **known, "ca_path": str(other.ca_cert)}, {"certificate"}),
            # With TLS 1.3 the server rejects a client after the handshake.
            (trusted, {"tls", "closed"}),
        ):
            state, planned = measured_and_planned(name, project_name, **connection, **options)
            assert (state["reachable"], planned["failed"]) == (False, True)
            assert {state["error"]["kind"], planned["kind"]} <= kinds, (state["error"], planned)
            assert state["error"]["hint"]
        missing = {**trusted, "client_cert": str(tmp_path / "absent.pem"), "client_key": known["client_key"]}
        for found in measured_and_planned(name, project_name, **connection, **missing):
            assert (found["failed"], found["kind"]) == (True, "bad_option")
            assert found["msg"].startswith("ca_path, client_cert, client_key: cannot be loaded")


# Engines with other versions of the API


@pytest.fixture(scope="module")
def demanding(tmp_path_factory):
    with demanding_engine(tmp_path_factory.mktemp("demanding")) as socket:
        yield socket


def test_a_newer_engine_gets_its_oldest_version_of_the_api(demanding):
    refusal = run("curl", "--silent", "--unix-socket", str(demanding), "http://docker/v1.41/info")
    assert "client version 1.41 is too old" in refusal
    host = "unix://%s" % demanding
    state = visit("containers", {"containers_docker_host": host})["state"]
    assert (state["reachable"], state["unknown"], state["containers"]) == (True, [], [])
    assert int(state["engine"]["version"].split(".")[0]) > 20
    assert _docker.Client(_options(host), Deadline(20)).api.api_version == "1.44"
    # The oldest supported Debian has an older Python.
    seen = ("--volume", "%s:%s" % (demanding, SOCKET))
    found = run_module_in_container(ensure_image("bookworm"), "container_state_info", {}, seen)
    assert (found["reachable"], found["engine"]["version"]) == (True, state["engine"]["version"])


def test_the_engine_of_the_machine_gets_the_known_version_of_the_api():
    api = _docker.Client(_options("unix://%s" % SOCKET), Deadline(20)).api
    assert api.api_version == _docker.KNOWN_API


def _options(host):
    options = {name: spec.get("default") for name, spec in _docker.SPEC.items()}
    return dict(options, docker_host=host, timeout=20.0)
