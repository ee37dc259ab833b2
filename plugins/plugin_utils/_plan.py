# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From findings to actions: what may be done about them, and why the rest may not. Pure. Private to this collection."""

from __future__ import annotations

import base64
import fnmatch
import json
import re
from dataclasses import dataclass, field

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries
from ansible_collections.tracktion.ops.plugins.module_utils._journal import CLOCK_SECONDS, cooling_until
from ansible_collections.tracktion.ops.plugins.plugin_utils import _outcome, _plan_seal, _plan_shape, _remedies
from ansible_collections.tracktion.ops.plugins.plugin_utils._report import confirmation, worst_first

SCHEMA = "tracktion.ops/plan"
SCHEMA_VERSION = 3
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


def actions(findings, limits, probe_hosts, journals, now, approved=None):
    """The actions that answer the findings, in the order in which they are carried out.

    What is safe comes first, what loses data last; among equals, an area's remedies in the order of their rows, where
    causes stand before what they cause. Caps and the budget go to the worst findings.

    ``probe_hosts`` maps host and area to the host that it is measured from, and mended from; ``journals`` maps such a place
    to what its journal holds (``lock``, ``done``, ``error``). ``approved`` is a plan: only what it holds, and what
    still is as it was then, is done, and as it was planned.
    An action has ``status``: ``planned``, or ``refused`` with a ``reason``; ``blocked`` where the host is at fault;
    ``approved`` where the operator has allowed it, by the plan or by risk and confirmation, and it is still needed.
    """
    found = [finding for finding in findings if finding["remedy"] and _selected(finding, limits)]
    found.sort(key=worst_first)
    made = list(_merged(found, probe_hosts))
    for action in made:
        action["cooldown"] = action["cooldown"] if limits.cooldown is None else limits.cooldown
    if approved:
        made = _as_approved(made, approved, limits)
    taken = {}
    for action in made:
        journal = journals.get(action["probe_host"]) or {"error": "its audit log was not read"}
        unpermitted = None if approved else _unpermitted(action, limits)
        action["approved"] = action.pop("needed", True) and not unpermitted
        if action["reason"] is None:
            action["reason"] = unpermitted or _objection(action, limits, journal, now, taken)
        action["blocked"] = bool(journal["error"]) and action["reason"] == journal["error"]
        action["status"] = "refused" if action["reason"] else "planned"
        if action["status"] == "planned":
            for key in (None, (action["host"], action["remedy"])):
                taken[key] = taken.get(key, 0) + 1
    return sorted(made, key=lambda action: (_remedies.RISKS.index(action["risk"]), action["area"], action["position"]))


def _merged(findings, probe_hosts):
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
                "probe_host": probe_hosts[finding["host"], finding["area"]],
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


def _unpermitted(action, limits):
    """Why the operator has not allowed an action; null where they have. It says what a person has to change."""
    if action["denied"]:
        return _denied(action)
    if _remedies.RISKS.index(action["risk"]) > _remedies.RISKS.index(limits.risk):
        return "it is %s: set tracktion_remediate_risk: %s%s" % (
            action["risk"],
            action["risk"],
            _also(action, limits),
        )
    if action["risk"] == "destructive" and confirmation_of(action) not in limits.confirm:
        return "it loses data (%s) and is not confirmed: set tracktion_confirm: [%s]" % (
            action["data_loss"],
            yaml_word(confirmation_of(action)),
        )
    return None


def _denied(action):
    return "a deny list of the role %s protects it" % action["role"].rpartition(".")[2]


def _objection(action, limits, journal, now, taken):
    """Why an action that is allowed may not be carried out now; null where it may."""
    if action["denied"]:
        return _denied(action)
    if journal["error"]:
        return journal["error"]
    if journal["lock"]:
        return _outcome.locked(journal["lock"])
    until = cooling_until(journal["done"], action, action["cooldown"], now)
    if until and until > now:
        return _outcome.cooling(action, until)
    if taken.get((action["host"], action["remedy"]), 0) >= action["cap"]:
        return "one run does this at most %d times on a host" % action["cap"]
    if taken.get(None, 0) >= limits.max_actions:
        return "one run carries out at most %d actions (tracktion_remediate_max_actions)" % limits.max_actions
    return None


def _also(action, limits):
    if action["risk"] == "destructive" and confirmation_of(action) not in limits.confirm:
        return ", and tracktion_confirm: [%s]" % yaml_word(confirmation_of(action))
    return ""


def confirmation_of(action):
    return confirmation({"id": action["remedy"], "target": action["target"], "evidence": action["evidence"]})


def yaml_word(text):
    """A text as one entry of a list in YAML, on a line that is safe to copy."""
    if text.isprintable():
        return "'%s'" % text.replace("'", "''")
    # The escapes of JSON are those of YAML.
    return json.dumps(text)


def _selected(finding, limits):
    names = (finding["id"], finding["fingerprint"], finding["remedy"]["id"])

    def matches(patterns):
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)

    return (not limits.only or matches(limits.only)) and not matches(limits.skip)


def unmatched(patterns, ids):
    """Those of ``tracktion_only`` or ``tracktion_skip`` that can match nothing: mistyped, most likely."""
    return [pattern for pattern in patterns if not _is_fingerprint(pattern) and not fnmatch.filter(ids, pattern)]


def _is_fingerprint(text):
    return len(text) == 16 and all(character in "0123456789abcdef" for character in text)


