# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report model: what was found on all hosts, as data. Built from named fields only. Private to this collection."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime

from ansible_collections.tracktion.ops.plugins.plugin_utils import _checks, _judge, _launch, _remediation

SCHEMA_VERSION = 1
TEMPLATE = re.compile(r"\{[{%#]")
REMEDY_FIELDS = ("id", "title", "risk", "data_loss", "does", "target", "vars", "evidence")
COUNTS = ("checks", "items") + _judge.STATUSES


class Judges:
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
        return self._areas[name].argument_spec

    def ids(self):
        """The ids of the checks that have judged, and of the remedies that may answer them."""
        return {row.id for checks in self._checks.values() for row in (*checks, *checks.remedies.values())}


def host_report(name, results, judges, coerce):
    """``(host, findings)`` of one host from the registered results of its visits, one per place.

    ``coerce(argument_spec, settings)`` returns the settings in the types that the role's argument_specs give.
    """
    findings, areas = [], []
    for visit in results:
        problem = _visit_problem(visit)
        if problem:
            findings.append(_host_finding(name, visit.get("place") or name, *problem))
        for area, outcome in visit["areas"].items():
            settings = coerce(judges.argument_spec(area), outcome["settings"])
            found, counts = _judge.judge(area, judges.checks(area, visit["extra_checks"]), name, outcome, settings)
            findings.extend(found)
            areas.append(
                {
                    "name": area,
                    "status": _judge.worst(finding["status"] for finding in found),
                    "counts": counts,
                    "seconds": outcome["seconds"],
                    "error": outcome["error"],
                }
            )
    reachable = not any(finding["area"] == "host" for finding in findings)
    status = _judge.worst(finding["status"] for finding in findings)
    areas.sort(key=lambda area: area["name"])
    return {"name": name, "reachable": reachable, "status": status, "areas": areas}, findings


def _visit_problem(visit):
    """Why a visit brought no measurement home: ``(id, summary)``, or None where it did."""
    if visit.get("unreachable"):
        return "host.unreachable", "Ansible cannot reach the host: %s" % visit.get("msg", "")
    if not visit["areas"] and visit.get("msg"):
        said = (visit.get("module_stderr") or visit.get("module_stdout") or "").strip()
        return "host.visit_failed", "The visit failed: %s. %s" % (visit["msg"], said)
    return None


def _host_finding(host, place, check_id, summary):
    name = place if place != host else None
    return {
        "id": check_id,
        "area": "host",
        "host": host,
        "object": name,
        "title": "Host not diagnosed",
        "status": "critical",
        "summary": " ".join(summary.split())[:500],
        "observed": {},
        "threshold": {},
        "why": "Nothing is known about the services on this host.",
        "guide": "Quick Diagnostic Commands",
        "advice": "ansible %s -m ansible.builtin.ping -vvv shows where the connection ends" % shlex.quote(place),
        "remedy": None,
        "fingerprint": _judge.fingerprint(check_id, host, name),
    }


def build(hosts, findings, previous, version, started, finished, inventories, remediation=None, launch=None):
    """The report, as it stands in report.json (``docs/report.schema.json``).

    ``launch`` is how the run was started; without it, with the inventories and nothing else.
    """
    launch = launch or _launch.Launch(tuple(inventories))
    seen = {finding["fingerprint"]: finding.get("first_seen") for finding in (previous or {}).get("findings", [])}
    now = _iso(finished)
    for finding in findings:
        finding["first_seen"] = seen.get(finding["fingerprint"]) or now
        if finding["remedy"]:
            finding["remedy"] = _with_command(finding["remedy"], finding["host"], finding["fingerprint"], launch)
    findings.sort(key=worst_first)
    hosts.sort(key=lambda host: (-_judge.STATUSES.index(host["status"]), host["name"]))
    counts = dict.fromkeys(COUNTS, 0)
    for host in hosts:
        for area in host["areas"]:
            for key in COUNTS:
                counts[key] += area["counts"][key]
    for finding in findings:
        if finding["area"] == "host":
            counts[finding["status"]] += 1
    return {
        "schema": "tracktion.ops/report",
        "schema_version": SCHEMA_VERSION,
        "collection_version": version,
        "started": _iso(started),
        "finished": now,
        "status": _judge.worst(host["status"] for host in hosts),
        "counts": counts,
        "hosts": hosts,
        "findings": findings,
        "remediation": remediation,
    }


def unjudged(report):
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
        -_judge.STATUSES.index(finding["status"]),
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
