# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of a visit: reads the areas' probes, fills them in for this host, measures with one task."""

from __future__ import annotations

import json
import time

from ansible.plugins.action import ActionBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _answers,
    _areas,
    _checks,
    _measuring_code,
    _settings,
    _variables,
    _visit,
)


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            {"areas": {"type": "raw", "default": []}, "place": {"type": "str"}}
        )
        host = task_vars["inventory_hostname"]
        place = arguments["place"] or host
        areas = _areas.find(_answers.listed(arguments["areas"]), task_vars.get("playbook_dir", "."))
        prefixes = (_settings.PREFIX, *("%s_" % area.name for area in areas))
        task_vars = _variables.without_empty_answers(task_vars, self._templar, prefixes, self._task)
        # Read raw: its rows are templates for the judge, not for Ansible.
        extra_checks = task_vars.get("tracktion_extra_checks") or []
        if extra_checks:
            for area, rows in zip(areas, _checks.extra_rows_by_area(extra_checks, areas).values()):
                _checks.load(area, rows)

        visited = {}
        plan = {}
        for area in areas:
            settings, probes, error = self._fill_in(area, task_vars)
            if (settings.get("%s_probe_host" % area.name) or host) != place:
                continue
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
            for name, probe in probes.items():
                if name not in own:
                    visited[area.name]["measurement"][name] = self._ask(probe, task_vars)

        python, started = None, time.time()
        if plan:
            measured = self._execute_module(
                module_name="tracktion.ops.measure",
                module_args={"plan": json.dumps(plan), "code": _measuring_code.packed(_modules(plan))},
                task_vars=task_vars,
            )
            if "measured" not in measured:
                # Failed before it measured (no Python, a full disk, ...): the report says so for the host.
                return {**measured, "changed": False, "place": place, "visited": None}
            python = measured["python"]
            by_name = {area.name: area for area in areas}
            for name, outcome in json.loads(measured["measured"]).items():
                visited[name]["measurement"].update(outcome["measurement"])
                _settings.name_variables(by_name[name], visited[name]["measurement"])
                visited[name].update(error=outcome["error"], seconds=outcome["seconds"])
        earlier = _visit.areas_measured_at(place, task_vars.get("tracktion_visit"))
        return _visit.result(place, {**earlier, **visited}, extra_checks, started, python)

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
            error = {"kind": "failed", "message": str(answer.get("msg")), "cure": None}
            return {"reachable": None, "error": error, "unknown": []}
        return {"reachable": True, "error": None, "unknown": [], **answer}


def _modules(plan):
    return sorted({probe["module"] for area in plan.values() for probe in area["probes"].values()})
