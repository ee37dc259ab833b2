# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of all hosts as data. Built from named fields only. Private to this collection."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.module_utils._types import ErrorInfo
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _causes,
    _charts,
    _checks,
    _evaluation,
    _host_findings,
    _incidents,
    _launch,
    _presence,
    _remediation,
    _shared,
    _visit_failure,
)
from ansible_collections.tracktion.ops.plugins.plugin_utils._areas import Area
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import (
    AreaOutcome,
    AreaReport,
    Chart,
    Counts,
    Finding,
    HostReport,
    Proposal,
    Remediation,
    Report,
    ReportedFinding,
    ReportedRemedy,
    Values,
    Visit,
)

SCHEMA_VERSION = 4
TEMPLATE = re.compile(r"\{[{%#]")


class CompiledChecks:
    """The compiled checks of all areas: once for all hosts with the same extra rows."""

    def __init__(self, areas: Iterable[Area]) -> None:
        self._areas = {area.name: area for area in areas}
        self._checks: dict[tuple[str, str], _checks.Checks] = {}

    def of_area(self, name: str, extra_rows: Sequence[Any]) -> _checks.Checks:
        """Return the checks of an area. Raises BadRow."""
        key = (name, json.dumps(extra_rows, sort_keys=True, default=str))
        if key not in self._checks:
            area = self._areas[name]
            rows = _checks.extra_rows_by_area(extra_rows, [area])[name]
            self._checks[key] = _checks.load(area, rows)
        return self._checks[key]

    def edges(self, extra_rows: Sequence[Any]) -> _causes.Edges:
        """Return the cause rows of all areas, and these of the user, which the visit has validated."""
        return _causes.load(list(self._areas.values()), extra_rows)

    def presence(self, name: str) -> list[_presence.Presence]:
        """Return the presence rows of an area. Raises BadRow."""
        return _presence.load(self._areas[name])

    def charts(self, name: str, host: str, measurement: Mapping[str, Any]) -> list[Chart]:
        """Return the charts of an area on one host. Raises BadRow."""
        return _charts.of_area(self._areas[name], host, measurement)

    def argument_spec(self, name: str) -> dict[str, Values]:
        """Return the options that an area role declares."""
        return self._areas[name].argument_spec

    def ids(self) -> set[str]:
        """Return the ids of all checks that were evaluated, and of their remedies."""
        return {row.id for checks in self._checks.values() for row in (*checks, *checks.remedies.values())}


def host_report(
    name: str,
    visits: Iterable[Visit],
    checks: CompiledChecks,
    inventories: Sequence[str] = (),
    charts: list[Chart] | None = None,
) -> tuple[HostReport, list[Finding]]:
    """Return the part of the report about one host, and its findings. ``visits``: one per probe host.

    The charts of the host are added to ``charts``.
    If one area cannot be evaluated, it is unknown; the other areas are evaluated.
    """
    findings: list[Finding] = []
    areas: list[AreaReport] = []
    reachable = True
    for visit in visits:
        probe_host = visit.get("probe_host") or visit.get("tracktion_probe_host") or name
        state, limits = visit.get("host"), visit.get("limits") or {}
        failure = _failure(visit, probe_host, inventories)
        if failure:
            reachable = False
            findings.append(_host_findings.not_diagnosed(name, probe_host, failure))
        starved = _host_findings.starved(state, limits)
        covered: list[str] = []
        for area, outcome in visit["areas"].items():
            left = _presence.apply(checks.presence(area), outcome, visit.get("presence"))
            found: list[Finding] = []
            counts = _evaluation.no_counts()
            if left.outcome:
                found, counts = _evaluated(name, area, left.outcome, visit["extra_checks"], checks, starved, covered)
                if charts is not None:
                    charts += checks.charts(area, name, left.outcome["measurement"])
            counts["not_here"] = len(left.absent)
            findings.extend(found)
            areas.append(
                {
                    "name": area,
                    "status": _evaluation.worst(finding["status"] for finding in found),
                    "identity": _shared.identity(outcome["measurement"]),
                    "counts": counts,
                    "not_here": left.absent[: _evaluation.LISTED],
                    "seconds": outcome["seconds"],
                    "error": outcome["error"],
                }
            )
        explained = sorted({each["id"] for each in findings if _host_findings.is_overload(each)})
        findings += _host_findings.findings(
            name, probe_host, state, limits, sorted(set(covered)), inventories, explained
        )
    status = _evaluation.worst(finding["status"] for finding in findings)
    areas.sort(key=lambda area: area["name"])
    return {"name": name, "reachable": reachable, "status": status, "areas": areas}, findings


def _evaluated(
    name: str,
    area: str,
    outcome: AreaOutcome,
    extra_checks: Sequence[Any],
    checks: CompiledChecks,
    starved: str | None,
    covered: list[str],
) -> tuple[list[Finding], Counts]:
    """Return the findings and counts of one area on one host."""
    rows = checks.of_area(area, extra_checks)
    try:
        return _evaluation.evaluate(area, rows, name, outcome, outcome["settings"], starved, covered)
    except Exception as exc:  # pylint: disable=broad-except
        # The other hosts and areas are still reported.
        message = cut("cannot be evaluated: %s" % (" ".join(str(exc).split()) or type(exc).__name__), 500)
        error: ErrorInfo = {"kind": "not_evaluated", "message": message, "hint": None}
        outcome["error"] = outcome["error"] or error
        return _evaluation.evaluate(area, rows, name, {"measurement": {}, "error": error}, {})


