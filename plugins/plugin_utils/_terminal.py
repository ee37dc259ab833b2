# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report for a terminal, the worst first. Private to this collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ansible_collections.tracktion.ops.plugins.plugin_utils import _text
from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES
from ansible_collections.tracktion.ops.plugins.plugin_utils._groups import hosts_of
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean, cleaned
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import (
    AreaReport,
    HostReport,
    Report,
    ReportedFinding,
    Status,
    Values,
)

WIDTH = 110
# Columns of a label such as "Remedy:".
LABEL = 9
COLOURS = {"critical": "31", "warning": "33", "unknown": "35", "info": "36", "ok": "32"}
WORST_FIRST: tuple[Status, ...] = tuple(reversed(STATUSES))

# Colours a text by a status.
Paint = Callable[[str, str], str]


def render(report: Report, colour: bool = False, path: str | None = None, most: int = 30) -> str:
    """Return the report as text. ``most`` limits the findings shown in full; the rest is counted."""
    paint = painter(colour)
    report = cleaned(report)
    lines = [headline(report, paint), ""]
    for host in report["hosts"]:
        lines.append("%s  %s  %s" % (host["name"], paint(host["status"], host["status"].upper()), _areas(host, paint)))
        own = [finding for finding in report["findings"] if host["name"] in hosts_of(finding)]
        known = [finding for finding in own if finding["status"] != "unknown"]
        shown: dict[str, str] = {}
        for finding in known[:most]:
            lines += ["", heading(finding, paint), *body(finding, shown)]
        if len(known) > most:
            lines.append("  ... and %d more findings in the report" % (len(known) - most))
        lines += _unknowns([finding for finding in own if finding["status"] == "unknown"], paint)
        absent = [area for area in host["areas"] if area["not_here"]]
        lines += ["", *(line for area in absent for line in not_here(area))] if absent else []
        lines.append("")
    if path:
        lines.append("Report: %s" % clean(path))
    return "\n".join(lines)


def headline(report: Report, paint: Paint) -> str:
    """Return the first line of the report: time, hosts and counts."""
    counts = report["counts"]
    parts = [
        paint(status, "%d %s" % (counts[status], status)) for status in WORST_FIRST if counts[status] or status == "ok"
    ]
    parts += ["%d not here" % counts["not_here"]] if counts["not_here"] else []
    return "%s  %d host%s, %d checks over %d items: %s" % (
        report["finished"],
        len(report["hosts"]),
        "" if len(report["hosts"]) == 1 else "s",
        counts["checks"],
        counts["items"],
        ", ".join(parts),
    )


def _areas(host: HostReport, paint: Paint) -> str:
    return "  ".join("%s %s" % (area["name"], _area_status(area, paint)) for area in host["areas"])


def _area_status(area: AreaReport, paint: Paint) -> str:
    return "not here" if is_absent(area) else paint(area["status"], area["status"])


def is_absent(area: AreaReport) -> bool:
    """Return whether nothing of an area belongs to its host."""
    return bool(area["counts"]["not_here"]) and not area["counts"]["items"]


def not_here(area: AreaReport, hosts: str = "") -> list[str]:
    """Return the lines about what the defaults of an area name and what does not belong to the host, or ``hosts``."""
    more = area["counts"]["not_here"] - len(area["not_here"])
    names = ", ".join(area["not_here"]) + (" and %d more" % more if more else "")
    return _text.wrap("%s%s: %s" % (area["name"], hosts, names), WIDTH, "  NOT HERE  ", " " * 12)


def heading(finding: ReportedFinding, paint: Paint, hosts: str = "") -> str:
    """Return the first line about a finding; ``hosts`` names its hosts in words."""
    what = finding["id"] + (" [%s]" % finding["object"] if finding["object"] else "")
    return "  %s  %s%s" % (paint(finding["status"], finding["status"].upper()), what, "  " + hosts if hosts else "")


