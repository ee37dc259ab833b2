# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of remediations and the audit log around a restart. Private to this collection."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Iterator, Mapping

from ansible_collections.tracktion.ops.plugins.module_utils import _journal
from ansible_collections.tracktion.ops.plugins.module_utils._docker import _stack_order
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import Failure
from ansible_collections.tracktion.ops.plugins.module_utils._recovery import _operation_records, _operations
from ansible_collections.tracktion.ops.plugins.module_utils._recovery._operations import Operation
from ansible_collections.tracktion.ops.plugins.module_utils._types import Options, Part

REMEDY = "recovery.restart"
# A remediation may act again after this, if the process of a restart was killed.
LOCK_SECONDS = 900.0


class Locked(Failure):
    """A remediation is acting on this host."""

    kind = "busy"


@contextlib.contextmanager
def audited(options: Options, project: str, operation: Operation) -> Iterator[dict[str, Any]]:
    """Hold the lock of remediations, and log the intent and the outcome; the caller fills in the result.

    A later module of a joined operation is part of an action that is logged already. Raises Locked and CannotKeep.
    """
    outcome: dict[str, Any] = {}
    if options["operation"]:
        yield outcome
        return
    journal = _journal.Journal(options["state_dir"])
    run_fields = {
        "run": operation.id,
        "who": operation.record["who"],
        "controller": operation.record["controller"],
        "pid": operation.record["controller_pid"],
        "pid_start": operation.record["controller_start"],
    }
    entry = entry_of(options, project, operation)
    lease = max(LOCK_SECONDS, options["deadline"])
    try:
        lock = journal.read()["lock"]
        # No other restart runs now, so the lock of one is that of a process that was killed.
        dead = lock["run"] if lock and lock["run"].startswith("restart-") else None
        permission = journal.begin(run_fields, entry, lease, 0, break_run=dead)
        if not permission["go"]:
            raise _locked(permission["lock"] or {})
        try:
            yield outcome
        finally:
            # The steps are done: an error must not hide their results.
            try:
                journal.end(run_fields, {**entry, **_outcome_of(outcome)}, lease)
                journal.release(run_fields)
            except _journal.CannotKeep as exc:
                outcome.setdefault("lines", []).append("note: the audit log lacks the outcome: %s" % exc)
    except _journal.CannotKeep as exc:
        raise _operations.CannotKeep(str(exc)) from exc


def entry_of(options: Options, project: str, operation: Operation) -> Part:
    """Return the entry of the audit log."""
    return {
        "run": operation.id,
        "who": operation.record["who"],
        "host": options["run"].get("host") or os.uname().nodename,
        "action": REMEDY,
        "remedy": REMEDY,
        "risk": "disruptive",
        "data_loss": "none",
        "target": project,
        "does": _stack_order.does(options, project),
    }


def _outcome_of(result: Mapping[str, Any]) -> Part:
    failed = bool(result.get("failed")) or not result
    return {
        "outcome": "failed" if failed else "changed" if result["changed"] else "ok",
        "changed": bool(result.get("changed", True)),
        "message": result.get("msg") or ("interrupted" if not result else None),
        "result": {"lines": list(result.get("lines") or [])[:50]},
        "undo": None,
    }


def _locked(lock: Mapping[str, Any]) -> Locked:
    return Locked(
        "a remediation is running on this host: %s, since %s" % (lock["who"], _operation_records.clock(lock["since"])),
        "Run again when it has ended, or after %s, when its lock ends" % _operation_records.clock(lock["until"]),
    )
