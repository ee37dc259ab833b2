# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs named commands in containers in parallel, and measures their time. Private to this collection."""

from __future__ import annotations

import time
from typing import Any, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_exec, _engine, _state_hints
from ansible_collections.tracktion.ops.plugins.module_utils._docker._docker_api import DockerApi
from ansible_collections.tracktion.ops.plugins.module_utils._http._http_redact import UNREADABLE, conceal, decoded, hide
from ansible_collections.tracktion.ops.plugins.module_utils._in_threads import measure_all, reject_duplicates
from ansible_collections.tracktion.ops.plugins.module_utils._linux import _processes
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import (
    BadOption,
    CannotConnect,
    Deadline,
    Unknown,
    cut,
    error,
    reached,
)
from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.module_utils._types import Measurement, Options, Part

COMMAND_SPEC = {
    "name": {"type": "str", "required": True},
    "service": {"type": "str", "required": True},
    "argv": {"type": "list", "elements": "str", "required": True},
    "user": {"type": "str"},
    "workdir": {"type": "str"},
    "environment": {"type": "dict", "no_log": True},
    "exit_codes": {"type": "list", "elements": "int", "default": [0]},
    "output_contains": {"type": "str"},
    "show_output": {"type": "bool", "default": False},
    "timeout": {"type": "float"},
}
ARGUMENT_SPEC = {
    "commands": {"type": "list", "elements": "dict", "required": True, "options": COMMAND_SPEC},
    "project": {"type": "str"},
    **_engine.SOCKET_SPEC,
    "timeout": {"type": "float", "default": 10.0},
    "deadline": {"type": "float", "default": 15.0},
}

# A command is not started with less time than this and than its own timeout.
LEAST_SECONDS = 0.5
MAX_OUTPUT_BYTES = 65536
EXCERPT, SHOWN = 240, 4000
# Characters that are searched for secrets, more than are shown: a key in PEM is recognized by its first line.
LOOKED_THROUGH = 16384


def measure(options: Options) -> Measurement:
    """Return the outcome of all commands. Raises BadOption. Without commands, no request is sent."""
    for name in ("deadline", "timeout"):
        if options[name] <= 0:
            raise BadOption("%s: must be above 0 seconds" % name, hint="Set `%s`." % name)
    commands = [Command(wanted, options) for wanted in options["commands"]]
    reject_duplicates("commands", commands)
    began, unknown = time.monotonic(), Unknown()
    measured = measure_all(commands, options["deadline"], unknown, "commands")
    for result in measured:
        if result["error"] and not result["ran"]:
            unknown.add("commands.%s" % result["name"], result["error"]["message"], result["error"]["hint"])
    parts = {
        "commands": measured,
        "totals": {"commands": len(measured), "ok": sum(1 for result in measured if result["ok"])},
        "seconds": round(time.monotonic() - began, 4),
    }
    return reached(parts, unknown)


class Command:
    """One entry of the option ``commands``."""

    def __init__(self, wanted: Mapping[str, Any], options: Options) -> None:
        self.name = wanted["name"]
        self.wanted = wanted
        self.timeout = options["timeout"] if wanted["timeout"] is None else wanted["timeout"]
        self._project = options["project"]
        self._engine = _engine.socket_of(options["docker_host"])
        if not wanted["argv"]:
            raise BadOption(
                "commands: %s: argv: is empty" % self.name,
                hint="Name a program in `commands[].argv` of %s." % self.name,
            )
        if self.timeout <= 0:
            raise BadOption(
                "commands: %s: timeout: must be above 0" % self.name,
                hint="Correct `commands[].timeout` of %s." % self.name,
            )

    def measure(self, deadline: Deadline) -> Part | None:
        """Return its part of the measurement; null if the time is too short to run it."""
        result, seconds = self.unmeasured(), deadline.remaining(self.timeout)
        if seconds < min(self.timeout, LEAST_SECONDS):
            return None
        api = DockerApi(self._engine, seconds, Deadline(seconds))
        try:
            container = _docker_exec.find(api, self.wanted["service"], self._project)
            result.update(container=container["name"], container_state=container["state"])
            if container["state"] != "running":
                raise CannotConnect(
                    "not_running",
                    "the container %s is %s" % (container["name"], container["state"]),
                    _state_hints.hint({**container, "error_message": None, "looping": False, "starting": False}),
                )
            outcome = _docker_exec.run(api, container["id"], self._command(), MAX_OUTPUT_BYTES)
        except CannotConnect as exc:
            result["error"] = error(exc)
            result["error"]["message"] = hide(result["error"]["message"], self._secrets())
            return result
        self._add(result, outcome, seconds)
        return result

    def unmeasured(self) -> Part:
        """Return its part of the measurement before it has run."""
        return {
            "name": self.name,
            "service": self.wanted["service"],
            # The arguments may contain passwords.
            "command": _processes.label(self.wanted["argv"]),
            "container": None,
            "container_state": None,
            "ok": None,
            "ran": None,
            "error": None,
            "exit_code": None,
            "expected_exit_codes": self.wanted["exit_codes"],
            "contains": None,
            "killed": None,
            "seconds": None,
            "output_bytes": None,
            "output": None,
        }

    def _command(self) -> dict[str, Any]:
        """Return the command in the fields of the engine."""
        command = {"Cmd": self.wanted["argv"]}
        if self.wanted["user"]:
            command["User"] = self.wanted["user"]
        if self.wanted["workdir"]:
            command["WorkingDir"] = self.wanted["workdir"]
        if self.wanted["environment"]:
            command["Env"] = ["%s=%s" % pair for pair in self.wanted["environment"].items()]
        return command

    def _add(self, result: Part, outcome: _docker_exec.Exec, seconds: float) -> None:
        """Add the outcome of the command to its part of the measurement."""
        text = outcome.output.decode("utf-8", "replace")
        result.update(ran=True, seconds=outcome.seconds, output_bytes=outcome.output_bytes, killed=outcome.killed)
        if not outcome.ended:
            message = "%s in %s does not end within %.3g s" % (result["command"], result["container"], seconds)
            message += ", and was killed" if outcome.killed else ", and may still run: it could not be killed from here"
            hint = "Check whether it still runs: `docker top %s`" % shell_quote(result["container"])
            result["error"] = {"kind": "timeout", "message": message, "hint": hint}
            result["ok"] = False
        else:
            result["exit_code"] = outcome.exit_code
            if self.wanted["output_contains"] is not None:
                result["contains"] = self.wanted["output_contains"] in text
            result["ok"] = outcome.exit_code in self.wanted["exit_codes"] and result["contains"] is not False
        if self.wanted["show_output"] or not result["ok"]:
            # Errors are at the end.
            part = text[:LOOKED_THROUGH] if self.wanted["show_output"] else text[-LOOKED_THROUGH:]
            shown = UNREADABLE if decoded(outcome.output) == UNREADABLE else conceal(part, self._secrets())
            result["output"] = cut(shown, SHOWN) if self.wanted["show_output"] else " ".join(shown.split())[-EXCERPT:]

    def _secrets(self) -> list[str]:
        """Return the values that must not be shown."""
        return [str(value) for value in (self.wanted["environment"] or {}).values()]
