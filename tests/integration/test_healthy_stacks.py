# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compose projects that are healthy, but of an unusual kind: not one finding above info."""

from __future__ import annotations

import contextlib
import secrets
import urllib.request

import pytest

from tests.integration.areas import diagnose
from tests.integration.containers import look
from tests.integration.healthy import assert_quiet
from tests.integration.test_containers_compose import Deployment
from tests.lab.engine import docker
from tests.lab.images import ensure_image
from tests.lab.ports import free_ports
from tests.lab.shell import LabError, attempt, wait_until
from tests.lab.stack import remove_project
from tests.lab.throwaway import inspect

STACK = """
x-base: &base
  image: "@image@"
  command: [python3, -m, http.server, "8000", --directory, /srv]
  init: true
  stop_grace_period: 1s
  labels: {@mine@}
services:
  # Scaled, with ports that the engine chooses, and without a health check.
  scaled:
    <<: *base
    deploy: {replicas: 3, resources: {limits: {memory: 64m, cpus: "0.5"}}}
    ports: ["127.0.0.1::8000"]
    restart: unless-stopped
  anonymous:
    <<: *base
    ports: ["8000"]
    expose: ["9000"]
    volumes: [/data]
    healthcheck: {test: [CMD, "true"], interval: 1s}
  # Not active on purpose.
  tool: {<<: *base, profiles: [tools]}
  zero: {<<: *base, scale: 0}
  # Jobs.
  migrate: {<<: *base, command: ["true"], restart: on-failure}
  seed: {<<: *base, command: [sh, -c, "exit 0"], restart: "no"}
  restricted:
    <<: *base
    depends_on:
      migrate: {condition: service_completed_successfully}
      seed: {condition: service_completed_successfully}
      anonymous: {condition: service_healthy}
    healthcheck: {disable: true}
    read_only: true
    tmpfs: ["/tmp:size=1m", "/run"]
    user: daemon
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    secrets: [token]
    configs: [{source: conf, target: /etc/app.conf}]
    volumes: ["./source:/source:ro", "cache:/var/cache/app", "shared:/shared:ro"]
    networks: {front: {aliases: [www]}, outside: }
    sysctls: {net.core.somaxconn: 1024}
    ulimits: {nofile: {soft: 1024, hard: 2048}}
    extra_hosts: ["host.docker.internal:host-gateway"]
    restart: "no"
  sidecar:
    <<: *base
    command: [sleep, infinity]
    network_mode: "service:restricted"
    pid: "service:restricted"
    healthcheck: {test: NONE}
  on_host: {<<: *base, command: [python3, -m, http.server, "@port@"], network_mode: host, pid: host, restart: always}
  alone: {<<: *base, network_mode: none}
  logs_none: {<<: *base, logging: {driver: none}}
  logs_local: {<<: *base, logging: {driver: local, options: {max-size: 1m}}}
  named: {<<: *base, container_name: "My.App_@name@", hostname: My.Host}
  "with.dots_And-Caps": {<<: *base}
  forks:
    <<: *base
    init: false
    command: [sh, -c, "while :; do for i in 1 2 3; do sleep 0.02 & done; wait; sleep 0.1; done"]
  # Its memory is full of pages of files.
  pages:
    <<: *base
    mem_limit: 32m
    command: [sh, -c, "head -c 60000000 /dev/zero > /data/file; cat /data/file > /dev/null; touch /data/done; sleep 1d"]
    volumes: ["cache:/data"]
  quota: {<<: *base, cpus: 0.2}
networks: {front: {}, outside: {external: true, name: @name@-outside}}
volumes: {cache: {}, shared: {external: true, name: @name@-shared}}
secrets: {token: {file: ./token}}
configs: {conf: {file: ./app.conf}}
"""
# One that a shell has deployed, without an .env file.
SHELL = """
services:
  web:
    image: "${IMAGE:-registry.example/web:latest}"
    command: [python3, -m, http.server, "${PORT:-80}"]
    init: true
    mem_limit: ${LIMIT:-16m}
    ports: ["127.0.0.1:${PORT:-80}:${PORT:-80}"]
    environment: {MODE: "${MODE:-production}"}
    restart: ${RESTART:-always}
    labels: {@mine@}
"""


