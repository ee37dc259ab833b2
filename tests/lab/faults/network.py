# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults between services, and between a host and its containers.

They send packets only to containers and network namespaces of the stack.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import zlib
from pathlib import Path

from ..engine import docker, install_programs
from ..ports import free_ports
from ..servers import LABEL
from ..shell import attempt, run, succeeds, wait_until
from . import fault

# Addresses of links between this machine and a namespace that represents external hosts: TEST-NET-2 is not in use.
OUTSIDE = ipaddress.ip_network("198.51.100.0/24")


def pid(lab, service: str) -> int:
    """Return the pid on this machine of the first process of a service."""
    return int(docker("inspect", "--format", "{{.State.Pid}}", lab.container(service)))


def wait_well(lab) -> None:
    """Wait until each service is healthy. Its health check runs only at intervals."""
    for service in ("analysis", "tracklist", "watcher"):
        answer = ("curl", "--fail", "--silent", "--max-time", "5", "--output", "/dev/null", lab.url(service))
        wait_until(lambda command=answer: succeeds(*command), f"a healthy {service}", 60)


def addresses(lab) -> ipaddress.IPv4Network:
    """The addresses of the stack's network."""
    (network,) = json.loads(docker("network", "inspect", lab.network))
    return ipaddress.ip_network(network["IPAM"]["Config"][0]["Subnet"])


@contextlib.contextmanager
def rule(*words: str, inside: int | None = None):
    """Insert a rule at the head of its chain, in the network namespace of a process or of this machine."""
    prefix = ["nsenter", f"--target={inside}", "--net"] if inside else []
    run(*prefix, "iptables", "--wait", "--insert", *words)
    try:
        yield
    finally:
        # If the container is gone, so is the rule.
        attempt(*prefix, "iptables", "--wait", "--delete", *words)


def new_connections(port: int) -> list[str]:
    """Return the conditions of a rule for new connections from outside of the namespace."""
    return ["INPUT", "--protocol", "tcp", "--dport", str(port), "--syn", "!", "--in-interface", "lo"]


@fault(fires=["network.path_dns"])
def dns_broken(lab):
    """The file watcher uses a DNS server that does not exist; its existing connection stays."""
    file = Path(f"/proc/{pid(lab, 'file_watcher')}/root/etc/resolv.conf")
    before = file.read_text(encoding="utf-8")
    try:
        file.write_text("nameserver 127.0.0.9\n", encoding="utf-8")
        yield
    finally:
        # A new container has a new file.
        with contextlib.suppress(FileNotFoundError):
            file.write_text(before, encoding="utf-8")


@fault(fires=["network.not_on_common_network", "network.published_port_not_answering"])
def network_cut(lab):
    """The cache is disconnected from the network that it shares with the services."""
    container = lab.container("redis")
    docker("network", "disconnect", lab.network, container)
    try:
        yield
    finally:
        attempt("docker", "network", "connect", "--alias", "redis", lab.network, container)
    wait_well(lab)


@fault(fires=["network.path_refused", "network.published_port_not_answering"])
def port_refusing(lab):
    """Redis refuses connections, as a server that listens only on loopback."""
    with rule(*new_connections(6379), "--jump", "REJECT", "--reject-with", "tcp-reset", inside=pid(lab, "redis")):
        yield


@fault(fires=["network.path_timeout"])
def packets_dropped(lab):
    """A rule in the container of the broker drops packets to its port."""
    with rule(*new_connections(5672), "--jump", "DROP", inside=pid(lab, "rabbitmq")):
        yield


@fault(fires=["network.path_no_route", "network.published_port_not_answering"])
def packets_rejected(lab):
    """A rule in the container of the broker replies that the host is unreachable."""
    rejected = ("--jump", "REJECT", "--reject-with", "icmp-host-unreachable")
    with rule(*new_connections(5672), *rejected, inside=pid(lab, "rabbitmq")):
        yield


@fault(fires=["network.path_http_timeout"])
def answer_overdue(lab):
    """A service accepts connections and never answers."""
    docker("pause", lab.container("tracklist_service"))
    try:
        yield
    finally:
        attempt("docker", "unpause", lab.container("tracklist_service"))
    wait_well(lab)


@fault(fires=["network.path_paused"])
def target_paused(lab):
    """Redis is paused: the kernel accepts connections, and no process answers."""
    docker("pause", lab.container("redis"))
    try:
        yield
    finally:
        attempt("docker", "unpause", lab.container("redis"))
    wait_well(lab)


@fault(fires=["network.unused_network"])
def network_unused(lab):
    """A removed service left a network of the project (the test does not wait an hour)."""
    name = f"{lab.project}_retired"
    attempt("docker", "network", "rm", name)
    docker("network", "create", "--label", f"com.docker.compose.project={lab.project}", name)
    try:
        yield
    finally:
        attempt("docker", "network", "rm", name)


