# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compose files beside the containers that compose made of them: what differs, and what a shell may have decided."""

from __future__ import annotations

import contextlib
import os
import secrets

import pytest

from tests.integration.containers import look, sound
from tests.integration.modules import run_module
from tests.lab.engine import compose_command, docker
from tests.lab.images import ensure_image
from tests.lab.servers import LABEL, PROCESS_LABEL, this_process
from tests.lab.shell import attempt, run
from tests.lab.throwaway import inspect


class Deployment:
    """A project that compose creates from files in a directory."""

    def __init__(self, directory):
        self.directory = directory
        self.name = "tracktion-lab-%s" % secrets.token_hex(4)
        self.files = []

    def write(self, text, name="compose.yaml", **values):
        values = {"image": ensure_image("bookworm"), "name": self.name, **values}
        values["mine"] = "%s: containers, %s: %s" % (LABEL, PROCESS_LABEL, this_process())
        for key, value in values.items():
            text = text.replace("@%s@" % key, str(value))
        path = self.directory / name
        path.write_text(text)
        if str(path) not in self.files:
            self.files.append(str(path))

    def compose(self, *arguments, **shell):
        """Run compose in a shell with these variables."""
        files = [word for path in self.files for word in ("--file", path)]
        return run(*compose_command(), "--project-name", self.name, *files, *arguments, env=shell or None)

    def up(self, *arguments, **shell):
        self.compose("up", "--detach", *arguments, **shell)

    def container(self, service):
        return "%s-%s-1" % (self.name, service)

    def drift(self):
        """Return the findings about differences by object, without the name of the project."""
        found = look(self).get("containers.compose_drift", [])
        return {each["object"].replace(self.name + "-", ""): each for each in (sound(found) if found else [])}

    def recreate(self, service="web", check=False, **more):
        arguments = {"project": self.name, "service": service, "compose_command": list(compose_command()), **more}
        return run_module("container_recreate", arguments, check=check)


@pytest.fixture
def stack(tmp_path):
    found = Deployment(tmp_path)
    try:
        yield found
    finally:
        mine = ("--quiet", "--filter", "label=com.docker.compose.project=%s" % found.name)
        attempt("docker", "rm", "--force", "--volumes", *docker("ps", "--all", *mine).split())
        attempt("docker", "network", "rm", *docker("network", "ls", *mine).split())
        attempt("docker", "volume", "rm", *docker("volume", "ls", *mine).split())


@contextlib.contextmanager
def second_name():
    """A second tag of the image of the lab."""
    name = "tracktion-lab-tag-%s" % secrets.token_hex(4)
    docker("tag", ensure_image("bookworm"), name + ":1")
    docker("tag", ensure_image("bookworm"), name + ":2")
    try:
        yield name
    finally:
        attempt("docker", "rmi", name + ":1", name + ":2")


# Each form of a variable, in each part that is compared.
FORMS = """
services:
  web:
    image: "${REGISTRY_NAME}:${TAG:-1}"
    command: [sleep, "${SECONDS_TO_SLEEP-infinity}"]
    init: true
    mem_limit: ${LIMIT:-${OTHER_LIMIT:-64m}}
    environment:
      PLAIN: $MODE
      BRACED: ${MODE}
      DEFAULT: ${MODE:-production}
      UNSET: ${MODE-production}
      REQUIRED: ${MODE:?must be set}
      DEMANDED: ${MODE?must be set}
      ALTERNATIVE: ${MODE:+with}${MODE+also}
      NESTED: ${NONE:-${MODE:-production}}
      PASSED:
      FROM_FILE: ${IN_FILE}
      PRICE: $$5
    ports: ["127.0.0.1:${PORT:-0}:80"]
    volumes: ["${DATA:-./data}:/data:ro", "store:/store"]
    networks: [inner]
    stop_grace_period: 0s
    labels: {@mine@}
  other: {image: @image@, command: [sleep, infinity], network_mode: none, labels: {@mine@}}
networks: {inner: {name: "${NET:-@name@-inner}"}}
volumes: {store: {}}
"""
SHELL = {"MODE": "debug", "SECONDS_TO_SLEEP": "1d", "LIMIT": "80m", "PASSED": "yes", "IN_FILE": "shell", "PORT": "0"}


