# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs named commands in containers, side by side, and times them. Private to this collection."""

from __future__ import annotations

import time

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _docker_exec, _engine
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

# With less time than this, and than its own timeout, a command is not started.
LEAST_SECONDS = 0.5
MAX_OUTPUT_BYTES = 65536
EXCERPT, SHOWN = 240, 4000
# More than is shown is looked through for secrets, a key in PEM for one: what stands before one tells that it is one.
LOOKED_THROUGH = 16384


def measure(options):
    """What all commands came to. Raises BadOption. Without commands, nobody is asked anything."""
    for name in ("deadline", "timeout"):
        if options[name] <= 0:
            raise BadOption("%s: must be above 0 seconds" % name, hint="set %s" % name)
    commands = [Command(wanted, options) for wanted in options["commands"]]
    reject_duplicates("commands", commands)
    began, unknown = time.monotonic(), Unknown()
    measured = measure_all(commands, options["deadline"], unknown, "commands")
    for told in measured:
        if told["error"] and not told["ran"]:
            unknown.add("commands.%s" % told["name"], told["error"]["message"], told["error"]["hint"])
    parts = {
        "commands": measured,
        "totals": {"commands": len(measured), "ok": sum(1 for told in measured if told["ok"])},
        "seconds": round(time.monotonic() - began, 4),
    }
    return reached(parts, unknown)


class Command:
    """One entry of the option ``commands``."""

    def __init__(self, wanted, options):
        self.name = wanted["name"]
        self.wanted = wanted
        self.timeout = options["timeout"] if wanted["timeout"] is None else wanted["timeout"]
        self._project = options["project"]
        self._engine = _engine.socket_of(options["docker_host"])
        if not wanted["argv"]:
            raise BadOption("commands: %s: argv: is empty" % self.name, hint="name a program in argv of %s" % self.name)
        if self.timeout <= 0:
            raise BadOption(
                "commands: %s: timeout: must be above 0" % self.name, hint="correct timeout of %s" % self.name
            )

    def measure(self, deadline):
        """Everything that is told about it; null where there is no time left to run it in earnest."""
        told, seconds = self.unmeasured(), deadline.remaining(self.timeout)
        if seconds < min(self.timeout, LEAST_SECONDS):
            return None
        api = DockerApi(self._engine, seconds, Deadline(seconds))
        try:
            container = _docker_exec.find(api, self.wanted["service"], self._project)
            told.update(container=container["name"], container_state=container["state"])
            if container["state"] != "running":
                raise CannotConnect(
                    "not_running",
                    "the container %s is %s" % (container["name"], container["state"]),
                    "See why: `docker logs --tail 50 %s`" % shell_quote(container["name"]),
                )
            outcome = _docker_exec.run(api, container["id"], self._command(), MAX_OUTPUT_BYTES)
        except CannotConnect as exc:
            told["error"] = error(exc)
            told["error"]["message"] = hide(told["error"]["message"], self._secrets())
            return told
        return self._told(told, outcome, seconds)

    def unmeasured(self):
        """The same where it did not run."""
        return {
            "name": self.name,
            "service": self.wanted["service"],
            # The words after the program may hold passwords.
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

    def _command(self):
        command = {"Cmd": self.wanted["argv"]}
        if self.wanted["user"]:
            command["User"] = self.wanted["user"]
        if self.wanted["workdir"]:
            command["WorkingDir"] = self.wanted["workdir"]
        if self.wanted["environment"]:
            command["Env"] = ["%s=%s" % pair for pair in self.wanted["environment"].items()]
        return command

    def _told(self, told, outcome, seconds):
        text = outcome.output.decode("utf-8", "replace")
        told.update(ran=True, seconds=outcome.seconds, output_bytes=outcome.output_bytes, killed=outcome.killed)
        if not outcome.ended:
            message = "%s in %s does not end within %.3g s" % (told["command"], told["container"], seconds)
            message += ", and was killed" if outcome.killed else ", and may still run: it could not be killed from here"
            told["error"] = {"kind": "timeout", "message": message, "hint": None}
            told["error"]["hint"] = "See whether it still runs: `docker top %s`" % shell_quote(told["container"])
            told["ok"] = False
        else:
            told["exit_code"] = outcome.exit_code
            if self.wanted["output_contains"] is not None:
                told["contains"] = self.wanted["output_contains"] in text
            told["ok"] = outcome.exit_code in self.wanted["exit_codes"] and told["contains"] is not False
        if self.wanted["show_output"] or not told["ok"]:
            # Errors come last.
            part = text[:LOOKED_THROUGH] if self.wanted["show_output"] else text[-LOOKED_THROUGH:]
            shown = UNREADABLE if decoded(outcome.output) == UNREADABLE else conceal(part, self._secrets())
            told["output"] = cut(shown, SHOWN) if self.wanted["show_output"] else " ".join(shown.split())[-EXCERPT:]
        return told

    def _secrets(self):
        """What must not be seen wherever the output repeats it."""
        return [str(value) for value in (self.wanted["environment"] or {}).values()]
