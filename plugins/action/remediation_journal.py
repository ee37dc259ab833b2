# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's part of M(tracktion.ops.remediation_journal): stale locks, reasons to stop, the controller's log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries
from ansible_collections.tracktion.ops.plugins.plugin_utils import _journals, _outcome, _runs
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values

# The longest wait until measurements show the effect of actions.
SETTLE_MOST = 60.0
ON_HOST = ("state", "directory", "run", "lease", "entry", "cooldown", "break_run")


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    @inert
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = self._task.args
        steps = {"begun": self._begin, "ended": self._end, "released": self._release}
        return steps[arguments["state"]](arguments, task_vars)

    def _begin(self, arguments: Mapping[str, Any], task_vars: Values) -> Values:
        action = arguments["action"]
        try:
            done = _runs.outcomes(self._display.warning)
        except OSError as exc:
            return self._refuse(action, "ANSIBLE_LOCAL_TEMP: %s" % exc.strerror)
        stop = _outcome.reason_to_stop(action, done, int(arguments["max_failures"]))
        # In check mode an action may fail because the actions before it were not carried out.
        if stop and not self._task.check_mode:
            return self._refuse(action, stop)
        entry = _outcome.entry(arguments["run"], action)
        step = {**arguments, "entry": entry, "cooldown": action["cooldown"]}
        result = self._retry_after_stale_lock(step, task_vars)
        if result.get("go") is False:
            refusal = _journals.refusal(result, action)
            if refusal:
                return self._refuse(action, refusal)
        if result.get("go") is not True:
            return self._cannot_begin(entry, str(result.get("msg") or "the host sent a malformed result"))
        if not self._task.check_mode:
            try:
                self._audit(arguments, entry, "intent")
            except OSError as exc:
                return self._cannot_begin(entry, "%s: %s" % (arguments["audit_path"], exc.strerror))
        return {**result, "changed": False}

    def _cannot_begin(self, entry: Values, message: str) -> Values:
        """Note that an action failed because its intent cannot be logged. The task does not fail: other hosts go on."""
        message = message[:1000]
        self._note({**entry, "outcome": "failed", "changed": False, "message": message, "time": time.time()})
        return {"changed": False, "go": False, "reason": message}

    def _refuse(self, action: Mapping[str, Any], reason: str) -> Values:
        """Note that an action is refused for a reason that is newer than the plan."""
        self._note({"action": action["action"], "outcome": "refused", "reason": reason})
        return {"changed": False, "go": False, "reason": reason}

    def _note(self, outcome: Values) -> None:
        try:
            _runs.note_outcome(outcome)
        except OSError as exc:
            self._display.warning(clean("ANSIBLE_LOCAL_TEMP: an outcome is missing in the report: %s" % exc.strerror))

    def _end(self, arguments: Mapping[str, Any], task_vars: Values) -> Values:
        action, result = arguments["action"], arguments.get("result")
        result = result if isinstance(result, Mapping) else {}
        try:
            entry = _outcome.entry(arguments["run"], action, result, self._task.check_mode)
        except (RecursionError, ArithmeticError, LookupError, TypeError, ValueError) as exc:
            # A malformed result of a host must not fail this task: other hosts go on.
            malformed = {"failed": True, "changed": True, "msg": "the result is malformed: %s" % exc}
            entry = _outcome.entry(arguments["run"], {**action, "result": [], "undo": None}, malformed)
        self._note({**entry, "time": time.time()})
        if self._task.check_mode:
            return {"changed": False, "failed": False}
        # The controller's log first, because the host may be unreachable now. The action is done: errors are warnings.
        try:
            self._audit(arguments, entry, "outcome")
        except OSError as exc:
            self._display.warning(clean("%s: the outcome is missing: %s" % (arguments["audit_path"], exc.strerror)))
        logged = self._on_host({**arguments, "entry": entry}, task_vars)
        if logged.get("failed"):
            self._display.warning(clean("the outcome is missing in the log of the host: %s" % logged.get("msg")))
        return {"changed": False, "error": logged.get("error")}

    def _audit(self, arguments: Mapping[str, Any], entry: Values, event: str) -> None:
        _runs.audit(arguments["audit_path"], [{**entry, "event": event, "time": time.time()}])

    def _release(self, arguments: Mapping[str, Any], task_vars: Values) -> Values:
        result = self._retry_after_stale_lock(arguments, task_vars)
        if arguments.get("settle") and not self._task.check_mode:
            wait = min(self._unsettled_seconds(), SETTLE_MOST)
            if wait > 0:
                self._display.display("Waiting %.0f s until measurements show the effect of the actions" % wait)
                time.sleep(wait)
        return {**result, "changed": False}

    def _unsettled_seconds(self) -> float:
        try:
            return _outcome.unsettled_seconds(_runs.outcomes(), time.time())
        except OSError:
            # A warning was shown when they could not be written.
            return SETTLE_MOST

    def _retry_after_stale_lock(self, step: Mapping[str, Any], task_vars: Values) -> Values:
        """Run a step on the host; again if it failed because of the lock of a run whose process has ended."""
        result = self._on_host(step, task_vars)
        lock = _journal_entries.lock(result.get("lock"))
        if lock and _runs.is_dead(lock):
            result = self._on_host({**step, "break_run": lock["run"]}, task_vars)
        return result

    def _on_host(self, arguments: Mapping[str, Any], task_vars: Values) -> Values:
        return self._execute_module(
            module_name="tracktion.ops.remediation_journal",
            module_args={name: arguments[name] for name in ON_HOST if arguments.get(name) is not None},
            task_vars=task_vars,
        )
