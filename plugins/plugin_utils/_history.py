# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compares a report with earlier runs: what is new, fixed, still there or flapping. Pure. Private to this collection.

``_history_store.py`` keeps the runs, ``_history_state.py`` describes the state of findings that is compared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from ansible_collections.tracktion.ops.plugins.module_utils._history_state import TEXT_LENGTH
from ansible_collections.tracktion.ops.plugins.module_utils._measurement import cut
from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import fingerprint
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import (
    Chart,
    FixedFinding,
    History,
    Report,
    ReportedFinding,
    Seen,
    State,
    Values,
)

# Runs of which the presence of a finding is kept.
RUNS = 10
# As many changes between there and not there within RUNS make a finding flapping: 30 %, the upper limit of Nagios
# (high_host_flap_threshold).
CHANGES = 3
# The object of a finding that counts those of a check that are not listed (``_evaluation``).
MORE = re.compile(r"\(\d+ more\)")
COUNTED = ("critical", "warning", "unknown", "info")
# Fixed findings that a report lists.
FIXED_MOST = 1000


class Compared(NamedTuple):
    """``history`` and ``fixed`` for the report, ``first_seen`` by fingerprint, and ``record`` for the store."""

    history: History
    fixed: list[FixedFinding]
    first_seen: dict[str, str]
    record: Values


def compare(report: Report, earlier: Mapping[str, Any], problem: str | None = None) -> Compared:
    """Compare a report with the history that ``_history_store.read`` returned. ``problem``: why it cannot be used."""
    now = report["finished"]
    own: dict[tuple[str, str], list[ReportedFinding]] = {}
    blurred: set[tuple[str, str]] = set()
    for finding in report["findings"]:
        more = bool(MORE.fullmatch(finding["object"] or ""))
        if more or (finding["status"] == "unknown" and finding["object"] is None):
            # Any object of the check may be among these.
            blurred.update((host, finding["id"]) for host in finding["hosts"])
        if not more:
            own.setdefault((finding["host"], finding["area"]), []).append(finding)
    present = {name for findings in own.values() for finding in findings for name in _names(finding)}
    state: dict[str, Any] = {}
    seen: dict[str, Seen] = {}
    first_seen: dict[str, str] = {}
    fixed: list[FixedFinding] = []
    known = _by_fingerprint(earlier["state"])
    for host, area in _measured(report):
        before = earlier["state"].get(host, {}).get(area)
        entries = {}
        for finding in own.get((host, area), []):
            old = next(filter(None, map(known.get, _names(finding))), None)
            entry = _entry(finding, old, bool(before), now)
            entries[finding["fingerprint"]] = entry
            seen[finding["fingerprint"]] = {
                "state": _state(entry, old, bool(old or before)),
                "since": entry["since"],
                "runs": entry["runs"],
            }
            first_seen[finding["fingerprint"]] = entry["first_seen"]
        for name, old in (before["findings"] if before else {}).items():
            if name in present:
                continue
            unsure = (host, old["id"]) in blurred
            runs = (old["runs"] + ("?" if unsure else "0"))[-RUNS:]
            if not unsure and _last(old["runs"]) == "1":
                fixed.append(_fixed(name, host, area, old))
            if "1" in runs:
                entries[name] = {**old, "runs": runs}
        state.setdefault(host, {})[area] = {"time": now, "findings": entries}
    scope = _scope(state)
    runs = earlier["runs"]
    history: History = {
        "problem": problem,
        "previous": runs[-1]["time"] if runs else None,
        "counts": [
            {"time": run["time"], **{status: run["counts"][status] for status in COUNTED}}
            for run in runs
            if run.get("scope") == scope and _are_counts(run.get("counts"))
        ],
        "findings": seen,
        "incidents": _of_incidents(report, seen),
        "fixed_total": len(fixed),
    }
    counts = {status: report["counts"][status] for status in COUNTED}  # type: ignore[literal-required]  # keys of Counts
    run = {"time": now, "scope": scope, "counts": counts, "charts": _values(report["charts"])}
    fixed.sort(key=lambda each: (each["host"], each["id"], each["object"] or ""))
    return Compared(history, fixed[:FIXED_MOST], first_seen, {"run": run, "state": state})


