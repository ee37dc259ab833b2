# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports the backups, proofs or restores of a run. Runs once, on the controller."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _recovery_report, _report_file, _runs
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import cleaned


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
            {
                "what": {"type": "str", "choices": list(_recovery_report.TITLES), "required": True},
                "directory": {"type": "path", "required": True},
                "only_if_nothing": {"type": "bool", "default": False},
            }
        )
        what, hostvars = arguments["what"], task_vars["hostvars"]
        found = [item for name in hostvars for item in _recovery_report.items(what, name, hostvars.raw_get(name))]
        if not found:
            raise AnsibleActionFail(
                "Nothing was done: the inventory, --limit and tracktion_hosts together match no host, or "
                "recovery_products is empty. Show the inventory: `ansible-inventory --graph`"
            )
        if arguments["only_if_nothing"]:
            return {"changed": False, "path": None, "complete": True, "failed_hosts": [], "summary": None}
        finished = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        report = _recovery_report.build(what, found, self._task.check_mode, _areas.version(), finished)
        path = os.path.abspath(os.path.join(arguments["directory"], "%s.json" % what))
        kept = _report_file.keep(report, path, self._display)
        # AWX removes the file at the end of the job.
        shown = None if _runs.in_awx(task_vars) else kept
        self._display.display("\n" + _recovery_report.render(report, shown))
        result: dict[str, Any] = {"changed": False, "path": kept, "complete": report["complete"]}
        result["failed_hosts"] = _recovery_report.failed_hosts(report)
        result["summary"] = cleaned(_recovery_report.summary(report))
        result["ansible_stats"] = _report_file.stats("tracktion_recovery", result["summary"])
        return result
