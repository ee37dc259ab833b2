# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as metrics, for the textfile collector of node_exporter. Pure. Private to this collection.

Names follow https://prometheus.io/docs/practices/naming/. Objects of findings are no labels: their number has no bound.
Samples have no timestamps, which the textfile collector does not support.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Chart, Report, Status

# Series of tracktion_check_findings: of the worst findings.
CHECKS_MOST = 5000
FOUND: tuple[Status, ...] = ("critical", "warning", "unknown", "info")
UNSAFE = re.compile(r"[^a-z0-9_]")

Labels = Mapping[str, str]


def render(report: Report) -> str:
    """Return the metrics of a clean report in the text format, 0.0.4."""
    metrics = _Metrics()
    metrics.add("build_info", "The version of the collection.", {"version": report["collection_version"]}, 1)
    for name in ("started", "finished"):
        text = "When the run was %s." % name
        metrics.add("run_%s_timestamp_seconds" % name, text, {}, _epoch(report[name]))
    for host in report["hosts"]:
        labels = {"host": host["name"]}
        metrics.add("host_reachable", "Whether the host could be visited.", labels, int(host["reachable"]))
        text = "The worst status of the host: 0 ok, 1 info, 2 unknown, 3 warning, 4 critical."
        metrics.add("host_status", text, labels, STATUSES.index(host["status"]))
        for area in host["areas"]:
            own = {**labels, "area": area["name"]}
            text = "The worst status of an area: 0 ok, 1 info, 2 unknown, 3 warning, 4 critical."
            metrics.add("area_status", text, own, STATUSES.index(area["status"]))
            metrics.add("area_measurement_seconds", "Duration of the measurement.", own, area["seconds"])
    _findings(metrics, report)
    _charts(metrics, report["charts"])
    return metrics.text()


class _Metrics:
    def __init__(self) -> None:
        self._helps: dict[str, str] = {}
        self._samples: dict[str, dict[str, float]] = {}

    def add(self, name: str, text: str, labels: Labels, value: float) -> None:
        """Add a gauge. Of two samples with the same labels, the last is kept: a file with both is invalid."""
        self._helps.setdefault(name, text)
        shown = ",".join('%s="%s"' % (key, _escaped(label)) for key, label in labels.items())
        self._samples.setdefault(name, {})["{%s}" % shown if shown else ""] = value

    def text(self) -> str:
        """Return all samples in the text format."""
        lines = []
        for name, samples in self._samples.items():
            full = "tracktion_" + name
            lines += ["# HELP %s %s" % (full, self._helps[name]), "# TYPE %s gauge" % full]
            lines += ["%s%s %s" % (full, labels, _number(value)) for labels, value in samples.items()]
        return "\n".join(lines) + "\n"


def _findings(metrics: _Metrics, report: Report) -> None:
    by_host: Counter[tuple[str, Status]] = Counter()
    by_check: Counter[tuple[str, str, str, Status]] = Counter()
    for finding in report["findings"]:
        for name in finding["hosts"]:
            by_host[name, finding["status"]] += 1
        by_check[finding["host"], finding["area"], finding["id"], finding["status"]] += 1
    for host in report["hosts"]:
        for status in FOUND:
            labels = {"host": host["name"], "status": status}
            metrics.add("findings", "Number of findings of a host.", labels, by_host[host["name"], status])
    listed = list(by_check.items())
    for (name, area, check, status), number in listed[:CHECKS_MOST]:
        labels = {"host": name, "area": area, "check": check, "status": status}
        metrics.add("check_findings", "Number of findings of a check. Absent without any.", labels, number)
    text = "Series of tracktion_check_findings that are left out, of the least severe findings."
    metrics.add("check_findings_left_out", text, {}, max(0, len(listed) - CHECKS_MOST))
    incidents = Counter(incident["status"] for incident in report["incidents"])
    for status in FOUND:
        text = "Number of incidents: causes with what follows from them."
        metrics.add("incidents", text, {"status": status}, incidents[status])
    history = report["history"]
    if history and not history["problem"]:
        states = Counter(seen["state"] for seen in history["findings"].values())
        for state in ("new", "still", "flapping"):
            metrics.add("findings_by_state", "Number of findings by their history.", {"state": state}, states[state])
        text = "Findings of the run before that are gone."
        metrics.add("fixed_findings", text, {}, history["fixed_total"])


def _charts(metrics: _Metrics, charts: Iterable[Chart]) -> None:
    for chart in charts:
        if chart["kind"] == "tree":
            continue
        name, unit = UNSAFE.sub("_", chart["id"].lower()), UNSAFE.sub("_", chart["unit"])
        # Not sessions_sessions.
        ending = "" if name.endswith("_" + unit) else "_" + unit
        for item in chart["items"]:
            labels = {"host": chart["host"], "item": item["label"]}
            metrics.add(name + ending, "%s." % chart["title"], labels, item["value"])
            if item["of"] is not None:
                text = "The limit or the whole of tracktion_%s." % (name + ending)
                metrics.add("%s_limit%s" % (name, ending), text, labels, item["of"])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
