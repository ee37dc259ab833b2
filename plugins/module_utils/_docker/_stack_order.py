# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order of the services of a compose project, and what to do with each container. Pure.

Private to this collection.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_facts, _docker
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    SERVICE,
    SHARES,
    is_one_off,
    is_protected,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker import Need

HEALTHY = "service_healthy"
UP = ("running", "restarting")
# Fields of HostConfig by which a container lives in a namespace of another one.
SHARED = ("NetworkMode", "IpcMode", "PidMode")

# Service -> the services that it depends on -> how.
Graph = Dict[str, Dict[str, Need]]


class Member(NamedTuple):
    """A container of a service. ``health`` is null without a health check; ``kept`` says why it is never changed."""

    id: str
    name: str
    service: str
    status: str
    health: str | None
    exit_code: int | None
    kept: str | None


class Choice(NamedTuple):
    """What to do with a container. ``reason``: why it is left as it is; ``problem``: the run fails because of it."""

    member: Member
    stop: bool = False
    start: bool = False
    reason: str | None = None
    problem: bool = False


class Request(NamedTuple):
    """What is wanted. ``wanted`` services; ``named`` ones among them; ``owed`` are ids of containers to start.

    ``lost`` maps ids of containers to the reason why they could not be started again.
    """

    state: str
    wanted: Collection[str]
    named: Collection[str]
    owed: Collection[str]
    lost: Mapping[str, str]


def members(inspected: Iterable[Mapping[str, Any]], deny: Collection[str], own: str | None) -> list[Member]:
    """Return the containers of a project, without those of `compose run`. ``own`` is the id of this one."""
    found = []
    for data in inspected:
        labels = (data.get("Config") or {}).get("Labels") or {}
        if is_one_off(labels):
            continue
        name, service, status = data["Name"].lstrip("/"), labels.get(SERVICE) or "", _container_facts.status(data)
        kept = None
        if is_protected(labels):
            kept = "is protected by its label"
        elif {name, service} & set(deny):
            kept = "is in the deny list"
        elif data["Id"] == own:
            kept = "runs this restart"
        state = data["State"]
        health = _container_facts.health(state) if status in UP else None
        found.append(Member(data["Id"], name, service, status, health, state.get("ExitCode"), kept))
    return sorted(found, key=lambda member: (member.service, member.name))


def graph(inspected: Sequence[Mapping[str, Any]]) -> Graph:
    """Return the dependencies of all services: those in the labels, and shared namespaces.

    A container loses the network of another one that is restarted, so it is restarted with that one.
    """
    found: Graph = {}
    services = {}
    for data in inspected:
        services[data["Id"]] = ((data.get("Config") or {}).get("Labels") or {}).get(SERVICE) or ""
    for data in inspected:
        labels = (data.get("Config") or {}).get("Labels") or {}
        if is_one_off(labels):
            continue
        own = found.setdefault(services[data["Id"]], {})
        own.update((need.service, need) for need in _docker.needs(labels))
        modes = [(data.get("HostConfig") or {}).get(field) or "" for field in SHARED]
        for other in {services.get(mode[len(SHARES) :]) for mode in modes if mode.startswith(SHARES)}:
            if other is not None and other != services[data["Id"]]:
                condition = own[other].condition if other in own else "service_started"
                own[other] = Need(other, condition, True)
    return found


def cycle(dependencies: Graph) -> list[str]:
    """Return the services of a cycle in their order, the first one again at the end; empty without one."""
    done: set[str] = set()

    def visit(service: str, path: list[str]) -> list[str]:
        if service in path:
            return [*path[path.index(service) :], service]
        if service in done or service not in dependencies:
            return []
        for other in sorted(dependencies[service]):
            found = visit(other, [*path, service])
            if found:
                return found
        done.add(service)
        return []

    return next((found for found in (visit(service, []) for service in sorted(dependencies)) if found), [])


def in_order(dependencies: Graph) -> list[str]:
    """Return the services, each after those that it depends on."""
    return _docker.ordered(sorted(dependencies), {name: sorted(needs) for name, needs in dependencies.items()})