def _measured(report: Report) -> Iterable[tuple[str, str]]:
    for host in report["hosts"]:
        yield host["name"], "host"
        for area in host["areas"]:
            yield host["name"], area["name"]


def _names(finding: ReportedFinding) -> list[str]:
    """Return the fingerprints of a finding on each of its hosts: a shared one may be listed under another of them."""
    if len(finding["hosts"]) == 1:
        return [finding["fingerprint"]]
    return [fingerprint(finding["id"], host, finding["object"]) for host in finding["hosts"]]


def _by_fingerprint(state: Mapping[str, Any]) -> dict[str, Values]:
    return {
        name: entry
        for areas in state.values()
        for area in areas.values()
        for name, entry in area["findings"].items()
    }  # fmt: skip


def _entry(finding: ReportedFinding, old: Values | None, measured_before: bool, now: str) -> Values:
    mark = "?" if finding["status"] == "unknown" else "1"
    was = (old["runs"] if old else "0") if measured_before or old else ""
    goes_on = old and _last(old["runs"]) != "0"
    return {
        "id": finding["id"],
        "object": finding["object"],
        "status": finding["status"],
        "title": finding["title"],
        "summary": cut(finding["summary"], TEXT_LENGTH),
        "runs": (was + mark)[-RUNS:],
        "since": old["since"] if old and goes_on else now,
        "first_seen": old["first_seen"] if old else now,
    }


def _state(entry: Values, old: Values | None, comparable: bool) -> State | None:
    """Return the state of a finding; null if its area was never measured before."""
    if not comparable:
        return None
    marks = entry["runs"].replace("?", "")
    if sum(one != other for one, other in pairwise(marks)) >= CHANGES:
        return "flapping"
    return "still" if old and entry["since"] == old["since"] else "new"


def _last(runs: str) -> str:
    """Return whether a finding was there when it was last measured; ``?`` if it was never measured."""
    return runs.rstrip("?")[-1:] or "?"


def _fixed(name: str, host: str, area: str, old: Values) -> FixedFinding:
    return {
        "fingerprint": name,
        "id": old["id"],
        "area": area,
        "host": host,
        "object": old.get("object"),
        "title": old["title"],
        "status": old["status"],
        "summary": old["summary"],
        "since": old["since"],
    }


def _of_incidents(report: Report, seen: Mapping[str, Seen]) -> dict[str, Seen]:
    """Return the states of the incidents: those of their causes."""
    return {each["fingerprint"]: seen[each["cause"]] for each in report["incidents"] if each["cause"] in seen}


def _scope(state: Mapping[str, Any]) -> str:
    """Return a hash of the hosts and areas of a run: only the counts of runs over the same ones can be compared."""
    text = "\n".join("%s %s" % (host, " ".join(sorted(areas))) for host, areas in sorted(state.items()))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _are_counts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(status), int) for status in COUNTED)


def _values(charts: Iterable[Chart]) -> list[list[Any]]:
    """Return the values of charts with a trend, as ``[host, chart, {label: value}]``."""
    return [
        [chart["host"], chart["id"], {item["label"]: item["value"] for item in chart["items"]}]
        for chart in charts
        if chart["trend"]
    ]


def add_earlier_values(charts: Iterable[Chart], runs: Iterable[Mapping[str, Any]]) -> None:
    """Add to the charts the values of earlier runs, the oldest first, for the labels that they have now."""
    by_chart: dict[tuple[str, str], list[Values]] = {}
    for run in runs:
        for entry in run["charts"]:
            if _are_values(entry):
                host, name, values = entry
                by_chart.setdefault((host, name), []).append({"time": run["time"], "values": values})
    for chart in charts:
        labels = {item["label"] for item in chart["items"]}
        for run in by_chart.get((chart["host"], chart["id"]), []) if chart["trend"] else []:
            kept = {label: value for label, value in run["values"].items() if label in labels and _is_number(value)}
            if kept:
                chart["earlier"].append({"time": run["time"], "values": kept})


def _are_values(entry: object) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 3
        and isinstance(entry[0], str)
        and isinstance(entry[1], str)
        and isinstance(entry[2], dict)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
