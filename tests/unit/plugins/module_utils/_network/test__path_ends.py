# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where names lead to, and whom addresses belong to."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import Host
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._network import _path_ends


def container(service, networks, project="stack", state="running", **settings):
    """One container of an engine: its addresses by network, and its hostconfig."""
    return service, networks, project, state, settings


class Files:
    """The files of an engine."""

    def __init__(self, *containers):
        self.containers = {"%s-%s-1" % (each[2], each[0]): each for each in containers}

    def all(self):
        return [
            {"id": name, "name": name, "service": service, "project": project, "state": state, "exit_code": 0}
            for name, (service, _networks, project, state, _settings) in self.containers.items()
        ]

    def file(self, identity, name):
        service, networks, _project, state, settings = self.containers[identity]
        if name == "hostconfig.json":
            return {"NetworkMode": "net", **settings}
        ends = {each: {"IPAddress": address, "Aliases": [service]} for each, address in networks.items()}
        pid = {"Pid": os.getpid() if state == "running" else 0}
        return {"State": pid, "Config": {"Hostname": "box"}, "NetworkSettings": {"Networks": ends}}


def path(*containers, source="web", again=None, scope="local", **fields):
    """Return a path from ``source`` after its name was resolved. ``again``: the containers as they are read later."""
    host = Host(Files(*containers))
    networks = [{"Name": "net", "Scope": scope}]
    read_again = Host(Files(*again)) if again else None
    engine = SimpleNamespace(host=host, networks=networks, read_again=lambda: read_again)
    ends = _path_ends.Ends(engine, 1.0, Deadline(1))
    (start,) = host.of_service(source, "stack")
    entry = {"host": "db", "port": 5432, "found_as": "db", "name_source": "dns", "name_server": "127.0.0.11"}
    entry.update(ends.describe("db", start))
    entry.update(fields)
    ends.add_origin(entry, start)
    return entry


WEB, DB = container("web", {"net": "172.20.0.2"}), container("db", {"net": "172.20.0.3"})
OTHER = container("db", {"net": "172.20.0.9"}, project="other")
HOSTS = {"name_source": "hosts", "name_server": None, "found_as": None}


def test_a_name_that_leads_to_its_container():
    entry = path(WEB, DB, addresses=["172.20.0.3"])
    assert (entry["wrong_addresses"], entry["misled"], entry["resolved_by"]) == ([], False, "127.0.0.11")


def test_a_name_that_leads_to_another_project_too():
    entry = path(WEB, DB, OTHER, addresses=["172.20.0.9", "172.20.0.3"])
    assert (entry["wrong_addresses"], entry["misled"]) == (["172.20.0.9"], False)
    (found,) = entry["owners"]
    assert (found["container"], found["project"], found["local"]) == ("other-db-1", "other", False)


def test_a_name_that_only_another_project_has_is_unknown():
    assert path(WEB, OTHER, addresses=["172.20.0.9"])["wrong_addresses"] is None
    # Services of a swarm have addresses that no container has.
    assert path(WEB, DB, addresses=["172.20.0.200"], scope="swarm")["wrong_addresses"] is None


def test_an_address_of_a_container_that_was_restarted_meanwhile():
    now = container("db", {"net": "172.20.0.8"})
    assert path(WEB, DB, addresses=["172.20.0.8"], again=(WEB, now))["wrong_addresses"] == []


def test_an_address_of_a_container_that_has_just_ended():
    ended = container("db", {"net": ""}, state="exited")
    assert path(WEB, ended, addresses=["172.20.0.3"])["wrong_addresses"] == []
    # A hosts file or a search domain does not come from the engine.
    entry = path(WEB, ended, addresses=["192.0.2.3"], **HOSTS)
    assert (entry["misled"], entry["target_state"]) == (True, "exited")
    entry = path(WEB, ended, addresses=["192.0.2.3"], found_as="db.corp.test")
    assert (entry["misled"], entry["search_domain"]) == (True, "corp.test")
    assert entry["resolved_by"] == "127.0.0.11 as db.corp.test, with a search domain"


def test_a_published_port_of_this_host_leads_to_its_container():
    published = container("db", {"net": "172.20.0.3"}, PortBindings={"5432/tcp": [{"HostPort": "5432"}]})
    assert path(WEB, published, addresses=["127.0.0.1"], source="web", **HOSTS)["misled"]
    address = socket.gethostbyname("localhost")
    assert _path_ends.is_of_host(address)
    assert not _path_ends.is_of_host("192.0.2.77")


@pytest.mark.parametrize(
    ("settings", "name", "expected"),
    [
        ({"ExtraHosts": ["other:10.0.0.1", "DB:10.0.0.2"]}, "db", ("extra_hosts", None)),
        ({"ExtraHosts": ["db=10.0.0.2"]}, "db", ("extra_hosts", None)),
        ({"Links": ["/stack-db-1:/stack-web-1/db"]}, "db", ("link", None)),
        ({"Binds": ["/srv/hosts:/etc/hosts:ro"]}, "db", ("mount", "/srv/hosts")),
        ({"Mounts": [{"Type": "bind", "Source": "/srv/hosts", "Target": "/etc/hosts"}]}, "db", ("mount", "/srv/hosts")),
        ({}, "box", ("hostname", None)),
        ({}, "db", ("file", None)),
    ],
)
def test_why_a_hosts_file_has_a_name(settings, name, expected):
    host = Host(Files(container("web", {"net": "172.20.0.2"}, **settings)))
    assert _path_ends.hosts_origin(name, host.containers[0]) == expected


def test_what_listens_in_the_network_of_a_process():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            found = _path_ends.listening(os.getpid(), port)
    assert (found["addresses"], found["loopback"], found["waiting"]) == (["127.0.0.1"], True, 1)
    assert "py" in found["command"]
    assert _path_ends.listening(os.getpid(), port)["addresses"] == []


def test_a_container_that_lost_all_its_networks():
    host = Host(Files(WEB, container("db", {})))
    engine = SimpleNamespace(host=host, networks=[{"Name": "net"}])
    ends = _path_ends.Ends(engine, 1.0, Deadline(1))
    assert ends.reconnect("stack-db-1") == [["--alias=db", "net", "stack-db-1"]]
    assert ends.reconnect("stack-web-1") == []
    # It cannot be connected to a network that was removed.
    engine.networks = []
    assert ends.reconnect("stack-db-1") == []
