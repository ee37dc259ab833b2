# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The remedies of the area containers fix what was found and change nothing else."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from tests.integration.containers import cached, look, own_project, sdk_client, sound
from tests.integration.modules import run_module
from tests.integration.playbooks import LOCAL, inventory, run_remedy
from tests.lab.engine import compose_command, docker
from tests.lab.faults.containers import SOUND
from tests.lab.servers import LABEL
from tests.lab.shell import attempt, run, wait_until
from tests.lab.throwaway import healthcheck, inspect, wait_for


@pytest.fixture
def app(tmp_path):
    """A separate project."""
    with own_project(tmp_path) as found:
        yield found


def remedy(name, tmp_path, check=False, evidence=None, **settings):
    """Run the task file of a remedy; return its output."""
    hosts = inventory(tmp_path / "hosts.yml", {"here": {**LOCAL, **settings}})
    arguments = ("--check", "--diff") if check else ()
    return run_remedy("containers", "remediate/%s" % name, hosts, evidence or {}, *arguments)


def test_an_unhealthy_service_is_restarted_and_healthy_again(app, tmp_path):
    # It is healthy again after a restart.
    command = ("sh", "-c", "test -e /born && touch /well; touch /born; exec sleep infinity")
    sick = app.run("sick", *command, options=(*SOUND, *healthcheck("test -e /well")))
    wait_for(sick, "unhealthy", lambda state: state["Health"]["Status"] == "unhealthy")
    (finding,) = sound(look(app)["containers.unhealthy"])
    offered = finding["remedy"]
    assert (offered["id"], offered["risk"], offered["target"]) == ("containers.restart_service", "disruptive", sick)
    before = inspect(sick)["State"]["StartedAt"]
    output = remedy("restart_service", tmp_path, check=True, evidence=offered["vars"])
    assert '"result": "planned"' in output
    assert inspect(sick)["State"]["StartedAt"] == before
    remedy("restart_service", tmp_path, evidence=offered["vars"])
    assert inspect(sick)["State"]["Health"]["Status"] == "healthy"
    assert look(app) == {}
    after = inspect(sick)["State"]["StartedAt"]
    assert run_module("container_restart", offered["vars"])["containers"][0]["result"] == "changed_meanwhile"
    assert inspect(sick)["State"]["StartedAt"] == after


def test_the_remedy_is_denied_for_protected_containers(app):
    options = (*SOUND, *healthcheck("false"))
    sick = [
        app.run("kept", options=options, labels={"tracktion.ops.protected": "true"}),
        app.run("vault", options=options),
    ]
    for name in sick:
        wait_for(name, "unhealthy", lambda state: state["Health"]["Status"] == "unhealthy")
    found = sound(look(app, containers_deny=["vault"])["containers.unhealthy"])
    assert [finding["remedy"]["denied"] for finding in found] == [True, True]


@pytest.fixture
def images(tmp_path):
    """A function that creates images without a name, which are removed after the test."""
    made = []

    def make(label="tracktion.lab=containers"):
        (tmp_path / "content").write_bytes(os.urandom(4096))
        subprocess.run(["tar", "-cf", tmp_path / "image.tar", "-C", tmp_path, "content"], check=True)
        made.append(docker("import", "--change", "LABEL %s" % label, str(tmp_path / "image.tar")).strip())
        return made[-1]

    yield make
    attempt("docker", "rmi", *made)


def exists(image):
    return attempt("docker", "image", "inspect", image).returncode == 0


def test_images_without_a_name_are_found_and_removed(app, images, tmp_path):
    image, kept, denied = images(), images("tracktion.ops.protected=true"), images()
    used = images()
    app.containers.append("%s-user" % app.name)
    docker("create", "--name", app.containers[-1], "--label", "%s=containers" % LABEL, used, "sleep")
    # Other images and build cache are on the deny list.
    with sdk_client() as engine:
        others = [name[7:19] for name in others_than(image)] + list(cached(engine))
    assert denied[7:19] in others
    mine = {"containers_prune_age_seconds": 0, "containers_deny": others}
    found = look(app, containers_reclaimable_info=1, containers_reclaimable_warning=1, **mine)
    (finding,) = sound(found["containers.reclaimable"])
    assert finding["remedy"]["id"] == "containers.prune_images"
    output = remedy("prune_images", tmp_path, check=True, **mine)
    assert '-        "image %s"' % image[7:19] in output
    assert exists(image)
    remedy("prune_images", tmp_path, **mine)
    assert not exists(image)
    assert exists(kept)
    assert exists(used)
    assert exists(denied)
    again = {"kinds": ["images"], "older_than": 0, "deny": mine["containers_deny"]}
    assert run_module("docker_prune", again)["changed"] is False


def others_than(image):
    listed = docker("images", "--all", "--quiet", "--no-trunc", "--filter", "dangling=true").split()
    return [each for each in listed if each != image]


def test_recent_images_are_kept(images):
    image = images()
    assert run_module("docker_prune", {"kinds": ["images"], "older_than": 3e8})["changed"] is False
    assert exists(image)


