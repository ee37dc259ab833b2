# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests for whether the service that is meant answers at an endpoint."""

from __future__ import annotations

import time

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _port_owner
from ansible_collections.tracktion.ops.plugins.module_utils._docker._port_owner import INVISIBLE, Owner
from ansible_collections.tracktion.ops.plugins.module_utils._http._responders import Contact, Containers
from tests.unit.plugins.engine_files import RUNNING, STOPPED, bound, container, host

OPTIONS = {
    "project": None,
    "docker_root": "/nonexistent",
    "docker_host": "unix:///nonexistent",
    "timeout": 1.0,
    "deadline": 1.0,
    "restarts": 3,
    "restarts_window": 300.0,
    "starting_seconds": 30.0,
}


def known(*containers, **options):
    found = Containers({**OPTIONS, **options}, [])
    found.host = type("Host", (), {"containers": list(host(*containers).values())})
    return found


def relation(found, service, by, port=8001, proxy=None):
    """Return the relation of a container, by its name, or of a process, by its command."""
    owner = next((Owner(each) for each in found.host.containers if each.name == by), Owner(None, 99, by))
    return found.relation(Contact(service, "127.0.0.1", port, proxy), owner)


API = container("app-api-1", "api", networks={"n": {"IPAddress": "172.18.0.5"}})
API_DOWN = container("app-api-1", "api", state=STOPPED)
API_WANTS = container("app-api-1", "api", state=STOPPED, wanted=bound(8001))
WEB = container("app-web-1", "web", ports=bound(8001))
NGINX = container("app-proxy-1", "proxy", ports=bound(8001), image="nginx:1.25")
PYTHON = "python3 -m http.server"


@pytest.mark.parametrize(
    ("containers", "by", "expected"),
    [
        ([API], "app-api-1", "service"),
        # Another container or process.
        ([API, WEB], "app-web-1", "other"),
        ([API_DOWN, WEB], "app-web-1", "other"),
        ([API_WANTS, WEB], "app-web-1", "other"),
        ([WEB], "app-web-1", "other"),
        ([API_WANTS], PYTHON, "other"),
        ([API_DOWN], PYTHON, "other"),
        # Proxies, which do not answer for a service that is to publish the port itself.
        ([API, NGINX], "app-proxy-1", "proxy"),
        ([NGINX], "app-proxy-1", "proxy"),
        ([API], "nginx", "proxy"),
        ([API], "sshd", "proxy"),
        ([API_WANTS, NGINX], "app-proxy-1", "other"),
        ([API_WANTS], "nginx", "other"),
        ([API_DOWN, NGINX], "app-proxy-1", "proxy"),
        # Not known, or nothing that belongs here.
        ([API_WANTS], "docker-proxy", None),
        ([API_WANTS], "dockerd", None),
        ([API_WANTS], "rootlessport", None),
        ([API_WANTS], "conmon", None),
        ([], PYTHON, None),
        ([container("app-db-1", "db")], PYTHON, None),
        ([container("app-api-blue-1", "api-blue")], "app-api-blue-1", None),
        # Replicas, of which only one publishes the port.
        ([container("app-api-2", "api", ports=bound(8001)), API], "app-api-2", "service"),
        ([container("app-api-2", "api", ports=bound(8001)), API_WANTS], "app-api-2", "service"),
    ],
)
def test_who_answers(containers, by, expected):
    assert relation(known(*containers), "api", by) == expected


def test_a_gateway_error_is_that_of_a_proxy():
    """Also of a program that is not known as a proxy, while the service is down."""
    found = known(API_DOWN, WEB)
    (web,) = [each for each in found.host.containers if each.name == "app-web-1"]
    assert found.relation(Contact("api", "127.0.0.1", 8001, None, 502), Owner(web)) == "proxy"
    assert found.relation(Contact("api", "127.0.0.1", 8001, None, 404), Owner(web)) == "other"


def test_nothing_is_known_without_a_visible_process():
    found = known(API_WANTS)
    for owner in (None, INVISIBLE):
        assert found.relation(Contact("api", "127.0.0.1", 8001, None), owner) is None