def body(
    finding: ReportedFinding, shown: dict[str, str], worst: str | None = None, command: str | None = None
) -> list[str]:
    """Return the lines about a finding below its heading.

    ``shown`` maps the commands printed so far to the id of their finding. If other hosts have the finding too,
    ``worst`` names the host of the numbers, and ``command`` is the command for all of them.
    """
    if worst:
        has_number = any(isinstance(value, (int, float)) for value in finding["observed"].values())
        lines = labelled("Worst" if has_number else "Example", "%s: %s" % (worst, finding["summary"]))
    else:
        lines = labelled("", finding["summary"])
    numbers = _numbers(finding["observed"])
    limits = _numbers(finding["threshold"])
    if numbers:
        lines += labelled("Seen", numbers + ("   limit: " + limits if limits else ""))
    lines += labelled("Why", finding["why"])
    if finding["hint"]:
        lines += labelled("Fix", finding["hint"])
    remedy = finding["remedy"]
    if not remedy:
        return lines
    command = command or remedy["command"]
    if command in shown:
        return lines + labelled("Remedy", "%s, as for %s above" % (remedy["id"], shown[command]))
    shown[command] = finding["id"]
    cost = "" if remedy["data_loss"] == "none" else ", loses: %s" % remedy["data_loss"]
    lines += labelled("Remedy", "%s (%s%s): %s" % (remedy["id"], remedy["risk"], cost, remedy["does"]))
    # Not wrapped, so that it can be copied.
    return [*lines, _first_line("Try") + command]


def _unknowns(findings: Iterable[ReportedFinding], paint: Paint) -> list[str]:
    """Return the lines about checks that could not run: each reason once, with the names of its checks."""
    lines: list[str] = []
    for same in by_reason(findings).values():
        lines += ["", *unknown_block(same[0], sorted({finding["id"] for finding in same}), paint)]
    return lines


def unknown_block(finding: ReportedFinding, ids: Sequence[str], paint: Paint, hosts: str = "") -> list[str]:
    """Return the lines about checks that could not run for one reason. ``finding`` is one of their findings."""
    lines = [
        "  %s  %s: %d check%s could not run%s"
        % (
            paint("unknown", "UNKNOWN"),
            finding["area"],
            len(ids),
            "" if len(ids) == 1 else "s",
            "  " + hosts if hosts else "",
        )
    ]
    lines += labelled("", finding["summary"])
    if finding["hint"]:
        lines += labelled("Fix", finding["hint"])
    return lines + labelled("Checks", ", ".join(each.partition(".")[2] for each in ids))


def labelled(label: str, text: str) -> list[str]:
    """Return clean text in lines, the first one with a label; commands between backticks are not broken."""
    # Text is indented further than labels, so that no line of it looks like one.
    if label:
        return _text.wrap(text, WIDTH, _first_line(label), " " * (6 + LABEL))
    return _text.wrap(text, WIDTH, " " * 6, " " * 8)


def _first_line(label: str) -> str:
    return "      %-*s" % (LABEL, label + ":")


def _numbers(values: Values) -> str:
    return ", ".join("%s=%s" % (name, _short(value)) for name, value in values.items())


def _short(value: object) -> str:
    if isinstance(value, float):
        return "%.6g" % value
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "\u2026"


def painter(colour: bool) -> Paint:
    """Return a function that colours a text by a status, or that returns it unchanged without ``colour``."""

    def paint(status: str, text: str) -> str:
        return "\033[1;%sm%s\033[0m" % (COLOURS[status], text) if colour else text

    return paint


def by_reason(findings: Iterable[ReportedFinding]) -> dict[tuple[str, str, str | None], list[ReportedFinding]]:
    """Group findings of checks that could not run by area, reason and hint."""
    groups: dict[tuple[str, str, str | None], list[ReportedFinding]] = {}
    for finding in findings:
        groups.setdefault((finding["area"], finding["summary"], finding["hint"]), []).append(finding)
    return groups
