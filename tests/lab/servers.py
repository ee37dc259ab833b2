# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Single throwaway servers, for tests that need one of a kind: each a context manager, gone when it is left.

with postgres_server("bookworm", max_connections=20) as server:
    psycopg2.connect(host=server.host, port=server.port, user=server.user, password=server.password, dbname="tracktion")
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .certificates import Certificates, make_certificates
from .engine import docker
from .images import ensure_image
from .paths import CONTAINER_FILES
from .ports import free_ports
from .readiness import postgres_serves, rabbitmq_serves, redis_serves
from .shell import LabError, attempt, deadline_after, run

# Every container of the lab carries it, with its owner as the value.
LABEL = "tracktion.lab"
# The process that has to clean up, as "pid:start time"; one whose process is gone may be swept.
PROCESS_LABEL = "tracktion.lab.process"

# Debian's wrappers in Perl, in /usr/bin, cost four times as much as the programs.
POSTGRES_PATH = "/postgresql-bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Server:
    """A server in a container of its own, published on free ports of the loopback interface."""

    kind: str
    name: str
    suite: str
    ports: dict[str, int]
    user: str | None
    password: str | None
    database: str | None = None
    tls: Certificates | None = None
    host: str = field(default="127.0.0.1", init=False)

    @property
    def port(self) -> int:
        """The port that clients speak to (for RabbitMQ: AMQP)."""
        return next(iter(self.ports.values()))

    @property
    def management_port(self) -> int:
        """RabbitMQ's HTTP API."""
        return self.ports["management"]

    @property
    def ca_cert(self) -> Path | None:
        """The authority that signed the server's certificate."""
        return self.tls and self.tls.ca_cert

    @property
    def client_cert(self) -> Path | None:
        """A certificate for `user` that the server accepts."""
        return self.tls and self.tls.client_cert

    @property
    def client_key(self) -> Path | None:
        """The client certificate's key."""
        return self.tls and self.tls.client_key

    @property
    def address(self) -> str:
        """The container's address on the engine's bridge, reachable from this machine and from other containers."""
        return docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", self.name).strip()

    def exec(self, *command: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a command in the container and return its output."""
        return run(
            "docker", "exec", *(["-i"] if stdin is not None else []), self.name, *command, stdin=stdin, timeout=timeout
        )

    def logs(self) -> str:
        """Everything the server has said."""
        outcome = attempt("docker", "logs", self.name)
        return outcome.stdout + outcome.stderr

    def stop(self) -> None:
        """Stop the server as an operator would; its data stay."""
        docker("stop", "--time", "10", self.name)

    def start(self) -> None:
        """Start it again, on the same ports, and wait until it serves."""
        docker("start", self.name)
        self.wait()

    def pause(self) -> None:
        """Freeze it: connections open, and nothing ever answers."""
        docker("pause", self.name)

    def unpause(self) -> None:
        """Let it go on."""
        docker("unpause", self.name)

    def wait(self, timeout: float = 90) -> None:
        """Wait until the server serves."""
        deadline = deadline_after(timeout)
        while not self.serves():
            state = docker("inspect", "--format", "{{.State.Status}}", self.name).strip()
            if state == "exited" or time.monotonic() > deadline:
                raise LabError(f"{self.kind} server {self.name} ({state}) does not serve: {self.logs()[-2000:]}")
            time.sleep(0.3)

    def serves(self) -> bool:
        """Whether clients can log in now."""
        if self.kind == "postgres":
            return postgres_serves(self.port)
        if self.kind == "redis":
            return redis_serves(self.port, bool(self.tls))
        return rabbitmq_serves(self.management_port, bool(self.tls), self.user, self.password)


def postgres_server(
    suite: str = "bookworm", *, tls: bool = False, owner: str = "server", **settings: object
) -> contextlib.AbstractContextManager[Server]:
    """PostgreSQL; settings are the server's own (max_connections=20). User postgres, with a database `tracktion`."""
    password = secrets.token_hex(12)
    arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return serve(
        "postgres",
        suite,
        {"postgres": 5432},
        arguments,
        owner=owner,
        tls=tls,
        user="postgres",
        password=password,
        database="tracktion",
        environment={"PATH": POSTGRES_PATH, "POSTGRES_PASSWORD": password, "INIT_SQL": "/lab/create_database.sql"},
    )


def redis_server(
    suite: str = "bookworm",
    *arguments: str,
    password: str | None = "",
    tls: bool = False,
    owner: str = "server",
    config_file: bool = True,
) -> contextlib.AbstractContextManager[Server]:
    """Redis; arguments are its own ("--maxmemory", "64mb"). password=None asks for none, and config_file=False
    starts it without a file, so that CONFIG REWRITE fails."""
    if password == "":
        password = secrets.token_hex(12)
    protection = ["--requirepass", password] if password else []
    return serve(
        "redis",
        suite,
        {"redis": 6379},
        ["--save", "", *protection, *arguments],
        owner=owner,
        tls=tls,
        user=None,
        password=password,
        environment={"REDIS_CONFIG_FILE": "yes" if config_file else "no"},
    )


def rabbitmq_server(
    suite: str = "bookworm", *, tls: bool = False, owner: str = "server", **settings: object
) -> contextlib.AbstractContextManager[Server]:
    """RabbitMQ with its management API; settings are lines of rabbitmq.conf, with `__` for the dots."""
    password = secrets.token_hex(12)
    amqp, management = (5671, 15671) if tls else (5672, 15672)
    return serve(
        "rabbitmq",
        suite,
        {"amqp": amqp, "management": management},
        [f"{name.replace('__', '.')} = {value}" for name, value in settings.items()],
        owner=owner,
        tls=tls,
        user="tracktion",
        password=password,
        environment={"RABBITMQ_USER": "tracktion", "RABBITMQ_PASSWORD": password},
    )


@contextlib.contextmanager
def serve(
    kind: str,
    suite: str,
    inner_ports: dict[str, int],
    arguments: list[str],
    *,
    owner: str,
    tls: bool,
    user: str | None,
    password: str | None,
    environment: dict[str, str],
    database: str | None = None,
) -> Iterator[Server]:
    """Run one server for as long as the context lasts."""
    image = ensure_image(suite)
    name = f"tracktion-lab-{kind}-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="tracktion-lab-") as directory:
        certificates = make_certificates(Path(directory), user or "client") if tls else None
        ports = dict(zip(inner_ports, free_ports(len(inner_ports)), strict=True))
        server = Server(kind, name, suite, ports, user, password, database, certificates)
        try:
            docker(
                "run",
                "--detach",
                "--init",
                "--name",
                name,
                "--label",
                f"{LABEL}={owner}",
                "--label",
                f"{PROCESS_LABEL}={this_process()}",
                # PostgreSQL waits for its clients to leave when it is asked in the usual way.
                *(["--stop-signal", "SIGINT"] if kind == "postgres" else []),
                "--volume",
                f"{CONTAINER_FILES}:/lab:ro",
                *(["--volume", f"{certificates.server_directory}:/tls:ro"] if certificates else []),
                *(word for key, value in environment.items() for word in ("--env", f"{key}={value}")),
                *(
                    word
                    for key, port in ports.items()
                    for word in ("--publish", f"127.0.0.1:{port}:{inner_ports[key]}")
                ),
                image,
                "/bin/sh",
                f"/lab/{kind}.sh",
                *arguments,
            )
            server.wait()
            yield server
        finally:
            attempt("docker", "rm", "--force", "--volumes", name)


def this_process() -> str:
    """Return an id of this process that differs from a later process with the same pid."""
    return f"{os.getpid()}:{start_time(os.getpid())}"


def start_time(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The program's name, in brackets, may hold anything.
    fields = stat.rpartition(")")[2].split()
    # What has ended and only waits for its parent to notice is as good as gone.
    return None if fields[0] == "Z" else fields[19]


def is_alive(process: str) -> bool:
    """Whether a process that `this_process` named still runs."""
    pid, _colon, started = process.partition(":")
    return pid.isdigit() and start_time(int(pid)) == started


def sweep(everything: bool = False) -> list[str]:
    """Remove the servers whose process is gone (or all of them) and return their names."""
    listing = docker(
        "ps",
        "--all",
        "--filter",
        f"label={PROCESS_LABEL}",
        "--format",
        '{{.Names}}\t{{.Label "' + PROCESS_LABEL + '"}}',
    )
    servers = [line.split("\t") for line in listing.splitlines()]
    swept = [name for name, process in servers if everything or not is_alive(process)]
    if swept:
        docker("rm", "--force", "--volumes", *swept)
    return swept
