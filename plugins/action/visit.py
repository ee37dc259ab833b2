# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of a visit: reads the areas' probes, fills them in for this host, measures with one task."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import time

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _areas,
    _checks,
    _claims,
    _host_findings,
    _measuring_code,
    _settings,
    _shape,
    _survey_answers,
    _time_limit,
    _variables,
    _visit,
    _visit_failure,
)
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert

# Runs a command with a time limit, where the host has timeout(1).
GUARD = 'set --; command -v timeout >/dev/null 2>&1 && set -- timeout -k 2 %d; "$@" /bin/sh -c %s'
CLEANUP_SECONDS = 5
# Characters of an answer. An area is bounded on the host; a host may send anything all the same.
MAX_ANSWER = 64 * 1024 * 1024


class _NotMeasured(Exception):
    """The module ran and has no measurement. ``answer`` is its result as Ansible reads it."""

    def __init__(self, answer):
        super().__init__(str(answer.get("msg")))
        self.answer = answer


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    # When the host has to have ended what it runs for this visit; none while it may run for any time.
    _end: float | None = None
    # What the last command that failed wrote to standard error.
    _errors = ""

    @inert
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            {
                "areas": {"type": "raw", "default": []},
                "probe_host": {"type": "str"},
                "timeout": {"type": "float", "default": 60.0},
            }
        )
        host = task_vars["inventory_hostname"]
        probe_host = arguments["probe_host"] or host
        areas = _areas.find(_survey_answers.listed(arguments["areas"]), task_vars.get("playbook_dir", "."))
        prefixes = (_settings.PREFIX, *("%s_" % area.name for area in areas))
        task_vars = _variables.without_empty_answers(task_vars, self._templar, prefixes, self._task)
        # Read raw: its rows are templates for the judge, not for Ansible.
        extra_checks = task_vars.get("tracktion_extra_checks") or []
        if extra_checks:
            for area, rows in zip(areas, _checks.extra_rows_by_area(extra_checks, areas).values()):
                _checks.load(area, rows)

        visited, plan, foreign, shareable = {}, {}, [], {}
        for area in areas:
            settings, probes, error = self._fill_in(area, task_vars)
            configured = settings.get("%s_probe_host" % area.name)
            if (configured or host) != probe_host:
                continue
            wanted = {"probes": probes, "deadline": settings.get("%s_deadline" % area.name)}
            is_shareable = configured and not error
            shareable[area.name] = (
                _claims.key(self._task._uuid, probe_host, area.role, wanted) if is_shareable else None
            )
            own = {name: probe for name, probe in probes.items() if _settings.is_own(probe)}
            if own:
                plan[area.name] = {"deadline": settings["%s_deadline" % area.name], "probes": own}
            visited[area.name] = {
                "role": area.role,
                "settings": {name: value for name, value in settings.items() if name in area.public},
                "measurement": {},
                "error": error,
                "seconds": 0.0,
            }
            foreign += [(area.name, name, probe) for name, probe in probes.items() if name not in own]

        limits = self._limits(task_vars)
        started = time.time()
        result = {
            "changed": False,
            "probe_host": probe_host,
            "started": started,
            "python": None,
            "visited": None,
            "failure": None,
        }
        about_host = None
        # Claimed last, as no other host measures what is claimed.
        claimed = _claims.take_all(shareable, visited)
        plan = {area: wanted for area, wanted in plan.items() if not visited[area]["shared"]}
        foreign = [entry for entry in foreign if not visited[entry[0]]["shared"]]
        self._end = time.monotonic() + arguments["timeout"]
        try:
            with _time_limit.limited(arguments["timeout"]):
                for area, name, probe in foreign:
                    visited[area]["measurement"][name] = self._ask(probe, task_vars)
                if plan:
                    result["python"], about_host = self._measure(plan, visited, areas, task_vars)
        except (_NotMeasured, _time_limit.LimitExceeded, Exception) as exc:  # pylint: disable=broad-except
            # Whatever it is, it concerns this host alone, and the report says so.
            result["failure"] = self._failure(exc, task_vars)
            visited = {}
        earlier = _visit.areas_measured_at(probe_host, task_vars.get("tracktion_visit"))
        if earlier or not result["failure"]:
            document = {
                "areas": {**earlier, **visited},
                "extra_checks": extra_checks,
                "host": about_host,
                "limits": limits,
            }
            result["visited"] = _visit.put(document)
        _claims.publish_all(claimed, visited, about_host, result["failure"])
        return result

    def cleanup(self, force=False):
        """Remove the temporary directory of a module that was not pipelined, without waiting for a dead host."""
        if self._connection._shell.tmpdir is None:
            return
        try:
            with _time_limit.limited(CLEANUP_SECONDS):
                super().cleanup(force)
        except (_time_limit.LimitExceeded, AnsibleError):
            pass

    def _measure(self, plan, visited, areas, task_vars):
        """Measure on the host, into ``visited``; the interpreter, and what is known of the host itself."""
        sent = time.time()
        answer = self._execute_module(
            module_name="tracktion.ops.measure",
            module_args={
                "plan": json.dumps(plan),
                "code": _measuring_code.packed(_modules(plan)),
                # The module ends first, and brings what it has.
                "seconds": self._remaining() * 0.9,
            },
            task_vars=task_vars,
        )
        received = time.time()
        measured = answer.get("measured")
        if not isinstance(measured, str):
            raise _NotMeasured(answer)
        try:
            document = _shape.Document(measured)
        except _shape.Malformed as exc:
            raise _NotMeasured({"msg": "the measurement %s" % exc}) from exc
        by_name = {area.name: area for area in areas}
        for name, wanted in plan.items():
            _visit.take(visited[name], document, name, wanted["probes"])
            _settings.name_variables(by_name[name], visited[name]["measurement"])
        return _shape.text(str(answer.get("python"))), _host_findings.state(answer.get("host"), sent, received)

    def _failure(self, exc, task_vars):
        """Why there is no measurement, as ``_visit_failure.classify`` takes it."""
        answer = exc.answer if isinstance(exc, _NotMeasured) else {"msg": str(exc), "module_stderr": self._errors}
        kept = {
            key: answer[key] for key in ("msg", "rc", "module_stdout", "module_stderr") if answer.get(key) is not None
        }
        unreachable = isinstance(exc, AnsibleConnectionFailure)
        return {"unreachable": unreachable, "connection": self._described(task_vars), **_visit_failure.bounded(kept)}

    def _described(self, task_vars):
        """The connection, as text, as far as it is known."""
        connection, become = self._connection, self._connection.become
        known = {"plugin": connection.transport, "python": (self._used_interpreter or "").lstrip("#!").strip()}
        for name, option in (("host", "host"), ("port", "port"), ("user", "remote_user")):
            with contextlib.suppress(Exception):
                known[name] = str(connection.get_option(option) or "")
        if become:
            known["become_method"] = become.name
            with contextlib.suppress(Exception):
                known["become_user"] = str(become.get_option("become_user") or "")
        configured = str(task_vars.get("ansible_python_interpreter") or "auto")
        return {**known, "python_configured": not configured.startswith("auto")}

    def _limits(self, task_vars):
        """The variables of the role visit that the findings about the host are held against."""
        role = _areas.own_role("visit")
        specs = {name: role.argument_spec[name] for name in _host_findings.LIMITS}
        defaults = {name: role.defaults[name] for name in _host_findings.LIMITS}
        limits = _settings.read(specs, defaults, task_vars, self._templar, least=0)
        if limits.problems:
            raise AnsibleActionFail(limits.error()["message"])
        return limits.values

    def _remaining(self):
        return max(0.1, self._end - time.monotonic())

    def _low_level_execute_command(self, cmd, *arguments, **options):
        """Run a command that the host itself ends with the visit: of a broken connection it hears nothing.

        Every process of the command's group is ended by timeout(1), where the host has it.
        """
        if self._end is not None and getattr(self._connection._shell, "SHELL_FAMILY", "") == "sh":
            cmd = GUARD % (math.ceil(self._remaining()) + 1, shlex.quote(cmd))
        result = super()._low_level_execute_command(cmd, *arguments, **options)
        self._errors = result["stderr"] if result["rc"] else ""
        if len(result["stdout"]) > MAX_ANSWER:
            raise AnsibleError("The answer has more than %d MiB." % (MAX_ANSWER >> 20))
        return result

    def _fill_in(self, area, task_vars):
        """The role's variables on this host, its probes with them filled in, and why there are none.

        The role's defaults stand below everything the host has, as in a play that lists the role.
        """
        variables = {**_settings.shared_defaults(), **area.defaults, **task_vars}
        templar = self._templar.copy_with_new_env(available_variables=variables)
        settings = _settings.of_area(area, variables, templar)
        probes, error = _settings.probes(area, settings, _settings.shared(variables, templar), templar)
        return settings.values, probes or {}, error

    def _ask(self, probe, task_vars):
        """Measure with a module from outside this collection: a task of its own."""
        answer = self._execute_module(module_name=probe["module"], module_args=probe["options"], task_vars=task_vars)
        if answer.get("failed"):
            message = _shape.text(str(answer.get("msg")))
            return _visit.unmeasured("failed", message)
        # The options as they were given, with what is private.
        answer.pop("invocation", None)
        return _visit.checked({"reachable": True, "error": None, "unknown": [], **answer}, probe["module"])


def _modules(plan):
    return sorted({probe["module"] for area in plan.values() for probe in area["probes"].values()})
