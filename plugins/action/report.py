# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evaluates the measurements of the visits, shows the report and writes it and its outputs.

Runs once, on the controller.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.color import ANSIBLE_COLOR
from ansible_collections.tracktion.ops.plugins.module_utils import _history_store
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _areas,
    _evaluated_run,
    _evaluation,
    _fleet,
    _history_file,
    _launch,
    _lines,
    _outputs,
    _remediation,
    _report,
    _report_file,
    _runs,
)
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean, cleaned
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Finding, Remediation, Report, Values

NEVER = "never"
FORMATS: dict[str, Callable[..., str]] = {
    "incidents": _fleet.render,
    "full": _fleet.render_full,
    "lines": _lines.render,
}


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
                "directory": {"type": "path", "required": True},
                "plan": {"type": "dict"},
                "only_before": {"type": "bool", "default": False},
                "fail_at": {"type": "str", "choices": [NEVER, *reversed(_evaluation.STATUSES[1:])], "default": NEVER},
                "format": {"type": "str", "choices": list(FORMATS), "default": "incidents"},
                "outputs": {"type": "list", "elements": "str", "choices": list(_outputs.NAMES), "default": []},
                "history_dir": {"type": "path"},
                "history": {"type": "dict"},
                "history_runs": {"type": "int", "default": 100},
                "history_days": {"type": "int", "default": 90},
                "history_bytes": {"type": "int", "default": 64 << 20},
            }
        )
        evaluated = _evaluated_run.evaluate(task_vars)
        if arguments["only_before"]:
            # Without a plan of remedies: the actions are those that the run will have carried out.
            return {"changed": False, "before": _before(evaluated, task_vars)}
        plan = arguments["plan"]
        remediation, all_refused = self._remediation(plan, evaluated.findings) if plan else (None, False)
        launch = None
        if any(finding["remedy"] for finding in evaluated.findings):
            # Only for the commands of remedies: its search for secrets compiles many patterns.
            areas = sorted({area["name"] for host in evaluated.hosts for area in host["areas"]})
            specs = [evaluated.checks.argument_spec(name) for name in areas]
            launch = _launch.of_run(task_vars, self._loader, specs)

        path = os.path.abspath(os.path.join(arguments["directory"], "report.json"))
        report = _report.build(
            evaluated.hosts,
            evaluated.findings,
            _areas.version(),
            evaluated.started,
            time.time(),
            task_vars.get("ansible_inventory_sources") or [],
            remediation,
            launch,
            evaluated.checks.edges(evaluated.extra_causes),
            evaluated.stacks,
            evaluated.charts,
        )
        record = self._take_part_in_history(report, arguments)
        summary = cleaned(_report.summary(report))
        written = _report_file.keep(report, path, self._display)
        texts = _outputs.make(report, arguments["outputs"], self._display.warning)
        outputs = _outputs.write(texts, os.path.dirname(path), self._display.warning)
        if "markdown" in texts:
            # For notifications of AWX, where files are lost.
            summary["markdown"] = texts["markdown"]
        colour = bool(ANSIBLE_COLOR)
        # The files of an AWX job are lost at its end, so the path is not shown there.
        shown = None if _runs.in_awx(task_vars) else outputs.get("html", written)
        self._display.display("\n" + FORMATS[arguments["format"]](report, colour=colour, path=shown))
        if remediation:
            # Not imported by a diagnosis: with what it imports, it takes 10 ms.
            from ansible_collections.tracktion.ops.plugins.plugin_utils import _terminal_plan

            self._display.display("\n" + _terminal_plan.painted(_terminal_plan.outcome(remediation), colour))
        not_evaluated = cleaned(_report.not_evaluated(report))
        fail_at = arguments["fail_at"]
        return {
            "changed": False,
            "path": written,
            "outputs": outputs,
            "history_record": record,
            "summary": summary,
            "ansible_stats": _report_file.stats("tracktion_report", summary),
            "not_evaluated": not_evaluated,
            "failed_actions": len(_remediation.failed(remediation)) if remediation else 0,
            "all_refused": all_refused,
            # An area that could not be evaluated may be as bad as fail_at.
            "reaches_fail_at": fail_at != NEVER
            and (
                bool(not_evaluated)
                or _evaluation.STATUSES.index(report["status"]) >= _evaluation.STATUSES.index(fail_at)
            ),
        }

    def _take_part_in_history(self, report: Report, arguments: Values) -> str | None:
        """Add to the report what earlier runs say; return this run, if another host keeps the history."""
        limits = _history_store.Limits(arguments["history_runs"], arguments["history_days"], arguments["history_bytes"])
        path = None
        if not arguments["history"]:
            path = arguments["history_dir"] or os.path.join(arguments["directory"], "history")
        try:
            return _history_file.take_part(
                report, path and os.path.abspath(path), arguments["history"], limits, self._display.warning
            )
        except Exception as exc:  # pylint: disable=broad-except
            # Files of the history may hold anything. The report is more important.
            self._display.warning(clean("History of runs: not used: %s: %s" % (type(exc).__name__, exc)))
            return None

    def _remediation(self, plan: Mapping[str, Any], after: list[Finding]) -> tuple[Remediation, bool]:
        """Return the part ``remediation`` of the report, and whether all approved actions were refused."""
        try:
            outcomes = _runs.outcomes(self._display.warning)
        except OSError as exc:
            self._display.warning(clean("ANSIBLE_LOCAL_TEMP: the outcomes cannot be read: %s" % exc.strerror))
            outcomes = []
        proposed = json.loads(plan["proposed"]) if plan["proposed"] else _remediation.carried_out(outcomes)
        known = {"run": plan["run"], "proposed": proposed, "unfinished": plan["unfinished"]}
        check_mode = self._task.check_mode
        section = _remediation.section(
            known, outcomes, json.loads(plan["before"]), after, set(plan["hosts"]), check_mode
        )
        return section, _remediation.all_refused(proposed, outcomes, check_mode)


def _before(evaluated: _evaluated_run.EvaluatedRun, task_vars: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report about a run without a plan gets as its plan."""
    return {
        "run": _runs.start(task_vars),
        "hosts": [host["name"] for host in evaluated.hosts],
        "before": json.dumps(evaluated.findings),
        "proposed": None,
        "unfinished": [],
    }
