# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans actions from findings: which are carried out, and why the others are refused. Pure.

Private to this collection.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from ansible_collections.tracktion.ops.plugins.module_utils import _journal_entries
from ansible_collections.tracktion.ops.plugins.module_utils._journal import CLOCK_SECONDS, cooling_until
from ansible_collections.tracktion.ops.plugins.plugin_utils import _outcome, _plan_seal, _plan_shape, _remedies
from ansible_collections.tracktion.ops.plugins.plugin_utils._report import confirmation, worst_first
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import (
    Action,
    Finding,
    Journal,
    PlannedRemedy,
    Proposal,
    Risk,
    Run,
    Values,
)

SCHEMA = "tracktion.ops/plan"
SCHEMA_VERSION = 3
NO_JOURNAL: Journal = {
    "lock": None,
    "done": [],
    "unfinished": [],
    "error": "its audit log was not read",
    "problems": [],
}
HASH = re.compile(r"[0-9a-f]{16}")


class BadPlan(Exception):
    """A plan or an option is invalid. The message names it."""


@dataclass
class Limits:
    """The limits that the operator has set for a run."""

    risk: Risk = "safe"
    confirm: list[str] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)
    max_actions: int = 20
    cooldown: float | None = None


class Candidate(PlannedRemedy):
    """A remedy before the decision about it. ``needed`` is false if its finding is gone since it was planned."""

    needed: bool


def actions(
    findings: Iterable[Finding],
    limits: Limits,
    probe_hosts: Mapping[tuple[str, str], str],
    journals: Mapping[str, Journal],
    now: float,
    approved: Mapping[str, Any] | None = None,
) -> list[Action]:
    """Return the actions for the findings, in the order in which they are carried out.

    Safe actions come first, destructive ones last; among equals, remedies of an area in the order of their rows. Caps
    and the limit of actions are used up by the worst findings first.

    ``probe_hosts`` maps host and area to the host that the area is measured from and its remedies run on;
    ``journals`` maps such a host to its journal. ``approved`` is a plan: only its actions are carried out, and only if
    their evidence is unchanged.
    """
    found = sorted((each for each in findings if each["remedy"] and _is_selected(each, limits)), key=worst_first)
    made = _merged(found, probe_hosts, limits)
    if approved:
        made = _as_approved(made, approved, limits)
    taken: dict[tuple[str, str], int] = {}
    result: list[Action] = []
    for candidate in made:
        journal = journals.get(candidate["probe_host"], NO_JOURNAL)
        not_allowed = None if approved else _not_allowed(candidate, limits)
        reason = candidate["reason"] or not_allowed or _obstacle(candidate, limits, journal, now, taken)
        if not reason:
            key = (candidate["host"], candidate["remedy"])
            taken[key] = taken.get(key, 0) + 1
        result.append(
            _action(
                candidate,
                reason,
                is_allowed=candidate["needed"] and not not_allowed,
                is_blocked=bool(journal["error"]) and reason == journal["error"],
            )
        )
    return sorted(
        result, key=lambda action: (_remedies.RISKS.index(action["risk"]), action["area"], action["position"])
    )


def _action(candidate: Candidate, reason: str | None, is_allowed: bool, is_blocked: bool) -> Action:
    status: Literal["planned", "refused"] = "refused" if reason else "planned"
    kept = {name: value for name, value in candidate.items() if name != "needed"}
    return cast("Action", {**kept, "reason": reason, "status": status, "approved": is_allowed, "blocked": is_blocked})


def _merged(findings: Iterable[Finding], probe_hosts: Mapping[tuple[str, str], str], limits: Limits) -> list[Candidate]:
    """Return one candidate for each remedy and target of a host, with all findings that propose it."""
    made: dict[str, Candidate] = {}
    for finding in findings:
        proposal = cast("Proposal", finding["remedy"])
        key = _remedies.digest(finding["host"], proposal["id"], proposal["target"])
        if key not in made:
            probe_host = probe_hosts[finding["host"], finding["area"]]
            made[key] = _candidate(key, finding, proposal, probe_host, limits)
        elif proposal["largest"]:
            values = made[key]["vars"]
            values.update({name: max(values[name], value) for name, value in proposal["vars"].items()})
        made[key]["findings"].append(
            {
                "id": finding["id"],
                "object": finding["object"],
                "status": finding["status"],
                "fingerprint": finding["fingerprint"],
            }
        )
    return list(made.values())


