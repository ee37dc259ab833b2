# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restarts containers, one after the other, and waits until each works. Private to this collection."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Collection, Mapping, NamedTuple, Sequence, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._bounded import within
from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _compose_drift,
    _container_facts,
    _docker,
    _engine,
    _obstacles,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    PROJECT,
    SERVICE,
    epoch,
    is_protected,
    name_of,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import LATE, Row
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _listeners
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotConnect, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

SPEC = dict(
    _docker.SPEC,
    project={"type": "str", "default": ""},
    services={"type": "list", "elements": "str", "default": []},
    names={"type": "list", "elements": "str", "default": []},
    expected={
        "type": "list",
        "elements": "dict",
        "options": {"id": {"type": "str", "required": True}, "started_at": {"type": "float"}},
    },
    min_uptime={"type": "float", "default": 0.0},
    deny={"type": "list", "elements": "str", "default": []},
    max_containers={"type": "int", "default": 5},
    stop_timeout={"type": "int"},
    deadline={"type": "float", "default": 120.0},
)

# The default of the engine, if neither the container nor the option sets the seconds to stop.
STOP_SECONDS = 10
# A container without a health check works once it has been running for so long: the engine, too, regards a container
# as started successfully when it is up for ten seconds. Programs that load much end later than others.
STABLE_SECONDS = 10.0
CREATE = "Create it, in the directory of its compose file: `docker compose up -d -- %s`"
# Restarts by the restart policy after which a container is in a crash loop.
CRASHES = 3
# Two readings of one start time may differ by so much, because JSON rounds them.
SAME_TIME = 0.0015

STATE_FIELDS = ("id", "status", "health", "started_at", "restart_count")

# Project and service of a container; the id if it belongs to no service.
Group = Tuple["str | None", str]


class State(NamedTuple):
    """The state of a container at one moment."""

    id: str
    status: str
    health: str | None
    started_at: float | None
    restart_count: int
    # Null while it runs.
    exit_code: int | None
    # Seconds that it may take to stop.
    stop_seconds: int


