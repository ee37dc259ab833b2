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
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operation_records
from ansible_collections.tracktion.ops.plugins.plugin_utils import _runs
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values

MODULE = "tracktion.ops.stack_service"
STATE_DIR = "/var/lib/tracktion-ops"
DEADLINE = 1800.0
REMEDY = "recovery.restart"
LINES_MOST = 2000


class ActionModule(Background):
    _longest_seconds = 1.0
    # After its deadline it still starts what it has stopped.
    _slack_seconds = 4 * 3600.0
    # Lines of the progress that were shown.
    _shown = 0

    @inert
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super(Background, self).run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = dict(self._task.args)
        audit_path = arguments.pop("audit_path", None)
        run = arguments.get("run") or {**_runs.start(task_vars), "host": task_vars["inventory_hostname"]}
        options = {"state_dir": STATE_DIR, "deadline": DEADLINE, **arguments, "run": run}
        title = "%s: %s" % (task_vars["inventory_hostname"], options.get("state") or "restarted")
        began = time.time()
        result = self._carry_out(MODULE, options, title, task_vars)
        holders = map(_operation_records.record, _plain(result.get("holders")))
        dead = [each["id"] for each in holders if each and _is_dead(each)]
        if dead:
            result = self._carry_out(MODULE, {**options, "broken": dead}, title, task_vars)
        self._tell(result.get("lines"), len(result.get("lines") or []), title)
        if audit_path and not self._task.check_mode and "steps" in result:
            self._audit(audit_path, options, result, began)
        return {**result, "changed": bool(result.get("changed"))}

    def _line(self, progress: Mapping[str, Any], title: str) -> str:
        self._tell(progress.get("lines"), progress.get("lines_total"), title)
        return ""

    def _tell(self, lines: object, total: object, title: str) -> None:
        """Show the lines that were not shown yet. ``lines`` are the last ones of ``total``."""
        if not isinstance(lines, list) or not isinstance(total, int) or not self._shown < total <= LINES_MOST:
            return
        for line in lines[max(0, len(lines) - (total - self._shown)) :]:
            self._display.display(clean("%s: %s" % (title, line)))
        self._shown = total

    def _audit(self, path: str, options: Mapping[str, Any], result: Values, began: float) -> None:
        """Add the run to the audit log of the controller. The steps are done: an error is a warning."""
        entry = {
            "run": options["run"]["run"],
            "who": options["run"]["who"],
            "host": options["run"].get("host"),
            "action": REMEDY,
            "remedy": REMEDY,
            "target": result.get("project"),
            "began": began,
            "event": "outcome",
            "time": time.time(),
            "outcome": "failed" if result.get("failed") else "changed" if result.get("changed") else "ok",
            "changed": bool(result.get("changed")),
            "message": result.get("msg"),
            "result": {"lines": list(result.get("lines") or [])[:50]},
        }
        try:
            _runs.audit(path, [entry])
        except OSError as exc:
            self._display.warning(clean("%s: the restart is missing in it: %s" % (path, exc.strerror)))


def _plain(value: object) -> list[Any]:
    # Ansible returns mappings of its own types.
    return [dict(each) if isinstance(each, Mapping) else each for each in value] if isinstance(value, list) else []


def _is_dead(record: Mapping[str, Any]) -> bool:
    """Return whether a lease holds an operation whose ansible-playbook was started here and has ended."""
    if record["until"] is None:
        return False
    names = {"pid": "controller_pid", "pid_start": "controller_start", "controller": "controller"}
    return _runs.is_dead({name: record[field] for name, field in names.items()})
