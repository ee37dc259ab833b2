# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rejects invalid rows and invalid options of the run before any host is visited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _areas,
    _causes,
    _charts,
    _checks,
    _measuring_code,
    _presence,
    _settings,
    _survey_answers,
    _variables,
)
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    @inert
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            {"areas": {"type": "raw", "default": []}, "roles": {"type": "list", "elements": "str", "default": []}}
        )
        self._reject_bad_options(arguments["roles"], task_vars)
        areas = _areas.find(_survey_answers.listed(arguments["areas"]), task_vars.get("playbook_dir", "."))
        extra = _checks.extra_rows_by_area(task_vars.get("tracktion_extra_checks") or [], areas)
        for area in areas:
            _presence.load(area)
            _charts.load(area)
        checks = {area.name: [check.id for check in _checks.load(area, extra[area.name])] for area in areas}
        ids = [check for of_area in checks.values() for check in of_area]
        self._pack(areas, "remediate" in arguments["roles"])
        edges = _causes.load(areas, task_vars.get(_causes.EXTRA) or [], ids)
        return {"changed": False, "checks": checks, "causes": [edge.id for edge in edges]}

    def _pack(self, areas: Sequence[_areas.Area], journal: bool) -> None:
        """Pack the code for the visits, if no earlier run has: otherwise each host does, at the same time."""
        own = {
            area.name: {name: probe for name, probe in area.probes().items() if _settings.is_own(probe)}
            for area in areas
        }
        plan = {name: {"probes": probes} for name, probes in own.items() if probes}
        others = ["_presence", *(["_journal"] if journal else [])]
        _measuring_code.packed(_measuring_code.processes(plan, others))

    def _reject_bad_options(self, roles: Sequence[str], task_vars: Values) -> None:
        """Raise AnsibleActionFail for an invalid option of these roles. The visit validates the options of areas."""
        variables = _variables.without_empty_answers(task_vars, self._templar, (_settings.PREFIX,), self._task)
        for role in _areas.own_roles():
            if role.name not in roles:
                continue
            known = {**role.defaults, **variables}
            templar = self._templar.copy_with_new_env(available_variables=known)
            error = _settings.of_area(role, known, templar).error()
            if error:
                raise AnsibleActionFail("%s: %s" % (task_vars["inventory_hostname"], error["message"]))
