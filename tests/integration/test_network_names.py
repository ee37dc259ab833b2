# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where names lead to, which networks containers should have, their DNS servers, and lost packets: one project."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.integration.areas import diagnose
from tests.integration.pasting import commands
from tests.lab.engine import docker, ensure
from tests.lab.images import ensure_image
from tests.lab.ports import free_ports
from tests.lab.servers import LABEL
from tests.lab.shell import attempt, run, wait_until

PROJECT = "tracktion-test-names-%d" % os.getpid()
OTHER = PROJECT + "-other"
NETWORKS = ("front", "back", "secret")
COMPOSE_FILE = """
services:
  web: {image: x, networks: [front, back]}
  finder: {image: x, networks: [front, back]}
  db: {image: x, networks: [back]}
  api: {image: x, networks: [back]}
  cut:
    image: x
    networks:
      back: {aliases: [cut-alias]}
  vault: {image: x, networks: [secret]}
  pg: {image: x, networks: [secret]}
  pooler:
    image: x
    networks:
      front: {aliases: [pg]}
  near: {image: x, networks: [back]}
  unnamed: {image: x, networks: [back]}
  queue: {image: x, networks: [back]}
networks: {front: {}, back: {}, secret: {}}
"""
SERVING = ["python3", "-m", "http.server", "8000"]
SLEEPING = ("sleep", "infinity")


def name(service, of=PROJECT):
    return "%s-%s-1" % (of, service)


def network(short):
    return "%s_%s" % (PROJECT, short)


def start(service, *options, short="back", command=SLEEPING, of=PROJECT, named=True, files=None):
    """Start a container as compose does. Its engine's DNS server has no other server to ask."""
    labels = {LABEL: "test", "com.docker.compose.project": of, "com.docker.compose.service": service}
    if files:
        labels["com.docker.compose.project.config_files"] = str(files)
        labels["com.docker.compose.project.working_dir"] = str(files.parent)
    words = [word for key, value in labels.items() for word in ("--label", "%s=%s" % (key, value))]
    words += ["--dns=127.0.0.9", "--network", network(short)]
    words += [*(["--network-alias", service] if named else []), *options]
    docker("run", "--detach", "--init", "--name", name(service, of), *words, ensure_image("bookworm"), *command)


def inspect(service):
    (found,) = json.loads(docker("inspect", name(service)))
    return found


def unused_address():
    """An address of the network back that no container has."""
    (found,) = json.loads(docker("network", "inspect", network("back")))
    return str(ipaddress.ip_network(found["IPAM"]["Config"][0]["Subnet"])[-2])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project, and another one that shares the network front with it.

    Yields an address that no host has, and the published port of the database.
    """
    ensure()
    (port,) = free_ports(1)
    file = tmp_path_factory.mktemp("names") / "compose.yaml"
    file.write_text(COMPOSE_FILE)
    services = ("web", "finder", "db", "api", "cut", "vault", "pg", "pooler", "near", "unnamed")
    containers = [*map(name, services), name("guest", OTHER)]
    label = "%s=test" % LABEL
    try:
        docker("network", "create", "--label", label, "--opt=com.docker.network.driver.mtu=1400", network("front"))
        for short in ("back", "secret"):
            docker("network", "create", "--label", label, network(short))
        address = unused_address()
        aliases = ["--network-alias=" + each for each in ("api", "queue", "near.corp.test")]
        start("guest", *aliases, short="front", command=SERVING, of=OTHER)
        start("db", "--network-alias=shared", "--publish=127.0.0.1:%d:8000" % port, files=file)
        # Only on a network that the web service does not have.
        for service in ("api", "vault", "pg"):
            start(service, short="secret", files=file)
        start("cut", command=SERVING, files=file)
        start("pooler", "--network-alias=pg", short="front", command=SERVING, files=file)
        start("near", command=[*SERVING, "--bind", "127.0.0.1"], files=file)
        start("unnamed", "--network-alias=shared", command=SERVING, named=False, files=file)
        start("web", "--add-host=db:" + address, files=file)
        start("finder", "--dns-search=corp.test", "--dns-opt=ndots:2", files=file)
        for service in ("web", "finder"):
            docker("network", "connect", network("front"), name(service))
        docker("network", "disconnect", network("back"), name("cut"))
        docker("exec", name("web"), "sh", "-c", "echo %s edited >>/etc/hosts" % address)
        yield address, port
    finally:
        attempt("docker", "rm", "--force", "--volumes", *containers)
        attempt("docker", "network", "rm", *map(network, NETWORKS))


def findings_of(*paths, **settings):
    """Return the findings by the service and target of a path, or by the container, and by check."""
    mine = {
        "tracktion_compose_project": PROJECT,
        "network_paths": [{"from": service, "to": "%s:8000" % target} for service, target in paths],
        "network_timeout": 1,
        "network_check_resolver": False,
        **settings,
    }
    found = {}
    for check, listed in diagnose("network", mine).items():
        for finding in listed:
            assert finding["status"] != "unknown", finding
            words = finding["object"].replace(PROJECT + "-", "").replace("-1", "").replace(":8000", "")
            found[words, check.partition(".")[2]] = finding
    return found


def paste(hint):
    """Run the commands of a hint."""
    for command in commands(hint):
        subprocess.run(command, shell=True, check=True, capture_output=True)


def smaller_mtu(service):
    """Give this machine's end of a container's link a smaller MTU: it drops what is larger, without an ICMP error."""
    number = int(docker("exec", name(service), "cat", "/sys/class/net/eth0/iflink"))
    (device,) = [each["ifname"] for each in json.loads(run("ip", "-json", "link")) if each["ifindex"] == number]
    run("ip", "link", "set", "dev", device, "mtu", "1300")


def drop_long_segments(service):
    """Drop long TCP segments in the network of a container, and no ICMP."""
    rule = ["INPUT", "--protocol", "tcp", "--match", "length", "--length", "1200:", "--jump", "DROP"]
    run("nsenter", "--target=%d" % inspect(service)["State"]["Pid"], "--net", "iptables", "--wait", "--insert", *rule)


def stop_proxy(port):
    """Kill the process of the engine that listens on a published port."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"docker-proxy") and str(port).encode() in words:
                os.kill(int(folder.name), signal.SIGKILL)


