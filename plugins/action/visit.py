# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of a visit: reads the areas' probes, fills them in for this host, measures with one task."""

from __future__ import annotations

import json
import re
import time

from ansible.plugins.action import ActionBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _checks, _measuring_code, _visit
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert

# Settings go back to the judge and on into reports. What opens a door does not.
PRIVATE = re.compile(r"_login_|passw|secret|token|_key$|_endpoints$|_commands$")
# Variables of all areas: how long rates are watched for, in seconds.
SHARED = {"tracktion_sample_seconds": 1}
NAME_ONLY = re.compile(r"\{\{ (\w+) \}\}")


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    @inert
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            {"areas": {"type": "list", "elements": "str", "default": []}, "place": {"type": "str"}}
        )
        host = task_vars["inventory_hostname"]
        place = arguments["place"] or host
        areas = _areas.find(arguments["areas"], task_vars.get("playbook_dir", "."))
        # Read raw: its rows are templates for the judge, not for Ansible.
        extra_checks = task_vars.get("tracktion_extra_checks") or []
        if extra_checks:
            for area, rows in zip(areas, _checks.extra_rows_by_area(extra_checks, areas).values()):
                _checks.load(area, rows)

        visited = {}
        plan = {}
        for area in areas:
            settings, probes = self._fill_in(area, task_vars)
            if (settings.get("%s_probe_host" % area.name) or host) != place:
                continue
            own = {name: probe for name, probe in probes.items() if "." not in probe["module"]}
            if own:
                plan[area.name] = {"deadline": float(settings["%s_deadline" % area.name]), "probes": own}
            visited[area.name] = {
                "role": area.role,
                "settings": {name: value for name, value in settings.items() if not PRIVATE.search(name)},
                "measurement": {},
                "error": None,
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
            for name, outcome in json.loads(measured["measured"]).items():
                visited[name]["measurement"].update(outcome["measurement"])
                visited[name].update(error=outcome["error"], seconds=outcome["seconds"])
        earlier = _visit.areas_measured_at(place, task_vars.get("tracktion_visit"))
        return _visit.result(place, {**earlier, **visited}, extra_checks, started, python)

    def _fill_in(self, area, task_vars):
        """The role's variables on this host, and its probes with them filled in.

        The role's defaults stand below everything the host has, as in a play that lists the role.
        """
        defaults = area.defaults()
        variables = {**SHARED, **defaults, **task_vars}
        templar = self._templar.copy_with_new_env(available_variables=variables)
        settings = _fill(templar, {name: variables[name] for name in defaults})
        shared = _fill(templar, {name: variables[name] for name in SHARED})
        return settings, _fill(templar, area.probes(), {**shared, **settings})

    def _ask(self, probe, task_vars):
        """Measure with a module from outside this collection: a task of its own."""
        answer = self._execute_module(module_name=probe["module"], module_args=probe["options"], task_vars=task_vars)
        if answer.get("failed"):
            error = {"kind": "failed", "message": str(answer.get("msg")), "cure": None}
            return {"reachable": None, "error": error, "unknown": []}
        return {"reachable": True, "error": None, "unknown": [], **answer}


def _modules(plan):
    return sorted({probe["module"] for area in plan.values() for probe in area["probes"].values()})


def _fill(templar, value, settings=None):
    """``value`` with its templates filled in.

    Most values have none, and most options of a probe only name one of the ``settings``: the templar, which takes
    0.3 ms for each, on every host, is left the rest.
    """
    if isinstance(value, dict):
        return {key: _fill(templar, inner, settings) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(templar, inner, settings) for inner in value]
    if not isinstance(value, str) or "{" not in value:
        return value
    match = NAME_ONLY.fullmatch(value)
    return settings[match.group(1)] if settings and match and match.group(1) in settings else templar.template(value)
