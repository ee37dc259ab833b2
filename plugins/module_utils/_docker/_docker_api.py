# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Speaks to the Docker engine of this machine over its socket, without a library. Private to this collection.

Every step on the wire is held to a deadline: an engine that hangs costs no more than that.
"""

from __future__ import annotations

import contextlib
import grp
import http.client
import json
import os
import pwd
import re
import socket
from functools import partial
from urllib.parse import quote, urlencode

from ansible_collections.tracktion.ops.plugins.module_utils import _rights
from ansible_collections.tracktion.ops.plugins.module_utils._bounded_socket import BoundedSocket, remaining_timeout
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, SERVICE, name_of
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    NotAllowed,
    OutOfTime,
    cut,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

SCHEME = "unix://"
DEFAULT_SOCKET = "/var/run/docker.sock"
DEFAULT_HOST = SCHEME + DEFAULT_SOCKET
PODMAN_HOST = "unix:///run/podman/podman.sock"
MAX_BYTES = 32 * 1024 * 1024
MAX_REFUSAL_BYTES = 65536
NOT_FOUND, FORBIDDEN = 404, 403
WIRE_ERRORS = (OSError, http.client.HTTPException)
# Where the socket of an engine is that a user has for himself.
CONTAINER_ID = re.compile(r"\b[0-9a-f]{64}\b")
OF_A_USER = re.compile(r"/run/user/(\d+)/")
LOOK_AT_ENGINE = "Look at the log of the engine: `journalctl -u docker -n 50`"
ALLOW_REQUEST = (
    "Allow this request in the proxy or plugin that filters requests to the engine (GET below /containers, /networks,"
    " /info, /version and /system/df), or measure by the engine's own socket (docker_host)"
)


class Rejected(CannotConnect):
    """The engine answered, and said no: ``status`` is that of HTTP, ``said`` is what it said.

    ``asked`` is the request, as ``GET /info``.
    """

    def __init__(self, status, said, asked=None):
        asked = CONTAINER_ID.sub("ID", asked or "it")
        message = "the Docker engine rejects %s: %s" % (asked, said)
        super().__init__("rejected", message, ALLOW_REQUEST if status == FORBIDDEN else LOOK_AT_ENGINE)
        self.status = status
        self.said = said


def unless_forbidden(exc):
    """Return ``exc``; as NotAllowed if it is a Rejected because of a missing right."""
    return NotAllowed(str(exc), exc.hint) if getattr(exc, "status", None) == FORBIDDEN else exc


def socket_of(docker_host):
    """The path in the option ``docker_host``. Raises BadOption where it names no socket of this machine."""
    if not docker_host.startswith(SCHEME + "/"):
        raise BadOption(
            "docker_host: %s is not a socket of this machine (unix:///path)" % cut(docker_host, 100),
            hint="measure on the host of the engine",
        )
    return docker_host[len(SCHEME) :]


class DockerApi:
    """Requests to the engine behind a socket, each within ``timeout`` and all within ``deadline``.

    Whatever goes wrong is raised as CannotConnect, or as Rejected, which is one, where the engine says no.
    """

    def __init__(self, path, timeout, deadline=None):
        self.path = path
        self.timeout = timeout
        self.deadline = deadline or Deadline(float("inf"))

    def read(self, *parts, **query):
        """What the engine says, as data."""
        return self.ask("GET", *parts, **query)

    def remove(self, *parts):
        """Remove what the path names."""
        return self.ask("DELETE", *parts)

    def ask(self, method, *parts, body=None, **query):
        """The answer to any request, as data. ``body`` is data too."""
        with self.stream(method, *parts, body=body, **query) as answer:
            text = answer.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise CannotConnect("failed", "%s answers more than %d bytes" % (self.path, MAX_BYTES), LOOK_AT_ENGINE)
        try:
            return json.loads(text) if text.strip() else None
        except ValueError as exc:
            raise CannotConnect("failed", "what %s answers is not JSON" % self.path, "Check docker_host") from exc

    @contextlib.contextmanager
    def stream(self, method, *parts, body=None, **query):
        """The open Answer to a request, whose end may be long in coming. Values of ``query`` may be mappings."""
        left, too_short = self.deadline.step(self.timeout), self.deadline.too_short(self.timeout)
        whole = Deadline(left)
        explaining = partial(self._explaining, left if too_short else None)
        with socket.socket(socket.AF_UNIX) as connection:
            with explaining():
                connection.settimeout(remaining_timeout(whole))
                connection.connect(self.path)
                client = http.client.HTTPConnection("docker")
                client.sock = BoundedSocket(connection, lambda: remaining_timeout(whole))
                text = None if body is None else json.dumps(body)
                headers = {"Content-Type": "application/json", "Connection": "close"}
                client.request(method, _target(parts, query), text, headers)
                response = client.getresponse()
            with contextlib.closing(response):
                answer = Answer(response, explaining)
                if response.status >= 400:
                    said = _said(answer.read(MAX_REFUSAL_BYTES), response.status)
                    raise Rejected(response.status, said, "%s %s" % (method, _target(parts, {})))
                yield answer

    @contextlib.contextmanager
    def _explaining(self, left):
        """``left``: the seconds of the deadline, if they are too few to call an engine without an answer hung."""
        try:
            yield
        except socket.timeout as exc:
            raise (cannot_connect(exc, self.path) if left is None else OutOfTime(left)) from exc
        except WIRE_ERRORS as exc:
            raise cannot_connect(exc, self.path) from exc


class Answer:
    """What an engine says, as bytes, while it says it. Raises CannotConnect."""

    def __init__(self, response, explaining):
        self._response = response
        self._explaining = explaining

    def read(self, most):
        """``most`` bytes, fewer only at the end."""
        with self._explaining():
            return self._response.read(most)

    def read_some(self, most):
        """What there is by now, waiting for it where there is nothing; nothing only at the end."""
        with self._explaining():
            return self._response.read1(most)


def summary(row):
    """``id, name, service, project, state`` of a container in a list of the engine."""
    labels = row.get("Labels") or {}
    return {
        "id": row["Id"],
        "name": name_of(row),
        "service": labels.get(SERVICE),
        "project": labels.get(PROJECT),
        "state": row.get("State"),
    }


def _target(parts, query):
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in query.items()}
    return path + ("?" + urlencode(values) if values else "")


def _said(text, status):
    try:
        said = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        said = text.decode("utf-8", "replace").strip() or "HTTP %d" % status
    return cut(redact(str(said)), 200)


# What an error of the socket means, and what to do about it.
REASONS = (
    (
        PermissionError,
        "permission",
        "we may not speak to the Docker engine at %s",
        # Who may, depends on the socket.
        None,
    ),
    (
        FileNotFoundError,
        "no_engine",
        "there is no Docker engine at %s",
        "Look whether it runs: `systemctl status docker`. Else set docker_host",
    ),
    (
        ConnectionRefusedError,
        "refused",
        "no Docker engine answers at %s",
        "Start it: `systemctl start docker`. Why it stopped: `journalctl -u docker -n 50`",
    ),
    (socket.timeout, "timeout", "the Docker engine at %s does not answer in time", LOOK_AT_ENGINE),
)


def cannot_connect(exc, path):
    """The CannotConnect that an error of the socket at ``path`` means."""
    for kind_of_error, kind, message, hint in REASONS:
        if isinstance(exc, kind_of_error):
            return CannotConnect(kind, message % path, hint) if hint else NotAllowed(message % path, who_may(path))
    return CannotConnect("failed", "the Docker engine at %s: %s" % (path, exc), LOOK_AT_ENGINE)


def is_rootless(info):
    """Whether an engine runs without root, by what it says about itself."""
    return bool(info.get("Rootless")) or any("rootless" in option for option in info.get("SecurityOptions") or ())


def may_be_there(path):
    """Whether there is such a socket, or may be, behind a directory that is not ours to enter."""
    try:
        os.stat(path)
    except OSError as exc:
        return isinstance(exc, PermissionError)
    return True


def who_may(path):
    """The hint where a socket is not for us: who is let in."""
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