def _candidate(key: str, finding: Finding, proposal: Proposal, probe_host: str, limits: Limits) -> Candidate:
    return {
        "action": key,
        "host": finding["host"],
        "area": finding["area"],
        "probe_host": probe_host,
        "role": proposal["role"],
        "tasks": proposal["tasks"],
        "position": proposal["position"],
        "remedy": proposal["id"],
        "title": proposal["title"],
        "risk": proposal["risk"],
        "data_loss": proposal["data_loss"],
        "does": proposal["does"],
        "vars": proposal["vars"],
        "target": proposal["target"],
        "evidence": proposal["evidence"],
        "undo": proposal["undo"],
        "result": proposal["result"],
        "cap": proposal["cap"],
        "cooldown": proposal["cooldown"] if limits.cooldown is None else limits.cooldown,
        "settle": proposal["settle"],
        "denied": proposal["denied"],
        "reason": proposal["problem"],
        "needed": True,
        "findings": [],
    }


def _not_allowed(action: Candidate, limits: Limits) -> str | None:
    """Return why the operator has not allowed an action, with the variable to set; null if it is allowed."""
    if action["denied"]:
        return _denied(action)
    confirm = "tracktion_confirm: [%s]" % yaml_word(confirmation_of(action))
    is_unconfirmed = action["risk"] == "destructive" and confirmation_of(action) not in limits.confirm
    if _remedies.RISKS.index(action["risk"]) > _remedies.RISKS.index(limits.risk):
        also = ", and %s" % confirm if is_unconfirmed else ""
        return "it is %s: set tracktion_remediate_risk: %s%s" % (action["risk"], action["risk"], also)
    if is_unconfirmed:
        return "it loses data (%s) and is not confirmed: set %s" % (action["data_loss"], confirm)
    return None


def _denied(action: Candidate) -> str:
    return "a deny list of the role %s protects it" % action["role"].rpartition(".")[2]


def _obstacle(
    action: Candidate, limits: Limits, journal: Journal, now: float, taken: Mapping[tuple[str, str], int]
) -> str | None:
    """Return why an allowed action cannot be carried out now; null if it can. ``taken`` counts those planned so far."""
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
        return "one run carries this out at most %d times on a host" % action["cap"]
    if sum(taken.values()) >= limits.max_actions:
        return "one run carries out at most %d actions (tracktion_remediate_max_actions)" % limits.max_actions
    return None


def confirmation_of(action: PlannedRemedy) -> str:
    """Return the entry of ``tracktion_confirm`` for an action."""
    return confirmation(action["remedy"], action["target"], action["evidence"])


def yaml_word(text: str) -> str:
    """Return a text as one entry of a list in YAML, on a line that is safe to copy."""
    if text.isprintable():
        return "'%s'" % text.replace("'", "''")
    # The escapes of JSON are those of YAML.
    return json.dumps(text)


def _is_selected(finding: Finding, limits: Limits) -> bool:
    remedy = cast("Proposal", finding["remedy"])
    return _matches_limits((finding["id"], finding["fingerprint"], remedy["id"]), limits)


