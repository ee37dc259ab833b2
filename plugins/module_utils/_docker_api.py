# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Speaks to the Docker engine of this machine over its socket, without a library. Private to this collection."""

from __future__ import annotations

import http.client
import json
import socket
from urllib.parse import quote, urlencode

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotConnect, Deadline

DEFAULT_HOST = "unix:///var/run/docker.sock"
MAX_BYTES = 32 * 1024 * 1024


class Refused(Exception):
    """The engine answered with an error: ``status`` is that of HTTP."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class DockerApi:
    """Requests to one engine, each within ``timeout`` and all within ``deadline``."""

    def __init__(self, docker_host, timeout, deadline=None):
        if not docker_host.startswith("unix://"):
            raise BadOption("docker_host: %r is not the socket of an engine on this machine (unix://...)" % docker_host)
        self.path = docker_host[len("unix://") :]
        self.timeout = timeout
        self.deadline = deadline or Deadline(float("inf"))

    def read(self, *parts, **query):
        """What the engine says, as data. ``filters`` may be a mapping. Raises CannotConnect and Refused."""
        return self._ask("GET", parts, query)

    def remove(self, *parts):
        """Remove what the path names. Raises CannotConnect and Refused."""
        return self._ask("DELETE", parts, {})

    def _ask(self, method, parts, query):
        path = "/" + "/".join(quote(part, safe="") for part in parts)
        if query:
            path += "?" + urlencode(
                {name: json.dumps(value) if isinstance(value, dict) else value for name, value in query.items()}
            )
        seconds = max(0.001, self.deadline.remaining(self.timeout))
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(seconds)
                connection.connect(self.path)
                client = http.client.HTTPConnection("docker")
                client.sock = connection
                client.request(method, path, headers={"Connection": "close"})
                answer = client.getresponse()
                text = answer.read(MAX_BYTES)
        except (OSError, http.client.HTTPException) as exc:
            raise _cannot_connect(exc, self.path) from exc
        try:
            data = json.loads(text) if text.strip() else None
        except ValueError as exc:
            raise CannotConnect("error", "what %s answers is not JSON" % self.path) from exc
        if answer.status >= 400:
            raise Refused(answer.status, (data or {}).get("message") or "HTTP %d" % answer.status)
        return data


# What an error of the socket means, and what to do about it.
REASONS = (
    (
        PermissionError,
        "forbidden",
        "we may not speak to the Docker engine at %s",
        "Measure with become, or as a user of the group docker",
    ),
    (FileNotFoundError, "absent", "there is no Docker engine at %s", "systemctl status docker; or set docker_host"),
    (
        ConnectionRefusedError,
        "refused",
        "no Docker engine answers at %s",
        "systemctl start docker; journalctl -u docker -n 50",
    ),
    (socket.timeout, "timeout", "the Docker engine at %s does not answer in time", "journalctl -u docker -n 50"),
)


def _cannot_connect(exc, path):
    for kind_of_error, kind, message, cure in REASONS:
        if isinstance(exc, kind_of_error):
            return CannotConnect(kind, message % path, cure)
    return CannotConnect("error", "the Docker engine at %s: %s" % (path, exc), "journalctl -u docker -n 50")
