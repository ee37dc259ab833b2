# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Types of what the controller works with, from a visit to the report. Private to this collection.

A measurement and its envelope are typed in ``module_utils/_types.py``; check rows and remedy rows are the classes
``_checks.Check`` and ``_remedies.Remedy``. The report is documented in ``docs/report.schema.json``.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._types import ErrorInfo

Status = Literal["ok", "info", "unknown", "warning", "critical"]
Risk = Literal["safe", "disruptive", "destructive"]
DataLoss = Literal["none", "cache", "message", "files", "database"]
# What became of a finding between two visits.
Change = Literal["fixed", "better", "still there", "unknown", "worse", "new"]
# Values of variables, and of fields of an item, by name.
Values = dict[str, Any]


class Counts(TypedDict):
    """``checks``: rows evaluated; ``items``: items they were evaluated on; the other keys: those items by status."""

    checks: int
    items: int
    ok: int
    info: int
    unknown: int
    warning: int
    critical: int


class Proposal(TypedDict):
    """The remedy that a finding proposes, filled in from its item.

    ``problem`` says why it cannot be carried out, or is null; ``denied`` is true for a target of a deny list.
    """

    id: str
    title: str
    risk: Risk
    data_loss: DataLoss
    does: str
    vars: Values
    target: str | None
    evidence: str | None
    problem: str | None
    denied: bool
    cap: int
    cooldown: float
    command: NotRequired[str]


class Finding(TypedDict):
    """What one check says about one item of one host.

    ``observed`` holds the fields of the item that the expression names, ``threshold`` the variables it compares them
    with. ``fingerprint`` is the same in every run.
    """

    id: str
    area: str
    host: str
    hosts: NotRequired[list[str]]
    object: str | None
    title: str
    status: Status
    summary: str
    observed: Values
    threshold: Values
    why: str
    guide: str
    hint: str | None
    remedy: Proposal | None
    fingerprint: str
    first_seen: NotRequired[str]


class AreaOutcome(TypedDict):
    """What a visit hands over of one area: measurements by probe, and the variables that rows may name."""

    measurement: dict[str, Any]
    error: ErrorInfo | None
    seconds: float
    role: str
    settings: Values
    claim: NotRequired[str]


class Visit(TypedDict):
    """The result of a visit with what it measured, from one probe host. ``failure`` says why there is nothing."""

    areas: dict[str, AreaOutcome]
    extra_checks: list[Any]
    host: Values | None
    limits: Values
    failure: NotRequired[Values]
    started: NotRequired[float]


class Action(TypedDict):
    """One remedy for one target on one host, as the plan holds it.

    ``status`` is ``planned``, or ``refused`` with a ``reason``; ``blocked`` means that the host can keep no lock.
    """

    action: str
    host: str
    area: str
    probe_host: str
    role: str
    position: int
    remedy: str
    title: str
    risk: Risk
    data_loss: DataLoss
    does: str
    vars: Values
    target: str | None
    evidence: str | None
    undo: str | None
    result: list[str]
    cap: int
    cooldown: float
    settle: float
    denied: bool
    reason: str | None
    blocked: bool
    approved: bool
    status: Literal["planned", "refused"]
    findings: list[Values]


class Outcome(TypedDict):
    """What came of an action, as the audit log and the report hold it. ``undo`` is the command that reverts it."""

    action: str
    host: str
    remedy: str
    outcome: Literal["changed", "ok", "failed", "unreachable"]
    changed: bool
    message: str | None
    result: Values
    undo: str | None
    time: NotRequired[float]
    settle: float


class AreaReport(TypedDict):
    """One area of one host in the report."""

    name: str
    status: Status
    identity: str | None
    counts: Counts
    seconds: float
    error: ErrorInfo | None


class HostReport(TypedDict):
    """One host in the report; ``reachable`` is false where a visit to it, or to a probe host, failed."""

    name: str
    reachable: bool
    status: Status
    areas: list[AreaReport]


class Report(TypedDict):
    """The report, as ``report.json`` holds it. Times are UTC in ISO 8601."""

    schema: str
    schema_version: int
    collection_version: str
    started: str
    finished: str
    status: Status
    counts: Counts
    hosts: list[HostReport]
    findings: list[Finding]
    remediation: Values | None
