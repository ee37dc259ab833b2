# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds the report of tune_inotify.yml: which parameters changed on which hosts. Private to this collection.

It contains only named fields of the modules' results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict

from ansible_collections.tracktion.ops.plugins.plugin_utils import _text
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Values

SCHEMA_VERSION = 1
HostStatus = Literal["failed", "unreachable", "not_visited", "changed", "skipped", "ok"]
# Worst first.
STATUSES: tuple[HostStatus, ...] = ("failed", "unreachable", "not_visited", "changed", "skipped", "ok")
# Variables that the role registers on each host -> prefix that their module omits from the names of parameters.
REGISTERED = {"tune_inotify_limits_raised": "fs.inotify.", "tune_inotify_sysctls_raised": ""}
REASON_LENGTH = 500
WIDTH = 120
# Hosts of one status and reason that are named before the rest is counted.
NAMED = 20
COLOURS = {"failed": "31", "unreachable": "31", "not_visited": "35", "changed": "33", "skipped": "36", "ok": "32"}
HEADINGS = ("host", "parameter", "now", "next boot", "file")
# Wraps the text for a status in its colour.
Painter = Callable[[str, str], str]


class Parameter(TypedDict):
    """One kernel parameter of a host; values are null if not set, or not known."""

    key: str
    before: int | None
    after: int | None
    persisted_before: int | None
    persisted_after: int | None
    file: str | None


class Host(TypedDict):
    """One host of the run."""

    name: str
    status: HostStatus
    reason: str | None
    parameters: list[Parameter]


class TuningReport(TypedDict):
    """The content of tune_inotify.json. ``finished`` is UTC in ISO 8601."""

    schema: str
    schema_version: int
    collection_version: str
    finished: str
    check_mode: bool
    complete: bool
    counts: dict[HostStatus, int]
    hosts: list[Host]


def host(name: str, variables: Mapping[str, Any]) -> Host | None:
    """Return the result of a host from its registered variables; null if nothing is registered."""
    found = [
        (prefix, variables[registered])
        for registered, prefix in REGISTERED.items()
        if isinstance(variables.get(registered), Mapping) and not variables[registered].get("skipped")
    ]
    if not found:
        return None
    status, reason = min((_outcome(result) for _prefix, result in found), key=lambda each: STATUSES.index(each[0]))
    parameters = [
        parameter for prefix, result in found for parameter in _parameters(prefix, result.get("raised") or {})
    ]
    return {"name": name, "status": status, "reason": reason, "parameters": parameters}


def not_visited(name: str) -> Host:
    """Return the result of a host without registered variables."""
    return {"name": name, "status": "not_visited", "reason": "the run stopped before its batch", "parameters": []}


def _outcome(result: Mapping[str, Any]) -> tuple[HostStatus, str | None]:
    """Return the status of one registered result, and the reason."""
    message = " ".join(str(result.get("msg") or "").split())[:REASON_LENGTH]
    if result.get("unreachable"):
        return "unreachable", message
    if result.get("failed"):
        return "failed", message
    skipped = (result.get("raised") or {}).get("skipped_reason")
    if skipped:
        return "skipped", skipped
    return ("changed" if result.get("changed") else "ok"), None


def _parameters(prefix: str, raised: Mapping[str, Any]) -> list[Parameter]:
    return [
        {
            "key": prefix + key,
            "before": before,
            "after": raised["after"][key],
            "persisted_before": raised["persisted_before"][key],
            "persisted_after": raised["persisted_after"][key],
            "file": raised["files"][key],
        }
        for key, before in (raised.get("before") or {}).items()
    ]


def has_changed(parameter: Parameter) -> bool:
    """Return whether the value of a parameter changed, now or at the next boot."""
    return (parameter["before"], parameter["persisted_before"]) != (parameter["after"], parameter["persisted_after"])


def build(hosts: Iterable[Host], check_mode: bool, version: str, finished: str) -> TuningReport:
    """Return the report, with the worst hosts first."""
    hosts = sorted(hosts, key=lambda each: (STATUSES.index(each["status"]), each["name"]))
    counts = {status: sum(each["status"] == status for each in hosts) for status in STATUSES}
    return {
        "schema": "tracktion.ops/tune_inotify",
        "schema_version": SCHEMA_VERSION,
        "collection_version": version,
        "finished": finished,
        "check_mode": check_mode,
        "complete": not (counts["failed"] or counts["unreachable"] or counts["not_visited"]),
        "counts": counts,
        "hosts": hosts,
    }


