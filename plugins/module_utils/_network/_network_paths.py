# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests all paths at the same time. Private to this collection.

The paths from one container are tested by a process of its own, which enters the network namespace of the container.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Iterator, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils import _side_by_side
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_networks import Container
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    Deadline,
    Unknown,
    out_of_time,
)
from ansible_collections.tracktion.ops.plugins.module_utils._network import _network_namespace, _resolvers
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_host import ANY_ADDRESS, EngineOfHost
from ansible_collections.tracktion.ops.plugins.module_utils._network._network_path import RESULT, Target, no_result
from ansible_collections.tracktion.ops.plugins.module_utils._network._path_ends import Ends
from ansible_collections.tracktion.ops.plugins.module_utils._network._resolvers import Subject
from ansible_collections.tracktion.ops.plugins.module_utils._types import AreaOutcome, Options, Part

# Most containers from which paths are tested: each takes a process.
MAX_CONTAINERS = 40
# Time beyond the deadline for a process to return its results.
GRACE_SECONDS = 0.25
HERE, RESOLVER = "here", "resolver"
# Failures of a DNS server that do not depend on the name.
SERVER_FAILURES = ("servfail", "dns_timeout", "dns_refused", "dns_denied", "dns_no_route")
# Network modes without a network.
NOWHERE = ("none", "orphaned")
NOT_MEASURED = "it could not be measured"


class Wanted(NamedTuple):
    """A path that the options name: the service it starts from, and its target."""

    service: str
    target: Target


class Source(NamedTuple):
    """A container from which paths are tested: its process, and the entries to fill in."""

    container: Container
    pid: int
    entries: list[tuple[Part, Target]]