def test_a_service_of_a_compose_file_without_a_container_belongs_here(tmp_path):
    file = tmp_path / "compose.yaml"
    file.write_text("services: {api: {image: app}, db: {image: db}}")
    source = {"com.docker.compose.project.config_files": str(file), "com.docker.compose.project.working_dir": "/srv"}
    found = known(container("app-db-1", "db", labels=source))
    assert relation(found, "api", PYTHON) == "other"
    assert relation(found, "web", PYTHON) is None
    responder = found.responder(Contact("api", "127.0.0.1", 8001, None), Owner(None, 99, PYTHON))
    assert responder["compose_options"][-2:] == ["--file", str(file)]
    assert responder["pid"] == 99


def test_a_named_proxy_is_the_only_one():
    found = known(API, WEB, NGINX)
    assert relation(found, "api", "app-web-1", proxy="web") == "proxy"
    assert relation(found, "api", "app-web-1", proxy="app-web-1") == "proxy"
    assert relation(found, "api", "app-proxy-1", proxy="web") == "other"
    assert relation(found, "api", "app-api-1", proxy="web") == "service"


def test_a_container_that_is_connected_to_the_service_forwards_to_it(monkeypatch):
    found = known(API, WEB)
    monkeypatch.setattr(_port_owner, "peers", lambda _pid: {"172.18.0.5"})
    assert relation(found, "api", "app-web-1") == "proxy"


def test_containers_that_share_a_network_are_one_service():
    vpn = container("vpn", "vpn", ports=bound(8001))
    sharing = container("app-api-1", "api", mode="container:vpn")
    assert relation(known(vpn, sharing), "api", "vpn") == "service"
    down = container("app-api-1", "api", state=STOPPED, mode="container:vpn")
    assert relation(known(vpn, down), "api", "vpn") == "other"


def test_a_service_of_another_project_is_another_service():
    other = container("staging-api-1", "api", ports=bound(8001), project="staging")
    assert relation(known(other, API, project="app"), "api", "staging-api-1") == "other"
    assert relation(known(other, API), "api", "staging-api-1") == "service"


@pytest.mark.parametrize(
    ("state", "more", "expected"),
    [
        (dict(RUNNING, StartedAt="{now}"), {}, (True, False)),
        (RUNNING, {}, (False, False)),
        (dict(RUNNING, StartedAt="{now}", Health={"Status": "healthy"}), {}, (False, False)),
        (dict(RUNNING, StartedAt="{now}"), {"RestartCount": 1}, (False, False)),
        (dict(RUNNING, StartedAt="{now}"), {"RestartCount": 3}, (False, True)),
        (dict(RUNNING, Restarting=True), {"RestartCount": 3}, (False, True)),
        (STOPPED, {}, (False, False)),
    ],
)
def test_a_container_that_starts_and_one_in_a_crash_loop(state, more, expected):
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    state = {key: now if value == "{now}" else value for key, value in state.items()}
    given = container("app-api-1", "api", state=state, wanted=bound(8001), **more)
    found = known(given)
    (only,) = found.host.containers
    described = found.describe(only, Contact("api", None, 8001, None))
    assert (described["starting"], described["looping"]) == expected
    assert described["wants_port"]


def test_the_replica_that_is_to_publish_the_port_is_responsible():
    one = container("app-api-1", "api", ports=bound(8001))
    two = container("app-api-2", "api", state=STOPPED, wanted=bound(8002))
    found = known(one, two)
    names = {port: found.serving(Contact("api", None, port, None), None).name for port in (8001, 8002, 8003)}
    assert names == {8001: "app-api-1", 8002: "app-api-2", 8003: "app-api-1"}
    ranged = [
        container("app-api-%d" % number, "api", state=STOPPED if number == 2 else None, wanted=bound("8001-8003"))
        for number in (1, 2)
    ]
    assert known(*ranged).serving(Contact("api", None, 8003, None), None).name == "app-api-2"
