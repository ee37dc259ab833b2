# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of M(tracktion.ops.stack_service): what it may do, its record, its audit log. Private to this collection."""

from __future__ import annotations

import os
from typing import Iterator, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _docker,
    _stack_audit,
    _stack_order,
    _stack_service,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_restart import Target, labels, missing
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    PROJECT,
    SERVICE,
    SHARES,
    container_id,
    is_one_off,
    name_of,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._stack_order import Choice
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, Deadline, Failure
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operations
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._operation_records import Record, Stopped
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._operations import Operation
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._progress import Progress
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

SPEC = dict(
    _docker.SPEC,
    **_operations.SPEC,
    state={"type": "str", "choices": ["restarted", "stopped", "started"], "default": "restarted"},
    project={"type": "str", "default": ""},
    services={"type": "list", "elements": "str", "default": []},
    dependents={"type": "str", "choices": ["none", "also", "only"], "default": "none"},
    deny={"type": "list", "elements": "str", "default": []},
    health_timeout={"type": "float", "default": 120.0},
    lease={"type": "float", "default": 900.0},
    deadline={"type": "float", "default": 1800.0},
    progress={"type": "path"},
)
LISTS = ("order", "steps", "left", "resumed", "to_start", "lines")
# What a container that runs could not be started with again.
LOST = ("mount", "device")


def run(options: Options, check_mode: bool) -> Part:
    """Return what M(tracktion.ops.stack_service) returns, with ``failed`` and ``msg`` on failure.

    Raises CannotMeasure, CannotConnect, Busy and CannotKeep before anything is changed.
    """
    deadline = Deadline(options["deadline"])
    # Of reads; each request for work has its own. Containers that were stopped are started after the deadline, too.
    client = _docker.Client(options, Deadline(options["deadline"] + 86400.0))
    project = project_of(client, options)
    if not project:
        return {"changed": False, "project": None, "operation": options["operation"], **{name: [] for name in LISTS}}
    held = options["operation"], options["broken"]
    try:
        if check_mode:
            known = _operations.check(options["state_dir"], "restart", project, *held) + _joined(options)
            owed = [each for record in known for each in record["stopped"]]
            plan = _Run(client, options, project, deadline, None)
            return plan.result(plan.choose(owed), check_mode=True)
        operation = _operations.begin(options["state_dir"], "restart", project, options["run"], *held)
    except _operations.Busy as exc:
        return {**_failure(exc), "holders": list(exc.holders)}
    with operation:
        if options["operation"]:
            # What it has stopped is started by a later module, also after a failure of this one.
            try:
                return _within(operation, client, options, project, deadline)
            except Failure as exc:
                return _failure(exc)
            finally:
                operation.keep(options["lease"])
        result = _within(operation, client, options, project, deadline)
        operation.leave_unfinished()
    return result


def _within(operation: Operation, client: _docker.Client, options: Options, project: str, deadline: Deadline) -> Part:
    """Carry out a run while its operation is held. Raises Failure before anything is changed."""
    for record in operation.interrupted:
        if any(each["project"] == project for each in record["stopped"]):
            operation.adopt(record)
    stack = _Run(client, options, project, deadline, operation)
    choices = stack.choose(operation.record["stopped"])
    with _stack_audit.audited(options, project, operation) as audit:
        result = stack.carried_out(choices)
        audit.update(result)
    if options["state"] == "stopped" and not options["operation"]:
        # What was stopped on purpose stays stopped.
        operation.update(stopped=stack.owed_by_others())
    return result


def _failure(exc: Failure) -> Part:
    return {"failed": True, "msg": "%s. Fix: %s" % (exc, exc.hint) if exc.hint else str(exc), "kind": exc.kind}