def listening(port):
    """Return a server on a port; null as long as another process has it."""
    with contextlib.suppress(OSError):
        return socket.create_server(("127.0.0.1", port))
    return None


TARGETS = ("db", "edited", "api", "queue", "near", "cut", "vault", "pg", "pooler", "unnamed", "shared")
PATHS = [*(("web", target) for target in TARGETS), ("finder", "near")]


def test_names_networks_dns_servers_and_lost_packets(project):
    """One measurement of all faults, and another one after the hints were followed."""
    stale, port = project
    found = findings_of(*PATHS)
    misled = "name_leads_elsewhere"
    edited = next(check for words, check in found if words == "web -> edited")
    assert edited in ("path_timeout", "path_no_route")
    # The project itself gave the name pg to its pooler.
    assert set(found) == {
        ("web -> db", misled),
        ("web -> api", misled),
        ("web -> queue", misled),
        ("finder -> near", misled),
        ("web -> near", "path_refused"),
        ("web -> cut", "not_on_common_network"),
        ("web -> vault", "not_on_common_network"),
        ("web -> unnamed", "path_dns"),
        ("web -> edited", edited),
        ("web -> shared", "path_refused"),
        ("db %d" % port, "published_port_not_answering"),
    }
    assert {words for (words, _check), finding in found.items() if finding["status"] != "critical"} == {"web -> shared"}

    hosts = found["web -> db", misled]
    assert "by its hosts file (extra_hosts) to %s (no container of this host)" % stale in hosts["summary"]
    assert hosts["hint"].startswith("Remove db from extra_hosts of web in its compose file, then run: `docker compose")
    assert "by its hosts file, but" in found["web -> edited", edited]["summary"]
    other = found["web -> api", misled]
    assert "(%s of project %s), but %s has " % (name("guest", OTHER), OTHER, name("api")) in other["summary"]
    assert "The connection succeeds" in other["summary"]
    wanted = "docker network connect --alias=api %s %s" % (network("back"), name("api"))
    assert commands(other["hint"]) == [wanted]
    missing = found["web -> queue", misled]
    assert "queue of project %s has no container" % PROJECT in missing["summary"]
    assert missing["hint"].startswith("Start the service: `docker compose")
    searched = found["finder -> near", misled]
    assert "by 127.0.0.11 as near.corp.test, with a search domain" in searched["summary"]
    assert searched["hint"].startswith('Set dns_search: ["."] for finder')

    assert "the name has 2 addresses, and port 8000 is refused by" in found["web -> shared", "path_refused"]["summary"]
    published = found["db %d" % port, "published_port_not_answering"]
    assert "Nothing listens on port 8000 of the container" in published["summary"]
    refused = found["web -> near", "path_refused"]
    assert "listens on 127.0.0.1 only" in refused["summary"]
    assert "0.0.0.0" in refused["hint"]
    apart = found["web -> vault", "not_on_common_network"]
    assert "The compose file keeps them apart" in apart["summary"]
    assert "Else add secret to the networks of web" in apart["hint"]
    assert "network connect" not in apart["hint"]
    cut = found["web -> cut", "not_on_common_network"]
    wanted = "docker network connect --alias=cut --alias=cut-alias %s %s" % (network("back"), name("cut"))
    assert commands(cut["hint"]) == [wanted]
    paste(cut["hint"])
    paste(found["web -> unnamed", "path_dns"]["hint"])
    smaller_mtu("pooler")
    drop_long_segments("unnamed")
    stop_proxy(port)
    with wait_until(lambda: listening(port), "the end of the proxy", 10):
        found = findings_of(*PATHS, network_check_resolver=True)
    held = found["db %d" % port, "published_port_taken"]
    assert "(pid %d), which is no process of the engine" % os.getpid() in held["summary"]
    assert ("db %d" % port, "published_port_not_answering") not in found
    healed = {("web -> cut", "not_on_common_network"), ("web -> unnamed", "path_dns")}
    assert not healed & set(found)
    lost = {words: finding for (words, check), finding in found.items() if check == "path_mtu"}
    # (The other name leads to the same container.)
    assert set(lost) == {"web -> pg", "web -> pooler", "web -> unnamed", "web -> shared"}
    assert "The largest that passes has 1000" in lost["web -> unnamed"]["summary"]
    assert {finding["status"] for finding in lost.values()} == {"critical"}
    assert "packets of 1400 bytes" in lost["web -> pg"]["summary"]
    assert "The largest that passes has 1300" in lost["web -> pg"]["summary"]
    dead = found["web", "container_resolver_broken"]
    assert dead["status"] == "critical"
    assert "127.0.0.9" in dead["summary"]
    assert "(dns of the container)" in dead["summary"]
    assert dead["hint"].startswith("Correct dns of web in its compose file")
