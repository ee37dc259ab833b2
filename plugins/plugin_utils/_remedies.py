# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remedy rows, and what a remedy would do about a finding. Private to this collection."""

from __future__ import annotations

import hashlib
import json

from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import (
    CANNOT_EVALUATE,
    Row,
    evaluate,
    expression,
    prose,
    render,
)

RISKS = ("safe", "disruptive", "destructive")
DATA_LOSS = ("none", "cache", "message", "files", "database")
NUMBER = (int, str)
# What the template of a way back may name.
WAY_BACK = frozenset(("host", "vars", "result"))
# Actions of one remedy on one host in one run, where its row does not say.
CAP = 5
# Seconds in which a scheduled run does not do the same to the same target again, where the row does not say.
COOLDOWN = 3600


class Remedy(Row):
    """What answers a finding, what it may cost, and how it is kept within bounds."""

    FIELDS = {
        "id": str,
        "title": str,
        "risk": str,
        "data_loss": str,
        "does": str,
        "vars": dict,
        "target": str,
        "evidence": str,
        "deny": str,
        "cap": NUMBER,
        "cooldown": NUMBER,
        "settle": NUMBER,
        "largest": bool,
        "result": list,
        "undo": str,
    }
    REQUIRED = ("id", "title", "risk", "data_loss", "does")

    def __init__(self, row, source, area, position):
        super().__init__(row, source)
        self.area = area
        self.position = position
        for field, allowed in (("risk", RISKS), ("data_loss", DATA_LOSS)):
            if getattr(self, field) not in allowed:
                raise self.bad("%s: must be one of %s" % (field, ", ".join(allowed)))
        if self.data_loss != "none" and self.risk != "destructive":
            raise self.bad("risk: a remedy that loses data is destructive")
        self.tasks = "remediate/%s" % self.id.rpartition(".")[2]
        if not area.file("tasks", self.tasks + ".yml").exists():
            raise self.bad("there is no task file tasks/%s.yml" % self.tasks)

    def templates(self):
        values = {"vars." + name: value for name, value in self.vars.items()}
        texts = {field: getattr(self, field) for field in ("does", "target", "evidence", "undo")}
        numbers = {field: getattr(self, field) for field in ("deny", "cap", "cooldown", "settle")}
        wrapped = {field: "{{ %s }}" % text for field, text in numbers.items() if isinstance(text, str)}
        return {**wrapped, **{field: text for field, text in {**values, **texts}.items() if isinstance(text, str)}}

    def names(self, field, variables):
        # The way back is told once the remedy has run, when the measurement is history.
        return WAY_BACK if field == "undo" else super().names(field, variables)

    def proposal(self, context, finding):
        """What the remedy would do about a finding: plain data, the report's and the planner's.

        ``context`` holds ``item``, ``measured`` and the role's variables. ``problem`` says why it cannot be used here.
        """
        proposal = {key: getattr(self, key) for key in ("id", "title", "risk", "data_loss")}
        proposal.update(
            role=self.area.role,
            position=self.position,
            tasks=self.tasks,
            does=self.title,
            vars={},
            target=finding["object"],
        )
        proposal.update(largest=bool(self.largest), result=self.result or [], undo=self.undo)
        proposal.update(evidence=None, problem=None, denied=False, cap=CAP, cooldown=COOLDOWN, settle=0)
        try:
            proposal["does"] = prose(self.does, context)
            proposal["vars"] = {name: evaluate(value, context) for name, value in self.vars.items()}
            if self.target:
                proposal["target"] = render(self.target, context)
            same = render(self.evidence, context) if self.evidence else proposal["vars"]
            proposal["evidence"] = digest(self.id, finding["host"], proposal["target"], same)
            if self.deny:
                proposal["denied"] = bool(expression(self.deny, context))
            for name in ("cap", "cooldown", "settle"):
                proposal[name] = self._number(name, proposal[name], context)
        except CANNOT_EVALUATE as exc:
            proposal["problem"] = "the row of %s cannot be used here: %s" % (self.id, exc)
        return proposal

    def _number(self, name, default, context):
        value = getattr(self, name)
        if isinstance(value, str):
            value = expression(value, context)
        return default if value is None else float(value)


def way_back(undo, host, variables, result):
    """How what was done is undone, from the template of a remedy row; null where there is no way back."""
    if not undo:
        return None
    try:
        return prose(undo, {"host": host, "vars": variables, "result": result})
    except CANNOT_EVALUATE as exc:
        return "the way back cannot be told: %s" % exc


def digest(*parts):
    """The same case has the same evidence in every run."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