def project_of(client: _docker.Client, options: Options) -> str:
    """Return the compose project; empty if there is nothing to start.

    Raises NotFound, and BadOption if it is not clear which one.
    """
    project, services = options["project"], options["services"]
    rows = client.all_containers()
    names = sorted({labels(row)[PROJECT] for row in rows if labels(row).get(PROJECT)})
    if project:
        if project in names:
            return project
        raise _docker.NotFound(missing("", project, rows), "List the projects: `docker compose ls --all`")
    if not names:
        raise _docker.NotFound("there is no compose project", "List the containers: `docker ps --all`")
    if options["state"] == "started" and not services:
        running, interrupted = _operations.read(options["state_dir"])
        joined = [each for each in running if each["id"] == options["operation"]]
        owed = {str(each["project"]) for record in joined or interrupted for each in record["stopped"]}
        if joined and not owed:
            # The operation has stopped nothing.
            return ""
        names = sorted(owed) or names
    having = [
        name
        for name in names
        if {labels(row).get(SERVICE) for row in rows if labels(row).get(PROJECT) == name} >= set(services)
    ]
    if len(having) == 1:
        return having[0]
    if services and not having:
        raise _docker.NotFound(
            "no compose project has the services %s" % ", ".join(services), "List the services: `docker ps --all`"
        )
    raise BadOption("project: there are several: %s" % ", ".join(having), hint="Set `project`.")


def _joined(options: Options) -> list[Record]:
    running, _interrupted = _operations.read(options["state_dir"])
    return [each for each in running if each["id"] == options["operation"]]


