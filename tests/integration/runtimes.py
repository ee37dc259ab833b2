# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Engines and projects that differ from those of the lab."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import socket
import socketserver
import ssl
import threading

from tests.integration import areas
from tests.integration.modules import run_module_in_container
from tests.lab.engine import docker
from tests.lab.images import ensure_image, ensure_image_with
from tests.lab.servers import LABEL, PROCESS_LABEL, this_process
from tests.lab.shell import attempt, wait_until

SOCKET = "/var/run/docker.sock"
COMPOSE = "com.docker.compose"
# These tests are not about resource use or slow engines.
CALM = {
    "tracktion_sample_seconds": 0.1,
    "containers_disk_seconds": 20,
    "containers_timeout": 20,
    "containers_deadline": 60,
}


def visit(name, settings):
    """Return the measurement of an area."""
    _area, outcome, _settings = areas.visit(name, {**CALM, **settings})
    return outcome["measurement"]


def diagnose(name, settings, **arguments):
    return areas.diagnose(name, {**CALM, **settings}, **arguments)


def objects_by_check(found):
    """Return the objects of the findings by their check."""
    return {check.removeprefix("containers."): sorted(each["object"] for each in found[check]) for check in found}


OLD_FILE = """
version: "2.4"
services:
  web: &service
    image: {image}
    command: [sleep, infinity]
    init: true
    restart: always
    mem_limit: {limit}
    depends_on: [db]
    labels: {{{label}: containers}}
  db: {{<<: *service, depends_on: []}}
  migration: {{image: {image}, command: ["true"], labels: {{{label}: containers}}}}
"""


class OldProject:
    """A project on a host that has only compose v1."""

    def __init__(self, home):
        self.name = "tracktion-lab-%s" % secrets.token_hex(4)
        self.home = home
        self.host = ensure_image_with("bookworm", "docker-compose")
        self.seen = ("--volume", "%s:%s" % (SOCKET, SOCKET), "--volume", "%s:%s" % (home, home))
        (home / "deploy").mkdir()

    def write(self, limit="64m"):
        text = OLD_FILE.format(image=ensure_image("bookworm"), limit=limit, label=LABEL)
        (self.home / "deploy" / "docker-compose.yml").write_text(text)

    def compose(self, *words):
        # From the parent directory, so that the path in the labels is relative.
        old = ("docker-compose", "--project-name", self.name, "--file", "deploy/docker-compose.yml")
        return docker("run", "--rm", *self.seen, "--workdir", str(self.home), self.host, *old, *words)

    def look(self):
        settings = {"tracktion_compose_project": self.name, "containers_expected_services": ["web", "db"]}
        return diagnose("containers", settings)

    def recreate(self, check=False, **arguments):
        wanted = {"project": self.name, "service": "web", "_ansible_check_mode": check, **arguments}
        return run_module_in_container(self.host, "container_recreate", wanted, self.seen)

    def remove(self):
        mine = ("--quiet", "--filter", "label=%s.project=%s" % (COMPOSE, self.name))
        attempt("docker", "rm", "--force", "--volumes", *docker("ps", "--all", *mine).split())
        attempt("docker", "network", "rm", *docker("network", "ls", *mine).split())


@contextlib.contextmanager
def demanding_engine(directory):
    """A newer Docker, without containers, that does not support the version of the API of the machine's engine.

    Yields its socket.
    """
    with separate_engine(directory, "--env", "DOCKER_MIN_API_VERSION=1.44", "--volume", "/var/lib/docker"):
        yield directory / "docker.sock"


@contextlib.contextmanager
def separate_engine(directory, *options):
    """A newer Docker, without containers; ``options`` provide its data directory. Yields its container.

    Its socket is in ``directory``.
    """
    name = "tracktion-lab-%s" % secrets.token_hex(4)
    may = ("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE")
    may += tuple("--security-opt=%s=unconfined" % each for each in ("seccomp", "systempaths", "apparmor"))
    sees = ("--volume", "%s:/run/outside" % directory)
    labels = ("--label", "%s=containers" % LABEL, "--label", "%s=%s" % (PROCESS_LABEL, this_process()))
    command = ("dockerd", "--host", "unix:///run/outside/docker.sock", "--bridge=none", "--iptables=false")
    try:
        docker(
            *("run", "--detach", "--name", name, "--network", "none", *may, *sees, *labels),
            *(*options, ensure_image_with("trixie", "docker.io")),
            *(*command, "--ip6tables=false", "--storage-driver=vfs"),
        )
        host = "unix://%s" % (directory / "docker.sock")
        wait_until(lambda: attempt("docker", "--host", host, "version").returncode == 0, "a newer engine", 30)
        yield name
    finally:
        attempt("docker", "rm", "--force", "--volumes", name)


@contextlib.contextmanager
def engine_over_tcp(certificates=None):
    """The engine of the machine at a port of loopback; with ``certificates`` over TLS, for clients with a certificate.

    Yields the port.
    """
    context = None
    if certificates:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca_cert)
        context.verify_mode = ssl.CERT_REQUIRED
        directory = certificates.server_directory
        context.load_cert_chain(directory / "server.pem", directory / "server-key.pem")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            # Errors of a client that is rejected, or that has closed the connection.
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as engine:
                client = context.wrap_socket(self.request, server_side=True) if context else self.request
                engine.connect(SOCKET)
                while True:
                    pending = context and client.pending()
                    for sender in [client] if pending else select.select([client, engine], [], [])[0]:
                        data = sender.recv(65536)
                        if not data:
                            client.close()
                            return
                        (engine if sender is client else client).sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


@contextlib.contextmanager
def as_of_a_user(socket):
    """The socket at the path of a rootless engine: in the directory of its user, by the number of the user."""
    directory = "/run/user/%d" % os.stat(socket).st_uid
    assert not os.path.exists(directory), "%s exists" % directory
    os.makedirs(directory, mode=0o700)
    try:
        os.symlink(socket, directory + "/podman.sock")
        yield "unix://%s/podman.sock" % directory
    finally:
        os.unlink(directory + "/podman.sock")
        os.rmdir(directory)
