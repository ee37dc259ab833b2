# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts to which nothing of the defaults belongs: without any service, and with another stack."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

import pytest

from tests.integration.areas import diagnose, evaluate, visit
from tests.integration.inotify_faults import private_mounts
from tests.integration.playbooks import ROOT, inventory, run_playbook
from tests.lab.bad_hosts import bad_hosts
from tests.lab.engine import docker, ensure
from tests.lab.paths import CONTAINER_FILES
from tests.lab.shell import run, succeeds, wait_until
from tests.lab.throwaway import inspect, project

BAD = {"critical", "warning", "unknown"}
# The kernel of the host is that of this machine.
MACHINE = {"logs_kernel_log": "", "network_check_resolver": False}


@pytest.fixture(scope="module")
def nothing(tmp_path_factory):
    """A diagnosis of a host without any service, with the example inventory and its two passwords."""
    folder = tmp_path_factory.mktemp("nothing")
    example = folder / "example.yml"
    example.write_text((ROOT / "examples" / "tracktion.yml").read_text().replace("music-1:", "plain:"))
    with bad_hosts("not-here", ("plain",)) as hosts:
        machine = inventory(folder / "machine.yml", {"plain": hosts.variables["plain"]}, **MACHINE)
        passwords = {"POSTGRES_PASSWORD": "secret", "RABBITMQ_PASSWORD": "secret"}
        yield run_playbook(
            "diagnose", example, folder, "-i", str(machine), extra={"ansible_become": False}, environment=passwords
        )


def test_a_host_with_nothing_is_no_fault(nothing):
    assert nothing.code == 0, nothing.output
    # The kernel, and how busy it is, are those of this machine.
    areas = {finding["area"] for finding in nothing.report["findings"]}
    assert areas <= {"file_watching", "host", "host_resources"}, nothing.output
    assert not nothing.findings("file_watching.watcher_not_running")
    (host,) = nothing.report["hosts"]
    absent = {area["name"]: area["not_here"] for area in host["areas"] if area["not_here"]}
    assert absent == {
        "audio_processing": ["analysis_service"],
        "cache": ["Redis at localhost:6379"],
        "database": ["PostgreSQL at localhost:5432"],
        "message_queue": ["RabbitMQ at localhost:5672"],
        "network": ["connections of analysis_service, tracklist_service, file_watcher"],
        "recovery": ["backups in /var/backups/tracktion"],
        "service_health": [
            "analysis_service",
            "tracklist_service",
            "file_watcher",
            "cataloging_service",
            "file-rename-service",
        ],
    }
    assert nothing.report["counts"]["not_here"] == 11


def test_what_is_not_here_is_a_line_per_area(nothing):
    lines = [line.split()[2] for line in nothing.output.splitlines() if line.startswith("  NOT HERE  ")]
    named = ["audio_processing", "cache", "database", "message_queue", "network", "recovery", "service_health"]
    assert lines == ["%s:" % name for name in named]
    assert "11 not here" in nothing.output


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another stack, with a stopped and a running server of names that Tracktion has, too.

    Yields a function that returns the findings of an area on a host with this stack only. Its Redis is at localhost.
    """
    ensure()
    folder = tmp_path_factory.mktemp("other")
    file = folder / "compose.yaml"
    file.write_text("services: {postgres: {image: a}, redis: {image: b}, web: {image: c}}")
    with project("not-here", "shop-%s" % secrets.token_hex(3)) as shop:
        shop.compose_file = str(file)
        redis = shop.run(
            "redis",
            "/bin/sh",
            "/lab/redis.sh",
            "--requirepass",
            "x",
            options=("--volume", "%s:/lab:ro" % CONTAINER_FILES),
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = "127.0.0.1:%d:8000" % free.getsockname()[1]
        shop.run("web", "python3", "-m", "http.server", options=("--publish", port))
        docker("wait", shop.run("postgres", "true"))
        # The files of the engine, with the containers of this stack only.
        containers = folder / "docker" / "containers"
        containers.mkdir(parents=True)
        for name in shop.containers:
            identity = inspect(name)["Id"]
            (containers / identity).symlink_to(Path("/var/lib/docker/containers") / identity)
        address = inspect(redis)["NetworkSettings"]["IPAddress"]
        (folder / "hosts").write_text("%s localhost\n" % address)
        wait_until(lambda: succeeds("docker", "exec", redis, "redis-cli", "-a", "x", "ping"), "redis", 30)

        def at_localhost():
            private_mounts()
            run("mount", "--bind", folder / "hosts", "/etc/hosts")

        def findings(name, **settings):
            settings = {"tracktion_docker_root": str(folder / "docker"), **MACHINE, **settings}
            area, outcome, known = visit(name, {**settings, "tracktion_compose_project": shop.name}, at_localhost)
            return evaluate(area, outcome, {**known, "tracktion_compose_project": ""})

        yield findings


# The checks of an area that are not about this machine.
AREAS = {
    "audio_processing": "",
    "cache": "",
    "containers": "missing_service stopped compose_missing crash_loop unhealthy",
    "database": "",
    "file_watching": "watcher_not_running watcher_restarting watcher_not_connected_to_broker",
    "message_queue": "",
    "network": "service_not_looked_from not_on_common_network path_dns path_refused path_timeout path_http",
    "service_health": "",
}


@pytest.mark.parametrize("name", AREAS)
def test_another_stack_is_no_fault(other, name):
    wanted = {"%s.%s" % (name, check) for check in AREAS[name].split()}
    found = [each for check, entries in other(name).items() if not wanted or check in wanted for each in entries]
    assert [finding for finding in found if finding["status"] in BAD] == []


def test_what_a_user_has_set_is_evaluated_on_any_host(other):
    (finding,) = other("cache", cache_login_host="localhost")["cache.unreachable"]
    assert (finding["status"], "authentication" in finding["summary"].lower()) == ("critical", True), finding
    (finding,) = other("containers", containers_expected_services=["rabbitmq"])["containers.missing_service"]
    assert (finding["status"], finding["object"]) == ("critical", "rabbitmq")
    # The default of the role, set by the user.
    watcher = other("file_watching", file_watching_watcher_service="file_watcher")
    assert [each["status"] for each in watcher["file_watching.watcher_not_running"]] == ["critical"]
    endpoint = {"name": "api", "url": "http://localhost:9/health"}
    found = diagnose("service_health", {"service_health_endpoints": [endpoint]})["service_health.unreachable"]
    assert [(each["status"], each["object"]) for each in found] == [("critical", "api")]
