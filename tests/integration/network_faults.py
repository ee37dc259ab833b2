# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of the network of a host, only for the measuring process, which gets a network namespace of its own."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._network import _network_namespace
from tests.integration.inotify_faults import call, libc, private_mounts
from tests.lab.engine import docker
from tests.lab.images import ensure_image
from tests.lab.servers import LABEL
from tests.lab.shell import SEARCH_PATH, attempt

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
MS_BIND = 0x1000
CAPABILITY_VERSION = 0x20080522
CAP_SYS_ADMIN = 21
CLONE_NEWUSER = 0x10000000


def program(*words):
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PATH": SEARCH_PATH})


def private_network():
    """Enter a new network namespace that has only the loopback device."""
    call(libc.unshare, _network_namespace.CLONE_NEWNET)
    program("ip", "link", "set", "lo", "up")


def forwarding_off():
    private_network()
    FORWARDING.write_text("0")


def rules(*lines):
    """A host that forwards packets and has only these rules."""
    private_network()
    FORWARDING.write_text("1")
    for line in lines:
        program("iptables", *line.split())


def without_capability(number):
    """Drop one capability of root, as in a container."""
    header, data = struct.pack("=Ii", CAPABILITY_VERSION, 0), ctypes.create_string_buffer(24)
    call(libc.capget, header, data)
    words = list(struct.unpack("=6I", data.raw))
    # Effective, permitted, inheritable sets: first for capabilities 0 to 31, then for the others.
    words[:3] = [word & ~(1 << number) for word in words[:3]]
    call(libc.capset, header, struct.pack("=6I", *words))


def named_dockerd(*flags):
    """Start a process named dockerd with these flags. It ends after 10 s."""
    words = ["dockerd", "-c", "import time; time.sleep(10)", *flags]
    subprocess.Popen(words, executable=sys.executable)


def without_nft(folder):
    """A host that has a table of nftables, and no program nft."""
    rules("-P FORWARD ACCEPT")
    program("nft", "add", "table", "inet", "mine")
    for name in ("iptables-nft-save", "ip"):
        (folder / name).symlink_to(shutil.which(name, path=SEARCH_PATH))
    _programs.SEARCH_PATH = str(folder)


class Containers:
    """Containers of a project by service. Those in SERVING answer on port 8000."""

    SERVING = ("db", "web")

    def __init__(self, project, networks):
        """``networks`` by service: ``default``, ``host``, ``none`` or ``container:<service>``."""
        self.project, self.networks = project, networks
        self.default = "%s_default" % project
        self.labels = ["--label", "%s=test" % LABEL, "--label", "com.docker.compose.project=%s" % project]

    def __enter__(self):
        docker("network", "create", *self.labels, self.default)
        for service in self.networks:
            self.make(service)
        return self

    def __exit__(self, *_raised):
        for service in self.networks:
            attempt("docker", "rm", "--force", self.name(service))
        attempt("docker", "network", "rm", self.default)

    def name(self, service):
        return "%s-%s-1" % (self.project, service)

    def inspect(self, service):
        (found,) = json.loads(docker("inspect", self.name(service)))
        return found

    def make(self, service):
        """Create a container, and replace an existing one."""
        network = self.networks[service]
        mode, _colon, other = network.partition(":")
        options = ["--network", "container:" + self.name(other) if other else mode]
        if mode == "default":
            # No DNS server other than that of the engine must be used.
            options = ["--network", self.default, "--network-alias", service, "--dns", "127.0.0.9"]
        options += [*self.labels, "--label", "com.docker.compose.service=%s" % service, "--name", self.name(service)]
        command = ["python3", "-m", "http.server", "8000"] if service in self.SERVING else ["sleep", "infinity"]
        attempt("docker", "rm", "--force", self.name(service))
        docker("run", "--detach", "--init", *options, ensure_image("bookworm"), *command)


def resolv_conf(text, pid=None):
    """Use this resolv.conf, and with ``pid`` the network namespace of another process."""
    if pid:
        _network_namespace.enter(pid)
    private_mounts()
    with tempfile.NamedTemporaryFile("w", dir="/dev/shm") as file:
        file.write(text)
        file.flush()
        call(libc.mount, file.name.encode(), b"/etc/resolv.conf", None, MS_BIND, None)


def no_resolv_conf():
    """A host without resolv.conf, as with a link to the file of a removed service."""
    private_mounts()
    empty = tempfile.mkdtemp(dir="/dev/shm")
    call(libc.mount, empty.encode(), b"/etc", None, MS_BIND, None)
    os.rmdir(empty)


@contextlib.contextmanager
def isolated_container():
    """A container on an internal network, whose DNS server (127.0.0.11) does not forward queries; yields its pid."""
    name = "tracktion-test-network-%d" % os.getpid()
    label = "%s=test" % LABEL
    docker("network", "create", "--internal", "--label", label, name)
    try:
        options = ["--detach", "--init", "--name", name, "--label", label, "--network", name]
        # Its DNS server has this name, and must not forward other queries to that of the host.
        options += ["--network-alias", "localhost", "--dns", "127.0.0.9"]
        docker("run", *options, ensure_image("bookworm"), "sleep", "infinity")
        yield int(docker("inspect", "--format", "{{.State.Pid}}", name))
    finally:
        attempt("docker", "rm", "--force", name)
        attempt("docker", "network", "rm", name)