def _as_approved(made, approved, limits):
    """The actions of a plan, where their evidence is still there; else with the reason.

    An action is that of the finding of now: its target, its text and its variables are not taken from the plan, except
    for numbers, against which its module looks once more.
    """
    now = {action["action"]: action for action in made}
    result = []
    for planned in approved["actions"]:
        if planned["status"] != "planned" or not _chosen(planned, limits):
            continue
        current = now.get(planned["action"])
        if current is None:
            reason = "its evidence is no longer there: nothing is wrong any more"
            result.append({**planned, "undo": None, "reason": reason, "needed": False})
            continue
        values = _approved_vars(planned, current)
        if values is None:
            result.append({**current, "reason": "its evidence has changed since the plan was made: plan again"})
        else:
            result.append({**current, "vars": values, "does": _as_done(current, values)})
    return result


def _approved_vars(planned, current):
    """The variables of an action that was approved; None where it is not the same case any more.

    They are those of now, with the numbers of the plan. Where the evidence is the variables, not even these differ.
    """
    theirs, ours = planned["vars"], _journal_entries.plain(current["vars"])
    if planned["evidence"] != current["evidence"] or theirs.keys() != ours.keys():
        return None
    whole = _remedies.digest(current["remedy"], current["host"], current["target"], current["vars"])
    for name, value in theirs.items():
        if value != ours[name] and (whole == current["evidence"] or not (_is_number(value) and _is_number(ours[name]))):
            return None
    return {name: theirs[name] if _is_number(value) else value for name, value in current["vars"].items()}


def _as_done(current, values):
    """What the action does, with the approved numbers where they are not those of now."""
    approved = ["%s %s" % (name, value) for name, value in values.items() if value != current["vars"][name]]
    return "%s (as approved: %s)" % (current["does"], ", ".join(approved)) if approved else current["does"]


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _chosen(planned, limits):
    return any(_selected({**about, "remedy": {"id": planned["remedy"]}}, limits) for about in planned["findings"])


def document(run, made, now, limits, key=None):
    """A plan as it is kept: what was found, what would be done about it, and a seal made with ``key``.

    Without a key it has no seal, and cannot be carried out. The way back is not in it: its template is that of the
    row, also when the plan is carried out.
    """
    plan = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "run": run["run"],
        "who": run["who"],
        "made": now,
        "risk": limits.risk,
        "confirm": limits.confirm,
        "key": _plan_seal.name_of(key) if key else None,
        "actions": [{name: value for name, value in action.items() if name != "undo"} for action in made],
    }
    plan = _journal_entries.plain(plan)
    return {**plan, "seal": _plan_seal.seal(plan, key) if key else None}


def as_text(plan):
    """A plan as one word. In clear text, Ansible would take a name with braces in it for a template."""
    return base64.b64encode(json.dumps(plan).encode()).decode()


def from_text(text, source):
    """The data of a plan as a file holds it or as one word. Raises BadPlan naming ``source``."""
    try:
        content = text if text.lstrip().startswith("{") else base64.b64decode(text.strip(), validate=True)
        return json.loads(content, parse_constant=_no_constant)
    except RecursionError as exc:
        raise BadPlan("%s: is not a plan: it is nested too deeply" % source) from exc
    except ValueError as exc:
        raise BadPlan("%s: is not a plan: %s" % (source, exc)) from exc


def _no_constant(name):
    raise ValueError("%s is not JSON" % name)


def checked(plan, now, max_age, source, key):
    """The plan, where it is whole, as it was made, and young enough. Raises BadPlan naming ``source``.

    ``key()`` returns the key of the seal, or raises _plan_seal.NoKey.
    """
    if not isinstance(plan, dict) or plan.get("schema") != SCHEMA or plan.get("schema_version") != SCHEMA_VERSION:
        raise BadPlan("%s: is not a plan of this version of tracktion.ops" % source)
    if not isinstance(plan.get("seal"), str):
        raise BadPlan("%s: has no seal, because it was made without a key: %s" % (source, _plan_seal.HOW_TO))
    try:
        secret = key()
    except _plan_seal.NoKey as exc:
        raise BadPlan("%s: its seal cannot be verified: %s" % (source, exc)) from exc
    if not _plan_seal.fits(plan, secret):
        if plan.get("key") != _plan_seal.name_of(secret):
            reason = "was changed after it was made, or sealed with another key; make it again with --check, and %s"
            raise BadPlan("%s: %s" % (source, reason % _plan_seal.HOW_TO))
        raise BadPlan("%s: was changed after it was made; make it again with --check" % source)
    problem = _plan_shape.problem(plan)
    if problem:
        raise BadPlan("%s: %s; make it again with --check" % (source, problem))
    if now - plan["made"] > max_age:
        raise BadPlan(
            "%s: was made at %s, longer ago than tracktion_plan_max_age (%d s); make it again with --check"
            % (source, _outcome.clock(plan["made"]), max_age)
        )
    if plan["made"] - now > CLOCK_SECONDS:
        raise BadPlan(
            "%s: was made at %s, which is in the future: compare the clocks of the controllers"
            % (source, _outcome.clock(plan["made"]))
        )
    return plan


def summary(made, most=20, length=200):
    """What a person reads beside the plan in a job's artifacts. No text in it is a template for Ansible."""
    planned = [action for action in made if action["status"] == "planned"]
    return {
        "planned": len(planned),
        "refused": len(made) - len(planned),
        "actions": [
            {name: inert(action[name], length) for name in ("host", "remedy", "target", "does", "risk")}
            for action in planned[:most]
        ],
        "actions_left_out": max(0, len(planned) - most),
    }


def inert(text, length):
    """A text, cut, as neither Ansible nor a terminal takes it for anything else."""
    if text is None:
        return None
    text = "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))
    text = re.sub(r"\{(?=[{%#])|(?<=[}%#])\}", lambda brace: "{ " if brace.group() == "{" else " }", text)
    return text if len(text) <= length else text[: length - 1] + "\u2026"
