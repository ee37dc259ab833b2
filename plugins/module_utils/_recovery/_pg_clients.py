# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client programs of PostgreSQL in the server's own version. Private to this collection.

Those of the host, if it has the server's major version. Otherwise those of the server's image, in a throwaway container
that shares the network of the server's container and the directory of the backup. A password is sent to the standard
input of a program only.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _programs
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _engine
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import name_of
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _process_mark, _run
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

# Where packages install the programs of a major version: on Debian, and the packages of postgresql.org for EL.
DIRECTORIES = ("/usr/lib/postgresql/%d/bin", "/usr/pgsql-%d/bin")
VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")
# On each throwaway container, with the process that has started it.
LABEL = "tracktion.ops.recovery"
ENGINE_SECONDS = 10.0
GONE = re.compile(r"already in progress|No such container")
SPEC: dict[str, Any] = {"docker_host": _engine.SPEC["docker_host"]}


class NoClient(Failure):
    """No client programs of the server's major version are on the host, nor in an image that is on the host."""

    kind = "no_client"


class Server(NamedTuple):
    """The container of a server: its id, name and image, and the port of the server in it."""

    identity: str
    name: str
    image: str
    port: int


class Clients:
    """Runs client programs. A context manager, which removes the containers that are left after a failure.

    ``version`` is what pg_dump calls itself, ``version_num`` the same as a number (150014). ``source`` describes where
    the programs are, for a person. ``container`` is the name of the server's container, or null.
    """

    def __init__(
        self, options: Options, directory: str, version: str, container: Server | None, writable: str | None
    ) -> None:
        self._options = options
        self._directory = directory
        self._writable = writable
        self._server = container
        self._names: list[str] = []
        self.version = version
        self.version_num = version_number(version)
        self.container = container.name if container else None
        self.source = "image of container %s" % container.name if container else directory

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._server and self._names:
            with contextlib.suppress(Failure):
                _docker(self._options, ["rm", "--force", *self._names], Deadline(ENGINE_SECONDS))

    def run(
        self,
        program: str,
        arguments: Sequence[str],
        deadline: Deadline,
        database: str | None = None,
        output: str | None = None,
        watch: Callable[[], None] | None = None,
        most: int = 65536,
    ) -> str:
        """Run a program to its end and return the beginning of its output; see ``_run.run``.

        ``database``: connect to it, by options of this object. Without one, no connection options are given, as for
        ``pg_restore --list``. Paths in ``arguments`` are those of the host, below the directory of ``find``. Raises
        ProgramFailed, OutOfTime.
        """
        secret = self._options["login_password"] if database is not None else ""
        words = [*arguments]
        environment: Mapping[str, str] = {}
        if database is not None:
            words = ["--password" if secret else "--no-password", *words]
            environment = self._environment(database)
        command = [os.path.join(self._directory, program), *words]
        if self._server:
            command = self._in_container(self._server, command, environment)
            environment = {}
        password = [self._options["login_password"]]
        return _run.run(program, command, deadline, environment, secret or None, output, watch, password, most)

    def _environment(self, database: str) -> dict[str, str]:
        """Return the variables of libpq. None of them is secret."""
        options = self._options
        host = options["login_unix_socket"] or options["login_host"]
        found = {
            "PGHOST": host,
            "PGPORT": str(options["login_port"]),
            "PGUSER": options["login_user"],
            "PGDATABASE": database,
            "PGSSLMODE": options["ssl_mode"],
            "PGAPPNAME": "tracktion.ops",
            "PGCONNECT_TIMEOUT": str(max(2, int(options["timeout"]))),
            "PGSSLROOTCERT": options["ca_cert"],
            "PGSSLCERT": options["ssl_cert"],
            "PGSSLKEY": options["ssl_key"],
        }
        if self._server:
            # The name stays, for the verification of a certificate.
            found.update(PGHOSTADDR="127.0.0.1", PGPORT=str(self._server.port))
        return {name: value for name, value in found.items() if value}

    def _in_container(self, server: Server, command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        name = "tracktion-recovery-%s" % secrets.token_hex(6)
        self._names.append(name)
        # Docker would create a directory that does not exist.
        mounts = [self._writable] if self._writable and os.path.isdir(self._writable) else []
        files = [self._options[each] for each in ("ca_cert", "ssl_cert", "ssl_key") if self._options[each]]
        variables = [word for pair in environment.items() for word in ("--env", "%s=%s" % pair)]
        return [
            *_docker_command(self._options),
            *("run", "--rm", "--interactive", "--name", name, "--label", "%s=%s" % (LABEL, _process_mark.own())),
            *("--pull", "never", "--network", "container:%s" % server.identity),
            *("--user", "%d:%d" % (os.geteuid(), os.getegid())),
            *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--security-opt", "label=disable", "--log-driver", "none"),
            *(word for path in mounts for word in ("--volume", "%s:%s" % (path, path))),
            *(word for path in files for word in ("--volume", "%s:%s:ro" % (path, path))),
            *variables,
            *("--entrypoint", command[0], server.image, *command[1:]),
        ]


def find(options: Options, version_num: int, folder: str | None, deadline: Deadline) -> Clients:
    """Return the clients for the server at ``options`` (of ``CONNECTION_SPEC`` and ``SPEC``).

    ``version_num`` is the server's (150004). ``folder`` is the directory that programs read and write. Raises NoClient.
    """
    major = version_num // 10000
    for directory in [each % major for each in DIRECTORIES] + [""]:
        program = os.path.join(directory, "pg_dump") if directory else _programs.find("pg_dump") or ""
        if not os.access(program, os.X_OK):
            continue
        version = _asked([program, "--version"], deadline)
        if version_number(version) // 10000 == major:
            return Clients(options, os.path.dirname(program), version, None, folder)
    return _of_image(options, major, folder, deadline)


def _of_image(options: Options, major: int, folder: str | None, deadline: Deadline) -> Clients:
    hint = "Install them: `apt-get install postgresql-client-%d`, or the package of your distribution." % major
    message = "pg_dump of PostgreSQL %d is not on this host" % major
    if _programs.find("docker") is None:
        raise NoClient("%s, and there is no docker command to use that of the server's image" % message, hint)
    try:
        server = server_container(options, deadline)
        remove_leftovers(options, deadline)
    except CannotConnect as exc:
        raise NoClient("%s, and the containers are not known: %s" % (message, exc), hint)
    if server is None:
        raise NoClient("%s, and no container of it serves this port" % message, hint)
    failure = ""
    for directory in [each % major for each in DIRECTORIES] + ["/usr/local/bin", "/usr/bin"]:
        candidate = Clients(options, directory, "", server, folder)
        try:
            with candidate:
                version = candidate.run("pg_dump", ["--version"], deadline)
        except _run.ProgramFailed as exc:
            failure = str(exc)
            continue
        if version_number(version) // 10000 == major:
            return Clients(options, directory, version.strip(), server, folder)
    raise NoClient("%s, nor in the image of container %s: %s" % (message, server.name, failure), hint)


def server_container(options: Options, deadline: Deadline) -> Server | None:
    """Return the running container that serves the address of ``options``, or null. Raises CannotConnect."""
    with DockerApi(_engine.address(_engine_options(options)), deadline.step(ENGINE_SECONDS), deadline) as api:
        for row in api.all_containers():
            port = None if options["login_unix_socket"] else serving_port(row, options)
            if row.get("State") == "running" and port:
                return Server(row["Id"], name_of(row), row["ImageID"], port)
    return None


def serving_port(row: Mapping[str, Any], options: Options) -> int | None:
    """Return the port in a container that answers at the address of ``options``, or null.

    ``row`` is a container in the list of an engine.
    """
    host, port = options["login_host"], options["login_port"]
    networks = ((row.get("NetworkSettings") or {}).get("Networks") or {}).values()
    if host and host in [each.get(field) for each in networks for field in ("IPAddress", "GlobalIPv6Address")]:
        return port
    if (row.get("HostConfig") or {}).get("NetworkMode") == "host" or not _is_local(host):
        return None
    for each in row.get("Ports") or []:
        if each.get("Type") == "tcp" and each.get("PublicPort") == port:
            return each.get("PrivatePort")
    return None


def remove_leftovers(options: Options, deadline: Deadline) -> list[str]:
    """Remove the throwaway containers of processes that have ended, and return their names. Raises ProgramFailed."""
    form = '{{.Names}} {{.Label "%s"}}' % LABEL
    listed = _docker(options, ["ps", "--all", "--filter", "label=%s" % LABEL, "--format", form], deadline)
    pairs = [line.split(" ", 1) for line in listed.splitlines() if " " in line]
    dead = [name for name, process in pairs if _process_mark.is_dead(process)]
    for name in dead:
        try:
            _docker(options, ["rm", "--force", name], deadline)
        except _run.ProgramFailed as exc:
            # The engine removes it at the end of its program, perhaps just now.
            if not GONE.search(str(exc)):
                raise
    return dead


def version_number(text: str) -> int:
    """Return the version in what a program calls itself: ``pg_dump (PostgreSQL) 15.14`` -> 150014, else 0."""
    found = VERSION.search(text)
    return int(found.group(1)) * 10000 + int(found.group(2) or 0) if found else 0


def _asked(command: Sequence[str], deadline: Deadline) -> str:
    try:
        return _programs.output(command, deadline.step(ENGINE_SECONDS)).strip()
    except _programs.Failed:
        return ""


def _engine_options(options: Options) -> dict[str, Any]:
    return {**{name: spec.get("default") for name, spec in _engine.SPEC.items()}, "docker_host": options["docker_host"]}


def _docker_command(options: Options) -> list[str]:
    return [_programs.find("docker") or "docker", "--host", options["docker_host"]]


def _docker(options: Options, arguments: Sequence[str], deadline: Deadline) -> str:
    bounded = Deadline(deadline.step(ENGINE_SECONDS))
    return _run.run("docker", [*_docker_command(options), *arguments], bounded)


def _is_local(host: str) -> bool:
    """Return whether a host name or an address is one of this machine."""
    with contextlib.suppress(OSError):
        for _family, _type, _protocol, _name, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
            with contextlib.suppress(OSError), socket.socket(_family, socket.SOCK_STREAM) as tested:
                tested.bind((address[0], 0))
                return True
    return False
