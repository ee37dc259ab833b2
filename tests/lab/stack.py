# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stack: compose brings it up, and a test or a fault reaches into it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from . import inventory
from .audio_library import ensure_audio_library
from .engine import compose_command, docker, ensure
from .images import ensure_image
from .paths import LAB, STACKS
from .ports import free_ports, is_free
from .servers import LABEL
from .shell import SEARCH_PATH, LabError, attempt, deadline_after, locked, run, say, step

DATABASE = "tracktion"
SERVICES = ("postgres", "redis", "rabbitmq", "analysis_service", "tracklist_service", "file_watcher")
PORTS = ("postgres", "redis", "amqp", "management", "analysis", "tracklist", "watcher")
PASSWORDS = ("superuser", "application", "operator", "monitor", "redis", "rabbitmq")
BROKER_USERS = {"tracktion": "administrator", "analysis_service": "", "tracklist_service": "", "file_watcher": ""}

# What each role of the database is called, and whose password it has.
DATABASE_ROLES = {
    "superuser": "postgres",
    "application": "tracktion_user",
    "operator": "tracktion_operator",
    "monitor": "tracktion_monitor",
}


def default_name() -> str:
    """Return the name of the stack that commands without --name use."""
    return os.environ.get("LAB_NAME", "")


class Stack:
    """One stack, by its name; the nameless one is the default. Its files are a small compose deployment."""

    def __init__(self, name: str | None = None) -> None:
        self.name = default_name() if name is None else name
        if self.name and not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise LabError(f"{self.name!r} cannot name a stack: small letters, digits, - and _ can")
        self.project = f"tracktion-lab-{self.name}" if self.name else "tracktion-lab"
        self.directory = STACKS / (self.name or "default")

    # What is known of it

    @property
    def state(self) -> dict:
        """Suite, ports and passwords, as chosen when it came up."""
        try:
            return json.loads((self.directory / "state.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise LabError(f"there is no stack {self.project} here; bring it up: lab up{self.option}") from None

    @property
    def option(self) -> str:
        """Return the option that names it in commands of the lab."""
        return f" --name {self.name}" if self.name else ""

    @property
    def exists(self) -> bool:
        """Whether it was brought up from this checkout and not taken down."""
        return (self.directory / "state.json").exists()

    @property
    def ports(self) -> dict[str, int]:
        """Published ports on 127.0.0.1: postgres, redis, amqp, management, analysis, tracklist, watcher."""
        return self.state["ports"]

    @property
    def passwords(self) -> dict[str, str]:
        """By whose they are: superuser, application, operator, monitor (database roles), redis, rabbitmq."""
        return self.state["passwords"]

    @property
    def watched_directory(self) -> Path:
        """The directory that the file watcher watches, as this machine sees it."""
        return self.directory / "music"

    @property
    def network(self) -> str:
        """The network that its containers share."""
        return f"{self.project}_default"

    @property
    def inventory(self) -> Path:
        """The inventory with one host, `lab`."""
        return self.directory / "inventory.yml"

    def url(self, service: str, path: str = "/health") -> str:
        """The address of one of the three services: analysis, tracklist or watcher."""
        return f"http://127.0.0.1:{self.ports[service]}{path}"

    # Coming and going

    def up(self, suite: str | None = None, timeout: float = 120) -> None:
        """Bring it up and wait until every service is healthy; what is up already is only verified."""
        ensure()
        with locked(STACKS / f"{self.directory.name}.lock"):
            self.check_owner()
            if not self.exists:
                if remove_project(self.project):
                    # Its passwords are lost with the deleted directory.
                    say(f"  {self.project}: removed what a deleted checkout had left")
                self.choose_state(suite or "bookworm")
            elif suite not in (None, self.state["suite"]):
                raise LabError(f"{self.project} is up on {self.state['suite']}; first: lab down{self.option}")
            self.write_files()
            self.compose_up(timeout)
            self.inventory.write_text(inventory.of_stack(self), encoding="utf-8")

    def check_owner(self) -> None:
        """Two checkouts must not share a stack: each would replace the other's containers."""
        directories = docker(
            "ps",
            "--all",
            "--filter",
            f"label=com.docker.compose.project={self.project}",
            "--format",
            '{{.Label "com.docker.compose.project.working_dir"}}',
        ).splitlines()
        others = {directory for directory in directories if Path(directory) != self.directory}
        if others:
            raise LabError(
                f"{self.project} belongs to {', '.join(sorted(others))}; use another name (--name, or LAB_NAME), "
                "or take it down there"
            )

    def choose_state(self, suite: str) -> None:
        """Choose ports and passwords, once per stack."""
        self.directory.mkdir(parents=True, exist_ok=True)
        state = {
            "project": self.project,
            "suite": suite,
            "ports": dict(zip(PORTS, free_ports(len(PORTS)), strict=True)),
            "passwords": {owner: secrets.token_hex(12) for owner in PASSWORDS},
            # inotify's limits are per user and per kernel: a user of its own keeps a stack from starving another.
            "service_uid": random.randint(20000, 60000),
        }
        file = self.directory / "state.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")

    def write_files(self) -> None:
        """Write the deployment: compose.yaml, .env, the broker's users, and the watched directory."""
        state = self.state
        text = (LAB / "compose.yaml").read_text(encoding="utf-8")
        # Not a variable: no container confirms its value, so the diagnosis would ask for it.
        if "LAB_HEALTH_INTERVAL" in os.environ:
            text = re.sub(r"(?m)^(  interval:) .*", r"\1 " + os.environ["LAB_HEALTH_INTERVAL"], text)
        (self.directory / "compose.yaml").write_text(text, encoding="utf-8")
        settings = {
            "COMPOSE_PROJECT_NAME": self.project,
            "IMAGE": ensure_image(state["suite"]),
            "LAB_FILES": LAB,
            "AUDIO_LIBRARY": ensure_audio_library(state["suite"]),
            "SERVICE_UID": state["service_uid"],
            **{f"{name.upper()}_PORT": port for name, port in state["ports"].items()},
            **{f"{owner.upper()}_PASSWORD": password for owner, password in state["passwords"].items()},
        }
        (self.directory / ".env").touch(mode=0o600)
        (self.directory / ".env").write_text(
            "".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8"
        )
        (self.directory / "definitions.json").write_text(
            json.dumps(broker_definitions(state["passwords"]["rabbitmq"]), indent=2), encoding="utf-8"
        )
        (self.watched_directory / "incoming").mkdir(parents=True, exist_ok=True)

    def compose_up(self, timeout: float) -> None:
        """Start the services that do not run, and print when each becomes healthy."""
        busy = [name for name, port in self.ports.items() if not is_free(port)] if not self.health() else []
        if busy:
            raise LabError(
                f"ports of {', '.join(busy)} were taken while the stack was away; lab down{self.option}, "
                "then up again chooses new ones"
            )
        with step(f"stack {self.project}"):
            started, deadline = time.monotonic(), deadline_after(timeout)
            process = subprocess.Popen(
                [*compose_command(), *self.compose_options(), "up", "--detach", "--wait"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "PATH": SEARCH_PATH},
            )
            healthy: set[str] = set()
            while True:
                ended = process.poll() is not None
                now = {service for service, health in self.health().items() if health == "healthy"}
                for service in sorted(now - healthy):
                    say(f"    {service} healthy after {time.monotonic() - started:.1f} s")
                healthy |= now
                if ended:
                    break
                if time.monotonic() > deadline:
                    process.kill()
                    break
                time.sleep(0.4)
            output = process.communicate()[0]
        missing = set(SERVICES) - now
        if missing:
            logs = "".join(attempt("docker", "logs", "--tail", "5", self.container(name)).stdout for name in missing)
            raise LabError(f"not healthy: {', '.join(sorted(missing))}. Compose: {output.strip()[-600:]} Logs: {logs}")

    def health(self) -> dict[str, str]:
        """Each service's health (or state, where it runs without a health check)."""
        rows = docker(
            "ps",
            "--all",
            "--filter",
            f"label=com.docker.compose.project={self.project}",
            "--format",
            '{{.Label "com.docker.compose.service"}}\t{{.State}}\t{{.Status}}',
        ).splitlines()
        health = {}
        for service, state, status in (row.split("\t") for row in rows):
            match = re.search(r"\((?:health: )?(\w+)\)", status) if state == "running" else None
            health[service] = match.group(1) if match else state
        return health

    def down(self) -> None:
        """Remove its containers, networks, volumes and files, whatever state they are in."""
        with locked(STACKS / f"{self.directory.name}.lock"):
            self.check_owner()
            remove_project(self.project)
            shutil.rmtree(self.directory, ignore_errors=True)
        (STACKS / f"{self.directory.name}.lock").unlink(missing_ok=True)

    # Reaching into it

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{self.project}-{service}-1"

    def docker(self, *arguments: str, timeout: float = 60) -> str:
        """Run a docker command and return its output."""
        return docker(*arguments, timeout=timeout)

    def compose(self, *arguments: str, timeout: float = 120) -> str:
        """Run a compose command on this stack and return its output."""
        return run(*compose_command(), *self.compose_options(), *arguments, timeout=timeout)

    def compose_options(self) -> tuple[str, ...]:
        """Return the options that select this stack."""
        return ("--project-directory", str(self.directory), "--file", str(self.directory / "compose.yaml"))

    def exec(self, service: str, *command: str, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a command in a service's container and return its output."""
        interactive = ["--interactive"] if stdin is not None else []
        return run("docker", "exec", *interactive, self.container(service), *command, stdin=stdin, timeout=timeout)

    def wait_healthy(self, *services: str, timeout: float = 60) -> None:
        """Wait until these services (by default all) are healthy."""
        wanted = set(services or SERVICES)
        deadline = deadline_after(timeout)
        while True:
            health = self.health()
            amiss = {service: health.get(service, "absent") for service in wanted if health.get(service) != "healthy"}
            if not amiss:
                return
            if time.monotonic() > deadline:
                raise LabError(f"not healthy after {timeout:.0f} s: {amiss}")
            time.sleep(0.4)

    @contextlib.contextmanager
    def stopped(self, service: str) -> Iterator[None]:
        """A service's container is stopped as long as the context lasts, and healthy again after it."""
        docker("stop", "--time", "5", self.container(service))
        try:
            yield
        finally:
            docker("start", self.container(service))
            self.wait_healthy(service)

    def psql(self, statement: str) -> str:
        """Run a statement as the superuser, without any client library, and return its rows, unaligned."""
        return self.exec(
            "postgres", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", DATABASE, "-c", statement
        )

    def postgres(self, role: str = "application", *, superuser: bool = False, **options):
        """A new psycopg2 connection, in the name of one of DATABASE_ROLES."""
        import psycopg2

        role = "superuser" if superuser else role
        return psycopg2.connect(
            **{
                "host": "127.0.0.1",
                "port": self.ports["postgres"],
                "dbname": DATABASE,
                "user": DATABASE_ROLES[role],
                "password": self.passwords[role],
                "connect_timeout": 5,
                "application_name": "lab",
                **options,
            }
        )

    def redis(self, **options):
        """A redis.Redis client."""
        import redis

        return redis.Redis(
            **{
                "host": "127.0.0.1",
                "port": self.ports["redis"],
                "password": self.passwords["redis"],
                "socket_timeout": 10,
                "socket_connect_timeout": 5,
                **options,
            }
        )

    def amqp(self, user: str = "tracktion", **options):
        """A pika.BlockingConnection."""
        import pika

        return pika.BlockingConnection(
            pika.ConnectionParameters(
                **{
                    "host": "127.0.0.1",
                    "port": self.ports["amqp"],
                    "socket_timeout": 5,
                    "credentials": pika.PlainCredentials(user, self.passwords["rabbitmq"]),
                    "client_properties": {"connection_name": "lab"},
                    **options,
                }
            )
        )

    def rabbitmq_api(self, method: str, path: str, body: object = None):
        """A request to the management API (path: "/queues"); returns the parsed answer, None where there is none."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['management']}/api{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        login = base64.b64encode(f"tracktion:{self.passwords['rabbitmq']}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise LabError(f"RabbitMQ answered {error.code} to {method} {path}: {error.read()[:300]!r}") from error
        return json.loads(text) if text.strip() else None

    def fault(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Break it in a named way for as long as the context lasts."""
        from . import faults

        return faults.injected(name, self)


def broker_definitions(password: str) -> dict:
    """The broker's accounts, one per service, as RabbitMQ imports them at its start."""
    salt = secrets.token_bytes(4)
    digest = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    return {
        "vhosts": [{"name": "/"}],
        "users": [
            {"name": name, "password_hash": digest, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": tags}
            for name, tags in BROKER_USERS.items()
        ],
        "permissions": [
            {"user": name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"} for name in BROKER_USERS
        ],
    }


def all_stacks() -> list[Stack]:
    """The stacks that this checkout has brought up."""
    directories = sorted(file.parent for file in STACKS.glob("*/state.json"))
    return [Stack("" if directory.name == "default" else directory.name) for directory in directories]


def remove_project(project: str) -> bool:
    """Remove everything that carries a stack's label: its services, its hosts, and what faults put beside them.

    Return whether there was anything.
    """
    label = f"label={LABEL}={project}"
    containers = docker("ps", "--all", "--quiet", "--filter", label).split()
    if containers:
        docker("rm", "--force", "--volumes", *containers, timeout=120)
    for kind in ("network", "volume"):
        found = docker(kind, "ls", "--quiet", "--filter", f"label=com.docker.compose.project={project}").split()
        if found:
            docker(kind, "rm", *found)
        containers += found
    return bool(containers)
