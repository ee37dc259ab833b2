# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talks to a Docker engine through the Docker SDK. Private to this collection."""

from __future__ import annotations

import json
import os
import time

from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import is_one_off
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import (
    DEFAULT_HOST,
    NOT_FOUND,
    OF_A_USER,
    Rejected,
    may_be_there,
    who_may,
)
from ansible_collections.tracktion.ops.plugins.module_utils._libraries import DEBIAN_PACKAGES, require
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    CannotMeasure,
    MissingLibrary,
    NotAllowed,
    OutOfTime,
    cut,
)
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

SPEC = {
    "docker_host": {"type": "str", "default": DEFAULT_HOST},
    "tls": {"type": "bool", "default": False},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "timeout": {"type": "float", "default": 5.0},
}

DEPENDS_ON = "com.docker.compose.depends_on"

# The newest version of the API that this collection was tested with, Docker 20.10's.
KNOWN_API = "1.41"
# Where Podman listens for root, as its package has it.
UNIX = ("unix://", "http+unix://")
# The cause stands at the end of what the engine says.
MAX_SAID = 1000
# What makes the socket, where its package put it. Podman needs none, and makes one only where it is told to.
PROGRAMS = ("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd")


class NotFound(CannotMeasure):
    """What was named is not there."""

    kind = "not_found"


def spoken(engine, oldest_of_sdk):
    """The version of the API to speak, by what the engine says about itself and the oldest one that the SDK speaks.

    The one that we know, or the nearest that both of them take: answers in a later one may be made up in another way.
    """
    oldest, newest = engine.get("MinAPIVersion") or KNOWN_API, engine.get("ApiVersion") or KNOWN_API
    wanted = max(KNOWN_API, oldest, oldest_of_sdk, key=number_of)
    return min(wanted, newest, key=number_of)


def number_of(version):
    return tuple(int(part) for part in version.split(".") if part.isdigit())


class Client:
    """A connection to the engine, and every call, are bounded by ``timeout`` and by what the deadline leaves.

    ``patience`` is another time limit for the calls, where the engine has to work for an answer.
    """

    def __init__(self, options, deadline, patience=None):
        self._options = options
        self._deadline = deadline
        self._patience = options["timeout"] if patience is None else patience
        # The seconds that a step got, if they are too few to call an engine without an answer hung.
        self._too_short = None
        self._docker = require("docker")
        self.api = self._ask(self._connect)

    def _connect(self):
        options = self._options
        seconds = self._seconds(options["timeout"])
        ours = {"base_url": options["docker_host"], "timeout": seconds, "tls": self._tls(options)}
        constants = self._docker.constants
        client = self._docker.APIClient(version=constants.DEFAULT_DOCKER_API_VERSION, **ours)
        # What the engine says about itself, whatever version of the API is spoken.
        self.version = client.version(api_version=False)
        version = spoken(self.version, constants.MINIMUM_DOCKER_API_VERSION)
        return self._docker.APIClient(version=version, **ours)

    def _tls(self, options):
        if not options["tls"]:
            return False
        certificate = (options["client_cert"], options["client_key"]) if options["client_cert"] else None
        verify = options["ca_path"] or True if options["validate_certs"] else False
        return self._docker.tls.TLSConfig(client_cert=certificate, ca_cert=options["ca_path"], verify=verify)

    def call(self, method, *arguments, **named):
        """What the method of the SDK returns. Raises CannotConnect; Rejected, which is one, where it says no."""
        return self._in_time(getattr(self.api, method), *arguments, **named)

    def remove_build_cache(self, identity):
        """Remove one entry of the build cache; the method of the SDK takes no filters before 7.1, and removes all.

        Returns whether the engine did: it says nothing about an entry that it keeps.
        """
        filters = json.dumps({"id": [identity]})

        def remove():
            url = self.api._url("/build/prune")
            return self.api._result(self.api._post(url, params={"all": True, "filters": filters}), True)

        return identity in (self._in_time(remove).get("CachesDeleted") or [])

    def _in_time(self, method, *arguments, **named):
        self.api.timeout = self._seconds(self._patience)
        return self._ask(method, *arguments, **named)

    def _seconds(self, at_most):
        """What is left of the deadline for one step. Raises OutOfTime where that is too little."""
        left = self._deadline.step(at_most)
        self._too_short = left if self._deadline.too_short(at_most) else None
        return left

    def _ask(self, method, *arguments, **named):
        errors = self._docker.errors
        try:
            return method(*arguments, **named)
        except errors.APIError as exc:
            said = cut(redact(exc.explanation or str(exc)), MAX_SAID)
            request = getattr(exc.response, "request", None)
            asked = "%s %s" % (request.method, request.path_url.partition("?")[0]) if request else None
            raise Rejected(getattr(exc.response, "status_code", None), said, asked) from exc
        except errors.TLSParameterError as exc:
            raise BadOption("client_cert, client_key, ca_path: %s" % exc) from exc
        except (errors.DockerException, OSError, ValueError) as exc:
            failure = explained(exc, self._options["docker_host"])
            if failure.kind == "timeout" and self._too_short is not None:
                failure = OutOfTime(self._too_short)
            raise failure from exc


