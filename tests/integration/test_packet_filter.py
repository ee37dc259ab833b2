# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict of rules equals what the kernel does with a packet, on a router that the test creates.

Outside, router and container are network namespaces. The router publishes the port of the container, as an engine does.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import threading

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils import _programs, _side_by_side
from ansible_collections.tracktion.ops.plugins.module_utils._network import _packet_filter
from tests.integration.kernels import kernel
from tests.lab.engine import install_programs
from tests.lab.shell import SEARCH_PATH

HOST_PORT, PORT = 30001, 8001
BRIDGE, UPLINK = "br-6d1aff69ed8c", "up0"
ROUTER_ADDRESS, OUTSIDE_ADDRESS, ADDRESS, GATEWAY = "198.51.100.1", "198.51.100.2", "172.20.3.7", "172.20.3.1"
ANSWER_SECONDS = 0.3
COUNTER = re.compile(r"counter packets \d+ bytes \d+ ")
EMPTY_TABLES = "*filter\n:FORWARD ACCEPT\nCOMMIT\n*mangle\n:FORWARD ACCEPT\nCOMMIT\n*raw\n:PREROUTING ACCEPT\nCOMMIT\n"


class Router:
    """The namespaces, and a server at the published port."""

    def __init__(self, outside, router, container):
        self.outside, self.router, self.container = outside, router, container
        router.run("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", "eth0", "netns", outside.name)
        router.run("ip", "link", "add", BRIDGE, "type", "veth", "peer", "name", "eth0", "netns", container.name)
        for where, device, address in (
            (router, UPLINK, ROUTER_ADDRESS),
            (router, BRIDGE, GATEWAY),
            (outside, "eth0", OUTSIDE_ADDRESS),
            (container, "eth0", ADDRESS),
        ):
            where.run("ip", "address", "add", address + "/24", "dev", device)
            where.run("ip", "link", "set", device, "up")
        container.run("ip", "route", "add", "default", "via", GATEWAY)
        router.set("net.ipv4.ip_forward", 1)
        self.server = within(container, lambda: socket.create_server((ADDRESS, PORT)))
        self.clean()

    def clean(self):
        """Remove all rules except the one that publishes the port."""
        self.router.run("nft", "flush", "ruleset")
        if self.router.run("cat", "/proc/net/ip_tables_names"):
            self.feed(EMPTY_TABLES, "iptables-legacy-restore")
        self.nft(
            """table ip publishing {
            chain prerouting {
                type nat hook prerouting priority dstnat
                tcp dport %d dnat to %s:%d
            }
        }"""
            % (HOST_PORT, ADDRESS, PORT)
        )

    def nft(self, text):
        self.feed(text, "nft", "-f", "-")

    def iptables(self, variant, line):
        self.router.run(variant, *line.split())

    def feed(self, text, *words):
        words = ["ip", "netns", "exec", self.router.name, *words]
        subprocess.run(words, input=text, text=True, check=True, timeout=20)

    def accepts(self):
        """Return whether a client outside can connect."""
        client = within(self.outside, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        with client:
            client.settimeout(ANSWER_SECONDS)
            return client.connect_ex((ROUTER_ADDRESS, HOST_PORT)) == 0

    def evaluate(self, path=SEARCH_PATH):
        """Return the verdict as ``firewall, rule, rule_command``, and the reason why rules are not known."""

        def read():
            self.router.enter()
            _programs.SEARCH_PATH = str(path)
            rules = _packet_filter.Filter(5)
            return [*rules.verdict(HOST_PORT, PORT, ADDRESS, BRIDGE), rules.unread]

        outcome = _side_by_side.run({"router": (10, {"rules": read})})["router"]
        assert isinstance(outcome["measurement"].get("rules"), list), outcome
        return outcome["measurement"]["rules"]


def within(namespace, make):
    """Return ``make()``, called in a network namespace. A socket stays in the namespace of its creation."""
    made = []

    def work():
        namespace.enter()
        made.append(make())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return made[0]


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    install_programs({"nft": ("nftables",), "iptables-nft": ("iptables",), "ip": ("iproute2",)})
    folder = tmp_path_factory.mktemp("router")
    with contextlib.ExitStack() as stack:
        made = Router(*(stack.enter_context(kernel(folder)) for _number in range(3)))
        stack.enter_context(made.server)
        yield made


@pytest.fixture(autouse=True)
def cleaned(router):
    yield
    router.clean()


REPLIES = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
IPTABLES = {
    "policy": (["-P FORWARD DROP"], "dropped"),
    "by the published port": (["-A FORWARD -p tcp -m conntrack --ctorigdstport 30001 -j DROP"], "dropped"),
    "by the container": (["-A FORWARD -d 172.20.3.7/32 -p tcp -m tcp --dport 8001 -j REJECT"], "dropped"),
    "before translation": (["-t raw -A PREROUTING -p tcp -m tcp --dport 30001 -j DROP"], "dropped"),
    "mangle": (["-t mangle -A PREROUTING -p tcp -m multiport --dports 22,30000:30010 -j DROP"], "dropped"),
    "own chain": (["-N MINE", "-A FORWARD -p tcp -j MINE", "-A MINE -o br-+ -j DROP"], "dropped"),
    "goto": (["-P FORWARD DROP", "-N MINE", "-A FORWARD -g MINE", "-A MINE -p udp -j ACCEPT"], "dropped"),
    "translated only": (["-P FORWARD DROP", "-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT"], "accepted"),
    "another port": (["-A FORWARD -p tcp -m tcp --dport 8002 -j DROP"], "accepted"),
    "as Docker": (
        ["-P FORWARD DROP", REPLIES, f"-A FORWARD -d 172.20.3.7/32 ! -i {BRIDGE} -o {BRIDGE} -j ACCEPT"],
        "accepted",
    ),
    "to the container itself": ([f"-t raw -A PREROUTING -d 172.20.3.7/32 ! -i {BRIDGE} -j DROP"], "accepted"),
    "input": (["-A INPUT -p tcp -j DROP"], "accepted"),
}


@pytest.mark.parametrize("variant", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("name", IPTABLES)
def test_rules_of_iptables(router, variant, name):
    lines, expected = IPTABLES[name]
    for line in lines:
        router.iptables(variant, line)
    firewall, rule, command, unread = router.evaluate()
    assert (firewall, unread) == (expected, None)
    assert router.accepts() is (expected == "accepted")
    assert bool(rule) is (expected == "dropped")
    if rule:
        # The command shows the rule.
        assert command[0].startswith(variant)
        shown = router.router.run(*command)
        assert "DROP" in shown or "REJECT" in shown


HOOKED = """table inet mine {
    set ports {
        type inet_service
        flags interval
        elements = { 22, 8000-8010 }
    }
    map by_port {
        type inet_service : verdict
        elements = { 80 : accept, 8001 : jump helper }
    }
    chain helper {
        ct state new drop
    }
    chain %s {
        type filter hook %s priority %s; policy %s;
        %s
    }
}"""


def hooked(*lines, hook="forward", priority="filter", policy="accept"):
    return HOOKED % (hook, hook, priority, policy, "\n        ".join(lines))


def before(*lines):
    return hooked(*lines, hook="prerouting", priority="raw")


# A common /etc/nftables.conf of a server without containers.
SERVER = hooked("ct state established,related accept", 'iifname "lo" accept', policy="drop")
# The rules of firewalld, which accept translated packets.
FIREWALLD = """table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state established,related accept
        %s
        iifname "lo" accept
        ct state invalid drop
        jump filter_FORWARD_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_ZONES {
        iifname "dummy0" goto filter_FWD_public
    }
    chain filter_FWD_public {
        reject
    }
}"""
# The rules of an engine that keeps them in nftables.
BRIDGES = """table ip docker-bridges {
    map filter-forward-out-jumps {
        type ifname : verdict
        elements = { "%s" : jump out }
    }
    chain out {
        ct state established,related counter accept
        iifname "%s" counter accept comment "ICC"
        %s
        counter drop comment "UNPUBLISHED PORT DROP"
    }
    chain filter-FORWARD {
        type filter hook forward priority filter; policy accept;
        oifname vmap @filter-forward-out-jumps
    }
}"""
NFT = {
    "policy": (SERVER, "dropped"),
    "policy in a table of iptables": (SERVER.replace("table inet mine", "table ip filter"), "dropped"),
    "later chain": (
        hooked("accept") + "\n" + hooked("drop", priority="filter + 5").replace("mine", "later"),
        "dropped",
    ),
    "by the published port": (hooked("meta l4proto tcp ct original proto-dst 30001 drop"), "dropped"),
    "by the container": (hooked("ip daddr 172.20.0.0/16 tcp dport @ports counter log drop"), "dropped"),
    "by a range": (hooked("ip daddr 172.20.3.1-172.20.3.9 tcp dport >= 1024 reject with tcp reset"), "dropped"),
    "by a map": (hooked("tcp dport vmap @by_port"), "dropped"),
    "by a map of states": (hooked("ct state vmap { established : accept, new : jump helper }"), "dropped"),
    "by a bridge": (hooked('oifname "br-*" ip protocol tcp drop'), "dropped"),
    "by several at once": (hooked(f'oifname . tcp dport {{ "{BRIDGE}" . 8001 }} drop'), "dropped"),
    "goto": (
        hooked("tcp dport 8001 goto other", policy="drop").replace("helper {", "other {\n}\nchain helper {"),
        "dropped",
    ),
    "before translation": (before("tcp dport 30001 drop"), "dropped"),
    "by the kind of address": (before("fib daddr type local tcp dport 30001 drop"), "dropped"),
    "after translation": (hooked("tcp dport 8001 drop", hook="prerouting"), "dropped"),
    "firewalld without dnat": (FIREWALLD % "", "dropped"),
    "port that an engine does not publish": (BRIDGES % (BRIDGE, BRIDGE, ""), "dropped"),
    "firewalld": (FIREWALLD % "ct status dnat accept", "accepted"),
    "engine": (BRIDGES % (BRIDGE, BRIDGE, "ip daddr 172.20.3.7 tcp dport 8001 counter accept"), "accepted"),
    "another port": (hooked("ct state new tcp dport != @ports drop", "udp dport != 53 drop"), "accepted"),
    "container's port before translation": (before("tcp dport 8001 drop"), "accepted"),
    "published port after translation": (hooked("tcp dport 30001 drop", hook="prerouting"), "accepted"),
    "IPv6": (hooked("meta nfproto ipv6 drop", "ip6 daddr != ::1 drop"), "accepted"),
    "IPv6 alone": (SERVER.replace("table inet", "table ip6"), "accepted"),
    "input": (hooked(policy="drop", hook="input"), "accepted"),
    "allowed": (hooked("ct state established accept", "tcp dport @ports accept", policy="drop"), "accepted"),
}


@pytest.mark.parametrize("name", NFT)
def test_rules_of_nftables(router, name):
    text, expected = NFT[name]
    router.nft(text)
    firewall, rule, command, unread = router.evaluate()
    assert (firewall, unread) == (expected, None)
    assert router.accepts() is (expected == "accepted")
    assert bool(rule) is (expected == "dropped")
    if rule:
        assert rule.split(": ", 1)[1] in COUNTER.sub("", router.router.run(*command))


@pytest.mark.parametrize("rule", ["ip saddr 198.51.100.2 drop", 'iifname "up0" drop', "meta mark 0 drop"])
def test_a_rule_on_the_sender_is_undetermined(router, rule):
    router.nft(hooked(rule))
    assert router.evaluate()[0] == "undetermined"
    assert not router.accepts()


def test_a_rule_of_nft_in_a_table_of_iptables(router):
    """iptables-save omits the whole table then, and exits with 0."""
    router.iptables("iptables-nft", "-A FORWARD -p tcp -m conntrack --ctorigdstport 1 -j DROP")
    router.nft("add rule ip filter FORWARD meta mark 0 ct mark 0 accept")
    router.nft("insert rule ip filter FORWARD ct mark 0 tcp dport { 80, 8001 } drop")
    assert "incompatible" in router.router.run("iptables-nft-save")
    assert router.evaluate()[0] == "undetermined"
    router.nft("insert rule ip filter FORWARD tcp dport { 80, 8001 } drop")
    firewall, rule, command, _unread = router.evaluate()
    assert (firewall, rule) == ("dropped", "ip filter FORWARD: tcp dport { 80, 8001 } drop")
    assert command == ["nft", "-a", "list", "chain", "ip", "filter", "FORWARD"]
    assert not router.accepts()


@pytest.mark.parametrize("name", ["policy", "firewalld"])
def test_without_nft_its_rules_are_unknown(router, tmp_path, name):
    router.nft(NFT[name][0])
    router.router.run("nft", "delete", "table", "ip", "publishing")
    for program in ("iptables-nft-save", "iptables-legacy-save"):
        (tmp_path / program).symlink_to(shutil.which(program, path=SEARCH_PATH))
    firewall, _rule, _command, unread = router.evaluate(tmp_path)
    assert firewall is None
    assert "apt-get install nftables" in unread


def test_without_nft_and_without_its_rules_all_is_known(router, tmp_path):
    router.router.run("nft", "flush", "ruleset")
    router.router.run("iptables-nft", "-P", "FORWARD", "ACCEPT")
    for program in ("iptables-nft-save", "iptables-legacy-save"):
        (tmp_path / program).symlink_to(shutil.which(program, path=SEARCH_PATH))
    assert router.evaluate(tmp_path) == ["accepted", None, None, None]
