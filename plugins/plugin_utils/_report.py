# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report model: what was found on all hosts, as data. Built from named fields only. Private to this collection."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _checks,
    _evaluation,
    _host_findings,
    _launch,
    _remediation,
    _shared,
    _visit_failure,
)

SCHEMA_VERSION = 3
TEMPLATE = re.compile(r"\{[{%#]")
REMEDY_FIELDS = ("id", "title", "risk", "data_loss", "does", "target", "vars", "evidence")
COUNTS = ("checks", "items") + _evaluation.STATUSES


class CompiledChecks:
    """The compiled checks of each area, made once for all hosts that share the same extra rows."""

    def __init__(self, areas):
        self._areas = {area.name: area for area in areas}
        self._checks = {}

    def checks(self, name, extra_rows):
        key = (name, json.dumps(extra_rows, sort_keys=True, default=str))
        if key not in self._checks:
            area = self._areas[name]
            rows = _checks.extra_rows_by_area(extra_rows, [area])[name]
            self._checks[key] = _checks.load(area, rows)
        return self._checks[key]

    def argument_spec(self, name):
        """The options that an area role declares."""
        return self._areas[name].argument_spec

    def ids(self):
        """The ids of the checks that have judged, and of the remedies that may answer them."""
        return {row.id for checks in self._checks.values() for row in (*checks, *checks.remedies.values())}


def host_report(name, results, compiled, inventories=()):
    """``(host, findings)`` of one host from the results of its visits, one per probe_host.

    Whatever goes wrong with one area of one host makes that area unknown.
    """
    findings, areas, reachable = [], [], True
    for visit in results:
        probe_host = visit.get("probe_host") or visit.get("tracktion_probe_host") or name
        failure = _failure(visit, probe_host, inventories)
        if failure:
            reachable = False
            findings.append(_host_findings.not_diagnosed(name, probe_host, failure))
        starved = _host_findings.starved(visit.get("host"), visit.get("limits"))
        covered = []
        for area, outcome in visit["areas"].items():
            found, counts = _evaluated(name, area, outcome, visit["extra_checks"], compiled, starved, covered)
            findings.extend(found)
            areas.append(
                {
                    "name": area,
                    "status": _evaluation.worst(finding["status"] for finding in found),
                    "identity": _shared.identity(outcome["measurement"]),
                    "counts": counts,
                    "seconds": outcome["seconds"],
                    "error": outcome["error"],
                }
            )
        findings += _host_findings.findings(
            name, probe_host, visit.get("host"), visit.get("limits"), sorted(set(covered)), inventories
        )
    status = _evaluation.worst(finding["status"] for finding in findings)
    areas.sort(key=lambda area: area["name"])
    return {"name": name, "reachable": reachable, "status": status, "areas": areas}, findings


def _evaluated(name, area, outcome, extra_checks, compiled, starved, covered):
    """The findings and counts of one area on one host."""
    checks = compiled.checks(area, extra_checks)
    try:
        return _evaluation.evaluate(area, checks, name, outcome, outcome["settings"], starved, covered)
    except Exception as exc:  # pylint: disable=broad-except
        # No host and no area may cost the report of the others.
        message = cut("cannot be evaluated: %s" % (" ".join(str(exc).split()) or type(exc).__name__), 500)
        error = {"kind": "not_evaluated", "message": message, "hint": None}
        outcome["error"] = outcome["error"] or error
        return _evaluation.evaluate(area, checks, name, {"measurement": {}, "error": error}, {})


def _failure(visit, probe_host, inventories):
    """Why a visit gave no measurement, or None where it did. ``visit`` may be what Ansible itself registered."""
    failed = visit.get("failure")
    if not failed:
        if visit["areas"] or visit.get("skipped") or not visit.get("msg"):
            return None
        failed = visit
    try:
        connection = _visit_failure.Connection(**(failed.get("connection") or {}))
    except TypeError:
        connection = None
    return _visit_failure.classify(failed, probe_host, connection, inventories)


def build(hosts, findings, previous, version, started, finished, inventories, remediation=None, launch=None):
    """The report, as it stands in report.json (``docs/report.schema.json``).

    ``launch`` is how the run was started; without it, with the inventories and nothing else.
    """
    launch = launch or _launch.Launch(tuple(inventories))
    seen = {finding["fingerprint"]: finding.get("first_seen") for finding in (previous or {}).get("findings", [])}
    now = _iso(finished)
    findings = _shared.merge(findings, hosts)
    for finding in findings:
        finding["first_seen"] = _first_seen(finding, seen) or now
        if finding["remedy"]:
            finding["remedy"] = _with_command(finding["remedy"], finding["host"], finding["fingerprint"], launch)
    findings.sort(key=worst_first)
    hosts.sort(key=lambda host: (-_evaluation.STATUSES.index(host["status"]), host["name"]))
    counts = _shared.counts(hosts, findings, COUNTS)
    for finding in findings:
        if finding["area"] == "host":
            counts[finding["status"]] += 1
    return {
        "schema": "tracktion.ops/report",
        "schema_version": SCHEMA_VERSION,
        "collection_version": version,
        "started": _iso(started),
        "finished": now,
        "status": _evaluation.worst(host["status"] for host in hosts),
        "counts": counts,
        "hosts": hosts,
        "findings": findings,
        "remediation": remediation,
    }


def _first_seen(finding, seen):
    """When an earlier report saw the finding first, under any of its hosts; null where none did."""
    names = [_evaluation.fingerprint(finding["id"], host, finding["object"]) for host in finding["hosts"]]
    return min(filter(None, map(seen.get, names)), default=None)


def not_evaluated(report):
    """The areas, as ``host: area``, of which not one check came to a result: nothing at all is known of them."""
    return [
        "%s: %s" % (host["name"], area["name"])
        for host in report["hosts"]
        for area in host["areas"]
        if area["counts"]["unknown"] == area["counts"]["items"] > 0
    ]


def summary(report, findings=20):
    """What goes out by set_stats: small enough for a job's artifacts."""
    return {
        "status": report["status"],
        "counts": report["counts"],
        "hosts": len(report["hosts"]),
        "hosts_not_diagnosed": [host["name"] for host in report["hosts"] if not host["reachable"]][:findings],
        "findings": [
            {key: finding[key] for key in ("id", "host", "object", "status", "summary", "fingerprint")}
            for finding in report["findings"][:findings]
        ],
        "findings_left_out": max(0, len(report["findings"]) - findings),
        "remediation": _remediation.summary(report["remediation"]),
    }


def worst_first(finding):
    return (
        -_evaluation.STATUSES.index(finding["status"]),
        finding["host"],
        finding["area"],
        finding["id"],
        finding["object"] or "",
    )


def _with_command(remedy, host, fingerprint, launch):
    """The remedy's fields for the report, with how it is carried out for this finding, in check mode first."""
    extra = {"tracktion_only": fingerprint}
    if remedy["risk"] != "safe":
        extra["tracktion_remediate_risk"] = remedy["risk"]
    if remedy["risk"] == "destructive":
        extra["tracktion_confirm"] = [confirmation(remedy)]
    return {**{key: remedy[key] for key in REMEDY_FIELDS}, "command": launch.command(host, extra)}


def confirmation(remedy):
    """What names a remedy and its target in ``tracktion_confirm``.

    Ansible takes what is handed over by ``-e`` for a template: a target that looks like one (whoever may declare a
    queue chooses its name) is named by its evidence instead.
    """
    name = remedy["target"] or ""
    return "%s:%s" % (remedy["id"], remedy["evidence"] if TEMPLATE.search(name) else name)


def _iso(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