def test_what_the_shell_of_the_deployment_decided_is_neither_a_difference_nor_replaced(stack, tmp_path):
    with second_name() as name:
        (tmp_path / ".env").write_text("REGISTRY_NAME=%s\nIN_FILE=file\n" % name)
        (tmp_path / "elsewhere").mkdir()
        stack.write(FORMS)
        shell = {**SHELL, "TAG": "2", "DATA": str(tmp_path / "elsewhere"), "NET": stack.name + "-other"}
        stack.up(**shell)
        web = stack.container("web")
        assert inspect(web)["Config"]["Image"] == name + ":2"
        assert stack.drift() == {}
        # The file changes in a certain value, too: it is reported, and cannot be applied without the variables.
        stack.write(FORMS.replace("PRICE: $$5", "PRICE: $$6"))
        found = stack.drift()
        assert set(found) == {"web-1 environment"}
        finding = found["web-1 environment"]
        assert finding["remedy"] is None
        assert "PRICE" in finding["summary"]
        for variable in ("TAG", "LIMIT", "MODE", "DATA", "NET", "IN_FILE"):
            assert "%s=VALUE" % variable in finding["hint"]
        before = inspect(web)["Id"]
        for check in (True, False):
            outcome = stack.recreate("web", check=check)
            assert (outcome["failed"], outcome["changed"], outcome["result"]) == (True, False, "not_certain")
            assert "TAG" in outcome["msg"]
        assert inspect(web)["Id"] == before
        # Whatever the variables are, the fixed parts of the texts are certain.
        stack.write(
            FORMS.replace('"${REGISTRY_NAME}:', '"${REGISTRY_NAME}-slim:')
            .replace("ALTERNATIVE: ", "ALTERNATIVE: or-")
            .replace('[sleep, "$', '[rest, "$')
        )
        found = stack.drift()
        assert set(found) == {"web-1 image", "web-1 environment", "web-1 command"}
        assert "${REGISTRY_NAME}-slim:${TAG:-1}" in found["web-1 image"]["summary"]
        assert "ALTERNATIVE" in found["web-1 environment"]["summary"]
        # A lost container: nothing confirms the variables.
        stack.write(FORMS)
        docker("rm", "--force", web)
        (missing,) = sound(look(stack)["containers.compose_missing"])
        assert missing["remedy"] is None
        assert "TAG=VALUE" in missing["hint"]
        assert stack.recreate("web", check=True)["result"] == "not_certain"


def test_variables_that_the_container_confirms_are_applied(stack, tmp_path):
    """The container runs with the values of .env and of the file, so that compose changes nothing else."""
    with second_name() as name:
        (tmp_path / ".env").write_text("REGISTRY_NAME=%s\nIN_FILE=file\nMODE=debug\n" % name)
        stack.write(FORMS)
        stack.up()
        web = stack.container("web")
        assert stack.drift() == {}
        stack.write(FORMS.replace("PRICE: $$5", "PRICE: $$6"))
        (finding,) = stack.drift().values()
        assert finding["remedy"]["id"] == "containers.recreate", finding["hint"]
        evidence = finding["remedy"]["vars"]
        planned = stack.recreate(check=True, **evidence)
        assert (planned["changed"], planned["result"]) == (True, "planned")
        assert stack.recreate(**evidence)["result"] == "recreated"
        assert "PRICE=$6" in inspect(web)["Config"]["Env"]
        assert stack.drift() == {}
        # A change of .env: it differs, or the shell of the deployment had another value.
        (tmp_path / ".env").write_text("REGISTRY_NAME=%s\nIN_FILE=file\nMODE=other\n" % name)
        assert stack.drift() == {}


EVERYTHING = """
services:
  web:
    image: @image@
    stop_grace_period: 0s
    command: sh -c "exec sleep infinity"
    environment: [KEPT=1, CHANGED=old, REMOVED=1, "DOLLAR=a$$b", "NUMBER=08"]
    env_file: [web.env]
    ports: ["127.0.0.1::80", "127.0.0.1:@port@:81/udp", {target: 82, protocol: tcp}]
    volumes: ["./data:/data", "store:/store:ro", "/anonymous", {type: tmpfs, target: /cache}]
    networks: {inner: {aliases: [www]}, outer: }
    tmpfs: [/scratch]
    labels: {@mine@}
  replica: {image: @image@, command: [sleep, infinity], scale: 2, labels: {@mine@},
            stop_grace_period: 0s, mem_limit: 1.5e8, environment: {ON: yes, RATE: 1.50}}
  job: {image: @image@, command: ["true"], labels: {@mine@}, network_mode: none}
  tool: {image: @image@, profiles: [tools]}
  helper: {image: @image@, command: [sleep, infinity], network_mode: "service:web", labels: {@mine@}}
networks: {inner: {}, outer: {name: @name@-outer}}
volumes: {store: {}}
"""
CHANGED = """
services:
  web:
    image: @image@
    stop_grace_period: 0s
    command: sh -c "exec sleep 1000000"
    environment: {KEPT: 1, CHANGED: new, ADDED: 2, DOLLAR: a$$b, NUMBER: "08"}
    env_file: [web.env]
    ports: ["127.0.0.1::80", "127.0.0.1:@other_port@:81/udp", "82"]
    volumes: ["./other:/data", "store:/store", "/anonymous"]
    networks: [outer]
    labels: {@mine@}
  job: {image: @image@, command: ["true"], labels: {@mine@}}
  helper: {image: @image@, command: [sleep, infinity], network_mode: "service:web", labels: {@mine@}}
networks: {inner: {}, outer: {name: @name@-outer}}
volumes: {store: {}}
"""