@contextlib.contextmanager
def deployment(directory):
    """Yield a compose project, gone when the context is left."""
    found = Deployment(directory)
    try:
        yield found
    finally:
        mine = ("--quiet", "--filter", "label=com.docker.compose.project=%s" % found.name)
        attempt("docker", "rm", "--force", "--volumes", *docker("ps", "--all", *mine).split())
        attempt("docker", "network", "rm", found.name + "-outside", *docker("network", "ls", *mine).split())
        attempt("docker", "volume", "rm", found.name + "-shared", *docker("volume", "ls", *mine).split())


# A busy machine throttles a container that starts.
BUSY = {"containers_throttled_floor": 10**6}


def answers(container):
    """Return whether all published ports of a container answer."""
    addresses = [line.rpartition(" ")[2] for line in docker("port", container).splitlines()]
    try:
        for address in addresses:
            urllib.request.urlopen("http://" + address, timeout=5).close()
    except OSError:
        return False
    return bool(addresses)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    directory = tmp_path_factory.mktemp("Healthy.Stack")
    with deployment(directory) as found:
        (directory / "source").mkdir()
        (directory / "source" / "main.py").write_text("")
        (directory / "token").write_text(secrets.token_hex(8))
        (directory / "app.conf").write_text("")
        docker("network", "create", found.name + "-outside")
        docker("volume", "create", found.name + "-shared")
        (port,) = free_ports(1)
        found.write(STACK, port=port)
        found.up()
        pages = found.container("pages")
        wait_until(lambda: not attempt("docker", "exec", pages, "test", "-e", "/data/done").returncode, "the pages", 30)
        anonymous = found.container("anonymous")
        wait_until(lambda: inspect(anonymous)["State"]["Health"]["Status"] == "healthy", "the health check", 30)
        for name in ("%s-scaled-%d" % (found.name, number) for number in (1, 2, 3)):
            wait_until(lambda name=name: answers(name), name, 60)
        wait_until(lambda: answers(found.container("anonymous")), "anonymous", 60)
        yield found


def test_a_stack_of_all_kinds(stack):
    found = look(stack, **BUSY)
    assert_quiet("compose stack of all kinds", found)
    # Jobs and profiles are no missing services, and what "run" has started is no service.
    with contextlib.suppress(LabError):
        stack.compose("run", "seed", "sh", "-c", "exit 3")
    assert_quiet("after a failed run by hand", look(stack, **BUSY))
    # As "docker container prune" does.
    docker("rm", stack.container("migrate"), stack.container("seed"))
    assert_quiet("jobs done and removed", look(stack, **BUSY))


def test_its_network_and_logs(stack):
    project = {"tracktion_compose_project": stack.name}
    found = diagnose("network", {**project, "network_paths": [], "network_check_resolver": False})
    # The port is published over IPv6, too.
    assert_quiet("its network", found, ("network.published_port_dropped",))
    # The log driver none keeps nothing. The kernel's log is that of all tests.
    found = diagnose("logs", {**project, "logs_kernel_log": ""})
    assert_quiet("its logs", found, ("logs.errors",))
    assert [each["object"] for each in found.get("logs.errors", ())] == ["logs_none"]


def test_a_deployment_by_variables_of_a_shell(tmp_path):
    with deployment(tmp_path) as found:
        found.write(SHELL)
        (port,) = free_ports(1)
        found.up(IMAGE=ensure_image("bookworm"), PORT=str(port), LIMIT="64m", MODE="debug", RESTART="unless-stopped")
        assert inspect(found.container("web"))["HostConfig"]["Memory"] == 64 << 20
        assert_quiet("deployed by shell variables", look(found, **BUSY))


def test_what_a_deleted_checkout_has_left_of_a_stack_is_removed():
    """With its volumes, a new stack of the name would have other passwords than its database."""
    project = "tracktion-lab-%s" % secrets.token_hex(4)
    volume = docker("volume", "create", "--label", "com.docker.compose.project=%s" % project).strip()
    assert remove_project(project)
    assert attempt("docker", "volume", "inspect", volume).returncode == 1
    assert not remove_project(project)
