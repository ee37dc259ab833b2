# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Groups equal incidents of several hosts, for all outputs. Pure. Private to this collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ansible_collections.tracktion.ops.plugins.plugin_utils import _groups
from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES, worst
from ansible_collections.tracktion.ops.plugins.plugin_utils._groups import Group
from ansible_collections.tracktion.ops.plugins.plugin_utils._host_findings import is_overload
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import (
    Incident,
    Report,
    ReportedFinding,
    Seen,
    Status,
)
from ansible_collections.tracktion.ops.plugins.plugin_utils._units import duration


@dataclass
class Follower:
    """Findings of one check that follow from a cause in the same way.

    ``depth`` is the number of links between them and the cause, ``also`` are checks of causes in other incidents.
    """

    depth: int
    mechanism: str
    group: Group = field(default_factory=Group)
    also: list[str] = field(default_factory=list)


@dataclass
class IncidentGroup:
    """Incidents whose causes are equal, or checks that could not run for one reason (no incident)."""

    causes: Group
    incidents: list[Incident] = field(default_factory=list)
    followers: list[Follower] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """The worst status of the causes and of what follows from them."""
        return worst([self.causes.status, *(incident["status"] for incident in self.incidents)])

    @property
    def groups(self) -> list[Group]:
        """All groups of findings: the causes first."""
        return [self.causes, *(follower.group for follower in self.followers)]

    @property
    def began(self) -> str | None:
        """When the first of the causes began, if that was measured."""
        return min((incident["began"] for incident in self.incidents if incident["began"]), default=None)

    @property
    def possible(self) -> dict[str, list[str]]:
        """The checks of possible causes that could not be evaluated, by reason. Each is listed once, with its first."""
        reasons: dict[str, str] = {}
        for incident in self.incidents:
            for each in incident["possible"]:
                reasons.setdefault(each["check"], each["reason"])
        found: dict[str, list[str]] = {}
        for check, reason in reasons.items():
            found.setdefault(reason, []).append(check)
        return found


def each(report: Report) -> list[IncidentGroup]:
    """Return the incidents of a report in their order, then the checks that could not run, by reason."""
    by_fingerprint = {finding["fingerprint"]: finding for finding in report["findings"]}
    found = [
        IncidentGroup(Group([by_fingerprint[incident["cause"]]]), [incident], _followers([incident], by_fingerprint))
        for incident in report["incidents"]
    ]
    unknown = [finding for finding in report["findings"] if finding["status"] == "unknown"]
    return found + [IncidentGroup(group) for group in _groups.equal(unknown)]


def equal(report: Report) -> list[IncidentGroup]:
    """Return the incidents of a report, equal ones of several hosts once, and the checks that could not run.

    An overload comes first, then the worst status, then the most hosts and effects. Among those of the same status,
    each check comes once before any comes again.
    """
    by_fingerprint = {finding["fingerprint"]: finding for finding in report["findings"]}
    incidents = {incident["cause"]: incident for incident in report["incidents"]}
    causes = [by_fingerprint[cause] for cause in incidents]
    unknown = [finding for finding in report["findings"] if finding["status"] == "unknown"]
    found = []
    for group in _groups.equal([*causes, *unknown]):
        own = [incidents[finding["fingerprint"]] for finding in group.findings if finding["status"] != "unknown"]
        found.append(IncidentGroup(group, own, _followers(own, by_fingerprint)))
    found.sort(key=lambda made: (*_rank(made), -len(made.causes.hosts), -len(made.followers)))
    seen: Counter[tuple[Status, str]] = Counter()
    ranks = []
    for made in found:
        key = (made.status, made.causes.ids[0])
        ranks.append((*_rank(made), seen[key]))
        seen[key] += 1
    return [made for _order, made in sorted(zip(ranks, found, strict=True), key=lambda pair: pair[0])]


def since(group: IncidentGroup, report: Report) -> str:
    """Return since when the causes are there, in words: as it was measured, or as earlier runs say; or empty text."""
    seen = _seen(group, report)
    state = seen["state"] if seen else None
    if group.began:
        new = {"new": ", new in this run", "flapping": ", it comes and goes"}.get(state or "", "")
        return _ago(group.began, report) + new
    if not seen or not state:
        return ""
    if state == "still":
        return "the run of %s or earlier" % _ago(seen["since"], report)
    return "this run, it is new" if state == "new" else "the run of %s, it comes and goes" % _ago(seen["since"], report)


def _seen(group: IncidentGroup, report: Report) -> Seen | None:
    """Return what earlier runs say about an incident; of several, about the one that is there for the longest time."""
    if not report["history"]:
        return None
    known = report["history"]["incidents"]
    found = [known[each["fingerprint"]] for each in group.incidents if each["fingerprint"] in known]
    return min((each for each in found if each["state"]), key=lambda each: each["since"], default=None)


def _ago(began: str, report: Report) -> str:
    """Return a time with how long it was before the end of the run: ``2026-11-23T01:50:00Z (23 min)``."""
    try:
        passed = datetime.fromisoformat(report["finished"]) - datetime.fromisoformat(began)
    except ValueError:
        return began
    # The clock of a host may be ahead.
    return "%s (%s)" % (began, duration(passed.total_seconds())) if passed.total_seconds() > 0 else began


def _rank(group: IncidentGroup) -> tuple[bool, int]:
    return not is_overload(group.causes.findings[0]), -STATUSES.index(group.status)


def _followers(incidents: Iterable[Incident], findings: Mapping[str, ReportedFinding]) -> list[Follower]:
    """Return what follows, each after its own cause; effects of one check, mechanism and cause once."""
    found: dict[tuple[int, str, str, Status], Follower] = {}
    children: dict[int, list[Follower]] = {}
    # The follower that a finding is in, by fingerprint; the causes of the incidents are in none.
    holders: dict[str, Follower] = {}
    for incident in incidents:
        members = {incident["cause"], *(effect["finding"] for effect in incident["effects"])}
        for effect in incident["effects"]:
            finding = findings[effect["finding"]]
            parent = id(holders.get(effect["by"]))
            key = (parent, finding["id"], _groups.shape(effect["mechanism"], finding["host"]), finding["status"])
            if key not in found:
                found[key] = Follower(effect["depth"], effect["mechanism"])
                children.setdefault(parent, []).append(found[key])
            found[key].group.findings.append(finding)
            others = [findings[each["by"]]["id"] for each in effect["also"] if each["by"] not in members]
            found[key].also += [check for check in dict.fromkeys(others) if check not in found[key].also]
            holders[effect["finding"]] = found[key]
    ordered: list[Follower] = []
    waiting = children.get(id(None), [])[::-1]
    while waiting:
        follower = waiting.pop()
        ordered.append(follower)
        waiting += children.get(id(follower), [])[::-1]
    return ordered
