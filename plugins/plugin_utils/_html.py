# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as one HTML page without scripts and external resources. Pure. Private to this collection.

The page is ``roles/report/templates/report.html.j2``, rendered with autoescape: text from hosts is only text. Without
its styles, which a mail gateway may remove, the page is readable: statuses are words, drawings have colours of their
own and a text with the same content.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from ansible_collections.tracktion.ops.plugins.module_utils._clean import COMMAND
from ansible_collections.tracktion.ops.plugins.plugin_utils import (
    _areas,
    _groups,
    _html_drawing,
    _incident_groups,
    _row_cache,
    _terminal,
    _text,
    _units,
)
from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES
from ansible_collections.tracktion.ops.plugins.plugin_utils._incident_groups import IncidentGroup
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import (
    Chart,
    HostReport,
    Report,
    ReportedFinding,
    Values,
)

PAGE = "report.html.j2"
STYLES = "report.css"
MARKS = {"critical": "\u2716", "warning": "\u26a0", "unknown": "?", "info": "i", "ok": "\u2713"}
# Columns of the name of an object in a drawing.
OBJECT = 60
# Goals for the page: of one host, of several, and never more.
HOST_BYTES = 150_000
FLEET_BYTES = 2_000_000
MOST_BYTES = 5_000_000


class Limits(NamedTuple):
    """How many of each are shown; the page names what is left out. ``texts``: the characters of one text."""

    incidents: int
    effects: int
    findings: int
    hosts: int
    charts: int
    unknown: int
    rows: int
    texts: int


# Tried one after the other, until the page is small enough.
OF_HOST = (
    Limits(60, 40, 100, 1, 24, 60, 200, 1500),
    Limits(30, 20, 50, 1, 16, 30, 60, 700),
    Limits(15, 10, 20, 1, 8, 15, 30, 400),
    Limits(5, 5, 5, 1, 4, 5, 10, 200),
)
OF_FLEET = (
    Limits(200, 40, 600, 2000, 60, 200, 500, 1500),
    Limits(100, 20, 200, 2000, 30, 60, 200, 700),
    Limits(40, 10, 60, 2000, 10, 30, 60, 400),
    Limits(10, 5, 20, 500, 4, 10, 20, 200),
)


def render(report: Report) -> str:
    """Return the page for a clean report."""
    one = len(report["hosts"]) == 1
    goal = HOST_BYTES if one else FLEET_BYTES
    page = ""
    for limits in OF_HOST if one else OF_FLEET:
        page = _template().render(_Page(report, limits).context())
        size = len(page.encode("utf-8", "backslashreplace"))
        if size <= goal:
            break
    if size > MOST_BYTES:
        raise ValueError("the page has %d bytes" % size)
    return page


@cache
def _template() -> Template:
    """Return the compiled page. Its byte code is kept for later runs."""
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_row_cache.Bytecode(),
    )
    environment.filters.update(
        prose=_prose,
        time=_time,
        duration=_units.duration,
        quantity=_html_drawing.quantity,
        mark=lambda status: MARKS[status],
    )
    # S704: the styles are a file of this collection.
    environment.globals["styles"] = Markup(_source(STYLES))  # noqa: S704
    return environment.get_template(PAGE)


def _source(name: str) -> str:
    return _areas.own_role("report").file("templates", name).read_text(encoding="utf-8")


def _time(text: str) -> str:
    """Return a time of the report for people: 2026-11-23 02:13:20 UTC."""
    return text.replace("T", " ").replace("Z", " UTC")


def _prose(text: str | None) -> Markup:
    """Return text in which the commands between backticks are code."""
    parts = COMMAND.split(text or "")
    return Markup("").join(
        Markup("<code>%s</code>") % part[1:-1] if number % 2 else escape(part) for number, part in enumerate(parts)
    )


