# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host whose network is broken, for the measuring process alone: it gets a network namespace of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

from ansible_collections.tracktion.ops.plugins.module_utils._linux import _network_namespace
from tests.integration.inotify_faults import call, libc, private_mounts
from tests.lab.engine import docker
from tests.lab.images import ensure_image
from tests.lab.servers import LABEL
from tests.lab.shell import SEARCH_PATH, attempt

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
MS_BIND = 0x1000


def program(*words):
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PATH": SEARCH_PATH})


def private_network():
    """A network of our own: the loopback device, and nothing else."""
    call(libc.unshare, _network_namespace.CLONE_NEWNET)
    program("ip", "link", "set", "lo", "up")


def forwarding_off():
    private_network()
    FORWARDING.write_text("0")


def rules(*lines):
    """A host that forwards, and has these rules alone."""
    private_network()
    FORWARDING.write_text("1")
    for line in lines:
        program("iptables", *line.split())


def resolv_conf(text, pid=None):
    """A host with these DNS servers, or a process that sees the network as another one does."""
    if pid:
        _network_namespace.enter(pid)
    private_mounts()
    with tempfile.NamedTemporaryFile("w", dir="/dev/shm") as file:
        file.write(text)
        file.flush()
        call(libc.mount, file.name.encode(), b"/etc/resolv.conf", None, MS_BIND, None)


@contextlib.contextmanager
def isolated_container():
    """A container on a network of its own, whose DNS server (127.0.0.11) asks nobody else; yields its pid."""
    name = "tracktion-test-network-%d" % os.getpid()
    label = "%s=test" % LABEL
    docker("network", "create", "--internal", "--label", label, name)
    try:
        options = ["--detach", "--init", "--name", name, "--label", label, "--network", name]
        # Its DNS server knows this name by itself, and must not ask the machine's for any other.
        options += ["--network-alias", "localhost", "--dns", "127.0.0.9"]
        docker("run", *options, ensure_image("bookworm"), "sleep", "infinity")
        yield int(docker("inspect", "--format", "{{.State.Pid}}", name))
    finally:
        attempt("docker", "rm", "--force", name)
        attempt("docker", "network", "rm", name)
