# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection to a container engine: options, address, time limits and failures. Private to this collection.

Modules that measure use the socket client (``_docker_api``), which needs no library; modules that act use the Docker
SDK (``_docker``). Both take their options, their time limits and their errors from here.

Measuring 50 containers takes 0.13 s and 25 MiB with the socket client, 0.34 s and 34 MiB with the SDK, whose import
takes half of it.
"""

from __future__ import annotations

import contextlib
import grp
import http.client
import os
import pwd
import re
import socket
import ssl
from typing import Any, Dict, Iterator, NamedTuple, Sequence
from urllib.parse import urlsplit

from ansible_collections.tracktion.ops.plugins.module_utils import _failures, _rights
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import is_one_off
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    LATE,
    BadOption,
    CannotConnect,
    Deadline,
    NotAllowed,
    OutOfTime,
    cut,
)
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

UNIX = ("unix://", "http+unix://")
DEFAULT_HOST = "unix:///var/run/docker.sock"
# The socket of Podman for root, as its package creates it.
PODMAN_HOST = "unix:///run/podman/podman.sock"
SPEC: dict[str, dict[str, Any]] = {
    "docker_host": {"type": "str", "default": DEFAULT_HOST},
    "tls": {"type": "bool", "default": False},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "timeout": {"type": "float", "default": 5.0},
}
# Modules that also read files or processes of the host of the engine take the socket alone.
SOCKET_SPEC = {"docker_host": SPEC["docker_host"]}

# The newest version of the API that this collection is tested with, that of Docker 20.10.
KNOWN_API = "1.41"
# Where packages install the Docker daemon. Podman needs none.
PROGRAMS = ("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd")
NOT_FOUND, FORBIDDEN = 404, 403

# One object of the API, as the engine returns it.
Row = Dict[str, Any]

CONTAINER_ID = re.compile(r"\b[0-9a-f]{64}\b")
OF_A_USER = re.compile(r"/run/user/(\d+)/")
ALLOW_REQUEST = (
    "Allow this request in the proxy or plugin that filters requests to the engine (GET below /containers, /images,"
    " /networks, /info, /version and /system/df), or measure by the engine's own socket (`docker_host`)"
)
SERVICE = _failures.Service(
    "the container engine", "`docker_host`", tls="`tls`, `ca_path`, `client_cert`, `client_key` and `validate_certs`"
)


# Address


class Address(NamedTuple):
    """Where an engine listens: a socket of this machine (``path``), or ``host`` and ``port``."""

    # As the option docker_host names it.
    url: str
    path: str = ""
    host: str = ""
    port: int = 0
    # Before the path of each request, behind a proxy.
    prefix: str = ""
    # Null for a connection without TLS.
    context: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return self.path or self.url


def address(options: Options) -> Address:
    """Return the address in the options of ``SPEC``. Raises BadOption."""
    url = options["docker_host"].strip()
    path = _socket_path(url)
    if path:
        return Address(url, path=path)
    try:
        parts = urlsplit(url if "://" in url else "tcp://" + url)
        port = parts.port
    except ValueError:
        raise _bad_address(url)
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname or not port or "@" in parts.netloc:
        raise _bad_address(url)
    context = tls_context(options) if options["tls"] or parts.scheme == "https" else None
    return Address(url, host=parts.hostname, port=port, prefix=parts.path.rstrip("/"), context=context)


def _socket_path(url: str) -> str | None:
    """Return the absolute path in the URL of a socket of this machine; null for another URL."""
    return next((url[len(scheme) :] for scheme in UNIX if url.startswith(scheme + "/")), None)


def _bad_address(url: str) -> BadOption:
    return BadOption(
        "docker_host: %s is neither unix:///path nor tcp://host:port" % cut(url.rpartition("@")[2], 100),
        hint="Correct `docker_host`.",
    )


def socket_of(docker_host: str) -> str:
    """Return the path in ``docker_host``. Raises BadOption if it is not a socket of this machine."""
    path = _socket_path(docker_host)
    if path:
        return path
    raise BadOption(
        "docker_host: %s is not a socket of this machine (unix:///path)" % cut(docker_host, 100),
        hint="Measure on the host of the engine, or set `docker_host` to a socket of this machine.",
    )


def tls_context(options: Options) -> ssl.SSLContext:
    """Return the TLS context of the options. Raises BadOption."""
    try:
        context = ssl.create_default_context(cafile=options["ca_path"] if options["validate_certs"] else None)
        # Since Python 3.13 the default rejects authorities that curl, browsers and the SDK accept.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not options["validate_certs"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if options["client_cert"]:
            if not options["client_key"]:
                raise BadOption("client_key: is missing beside client_cert", hint="Set `client_key`.")
            # Without the callback, OpenSSL asks for the passphrase of a key on the terminal.
            context.load_cert_chain(options["client_cert"], options["client_key"], password=str)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise BadOption(
            "ca_path, client_cert, client_key: cannot be loaded: %s" % reason,
            hint="Set `ca_path`, `client_cert` and `client_key` to files in PEM format on the host that measures.",
        ) from exc
    return context


def is_installed(docker_host: str) -> bool:
    """Return whether there may be an engine: a remote one, a socket, or the program of one that has stopped."""
    path = next((docker_host[len(scheme) :] for scheme in UNIX if docker_host.startswith(scheme)), None)
    return path is None or _may_exist(path) or any(os.path.exists(program) for program in PROGRAMS)


def _may_exist(path: str) -> bool:
    """Return whether a path exists, or may exist in a directory that this user cannot enter."""
    try:
        os.stat(path)
    except OSError as exc:
        return isinstance(exc, PermissionError)
    return True


# Version and kind of the engine


def api_version(about: Row, oldest: str = "") -> str:
    """Return the version of the API to use: ``KNOWN_API``, or the nearest one that engine and client support.

    ``about`` is the engine's answer to ``/version``, ``oldest`` the oldest version that the client supports. Answers of
    later versions may have another structure.
    """
    least, newest = about.get("MinAPIVersion") or KNOWN_API, about.get("ApiVersion") or KNOWN_API
    wanted = max(KNOWN_API, least, oldest, key=_number)
    return min(wanted, newest, key=_number)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def is_rootless(info: Row) -> bool:
    """Return whether an engine runs without root, by its answer to ``/info``."""
    return bool(info.get("Rootless")) or any("rootless" in option for option in info.get("SecurityOptions") or ())


class Reader:
    """The requests that both clients offer."""

    def _list(self, filters: dict[str, list[str]]) -> list[Row]:
        raise NotImplementedError

    def _inspect(self, identity: str) -> Row:
        raise NotImplementedError

    def _networks(self) -> list[Row]:
        raise NotImplementedError

    def all_containers(self) -> list[Row]:
        """Return the rows of all containers in any state, also those of ``compose run``."""
        return self._list({})

    def networks(self) -> set[str] | None:
        """Return the ids and names of all networks; null if they cannot be listed."""
        try:
            rows = self._networks()
        except CannotConnect:
            return None
        return {name for row in rows for name in (row.get("Id"), row.get("Name")) if name}

    def containers(self, *labels: str) -> list[Row]:
        """Return the rows of all containers with these labels, in any state, without those of ``compose run``."""
        rows = self._list({"label": list(labels)} if labels else {})
        return [row for row in rows if not is_one_off(row.get("Labels") or {})]

    def inspect(self, identity: str) -> Row | None:
        """Return the inspection of a container; null if it no longer exists."""
        try:
            return self._inspect(identity)
        except Rejected as exc:
            if exc.status == NOT_FOUND:
                return None
            raise


# Time limits


class Step:
    """The time for one request: at most ``timeout``, and what the deadline leaves.

    ``seconds`` is the limit. Raises OutOfTime if too little is left.
    """

    def __init__(self, deadline: Deadline, timeout: float, engine: Address) -> None:
        self.seconds = deadline.step(timeout)
        self._too_short = deadline.too_short(timeout)
        self._engine = engine

    def failure(self, exc: BaseException) -> CannotConnect:
        """Return the failure that an error means: OutOfTime if the time was too short to call the engine hung."""
        found = failure_of(exc, self._engine)
        return OutOfTime(self.seconds) if found.kind in LATE and self._too_short else found


# Failures


class Rejected(CannotConnect):
    """The engine rejected a request such as ``GET /info``: ``status`` is that of HTTP, ``reply`` the message."""

    def __init__(self, status: int | None, reply: str, request: str | None = None) -> None:
        request = CONTAINER_ID.sub("ID", request or "the request")
        message = "the Docker engine rejects %s: %s" % (request, reply)
        hint = ALLOW_REQUEST if status == FORBIDDEN else "Read the log of the engine: `journalctl -u docker -n 50`"
        super().__init__("rejected", message, hint)
        self.status = status
        self.reply = reply


class ConnectTimeout(socket.timeout):
    """No connection within the time limit."""


def unless_forbidden(exc: CannotConnect) -> CannotConnect:
    """Return ``exc``; as NotAllowed if it is a Rejected because of a missing right."""
    if isinstance(exc, Rejected) and exc.status == FORBIDDEN:
        return NotAllowed(str(exc), exc.hint)
    return exc


# kind -> message and hint; an empty hint means the common one. {at} is the address, {unit} the unit of systemd.
FAILURES = {
    # No socket at the path.
    "no_engine": (
        "there is no Docker engine at {at}",
        "Check that the engine is installed and running: `systemctl status {unit}`. Else correct `docker_host`.",
    ),
    "refused": (
        "no Docker engine answers at {at}: connection refused",
        "Start the engine: `systemctl start {unit}`. Why it stopped: `journalctl -u {unit} --since -1h`",
    ),
    "timeout": ("{at} accepts no connection in time", ""),
    "no_answer": (
        "{at} accepts connections and does not answer in time",
        "Read the log of the engine: `journalctl -u {unit} --since -15min`. Running containers are not affected.",
    ),
    "closed": (
        "{at} closes the connection",
        "Read the log of the engine: `journalctl -u {unit} --since -15min`",
    ),
    "name_resolution": ("{at}: the host name cannot be resolved", ""),
    "no_route": ("{at}: no route to the host", ""),
    "certificate": ("{at}: the certificate is not trusted", ""),
    "tls": ("{at}: the TLS handshake failed", ""),
    "protocol": ("{at} does not answer like a container engine", ""),
    # The SDK supports no version of the API that the engine offers.
    "too_old": (
        "the engine is too old for the Docker SDK",
        "Upgrade the engine. Show its version: `docker version`.",
    ),
    "failed": ("{at}: {text}", "Check `docker_host`, and the log of the engine: `journalctl -u {unit} --since -15min`"),
}


def failure_of(exc: BaseException, engine: Address) -> CannotConnect:
    """Return the failure that an error of a socket, of http.client or of the SDK means."""
    kind = _kind(exc)
    if kind == "permission":
        return NotAllowed("no permission to use %s" % (engine,), permission_hint(engine.path))
    message, hint = FAILURES[kind]
    message = message.format(at=str(engine), text=cut(" ".join(str(exc).split()), 300))
    if kind == "timeout" and engine.path:
        # The queue of the socket is full.
        hint = FAILURES["no_answer"][1]
    if not hint:
        return _failures.failure(kind, message, SERVICE._replace(host=engine.host, port=engine.port))
    return CannotConnect(kind, message, hint.format(unit=unit(engine.url)))


def _kind(exc: BaseException) -> str:
    """Return the kind of the first error of the chain that is specific: the SDK wraps errors several times."""
    chain = list(causes(exc))
    names = [type(link).__name__ for link in chain]
    if any(name.startswith("ConnectTimeout") for name in names):
        return "timeout"
    for link, name in zip(chain, names):
        if isinstance(link, FileNotFoundError):
            return "no_engine"
        # BlockingIOError: the queue of a socket is full.
        if isinstance(link, (socket.timeout, TimeoutError, BlockingIOError)) or "Timeout" in name:
            return "no_answer"
        if name == "NameResolutionError":
            return "name_resolution"
        if name == "InvalidVersion":
            return "too_old"
        kind = _failures.of_os_error(link)
        if kind != "failed":
            return kind
    if any(isinstance(link, http.client.IncompleteRead) for link in chain):
        return "closed"
    if any(isinstance(link, (http.client.HTTPException, ValueError)) for link in chain):
        return "protocol"
    return "tls" if any("SSL" in name or "CertificateError" in name for name in names) else "failed"


def causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it came from: its cause, its context, and the exceptions among its arguments."""
    seen, waiting = set(), [exc]
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]
        waiting += [each for each in inner if isinstance(each, BaseException)]