def test_every_part_that_differs_is_named(stack, tmp_path):
    (tmp_path / "web.env").write_text("IN_FILE=hunter2\nQUOTED='a$b'\nCHANGED=by-the-service\n")
    ports = {"port": 20000 + os.getpid() % 9000, "other_port": 30000 + os.getpid() % 2000}
    stack.write(EVERYTHING, **ports)
    stack.up()
    # Nothing differs in what compose has just created.
    found = look(stack)
    assert stack.drift() == {}, found
    assert not {"containers.compose_orphan", "containers.compose_missing"} & set(found)
    stack.write(CHANGED, **ports)
    (tmp_path / "web.env").write_text("IN_FILE=hunter3\nQUOTED='a$b'\nCHANGED=by-the-service\n")
    found = look(stack)
    assert [each["object"] for each in sound(found["containers.compose_orphan"])] == [
        "%s-replica-%d" % (stack.name, number) for number in (1, 2)
    ]
    drift = stack.drift()
    assert set(drift) == {
        "web-1 command",
        "web-1 environment",
        "web-1 ports",
        "web-1 mounts",
        "web-1 networks",
        "job-1 networks",
    }
    environment = drift["web-1 environment"]["summary"]
    assert set(environment.rpartition(": ")[2].split(", ")) == {
        "ADDED",
        "CHANGED",
        "IN_FILE",
        "REMOVED",
    }
    assert "hunter" not in str(drift)
    assert "sleep 1000000" in drift["web-1 command"]["summary"]
    for port in ("port", "other_port"):
        assert str(ports[port]) in drift["web-1 ports"]["summary"]
    assert str(tmp_path / "other") in drift["web-1 mounts"]["summary"]
    assert stack.name + "_inner" in drift["web-1 networks"]["summary"]
    # Compose applies all of it, and nothing is left.
    assert drift["web-1 command"]["remedy"]["id"] == "containers.recreate"
    assert stack.recreate("web")["result"] == "recreated"
    assert set(stack.drift()) == {"job-1 networks"}


LAYERED = """
services:
  web: {image: @image@, command: [sleep, infinity], mem_limit: 64m, ports: ["127.0.0.1::80"], labels: {@mine@},
        environment: {A: 1, B: 2}, volumes: ["./one:/one"]}
  gone: {image: @image@, command: [sleep, infinity], labels: {@mine@}}
"""
SECOND = """
services:
  web:
    ports: !override ["127.0.0.1::81"]
    environment: {A: !reset null, C: 3}
    mem_limit: !reset null
    volumes: ["./two:/two"]
  gone: !reset null
"""


def test_the_tags_override_and_reset(stack):
    stack.write(LAYERED)
    stack.write(SECOND, name="second.yaml")
    stack.up()
    found = look(stack)
    assert not {"containers.compose_drift", "containers.compose_missing", "containers.compose_orphan"} & set(found), (
        found
    )
    web = inspect(stack.container("web"))
    assert web["HostConfig"]["Memory"] == 0
    assert list(web["HostConfig"]["PortBindings"]) == ["81/tcp"]
    stack.write(SECOND.replace('["127.0.0.1::81"]', '["127.0.0.1::82"]'), name="second.yaml")
    assert set(stack.drift()) == {"web-1 ports"}


def test_services_of_a_project_may_come_from_different_files(stack, tmp_path):
    """Each is compared with its own file; what an older file has left is an orphan."""
    for name in ("web", "worker", "old"):
        stack.files = []
        stack.write(
            "services: {%s: {image: @image@, command: [sleep, infinity], labels: {@mine@}}}" % name, name + ".yaml"
        )
        stack.up()
    found = look(stack)
    assert not {"containers.compose_drift", "containers.compose_missing", "containers.compose_orphan"} & set(found), (
        found
    )
    (tmp_path / "old.yaml").unlink()
    (orphan,) = sound(look(stack)["containers.compose_orphan"])
    assert orphan["object"] == stack.container("old")
    assert orphan["status"] == "warning"