def summary(report: TuningReport, most: int = 50) -> Values:
    """Return the data for set_stats, with at most ``most`` hosts of each status: job artifacts are limited in size."""
    by_status: dict[HostStatus, list[Host]] = {
        status: [each for each in report["hosts"] if each["status"] == status][:most]
        for status in STATUSES
        if status != "ok"
    }
    included = sum(map(len, by_status.values())) + report["counts"]["ok"]
    with_reason: tuple[HostStatus, ...] = ("failed", "unreachable", "skipped")
    return {
        "check_mode": report["check_mode"],
        "complete": report["complete"],
        "counts": report["counts"],
        "changed": [
            {"host": each["name"], "parameters": [entry for entry in each["parameters"] if has_changed(entry)]}
            for each in by_status["changed"]
        ],
        "not_visited": [each["name"] for each in by_status["not_visited"]],
        **{
            status: [{"host": each["name"], "reason": each["reason"]} for each in by_status[status]]
            for status in with_reason
        },
        "hosts_left_out": len(report["hosts"]) - included,
    }


def render(report: TuningReport, colour: bool = False, path: str | None = None, most: int = 60) -> str:
    """Return the report for a terminal: a table of the changes in at most ``most`` lines, then the hosts by status."""
    paint = _painter(colour)
    report = _text.cleaned(report)
    counts = report["counts"]
    totals = [
        paint(status, "%d %s" % (counts[status], status.replace("_", " "))) for status in STATUSES if counts[status]
    ]
    total = len(report["hosts"])
    lines = ["%d host%s: %s" % (total, "" if total == 1 else "s", ", ".join(totals))]
    rows = _rows(report["hosts"])
    if rows:
        lines += ["", "Planned changes:" if report["check_mode"] else "Changes:", *_table(rows[:most])]
    if len(rows) > most:
        lines.append("  ... and %d more in the report" % (len(rows) - most))
    for status in STATUSES:
        lines += _group([each for each in report["hosts"] if each["status"] == status], status, paint)
    if path:
        lines += ["", "Report: %s" % _text.clean(path)]
    return "\n".join(lines)


def _rows(hosts: Iterable[Host]) -> list[tuple[str, ...]]:
    """Return the cells of the table. Hosts with the same changes share their lines."""
    names_by_change: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for each in hosts:
        change = tuple(
            (
                entry["key"],
                _transition(entry["before"], entry["after"]),
                _transition(entry["persisted_before"], entry["persisted_after"]),
                entry["file"] or "",
            )
            for entry in each["parameters"]
            if has_changed(entry)
        )
        names_by_change.setdefault(change, []).append(each["name"])
    return [(_text.few(names), *row) for change, names in names_by_change.items() for row in change]


def _transition(before: int | None, after: int | None) -> str:
    first, second = ("not set" if value is None else str(value) for value in (before, after))
    return first if first == second else "%s -> %s" % (first, second)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(_text.columns, column)) for column in zip(HEADINGS, *rows, strict=True)]
    lines, last = [], None
    for row in (HEADINGS, *rows):
        # The first line of a host has its name.
        cells = row if row[0] != last else ("", *row[1:])
        last = row[0]
        lines.append("  " + "  ".join(map(_text.pad, cells, widths)).rstrip())
    return lines


def _group(hosts: Iterable[Host], status: HostStatus, paint: Painter) -> list[str]:
    """Return the hosts of one status, with one paragraph for each reason. The table lists the changed hosts."""
    names_by_reason: dict[str | None, list[str]] = {}
    for each in hosts:
        if status != "changed":
            names_by_reason.setdefault(each["reason"], []).append(each["name"])
    lines: list[str] = []
    for reason, names in names_by_reason.items():
        listed = "\n".join(_wrapped(_text.few(names, NAMED))).strip()
        lines += ["", "  %s  %s" % (paint(status, status.replace("_", " ").upper()), listed)]
        lines += _wrapped(reason) if reason else []
    return lines


def _wrapped(text: str) -> list[str]:
    return _text.wrap(text, WIDTH, " " * 6, " " * 8)


def _painter(colour: bool) -> Painter:
    def paint(status: str, text: str) -> str:
        return "\033[1;%sm%s\033[0m" % (COLOURS[status], text) if colour else text

    return paint
