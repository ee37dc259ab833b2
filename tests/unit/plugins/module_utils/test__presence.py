# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services of a host, by files of an engine and of deployments."""

from __future__ import annotations

import json

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _presence
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect

FILE = """
services:
  analysis_service: {image: a, expose: ["8001"]}
  tracklist_service: {image: b, ports: ["${ADDRESS}:8002:8002", "127.0.0.1:9002:9001", "${PORT:-7000}:7000"]}
  file_watcher: {image: c, network_mode: host}
  tools: {image: d, profiles: [tools]}
  postgres: {image: e}
"""


ENVIRONMENT = ["DATABASE_URL=postgresql://u:secret@postgres:5432/t", "REDIS_HOST=redis", "rabbitmq=no", "X=my-redis"]


class Machine:
    """A machine without processes of its own: the files of its engine are in ``root``."""

    def __init__(self, folder):
        self.root, self.opt = folder / "docker", folder / "opt"
        self.opt.mkdir()

    def container(self, number, service, file=None, state="Running", **bindings):
        folder = self.root / "containers" / ("%064x" % number)
        folder.mkdir(parents=True)
        labels = {"com.docker.compose.project": "music", "com.docker.compose.service": service}
        if file:
            labels["com.docker.compose.project.config_files"] = str(file)
        config = {
            "ID": folder.name,
            "Name": "/music-%s-1" % service,
            "State": {state: True},
            "Config": {"Labels": labels, "ExposedPorts": {"5432/tcp": {}, "53/udp": {}}, "Env": ENVIRONMENT},
            "NetworkSettings": {},
        }
        ports = {inner.strip("_") + "/tcp": [{"HostIp": "", "HostPort": outer}] for inner, outer in bindings.items()}
        (folder / "config.v2.json").write_text(json.dumps(config))
        (folder / "hostconfig.json").write_text(json.dumps({"PortBindings": ports, "NetworkMode": "bridge"}))

    def deploy(self, *path):
        file = self.opt.joinpath(*path)
        file.parent.mkdir(parents=True)
        file.write_text(FILE)
        return file

    def measure(self, *files, host=_engine.DEFAULT_HOST):
        return _presence.measure(str(self.root), host, list(map(str, files)), 1.0)

    def services(self, *files):
        return {each["service"]: each["container"] for each in self.measure(*files)["services"]}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    machine = Machine(tmp_path)
    monkeypatch.setattr(_presence, "DEPLOYMENTS", (str(machine.opt),))
    monkeypatch.setattr(_presence, "SYSTEMD", str(tmp_path / "systemd"))
    monkeypatch.setattr(_presence, "ENABLED", str(tmp_path / "enabled"))
    monkeypatch.setattr(_presence._processes, "pids", list)
    return machine


def no_engine(*_arguments):
    raise CannotConnect("no_engine", "there is no Docker engine at /var/run/docker.sock")


def test_containers_in_any_state_with_their_ports(machine):
    machine.container(1, "postgres", state="Dead", _5432="15432")
    machine.container(2, "redis")
    found = machine.measure()
    assert (found["known"], found["reason"]) == (True, None)
    (postgres,) = (each for each in found["services"] if each["service"] == "postgres")
    assert postgres == {
        "service": "postgres",
        "project": "music",
        "container": "music-postgres-1",
        "ports": [{"host": 15432, "container": 5432}, {"host": None, "container": 5432}],
        "host_network": False,
        "names": ["postgres", "redis"],
    }


def test_services_of_a_compose_file_without_a_container(machine):
    machine.container(1, "postgres", machine.deploy("music", "compose.yaml"))
    found = {each["service"]: each for each in machine.measure()["services"]}
    assert set(found) == {"postgres", "analysis_service", "tracklist_service", "file_watcher"}
    assert found["analysis_service"]["ports"] == [{"host": None, "container": 8001}]
    assert found["tracklist_service"]["ports"] == [
        {"host": 8002, "container": 8002},
        {"host": 9002, "container": 9001},
        {"host": 7000, "container": 7000},
    ]
    assert found["file_watcher"]["host_network"]
    assert {each["container"] for name, each in found.items() if name != "postgres"} == {None}


@pytest.mark.parametrize("path", [("music", "compose.yml"), ("apps", "music", "docker-compose.yaml")])
def test_a_deployment_is_found_after_all_containers_were_removed(machine, path):
    (machine.root / "containers").mkdir(parents=True)
    machine.deploy(*path)
    assert set(machine.services()) == {"postgres", "analysis_service", "tracklist_service", "file_watcher"}


def test_a_compose_file_can_be_named(machine, tmp_path):
    (machine.root / "containers").mkdir(parents=True)
    file = tmp_path / "elsewhere.yaml"
    file.write_text(FILE)
    assert machine.services() == {}
    assert "file_watcher" in machine.services(file)


def test_a_compose_file_that_cannot_be_used_is_left_out(machine):
    (machine.root / "containers").mkdir(parents=True)
    machine.deploy("music", "compose.yaml").write_text("file_watcher: [")
    assert machine.services() == {}


def test_a_machine_without_an_engine_has_no_containers(machine, monkeypatch):
    monkeypatch.setattr(_presence, "AskedEngine", no_engine)
    found = machine.measure()
    assert (found["known"], found["services"], found["programs"]) == (True, [], [])


def test_containers_that_cannot_be_seen_are_not_known(machine, tmp_path):
    found = machine.measure(host="unix://%s" % tmp_path)
    assert (found["known"], found["services"]) == (False, [])
    assert found["reason"].startswith("the containers of this host are not known: ")
    assert found["hint"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["/usr/lib/postgresql/17/bin/postgres", "-D", "/var/lib/postgresql/17/main"], "postgres"),
        (["postgres: walwriter "], "postgres"),
        (["/usr/bin/redis-server 127.0.0.1:6379"], "redis"),
        (["/usr/lib/erlang/erts/bin/beam.smp", "-W", "w", "--", "-root", "/x", "-s", "rabbit", "boot"], "rabbitmq"),
        (["/usr/bin/python3", "/opt/tracktion/file_watcher.py"], "file_watcher"),
        (["python3", "-m", "services.analysis_service.src.main"], "analysis_service"),
        (["psql", "-h", "postgres"], None),
        (["grep", "file_watcher", "x"], None),
        ([], None),
    ],
)
def test_programs_outside_of_containers(machine, monkeypatch, words, name):
    monkeypatch.setattr(_presence._processes, "pids", lambda: [1])
    monkeypatch.setattr(_presence._processes, "arguments", lambda _pid: words)
    assert machine.measure()["programs"] == ([name] if name else [])


def test_units_that_systemd_starts_at_boot(machine, tmp_path):
    (tmp_path / "systemd").mkdir()
    wanted = tmp_path / "enabled" / "multi-user.target.wants"
    wanted.mkdir(parents=True)
    for unit in ("postgresql.service", "redis-server.service", "tracktion-file-watcher.service", "cron.service"):
        (wanted / unit).touch()
    assert machine.measure()["programs"] == ["file_watcher", "postgres", "redis"]
