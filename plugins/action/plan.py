# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evaluates the measurements of the visits and plans actions. Runs once, on the controller."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.color import ANSIBLE_COLOR
from ansible_collections.tracktion.ops.plugins.module_utils import _safe_files
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _evaluated_run,
    _journals,
    _plan,
    _plan_seal,
    _remedies,
    _report_file,
    _runs,
    _shared,
    _terminal_plan,
)
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Action, Values

SPEC: dict[str, Values] = {
    "risk": {"type": "str", "choices": list(_remedies.RISKS), "default": "safe"},
    "confirm": {"type": "list", "elements": "str", "default": []},
    "only": {"type": "list", "elements": "str", "default": []},
    "skip": {"type": "list", "elements": "str", "default": []},
    "max_actions": {"type": "int", "default": 20},
    "cooldown": {"type": "float"},
    "plan_file": {"type": "path"},
    "plan": {"type": "str"},
    "plan_max_age": {"type": "int", "default": 86400},
    "plan_key": {"type": "str", "no_log": True},
    "audit_path": {"type": "path", "required": True},
}
PLAN_BYTES = 16 << 20


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    @inert
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(SPEC)
        now, check_mode, awx = time.time(), self._task.check_mode, _runs.in_awx(task_vars)
        key = partial(_plan_seal.key, arguments["plan_key"], awx)
        limits = _plan.Limits(
            risk=arguments["risk"],
            confirm=arguments["confirm"],
            only=arguments["only"],
            skip=arguments["skip"],
            max_actions=arguments["max_actions"],
            cooldown=arguments["cooldown"],
        )
        try:
            approved = None if check_mode else self._approved(arguments, now, key)
        except _plan.BadPlan as exc:
            raise AnsibleActionFail(str(exc)) from exc
        evaluated = _evaluated_run.evaluate(task_vars)
        _reject_unmatched(limits, evaluated.checks.ids())
        journals = {host: _journals.from_result(sent) for host, sent in evaluated.journals.items()}
        for host, journal in journals.items():
            for problem in journal["problems"]:
                self._display.warning(clean("%s: %s" % (host, problem)))
        made = _plan.actions(evaluated.findings, limits, evaluated.probe_hosts, journals, now, approved)
        run = _runs.start(task_vars)
        unfinished = _journals.left_unfinished(journals, evaluated.probe_hosts)
        if not check_mode:
            _open_audit(arguments["audit_path"])

        written = document = None
        if check_mode:
            document = _plan.document(run, made, now, limits, self._key_to_seal(key, made))
            written = _write(document, arguments["plan_file"])
        text = _terminal_plan.plan(made, unfinished, limits, check_mode, approved is not None, written, awx)
        self._display.display("\n" + _terminal_plan.painted(text, bool(ANSIBLE_COLOR)))
        planned = [action for action in made if action["status"] == "planned"]
        known = {host["name"] for host in evaluated.hosts}
        hosts = [action["host"] for action in planned] + [
            entry["host"] for entry in unfinished if entry["host"] in known
        ]
        hosts = list(dict.fromkeys(hosts))
        # An action on a shared service changes the findings of all of its hosts.
        revisited = _shared.sharing(hosts, evaluated.findings)
        result: Values = {
            "changed": False,
            "run": run,
            "planned": len(planned),
            "refused": len(made) - len(planned),
            "hosts": hosts,
            "actions": {host: [each for each in planned if each["host"] == host] for host in hosts},
            "before": json.dumps(evaluated.findings),
            "proposed": json.dumps(made),
            "unfinished": unfinished,
            # The hosts of a later play can be set from a fact, and not from a registered variable.
            "ansible_facts": {
                "tracktion_hosts_to_act": hosts,
                "tracktion_hosts_to_revisit": [] if check_mode else revisited,
            },
        }
        if document:
            stats = {"tracktion_plan": _plan.as_text(document), "tracktion_plan_summary": _plan.summary(made)}
            result["ansible_stats"] = {"data": stats, "per_host": False, "aggregate": False}
        return result

    def _key_to_seal(self, key: Callable[[], bytes], made: Sequence[Action]) -> bytes | None:
        """Return the key of a new plan; null if there is none, with a warning if the plan has an action."""
        try:
            return key()
        except _plan_seal.NoKey as exc:
            if any(action["status"] == "planned" for action in made):
                self._display.warning(clean("No run can carry out this plan: %s" % exc))
            return None

    def _approved(self, arguments: Mapping[str, Any], now: float, key: Callable[[], bytes]) -> Values | None:
        """Return the plan that this run carries out, or null if it makes its own. Raises BadPlan."""
        plan, source = arguments["plan"], "tracktion_plan"
        if not plan and arguments["plan_file"]:
            source = "tracktion_plan_file"
            try:
                # The file may belong to any user: the seal is verified.
                plan = _safe_files.read_regular(arguments["plan_file"], PLAN_BYTES).decode("utf-8")
            except OSError as exc:
                raise _plan.BadPlan(
                    "tracktion_plan_file: %s cannot be read: %s. A run with --check writes it"
                    % (arguments["plan_file"], exc.strerror)
                ) from exc
            except UnicodeDecodeError as exc:
                raise _plan.BadPlan("tracktion_plan_file: is not a plan: it is not UTF-8") from exc
        if not plan:
            return None
        return _plan.checked(_plan.from_text(plan, source), now, arguments["plan_max_age"], source, key)


def _reject_unmatched(limits: _plan.Limits, ids: set[str]) -> None:
    """Raise AnsibleActionFail for an entry of the limits that matches no check and no remedy."""
    for option, patterns in (("tracktion_only", limits.only), ("tracktion_skip", limits.skip)):
        for pattern in _plan.unmatched(patterns, ids):
            raise AnsibleActionFail(
                "%s: %r is no id of a check or a remedy of the areas visited, and no fingerprint (docs/checks.md "
                "lists the ids; a pattern such as database.* matches many)" % (option, pattern)
            )
    for name in limits.confirm:
        if name.partition(":")[0] not in ids or ":" not in name:
            raise AnsibleActionFail(
                "tracktion_confirm: %r does not name a remedy and its target, as "
                "message_queue.purge:audio.analysis.requests does" % name
            )


def _open_audit(path: str) -> None:
    """Raise AnsibleActionFail, before any action, if the audit log cannot be written."""
    try:
        _runs.audit(path, [])
    except OSError as exc:
        raise AnsibleActionFail(
            "tracktion_audit_file: the audit log cannot be written to %s: %s. Nothing was done" % (path, exc.strerror)
        ) from exc


def _write(document: Values, path: str | None) -> str | None:
    """Write the plan to a file, if one is set, and return its path."""
    if not path:
        return None
    try:
        _report_file.write(document, os.path.abspath(path), sticky=True)
    except OSError as exc:
        raise AnsibleActionFail(
            "tracktion_plan_file: the plan cannot be written to %s: %s" % (path, exc.strerror)
        ) from exc
    return path
