# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Refuses wrong check and remedy rows before any host is touched."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _checks
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    @inert
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            {"areas": {"type": "list", "elements": "str", "default": []}}
        )
        areas = _areas.find(arguments["areas"], task_vars.get("playbook_dir", "."))
        extra = _checks.extra_rows_by_area(task_vars.get("tracktion_extra_checks") or [], areas)
        checks = {area.name: [check.id for check in _checks.load(area, extra[area.name])] for area in areas}
        return {"changed": False, "checks": checks}
