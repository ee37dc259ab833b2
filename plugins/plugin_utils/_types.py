# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Types of what the controller works with, from a visit to the report. Private to this collection.

A measurement is typed in ``module_utils/_types.py``; check rows and remedy rows are the classes ``_checks.Check`` and
``_remedies.Remedy``. The report is documented in ``docs/report.schema.json``.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from ansible_collections.tracktion.ops.plugins.module_utils._journal_entries import Entry, Lock
from ansible_collections.tracktion.ops.plugins.module_utils._types import ErrorInfo

Status = Literal["ok", "info", "unknown", "warning", "critical"]
Risk = Literal["safe", "disruptive", "destructive"]
DataLoss = Literal["none", "cache", "message", "files", "database"]
# The change of a finding between two visits.
Change = Literal["fixed", "better", "still there", "unknown", "worse", "new"]
# The result of an action: ``ok`` means that nothing was left to do.
OutcomeName = Literal["changed", "ok", "failed", "unreachable"]
# Values of variables, of fields of an item, or of JSON whose keys are not fixed, by name.
Values = dict[str, Any]


class Counts(TypedDict):
    """``checks``: rows evaluated; ``items``: items they were evaluated on; the keys of a status: those items by status.

    ``not_here``: what only a default expects, and what does not belong to the host.
    """

    checks: int
    items: int
    not_here: int
    ok: int
    info: int
    unknown: int
    warning: int
    critical: int


class Proposal(TypedDict):
    """The remedy that a finding proposes, filled in from its item.

    ``tasks`` is the task file of ``role``, ``position`` the row's number in ``remedies.yml``. ``problem`` is the reason
    why the row cannot be used for this finding, or null; ``denied`` is true for a target of a deny list. ``largest``,
    ``result`` and ``undo`` are the row's fields of the same name.
    """

    id: str
    title: str
    risk: Risk
    data_loss: DataLoss
    role: str
    position: int
    tasks: str
    does: str
    vars: Values
    target: str | None
    evidence: str | None
    problem: str | None
    denied: bool
    cap: float
    cooldown: float
    settle: float
    largest: bool
    result: list[str]
    undo: str | None


class _FindingFields(TypedDict):
    id: str
    area: str
    host: str
    object: str | None
    about: dict[str, list[str]]
    title: str
    status: Status
    summary: str
    observed: Values
    threshold: Values
    why: str
    guide: str
    hint: str | None
    fingerprint: str


class Finding(_FindingFields):
    """The result of one check for one item of one host.

    ``observed`` holds the fields of the item that the expression names, ``threshold`` the variables it compares them
    with. ``about`` are its subjects by kind (``_checks.ABOUT``), each with one name or more. ``began`` is when the
    fault began, in seconds since 1970, if that was measured. ``fingerprint`` is the same in every run. A merged finding
    has ``hosts``, all hosts that share its service.
    """

    began: float | None
    hosts: NotRequired[list[str]]
    remedy: Proposal | None


class ReportedRemedy(TypedDict):
    """The remedy of a finding in the report; ``command`` carries it out for this finding, in check mode first."""

    id: str
    title: str
    risk: Risk
    data_loss: DataLoss
    does: str
    target: str | None
    vars: Values
    evidence: str | None
    command: str


class ReportedFinding(_FindingFields):
    """A finding in the report. ``began`` is a time in ISO 8601, or null if it was not measured."""

    began: str | None
    hosts: list[str]
    remedy: ReportedRemedy | None
    first_seen: str


class Explanation(TypedDict):
    """Why a finding follows from another: ``by`` is the fingerprint of the cause, ``edge`` the id of the row."""

    by: str
    edge: str
    mechanism: str


class Effect(Explanation):
    """A finding that an incident explains, by its fingerprint.

    ``depth`` is the number of links between it and the cause of the incident. ``also`` are further direct causes, in
    this incident or in another one.
    """

    finding: str
    depth: int
    also: list[Explanation]


class PossibleCause(TypedDict):
    """A check that could not be evaluated, and that would explain the cause of an incident. ``reason``: why not."""

    check: str
    edge: str
    mechanism: str | None
    reason: str


class FirstStep(TypedDict):
    """What to do first: the hint of the cause, and a command that the hint or the remedy of the cause has."""

    hint: str | None
    command: str | None


class Incident(TypedDict):
    """A finding that nothing explains (``cause``, a fingerprint), with the findings that follow from it.

    ``fingerprint`` is the same in every run. ``effects`` come after their causes, so that they can be shown as a tree.
    """

    fingerprint: str
    host: str
    hosts: list[str]
    status: Status
    cause: str
    effects: list[Effect]
    possible: list[PossibleCause]
    began: str | None
    first_step: FirstStep | None


class AreaOutcome(TypedDict):
    """The result of one area of a visit: measurements by probe, and the variables that rows may name.

    ``claim`` names a measurement that several hosts share; ``shared`` is true while the measurement of another host is
    to be read for it. ``given`` are the variables that the user has set; without it, all count as set.
    """

    role: str
    settings: Values
    measurement: dict[str, Any]
    error: ErrorInfo | None
    seconds: float
    claim: NotRequired[str | None]
    shared: NotRequired[bool]
    given: NotRequired[list[str] | None]


class HostState(TypedDict):
    """The state of a visited host, with the skew of its clock in seconds (``roles/visit``)."""

    slowdown: float | None
    load: list[float] | None
    cores: int | None
    pressure: dict[str, float | None] | None
    waited_seconds: float | None
    waited_of_seconds: float | None
    started: float
    finished: float
    skew: float
    skew_uncertainty: float