def test_stopped_containers_of_no_service_are_found_and_removed(app, tmp_path):
    stray, kept = (started_by_hand(app, *label) for label in ((), ("--label", "tracktion.ops.protected=true")))
    service = app.run("migration", "true")
    for name in (stray, kept, service):
        wait_for(name, "done", lambda state: state["Status"] == "exited")
    deny = [name for name in docker("ps", "--all", "--format", "{{.Names}}").split() if name not in (stray, kept)]
    mine = {"containers_prune_age_seconds": 0, "containers_deny": deny}
    found = look(app, containers_stopped_bytes_info=0, **mine)
    assert sound(found["containers.stopped_space"])[0]["remedy"]["id"] == "containers.prune_stopped"
    assert "container %s" % stray in remedy("prune_stopped", tmp_path, check=True, **mine)
    remedy("prune_stopped", tmp_path, **mine)
    left = docker("ps", "--all", "--format", "{{.Names}}").split()
    assert stray not in left
    assert {kept, service} <= set(left)
    again = {"kinds": ["containers"], "older_than": 0, "deny": deny}
    assert run_module("docker_prune", again)["changed"] is False


def started_by_hand(app, *options):
    """A container of `docker run`, without the labels of compose."""
    name = "%s-stray-%d" % (app.name, len(app.containers))
    app.containers.append(name)
    image = inspect(app.run("model", "true"))["Config"]["Image"]
    docker("run", "--name", name, "--label", "%s=containers" % LABEL, *options, image, "true")
    return name


# A project like the real one: custom container names, another name of the file, a service that has finished its work.
REAL = """
services:
  web:
    image: {image}
    container_name: {name}-the-web
    command: {command}
    init: true
    restart: always
    mem_limit: {limit}
    labels: {{{label}: containers}}
  migration:
    image: {image}
    command: ["true"]
    labels: {{{label}: containers}}
"""


@pytest.fixture
def real(app, tmp_path):
    """A project that compose has started, and a function that writes its file."""
    image = inspect(app.run("model", "true"))["Config"]["Image"]
    path, name = tmp_path / "docker-compose.yaml", app.name

    def write(limit="64m", command="[sleep, infinity]"):
        path.write_text(REAL.format(image=image, name=name, limit=limit, command=command, label=LABEL))

    write()
    app.write, app.name = write, "%s-real" % app.name
    options = (*compose_command(), "--project-name", app.name, "--file", str(path))
    run(*options, "up", "--detach")
    app.web = "%s-the-web" % name
    yield app
    # By its labels: a test may have written a file that compose cannot read.
    mine = ("--quiet", "--filter", "label=com.docker.compose.project=%s" % app.name)
    attempt("docker", "rm", "--force", "--volumes", *docker("ps", "--all", *mine).split())
    attempt("docker", "network", "rm", *docker("network", "ls", *mine).split())


def test_a_project_of_compose_has_only_configuration_findings(real):
    wait_until(lambda: not docker("ps", "--quiet", "--filter", "name=%s-migration" % real.name), "the migration", 20)
    assert {check: [each["object"] for each in found] for check, found in look(real).items()} == {
        "containers.no_healthcheck": [real.web]
    }


def test_a_change_of_the_compose_file_is_found_and_applied(real, tmp_path):
    real.write(limit="96m")
    (finding,) = sound(look(real)["containers.compose_drift"])
    offered = finding["remedy"]
    assert (offered["id"], offered["risk"], offered["denied"]) == ("containers.recreate", "disruptive", False)
    settings = {"containers_compose_command": list(compose_command())}
    before = inspect(real.web)
    output = remedy("recreate", tmp_path, check=True, evidence=offered["vars"], **settings)
    assert '+        "memory_limit_set": %d' % (96 << 20) in output
    assert inspect(real.web)["Id"] == before["Id"]
    remedy("recreate", tmp_path, evidence=offered["vars"], **settings)
    assert inspect(real.web)["HostConfig"]["Memory"] == 96 << 20
    assert "containers.compose_drift" not in look(real)
    # Neither the old nor the new evidence makes it run again.
    made = inspect(real.web)["Id"]
    assert run_module("container_recreate", offered["vars"])["result"] == "changed_meanwhile"
    plain = {"project": real.name, "service": "web"}
    assert run_module("container_recreate", plain)["result"] == "as_wanted"
    assert inspect(real.web)["Id"] == made
    # A missing container is created, and nothing else is changed.
    docker("rm", "--force", real.web)
    found = look(real)
    (finding,) = sound(found["containers.compose_missing"])
    remedy("recreate", tmp_path, evidence=finding["remedy"]["vars"], **settings)
    assert inspect(real.web)["State"]["Running"]


