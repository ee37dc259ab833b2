# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's part of M(tracktion.ops.stack_service): shows each step, knows dead controllers, keeps the log.

The module runs in the background of the host: it goes on if the connection breaks or this process is killed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.tracktion.ops.plugins.action.recovery_run import ActionModule as Background
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _stack_order
from ansible_collections.tracktion.ops.plugins.plugin_utils import _outcome, _runs
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values

MODULE = "tracktion.ops.stack_service"
STATE_DIR = "/var/lib/tracktion-ops"
DEADLINE = 1800.0
REMEDY = "recovery.restart"
TITLE = "Stop and start services in the order of their dependencies"
TITLES = {"stopped": "stop", "started": "start"}
LINES_MOST = 2000


class ActionModule(Background):
    _longest_seconds = 1.0
    # After its deadline it still starts what it has stopped.
    _slack_seconds = 3600.0

    @inert
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super(Background, self).run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = dict(self._task.args)
        audit_path = arguments.pop("audit_path", None)
        run = arguments.get("run") or {**_runs.start(task_vars), "host": task_vars["inventory_hostname"]}
        options = {"state_dir": STATE_DIR, "deadline": DEADLINE, **arguments, "run": run}
        title = "%s: %s" % (task_vars["inventory_hostname"], TITLES.get(str(options.get("state")), "restart"))
        result = self._carry_out_held(MODULE, options, title, task_vars)
        lines = result.get("lines")
        # Each step was a note of the progress, with the same number; the file is gone at the end.
        for line in lines[self._noted : LINES_MOST] if isinstance(lines, list) else []:
            self._display.display(clean("%s: %s" % (title, line)))
        entry = self._entry(options, result)
        try:
            _runs.note_outcome({**entry, "settle": 0.0})
            if audit_path and "steps" in result and not self._task.check_mode:
                _runs.audit(audit_path, [{**entry, "event": "outcome"}])
        except OSError as exc:
            # The steps are done.
            self._display.warning(clean("the restart is missing in the log or the report: %s" % exc))
        return {**result, "changed": bool(result.get("changed"))}

    def _entry(self, options: Mapping[str, Any], result: Values) -> Values:
        """Return the entry of the audit log of the controller and of the report."""
        project = result.get("project") or options.get("project") or None
        host = options["run"].get("host")
        outcome = _outcome.outcome_of(result)
        return {
            "run": options["run"]["run"],
            "who": options["run"]["who"],
            "host": host,
            "action": "%s:%s" % (REMEDY, host),
            "remedy": REMEDY,
            "title": TITLE,
            "risk": "disruptive",
            "data_loss": "none",
            "target": project,
            "does": _stack_order.does(options, project),
            "time": time.time(),
            "outcome": outcome,
            "changed": bool(result.get("changed")),
            "message": _outcome.message_of(result, outcome),
            "result": {"lines": list(result.get("lines") or [])[: _outcome.ENTRIES_MOST]},
            "undo": None,
        }