def explained(exc, host):
    """The CannotConnect (or MissingLibrary) that a failure to reach the engine means, with its hint."""
    chain = list(causes(exc))
    text = str(exc)
    path = next((host[len(prefix) :] for prefix in UNIX if host.startswith(prefix)), None)
    if "http+docker" in text:
        return MissingLibrary(
            "The Python library docker is too old for the library requests beside it: %s" % text,
            hint="Install %s, or docker >= 7.1, on this host." % DEBIAN_PACKAGES["docker"],
        )
    if "InvalidVersion" in {type(link).__name__ for link in chain}:
        return CannotConnect("too_old", "the Docker engine is too old for the SDK: %s" % text, "Upgrade the engine.")
    if any("Timeout" in type(link).__name__ or isinstance(link, TimeoutError) for link in chain):
        return CannotConnect(
            "timeout",
            "%s accepts connections and does not answer" % host if path else "%s does not answer in time" % host,
            "Look at the engine: `journalctl -u docker --since -15min`. What runs goes on without it.",
        )
    for kind, message, hint, matches in REASONS:
        if any(matches(link) for link in chain):
            if hint is None:
                return NotAllowed(message % (path or host), who_may(path or ""))
            return CannotConnect(kind, message % (path or host), hint.format(unit=unit(host)))
    return CannotConnect("failed", "%s: %s" % (host, text), "Check docker_host (%s)." % host)


REASONS = (
    (
        "no_engine",
        "there is no socket %s",
        "See whether the engine is installed here and runs: `systemctl status {unit}`. Check docker_host.",
        lambda link: isinstance(link, FileNotFoundError),
    ),
    (
        "permission",
        "not allowed to use %s",
        # Who may, depends on the socket.
        None,
        lambda link: isinstance(link, PermissionError),
    ),
    (
        "refused",
        "nobody listens at %s",
        "Start the engine: `systemctl start {unit}`. Why it stopped: `journalctl -u {unit} --since -1h`",
        lambda link: isinstance(link, ConnectionRefusedError),
    ),
    (
        "name_resolution",
        "%s: its name cannot be resolved",
        "Check docker_host.",
        lambda link: type(link).__name__ in ("gaierror", "NameResolutionError"),
    ),
    (
        "tls",
        "%s: TLS failed, or it speaks none",
        "Check tls, ca_path, client_cert, client_key and validate_certs.",
        lambda link: "SSL" in type(link).__name__ or "CERTIFICATE" in str(link),
    ),
)


def unit(host):
    """What systemctl calls the engine behind a socket: that of a user, and Podman's, by other names than Docker's."""
    name = "podman" if "podman" in host else "docker"
    return "%s --user" % name if OF_A_USER.search(host) else name


def causes(exc):
    """An exception, and what it came from: its cause, its context, and the exceptions among its arguments."""
    seen, waiting = set(), [exc]
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = [argument for argument in link.args if isinstance(argument, BaseException)]
        waiting += [link.__cause__, link.__context__, getattr(link, "reason", None), *inner]
        waiting = [each for each in waiting if each is None or isinstance(each, BaseException)]


def is_installed(host):
    """Whether there may be an engine: a remote one, a socket, or traces of one that has stopped."""
    path = next((host[len(prefix) :] for prefix in UNIX if host.startswith(prefix)), None)
    return path is None or may_be_there(path) or any(os.path.exists(program) for program in PROGRAMS)


def containers(client, *labels):
    """All containers that carry these labels, whatever their state, as the engine lists them; no throwaways of run."""
    found = client.call("containers", all=True, filters={"label": list(labels)} if labels else None)
    return [row for row in found if not is_one_off(row.get("Labels") or {})]


def inspect(client, identity):
    """What the engine says about a container; null where it is gone since it was listed."""
    try:
        return client.call("inspect_container", identity)
    except Rejected as exc:
        if exc.status == NOT_FOUND:
            return None
        raise


def dependencies(labels):
    """The services that a container's service depends on, as compose v2 wrote them down."""
    text = (labels or {}).get(DEPENDS_ON) or ""
    return [part.split(":", 1)[0].strip() for part in text.split(",") if part.strip()]


def ordered(services, needs):
    """``services`` with what each depends on before it, by ``needs`` (name -> names). A circle is broken somewhere."""
    done = []

    def visit(service, path):
        if service in done or service in path:
            return
        for other in needs.get(service, ()):
            if other in needs:
                visit(other, path + [service])
        done.append(service)

    for service in services:
        visit(service, [])
    return [service for service in done if service in services]


def wait_until(happened, deadline, pause=0.3, sleep=time.sleep):
    """What ``happened`` returns once that is true, null when the deadline comes first."""
    while True:
        outcome = happened()
        if outcome or deadline.expired():
            return outcome or None
        sleep(deadline.remaining(pause))
