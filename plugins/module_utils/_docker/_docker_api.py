# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client of modules that measure: HTTP to a container engine, without a library. Private to this collection.

Every step on the wire is bounded, so that an engine that hangs costs no more than the timeout.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import Any, Iterator, Mapping
from urllib.parse import quote, urlencode

from ansible_collections.tracktion.ops.plugins.module_utils._bounded_socket import BoundedSocket, remaining_timeout
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, SERVICE, name_of
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import (
    Address,
    ConnectTimeout,
    Reader,
    Rejected,
    Row,
    Step,
    api_version,
    failure_of,
)
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline, cut
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

MAX_BYTES = 32 * 1024 * 1024
MAX_REJECTION_BYTES = 65536
PIECE = 65536


class DockerApi(Reader):
    """Requests to an engine, each within ``timeout`` and all within ``deadline``, in seconds.

    Raises CannotConnect, and Rejected if the engine answers with an error. As a context manager, it keeps its
    connection open for the next request, and belongs to one thread.
    """

    def __init__(self, address: Address | str, timeout: float, deadline: Deadline | None = None) -> None:
        """``address`` may be the path of a socket."""
        self.address = address if isinstance(address, Address) else Address("unix://" + address, path=address)
        self.timeout = timeout
        self.deadline = deadline or Deadline(float("inf"))
        self._version = ""
        self._keeps_open = False
        self._idle: _Connection | None = None

    def __enter__(self) -> DockerApi:
        self._keeps_open = True
        return self

    def __exit__(self, *_exc: object) -> None:
        self._keeps_open = False
        if self._idle:
            self._idle.close()
            self._idle = None

    def another(self, timeout: float, deadline: Deadline | None = None) -> DockerApi:
        """Return a client of the same engine with other time limits and a connection of its own."""
        made = DockerApi(self.address, timeout, deadline)
        made._version = self._version
        return made

    def negotiate(self) -> Row:
        """Return the answer to ``/version``, and use a tested version of the API from now on."""
        about = self.read("version")
        self._version = "/v" + api_version(about)
        return about

    def read(self, *parts: str, **query: Any) -> Any:
        """Return the data of ``GET /part/part?query``."""
        return self.ask("GET", *parts, **query)

    def ask(self, method: str, *parts: str, body: Any = None, **query: Any) -> Any:
        """Return the data that answers any request. ``body`` is data, too."""
        with self._exchange(method, parts, query, body, self._keeps_open) as answer:
            text = answer.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            message = "%s answers with more than %d bytes" % (self.address, MAX_BYTES)
            raise CannotConnect("too_large", message, "Read the log of the engine: `journalctl -u docker -n 50`")
        try:
            return json.loads(text) if text.strip() else None
        except ValueError as exc:
            raise failure_of(exc, self.address) from exc

    @contextlib.contextmanager
    def stream(self, method: str, *parts: str, body: Any = None, **query: Any) -> Iterator[Answer]:
        """Yield the open answer to a request, to read it in parts. Values of ``query`` may be mappings."""
        with self._exchange(method, parts, query, body, False) as answer:
            yield answer

    @contextlib.contextmanager
    def _exchange(
        self, method: str, parts: tuple[str, ...], query: Mapping[str, Any], body: Any, keep_open: bool
    ) -> Iterator[Answer]:
        step = Step(self.deadline, self.timeout, self.address)
        connection, self._idle = self._idle, None
        try:
            with _explained(step):
                connection = connection or _Connection(self.address, step)
                target = self.address.prefix + self._version + _target(parts, query)
                response = connection.request(method, target, body, keep_open, step)
            with contextlib.closing(response):
                answer = Answer(response, step)
                if response.status >= 300:
                    reply = _reply(answer.read(MAX_REJECTION_BYTES), response.status)
                    raise Rejected(response.status, reply, "%s %s" % (method, _target(parts, {})))
                yield answer
                if keep_open and response.isclosed() and not response.will_close:
                    connection, self._idle = None, connection
        finally:
            if connection:
                connection.close()

    def _list(self, filters: dict[str, list[str]]) -> list[Row]:
        return self.read("containers", "json", all=1, **({"filters": filters} if filters else {}))

    def _inspect(self, identity: str) -> Row:
        return self.read("containers", identity, "json")

    def _networks(self) -> list[Row]:
        return self.read("networks")


class _Connection:
    """A connection to an engine. Each step of a request is bounded by the time of the request."""

    def __init__(self, address: Address, step: Step) -> None:
        self._until = Deadline(step.seconds)
        try:
            sock = self._open(address)
        except socket.timeout as exc:
            raise ConnectTimeout(str(exc)) from exc
        self._client: Any = http.client.HTTPConnection(address.host or "docker", address.port or None)
        self._client.sock = BoundedSocket(sock, lambda: remaining_timeout(self._until))

    def _open(self, address: Address) -> socket.socket:
        if address.path:
            sock = socket.socket(socket.AF_UNIX)
        else:
            sock = socket.create_connection((address.host, address.port), remaining_timeout(self._until))
        try:
            sock.settimeout(remaining_timeout(self._until))
            if address.path:
                sock.connect(address.path)
            return address.context.wrap_socket(sock, server_hostname=address.host) if address.context else sock
        except BaseException:
            sock.close()
            raise

    def request(self, method: str, target: str, body: Any, keep_open: bool, step: Step) -> http.client.HTTPResponse:
        """Send a request, with ``body`` as JSON, and return the beginning of the answer.

        ``step`` bounds it, from the connection to the last byte of the body. Raises OSError,
        http.client.HTTPException.
        """
        self._until = Deadline(step.seconds)
        headers = {"Content-Type": "application/json", "Connection": "keep-alive" if keep_open else "close"}
        self._client.request(method, target, None if body is None else json.dumps(body), headers)
        return self._client.getresponse()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._client.close()


class Answer:
    """The body of an answer, as bytes. Raises CannotConnect."""

    def __init__(self, response: http.client.HTTPResponse, step: Step) -> None:
        self._response = response
        self._step = step

    def read(self, most: int) -> bytes:
        """Return ``most`` bytes, fewer only at the end."""
        pieces, left = [], most
        with _explained(self._step):
            while left:
                # In small pieces: Python 3.8 allocates the whole size before it reads.
                piece = self._response.read(min(left, PIECE))
                if not piece:
                    break
                pieces.append(piece)
                left -= len(piece)
        return b"".join(pieces)

    def read_some(self, most: int) -> bytes:
        """Return the bytes that have arrived, at most ``most``; wait if there are none. Empty only at the end."""
        with _explained(self._step):
            return self._response.read1(most)


@contextlib.contextmanager
def _explained(step: Step) -> Iterator[None]:
    """Raise errors of the wire as the failure that they mean."""
    try:
        yield
    except (OSError, http.client.HTTPException) as exc:
        raise step.failure(exc) from exc


def summary(row: Row) -> dict[str, str | None]:
    """Return ``id, name, service, project, state`` of a container in a list of the engine."""
    labels = row.get("Labels") or {}
    return {
        "id": row["Id"],
        "name": name_of(row),
        "service": labels.get(SERVICE),
        "project": labels.get(PROJECT),
        "state": row.get("State"),
    }


def _target(parts: tuple[str, ...], query: Mapping[str, Any]) -> str:
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in query.items()}
    return path + ("?" + urlencode(values) if values else "")


def _reply(text: bytes, status: int) -> str:
    """Return the message of a rejection."""
    try:
        reply = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        reply = text.decode("utf-8", "replace").strip() or "HTTP %d" % status
    return cut(redact(str(reply)), 200)
