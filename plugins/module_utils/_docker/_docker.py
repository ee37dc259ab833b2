# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client of modules that act: the Docker SDK, with time limits and failures. Private to this collection."""

from __future__ import annotations

import json
import time
from typing import Any, Callable, Mapping, NamedTuple, Sequence, TypeVar

from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import (
    KNOWN_API,
    NOT_FOUND,
    SPEC,
    Reader,
    Rejected,
    Row,
    Step,
    address,
    api_version,
)
from ansible_collections.tracktion.ops.plugins.module_utils._libraries import DEBIAN_PACKAGES, require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    CannotMeasure,
    Deadline,
    MissingLibrary,
    cut,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options

__all__ = ("KNOWN_API", "NOT_FOUND", "SPEC", "Client", "NotFound", "Rejected")

DEPENDS_ON = "com.docker.compose.depends_on"
# The cause is at the end of a message.
MAX_REPLY = 1000

T = TypeVar("T")


class NotFound(CannotMeasure):
    """A container, service or project that an option names does not exist."""

    kind = "not_found"


class Client(Reader):
    """A client of the SDK. Each call is bounded by ``timeout`` and by what the deadline leaves, in seconds.

    ``timeout`` replaces that of the options, for calls for which the engine has to work.
    Raises CannotConnect, BadOption and MissingLibrary.
    """

    def __init__(self, options: Options, deadline: Deadline, timeout: float | None = None) -> None:
        self._options = options
        self._address = address(options)
        self.deadline = deadline
        self._timeout = options["timeout"] if timeout is None else timeout
        self._docker: Any = require("docker")
        self.api = self._within(options["timeout"], self._connect)

    def _connect(self, seconds: float) -> Any:
        constants = self._docker.constants
        client = self._client(constants.DEFAULT_DOCKER_API_VERSION, seconds)
        # The version of the engine is available in any version of the API.
        version = api_version(client.version(api_version=False), constants.MINIMUM_DOCKER_API_VERSION)
        return self._client(version, seconds)

    def _client(self, version: str, seconds: float) -> Any:
        options = self._options
        client = self._docker.APIClient(
            base_url=options["docker_host"], version=version, timeout=seconds, tls=self._tls(options)
        )
        # REQUESTS_CA_BUNDLE would replace ca_path and validate_certs, and a proxy would be used.
        client.trust_env = False
        return client

    def _tls(self, options: Options) -> Any:
        if not options["tls"]:
            return False
        certificate = (options["client_cert"], options["client_key"]) if options["client_cert"] else None
        verify = options["ca_path"] or True if options["validate_certs"] else False
        return self._docker.tls.TLSConfig(client_cert=certificate, ca_cert=options["ca_path"], verify=verify)

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Return what a method of the SDK returns. Raises CannotConnect; Rejected is one."""

        def work(seconds: float) -> Any:
            self.api.timeout = seconds
            return getattr(self.api, method)(*arguments, **named)

        return self._within(self._timeout, work)

    def remove_build_cache(self, identity: str) -> bool:
        """Remove one entry of the build cache; return whether the engine did.

        The method of the SDK takes no filters before 7.1, and removes all entries. The engine reports no error for an
        entry that it keeps.
        """
        filters = json.dumps({"id": [identity]})

        def work(seconds: float) -> Any:
            self.api.timeout = seconds
            url = self.api._url("/build/prune")
            return self.api._result(self.api._post(url, params={"all": True, "filters": filters}), True)

        return identity in (self._within(self._timeout, work).get("CachesDeleted") or [])

    def _list(self, filters: dict[str, list[str]]) -> list[Row]:
        return self.call("containers", all=True, filters=filters or None)

    def _inspect(self, identity: str) -> Row:
        return self.call("inspect_container", identity)

    def _networks(self) -> list[Row]:
        return self.call("networks")

    def _within(self, timeout: float, work: Callable[[float], Any]) -> Any:
        """Return what ``work`` returns, called with the seconds that it may take."""
        errors = self._docker.errors
        step = Step(self.deadline, timeout, self._address)
        try:
            return work(step.seconds)
        except errors.APIError as exc:
            raise rejected(exc) from exc
        except (errors.DockerException, OSError, ValueError) as exc:
            if "http+docker" in str(exc):
                raise MissingLibrary(
                    "The Python library docker is too old for the library requests beside it: %s" % exc,
                    hint="Install docker 7.1 or later on this host: `apt-get install %s`." % DEBIAN_PACKAGES["docker"],
                ) from exc
            raise step.failure(exc) from exc


def rejected(exc: Any) -> Rejected:
    """Return the Rejected that an APIError of the SDK means."""
    reply = cut(redact(exc.explanation or str(exc)), MAX_REPLY)
    request = getattr(exc.response, "request", None)
    line = "%s %s" % (request.method, request.path_url.partition("?")[0]) if request else None
    return Rejected(getattr(exc.response, "status_code", None), reply, line)


class Need(NamedTuple):
    """A service that another one depends on, by the key depends_on of a compose file.

    ``restart``: compose restarts the dependent service with this one.
    """

    service: str
    condition: str
    restart: bool


def needs(labels: Mapping[str, str] | None) -> list[Need]:
    """Return what the service of a container depends on, as compose v2 records it."""
    found = []
    for part in ((labels or {}).get(DEPENDS_ON) or "").split(","):
        name, condition, restart = [*(word.strip() for word in part.split(":")), "", ""][:3]
        if name:
            found.append(Need(name, condition or "service_started", restart == "true"))
    return found


def dependencies(labels: Mapping[str, str] | None) -> list[str]:
    """Return the services that the service of a container depends on, as compose v2 records them."""
    return [need.service for need in needs(labels)]


def ordered(services: Sequence[T], needs: Mapping[T, Sequence[T]]) -> list[T]:
    """Return ``services``, each after those that it depends on by ``needs``. A cycle is broken at any member."""
    done: list[T] = []

    def visit(service: T, path: list[T]) -> None:
        if service in done or service in path:
            return
        for other in needs.get(service, ()):
            if other in needs:
                visit(other, path + [service])
        done.append(service)

    for service in services:
        visit(service, [])
    return [service for service in done if service in services]


def wait_until(
    condition: Callable[[], T], deadline: Deadline, pause: float = 0.3, sleep: Callable[[float], None] = time.sleep
) -> T | None:
    """Return what ``condition`` returns once that is true; null at the deadline."""
    while True:
        outcome = condition()
        if outcome or deadline.expired():
            return outcome or None
        sleep(deadline.remaining(pause))
