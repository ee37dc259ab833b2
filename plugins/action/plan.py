# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Judges what the visits brought home, and decides what may be done about it. Runs once, on the controller."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.color import ANSIBLE_COLOR
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _plan,
    _remedies,
    _report_file,
    _runs,
    _shared,
    _terminal_plan,
    _verdict,
)
from ansible_collections.tracktion.ops.plugins.plugin_utils._inert import inert

SPEC = {
    "risk": {"type": "str", "choices": list(_remedies.RISKS), "default": "safe"},
    "confirm": {"type": "list", "elements": "str", "default": []},
    "only": {"type": "list", "elements": "str", "default": []},
    "skip": {"type": "list", "elements": "str", "default": []},
    "max_actions": {"type": "int", "default": 20},
    "cooldown": {"type": "float"},
    "plan_file": {"type": "path"},
    "plan": {"type": "str"},
    "plan_max_age": {"type": "int", "default": 86400},
    "audit_path": {"type": "path", "required": True},
}


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    @inert
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(SPEC)
        now, check_mode = time.time(), self._task.check_mode
        limits = _plan.Limits(
            **{name: arguments[name] for name in ("risk", "confirm", "only", "skip", "max_actions", "cooldown")}
        )
        try:
            approved = None if check_mode else self._approved(arguments, now)
        except _plan.BadPlan as exc:
            raise AnsibleActionFail(str(exc)) from exc
        verdict = _verdict.judge(task_vars)
        self._refuse_strangers(limits, verdict)
        journals = _journals(task_vars["hostvars"])
        made = _plan.actions(verdict.findings, limits, verdict.places, journals, now, approved)
        run = _runs.start(task_vars)
        left = _left_unfinished(journals)
        if not check_mode:
            self._open_audit(arguments["audit_path"])

        document = _plan.document(run, made, now, limits)
        written = self._write(document, arguments["plan_file"]) if check_mode else None
        text = _terminal_plan.plan(made, left, limits, check_mode, approved is not None, written)
        self._display.display("\n" + _terminal_plan.painted(text, bool(ANSIBLE_COLOR)))
        planned = [action for action in made if action["status"] == "planned"]
        known = {host["name"] for host in verdict.hosts}
        hosts = [action["host"] for action in planned] + [entry["host"] for entry in left if entry["host"] in known]
        hosts = list(dict.fromkeys(hosts))
        # What was done to a shared service shows on all of its hosts.
        revisited = _shared.sharing(hosts, verdict.findings)
        result = {
            "changed": False,
            "run": run,
            "planned": len(planned),
            "refused": len(made) - len(planned),
            "hosts": hosts,
            "actions": {host: [each for each in planned if each["host"] == host] for host in hosts},
            "before": json.dumps(verdict.findings),
            "proposed": json.dumps(made),
            "unfinished": left,
            # For the plays that act and that measure again: their hosts can be told by a fact, not by a register.
            "ansible_facts": {
                "tracktion_hosts_to_act": hosts,
                "tracktion_hosts_to_revisit": [] if check_mode else revisited,
            },
        }
        if check_mode:
            stats = {"tracktion_plan": _plan.as_text(document)}
            result["ansible_stats"] = {"data": stats, "per_host": False, "aggregate": False}
        return result

    def _approved(self, arguments, now):
        """The plan that this run carries out, or null where it makes its own."""
        plan, source = arguments["plan"], "tracktion_plan"
        if not plan and arguments["plan_file"]:
            source = "tracktion_plan_file"
            try:
                with open(arguments["plan_file"], encoding="utf-8") as stream:
                    plan = stream.read()
            except OSError as exc:
                raise _plan.BadPlan(
                    "tracktion_plan_file: %s cannot be read: %s. A run with --check writes it"
                    % (arguments["plan_file"], exc.strerror)
                ) from exc
        if not plan:
            return None
        return _plan.checked(_plan.from_text(plan, source), now, arguments["plan_max_age"], source)

    def _refuse_strangers(self, limits, verdict):
        ids = verdict.judges.ids()
        for option, patterns in (("tracktion_only", limits.only), ("tracktion_skip", limits.skip)):
            for pattern in _plan.strangers(patterns, ids):
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

    def _open_audit(self, path):
        """Fail before anything is done where nothing could be written down."""
        try:
            _runs.audit(path, [])
            with open(path, "a", encoding="utf-8"):
                pass
        except OSError as exc:
            raise AnsibleActionFail(
                "tracktion_audit_file: the audit log cannot be written to %s: %s. Nothing was done"
                % (path, exc.strerror)
            ) from exc

    def _write(self, document, path):
        if not path:
            return None
        try:
            _report_file.write(document, os.path.abspath(path))
        except OSError as exc:
            raise AnsibleActionFail(
                "tracktion_plan_file: the plan cannot be written to %s: %s" % (path, exc.strerror)
            ) from exc
        return path


def _journals(hostvars):
    """By place, what its journal holds: ``{lock, done, unfinished, error}``; the lock only where it counts."""
    journals = {}
    for name in hostvars:
        registered = hostvars.raw_get(name).get("tracktion_journal")
        if isinstance(registered, Mapping):
            for answer in registered.get("results") or []:
                journals[answer["tracktion_place"]] = _journal(answer)
    return journals


def _journal(answer):
    if "done" not in answer:
        error = "its audit log cannot be read: %s" % answer.get("msg", "it did not answer")
        return {"lock": None, "done": [], "unfinished": [], "error": error}
    lock = answer["lock"]
    counts = lock and not lock["stale"] and not _runs.is_dead(lock)
    return {**{name: answer[name] for name in ("done", "unfinished", "error")}, "lock": lock if counts else None}


def _left_unfinished(journals):
    """Intents of runs that are over, whose outcome nobody knows."""
    return [
        entry
        for journal in journals.values()
        for entry in journal["unfinished"]
        if not journal["lock"] or journal["lock"]["run"] != entry["run"]
    ]
