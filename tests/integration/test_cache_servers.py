# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of the cache on servers of other kinds: clusters, Sentinels, open servers, servers that were attacked."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets

import pytest
import redis

from tests.integration.areas import fired
from tests.integration.redis_lab import Cache, cache
from tests.lab.engine import docker
from tests.lab.images import ensure_image
from tests.lab.ports import free_ports
from tests.lab.servers import LABEL, PROCESS_LABEL, Server, redis_server, this_process
from tests.lab.shell import attempt, wait_until

CLUSTER = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
SUITES = ("bookworm", "trixie")


def above_info(found):
    """Return the findings above info; unknown counts as above."""
    return [each for findings in found.values() for each in findings if each["status"] not in ("ok", "info")]


def cluster_is_ok(client):
    return client.execute_command("CLUSTER INFO")["cluster_state"] == "ok"


@pytest.mark.parametrize("suite", SUITES)
def test_a_cluster_is_quiet_and_slots_that_no_node_serves_are_named(suite):
    with cache(suite, *CLUSTER) as server:
        client = server.redis()
        (finding,) = fired(server.findings(), "cache.cluster_state", "critical")
        assert "(no node serves 0-16383)" in finding["summary"]
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: cluster_is_ok(client), "the cluster", 20)
        client.set("{user:1}:cart", "x")
        assert above_info(server.findings()) == []
        client.execute_command("CLUSTER", "DELSLOTSRANGE", 5, 5, 100, 199)
        (finding,) = fired(server.findings(), "cache.cluster_state", "critical")
        assert "16283 of 16384 slots are assigned (no node serves 5, 100-199)" in finding["summary"]
        # The hint followed literally.
        command = finding["hint"].split("`")[1].split()
        client.execute_command(*command[command.index("CLUSTER") :])
        wait_until(lambda: cluster_is_ok(client), "the cluster", 20)
        assert above_info(server.findings()) == []
        with server.user("limited", "~*", "+@all", "-cluster|info") as login:
            login = {"cache_" + name: value for name, value in login.items()}
            (finding,) = server.findings(**login)["cache.cluster_state"]
            assert (finding["status"], "+cluster|info" in finding["hint"]) == ("unknown", True)


def test_a_node_that_fails_is_named():
    with cache("trixie", *CLUSTER, password=None) as server, redis_server("trixie", *CLUSTER, password=None) as other:
        client, second = server.redis(), redis.Redis(host=other.host, port=other.port)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 9999)
        second.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 2)
        second.execute_command("CLUSTER", "ADDSLOTSRANGE", 10000, 16383)
        client.execute_command("CLUSTER", "MEET", other.address, 6379)
        wait_until(lambda: cluster_is_ok(client) and cluster_is_ok(second), "the cluster", 30)
        assert above_info(server.findings()) == []
        other.pause()
        try:
            wait_until(lambda: not cluster_is_ok(client), "the failure to be seen", 30)
            found = server.findings()
            (node,) = fired(found, "cache.cluster_node")
            assert "with 6384 slots does not answer" in node["summary"]
            assert "6384 slots fail" in fired(found, "cache.cluster_state", "critical")[0]["summary"]
        finally:
            other.unpause()


@pytest.mark.parametrize("suite", SUITES)
def test_a_sentinel_is_no_server_with_failed_snapshots(suite):
    with cache(suite) as server:
        address = server.server.address
        lines = ("port 26379", "protected-mode no", "dir /tmp", "sentinel monitor mymaster %s 6379 1" % address)
        text = "\n".join([*lines, "sentinel auth-pass mymaster %s" % server.server.password, ""])
        server.server.exec("sh", "-c", "cat > /tmp/sentinel.conf", stdin=text)
        docker("exec", "--detach", server.server.name, "redis-server", "/tmp/sentinel.conf", "--sentinel")
        login = {"login_host": address, "login_port": 26379, "login_password": None}
        wait_until(lambda: (server.health(**login)["error"] or {}).get("kind") == "sentinel", "Sentinel", 20)
        settings = {"cache_" + name: value or "" for name, value in login.items()}
        found = server.findings(**settings)
        assert {each["status"] for findings in found.values() for each in findings} == {"unknown"}
        (finding,) = found["cache.rdb_save_failed"]
        assert "is a Redis Sentinel" in finding["summary"]
        assert "mymaster at %s:6379" % address in finding["hint"]
        assert server.memory(**login)["reachable"] is None