class _Page:
    """What the template shows of a report."""

    def __init__(self, report: Report, limits: Limits) -> None:
        self.report = report
        self.limits = limits
        self.history = report["history"]
        # What is not shown: its number by what it is.
        self.cut: dict[str, int] = {}

    def context(self) -> Values:
        """Return the variables of the template."""
        report = self.report
        made = {
            "report": report,
            "one_host": len(report["hosts"]) == 1,
            "incidents": self._incidents(),
            "findings": self._findings(),
            "unknown": self._unknown(),
            "fixed": self._fixed(),
            "hosts": self._hosts(),
            "areas": sorted({area["name"] for host in report["hosts"] for area in host["areas"]}),
            "charts": self._charts(),
            "counts_chart": self._counts_trend(),
            "remediation": self._remediation(),
            "statuses": [status for status in reversed(STATUSES) if status != "ok"],
        }
        made["cut"] = [(name, number) for name, number in self.cut.items() if number > 0]
        return made

    def _first(self, items: Sequence[Any], most: int, name: str) -> Sequence[Any]:
        """Return the first items; the number of the others is noted for the end of the page."""
        self.cut[name] = self.cut.get(name, 0) + max(0, len(items) - most)
        return items[:most]

    def _incidents(self) -> list[Values]:
        """Return the incidents with a warning or something critical, in the order of the terminal."""
        groups = _incident_groups.equal(self.report)
        serious = [group for group in groups if group.incidents and group.status in ("critical", "warning")]
        return [self._incident(group) for group in self._first(serious, self.limits.incidents, "incidents")]

    def _incident(self, group: IncidentGroup) -> Values:
        cause = group.causes.worst
        incident = next(each for each in group.incidents if each["cause"] == cause["fingerprint"])
        nodes = [self._node(group.causes, 0, "")]
        steps: list[Values] = []
        for follower in self._first(group.followers, self.limits.effects, "effects of incidents"):
            finding = follower.group.worst
            # The number of the step that explains it.
            nodes.append(self._node(follower.group, follower.depth, "%d. " % (len(steps) + 1)))
            steps.append({"finding": self._finding(finding), "mechanism": follower.mechanism})
        seen = self.history["incidents"].get(incident["fingerprint"]) if self.history else None
        step = incident["first_step"]
        command = step["command"] if step else None
        return {
            "status": group.status,
            "cause": self._finding(cause),
            "hosts": _named(group.causes.hosts),
            "began": group.began,
            "seen": self._seen(seen),
            "hint": self._text(step["hint"]) if step and step["hint"] else None,
            # The hint has the command already, if it is not that of the remedy.
            "command": command if command and command not in ((step and step["hint"]) or "") else None,
            "since": _time(_incident_groups.since(group, self.report)),
            "follow": sum(len(follower.group.findings) for follower in group.followers),
            "steps": steps,
            "drawing": _html_drawing.tree(nodes) if steps else None,
            "possible": list(group.possible.items())[: self.limits.effects],
        }

    def _node(self, group: _groups.Group, depth: int, number: str) -> _html_drawing.Node:
        """Return the box of equal findings: their title with the object and the number of the others."""
        finding, more = group.worst, len(group.findings) - 1
        name = finding["object"] or (finding["host"] if len(self.report["hosts"]) > 1 else "")
        named = ": " + _text.cut(name, OBJECT) if name else ""
        text = "%s%s %s%s%s" % (
            number, MARKS[finding["status"]], finding["title"], named, " and %d more" % more if more else ""
        )  # fmt: skip
        return _html_drawing.Node(text, depth, finding["status"])

    def _text(self, text: str) -> str:
        return _text.cut(text, self.limits.texts)

    def _seen(self, seen: Any) -> str:
        if not seen or seen["state"] is None:
            return ""
        if seen["state"] == "still":
            return "Still there, since the run of %s" % _time(seen["since"])
        return "Flapping: it came and went in the last runs" if seen["state"] == "flapping" else "New"

    def _finding(self, finding: ReportedFinding) -> Values:
        remedy = finding["remedy"]
        seen = self.history["findings"].get(finding["fingerprint"]) if self.history else None
        return {
            "fingerprint": finding["fingerprint"],
            "id": finding["id"],
            "status": finding["status"],
            "title": finding["title"],
            "host": finding["host"],
            "object": finding["object"],
            "summary": self._text(finding["summary"]),
            "why": finding["why"],
            "guide": finding["guide"],
            "hint": self._text(finding["hint"]) if finding["hint"] else None,
            "seen": self._seen(seen),
            "values": [
                (name, self._value(value))
                for name, value in finding["observed"].items()
                if not (value is None or isinstance(value, dict) or _units.is_moment(name, value))
            ],
            "limits": [(name, self._value(value)) for name, value in finding["threshold"].items()],
            "remedy": {**remedy, "does": self._text(remedy["does"])} if remedy else None,
        }

    @staticmethod
    def _value(value: Any) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        return "%.6g" % value if isinstance(value, float) else _text.cut(str(value), 60)

    def _findings(self) -> list[Values]:
        """Return the findings except unknown ones; equal ones of several hosts are one."""
        groups = _groups.equal(each for each in self.report["findings"] if each["status"] != "unknown")
        shown = self._first(groups, self.limits.findings, "findings")
        return [{**self._finding(group.worst), "hosts": _named(group.hosts)} for group in shown]

    def _unknown(self) -> list[Values]:
        """Return what could not be checked: each reason once, with its checks and hosts."""
        reasons = _by_reason(each for each in self.report["findings"] if each["status"] == "unknown")
        return [
            {
                "area": area,
                "reason": self._text(reason),
                "hint": self._text(hint) if hint else None,
                "checks": sorted({each["id"] for each in found}),
                "hosts": _named(sorted({host for each in found for host in each["hosts"]})),
            }
            for (area, reason, hint), found in self._first(
                list(reasons.items()), self.limits.unknown, "reasons why something could not be checked"
            )
        ]

    def _fixed(self) -> list[Values]:
        total = self.history["fixed_total"] if self.history else 0
        shown = self.report["fixed"][: self.limits.rows]
        self.cut["fixed findings"] = total - len(shown)
        return [{**each, "summary": self._text(each["summary"])} for each in shown]

    def _hosts(self) -> list[Values]:
        return [
            {**host, "by_area": {area["name"]: _area(area) for area in host["areas"]}, "sums": _sums(host)}
            for host in self._first(self.report["hosts"], self.limits.hosts, "hosts")
        ]

    def _charts(self) -> list[Values]:
        """Return charts with their drawings, those of each host together."""
        charts = self._first(self.report["charts"], self.limits.charts, "charts")
        return [self._chart(chart) for chart in charts]

    def _chart(self, chart: Chart) -> Values:
        made: Values = {**chart, "drawing": None, "trend": None, "tree": None}
        if chart["kind"] == "tree":
            nodes = [
                _html_drawing.Node(
                    item["label"]
                    + (" (%s)" % _html_drawing.quantity(item["value"], chart["unit"]) if item["value"] else ""),
                    item["depth"],
                    "info",
                )
                for item in chart["items"]
            ]
            made["tree"] = _html_drawing.tree(nodes)
        else:
            made["drawing"] = _html_drawing.bars(chart)
            made["trend"] = _html_drawing.trend(chart, self.report["finished"]) if chart["trend"] else None
        limited = any(item["of"] is not None for item in chart["items"])
        made["rows"] = [
            {
                "label": item["label"],
                "depth": item["depth"],
                "value": _html_drawing.quantity(item["value"], chart["unit"]),
                "of": _html_drawing.quantity(item["of"], chart["unit"]),
                "columns": [
                    _html_drawing.quantity(cell, column["unit"])
                    for cell, column in zip(item["columns"], chart["columns"], strict=True)
                ],
            }
            for item in chart["items"]
        ]
        made["limited"] = limited
        return made

    def _counts_trend(self) -> Values | None:
        """Return a chart of the number of findings in earlier runs over the same hosts and areas."""
        if not self.history or len(self.history["counts"]) < 2:
            return None
        names = ("critical", "warning", "unknown", "info")
        now: Values = {**self.report["counts"]}
        chart: Chart = {
            "id": "findings",
            "area": "",
            "host": "",
            "title": "Findings over the last runs",
            "kind": "bars",
            "unit": "findings",
            "columns": [],
            "items": [{"label": name, "value": now[name], "of": None, "columns": [], "depth": 0} for name in names],
            "left_out": 0,
            "trend": True,
            "earlier": [
                {"time": run["time"], "values": {name: run[name] for name in names}}
                for run in self.history["counts"]
            ],
        }  # fmt: skip
        return _html_drawing.trend(chart, self.report["finished"])

    def _remediation(self) -> Values | None:
        found = self.report["remediation"]
        if not found:
            return None
        return {
            **found,
            "actions": self._first(found["actions"], self.limits.rows, "actions"),
            "changes": self._first(found["changes"], self.limits.rows, "changes"),
        }


def _by_reason(findings: Iterable[ReportedFinding]) -> dict[tuple[str, str, str | None], list[ReportedFinding]]:
    groups: dict[tuple[str, str, str | None], list[ReportedFinding]] = {}
    for finding in findings:
        groups.setdefault((finding["area"], finding["summary"], finding["hint"]), []).append(finding)
    return groups


def _named(hosts: list[str]) -> str:
    return _text.few(hosts, 10)


def _area(area: Any) -> Values:
    return {"status": "not here" if _terminal.is_absent(area) else area["status"], **area}


def _sums(host: HostReport) -> Values:
    counts: list[Values] = [{**area["counts"]} for area in host["areas"]]
    return {name: sum(each[name] for each in counts) for name in ("checks", "items", "ok", "not_here")}
