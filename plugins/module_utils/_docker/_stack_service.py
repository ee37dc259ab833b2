# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stops and starts the containers of a compose project, one after the other. Private to this collection.

Before a container is stopped, the record of the operation notes it; the note is removed when it was started again. A
run that is killed at any moment leaves the notes, and the next run starts these containers.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _container_restart,
    _docker,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._container_restart import Target
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, SERVICE, epoch
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import LATE, Row
from ansible_collections.tracktion.ops.plugins.module_utils._docker._stack_order import HEALTHY, UP, Choice, Graph
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import CannotConnect, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._operation_records import Stopped
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._operations import CannotKeep
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

# The engine kills a container after its grace period; this much later, this module does.
SLACK_SECONDS = 10.0
KILLED = 137
PAUSE = 0.2
NOT_DONE = {"stop": "not_stopped", "start": "not_started"}
GOOD = ("stopped", "killed", "started", "completed", "stopped_meanwhile")


class Step:
    """One step of the run: the stop or the start of a container."""

    def __init__(self, number: int, action: str, target: Target) -> None:
        self.number = number
        self.action = action
        self.target = target
        self.result = "planned"
        self.seconds: float | None = None
        self.message: str | None = None
        self.health: str | None = None

    def as_result(self) -> Part:
        """Return its entry of ``steps``, as M(tracktion.ops.stack_service) documents it."""
        return {
            "action": self.action,
            "service": self.target.labels.get(SERVICE),
            "name": self.target.name,
            "id": self.target.id,
            "result": self.result,
            "seconds": self.seconds,
            "grace_seconds": self.target.before.stop_seconds if self.action == "stop" else None,
            "health": self.health,
            "message": self.message,
        }

    def line(self, total: int) -> str:
        """Return the step in one line for a person."""
        start = "%d/%d %s %s" % (self.number, total, self.action, self.target.name)
        if self.result == "planned":
            grace = self.target.before.stop_seconds
            return start + (
                " (killed if it has not ended after %d s)" % grace if self.action == "stop" and grace >= 0 else ""
            )
        words = {"started": self.health or "running", "completed": "has ended with exit code 0"}
        what = words.get(self.result, self.result.replace("_", " "))
        took = "" if self.seconds is None else " after %.1f s" % self.seconds
        return "%s: %s%s%s" % (start, what, took, ": " + self.message if self.message else "")