@fault(fires=["network.subnet_overlap"])
def subnet_overlap(lab):
    """A route of this machine contains addresses of the network of the stack, which no container has."""
    taken = list(addresses(lab).subnets(new_prefix=28))[-1]
    run("ip", "route", "replace", str(taken), "dev", "lo")
    try:
        yield
    finally:
        attempt("ip", "route", "del", str(taken), "dev", "lo")


class Outside:
    """An external host: a network namespace at the other end of a link."""

    def __init__(self, lab) -> None:
        number = zlib.crc32(lab.project.encode())
        links = list(OUTSIDE.subnets(new_prefix=30))
        self.link = links[number % len(links)]
        self.ours, self.theirs = (str(address) for address in self.link.hosts())
        self.name = f"{lab.project}-outside"
        self.within = ["ip", "netns", "exec", self.name]
        # The name of a device has at most 15 characters.
        self.near, self.far = f"lab{number:08x}n", f"lab{number:08x}f"

    def __enter__(self) -> Outside:
        # A lab that was killed may have left one.
        self.remove()
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.near, "type", "veth", "peer", "name", self.far, "netns", self.name)
        run("ip", "address", "add", f"{self.ours}/{self.link.prefixlen}", "dev", self.near)
        run("ip", "link", "set", self.near, "up")
        run(*self.within, "ip", "address", "add", f"{self.theirs}/{self.link.prefixlen}", "dev", self.far)
        run(*self.within, "ip", "link", "set", self.far, "up")
        return self

    def __exit__(self, *_raised: object) -> None:
        self.remove()

    def remove(self) -> None:
        attempt("ip", "link", "del", self.near)
        attempt("ip", "netns", "del", self.name)

    def connects(self, port: int) -> bool:
        """Return whether the external host gets an answer from a port of this machine."""
        url = f"http://{self.ours}:{port}/"
        return succeeds(*self.within, "curl", "--silent", "--max-time", "1", "--output", "/dev/null", url)


@contextlib.contextmanager
def publisher(lab, address: str, port: int, *command: str):
    """A container of the project that publishes its port 8000 at an address of this machine."""
    name = f"{lab.project}-publisher"
    labels = [f"{LABEL}={lab.project}", f"com.docker.compose.project={lab.project}"]
    labels.append("com.docker.compose.service=publisher")
    options = [word for label in labels for word in ("--label", label)]
    options += ["--publish", f"{address}:{port}:8000", "--network", lab.network, "--init", "--name", name]
    image = docker("inspect", "--format", "{{.Config.Image}}", lab.container("redis")).strip()
    attempt("docker", "rm", "--force", "--volumes", name)
    docker("run", "--detach", *options, image, *command)
    try:
        yield
    finally:
        attempt("docker", "rm", "--force", "--volumes", name)


@contextlib.contextmanager
def published(lab):
    """A port that the external host can reach; yields it, and a function that waits until it cannot."""
    (port,) = free_ports(1)
    with Outside(lab) as outside, publisher(lab, outside.ours, port, "python3", "-m", "http.server", "8000"):
        wait_until(lambda: outside.connects(port), "an answer from the published port", 20)
        yield port, lambda: wait_until(lambda: not outside.connects(port), "no answer from the published port", 5)


@fault(fires=["network.published_port_dropped"])
def published_port_dropped(lab):
    """A rule drops packets from outside to a published port."""
    with published(lab) as (port, wait_silent):
        matched = ["--protocol", "tcp", "--match", "conntrack", "--ctorigdstport", str(port)]
        with rule("DOCKER-USER", *matched, "--jump", "DROP"):
            wait_silent()
            yield


@fault(fires=["network.published_port_dropped"])
def published_port_dropped_by_nft(lab):
    """The same, by a table of nftables that is not of the engine or of iptables."""
    install_programs({"nft": ("nftables",)})
    table = f"lab{zlib.crc32(lab.project.encode()):08x}"
    with published(lab) as (port, wait_silent):
        chain = "type filter hook forward priority filter; policy accept;"
        dropping = f"meta l4proto tcp ct original proto-dst {port} drop"
        run("nft", "-f", "-", stdin=f"table inet {table} {{\n chain forward {{\n {chain}\n {dropping}\n }}\n}}\n")
        try:
            wait_silent()
            yield
        finally:
            attempt("nft", "delete", "table", "inet", table)


@fault(fires=["network.published_port_not_answering"])
def published_port_dead(lab):
    """A port is published, and no process listens in the container."""
    (port,) = free_ports(1)
    with Outside(lab) as outside, publisher(lab, outside.ours, port, "sleep", "infinity"):
        yield
