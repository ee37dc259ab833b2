# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a command in a container through the Docker engine's socket, bounded in time and output, without a library.

A command that does not end in time is killed with what it has started: the engine itself would let it run on. Private
to this collection.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from urllib.parse import quote

from ansible_collections.tracktion.ops.plugins.module_utils._bounded_socket import BoundedSocket
from ansible_collections.tracktion.ops.plugins.module_utils._containers import container_id
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotConnect, cut

DEFAULT_HOST = "unix:///var/run/docker.sock"
SCHEME = "unix://"
MAX_REPLY_BYTES = 8 * 1024 * 1024
SERVICE, PROJECT = "com.docker.compose.service", "com.docker.compose.project"
# Seconds beyond its deadline in which a command that has not ended is looked up, to be killed.
FOR_KILLING = 0.5


class Exec:
    """What a command came to: ``exit_code`` (null while unknown), ``seconds``, ``output``, ``output_bytes``, ``ended``.

    ``killed`` says whether a command that had not ``ended`` is gone; null where it had.
    """

    def __init__(self):
        self.exit_code = None
        self.seconds = None
        self.output = b""
        self.output_bytes = 0
        self.ended = None
        self.killed = None


class Engine:
    """The Docker engine behind a socket of this machine. Raises CannotConnect where it does not do what it is asked."""

    def __init__(self, docker_host):
        if not docker_host.startswith(SCHEME + "/"):
            raise BadOption(
                "docker_host: %s is not a socket of this machine (unix:///path)" % cut(docker_host, 100),
                cure="measure on the host of the engine",
            )
        self._path = docker_host[len(SCHEME) :]

    def container(self, service, project, deadline):
        """``{id, name, state}`` of the container of a compose service, or of that name; a running one before others."""
        rows = self._ask(deadline, "GET", "/containers/json?all=1")
        found = [row for row in rows if _is_meant(row, service, project)]
        if not found:
            raise CannotConnect("no_container", "there is no container of %s" % service, "docker compose ps --all")
        row = min(found, key=lambda row: row["State"] != "running")
        return {"id": row["Id"], "name": row["Names"][0].lstrip("/"), "state": row["State"]}

    def run(self, identity, command, deadline, most_bytes):
        """Run ``command`` (the engine's own fields: Cmd, User, WorkingDir, Env) and wait for its end: an Exec."""
        wanted = {"AttachStdout": True, "AttachStderr": True, **command}
        started = self._ask(deadline, "POST", "/containers/%s/exec" % quote(identity), wanted)["Id"]
        outcome, began = Exec(), time.monotonic()
        try:
            self._follow(started, outcome, deadline, most_bytes)
            outcome.ended = True
        except socket.timeout:
            outcome.ended = False
        outcome.seconds = round(time.monotonic() - began, 4)
        state = self._ask(deadline, "GET", "/exec/%s/json" % started, patient=True)
        if not outcome.ended and state["Running"]:
            outcome.killed = kill(state["Pid"], identity)
        elif not state["Running"]:
            outcome.ended, outcome.exit_code = True, state["ExitCode"]
        return outcome

    def _follow(self, started, outcome, deadline, most_bytes):
        """Read what the command says until it ends; raises socket.timeout. What is beyond ``most_bytes`` is let go."""
        with self._request(_patience(deadline), "POST", "/exec/%s/start" % started, {}) as answer:
            while True:
                header = answer.read(8)
                if len(header) < 8:
                    return
                left = int.from_bytes(header[4:8], "big")
                while left:
                    chunk = answer.read(min(left, 65536))
                    if not chunk:
                        return
                    left -= len(chunk)
                    outcome.output_bytes += len(chunk)
                    outcome.output += chunk[: max(0, most_bytes - len(outcome.output))]

    def _ask(self, deadline, method, path, body=None, patient=False):
        """The engine's answer, as data. ``patient`` waits a moment even where the deadline is over."""
        patience = _patience(deadline) if not patient else lambda: max(FOR_KILLING, deadline.remaining())
        try:
            with self._request(patience, method, path, body) as answer:
                return json.loads(answer.read(MAX_REPLY_BYTES) or b"null")
        except socket.timeout:
            raise CannotConnect(
                "engine_timeout", "the Docker engine does not answer in time", "journalctl -u docker --since -15min"
            )
        except ValueError:
            raise CannotConnect("no_engine", "what %s answers is not JSON" % self._path, "check docker_host")

    @contextlib.contextmanager
    def _request(self, patience, method, path, body):
        connection = http.client.HTTPConnection("docker")
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.settimeout(patience())
                sock.connect(self._path)
                connection.sock = BoundedSocket(sock, patience)
                text = None if body is None else json.dumps(body)
                connection.request(method, path, text, {"Content-Type": "application/json", "Connection": "close"})
                answer = connection.getresponse()
                if answer.status >= 400:
                    raise _refused(answer)
                yield answer
            except socket.timeout:
                raise
            except (OSError, http.client.HTTPException) as exc:
                raise self._unreachable(exc)

    def _unreachable(self, exc):
        if isinstance(exc, PermissionError):
            return CannotConnect(
                "permission",
                "not allowed to use %s" % self._path,
                "measure with become, or as a user of the group docker",
            )
        cure = "check docker_host, and whether the engine runs: systemctl status docker"
        return CannotConnect("no_engine", "no Docker engine answers at %s: %s" % (self._path, exc), cure)


def _is_meant(row, service, project):
    labels = row.get("Labels") or {}
    if project and labels.get(PROJECT) != project:
        return False
    return labels.get(SERVICE) == service or "/" + service in row["Names"]


def _patience(deadline):
    """How long the next step on the wire may take."""

    def left():
        seconds = deadline.remaining()
        if seconds <= 0:
            raise socket.timeout("timed out")
        return seconds

    return left


def _refused(answer):
    try:
        said = json.loads(answer.read(65536))["message"]
    except (ValueError, KeyError, TypeError):
        said = "HTTP %d" % answer.status
    kind = {404: "no_container", 409: "not_running"}.get(answer.status, "refused")
    return CannotConnect(kind, "the Docker engine refuses: %s" % cut(said, 200), "docker compose ps --all")


def kill(pid, identity):
    """Kill a process of this container and what it has started; false where that is not certain to be done."""
    family = [pid, *descendants(pid)]
    if any(container_id(member) != identity for member in family):
        # The number is one of another machine's, or has been taken by another process since.
        return False
    try:
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
    except PermissionError:
        return False
    return True


def descendants(pid):
    """The ids of the processes that a process has started, and of those that they have."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid), encoding="utf-8") as stream:
            children = [int(word) for word in stream.read().split()]
    except OSError:
        return []
    return [found for child in children for found in (child, *descendants(child))]