class Measured(TypedDict):
    """What one visit measured from one probe host. ``limits`` are the variables that ``host`` is compared with.

    ``journal`` is what the host sent about its lock and audit log; null if it was not read (``_journals.from_result``).
    ``presence`` are the services that belong to the host; null if they were not searched (``_presence.apply``).
    ``stack`` is the name of the stack that the host belongs to, or empty.
    """

    areas: dict[str, AreaOutcome]
    extra_checks: list[Any]
    extra_causes: NotRequired[list[Any]]
    stack: NotRequired[str]
    host: HostState | None
    limits: Values
    journal: Values | None
    presence: Values | None


class Visit(Measured):
    """The registered result of a visit, with what it measured.

    ``failure`` is the reason why nothing was measured. Of a task that Ansible failed before the visit, only ``msg``, or
    ``skipped``, may be there.
    """

    probe_host: NotRequired[str]
    tracktion_probe_host: NotRequired[str]
    failure: NotRequired[Values | None]
    started: NotRequired[float]
    msg: NotRequired[str]
    skipped: NotRequired[bool]


class FindingReference(TypedDict):
    """A finding that an action answers."""

    id: str
    object: str | None
    status: Status
    fingerprint: str


class PlannedRemedy(TypedDict):
    """One remedy for one target on one host, with the findings that propose it.

    ``action`` is a hash of host, remedy and target. ``reason`` says why the remedy cannot be carried out, or is null.
    """

    action: str
    host: str
    area: str
    probe_host: str
    role: str
    tasks: str
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
    cap: float
    cooldown: float
    settle: float
    denied: bool
    reason: str | None
    findings: list[FindingReference]


class Action(PlannedRemedy):
    """A remedy in a plan: ``planned``, or ``refused`` with a ``reason``.

    ``blocked`` means that the audit log of the host cannot be used, ``approved`` that the operator has allowed the
    action and that it is still needed.
    """

    blocked: bool
    approved: bool
    status: Literal["planned", "refused"]


class Run(TypedDict):
    """The run of a playbook: its id, who started it, and its process on the controller."""

    run: str
    who: str
    controller: str
    pid: int
    pid_start: int | None


class Journal(TypedDict):
    """The state of a host's audit log: another run's valid lock, outcomes, and intents without an outcome."""

    lock: Lock | None
    done: list[Entry]
    unfinished: list[Entry]
    error: str | None
    problems: list[str]


class ChangedFinding(TypedDict):
    """A finding before and after a remediation."""

    id: str
    host: str
    object: str | None
    summary: str
    fingerprint: str
    before: Status
    after: Status
    change: Change


class Remediation(TypedDict):
    """The part ``remediation`` of the report. ``actions`` hold named fields of an Action and of its outcome."""

    run: str
    who: str
    check_mode: bool
    actions: list[Values]
    changes: list[ChangedFinding]
    measured_again: list[str]
    not_measured_again: int
    unfinished: list[Values]


class AreaReport(TypedDict):
    """One area of one host in the report. ``not_here`` are names of what the count of the same name counts."""

    name: str
    status: Status
    identity: str | None
    counts: Counts
    not_here: list[str]
    seconds: float
    error: ErrorInfo | None


class HostReport(TypedDict):
    """One host in the report; ``reachable`` is false where a visit to it, or to a probe host, failed."""

    name: str
    reachable: bool
    status: Status
    areas: list[AreaReport]


class ChartColumn(TypedDict):
    """A further column in the table of a chart. ``unit``: ``bytes``, ``seconds``, ``ratio``, or null."""

    title: str
    unit: str | None


class ChartItem(TypedDict):
    """A bar of a chart: ``value`` out of ``of``, or a node of a tree, ``depth`` levels below its root."""

    label: str
    value: float
    of: float | None
    columns: list[str | float | None]
    depth: int


class ChartRun(TypedDict):
    """The values of an earlier run, by the label of the item."""

    time: str
    values: dict[str, float]


class Chart(TypedDict):
    """Measured values of one host, as a row of ``charts.yml`` names them. ``earlier``: the oldest run first."""

    id: str
    area: str
    host: str
    title: str
    kind: Literal["bars", "tree"]
    unit: str
    columns: list[ChartColumn]
    items: list[ChartItem]
    left_out: int
    trend: bool
    earlier: list[ChartRun]


State = Literal["new", "still", "flapping"]


class Seen(TypedDict):
    """A finding or an incident over the last runs.

    ``state`` is null if its area was never measured before. ``since``: the first run since when it was in all runs.
    ``runs``: one character for each of the last runs, 1 for there, 0 for not there, ? for not measured.
    """

    state: State | None
    since: str
    runs: str


class FixedFinding(TypedDict):
    """A finding of the run before that is gone, as it was then."""

    fingerprint: str
    id: str
    area: str
    host: str
    object: str | None
    title: str
    status: Status
    summary: str
    since: str


class History(TypedDict):
    """What earlier runs say. ``problem``: why they cannot be used, or this run not be kept; else null.

    ``previous`` is the time of the run before. ``counts`` are the findings of earlier runs over the same hosts and
    areas. ``findings`` and ``incidents`` are by fingerprint. ``fixed`` of the report has at most 1000 of
    ``fixed_total``.
    """

    problem: str | None
    previous: str | None
    counts: list[Values]
    findings: dict[str, Seen]
    incidents: dict[str, Seen]
    fixed_total: int


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
    findings: list[ReportedFinding]
    incidents: list[Incident]
    history: History | None
    fixed: list[FixedFinding]
    charts: list[Chart]
    remediation: Remediation | None