def test_a_limit_that_docker_update_changed_is_set_back_by_remedy_and_hint(real):
    """Compose alone sees no change: the files are those of the container's creation."""
    settings = {"compose_command": list(compose_command())}

    def drift():
        docker("update", "--memory", "128m", "--memory-swap", "128m", real.web)
        (finding,) = sound(look(real)["containers.compose_drift"])
        return finding

    created = inspect(real.web)["HostConfig"]["Memory"]
    offered = drift()["remedy"]
    assert run_module("container_recreate", {**offered["vars"], **settings})["result"] == "recreated"
    assert inspect(real.web)["HostConfig"]["Memory"] == created
    words = shlex.split(drift()["hint"].split("`")[1])
    assert words[:2] == ["docker", "compose"]
    run(*compose_command(), *words[2:])
    assert inspect(real.web)["HostConfig"]["Memory"] == created
    assert "containers.compose_drift" not in look(real)


def test_the_corrected_file_is_applied_to_a_service_in_a_crash_loop(real, tmp_path):
    real.write(command="[sh, -c, exit 3]")
    run(*compose_command(), "--project-name", real.name, "--file", str(tmp_path / "docker-compose.yaml"), "up", "-d")
    wait_until(lambda: inspect(real.web)["RestartCount"] >= 3, "three restarts", 30)
    real.write()
    found = look(real)
    (finding,) = sound(found["containers.crash_loop"])
    assert finding["remedy"] is None
    (finding,) = sound(found["containers.compose_drift"])
    before = inspect(real.web)
    # It starts again between the measurement and the remedy.
    wait_until(lambda: inspect(real.web)["RestartCount"] > before["RestartCount"], "another restart", 60)
    arguments = {**finding["remedy"]["vars"], "compose_command": list(compose_command())}
    planned = run_module("container_recreate", arguments, check=True)
    assert (planned["changed"], inspect(real.web)["Id"]) == (True, before["Id"]), planned
    assert run_module("container_recreate", arguments)["result"] == "recreated"
    assert inspect(real.web)["State"]["Running"]
    assert not {"containers.crash_loop", "containers.compose_drift"} & set(look(real))
    assert run_module("container_recreate", arguments)["changed"] is False


def test_variables_come_from_the_environment_file_of_compose(real, tmp_path):
    """With another environment file, compose ignores .env."""
    real.write(limit="${LIMIT}")
    (tmp_path / ".env").write_text("LIMIT=32m\n")
    given = tmp_path / "production.env"
    given.write_text("LIMIT=80m\n")
    options = ("--project-name", real.name, "--env-file", str(given), "--file", str(tmp_path / "docker-compose.yaml"))
    run(*compose_command(), *options, "up", "--detach")
    assert inspect(real.web)["HostConfig"]["Memory"] == 80 << 20
    assert "containers.compose_drift" not in look(real)
    # The shell that ran compose may have had the value of the container.
    given.write_text("LIMIT=96m\n")
    assert "containers.compose_drift" not in look(real)
    given.write_text("LIMIT=80m\n")
    real.write(limit="96m")
    (finding,) = sound(look(real)["containers.compose_drift"])
    arguments = {**finding["remedy"]["vars"], "compose_command": list(compose_command())}
    assert run_module("container_recreate", arguments)["result"] == "recreated"
    assert inspect(real.web)["HostConfig"]["Memory"] == 96 << 20
    # Without the file, the values are unknown.
    given.unlink()
    found = look(real)
    assert {each["status"] for each in found["containers.compose_drift"]} == {"unknown"}
    assert str(given) in found["containers.compose_drift"][0]["summary"]


def test_the_command_of_the_hint_creates_the_service_again(real):
    docker("rm", "--force", real.web)
    missed = look(real, containers_expected_services=["web"])["containers.missing_service"]
    (finding,) = sound(missed)
    words = shlex.split(finding["hint"].split("`")[1])
    assert words[:2] == ["docker", "compose"]
    run(*compose_command(), *words[2:])
    assert inspect(real.web)["State"]["Running"]
    assert "containers.missing_service" not in look(real, containers_expected_services=["web"])


def test_a_failure_of_compose_has_its_reason(real, tmp_path):
    real.write(limit="1k")
    arguments = {"project": real.name, "service": "web", "compose_command": list(compose_command())}
    outcome = run_module("container_recreate", arguments)
    assert (outcome["failed"], outcome["result"]) == (True, "failed")
    assert "emory limit" in outcome["msg"]
    # A message of the engine is returned; a message of compose may quote a password of the file.
    write_wrong(tmp_path)
    outcome = run_module("container_recreate", arguments)
    assert (outcome["failed"], outcome["result"]) == (True, "failed")
    assert "hunter2" not in str(outcome)
    assert "up --detach --force-recreate --no-deps --no-build -- web" in outcome["msg"]
    denied = run_module("container_recreate", {**arguments, "deny": ["web"]})
    assert (denied["changed"], denied["result"]) == (False, "protected")
    nowhere = run_module("container_recreate", {**arguments, "service": "nothing"})
    assert "service: nothing is not in" in nowhere["msg"]


def write_wrong(directory):
    """Write a value that compose cannot interpolate, and quotes."""
    path = directory / "docker-compose.yaml"
    path.write_text(
        path.read_text().replace("    init: true", "    environment: {PASSWORD: 'hunter2${'}\n    init: true")
    )
