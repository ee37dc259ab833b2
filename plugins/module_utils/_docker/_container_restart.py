# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restarts containers, one after the other, and waits until each works. Private to this collection."""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _container_facts, _docker
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import (
    PROJECT,
    SERVICE,
    epoch,
    is_protected,
    name_of,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import LATE
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotConnect, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote

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

# The engine's own, where neither the container nor the option says how long a container may take to stop.
STOP_SECONDS = 10
# One without a health check works when it has been running for so long.
STABLE_SECONDS = 2.0
MAKE = "Make it, in the directory of its compose file: `docker compose up -d -- %s`"
# A container that ended so often since it was restarted will not stay.
CRASHES = 3
# How far two readings of one start may lie apart after a way through JSON.
SAME_TIME = 0.0015

STATE_FIELDS = ("id", "status", "health", "started_at", "restart_count")


def restart(options, check_mode):
    """What M(tracktion.ops.container_restart) returns, with ``failed`` and ``msg`` on failure.

    Raises CannotMeasure and CannotConnect where nothing was done yet.
    """
    if not options["services"] and not options["names"]:
        raise BadOption("services, names: only what is named is restarted", hint="Name services or containers.")
    deadline = Deadline(options["deadline"])
    # How it stands when the time is over is still asked.
    client = _docker.Client(options, Deadline(options["deadline"] + options["timeout"]))
    plan = [Target(client, row) for row in in_order(find(client, options))]
    if len(plan) > options["max_containers"]:
        raise BadOption(
            "max_containers: %d containers are named, and one run may restart %d"
            % (len(plan), options["max_containers"]),
            hint="Name fewer, or raise max_containers.",
        )
    trouble = None
    for target in plan:
        if trouble:
            target.result = "not_reached"
            continue
        target.result = target.verdict(options)
        if target.result == "not_restartable":
            trouble = target.fail(target.result, "is %s" % target.before["status"])
        elif target.result == "planned" and not check_mode:
            trouble = target.restart(options, deadline)
    return outcome(plan, trouble, check_mode)


def find(client, options):
    """The named containers as the engine lists them. Raises _docker.NotFound, BadOption."""
    rows = client.containers()
    project = options["project"]
    found = []
    for service in options["services"]:
        of_service = [row for row in rows if labels(row).get(SERVICE) == service]
        mine = [row for row in of_service if project in ("", labels(row).get(PROJECT))]
        projects = sorted({labels(row).get(PROJECT) or "" for row in mine})
        if len(projects) > 1:
            raise BadOption("project: the service %s is in %s" % (service, ", ".join(projects)), hint="Say which.")
        if not mine:
            raise _docker.NotFound(missing(service, project, rows), MAKE % shell_quote(service))
        found += mine
    for name in options["names"]:
        mine = [row for row in rows if name_of(row) == name or (len(name) >= 12 and row["Id"].startswith(name))]
        if not mine:
            raise _docker.NotFound("there is no container %s" % name, "See which there are: `docker ps --all`")
        found += mine
    return list({row["Id"]: row for row in found}.values())


def missing(service, project, rows):
    """Why there is no container of a service, in words."""
    projects = sorted({labels(row)[PROJECT] for row in rows if labels(row).get(PROJECT)})
    if project and project not in projects:
        return "there is no compose project %s (there are: %s)" % (project, ", ".join(projects) or "none")
    return "there is no container of the service %s%s" % (service, " in project " + project if project else "")


def labels(row):
    return row.get("Labels") or {}


def in_order(rows):
    """The containers, each after those of the services that it depends on."""
    needs = {}
    for row in rows:
        needs.setdefault(group(row), [(group(row)[0], name) for name in _docker.dependencies(labels(row))])
    return [row for wanted in _docker.ordered(list(needs), needs) for row in rows if group(row) == wanted]


def group(row):
    """What a container is ordered by: its project and service, or itself where it is of none."""
    own = labels(row)
    return own.get(PROJECT), own.get(SERVICE) or row["Id"]


def is_run(named, identity, started):
    """Whether ``named`` tells of this container, and of this very run of it."""
    if len(named["id"]) < 12 or not identity.startswith(named["id"]):
        return False
    if started is None or named["started_at"] is None:
        return started is named["started_at"]
    return abs(started - named["started_at"]) <= SAME_TIME


class Target:
    """A container to restart, on its way to ``result``."""

    def __init__(self, client, row):
        self.client = client
        self.id = row["Id"]
        self.name = name_of(row)
        self.labels = labels(row)
        self.before = self.look()
        self.after = None
        self.last_exit_code = None
        self.result = None
        self.message = None

    def look(self):
        """What the engine says about it now. Raises CannotConnect."""
        data = self.client.call("inspect_container", self.id)
        state = data["State"]
        stop_seconds = (data.get("Config") or {}).get("StopTimeout")
        return {
            "id": data["Id"],
            "status": _container_facts.status(data),
            "health": _container_facts.health(state),
            "started_at": epoch(state.get("StartedAt")),
            "restart_count": data.get("RestartCount"),
            # One that waits for its next start is "running" to the engine as well.
            "exit_code": None if state.get("Status") == "running" else state.get("ExitCode"),
            "stop_seconds": STOP_SECONDS if stop_seconds is None else stop_seconds,
        }

    def verdict(self, options):
        """``planned``, or why it is left alone; looked at anew, as restarting those before it took its time."""
        self.before = self.look()
        if is_protected(self.labels):
            return "protected"
        if {self.name, self.labels.get(SERVICE)} & set(options["deny"]):
            return "protected"
        if options["expected"] is not None:
            started = self.before["started_at"]
            if not any(is_run(named, self.id, started) for named in options["expected"]):
                return "changed_meanwhile"
        if self.before["status"] in ("paused", "removing", "dead"):
            # Somebody froze it on purpose, or it is about to go.
            return "not_restartable"
        uptime = time.time() - (self.before["started_at"] or 0)
        if self.before["status"] == "running" and uptime < options["min_uptime"]:
            return "just_started"
        return "planned"

    def restart(self, options, deadline):
        """Restarts it and waits until it works; null, or what went wrong in one sentence."""
        seconds = options["stop_timeout"] if options["stop_timeout"] is not None else self.before["stop_seconds"]
        self.result = "restarted"
        try:
            self.ask_for_restart(seconds)
            outlook = _docker.wait_until(self.progress, deadline)
        except _docker.Rejected as exc:
            return self.fail("rejected", "the engine does not restart it: %s" % exc.reply)
        except CannotConnect as exc:
            return self.fail("unknown", "lost the engine while it was restarted: %s" % exc)
        if outlook == "works":
            return None
        if outlook is None:
            outlook = "is still %s after %g s" % (self.after["health"] or self.after["status"], options["deadline"])
        return self.fail("unhealthy", outlook)

    def ask_for_restart(self, seconds):
        try:
            self.client.call("restart", self.id, timeout=seconds)
        except CannotConnect as exc:
            # An engine that needs longer to answer is at work on it all the same.
            if exc.kind not in LATE:
                raise

    def progress(self):
        """``works``, null while it is starting, or what is wrong with it for good."""
        self.after = now = self.look()
        if now["started_at"] == self.before["started_at"]:
            return None
        if now["exit_code"] is not None:
            self.last_exit_code = now["exit_code"]
        if now["status"] == "running":
            if now["health"] is not None:
                return "works" if now["health"] == "healthy" else None
            return "works" if time.time() - now["started_at"] >= STABLE_SECONDS else None
        if now["status"] == "exited":
            # Its restart policy has none of it, or has given up: what is to be started again is "restarting".
            return "ended with exit code %s" % now["exit_code"]
        if now["restart_count"] >= CRASHES:
            # Seen between two starts, unless each look fell into a short life.
            code = "" if self.last_exit_code is None else ", with exit code %s" % self.last_exit_code
            return "ends again and again%s" % code
        return None

    def fail(self, result, message):
        self.result, self.message = result, message
        return "%s: %s" % (self.name, message)

    def told(self):
        return {
            "id": self.id,
            "name": self.name,
            "project": self.labels.get(PROJECT),
            "service": self.labels.get(SERVICE),
            "result": self.result,
            "message": self.message,
            "before": short(self.before),
            "after": short(self.after or self.before),
            "exit_code": (self.after or self.before)["exit_code"],
        }

    def foreseen(self):
        """What it would be after a restart, as far as that is known before."""
        health = "healthy" if self.before["health"] else None
        return dict(short(self.before), status="running", health=health, started_at=None, restart_count=0)


def short(state):
    return {name: state[name] for name in STATE_FIELDS}


def outcome(plan, trouble, check_mode):
    """``changed``, ``containers``, ``before``, ``after``, ``diff``, and ``failed`` with ``msg`` on failure."""
    told = [target.told() for target in plan]
    if check_mode:
        for entry, target in zip(told, plan):
            if target.result == "planned":
                entry["after"] = target.foreseen()
    before = {entry["name"]: entry["before"] for entry in told}
    after = {entry["name"]: entry["after"] for entry in told}
    result = {
        "changed": any(entry["result"] in ("planned", "restarted", "unhealthy", "unknown") for entry in told),
        "containers": told,
        "before": before,
        "after": after,
        "diff": {"before": before, "after": after},
    }
    if trouble:
        name = next(entry["name"] for entry in told if entry["message"])
        logs = "`docker logs --tail 50 %s`" % shell_quote(name)
        result.update(failed=True, msg="%s. Look at its log: %s" % (trouble, logs))
    return result
