# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong between services, and between a host and its containers.

Nothing here sends a packet to anybody but containers and network namespaces of the stack's own.
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

# Where links between this machine and a namespace that stands for the world outside get their addresses: TEST-NET-2,
# which nobody has.
OUTSIDE = ipaddress.ip_network("198.51.100.0/24")


def pid(lab, service: str) -> int:
    """The first process of a service's container, as this machine sees it."""
    return int(docker("inspect", "--format", "{{.State.Pid}}", lab.container(service)))


def wait_well(lab) -> None:
    """Wait until every service says that it is well: the engine asks them from time to time only."""
    for service in ("analysis", "tracklist", "watcher"):
        answer = ("curl", "--fail", "--silent", "--max-time", "5", "--output", "/dev/null", lab.url(service))
        wait_until(lambda command=answer: succeeds(*command), f"a healthy {service}", 60)


def addresses(lab) -> ipaddress.IPv4Network:
    """The addresses of the stack's network."""
    (network,) = json.loads(docker("network", "inspect", lab.network))
    return ipaddress.ip_network(network["IPAM"]["Config"][0]["Subnet"])


@contextlib.contextmanager
def rule(*words: str, inside: int | None = None):
    """A rule at the head of its chain, in the network namespace of a process or in that of this machine."""
    prefix = ["nsenter", f"--target={inside}", "--net"] if inside else []
    run(*prefix, "iptables", "--wait", "--insert", *words)
    try:
        yield
    finally:
        # With its container the rule is gone as well.
        attempt(*prefix, "iptables", "--wait", "--delete", *words)


def new_connections(port: int) -> list[str]:
    """What a rule says to be about new connections that come from outside of the namespace."""
    return ["INPUT", "--protocol", "tcp", "--dport", str(port), "--syn", "!", "--in-interface", "lo"]


@fault(fires=["network.path_dns"])
def dns_broken(lab):
    """The file watcher asks a DNS server that is not there; it lives on the connection that it has."""
    file = Path(f"/proc/{pid(lab, 'file_watcher')}/root/etc/resolv.conf")
    before = file.read_text(encoding="utf-8")
    try:
        file.write_text("nameserver 127.0.0.9\n", encoding="utf-8")
        yield
    finally:
        # Whoever has made the container anew has mended it.
        with contextlib.suppress(FileNotFoundError):
            file.write_text(before, encoding="utf-8")


@fault(fires=["network.not_on_common_network", "network.published_port_not_answering"])
def network_cut(lab):
    """The cache was taken off the network that it shares with the services."""
    container = lab.container("redis")
    docker("network", "disconnect", lab.network, container)
    try:
        yield
    finally:
        attempt("docker", "network", "connect", "--alias", "redis", lab.network, container)
    wait_well(lab)


@fault(fires=["network.path_refused", "network.published_port_not_answering"])
def port_refusing(lab):
    """Redis refuses connections, as a server that listens on its own address alone."""
    with rule(*new_connections(6379), "--jump", "REJECT", "--reject-with", "tcp-reset", inside=pid(lab, "redis")):
        yield


@fault(fires=["network.path_timeout"])
def packets_dropped(lab):
    """A rule in the broker's container drops what comes to its port."""
    with rule(*new_connections(5672), "--jump", "DROP", inside=pid(lab, "rabbitmq")):
        yield


@fault(fires=["network.path_no_route", "network.published_port_not_answering"])
def packets_rejected(lab):
    """A rule in the broker's container says that the host is not there."""
    rejected = ("--jump", "REJECT", "--reject-with", "icmp-host-unreachable")
    with rule(*new_connections(5672), *rejected, inside=pid(lab, "rabbitmq")):
        yield


@fault(fires=["network.path_http_timeout"])
def answer_overdue(lab):
    """A service takes connections, and never answers."""
    docker("pause", lab.container("tracklist_service"))
    try:
        yield
    finally:
        attempt("docker", "unpause", lab.container("tracklist_service"))
    wait_well(lab)


@fault(fires=["network.unused_network"])
def network_unused(lab):
    """A network of the project was left behind by a service that is gone (the test does not wait an hour)."""
    name = f"{lab.project}_retired"
    attempt("docker", "network", "rm", name)
    docker("network", "create", "--label", f"com.docker.compose.project={lab.project}", name)
    try:
        yield
    finally:
        attempt("docker", "network", "rm", name)


@fault(fires=["network.subnet_overlap"])
def subnet_overlap(lab):
    """A route of this machine takes addresses of the stack's network away (some that no container has)."""
    taken = list(addresses(lab).subnets(new_prefix=28))[-1]
    run("ip", "route", "replace", str(taken), "dev", "lo")
    try:
        yield
    finally:
        attempt("ip", "route", "del", str(taken), "dev", "lo")


class Outside:
    """The world outside of this machine: a network namespace at the other end of a link."""

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
        # A lab that was killed may have left one behind.
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
        """Whether somebody out there gets an answer from a port of this machine."""
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
    """A port that somebody outside gets an answer from; yields it, and what waits until he gets none."""
    (port,) = free_ports(1)
    with Outside(lab) as outside, publisher(lab, outside.ours, port, "python3", "-m", "http.server", "8000"):
        wait_until(lambda: outside.connects(port), "an answer from the published port", 20)
        yield port, lambda: wait_until(lambda: not outside.connects(port), "no answer from the published port", 5)


@fault(fires=["network.published_port_dropped"])
def published_port_dropped(lab):
    """A rule drops what comes from outside to a port that a container publishes."""
    with published(lab) as (port, wait_silent):
        matched = ["--protocol", "tcp", "--match", "conntrack", "--ctorigdstport", str(port)]
        with rule("DOCKER-USER", *matched, "--jump", "DROP"):
            wait_silent()
            yield


@fault(fires=["network.published_port_dropped"])
def published_port_dropped_by_nft(lab):
    """The same, by a table of nftables that neither the engine nor iptables knows of."""
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
    """A port is published, and nothing listens behind it."""
    (port,) = free_ports(1)
    with Outside(lab) as outside, publisher(lab, outside.ours, port, "sleep", "infinity"):
        yield