def restart(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.container_restart) returns, with ``failed`` and ``msg`` on failure.

    Raises CannotMeasure and CannotConnect before anything is restarted.
    """
    if not options["services"] and not options["names"]:
        raise BadOption("services, names: both are empty", hint="Set `services` or `names`.")
    deadline = Deadline(options["deadline"])
    # The state is read once more after the deadline.
    client = _docker.Client(options, Deadline(options["deadline"] + options["timeout"]))
    plan = [Target(client, row) for row in in_order(find(client, options))]
    if len(plan) > options["max_containers"]:
        raise BadOption(
            "max_containers: %d containers are named, but one run may restart %d"
            % (len(plan), options["max_containers"]),
            hint="Name fewer containers, or raise `max_containers`.",
        )
    problem = None
    planned: set[str] = set()
    for target in plan:
        if problem:
            target.result = "not_reached"
            continue
        target.result = target.decide(options, deadline, planned)
        if target.result == "planned":
            planned.add(target.labels.get(SERVICE) or "")
        if target.result == "not_restartable":
            problem = target.fail(target.result, target.obstacle or "is %s" % target.before.status)
        elif target.result == "planned" and not check_mode:
            problem = target.restart(options, deadline)
    return outcome(plan, problem, check_mode)


def find(client: _docker.Client, options: Options) -> list[Row]:
    """Return the rows of the named containers. Raises _docker.NotFound, BadOption."""
    rows = client.containers()
    project = options["project"]
    found: list[Row] = []
    for service in options["services"]:
        of_service = [row for row in rows if labels(row).get(SERVICE) == service]
        matching = [row for row in of_service if project in ("", labels(row).get(PROJECT))]
        projects = sorted({labels(row).get(PROJECT) or "" for row in matching})
        if len(projects) > 1:
            raise BadOption(
                "project: the service %s exists in %s" % (service, ", ".join(projects)),
                hint="Set `project`.",
            )
        if not matching:
            raise _docker.NotFound(missing(service, project, rows), CREATE % shell_quote(service))
        found += matching
    for name in options["names"]:
        matching = [row for row in rows if name_of(row) == name or (len(name) >= 12 and row["Id"].startswith(name))]
        if not matching:
            raise _docker.NotFound("there is no container %s" % name, "List the containers: `docker ps --all`")
        found += matching
    return list({row["Id"]: row for row in found}.values())


def missing(service: str, project: str, rows: Sequence[Row]) -> str:
    """Return why there is no container of a service."""
    projects = sorted({labels(row)[PROJECT] for row in rows if labels(row).get(PROJECT)})
    if project and project not in projects:
        return "there is no compose project %s (there are: %s)" % (project, ", ".join(projects) or "none")
    return "there is no container of the service %s%s" % (service, " in project " + project if project else "")


def labels(row: Row) -> Mapping[str, str]:
    """Return the labels of a row of the engine's list of containers."""
    return row.get("Labels") or {}


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Return the containers, each after those of the services that it depends on."""
    needs: dict[Group, list[Group]] = {}
    for row in rows:
        needs.setdefault(group(row), [(group(row)[0], name) for name in _docker.dependencies(labels(row))])
    return [row for wanted in _docker.ordered(list(needs), needs) for row in rows if group(row) == wanted]


def group(row: Row) -> Group:
    """Return what a container is ordered by."""
    own = labels(row)
    return own.get(PROJECT), own.get(SERVICE) or row["Id"]


def is_container(expected: Mapping[str, Any], identity: str) -> bool:
    """Return whether ``expected`` means the container with this id."""
    return len(expected["id"]) >= 12 and identity.startswith(expected["id"])


def is_run(expected: Mapping[str, Any], identity: str, started: float | None) -> bool:
    """Return whether ``expected`` means this container, and its current run."""
    if not is_container(expected, identity):
        return False
    if started is None or expected["started_at"] is None:
        return started is expected["started_at"]
    return abs(started - expected["started_at"]) <= SAME_TIME


class Target:
    """A container to restart."""

    def __init__(self, client: _docker.Client, row: Row) -> None:
        self.client = client
        self.id = row["Id"]
        self.name = name_of(row)
        self.labels = labels(row)
        self.before = self.look()
        self.after: State | None = None
        self.last_exit_code: int | None = None
        self.result: str | None = None
        self.message: str | None = None
        # Why a restart cannot help, with the next step.
        self.obstacle: str | None = None

    @property
    def now(self) -> State:
        """The last state that was read."""
        return self.after or self.before

    def look(self) -> State:
        """Return the current state. Raises CannotConnect."""
        self.data = data = self.client.call("inspect_container", self.id)
        state = data["State"]
        stop_seconds = (data.get("Config") or {}).get("StopTimeout")
        return State(
            id=data["Id"],
            status=_container_facts.status(data),
            health=_container_facts.health(state),
            started_at=epoch(state.get("StartedAt")),
            restart_count=data.get("RestartCount"),
            # The engine sets Running for a container that waits for its restart, too.
            exit_code=None if state.get("Status") == "running" else state.get("ExitCode"),
            stop_seconds=STOP_SECONDS if stop_seconds is None else stop_seconds,
        )

    def decide(self, options: Options, deadline: Deadline, planned: Collection[str] = ()) -> str:
        """Return ``planned``, or why it is left alone, by its current state: restarts before it took time.

        ``planned`` are the services that this run has restarted before.
        """
        self.before = self.look()
        if is_protected(self.labels):
            return "protected"
        if {self.name, self.labels.get(SERVICE)} & set(options["deny"]):
            return "protected"
        if options["expected"] is not None:
            started = self.before.started_at
            if not any(is_run(expected, self.id, started) for expected in options["expected"]):
                return "changed_meanwhile"
        if self.before.status in ("paused", "removing", "dead"):
            # It was paused on purpose, or is about to be removed.
            return "not_restartable"
        uptime = time.time() - (self.before.started_at or 0)
        if self.before.status == "running" and uptime < options["min_uptime"]:
            return "just_started"
        if self.before.status != "running" or self.before.health == "unhealthy":
            found = self.find_obstacle(options, deadline, planned)
            if found:
                self.obstacle = "a restart cannot help: %s. %s" % (found.reason, found.hint)
                return "not_restartable"
        return "planned"

    def find_obstacle(
        self, options: Options, deadline: Deadline, planned: Collection[str]
    ) -> _obstacles.Obstacle | None:
        """Return what a restart would not remove."""
        is_local = _listeners.is_local(options["docker_host"])
        rows = self.client.all_containers()
        missing, taken = [], []
        if is_local:
            for path in _obstacles.sources(self.data):
                with contextlib.suppress(OSError):
                    if not within(deadline, options["timeout"], os.path.lexists, path):
                        missing.append(path)
            facts = _container_facts.facts(self.data, [])
            running = [
                {"name": name_of(row), "ports": _container_facts.listed_ports(row)}
                for row in rows
                if row.get("State") == "running"
            ]
            taken = _listeners.taken(facts, _listeners.listeners(), running) if facts["ports"] else []
        engine = _engine.command("docker", options["docker_host"])
        around = _obstacles.Surroundings(rows, self.client.networks(), missing, is_local, taken, engine, planned)
        source = _compose_drift.source(self.labels)
        return _obstacles.find(self.data, around, _compose_drift.words(source) if source else [])

    def restart(self, options: Options, deadline: Deadline) -> str | None:
        """Restart it and wait until it works; return what failed, or null."""
        seconds = options["stop_timeout"] if options["stop_timeout"] is not None else self.before.stop_seconds
        self.result = "restarted"
        try:
            self.request_restart(seconds)
            progress = _docker.wait_until(self.progress, deadline)
        except _docker.Rejected as exc:
            return self.fail("rejected", "the engine does not restart it: %s" % exc.reply)
        except CannotConnect as exc:
            return self.fail("unknown", "lost the engine while it was restarted: %s" % exc)
        if progress == "works":
            return None
        if progress is None:
            progress = "is still %s after %g s" % (self.now.health or self.now.status, options["deadline"])
        return self.fail("unhealthy", progress)

    def request_restart(self, seconds: int) -> None:
        """Send the request.

        The engine kills the container if it has not stopped after ``seconds``. Raises CannotConnect.
        """
        try:
            self.client.call("restart", self.id, timeout=seconds)
        except CannotConnect as exc:
            # An engine that needs longer to answer still restarts it.
            if exc.kind not in LATE:
                raise

    def progress(self) -> str | None:
        """Return ``works``, null while it is starting, or what failed."""
        self.after = now = self.look()
        if now.started_at is None or now.started_at == self.before.started_at:
            error = self.data["State"].get("Error")
            if error and now.status in ("created", "exited"):
                return "cannot be started: %s" % _container_facts.reason_of(error)
            return None
        if now.exit_code is not None:
            self.last_exit_code = now.exit_code
        if now.status == "running":
            if now.health is not None:
                return "works" if now.health == "healthy" else None
            return "works" if time.time() - now.started_at >= STABLE_SECONDS else None
        if now.status == "exited":
            # No restart policy applies, or it has given up: otherwise the state is "restarting".
            return "ended with exit code %s" % now.exit_code
        if now.restart_count >= CRASHES:
            # The exit code is known unless each reading fell into a short run.
            code = "" if self.last_exit_code is None else ", with exit code %s" % self.last_exit_code
            return "ends again and again%s" % code
        return None

    def fail(self, result: str, message: str) -> str:
        """Note a failure and return it in one sentence."""
        self.result, self.message = result, message
        return "%s: %s" % (self.name, message)

    def as_result(self) -> Part:
        """Return its entry of ``containers``, as M(tracktion.ops.container_restart) documents it."""
        return {
            "id": self.id,
            "name": self.name,
            "project": self.labels.get(PROJECT),
            "service": self.labels.get(SERVICE),
            "result": self.result,
            "message": self.message,
            "before": short(self.before),
            "after": short(self.now),
            "exit_code": self.now.exit_code,
        }

    def expected_after(self) -> Part:
        """Return the state after a restart, as far as it is known before."""
        health = "healthy" if self.before.health else None
        return dict(short(self.before), status="running", health=health, started_at=None, restart_count=0)


def short(state: State) -> Part:
    """Return the ``STATE_FIELDS`` of a state, as ``before`` and ``after`` show them."""
    return {name: getattr(state, name) for name in STATE_FIELDS}


def outcome(plan: Sequence[Target], problem: str | None, check_mode: bool) -> Part:
    """Return ``changed``, ``containers``, ``before``, ``after``, ``diff``, and ``failed`` with ``msg`` on failure."""
    results = [target.as_result() for target in plan]
    if check_mode:
        for entry, target in zip(results, plan):
            if target.result == "planned":
                entry["after"] = target.expected_after()
    before = {entry["name"]: entry["before"] for entry in results}
    after = {entry["name"]: entry["after"] for entry in results}
    result: Part = {
        "changed": any(entry["result"] in ("planned", "restarted", "unhealthy", "unknown") for entry in results),
        "containers": results,
        "before": before,
        "after": after,
        "diff": {"before": before, "after": after},
    }
    if problem:
        failed = next(target for target in plan if target.message)
        logs = "" if failed.obstacle else ". Read its log: `docker logs --tail 50 %s`" % shell_quote(failed.name)
        result.update(failed=True, msg=problem + logs)
    return result