class _Run:
    """The containers of the project, and what is done with them."""

    def __init__(
        self, client: _docker.Client, options: Options, project: str, deadline: Deadline, operation: Operation | None
    ) -> None:
        self.client = client
        self.options = options
        self.project = project
        self.operation = operation
        self.lines: list[str] = []
        self.resumed: list[str] = []
        self.forgotten: list[str] = []
        self.wanted: set[str] = set()
        self.others: list[Stopped] = []
        self._progress = Progress(options["progress"])
        self.rows = client.all_containers()
        own = [row for row in self.rows if labels(row).get(PROJECT) == project and not is_one_off(labels(row))]
        self.targets = {row["Id"]: Target(client, row) for row in own}
        inspected = [target.data for target in self.targets.values()]
        self.graph = _stack_order.graph(inspected)
        self.members = _stack_order.members(inspected, options["deny"], container_id(os.getpid()))
        self.stack = _stack_service.Stack(options, deadline, self.graph, self._note, self._show)
        self._check()

    def _check(self) -> None:
        unknown = sorted(set(self.options["services"]) - set(self.graph))
        if unknown:
            raise _docker.NotFound(
                "the project %s has no container of %s (its services: %s)"
                % (self.project, ", ".join(unknown), ", ".join(sorted(self.graph))),
                "Correct `services`, or create the container, in the directory of the compose file:"
                " `docker compose up --no-start -- %s`" % shell_quote(unknown[0]),
            )
        circle = _stack_order.cycle(self.graph)
        if circle:
            raise BadOption(
                "the services of %s depend on each other in a circle: %s" % (self.project, " -> ".join(circle)),
                hint="Correct depends_on in the compose file, or name single `services`.",
            )

    def carried_out(self, choices: Sequence[Choice]) -> Part:
        """Carry out all steps and return the result."""
        try:
            # Notes of containers that are not owed any more are removed before the first step.
            self._note(self.stack.owed)
            self.stack.carry_out(self._by_service())
            return self.result(choices, check_mode=False)
        finally:
            self._progress.end()

    def choose(self, owed: Sequence[Stopped]) -> list[Choice]:
        """Plan the steps, and return what is done with each container. ``owed``: the notes of earlier runs."""
        options = self.options
        own = [each for each in owed if each["project"] == self.project]
        self.others = [each for each in owed if each["project"] != self.project]
        for each in own:
            target = self.targets.get(each["id"])
            if target and _stack_service.is_owed(each, target.data):
                self.stack.owed.append(each)
                self.resumed.append(each["name"])
            else:
                self.forgotten.append(each["name"])
        wanted = _stack_order.selected(self.graph, options["services"], options["dependents"], options["state"])
        named = set(options["services"]) if options["dependents"] != "only" else set()
        if options["state"] == "started" and not options["services"]:
            # Only what an operation has stopped.
            wanted = set()
        self.wanted = wanted
        request = _stack_order.Request(
            options["state"], wanted, named, {each["id"] for each in self.stack.owed}, self._lost(wanted)
        )
        choices = _stack_order.choices(self.members, self.graph, request)
        self.stack.plan(choices, self.targets)
        return choices

    def owed_by_others(self) -> list[Stopped]:
        """Return the containers that an interrupted run has stopped, and this one was not asked to stop."""
        return self.others + [each for each in self.stack.owed if each["service"] not in self.wanted]

    def _lost(self, wanted: set[str]) -> Mapping[str, str]:
        """Return why containers that run could not be started again: a path or a device that is gone."""
        found = {}
        for member in self.members:
            if member.service in wanted and member.status in _stack_order.UP and not member.kept:
                target = self.targets[member.id]
                obstacle = target.find_obstacle(self.options, self.stack.deadline, wanted)
                if obstacle and obstacle.kind in LOST:
                    found[member.id] = "%s. %s" % (obstacle.reason, obstacle.hint)
        return found

    def _by_service(self) -> dict[str, list[Target]]:
        found: dict[str, list[Target]] = {}
        for member in self.members:
            found.setdefault(member.service, []).append(self.targets[member.id])
        return found

    def _note(self, owed: list[Stopped]) -> None:
        if self.operation:
            self.operation.update(stopped=self.others + owed)

    def _show(self, line: str) -> None:
        self.lines.append(line)
        self._progress.note(line)

    def result(self, choices: Sequence[Choice], check_mode: bool) -> Part:
        """Return the result of the module."""
        steps = self.stack.steps
        if check_mode:
            self.lines = [step.line(len(steps)) for step in steps]
        left = [choice for choice in choices if choice.reason and choice.reason not in ("runs already",)]
        lines = ["left %s: %s" % (choice.member.name, choice.reason) for choice in left]
        lines += ["note: %s" % text for text in self._detached(choices)]
        lines += ["note: %s was stopped or started again since the interrupted run" % name for name in self.forgotten]
        for line in lines:
            self.lines.append(line)
        problems = [
            "%s: %s" % (step.target.name, step.message or step.result.replace("_", " "))
            for step in steps
            if step.result not in ("planned", *_stack_service.GOOD)
        ]
        problems += ["%s %s" % (choice.member.name, choice.reason) for choice in left if choice.problem]
        result: Part = {
            "changed": any(step.result not in ("not_reached", "stopped_meanwhile") for step in steps),
            "project": self.project,
            "operation": self.operation.id if self.operation and self.options["operation"] else None,
            "order": _stack_order.in_order(self.graph),
            "steps": [step.as_result() for step in steps],
            "left": [
                {
                    "service": choice.member.service,
                    "name": choice.member.name,
                    "status": choice.member.status,
                    "reason": choice.reason,
                    "problem": choice.problem,
                }
                for choice in left
            ],
            "resumed": self.resumed,
            "to_start": [each["name"] for each in self.stack.owed],
            "lines": self.lines,
        }
        if problems:
            result.update(failed=True, msg=_message(problems, result["to_start"], self.options))
        return result

    def _detached(self, choices: Sequence[Choice]) -> Iterator[str]:
        """Yield what happens to containers of other projects that live in the network of one that is stopped."""
        stopped = {choice.member.id: choice.member for choice in choices if choice.stop}
        for row in self.rows:
            mode = ((row.get("HostConfig") or {}).get("NetworkMode")) or ""
            member = stopped.get(mode[len(SHARES) :]) if mode.startswith(SHARES) else None
            if member and row["Id"] not in self.targets:
                yield "%s uses the network of %s and loses it: `docker restart -- %s`" % (
                    name_of(row),
                    member.name,
                    shell_quote(name_of(row)),
                )


def _message(problems: Sequence[str], to_start: Sequence[str], options: Options) -> str:
    text = "; ".join(problems[:5])
    if len(problems) > 5:
        text += "; and %d more" % (len(problems) - 5)
    if to_start and options["state"] != "stopped":
        text += ". Still stopped: %s. The next run starts them, or: `docker start %s`" % (
            ", ".join(to_start),
            " ".join(shell_quote(name) for name in to_start),
        )
    return text