class Stack:
    """Carries out the steps of a run.

    ``note`` writes the containers that are still to be started to the disk; ``show`` shows a line.
    """

    def __init__(
        self,
        options: Options,
        deadline: Deadline,
        needs: Graph,
        note: Callable[[list[Stopped]], None],
        show: Callable[[str], None],
    ) -> None:
        self.options = options
        self.deadline = deadline
        self.needs = needs
        self._note = note
        self._show = show
        self.owed: list[Stopped] = []
        self.steps: list[Step] = []
        # Why the containers of a service do not work after their start.
        self.broken: dict[str, str] = {}

    def plan(self, choices: Sequence[Choice], targets: Mapping[str, Target]) -> None:
        """Add a step for each stop, dependents first, and for each start, dependencies first."""
        pairs = [("stop", choice) for choice in reversed(choices) if choice.stop]
        pairs += [("start", choice) for choice in choices if choice.start]
        for number, (action, choice) in enumerate(pairs, 1):
            self.steps.append(Step(number, action, targets[choice.member.id]))

    def carry_out(self, members: Mapping[str, Sequence[Target]]) -> None:
        """Carry out all steps. If one container cannot be stopped, no more are, and those that were are started."""
        # Containers that are not started, with the result of that step.
        skip: dict[str, str] = {}
        aborted = False
        for step in self.steps:
            began = time.monotonic()
            if step.action == "stop" and (aborted or self.deadline.expired()):
                step.result = "not_reached"
                step.message = None if aborted else "the deadline has passed"
                aborted = True
                skip[step.target.id] = "not_reached"
                continue
            if step.target.id in skip:
                step.result = skip[step.target.id]
                continue
            self._carry_out(step, members)
            if step.action == "stop":
                if step.result not in ("stopped", "killed"):
                    skip[step.target.id] = step.result if step.result in GOOD else "not_reached"
                aborted = aborted or step.result not in GOOD
            step.seconds = round(time.monotonic() - began, 1)
            self._show(step.line(len(self.steps)))

    def _carry_out(self, step: Step, members: Mapping[str, Sequence[Target]]) -> None:
        """Carry out one step. No failure of one keeps the others from being started."""
        try:
            if step.action == "stop":
                self._stop(step)
            else:
                self._start(step, members)
        except _docker.Rejected as exc:
            step.result, step.message = NOT_DONE[step.action], "the engine rejects it: %s" % exc.reply
        except CannotConnect as exc:
            step.result, step.message = NOT_DONE[step.action], "lost the engine: %s" % exc
        if step.action == "start" and step.result == "not_started":
            self.broken[step.target.labels.get(SERVICE) or ""] = "could not be started"

    def _stop(self, step: Step) -> None:
        target = step.target
        target.before = before = target.look()
        if before.status not in UP:
            step.result = "stopped_meanwhile"
            return
        grace = before.stop_seconds
        try:
            self._owe(target, grace)
        except CannotKeep as exc:
            step.result, step.message = "not_stopped", str(exc)
            return
        began = time.monotonic()
        self._ask("stop", target, grace, timeout=grace)
        if not self._wait_for_end(target, grace):
            # The engine did not kill it.
            self._ask("kill", target, 0)
            if not self._wait_for_end(target, 0):
                step.result, step.message = "not_stopped", "is still %s after it was killed" % target.now.status
                return
        with contextlib.suppress(CannotKeep):
            self._owe(target, grace, epoch(target.data["State"].get("FinishedAt")))
        code = target.now.exit_code
        was_killed = code == KILLED and not target.data["State"].get("OOMKilled")
        if was_killed and grace >= 0 and time.monotonic() - began >= grace - 0.5:
            step.result = "killed"
            step.message = "did not stop within its grace period of %d s" % grace
        else:
            step.result = "stopped"

    def _start(self, step: Step, members: Mapping[str, Sequence[Target]]) -> None:
        target, service = step.target, step.target.labels.get(SERVICE) or ""
        was_broken = target.before.health == "unhealthy" or target.before.status == "restarting"
        unmet = self._unmet(service, members)
        if unmet:
            step.result, step.message = "dependency_failed", unmet
            self.broken[service] = "was not started"
            return
        target.before = target.look()
        if target.before.status in UP:
            # It was started by another program.
            target.before = target.before._replace(started_at=None)
        else:
            self._ask("start", target, 0)
        problem = self._wait_until_it_works(target)
        step.health = target.now.health
        if problem is None:
            step.result = "completed" if target.now.status == "exited" else "started"
        else:
            step.result = "unhealthy"
            step.message = problem + (", as before the restart" if was_broken else "")
            self.broken[service] = step.message
        # What was started is not owed any more, whatever becomes of it.
        if target.now.started_at != target.before.started_at:
            self._settle(target)

    def _ask(self, method: str, target: Target, grace: int, **named: Any) -> None:
        """Send a request. An engine that answers too late still works on it. Raises CannotConnect."""
        seconds = self.deadline.remaining() if grace < 0 else grace
        worker = _docker.Client(self.options, Deadline(seconds + 3 * SLACK_SECONDS), timeout=seconds + SLACK_SECONDS)
        try:
            worker.call(method, target.id, **named)
        except CannotConnect as exc:
            if exc.kind not in LATE:
                raise

    def _wait_for_end(self, target: Target, grace: int) -> bool:
        def has_ended() -> bool:
            target.after = target.look()
            return target.after.status not in UP

        seconds = self.deadline.remaining() if grace < 0 else grace
        return bool(_docker.wait_until(has_ended, Deadline(seconds + SLACK_SECONDS), PAUSE))

    def _wait_until_it_works(self, target: Target) -> str | None:
        """Return what is wrong with a container after its start; null if it works, or if it was a job that is done."""
        seconds = self.options["health_timeout"]
        progress = _docker.wait_until(target.progress, Deadline(seconds), PAUSE)
        if progress == "works" or (target.now.status == "exited" and target.now.exit_code == 0 and progress):
            return None
        return progress or "is still %s after %g s" % (target.now.health or target.now.status, seconds)

    def _unmet(self, service: str, members: Mapping[str, Sequence[Target]]) -> str | None:
        """Return why a service is not started: one that it needs healthy is not. Waits for those that are starting."""
        for need in self.needs.get(service, {}).values():
            others = members.get(need.service)
            if need.condition != HEALTHY or not others:
                continue
            if need.service in self.broken:
                return "depends on %s, which %s" % (need.service, self.broken[need.service])

            def is_ready(others: Sequence[Target] = others) -> bool:
                states = [other.look() for other in others]
                return any(each.status == "running" and each.health in (None, "healthy") for each in states)

            if not _docker.wait_until(is_ready, Deadline(self.options["health_timeout"]), PAUSE):
                return "depends on %s, which is not healthy" % need.service
        return None

    def _owe(self, target: Target, grace: int, finished: float | None = None) -> None:
        """Note that a container is to be started. Raises CannotKeep, before it is stopped."""
        known = next((each for each in self.owed if each["id"] == target.id), None)
        entry: Stopped = {
            "id": target.id,
            "name": target.name,
            "project": target.labels.get(PROJECT),
            "service": target.labels.get(SERVICE),
            "asked": known["asked"] if known else time.time(),
            "grace": float(grace if grace >= 0 else self.deadline.remaining()),
            "finished": finished,
        }
        self._keep([each for each in self.owed if each["id"] != target.id] + [entry])

    def _settle(self, target: Target) -> None:
        """Note that a container is not to be started any more. A note that remains of one that runs does no harm."""
        with contextlib.suppress(CannotKeep):
            self._keep([each for each in self.owed if each["id"] != target.id])

    def _keep(self, owed: list[Stopped]) -> None:
        self._note(owed)
        self.owed = owed


def is_owed(stopped: Stopped, data: Row) -> bool:
    """Return whether a container is still as the operation that noted it left it: stopped, by that operation."""
    finished = epoch(data["State"].get("FinishedAt"))
    if finished is None or data["State"].get("Running"):
        return False
    if stopped["finished"] is not None:
        return abs(finished - stopped["finished"]) <= _container_restart.SAME_TIME
    # Interrupted before it read the time: a stop within its grace period was the one that it had asked for.
    return stopped["asked"] - 1 <= finished <= stopped["asked"] + stopped["grace"] + 2 * SLACK_SECONDS
