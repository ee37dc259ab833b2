# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recreates the containers of a compose service by its compose file. Private to this collection.

It runs the compose of the host, which alone implements everything in a compose file, for this service only.
"""

from __future__ import annotations

import re
import shutil
from typing import Any, Callable, Iterable, Mapping, Sequence, Tuple

from ansible_collections.tracktion.ops.plugins.module_utils._docker import (
    _compose_compare,
    _compose_drift,
    _compose_file,
    _compose_text,
    _container_facts,
    _container_restart,
    _docker,
    _engine,
)
from ansible_collections.tracktion.ops.plugins.module_utils._docker._containers import PROJECT, SERVICE
from ansible_collections.tracktion.ops.plugins.module_utils._docker._engine import Row
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import BadOption, CannotMeasure, Deadline
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

SPEC = dict(
    _docker.SPEC,
    project={"type": "str", "required": True},
    service={"type": "str", "required": True},
    compose_files={"type": "list", "elements": "path", "default": []},
    compose_command={"type": "list", "elements": "str", "default": []},
    expected={"type": "list", "elements": "dict", "options": {"id": {"type": "str", "required": True}}},
    deny={"type": "list", "elements": "str", "default": []},
    deadline={"type": "float", "default": 180.0},
)

VERSION = "com.docker.compose.version"
PODMAN_COMPOSE = "io.podman.compose.project"
ENGINE_ERROR = re.compile(r"Error response from daemon: (.+)")
# Exit code of the program timeout for a command that it ended.
TIMED_OUT = 124

# The method run_command of a module: exit code, standard output and standard error.
Run = Callable[..., Tuple[int, str, str]]


def recreate(options: Options, check_mode: bool, run: Run) -> Part:
    """Return what M(tracktion.ops.container_recreate) returns, with ``failed`` and ``msg`` on failure.

    Raises CannotMeasure and CannotConnect before anything is changed.
    """
    deadline = Deadline(options["deadline"])
    # The state is read once more after the deadline.
    client = _docker.Client(options, Deadline(options["deadline"] + options["timeout"]))
    service = Service(client, options, run)
    before = service.look()
    result, differences = service.decide(before)
    if result == "not_certain":
        return outcome(result, before, before, differences, service.not_certain())
    if result != "planned" or check_mode:
        after = service.expected_after(before) if result == "planned" else before
        return outcome(result, before, after, differences)
    problem = service.up(deadline)
    after = service.look()
    if problem is None:
        problem = service.wait(deadline)
        after = service.look()
    return outcome("failed" if problem else "recreated", before, after, differences, problem)


class Service:
    """A service of a compose project: its compose file and its containers."""

    def __init__(self, client: _docker.Client, options: Options, run: Run) -> None:
        self.client = client
        self.run = run
        self.options = options
        self.name = options["service"]
        self.unconfirmed: list[str] = []
        project = client.containers("%s=%s" % (PROJECT, options["project"]))
        all_labels = [row.get("Labels") or {} for row in project]
        # Services of a project may come from different files.
        all_labels.sort(key=lambda labels: labels.get(SERVICE) != self.name)
        if any(PODMAN_COMPOSE in labels for labels in all_labels):
            # Compose does not recognize these containers, and would create others beside them.
            raise CannotMeasure(
                "%s was created by podman-compose, which cannot recreate one service" % options["project"],
                hint="Run where its compose file is: `podman-compose up -d %s`" % shell_quote(self.name),
            )
        found = list(_compose_drift.sources(all_labels, options))
        if not found:
            raise _docker.NotFound(
                "no container of the project %s has a label with its compose file" % options["project"],
                "Name the files in `compose_files`.",
            )
        self.source = found[0]
        # compose v1 joins the parts of a name by an underscore.
        self.joint = "_" if any(labels.get(VERSION, "").startswith("1.") for labels in all_labels) else "-"
        try:
            self.file = _compose_drift.load(self.source)
        except _compose_file.Unreadable as exc:
            raise CannotMeasure(
                str(exc), hint=exc.hint or "Correct the file, or name others in `compose_files`."
            ) from exc
        if self.name not in self.file.services:
            raise BadOption(
                "service: %s is not in %s" % (self.name, ", ".join(self.source.files)), hint="Correct `service`."
            )

    @property
    def labels(self) -> list[str]:
        """The labels that select its containers."""
        return ["%s=%s" % (PROJECT, self.options["project"]), "%s=%s" % (SERVICE, self.name)]

    def look(self) -> list[Part]:
        """Return the facts of its containers now."""
        return [_container_facts.facts(data, []) for data in self.inspected(*self.labels)]

    def inspected(self, *labels: str) -> list[Row]:
        """Return the inspected containers with these labels. One that has gone since is left out."""
        found = (self.client.inspect(row["Id"]) for row in self.client.containers(*labels))
        return [data for data in found if data]

    def pairs(self) -> dict[str, list[_compose_compare.Pair]]:
        """Return the values of all containers of the project beside those of the file."""
        data = self.inspected("%s=%s" % (PROJECT, self.options["project"]))
        is_docker = _engine.kind_of(self.client.call("version")) == "docker"
        return _compose_drift.pairs_of(self.file, data, self.image, is_docker)

    def image(self, identity: str) -> Mapping[str, Any] | None:
        """Return the configuration of an image, null if it is unknown."""
        try:
            return self.client.call("inspect_image", identity).get("Config")
        except _docker.Rejected:
            return None

    def decide(self, containers: Sequence[Part]) -> tuple[str, list[Part]]:
        """Return ``planned``, or why nothing is done, and the differences."""
        found: Part = {"drift": []}
        pairs = self.pairs()
        known = [container for container in containers if container["id"] in pairs]
        _compose_drift.add_drift(found, self.source, self.file, known, pairs)
        differences = found["drift"]
        names = {container["name"] for container in containers} | {self.name}
        if names & set(self.options["deny"]) or any(container["protected"] for container in containers):
            return "protected", differences
        expected = self.options["expected"]
        if expected is not None and not self.is_as_expected(expected, containers):
            return "changed_meanwhile", differences
        if containers and not differences:
            return "as_wanted", differences
        self.unconfirmed = (
            sorted({name for each in differences for name in each["unconfirmed"]})
            if containers
            else _compose_drift.of_missing(self.file, self.name, pairs)
        )
        return "not_certain" if self.unconfirmed else "planned", differences

    def not_certain(self) -> str:
        """Return why nothing is done if variables are not certain, and the next step."""
        names = ", ".join(self.unconfirmed)
        command = _engine.compose_up(_compose_drift.words(self.source), self.name, self.unconfirmed, recreate=True)
        return (
            "%s depends on variables that the shell of its deployment may have set: %s. Here"
            " compose would use other values. Run with the right values: `%s`" % (self.name, names, command)
        )

    def is_as_expected(self, expected: Sequence[Mapping[str, Any]], containers: Sequence[Part]) -> bool:
        """Return whether each expected container still exists; if none is expected, whether there is still none.

        They may have been restarted: in a crash loop they are.
        """
        if not expected:
            return not containers
        return all(any(_container_restart.is_container(each, one["id"]) for one in containers) for each in expected)

    def expected_after(self, containers: Sequence[Part]) -> list[Part]:
        """Return the expected containers, by the compose file; a missing one gets the name of compose."""
        wanted = self.file.services[self.name]
        # They are confirmed, or planned would not be returned.
        image, memory = (
            None if text is None else _compose_text.filled(text, self.file.environment)
            for text in (wanted["image"], wanted["memory"])
        )
        known = {
            "image": image,
            "memory_limit_set": 0 if wanted["memory"] is None and not wanted["partly"] else _compose_file.size(memory),
            "status": "running",
            "id": None,
        }
        known = {name: value for name, value in known.items() if value is not None or name == "id"}
        created = containers or [dict(EMPTY, name=self.joint.join((self.options["project"], self.name, "1")))]
        return [dict(container, **known) for container in created]

    def up(self, deadline: Deadline) -> str | None:
        """Run compose; return what failed, or null."""
        command = [*self.compose(), *_compose_drift.words(self.source)]
        # Compose sees no change if `docker update` made it.
        command += ["up", "--detach", "--force-recreate", "--no-deps", "--no-build", "--", self.name]
        # run_command has no time limit.
        limited = ["timeout", "%d" % max(1, deadline.remaining()), *command]
        code, output, errors = self.run(
            limited, cwd=self.source.directory, environ_update={"DOCKER_HOST": self.options["docker_host"]}
        )
        if code == TIMED_OUT:
            return "compose did not finish within %g s" % self.options["deadline"]
        if code:
            # Messages of compose may quote the file with its passwords, messages of the engine do not.
            found = ENGINE_ERROR.search(output + errors)
            reason = (
                _container_facts.reason_of(found.group(1))
                if found
                else "run it on the host to see why: `%s`" % " ".join(map(shell_quote, command))
            )
            return "compose failed with exit code %d: %s" % (code, reason)
        return None

    def compose(self) -> list[str]:
        """Return the words that run compose on this host: the plugin of Docker, else the program of v1."""
        if self.options["compose_command"]:
            return self.options["compose_command"]
        if shutil.which("docker") and self.run(["docker", "compose", "version"])[0] == 0:
            return ["docker", "compose"]
        if shutil.which("docker-compose"):
            return ["docker-compose"]
        raise CannotMeasure(
            "there is no compose on this host",
            hint="Install it: `apt-get install docker-compose-plugin` or `apt-get install docker-compose`.",
        )

    def wait(self, deadline: Deadline) -> str | None:
        """Wait until its containers work; return what is wrong with the first that does not, or null."""
        for row in self.client.containers(*self.labels):
            target = _container_restart.Target(self.client, row)
            target.before = target.before._replace(started_at=None)
            progress = _docker.wait_until(target.progress, deadline)
            if progress != "works":
                state = target.now.health or target.now.status
                return "%s %s" % (target.name, progress or "is still %s after %g s" % (state, self.options["deadline"]))
        return None


FIELDS = ("id", "name", "image", "memory_limit_set", "status", "health", "started_at")
EMPTY: Part = dict.fromkeys(FIELDS)


def outcome(
    result: str, before: Iterable[Part], after: Iterable[Part], differences: list[Part], problem: str | None = None
) -> Part:
    """Return the result: the containers before and after, what differs, and ``failed`` with ``msg`` on a problem."""
    before_by_name, after_by_name = by_name(before), by_name(after)
    found: Part = {
        "changed": result in ("planned", "recreated", "failed"),
        "result": result,
        "before": before_by_name,
        "after": after_by_name,
        "differences": differences,
        "diff": {"before": before_by_name, "after": after_by_name},
    }
    if problem:
        found.update(failed=True, msg=problem)
    return found


def by_name(containers: Iterable[Part]) -> Part:
    """Return the ``FIELDS`` of containers by their names."""
    return {container["name"]: {name: container[name] for name in FIELDS} for container in containers}
