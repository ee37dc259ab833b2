# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of a step: whether another run is alive, whether to go on, and the controller's own log."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ansible.plugins.action import ActionBase
from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries
from ansible_collections.tracktion.ops.plugins.plugin_utils import _journals, _outcome, _runs
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean

# The longest wait for measurements to show what was done.
SETTLE_MOST = 60.0


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    @inert
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = self._task.args
        steps = {"begun": self._begin, "ended": self._end, "released": self._release}
        return steps.get(arguments["state"], self._on_host)(arguments, task_vars)

    def _begin(self, arguments, task_vars):
        action = arguments["action"]
        try:
            done = _runs.outcomes(self._display.warning)
        except OSError as exc:
            return self._refuse(action, "ANSIBLE_LOCAL_TEMP: %s" % exc.strerror)
        stop = _outcome.reason_to_stop(action, done, int(arguments["max_failures"]))
        # In check mode nothing has been done, and what fails may do so because of that.
        if stop and not self._task.check_mode:
            return self._refuse(action, stop)
        entry = _outcome.entry(arguments["run"], action)
        step = {**arguments, "entry": entry, "cooldown": action["cooldown"]}
        answer = self._retry_after_stale_lock(step, task_vars)
        if answer.get("go") is False:
            refusal = _journals.refusal(answer)
            if refusal:
                return self._refuse(action, _outcome.why_not(*refusal, action))
        if answer.get("go") is not True:
            return self._cannot_begin(entry, answer)
        if not self._task.check_mode:
            try:
                self._audit(arguments, entry, "intent")
            except OSError as exc:
                return self._cannot_begin(entry, {"msg": "%s: %s" % (arguments["audit_path"], exc.strerror)})
        return {**answer, "changed": False}

    def _cannot_begin(self, entry, answer):
        """Nothing is done that cannot be written down first; the other hosts go on, and the report says it."""
        message = str(answer.get("msg") or "the host sent a malformed answer")[:1000]
        self._note({**entry, "outcome": "failed", "changed": False, "message": message, "time": time.time()})
        return {"changed": False, "go": False, "reason": message}

    def _refuse(self, action, reason):
        """Not carried out, as something that has changed since the plan was made stands against it."""
        self._note({"action": action["action"], "outcome": "refused", "reason": reason})
        return {"changed": False, "go": False, "reason": reason}

    def _note(self, outcome):
        try:
            _runs.note_outcome(outcome)
        except OSError as exc:
            self._display.warning(clean("ANSIBLE_LOCAL_TEMP: the report will lack an outcome: %s" % exc.strerror))

    def _end(self, arguments, task_vars):
        action, result = arguments["action"], arguments.get("result")
        result = result if isinstance(result, Mapping) else {}
        try:
            entry = _outcome.entry(arguments["run"], action, result, self._task.check_mode)
        except (RecursionError, ArithmeticError, LookupError, TypeError, ValueError) as exc:
            # It comes from a host. The other hosts are still to be acted on, so this task must not fail.
            malformed = {"failed": True, "changed": True, "msg": "the result is malformed: %s" % exc}
            entry = _outcome.entry(arguments["run"], {**action, "result": [], "undo": None}, malformed)
        self._note({**entry, "time": time.time()})
        if self._task.check_mode:
            return {"changed": False, "failed": False}
        # First here: the host may have gone. It has been done by now, so what cannot be written is only warned of.
        try:
            self._audit(arguments, entry, "outcome")
        except OSError as exc:
            self._display.warning(clean("%s: the outcome is missing: %s" % (arguments["audit_path"], exc.strerror)))
        answer = self._on_host({**arguments, "entry": entry}, task_vars)
        if answer.get("failed"):
            self._display.warning(clean("the outcome is missing in the log of the host: %s" % answer.get("msg")))
        return {"changed": False, "error": answer.get("error")}

    def _audit(self, arguments, entry, event):
        _runs.audit(arguments["audit_path"], [{**entry, "event": event, "time": time.time()}])

    def _release(self, arguments, task_vars):
        answer = self._retry_after_stale_lock(arguments, task_vars)
        if arguments.get("settle") and not self._task.check_mode:
            wait = min(self._unsettled_seconds(), SETTLE_MOST)
            if wait > 0:
                self._display.display("Waiting %.0f s for the services to tell what has changed" % wait)
                time.sleep(wait)
        return {**answer, "changed": False}

    def _unsettled_seconds(self):
        try:
            return _outcome.unsettled_seconds(_runs.outcomes(), time.time())
        except OSError:
            # Noted as missing when they were written.
            return SETTLE_MOST

    def _retry_after_stale_lock(self, step, task_vars):
        """The step on the host; once more where the lock in its way is that of a run whose process is gone."""
        answer = self._on_host(step, task_vars)
        lock = _journal_entries.lock(answer.get("lock"))
        if lock and _runs.is_dead(lock):
            answer = self._on_host({**step, "break_run": lock["run"]}, task_vars)
        return answer

    def _on_host(self, arguments, task_vars):
        known = ("state", "directory", "run", "lease", "entry", "cooldown", "break_run")
        return self._execute_module(
            module_name="tracktion.ops.remediation_journal",
            module_args={name: arguments[name] for name in known if arguments.get(name) is not None},
            task_vars=task_vars,
        )
