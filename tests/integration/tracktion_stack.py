# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Tracktion in the shape of its published compose files, tracktion/docker-compose.yaml, with small services."""

from __future__ import annotations

import contextlib
import random
import secrets
import shutil
from pathlib import Path

from tests.lab.audio_library import ensure_audio_library
from tests.lab.engine import compose_command, docker, ensure
from tests.lab.images import ensure_image
from tests.lab.paths import CONTAINER_FILES, MACHINE
from tests.lab.servers import sweep, this_process
from tests.lab.shell import attempt, locked, run, succeeds, wait_until
from tests.lab.throwaway import inspect

FILES = Path(__file__).with_name("tracktion")
READY = {
    "postgres": ("psql", "-h", "127.0.0.1", "-U", "tracktion_user", "-d", "tracktion", "-c", "select 1"),
    "redis": ("redis-cli", "ping"),
    # rabbitmqctl, which starts an Erlang of its own at each call, would slow down what it waits for.
    "rabbitmq": ("bash", "-c", "</dev/tcp/127.0.0.1/5672"),
}


class Tracktion:
    """The stack in its project folder, published with its usual ports on a loopback address of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password = secrets.token_hex(12)
        self.address = "127.%d.%d.%d" % (random.randint(64, 127), random.randint(0, 255), random.randint(1, 254))

    @property
    def project(self) -> str:
        """What compose calls it: by its folder."""
        return self.folder.name

    def write(self) -> None:
        """Put the project folder there."""
        (self.folder / "data/music/incoming").mkdir(parents=True)
        for name in ("docker-compose.yaml", "database.sql", "services.py"):
            shutil.copy(FILES / name, self.folder)
        settings = {
            "IMAGE": ensure_image("trixie"),
            "OWNER": self.project,
            "PROCESS": this_process(),
            "LAB_FILES": CONTAINER_FILES,
            "AUDIO_LIBRARY": ensure_audio_library("trixie"),
            "ADDRESS": self.address,
            "POSTGRES_PASSWORD": self.password,
            "RABBITMQ_PASSWORD": self.password,
            "WATCHER_USER": "guest",
            "WATCHER_PASSWORD": "guest",
        }
        (self.folder / ".env").write_text("".join("%s=%s\n" % entry for entry in settings.items()))

    def compose(self, *arguments: str) -> str:
        """Compose as it is called in the folder: it finds its file by itself."""
        return run("env", "--chdir", self.folder, *compose_command(), *arguments, timeout=120)

    def up(self) -> None:
        """The servers first: nothing in the file makes the others wait until they are ready."""
        self.compose("up", "--detach", *READY)
        for service, command in READY.items():
            wait_until(lambda asked=command, of=service: self.answers(of, *asked), service, 60)
        self.compose("up", "--detach")
        wait_until(lambda: self.state("migrations")["Status"] == "exited", "the migrations to end", 30)
        for port in (8001, 8002):
            self.wait_healthy(port)

    def wait_healthy(self, port: int) -> None:
        """Wait until the service behind a port says that it is well."""
        health = ("curl", "--fail", "--silent", "http://%s:%d/health" % (self.address, port))
        wait_until(lambda: succeeds(*health), "port %d" % port, 60)

    def wait_for_words(self, service: str, words: str, times: int) -> None:
        """Wait until a service's log has them so often."""

        def said() -> int:
            log = attempt("docker", "logs", self.name(service))
            return (log.stdout + log.stderr).count(words)

        wait_until(lambda: said() >= times, "%s to say %r" % (service, words), 60)

    def settings(self, **changed: str) -> None:
        """Change what .env says, as a person would in an editor."""
        lines = (self.folder / ".env").read_text().splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in changed]
        (self.folder / ".env").write_text("\n".join([*kept, *("%s=%s" % entry for entry in changed.items())]) + "\n")

    def down(self) -> None:
        """Nothing of it is left but its folder."""
        self.compose("down", "--volumes", "--timeout", "2")

    @staticmethod
    def name(service: str) -> str:
        """The container of a service, by the name that the file gives it."""
        return "tracktion-" + service

    def answers(self, service: str, *command: str) -> bool:
        """Whether a command in a service's container ends well."""
        return succeeds("docker", "exec", "--env", "PGPASSWORD=" + self.password, self.name(service), *command)

    def publish(self, queue: str, body: str) -> None:
        """Publish a message to a queue, from the container of cataloging."""
        code = (
            "import os, sys, pika\n"
            "login = pika.PlainCredentials('tracktion', os.environ['RABBITMQ_DEFAULT_PASS'])\n"
            "with pika.BlockingConnection(pika.ConnectionParameters('rabbitmq', credentials=login)) as connection:\n"
            "    connection.channel().basic_publish('', sys.argv[1], sys.argv[2].encode())"
        )
        self.exec("cataloging_service", "python3", "-c", code, queue, body)

    def exec(self, service: str, *command: str) -> str:
        """Run a command in a service's container and return its output."""
        return docker("exec", self.name(service), *command)

    def state(self, service: str) -> dict:
        """What the engine says of a service's state."""
        return self.inspect(service)["State"]

    def inspect(self, service: str) -> dict:
        """What the engine says of a service's container."""
        return inspect(self.name(service))


@contextlib.contextmanager
def tracktion(folder: Path):
    """The stack, healthy but for the watcher. Its containers' names are the machine's: one at a time."""
    ensure()
    with locked(MACHINE / "tracktion-shape.lock"):
        sweep()
        stack = Tracktion(folder / ("tracktion-" + secrets.token_hex(3)))
        stack.write()
        try:
            stack.up()
            yield stack
        finally:
            stack.down()