def selected(dependencies: Graph, services: Collection[str], dependents: str, state: str) -> set[str]:
    """Return the services to change: all without ``services``.

    ``dependents`` is ``none``, ``also`` or ``only``: whether those that depend on them are included. With ``none``,
    a restart includes those that compose restarts too (``depends_on.restart``), or that share a namespace with them.
    """
    if not services:
        return set(dependencies)
    chosen = set(services)
    pending = sorted(services)
    while pending:
        service = pending.pop()
        for other, needs in dependencies.items():
            follows = dependents != "none" or (state == "restarted" and service in needs and needs[service].restart)
            if service in needs and follows and other not in chosen:
                chosen.add(other)
                pending.append(other)
    return chosen - set(services) if dependents == "only" else chosen


def choices(containers: Sequence[Member], dependencies: Graph, request: Request) -> list[Choice]:
    """Return what to do with each container that is wanted or owed, in the order of the start."""
    of_service: dict[str, list[Member]] = {}
    for member in containers:
        of_service.setdefault(member.service, []).append(member)
    found: list[Choice] = []
    for service in in_order(dependencies):
        for member in of_service.get(service, ()):
            if service in request.wanted or member.id in request.owed:
                found.append(_choice(member, dependencies[service], of_service, found, request))
    return found


def _choice(
    member: Member,
    needs: Mapping[str, Need],
    of_service: Mapping[str, Sequence[Member]],
    before: Sequence[Choice],
    request: Request,
) -> Choice:
    is_named = member.service in request.named
    if member.kept:
        return Choice(member, reason=member.kept)
    if member.status in ("removing", "dead"):
        return Choice(member, reason="is %s" % member.status, problem=True)
    if member.status == "paused":
        return Choice(member, reason="is paused", problem=is_named)
    if member.status not in UP:
        if request.state == "stopped":
            return Choice(member, reason="is stopped already")
        if is_named or member.id in request.owed:
            return Choice(member, start=True)
        return Choice(member, reason="is stopped (exit code %s), and is started only if it is named" % member.exit_code)
    if request.state == "started":
        return Choice(member, reason="runs already")
    if request.state == "stopped":
        return Choice(member, stop=True)
    if member.id in request.lost:
        return Choice(member, reason="could not be started again: %s" % request.lost[member.id], problem=True)
    # A service that runs is not stopped if its condition for a start is not met.
    unmet = next(filter(None, (_unmet(need, of_service, before) for need in needs.values())), None)
    if unmet:
        return Choice(member, reason=unmet, problem=True)
    return Choice(member, stop=True, start=True)


def _unmet(need: Need, of_service: Mapping[str, Sequence[Member]], before: Sequence[Choice]) -> str | None:
    """Return why a running service could not start again after a stop; null if it could, or if nothing is known."""
    others = of_service.get(need.service)
    if need.condition != HEALTHY or not others:
        return None
    started = {choice.member.id for choice in before if choice.start}
    if any(other.id in started or is_ready(other) for other in others):
        return None
    other = others[0]
    state = other.health if other.status == "running" else other.status
    return "depends on %s, which is %s and is not restarted here" % (need.service, state)


def is_ready(member: Member) -> bool:
    """Return whether a container meets the condition ``service_healthy``."""
    return member.status == "running" and member.health in (None, "healthy")


def does(options: Mapping[str, Any], project: str | None) -> str:
    """Return what a run does, in one sentence for people. ``options`` are those of M(tracktion.ops.stack_service)."""
    services = ", ".join(map(str, options.get("services") or []))
    state = str(options.get("state") or "restarted")
    verb = {"stopped": "Stops", "started": "Starts"}.get(state, "Restarts")
    if services and options.get("dependents") == "only":
        services = "what depends on %s" % services
    elif services and options.get("dependents") == "also":
        services += ", and what depends on it"
    default = "what an interrupted run has stopped" if state == "started" else "all services"
    return "%s %s%s" % (verb, services or default, " (project %s)" % project if project else "")
