# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's part of a visit: resolves the areas' probes for this host and measures them with one task."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.tracktion.ops.plugins.module_utils._types import ErrorInfo
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _areas,
    _causes,
    _checks,
    _claims,
    _host_findings,
    _measuring_code,
    _presence,
    _probe_options,
    _settings,
    _shape,
    _time_limit,
    _variables,
    _visit,
    _visit_failure,
    _visit_progress,
)
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import AreaOutcome, HostState, Values

# Runs a command with a time limit, if the host has timeout(1). With PYTHONUNBUFFERED, which a controller may have set
# for itself, Python would read the program byte by byte.
GUARD = (
    'unset PYTHONUNBUFFERED; set --; command -v timeout >/dev/null 2>&1 && set -- timeout -k 2 %d; "$@" /bin/sh -c %s'
)
CLEANUP_SECONDS = 5
# The module whose file the program follows.
MODULE = "tracktion.ops.visit"
# Variables of the role visit, by the option that overrides them.
OPTIONS = {
    "areas": "tracktion_areas",
    "timeout": "tracktion_visit_timeout",
    "journal": "tracktion_visit_journal",
}
# Characters of a result. Areas are limited on the host, but its output may be anything.
MAX_RESULT = 64 * 1024 * 1024

# Probes of an area by name: {module, options}.
Probes = Mapping[str, Values]


class _NotMeasured(Exception):
    """The module ran and has no measurement. ``result`` is its result as Ansible reads it."""

    def __init__(self, result: Values) -> None:
        super().__init__(str(result.get("msg")))
        self.result = result