def _failure(visit: Visit, probe_host: str, inventories: Sequence[str]) -> _visit_failure.Failure | None:
    """Return why a visit measured nothing, or None. Of a task that failed earlier, Ansible's own result is used."""
    failed = visit.get("failure")
    if not failed:
        if visit["areas"] or visit.get("skipped") or not visit.get("msg"):
            return None
        failed = cast("Values", visit)
    try:
        connection = _visit_failure.Connection(**(failed.get("connection") or {}))
    except TypeError:
        connection = None
    return _visit_failure.classify(failed, probe_host, connection, inventories)


def build(
    hosts: list[HostReport],
    findings: Iterable[Finding],
    version: str,
    started: float,
    finished: float,
    inventories: Iterable[str],
    remediation: Remediation | None = None,
    launch: _launch.Launch | None = None,
    edges: _causes.Edges | None = None,
    stacks: Mapping[str, str] | None = None,
    charts: Iterable[Chart] = (),
) -> Report:
    """Return the report as report.json holds it (``docs/report.schema.json``), without its history.

    ``launch`` is how the run was started; without it, with the inventories and nothing else. ``edges`` are the cause
    rows, ``stacks`` the names of the stacks of the hosts that belong to one.
    """
    launch = launch or _launch.Launch(tuple(inventories))
    now = _iso(finished)
    merged = sorted(_shared.merge(findings, hosts), key=worst_first)
    hosts.sort(key=lambda host: (-_evaluation.STATUSES.index(host["status"]), host["name"]))
    counts = _shared.counts(hosts, merged)
    for finding in merged:
        if finding["area"] == "host":
            counts[finding["status"]] += 1
    reported = [_reported(finding, now, launch) for finding in merged]
    unmeasured = [finding for finding in reported if finding["status"] == "unknown"]
    return {
        "schema": "tracktion.ops/report",
        "schema_version": SCHEMA_VERSION,
        "collection_version": version,
        "started": _iso(started),
        "finished": now,
        "status": _evaluation.worst(host["status"] for host in hosts),
        "counts": counts,
        "hosts": hosts,
        "findings": reported,
        "incidents": _incidents.build(reported, edges or _causes.Edges((), {}), unmeasured, stacks),
        "history": None,
        "fixed": [],
        "charts": _charts.of_report(charts, hosts),
        "remediation": remediation,
    }


def _reported(finding: Finding, first_seen: str, launch: _launch.Launch) -> ReportedFinding:
    remedy = finding["remedy"]
    command = _with_command(remedy, finding["host"], finding["fingerprint"], launch) if remedy else None
    began = _iso(finding["began"]) if finding["began"] is not None else None
    return {**finding, "hosts": finding["hosts"], "first_seen": first_seen, "remedy": command, "began": began}


def not_evaluated(report: Report) -> list[str]:
    """Return the areas, as ``host: area``, of which all checks are unknown."""
    return [
        "%s: %s" % (host["name"], area["name"])
        for host in report["hosts"]
        for area in host["areas"]
        if area["counts"]["unknown"] == area["counts"]["items"] > 0
    ]


def summary(report: Report, findings: int = 20) -> Values:
    """Return the report in short for set_stats: small enough for the artifacts of a job."""
    return {
        "status": report["status"],
        "counts": report["counts"],
        "hosts": len(report["hosts"]),
        "hosts_not_diagnosed": [host["name"] for host in report["hosts"] if not host["reachable"]][:findings],
        "findings": [
            {
                "id": finding["id"],
                "host": finding["host"],
                "object": finding["object"],
                "status": finding["status"],
                "summary": finding["summary"],
                "fingerprint": finding["fingerprint"],
            }
            for finding in report["findings"][:findings]
        ],
        "findings_left_out": max(0, len(report["findings"]) - findings),
        "remediation": _remediation.summary(report["remediation"]),
    }


def worst_first(finding: Finding) -> tuple[bool, int, str, str, str, str]:
    """Return the key that sorts findings by severity, then by host, area, id and object; an overload comes first."""
    return (
        not _host_findings.is_overload(finding),
        -_evaluation.STATUSES.index(finding["status"]),
        finding["host"],
        finding["area"],
        finding["id"],
        finding["object"] or "",
    )


def _with_command(remedy: Proposal, host: str, fingerprint: str, launch: _launch.Launch) -> ReportedRemedy:
    """Return the remedy for the report, with the command that carries it out for this finding, in check mode first."""
    extra: Values = {"tracktion_only": fingerprint}
    if remedy["risk"] != "safe":
        extra["tracktion_remediate_risk"] = remedy["risk"]
    if remedy["risk"] == "destructive":
        extra["tracktion_confirm"] = [confirmation(remedy["id"], remedy["target"], remedy["evidence"])]
    return {
        "id": remedy["id"],
        "title": remedy["title"],
        "risk": remedy["risk"],
        "data_loss": remedy["data_loss"],
        "does": remedy["does"],
        "target": remedy["target"],
        "vars": remedy["vars"],
        "evidence": remedy["evidence"],
        "command": launch.command(host, extra),
    }


def confirmation(remedy_id: str, target: str | None, evidence: str | None) -> str:
    """Return the entry of ``tracktion_confirm`` for a remedy and its target.

    Ansible renders the values of ``-e`` as templates. A target that looks like a template (any user who may declare a
    queue chooses its name) is named by its evidence instead.
    """
    name = target or ""
    return "%s:%s" % (remedy_id, evidence if TEMPLATE.search(name) else name)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
