# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the containers of a compose service anew, as its compose file says. Private to this collection.

By the compose of the host: nobody else knows all that a compose file means. It touches this service alone.
"""

from __future__ import annotations

import re
import shutil

from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _compose_drift,
    _compose_file,
    _container_facts,
    _container_restart,
    _docker,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, SERVICE
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotMeasure, Deadline, cut
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._redact import redact

SPEC = dict(
    _docker.SPEC,
    project={"type": "str", "required": True},
    service={"type": "str", "required": True},
    compose_files={"type": "list", "elements": "path", "default": []},
    compose_command={"type": "list", "elements": "str", "default": []},
    expected=_container_restart.SPEC["expected"],
    deny={"type": "list", "elements": "str", "default": []},
    deadline={"type": "float", "default": 180.0},
)

VERSION = "com.docker.compose.version"
PODMAN_COMPOSE = "io.podman.compose.project"
ENGINE_SAID = re.compile(r"Error response from daemon: (.+)")
# What the program timeout exits with where it had to end a command.
TIMED_OUT = 124


def recreate(options, check_mode, run):
    """What M(tracktion.ops.container_recreate) returns, with ``failed`` and ``msg`` on failure.

    ``run`` is the method run_command of the module.

    Raises CannotMeasure and CannotConnect where nothing was done yet.
    """
    deadline = Deadline(options["deadline"])
    # How it stands when the time is over is still asked.
    client = _docker.Client(options, Deadline(options["deadline"] + options["timeout"]))
    service = Service(client, options, run)
    before = service.look()
    result, differences = service.verdict(before)
    if result != "planned" or check_mode:
        return outcome(result, before, service.foreseen(before) if result == "planned" else before, differences)
    trouble = service.up(deadline)
    after = service.look()
    if trouble is None:
        trouble = service.wait(deadline)
        after = service.look()
    return outcome("failed" if trouble else "recreated", before, after, differences, trouble)


class Service:
    """A service of a compose project: what its file wants, and the containers that it has."""

    def __init__(self, client, options, run):
        self.client = client
        self.run = run
        self.options = options
        self.name = options["service"]
        project = client.containers("%s=%s" % (PROJECT, options["project"]))
        marks = [row.get("Labels") or {} for row in project]
        if any(PODMAN_COMPOSE in labels for labels in marks):
            # Compose does not know these containers for its own, and would make others beside them.
            raise CannotMeasure(
                "%s was made by podman-compose, which cannot be told to make one service anew" % options["project"],
                hint="By hand, where its file is: `podman-compose up -d %s`" % shell_quote(self.name),
            )
        found = list(_compose_drift.sources(marks, options))
        if not found:
            raise _docker.NotFound(
                "no container of the project %s says which compose file made it" % options["project"],
                "Name the files in compose_files.",
            )
        self.source = found[0]
        # compose v1 joins the parts of a name in another way.
        self.joint = "_" if any(labels.get(VERSION, "").startswith("1.") for labels in marks) else "-"
        try:
            self.services = _compose_drift.load(self.source)
        except _compose_file.Unreadable as exc:
            raise CannotMeasure(str(exc), hint="Correct the file, or name others in compose_files.") from exc
        if self.name not in self.services:
            raise BadOption(
                "service: %s is not in %s" % (self.name, ", ".join(self.source.files)), hint="Check service."
            )

    def look(self):
        """The facts of its containers now."""
        labels = ["%s=%s" % (PROJECT, self.options["project"]), "%s=%s" % (SERVICE, self.name)]
        rows = self.client.containers(*labels)
        there = filter(None, (self.client.inspect(row["Id"]) for row in rows))
        return [_container_facts.facts(data, []) for data in there]

    def verdict(self, containers):
        """``planned`` or why nothing is done, and what differs."""
        found = {"drift": []}
        _compose_drift.add_drift(found, self.services, containers)
        differences = found["drift"]
        names = {container["name"] for container in containers} | {self.name}
        if names & set(self.options["deny"]) or any(container["protected"] for container in containers):
            return "protected", differences
        expected = self.options["expected"]
        if expected is not None and not self.is_as_expected(expected, containers):
            return "changed_meanwhile", differences
        if containers and not differences:
            return "as_wanted", differences
        return "planned", differences

    def is_as_expected(self, expected, containers):
        """Whether each run that is meant is still there; where none is, whether there is still no container."""
        if not expected:
            return not containers
        return all(
            any(_container_restart.is_run(named, one["id"], one["started_at"]) for one in containers)
            for named in expected
        )

    def foreseen(self, containers):
        """What they would be, as far as the file tells; a missing one is named as compose did with the others."""
        wanted = self.services[self.name]
        known = {
            "image": wanted["image"],
            "memory_limit_set": wanted["memory_limit_bytes"],
            "status": "running",
            "id": None,
        }
        known = {name: value for name, value in known.items() if value is not None or name == "id"}
        made = containers or [dict(EMPTY, name=self.joint.join((self.options["project"], self.name, "1")))]
        return [dict(container, **known) for container in made]

    def up(self, deadline):
        """Have compose make it; null, or what went wrong."""
        command = [*self.compose(), *_compose_drift.words(self.source)]
        command += ["up", "--detach", "--no-deps", "--no-build", "--", self.name]
        # run_command knows no time limit.
        limited = ["timeout", "%d" % max(1, deadline.remaining()), *command]
        code, said, complaints = self.run(
            limited, cwd=self.source.directory, environ_update={"DOCKER_HOST": self.options["docker_host"]}
        )
        if code == TIMED_OUT:
            return "compose did not finish within %g s" % self.options["deadline"]
        if code:
            # What compose says by itself may quote the file, with its passwords; what the engine says does not.
            found = ENGINE_SAID.search(said + complaints)
            reason = (
                cut(redact(found.group(1)), 300)
                if found
                else "see why on the host: `%s`" % " ".join(map(shell_quote, command))
            )
            return "compose failed with exit code %d: %s" % (code, reason)
        return None

    def compose(self):
        """The compose of this host: the plugin of Docker, else the program of old."""
        if self.options["compose_command"]:
            return self.options["compose_command"]
        if shutil.which("docker") and self.run(["docker", "compose", "version"])[0] == 0:
            return ["docker", "compose"]
        if shutil.which("docker-compose"):
            return ["docker-compose"]
        raise CannotMeasure(
            "there is no compose on this host", hint="Install docker-compose-plugin, or docker-compose."
        )

    def wait(self, deadline):
        """Wait until its containers work; null, or what is wrong with the first that does not."""
        labels = ["%s=%s" % (PROJECT, self.options["project"]), "%s=%s" % (SERVICE, self.name)]
        for row in self.client.containers(*labels):
            target = _container_restart.Target(self.client, row)
            target.before = dict(target.before, started_at=None)
            outlook = _docker.wait_until(target.progress, deadline)
            if outlook != "works":
                state = target.after["health"] or target.after["status"]
                return "%s %s" % (target.name, outlook or "is still %s after %g s" % (state, self.options["deadline"]))
        return None


FIELDS = ("id", "name", "image", "memory_limit_set", "status", "health", "started_at")
EMPTY = dict.fromkeys(FIELDS)


def outcome(result, before, after, differences, trouble=None):
    """``changed``, ``result``, ``before``, ``after``, ``differences``, ``diff``; ``failed`` with ``msg`` on failure."""
    before, after = told(before), told(after)
    found = {
        "changed": result in ("planned", "recreated", "failed"),
        "result": result,
        "before": before,
        "after": after,
        "differences": differences,
        "diff": {"before": before, "after": after},
    }
    if trouble:
        found.update(failed=True, msg=trouble)
    return found


def told(containers):
    return {container["name"]: {name: container[name] for name in FIELDS} for container in containers}
