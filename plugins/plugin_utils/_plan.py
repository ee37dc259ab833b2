# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From findings to actions: what may be done about them, and why the rest may not. Pure. Private to this collection."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
from dataclasses import dataclass, field

from ansible_collections.tracktion.ops.plugins.module_utils._journal import cooling_until
from ansible_collections.tracktion.ops.plugins.plugin_utils import _outcome, _remedies
from ansible_collections.tracktion.ops.plugins.plugin_utils._report import confirmation, worst_first

SCHEMA = "tracktion.ops/plan"
SCHEMA_VERSION = 1
# Fields of a remedy's proposal that an action takes over.
OF_PROPOSAL = (
    "title", "position", "risk", "data_loss", "role", "tasks", "does", "vars", "target", "evidence", "cooldown",
    "settle", "result", "undo",
)  # fmt: skip


class BadPlan(Exception):
    """A plan or an option that cannot be used. The message names it."""


@dataclass
class Limits:
    """What a run may do, as the operator has said."""

    risk: str = "safe"
    confirm: list = field(default_factory=list)
    only: list = field(default_factory=list)
    skip: list = field(default_factory=list)
    max_actions: int = 20
    cooldown: float | None = None


def actions(findings, limits, places, journals, now, approved=None):
    """The actions that answer the findings, in the order in which they are carried out.

    What is safe comes first, what loses data last; among equals, an area's remedies in the order of their rows, where
    causes stand before what they cause. Caps and the budget go to the worst findings.

    ``places`` maps host and area to the host that it is measured from, and mended from; ``journals`` maps such a place
    to what its journal holds (``lock``, ``done``, ``error``). ``approved`` is a plan: only what it holds, and what
    still is as it was then, is done, and as it was planned.
    An action has ``status``: ``planned``, or ``refused`` with a ``reason``; ``blocked`` where the host is at fault.
    """
    found = [finding for finding in findings if finding["remedy"] and _selected(finding, limits)]
    found.sort(key=worst_first)
    made = list(_merged(found, places))
    for action in made:
        action["cooldown"] = action["cooldown"] if limits.cooldown is None else limits.cooldown
    if approved:
        made = _as_approved(made, approved, limits)
    taken = {}
    for action in made:
        journal = journals.get(action["place"]) or {"error": "its audit log was not read"}
        if action["reason"] is None:
            action["reason"] = _objection(action, limits, journal, now, approved, taken)
        action["blocked"] = bool(journal["error"]) and action["reason"] == journal["error"]
        action["status"] = "refused" if action["reason"] else "planned"
        if action["status"] == "planned":
            for key in (None, (action["host"], action["remedy"])):
                taken[key] = taken.get(key, 0) + 1
    return sorted(made, key=lambda action: (_remedies.RISKS.index(action["risk"]), action["area"], action["position"]))


def _merged(findings, places):
    """One action for each remedy and target of a host, whichever findings ask for it."""
    made = {}
    for finding in findings:
        proposal = finding["remedy"]
        key = _remedies.digest(finding["host"], proposal["id"], proposal["target"])
        about = {name: finding[name] for name in ("id", "object", "status", "fingerprint")}
        if key not in made:
            made[key] = {
                "action": key,
                "host": finding["host"],
                "area": finding["area"],
                "place": places[finding["host"], finding["area"]],
                "remedy": proposal["id"],
                **{name: proposal[name] for name in OF_PROPOSAL},
                "cap": proposal["cap"],
                "denied": proposal["denied"],
                "reason": proposal["problem"],
                "findings": [],
            }
        elif proposal["largest"]:
            mine = made[key]["vars"]
            mine.update({name: max(mine[name], value) for name, value in proposal["vars"].items()})
        made[key]["findings"].append(about)
    return made.values()


