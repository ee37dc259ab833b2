# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a remediation came to: each action, and each finding before and after. Pure. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES, fingerprint
from ansible_collections.tracktion.ops.plugins.plugin_utils._groups import hosts_of

# How a finding has fared, from good news to bad.
CHANGES = ("fixed", "better", "still there", "unknown", "worse", "new")
OF_ACTION = (
    "action", "host", "remedy", "title", "risk", "data_loss", "target", "does", "vars", "evidence", "status", "reason",
    "blocked",
)  # fmt: skip
OF_OUTCOME = ("outcome", "changed", "message", "result", "undo")
FAILED = ("failed", "unreachable", "not run")


def section(plan, outcomes, before, after, hosts, check_mode):
    """The part ``remediation`` of the report.

    ``plan``: ``run``, ``proposed`` (actions) and ``unfinished``. ``outcomes``: the entries of this run. ``before`` and
    ``after``: findings; ``hosts``: the hosts that were visited again, all others have no after.
    """
    by_action = {entry["action"]: entry for entry in outcomes}
    hosts = set() if check_mode else hosts
    changed = changes(before, after, hosts)
    by_fingerprint = {change["fingerprint"]: change for change in changed}
    return {
        "run": plan["run"]["run"],
        "who": plan["run"]["who"],
        "check_mode": check_mode,
        "actions": [_action(action, by_action.get(action["action"]), by_fingerprint) for action in plan["proposed"]],
        "changes": changed,
        "measured_again": sorted(hosts),
        "not_measured_again": sum(not hosts.intersection(hosts_of(finding)) for finding in before),
        "unfinished": [
            {key: entry.get(key) for key in ("run", "who", "host", "time", "remedy", "target", "does")}
            for entry in plan["unfinished"]
        ],
    }


def _action(action, outcome, by_fingerprint):
    made = {name: action[name] for name in OF_ACTION}
    made.update(dict.fromkeys(OF_OUTCOME))
    if outcome and outcome["outcome"] == "refused":
        # Something came up between the plan and the act.
        made.update(status="refused", reason=outcome["reason"])
    elif outcome:
        made.update({name: outcome.get(name) for name in OF_OUTCOME})
    elif action["status"] == "planned":
        made.update(outcome="not run", message="the run did not come to it")
    made["findings"] = [
        {
            "id": about["id"],
            "object": about["object"],
            "fingerprint": about["fingerprint"],
            "change": by_fingerprint.get(about["fingerprint"], {}).get("change"),
        }
        for about in action["findings"]
    ]
    return made


def changes(before, after, hosts):
    """How the findings of the hosts that were visited again have fared: one entry a finding, the worst news first."""
    then = {finding["fingerprint"]: finding for finding in before if hosts.intersection(hosts_of(finding))}
    # A finding about a service that several hosts share may stand under another one of them now.
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
    # What could not be looked at again has not been fixed by that.
    silent = {(finding["host"], finding["id"]) for finding in now.values() if finding["status"] == "unknown"}
    lost = {finding["host"] for finding in now.values() if finding["area"] == "host"}
    made = []
    for key in dict.fromkeys([*then, *now]):
        old, new = then.get(key), now.get(key)
        finding = new or old
        change = _change(old, new)
        if new is None and ((old["host"], old["id"]) in silent or old["host"] in lost):
            change = "unknown"
        made.append(
            {
                **{name: finding[name] for name in ("id", "host", "object", "summary")},
                "fingerprint": key,
                "before": old["status"] if old else "ok",
                "after": new["status"] if new else "unknown" if change == "unknown" else "ok",
                "change": change,
            }
        )
    made.sort(key=lambda entry: (-CHANGES.index(entry["change"]), entry["host"], entry["id"], entry["object"] or ""))
    return made


def _change(old, new):
    if old is None:
        return "new"
    if new is None:
        return "fixed"
    if new["status"] == "unknown" and old["status"] != "unknown":
        return "unknown"
    difference = STATUSES.index(new["status"]) - STATUSES.index(old["status"])
    return "still there" if difference == 0 else "worse" if difference > 0 else "better"


def failed(remediation):
    """The actions that were to be done and were not, or could not even be begun."""
    return [action for action in remediation["actions"] if action["outcome"] in FAILED or action["blocked"]]


def all_refused(plan, outcomes, check_mode):
    """Whether actions were approved and none of them was begun. Those that are no longer needed do not count."""
    if check_mode:
        return False
    refused = {entry["action"] for entry in outcomes if entry["outcome"] == "refused"}
    approved = [action for action in plan["proposed"] if action["approved"]]
    return bool(approved) and all(action["status"] == "refused" or action["action"] in refused for action in approved)


def summary(remediation, most=20):
    """What goes out by set_stats."""
    if remediation is None:
        return None
    keys = ("host", "remedy", "target", "status", "reason", "outcome", "message", "undo")
    news = dict.fromkeys(CHANGES, 0)
    for change in remediation["changes"]:
        news[change["change"]] += 1
    return {
        "run": remediation["run"],
        "check_mode": remediation["check_mode"],
        "actions": [{key: action[key] for key in keys} for action in remediation["actions"][:most]],
        "actions_left_out": max(0, len(remediation["actions"]) - most),
        "not_measured_again": remediation["not_measured_again"],
        "changes": news,
    }
