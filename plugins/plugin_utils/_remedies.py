# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remedy rows, and the remedies that findings propose. Private to this collection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ansible_collections.tracktion.ops.plugins.plugin_utils._areas import Area
from ansible_collections.tracktion.ops.plugins.plugin_utils._rows import (
    CANNOT_EVALUATE,
    FieldType,
    Row,
    expression,
    prose,
    render,
    variable_value,
)
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import DataLoss, Finding, Proposal, Risk

RISKS: tuple[Risk, ...] = ("safe", "disruptive", "destructive")
DATA_LOSS: tuple[DataLoss, ...] = ("none", "cache", "message", "files", "database")
NUMBER = (int, str)
# Names that the template of an undo command may use.
UNDO_NAMES = frozenset(("host", "vars", "result"))
# Defaults of a row: actions of one remedy on one host in one run, and seconds until the same action may be repeated.
CAP = 5
COOLDOWN = 3600


class Remedy(Row):
    """One row of ``remedies.yml``. ``position`` is its number in the file, ``tasks`` the role's task file."""

    FIELDS: ClassVar[Mapping[str, FieldType]] = {
        "id": str,
        "title": str,
        "risk": str,
        "data_loss": str,
        "does": str,
        "when": str,
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
    REQUIRED: ClassVar[Sequence[str]] = ("id", "title", "risk", "data_loss", "does")

    title: str
    risk: Risk
    data_loss: DataLoss
    does: str
    when: str | None
    target: str | None
    evidence: str | None
    deny: str | None
    largest: bool | None
    result: list[str] | None
    undo: str | None

    def __init__(self, row: object, source: str, area: Area, position: int) -> None:
        super().__init__(row, source)
        self.area = area
        self.position = position
        if self.risk not in RISKS:
            raise self.bad("risk: must be one of %s" % ", ".join(RISKS))
        if self.data_loss not in DATA_LOSS:
            raise self.bad("data_loss: must be one of %s" % ", ".join(DATA_LOSS))
        if self.data_loss != "none" and self.risk != "destructive":
            raise self.bad("risk: a remedy that loses data is destructive")
        self.tasks = "remediate/%s" % self.id.rpartition(".")[2]
        if not area.file("tasks", self.tasks + ".yml").exists():
            raise self.bad("there is no task file tasks/%s.yml" % self.tasks)

    def templates(self) -> dict[str, str]:
        texts = {"vars." + name: value for name, value in self.vars.items()}
        texts.update({name: self.field(name) for name in ("does", "target", "evidence", "undo")})
        expressions = {name: self.field(name) for name in ("when", "deny", "cap", "cooldown", "settle")}
        wrapped = {name: "{{ %s }}" % text for name, text in expressions.items() if isinstance(text, str)}
        return {**wrapped, **{name: text for name, text in texts.items() if isinstance(text, str)}}

    def allowed_names(self, field: str, variables: set[str]) -> frozenset[str]:
        # The undo command is rendered after the remedy has run, without the measurement.
        return UNDO_NAMES if field == "undo" else super().allowed_names(field, variables)

    def proposal(self, context: Mapping[str, Any], finding: Finding) -> Proposal | None:
        """Return the remedy filled in for a finding; null if its ``when`` is not true, or cannot be evaluated.

        ``context``: ``item``, ``measured`` and the role's variables.
        """
        if not self._is_offered(context):
            return None
        proposal: Proposal = {
            "id": self.id,
            "title": self.title,
            "risk": self.risk,
            "data_loss": self.data_loss,
            "role": self.area.role,
            "position": self.position,
            "tasks": self.tasks,
            "does": self.title,
            "vars": {},
            "target": finding["object"],
            "largest": bool(self.largest),
            "result": self.result or [],
            "undo": self.undo,
            "evidence": None,
            "problem": None,
            "denied": False,
            "cap": CAP,
            "cooldown": COOLDOWN,
            "settle": 0,
        }
        try:
            proposal["does"] = prose(self.does, context)
            proposal["vars"] = {name: variable_value(value, context) for name, value in self.vars.items()}
            if self.target:
                proposal["target"] = render(self.target, context)
            same = render(self.evidence, context) if self.evidence else proposal["vars"]
            proposal["evidence"] = digest(self.id, finding["host"], proposal["target"], same)
            if self.deny:
                proposal["denied"] = bool(expression(self.deny, context))
            proposal["cap"] = self._number("cap", CAP, context)
            proposal["cooldown"] = self._number("cooldown", COOLDOWN, context)
            proposal["settle"] = self._number("settle", 0, context)
        except CANNOT_EVALUATE as exc:
            proposal["problem"] = "the row of %s cannot be used here: %s" % (self.id, exc)
        return proposal

    def _is_offered(self, context: Mapping[str, Any]) -> bool:
        try:
            return not self.when or bool(expression(self.when, context))
        except CANNOT_EVALUATE:
            # Whether it would remove the cause is not known.
            return False

    def _number(self, name: str, default: float, context: Mapping[str, Any]) -> float:
        value = self.field(name)
        if isinstance(value, str):
            value = expression(value, context)
        return default if value is None else float(value)


def undo_command(undo: str | None, host: str, variables: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    """Return the command that reverts an action, from the template ``undo`` of its row; null if there is none."""
    if not undo:
        return None
    try:
        return prose(undo, {"host": host, "vars": variables, "result": result}) or None
    except CANNOT_EVALUATE as exc:
        return "the undo command cannot be rendered: %s" % exc


def digest(*parts: object) -> str:
    """Return a hash of JSON data: the same action, or the same evidence, has the same hash in every run."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