def _objection(action, limits, journal, now, approved, taken):
    """Why an action may not be carried out; null where it may. What it says is what a person has to change."""
    if action["denied"]:
        return "a deny list of the role %s protects it" % action["role"].rpartition(".")[2]
    if not approved:
        if _remedies.RISKS.index(action["risk"]) > _remedies.RISKS.index(limits.risk):
            return "it is %s: set tracktion_remediate_risk: %s%s" % (
                action["risk"],
                action["risk"],
                _also(action, limits),
            )
        if action["risk"] == "destructive" and confirmation_of(action) not in limits.confirm:
            return "it loses data (%s) and is not confirmed: set tracktion_confirm: ['%s']" % (
                action["data_loss"],
                confirmation_of(action),
            )
    if journal["error"]:
        return journal["error"]
    if journal["lock"]:
        return _outcome.locked(journal["lock"])
    until = cooling_until(journal["done"], action, action["cooldown"])
    if until and until > now:
        return _outcome.cooling(action, until)
    if taken.get((action["host"], action["remedy"]), 0) >= action["cap"]:
        return "one run does this at most %d times on a host" % action["cap"]
    if taken.get(None, 0) >= limits.max_actions:
        return "one run carries out at most %d actions (tracktion_remediate_max_actions)" % limits.max_actions
    return None


def _also(action, limits):
    if action["risk"] == "destructive" and confirmation_of(action) not in limits.confirm:
        return ", and tracktion_confirm: ['%s']" % confirmation_of(action)
    return ""


def confirmation_of(action):
    return confirmation({"id": action["remedy"], "target": action["target"], "evidence": action["evidence"]})


def _selected(finding, limits):
    names = (finding["id"], finding["fingerprint"], finding["remedy"]["id"])

    def matches(patterns):
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)

    return (not limits.only or matches(limits.only)) and not matches(limits.skip)


def strangers(patterns, ids):
    """Those of ``tracktion_only`` or ``tracktion_skip`` that can match nothing: mistyped, most likely."""
    return [pattern for pattern in patterns if not _is_fingerprint(pattern) and not fnmatch.filter(ids, pattern)]


def _is_fingerprint(text):
    return len(text) == 16 and all(character in "0123456789abcdef" for character in text)


def _as_approved(made, approved, limits):
    """The actions of a plan, where their evidence is still there, and as they were planned; else with the reason."""
    now = {action["action"]: action for action in made}
    result = []
    for planned in approved["actions"]:
        if planned["status"] != "planned" or not _chosen(planned, limits):
            continue
        current = now.get(planned["action"])
        if current is None:
            result.append(
                {**planned, "undo": None, "reason": "its evidence is no longer there: nothing is wrong any more"}
            )
        elif current["evidence"] != planned["evidence"]:
            result.append({**current, "reason": "its evidence has changed since the plan was made: plan again"})
        else:
            # What was approved is what is done: with the numbers of then, against which its module looks once more.
            result.append({**current, "vars": planned["vars"], "does": planned["does"]})
    return result


def _chosen(planned, limits):
    return any(_selected({**about, "remedy": {"id": planned["remedy"]}}, limits) for about in planned["findings"])


def document(run, made, now, limits):
    """A plan as it is kept: what was found, what would be done about it, and a seal.

    The way back is not in it: its template is that of the row, also when the plan is carried out.
    """
    plan = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "run": run["run"],
        "who": run["who"],
        "made": now,
        "risk": limits.risk,
        "confirm": limits.confirm,
        "actions": [{key: value for key, value in action.items() if key != "undo"} for action in made],
    }
    return {**plan, "seal": seal(plan)}


def as_text(plan):
    """A plan as one word. In clear text, Ansible would take a name with braces in it for a template."""
    return base64.b64encode(json.dumps(plan).encode()).decode()


def from_text(text, source):
    """The data of a plan as a file holds it or as one word. Raises BadPlan naming ``source``."""
    try:
        return json.loads(text if text.lstrip().startswith("{") else base64.b64decode(text, validate=True))
    except ValueError as exc:
        raise BadPlan("%s: is not a plan: %s" % (source, exc)) from exc


def checked(plan, now, max_age, source):
    """The plan, where it is whole, as it was made, and young enough. Raises BadPlan naming ``source``."""
    if not isinstance(plan, dict) or plan.get("schema") != SCHEMA or plan.get("schema_version") != SCHEMA_VERSION:
        raise BadPlan("%s: is not a plan of this version of tracktion.ops" % source)
    if plan.get("seal") != seal({key: value for key, value in plan.items() if key != "seal"}):
        raise BadPlan("%s: was changed after it was made; make it again with --check" % source)
    if now - plan["made"] > max_age:
        raise BadPlan(
            "%s: was made at %s, longer ago than tracktion_plan_max_age (%d s); make it again with --check"
            % (source, _outcome.clock(plan["made"]), max_age)
        )
    return plan


def seal(plan):
    """Tells a plan that was edited or cut off from the one that was made. No protection against a forger."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
