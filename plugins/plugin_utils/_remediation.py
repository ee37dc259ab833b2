# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of a remediation: each action, and each finding before and after. Pure. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES, fingerprint
from ansible_collections.tracktion.ops.plugins.plugin_utils._groups import hosts_of
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import (
    Action,
    Change,
    ChangedFinding,
    Finding,
    Remediation,
    Values,
)

# From better to worse.
CHANGES: tuple[Change, ...] = ("fixed", "better", "still there", "unknown", "worse", "new")
OF_ACTION = (
    "action", "host", "remedy", "title", "risk", "data_loss", "target", "does", "vars", "evidence", "status", "reason",
    "blocked",
)  # fmt: skip
OF_OUTCOME = ("outcome", "changed", "message", "result", "undo")
OF_UNFINISHED = ("run", "who", "host", "time", "remedy", "target", "does")
FAILED = ("failed", "unreachable", "not run")


def section(
    plan: Mapping[str, Any],
    outcomes: Iterable[Values],
    before: Sequence[Finding],
    after: Sequence[Finding],
    hosts: set[str],
    check_mode: bool,
) -> Remediation:
    """Return the part ``remediation`` of the report.

    ``plan``: ``run``, ``proposed`` (actions) and ``unfinished``. ``outcomes``: the entries of this run. ``hosts``: the
    hosts that were visited again; the others have no finding after.
    """
    by_action = {entry["action"]: entry for entry in outcomes}
    hosts = set() if check_mode else hosts
    changed = changes(before, after, hosts)
    by_fingerprint = {change["fingerprint"]: change["change"] for change in changed}
    return {
        "run": plan["run"]["run"],
        "who": plan["run"]["who"],
        "check_mode": check_mode,
        "actions": [_action(action, by_action.get(action["action"]), by_fingerprint) for action in plan["proposed"]],
        "changes": changed,
        "measured_again": sorted(hosts),
        "not_measured_again": sum(not hosts.intersection(hosts_of(finding)) for finding in before),
        "unfinished": [{key: entry.get(key) for key in OF_UNFINISHED} for entry in plan["unfinished"]],
    }


def carried_out(outcomes: Iterable[Values]) -> list[Any]:
    """Return the actions of a run without a plan, by their outcomes."""
    known: Values = {"evidence": None, "status": "planned", "reason": None, "blocked": None, "vars": {}, "findings": []}
    known["approved"] = False
    return [{**known, **{name: entry[name] for name in OF_ACTION if name in entry}} for entry in outcomes]


def _action(action: Mapping[str, Any], outcome: Values | None, by_fingerprint: Mapping[str, Change]) -> Values:
    made = {name: action[name] for name in OF_ACTION}
    made.update(dict.fromkeys(OF_OUTCOME))
    if outcome and outcome["outcome"] == "refused":
        # Planned, and refused when it was to be carried out.
        made.update(status="refused", reason=outcome["reason"])
    elif outcome:
        made.update({name: outcome.get(name) for name in OF_OUTCOME})
    elif action["status"] == "planned":
        made.update(outcome="not run", message="the run ended before this action")
    made["findings"] = [
        {
            "id": about["id"],
            "object": about["object"],
            "fingerprint": about["fingerprint"],
            "change": by_fingerprint.get(about["fingerprint"]),
        }
        for about in action["findings"]
    ]
    return made


def changes(before: Sequence[Finding], after: Sequence[Finding], hosts: set[str]) -> list[ChangedFinding]:
    """Return the changes of all findings of the hosts that were visited again, the worst first."""
    then = {finding["fingerprint"]: finding for finding in before if hosts.intersection(hosts_of(finding))}
    # A finding about a shared service may be listed under another one of its hosts now.
    names = {
        fingerprint(finding["id"], host, finding["object"]): finding["fingerprint"]
        for finding in then.values()
        for host in hosts_of(finding)
    }
    now = {
        names.get(finding["fingerprint"], finding["fingerprint"]): finding
        for finding in after
        if hosts.intersection(hosts_of(finding))
    }
    # A finding is not fixed if its check, or its host, could not be measured again.
    unknown_checks = {(finding["host"], finding["id"]) for finding in now.values() if finding["status"] == "unknown"}
    lost_hosts = {finding["host"] for finding in now.values() if finding["area"] == "host"}
    made: list[ChangedFinding] = []
    for key in dict.fromkeys([*then, *now]):
        old, new = then.get(key), now.get(key)
        finding = new or then[key]
        change = _change(old, new)
        if new is None and ((finding["host"], finding["id"]) in unknown_checks or finding["host"] in lost_hosts):
            change = "unknown"
        made.append(
            {
                "id": finding["id"],
                "host": finding["host"],
                "object": finding["object"],
                "summary": finding["summary"],
                "fingerprint": key,
                "before": old["status"] if old else "ok",
                "after": new["status"] if new else "unknown" if change == "unknown" else "ok",
                "change": change,
            }
        )
    made.sort(key=lambda entry: (-CHANGES.index(entry["change"]), entry["host"], entry["id"], entry["object"] or ""))
    return made


def _change(old: Finding | None, new: Finding | None) -> Change:
    if old is None:
        return "new"
    if new is None:
        return "fixed"
    if new["status"] == "unknown" and old["status"] != "unknown":
        return "unknown"
    difference = STATUSES.index(new["status"]) - STATUSES.index(old["status"])
    return "still there" if difference == 0 else "worse" if difference > 0 else "better"


def failed(remediation: Remediation) -> list[Values]:
    """Return the actions that failed, or could not be started."""
    return [action for action in remediation["actions"] if action["outcome"] in FAILED or action["blocked"]]


def all_refused(proposed: Iterable[Action], outcomes: Iterable[Values], check_mode: bool) -> bool:
    """Return whether actions were approved and all of them were refused. Actions no longer needed do not count."""
    if check_mode:
        return False
    refused = {entry["action"] for entry in outcomes if entry["outcome"] == "refused"}
    approved = [action for action in proposed if action["approved"]]
    return bool(approved) and all(action["status"] == "refused" or action["action"] in refused for action in approved)


def summary(remediation: Remediation | None, most: int = 20) -> Values | None:
    """Return the remediation in short, for set_stats."""
    if remediation is None:
        return None
    keys = ("host", "remedy", "target", "status", "reason", "outcome", "message", "undo")
    numbers = dict.fromkeys(CHANGES, 0)
    for change in remediation["changes"]:
        numbers[change["change"]] += 1
    return {
        "run": remediation["run"],
        "check_mode": remediation["check_mode"],
        "actions": [{key: action[key] for key in keys} for action in remediation["actions"][:most]],
        "actions_left_out": max(0, len(remediation["actions"]) - most),
        "not_measured_again": remediation["not_measured_again"],
        "changes": numbers,
    }