class _Planned(NamedTuple):
    """What a visit measures, by area: ``visited`` is filled with the measurements.

    ``own``: the plan of the module, with this collection's probes. ``others``: probes of other collections. ``claims``:
    the name of a measurement that other hosts may share.
    """

    visited: dict[str, AreaOutcome]
    own: dict[str, Values]
    others: dict[str, Probes]
    claims: dict[str, str | None]


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    # The end of the visit by the monotonic clock; null before it starts.
    _end: float | None = None
    # The code for the program (``_measuring_code.packed``).
    _code = ""
    # Standard error of the last command that failed.
    _errors = ""

    @inert
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        all_vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            {
                "areas": {"type": "raw"},
                "probe_host": {"type": "str"},
                "timeout": {"type": "float"},
                "journal": {"type": "str"},
            }
        )
        probe_host = arguments["probe_host"] or all_vars["inventory_hostname"]
        variables = self._without_empty_answers(all_vars, ())
        settings = self._role_settings(variables, arguments)
        areas = _areas.find(settings["tracktion_areas"], all_vars.get("playbook_dir", "."))
        variables = self._without_empty_answers(all_vars, areas)
        timeout, journal_directory = settings["tracktion_visit_timeout"], settings["tracktion_visit_journal"]
        # Not templated: its rows are templates of this collection, not of Ansible.
        extra_checks = variables.get("tracktion_extra_checks") or []
        extra_causes = variables.get("tracktion_extra_causes") or []
        if extra_checks or extra_causes:
            extra_rows = _checks.extra_rows_by_area(extra_checks, areas)
            ids = [check.id for area in areas for check in _checks.load(area, extra_rows[area.name])]
            _causes.load(areas, extra_causes, ids)

        visited, plan, other_probes, claims = self._planned(areas, probe_host, variables)
        limits = {name: settings[name] for name in _host_findings.LIMITS}
        started = time.time()
        python, state, journal, presence, failure = None, None, None, None, None
        # Claimed after everything that may fail: no other host measures what is claimed.
        claimed = _claims.take_all(claims, visited)
        plan = {name: wanted for name, wanted in plan.items() if not visited[name]["shared"]}
        self._end = time.monotonic() + timeout
        hosts = len(all_vars.get("ansible_play_hosts_all") or [probe_host])
        ends = {name: min(plan[name]["deadline"], timeout) if name in plan else timeout for name in visited}
        progress = _visit_progress.Visit(self._task._uuid, all_vars["inventory_hostname"], hosts, ends, timeout)
        try:
            with _visit_progress.shown(progress, self._display.display), _time_limit.limited(timeout):
                for name, others in other_probes.items():
                    if not visited[name]["shared"]:
                        for probe_name, probe in others.items():
                            visited[name]["measurement"][probe_name] = self._run_module(probe, variables)
                if plan or journal_directory:
                    python, state, journal, presence = self._measure(plan, visited, areas, variables, journal_directory)
        except (_time_limit.LimitExceeded, Exception) as exc:  # pylint: disable=broad-except
            # A visit never fails its task: the report has a finding for this host.
            failure = self._failure(exc, variables)
            visited, journal = {}, None
        reference = None
        earlier = _visit.areas_measured_at(probe_host, variables.get("tracktion_visit"))
        presence = presence or _visit.presence_found_at(probe_host, variables.get("tracktion_visit"))
        if earlier or not failure:
            reference = _visit.put(
                {
                    "areas": {**earlier, **visited},
                    "extra_checks": extra_checks,
                    "extra_causes": extra_causes,
                    "host": state,
                    "limits": limits,
                    "journal": journal,
                    "presence": presence,
                    "stack": settings["tracktion_stack"],
                }
            )
        _claims.publish_all(claimed, visited, state, failure)
        return {
            "changed": False,
            "probe_host": probe_host,
            "started": started,
            "python": python,
            "visited": reference,
            "failure": failure,
        }

    def cleanup(self, force: bool = False) -> None:
        """Remove the temporary directory of a module that was not pipelined, with a short time limit."""
        if self._connection._shell.tmpdir is None:
            return
        try:
            with _time_limit.limited(CLEANUP_SECONDS):
                super().cleanup(force)
        except (_time_limit.LimitExceeded, AnsibleError):
            pass

    def _planned(self, areas: Iterable[_areas.Area], probe_host: str, task_vars: Mapping[str, Any]) -> _Planned:
        """Return what is measured from this probe host."""
        planned = _Planned({}, {}, {}, {})
        for area in areas:
            settings, probes, error = self._resolve(area, task_vars)
            configured = settings.get("%s_probe_host" % area.name)
            if (configured or task_vars["inventory_hostname"]) != probe_host:
                continue
            deadline = settings.get("%s_deadline" % area.name)
            own = {name: probe for name, probe in probes.items() if _settings.is_own(probe)}
            planned.others[area.name] = {name: probe for name, probe in probes.items() if name not in own}
            if own:
                planned.own[area.name] = {"deadline": deadline, "probes": _probe_options.validated(own)}
            planned.claims[area.name] = None
            if configured and not error:
                wanted = {"probes": probes, "deadline": deadline}
                planned.claims[area.name] = _claims.key(self._task._uuid, probe_host, area.role, wanted)
            public = area.public.union(_settings.SHARED)
            # What is measured from a host that the user has named belongs there.
            given = None if configured else _settings.given(area, task_vars)
            planned.visited[area.name] = {
                "role": area.role,
                "settings": {name: value for name, value in settings.items() if name in public},
                "measurement": {},
                "error": error,
                "seconds": 0.0,
                "given": given,
            }
        return planned

    def _measure(
        self,
        plan: Mapping[str, Values],
        visited: Mapping[str, AreaOutcome],
        areas: Iterable[_areas.Area],
        task_vars: Mapping[str, Any],
        journal: str | None,
    ) -> tuple[str, HostState | None, Values | None, Values | None]:
        """Measure on the host, into ``visited``; return the interpreter, and state, journal and services of the host.

        ``journal`` is the directory of the journal, if it is to be read.
        """
        by_name = {area.name: area for area in areas}
        presence = self._presence([by_name[name] for name in plan], visited, task_vars)
        others = [*(["_journal"] if journal else []), *(["_presence"] if presence else [])]
        processes = _measuring_code.processes(plan, others)
        self._code = _measuring_code.packed(processes, self._has_own_python(task_vars))
        sent = time.time()
        result = self._execute_module(
            module_name=MODULE,
            module_args={
                "plan": json.dumps(plan),
                "journal": journal,
                "presence": presence,
                # The module ends before the visit, and returns what it has measured by then.
                "seconds": self._remaining() * 0.9,
            },
            task_vars=task_vars,
        )
        received = time.time()
        measured = result.get("measured")
        if not isinstance(measured, str):
            raise _NotMeasured(result)
        try:
            document = _shape.Document(measured)
        except _shape.Malformed as exc:
            raise _NotMeasured({"msg": "the measurement %s" % exc}) from exc
        for name, wanted in plan.items():
            _visit.take(visited[name], document, name, wanted["probes"])
            _settings.name_variables(by_name[name], visited[name]["measurement"])
        state = _host_findings.state(result.get("host"), sent, received)
        return (
            _shape.text(str(result.get("python"))),
            state,
            _visit.journal(document) if journal else None,
            _visit.presence(document),
        )

    def _has_own_python(self, task_vars: Mapping[str, Any]) -> bool:
        """Return whether the host is this machine, and its modules run in the Python that runs Ansible.

        Then the code is sent compiled: compiling that of all areas takes 0.3 s of CPU time on each host.
        """
        delegated = (task_vars.get("ansible_delegated_vars") or {}).get(self._task.delegate_to)
        try:
            python = _variables.resolve(self._templar, (delegated or task_vars).get("ansible_python_interpreter"))
        except (_variables.Unresolved, _variables.Omitted):
            return False
        return self._connection.transport == "local" and python == sys.executable

    def _presence(
        self, areas: Iterable[_areas.Area], visited: Mapping[str, AreaOutcome], task_vars: Mapping[str, Any]
    ) -> Values | None:
        """Return how to find the services of the host; null if no default depends on them."""
        if not any(_presence.applying(_presence.load(area), visited[area.name].get("given")) for area in areas):
            return None
        containers = _areas.own_role("containers")
        names = ("containers_docker_host", "containers_compose_files")
        specs = {name: containers.argument_spec[name] for name in names}
        defaults = {name: containers.defaults[name] for name in names}
        engine = _settings.read(specs, defaults, task_vars, self._templar).values
        shared = _settings.shared({**_settings.shared_defaults(), **task_vars}, self._templar).values
        return {
            "docker_root": shared.get("tracktion_docker_root"),
            "docker_host": engine.get(names[0]) or defaults[names[0]],
            "compose_files": engine.get(names[1]) or [],
        }

    def _failure(self, exc: BaseException, task_vars: Mapping[str, Any]) -> Values:
        """Return why there is no measurement, for ``_visit_failure.classify``."""
        result = exc.result if isinstance(exc, _NotMeasured) else {"msg": str(exc), "module_stderr": self._errors}
        kept = {
            key: result[key] for key in ("msg", "rc", "module_stdout", "module_stderr") if result.get(key) is not None
        }
        unreachable = isinstance(exc, AnsibleConnectionFailure)
        return {"unreachable": unreachable, "connection": self._described(task_vars), **_visit_failure.bounded(kept)}

    def _described(self, task_vars: Mapping[str, Any]) -> Values:
        """Return the known fields of ``_visit_failure.Connection``."""
        connection, become = self._connection, self._connection.become
        known: Values = {"plugin": connection.transport, "python": (self._used_interpreter or "").lstrip("#!").strip()}
        for name, option in (("host", "host"), ("port", "port"), ("user", "remote_user")):
            with contextlib.suppress(Exception):
                known[name] = str(connection.get_option(option) or "")
        if become:
            known["become_method"] = become.name
            with contextlib.suppress(Exception):
                known["become_user"] = str(become.get_option("become_user") or "")
        configured = str(task_vars.get("ansible_python_interpreter") or "auto")
        return {**known, "python_configured": not configured.startswith("auto")}

    def _without_empty_answers(self, variables: Mapping[str, Any], areas: Iterable[_areas.Area]) -> Mapping[str, Any]:
        prefixes = (_settings.PREFIX, *("%s_" % area.name for area in areas))
        return _variables.without_empty_answers(variables, self._templar, prefixes, self._task)

    def _role_settings(self, variables: Mapping[str, Any], arguments: Mapping[str, Any]) -> Values:
        """Return the variables of the role visit. The arguments of the task override them.

        Not templates in the task: Ansible compiles each of them again for every host.
        """
        role = _areas.own_role("visit")
        names = ("tracktion_areas", "tracktion_visit_timeout", "tracktion_stack", *_host_findings.LIMITS)
        given = {OPTIONS[name]: value for name, value in arguments.items() if name in OPTIONS and value is not None}
        specs, defaults = ({name: source[name] for name in names} for source in (role.argument_spec, role.defaults))
        found = _settings.read(specs, defaults, {**variables, **given}, self._templar, least=0)
        # The areas report an invalid timeout.
        found.values.setdefault("tracktion_visit_timeout", defaults["tracktion_visit_timeout"])
        error = found.error(set(names) - {"tracktion_visit_timeout"})
        if error:
            raise AnsibleActionFail(error["message"])
        journal = given.get("tracktion_visit_journal") or variables.get("tracktion_visit_journal")
        return {**found.values, "tracktion_visit_journal": _variables.resolve(self._templar, journal)}

    def _configure_module(self, module_name: str, module_args: Values, task_vars: Values) -> tuple[Any, str]:
        """Return what Ansible sends and runs: with the program, for the visit itself.

        Ansible finds the interpreter, and puts the options into the file of the module.
        """
        built, path = super()._configure_module(module_name, module_args, task_vars)
        if module_name == MODULE:
            program = (_measuring_code.PROGRAM % self._code).encode("ascii")
            built = dataclasses.replace(built, b_module_data=built.b_module_data + program)
        return built, path

    def _remaining(self) -> float:
        return max(0.1, (self._end or 0.0) - time.monotonic())

    def _low_level_execute_command(self, cmd: str, *arguments: Any, **options: Any) -> Values:
        """Run a command with timeout(1) on the host, which ends all of its processes even if the connection breaks."""
        if self._end is not None and getattr(self._connection._shell, "SHELL_FAMILY", "") == "sh":
            cmd = GUARD % (math.ceil(self._remaining()) + 1, shlex.quote(cmd))
        result = super()._low_level_execute_command(cmd, *arguments, **options)
        self._errors = result["stderr"] if result["rc"] else ""
        if len(result["stdout"]) > MAX_RESULT:
            raise AnsibleError("The answer has more than %d MiB." % (MAX_RESULT >> 20))
        return result

    def _resolve(self, area: _areas.Area, task_vars: Mapping[str, Any]) -> tuple[Values, Probes, ErrorInfo | None]:
        """Return the role's variables on this host, its probes, and the error because of which it has none.

        All variables of the host override the role's defaults, as in a play that lists the role.
        """
        variables = {**_settings.shared_defaults(), **area.defaults, **task_vars}
        templar = self._templar.copy_with_new_env(available_variables=variables)
        settings = _settings.of_area(area, variables, templar)
        shared = _settings.shared(variables, templar)
        probes, error = _settings.probes(area, settings, shared, variables, templar)
        return {**shared.values, **settings.values}, probes or {}, error

    def _run_module(self, probe: Values, task_vars: Mapping[str, Any]) -> Values:
        """Measure with a module of another collection, and return its result as a measurement."""
        result = self._execute_module(module_name=probe["module"], module_args=probe["options"], task_vars=task_vars)
        if result.get("failed"):
            return _visit.unmeasured("failed", _shape.text(str(result.get("msg"))))
        # It holds the options, also private ones.
        result.pop("invocation", None)
        return _visit.checked({"reachable": True, "error": None, "unknown": [], **result}, probe["module"])


def _prepare() -> None:
    """Read what each visit needs, as this file is imported: before Ansible forks a process for each host."""
    for name in ("setting", "probe_hosts"):
        lookup_loader.get("%s.%s" % (_areas.COLLECTION, name))
    _shape.of_part("visit", "host")
    _probe_options.validators()
    for area in _areas.find():
        _read = (area.defaults, area.public, _presence.load(area))
        probes = area.probes()
        for probe in probes.values():
            _shape.of_module(probe["module"])
        _settings.compile_probes(probes)


# An invalid file of a role is reported by the tasks.
with contextlib.suppress(AnsibleError):
    _prepare()