class Paths:
    """The paths that the options name, one entry per running container of the service.

    ``known`` is false if the containers are not known or their namespaces cannot be entered.
    """

    def __init__(
        self, wanted: Sequence[Wanted], engine: EngineOfHost, project: str, ends: Ends, unknown: Unknown
    ) -> None:
        self.ends = ends
        self.entries: list[Part] = []
        self.by_container: dict[str, Source] = {}
        self.known = True
        containers: set[Container] = set()
        host = engine.host
        if wanted and host is None:
            self._give_up(engine.reason, engine.hint, unknown)
        for service, target in wanted if host else ():
            found = host.of_service(service, project or None) if host else []
            containers.update(found)
            running = [container for container in found if container.running]
            candidates: list[Container | None] = [*(running or found[:1])] or [None]
            for container in candidates:
                self._add(service, target, container, unknown)
        self.projects = {container.project for container in containers if container.project}

    def _add(self, service: str, target: Target, container: Container | None, unknown: Unknown) -> None:
        entry: Part = {**no_result()}
        entry.update(repeats=False, also_unresolved=[])
        entry.update(measured=False, service=service, to=target.to, host=target.host, port=target.port)
        entry.update(container=container and container.name, project=container and container.project)
        entry.update(self.ends.describe(target.host, container))
        self.entries.append(entry)
        if container is None:
            entry["reason"] = "this host has no container of %s" % service
        elif not container.running or container.pid is None:
            state = (container.name, container.state, container.exit_code)
            entry["reason"] = "%s does not run (%s, exit code %s)" % state
        elif container.id not in self.by_container and len(self.by_container) >= MAX_CONTAINERS:
            entry["reason"] = "paths from more than %d containers are not tested" % MAX_CONTAINERS
        else:
            self._add_source(container, container.pid, entry, target, unknown)

    def _add_source(self, container: Container, pid: int, entry: Part, target: Target, unknown: Unknown) -> None:
        try:
            _network_namespace.check_access(pid, container.id)
        except _network_namespace.Gone as exc:
            entry["reason"] = "paths from %s cannot be tested: %s" % (container.name, exc)
            return
        except _network_namespace.Forbidden as exc:
            if self.known:
                self._give_up(str(exc), exc.hint, unknown)
        self.by_container.setdefault(container.id, Source(container, pid, [])).entries.append((entry, target))

    def _give_up(self, reason: str, hint: str | None, unknown: Unknown) -> None:
        """Record that no path is known."""
        self.known = False
        for part in ("paths", "sources"):
            unknown.add(part, reason, hint)

    def jobs(self, timeout: float, deadline: Deadline) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield the id of each container, and a function to call in a process of its own."""
        for identity, source in self.by_container.items() if self.known else ():
            targets = [target for _entry, target in source.entries]
            yield identity, partial(_network_namespace.follow_from, source.pid, targets, timeout, deadline)

    def add_results(self, identity: str, results: Sequence[Part | None] | None, reason: str | None) -> None:
        """Fill in the entries of one container. ``reason``: why there are no results."""
        source = self.by_container[identity]
        entries = [entry for entry, _target in source.entries]
        for number, entry in enumerate(entries):
            found = results[number] if results else None
            result: Part = dict(found) if found else {"reason": reason or NOT_MEASURED}
            ended = result.pop("ended", False)
            entry.update(result)
            entry["measured"] = True if entry["ok"] is not None else False if ended else None
            self.ends.add_origin(entry, source.container)
            if not entry["misled"]:
                entry["listening"] = self.ends.listening(entry["failure"], entry["target_container"], entry["port"])
        # A container without a network is one finding, whatever its targets.
        nowhere = [entry for entry in entries if entry["network_mode"] in NOWHERE and entry["ok"] is False]
        for entry in nowhere[1:]:
            entry["repeats"] = True
        # A DNS server that fails is one finding, whatever the names.
        unresolved = [entry for entry in entries if entry["failure"] in SERVER_FAILURES and not _has_own_cause(entry)]
        for number, entry in enumerate(unresolved):
            entry["repeats"] = entry["repeats"] or number > 0
            entry["also_unresolved"] = [other["host"] for other in unresolved if other is not entry]

    def sources(self, unknown: Unknown) -> list[Part]:
        """Return the services that paths start from, whether all their paths were tested, and why not."""
        found: dict[str, Part] = {}
        for entry in self.entries:
            source = found.setdefault(entry["service"], {"measured": True, "targets": [], "reason": None})
            if entry["to"] not in source["targets"]:
                source["targets"].append(entry["to"])
            if source["measured"] is not False and not entry["measured"]:
                source.update(measured=entry["measured"], reason=entry["reason"])
            source.update(container=entry["container"], project=entry["project"])
        for service, source in found.items():
            if source["measured"] is None:
                unknown.add("sources.%s" % service, source["reason"])
        return [dict(source, service=service) for service, source in found.items()]


def _has_own_cause(entry: Part) -> bool:
    """Return whether the engine cannot know a name, so that its DNS server asks others."""
    is_down = entry["target_state"] not in (None, "running", "paused")
    return entry["common_network"] is False or is_down or bool(entry["rename"])


def measure(
    paths: Paths,
    external: Sequence[Target],
    ports: Sequence[Part] | None,
    containers: Sequence[Subject] | None,
    dns: Sequence[str],
    options: Options,
    deadline: Deadline,
    unknown: Unknown,
) -> Part:
    """Return the parts about paths, ports and DNS servers. Everything is tested at the same time.

    The results of ``ports`` are added to their items. ``containers`` are those whose DNS servers are queried, null if
    they are not known. ``dns`` are the servers in the configuration of the engine.
    """
    timeout = options["timeout"]
    jobs: dict[str, Callable[[], Any]] = dict(paths.jobs(timeout, deadline))
    published = [Target(_address_of(port), option="the published port") for port in ports or ()]
    if external or published:
        jobs[HERE] = partial(_follow_here, [*external, *published], timeout, deadline)
    left = deadline.remaining()
    if options["check_resolver"] and not deadline.too_short(timeout):
        jobs[RESOLVER] = partial(_resolvers.query, containers or [], dns, deadline.remaining(timeout))
    seconds = deadline.remaining() + GRACE_SECONDS
    outcomes = _side_by_side.run({name: (seconds, {"results": job}) for name, job in jobs.items()})
    for identity in paths.by_container if paths.known else ():
        paths.add_results(identity, *_results(outcomes[identity]))
    here = _results_here(outcomes.get(HERE), len(external) + len(published))
    for target, result in zip(external, here):
        if result["ok"] is None:
            unknown.add("external.%s" % target.to, result["reason"] or NOT_MEASURED)
    for port, result in zip(ports or (), here[len(external) :]):
        port.update({name: result[name] for name in ("ok", "reason", "failure", "error", "connect_seconds")})
        port["listening"] = paths.ends.listening(port["failure"], port["container"], port["container_port"])
        port["reconnect"] = paths.ends.reconnect(port["container"])
        if port["ok"] is None:
            part = "published_ports.%s %d" % (port["container"], port["host_port"])
            unknown.add(part, port["reason"] or NOT_MEASURED)
    resolvers, reason = _results(outcomes[RESOLVER]) if RESOLVER in outcomes else (None, out_of_time(left))
    return {
        "paths": paths.entries if paths.known else None,
        "sources": paths.sources(unknown) if paths.known else None,
        "external": [
            dict(result, to=target.to, host=target.host, port=target.port) for target, result in zip(external, here)
        ],
        "published_ports": ports,
        **_resolvers.measured(resolvers, reason, options["check_resolver"], containers is not None, unknown),
    }


def _address_of(port: Part) -> str:
    listening = str(port["host_address"])
    address = ANY_ADDRESS.get(listening, listening)
    return "%s:%d" % ("[%s]" % address if ":" in address else address, port["host_port"])


def _results(outcome: AreaOutcome) -> tuple[Any, str | None]:
    """Return the results of a process, and the reason why there are none."""
    results: Any = outcome["measurement"].get("results")
    if isinstance(results, dict) and results.get("reachable", True) is None:
        return None, results["error"]["message"]
    if results is None:
        return None, outcome["error"]["message"] if outcome["error"] else NOT_MEASURED
    return results, None


def _results_here(outcome: AreaOutcome | None, count: int) -> list[Part]:
    """Return the results of the paths from this host."""
    found, reason = _results(outcome) if outcome else (None, None)
    empty = no_result(reason)
    results: list[Any] = [(found[number] if found else None) or empty for number in range(count)]
    return [{name: result[name] for name in RESULT} for result in results]


def _follow_here(targets: Sequence[Target], timeout: float, deadline: Deadline) -> Any:
    return _network_namespace.follow_all(targets, _network_namespace.read_configuration(), timeout, deadline)