def kind_of(version: Row) -> str:
    """Return ``docker`` or ``podman``, by the reply of the engine to ``/version``."""
    components = version.get("Components") or []
    return "podman" if any("Podman" in (part.get("Name") or "") for part in components) else "docker"


def command(kind: str, docker_host: str) -> str:
    """Return the start of a command to a container engine, such as ``docker``; quoted for the shell."""
    is_podman = kind == "podman"
    if docker_host in (DEFAULT_HOST, PODMAN_HOST):
        return "podman" if is_podman else "docker"
    return "%s %s" % ("podman --url" if is_podman else "docker --host", shell_quote(docker_host))


def compose_up(options: Sequence[str], service: str, variables: Sequence[str] = (), recreate: bool = False) -> str:
    """Return the command that applies the compose files to a service; quoted for the shell.

    ``options`` name the files (``_compose_drift.words``), the reader fills in the ``variables``. ``recreate``: also
    replace a container of which compose sees no change (it does not see what ``docker update`` changed).
    """
    values = ["%s=VALUE" % shell_quote(name) for name in variables]
    words = ["docker", "compose", *options, "up", "-d", *(["--force-recreate"] if recreate else []), "--no-deps", "--"]
    return " ".join([*values, *map(shell_quote, [*words, service])])


def unit(docker_host: str) -> str:
    """Return the unit of the engine behind a socket, with ``--user`` if it is that of a user."""
    name = "podman" if "podman" in docker_host else "docker"
    return "%s --user" % name if OF_A_USER.search(docker_host) else name


def permission_hint(path: str) -> str:
    """Return which account may use a socket."""
    of_user = OF_A_USER.search(path)
    with contextlib.suppress(OSError, KeyError):
        if of_user:
            owner = pwd.getpwuid(int(of_user.group(1))).pw_name
            return "%s (the user of this rootless engine)" % _rights.become_user(owner)
        status = os.stat(path)
        if status.st_gid and status.st_mode & 0o060 == 0o060:
            name = grp.getgrgid(status.st_gid).gr_name
            return "%s, or as an account of the group %s, which has the same power as root" % (_rights.BECOME, name)
    return _rights.BECOME