@contextlib.contextmanager
def on_the_host(suite, address, *arguments):
    """A server without a password in the network namespace of the host, on an address that only this host reaches."""
    (port,) = free_ports(1)
    name = "tracktion-lab-redis-%s" % secrets.token_hex(4)
    labels = ("--label", f"{LABEL}=server", "--label", f"{PROCESS_LABEL}={this_process()}")
    options = ("--port", str(port), "--bind", address, "--save", "", "--protected-mode", "no")
    try:
        docker(
            *("run", "--detach", "--name", name, *labels, "--network", "host", ensure_image(suite)),
            *("redis-server", *options, *arguments),
        )
        server = Server("redis", name, suite, {"redis": port}, None, None, ())
        server.host = address
        wait_until(lambda: Cache(server).health()["reachable"], "the server", 20)
        yield Cache(server)
    finally:
        attempt("docker", "rm", "--force", name)


def gateway():
    """The address of this host on the bridge of the engine, which is no loopback address."""
    subnet = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}").strip()
    return str(ipaddress.ip_network(subnet)[1])


@pytest.mark.parametrize("suite", SUITES)
def test_a_server_that_is_open_to_others_is_found(suite):
    limit = ("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
    with on_the_host(suite, gateway(), *limit) as server:
        (finding,) = fired(server.findings(), "cache.open_without_password", "warning")
        assert "Other hosts can use Redis without a password: bind is " in finding["summary"]
        assert "may change its configuration" in finding["summary"]
        # Without a password, the configuration cannot be changed.
        server.redis().execute_command("ACL", "SETUSER", "admin", "on", ">secret", "~*", "&*", "+@all")
        server.redis().execute_command("ACL", "SETUSER", "default", "-config")
        login = {"cache_login_user": "admin", "cache_login_password": "secret"}
        (finding,) = fired(server.findings(**login), "cache.open_without_password", "warning")
        assert "configuration" not in finding["summary"]
    with on_the_host(suite, "127.0.0.1", *limit) as server:
        assert server.findings() == {}


@pytest.mark.parametrize("suite", SUITES)
def test_a_container_that_only_its_networks_reach_is_an_info_and_one_with_a_password_is_none(suite):
    with cache(suite, password=None) as server:
        (finding,) = fired(server.findings(), "cache.open_without_password", "info")
        assert "All containers of its networks" in finding["summary"]
        password = secrets.token_hex(8)
        server.redis().config_set("requirepass", password)
        found = server.findings(cache_login_password=password)
        assert "cache.open_without_password" not in found
        # The attempt without a password is no error of clients.
        assert "cache.error_replies" not in found


@pytest.mark.parametrize(
    ("suite", "arguments"),
    [
        ("bookworm", ("--dir", "/etc/systemd/system")),
        ("trixie", ("--dbfilename", "authorized_keys")),
        ("trixie", ("--dbfilename", "shell.php")),
    ],
)
def test_where_no_operator_would_write_a_snapshot_is_a_sign_of_an_intrusion(suite, arguments):
    with cache(suite, *arguments) as server:
        (finding,) = fired(server.findings(), "cache.intrusion_signs", "critical")
        assert arguments[1] in finding["summary"]
        assert "ls -l -- " in finding["hint"]


@pytest.mark.parametrize("suite", SUITES)
def test_a_snapshot_that_never_succeeded_has_no_age(suite):
    with cache(suite) as server:
        with server.fault("save-failing"):
            (finding,) = fired(server.findings(), "cache.rdb_save_failed", "critical")
            assert "none has succeeded since the start, " in finding["summary"]
            assert "old" not in finding["summary"]
        with server.fault("save-overdue"):
            (finding,) = fired(server.findings(cache_rdb_age_warning=0), "cache.rdb_save_old", "warning")
            assert "since the last snapshot" in finding["summary"]


def test_connections_are_reported_by_address(redis8):
    with redis8.fault("connections-leaking"):
        (finding,) = fired(redis8.findings(), "cache.clients_used")
    assert "most are from " in finding["summary"]
    assert "(7" in finding["summary"]