def _matches_limits(names: Sequence[str], limits: Limits) -> bool:
    def matches(patterns: Iterable[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)

    return (not limits.only or matches(limits.only)) and not matches(limits.skip)


def unmatched(patterns: Iterable[str], ids: Iterable[str]) -> list[str]:
    """Return the patterns of ``tracktion_only`` or ``tracktion_skip`` that match no id and are no fingerprint."""
    return [pattern for pattern in patterns if not HASH.fullmatch(pattern) and not fnmatch.filter(ids, pattern)]


def _as_approved(made: Iterable[Candidate], approved: Mapping[str, Any], limits: Limits) -> list[Candidate]:
    """Return the candidates of a plan. Those whose evidence is gone or has changed have a ``reason``.

    Target, text and variables of an action are those of the current finding. Only numbers are taken from the plan; the
    action's module compares them again.
    """
    now = {action["action"]: action for action in made}
    result: list[Candidate] = []
    for planned in approved["actions"]:
        if planned["status"] != "planned" or not _is_chosen(planned, limits):
            continue
        current = now.get(planned["action"])
        if current is None:
            reason = "its evidence is gone: the finding no longer exists"
            result.append(cast("Candidate", {**planned, "undo": None, "reason": reason, "needed": False}))
            continue
        values = _approved_vars(planned, current)
        if values is None:
            result.append({**current, "reason": "its evidence has changed since the plan was made: plan again"})
        else:
            result.append({**current, "vars": values, "does": _does_as_approved(current, values)})
    return result


def _approved_vars(planned: Mapping[str, Any], current: Candidate) -> Values | None:
    """Return the current variables of an approved action, with the numbers of the plan; None if its evidence differs.

    If the variables are the evidence, the numbers must not differ either.
    """
    theirs = planned["vars"]
    ours = cast("Values", _journal_entries.plain(current["vars"]))
    if planned["evidence"] != current["evidence"] or theirs.keys() != ours.keys():
        return None
    whole = _remedies.digest(current["remedy"], current["host"], current["target"], current["vars"])
    for name, value in theirs.items():
        if value != ours[name] and (whole == current["evidence"] or not (_is_number(value) and _is_number(ours[name]))):
            return None
    return {name: theirs[name] if _is_number(value) else value for name, value in current["vars"].items()}


def _does_as_approved(current: Candidate, values: Values) -> str:
    """Return the text of an action, with the approved numbers that differ from the current ones."""
    approved = ["%s %s" % (name, value) for name, value in values.items() if value != current["vars"][name]]
    return "%s (as approved: %s)" % (current["does"], ", ".join(approved)) if approved else current["does"]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_chosen(planned: Mapping[str, Any], limits: Limits) -> bool:
    return any(
        _matches_limits((about["id"], about["fingerprint"], planned["remedy"]), limits) for about in planned["findings"]
    )


def document(run: Run, made: Iterable[Action], now: float, limits: Limits, key: bytes | None = None) -> Values:
    """Return the plan as data, with a seal made with ``key``.

    Without a key it has no seal, and cannot be carried out. The undo command is left out: it always comes from the row.
    """
    plan: Values = {
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
    plan = cast("Values", _journal_entries.plain(plan))
    return {**plan, "seal": _plan_seal.seal(plan, key) if key else None}


def as_text(plan: Values) -> str:
    """Return a plan as one word of base64. In plain text, Ansible would render a name with braces as a template."""
    return base64.b64encode(json.dumps(plan).encode()).decode()


def from_text(text: str, source: str) -> Any:
    """Return the data of a plan from a file, or from one word of base64. Raises BadPlan naming ``source``."""
    try:
        content = text if text.lstrip().startswith("{") else base64.b64decode(text.strip(), validate=True)
        return json.loads(content, parse_constant=_reject_constant)
    except RecursionError as exc:
        raise BadPlan("%s: is not a plan: it is nested too deeply" % source) from exc
    except ValueError as exc:
        raise BadPlan("%s: is not a plan: %s" % (source, exc)) from exc


def _reject_constant(name: str) -> None:
    raise ValueError("%s is not JSON" % name)


def checked(plan: Any, now: float, max_age: float, source: str, key: Callable[[], bytes]) -> Values:
    """Return the plan if it is complete, unchanged and not too old. Raises BadPlan naming ``source``.

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


def summary(made: Sequence[Action], most: int = 20, length: int = 200) -> Values:
    """Return the plan in short, for people who read the artifacts of a job. No text in it is a template for Ansible."""
    planned = [action for action in made if action["status"] == "planned"]
    return {
        "planned": len(planned),
        "refused": len(made) - len(planned),
        "actions": [
            {
                "host": inert(action["host"], length),
                "remedy": inert(action["remedy"], length),
                "target": inert(action["target"], length),
                "does": inert(action["does"], length),
                "risk": inert(action["risk"], length),
            }
            for action in planned[:most]
        ],
        "actions_left_out": max(0, len(planned) - most),
    }


def inert(text: str | None, length: int) -> str | None:
    """Return a text, cut, without characters that Ansible or a terminal interprets."""
    if text is None:
        return None
    text = "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))
    text = re.sub(r"\{(?=[{%#])|(?<=[}%#])\}", lambda brace: "{ " if brace.group() == "{" else " }", text)
    return text if len(text) <= length else text[: length - 1] + "\u2026"
