# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Groups equal findings of several hosts. Pure. Private to this collection."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from ansible_collections.tracktion.ops.plugins.plugin_utils import _visit_failure
from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES
from ansible_collections.tracktion.ops.plugins.plugin_utils._host_findings import is_overload
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Finding, ReportedFinding, Status, Values

# A number with its unit: "1.5 KiB", "98 %", "3", "2026-01-01T00:00:00Z".
NUMBER = re.compile(r"\d[\d.,:]*(?:[-T:]\d[\d.,:]*)*Z?(?: ?(?:[KMGT]iB|B|ms|s|min|h|d|%)(?!\w))?")
SEVERAL = re.compile(r"#(?:[ ,]*#)+")
PLURAL = re.compile(r"# (\w+)s\b")
# Ids of findings about a visit that measured nothing.
FAILED_VISITS = (_visit_failure.UNREACHABLE, _visit_failure.FAILED)


@dataclass
class Group:
    """Findings of one check, object and status."""

    findings: list[ReportedFinding] = field(default_factory=list)

    @property
    def hosts(self) -> list[str]:
        """The names of all hosts, each once, in the order of the report."""
        return list(dict.fromkeys(host for finding in self.findings for host in hosts_of(finding)))

    @property
    def status(self) -> Status:
        """The status, which all findings of the group have."""
        return self.findings[0]["status"]

    @property
    def rank(self) -> tuple[bool, int]:
        """The key that sorts groups: an overload of a host first, then the worst status."""
        return not is_overload(self.findings[0]), -STATUSES.index(self.status)

    @property
    def worst(self) -> ReportedFinding:
        """The finding with the largest observed value, or the smallest if values below the limit are bad."""
        return max(self.findings, key=_badness)

    @property
    def ids(self) -> list[str]:
        """The ids of its checks, sorted: several if checks of an area are unknown for the same reason."""
        return sorted({finding["id"] for finding in self.findings})


def hosts_of(finding: Finding | ReportedFinding) -> list[str]:
    """Return the hosts of a finding: all that share the service if it is merged."""
    return finding.get("hosts") or [finding["host"]]


def equal(findings: Iterable[ReportedFinding]) -> list[Group]:
    """Group findings that differ only in their host, numbers and texts from hosts: worst status first, then most hosts.

    Checks that could not run are grouped by area and hint, or reason; hosts that could not be visited by cause. Among
    groups of the same status, each check comes once before any check comes again with another object. An overload
    comes first.
    """
    groups = sorted(grouped(findings, _key), key=lambda group: (*group.rank, -len(group.hosts)))
    seen: Counter[tuple[Status, str]] = Counter()
    ranks = []
    for group in groups:
        ranks.append((*group.rank, seen[group.status, group.ids[0]]))
        seen[group.status, group.ids[0]] += 1
    return [group for _rank, group in sorted(zip(ranks, groups, strict=True), key=lambda pair: pair[0])]


def grouped(findings: Iterable[ReportedFinding], key: Callable[[ReportedFinding], Hashable]) -> list[Group]:
    """Group findings by a key, in the order in which the keys appear."""
    groups: dict[Hashable, Group] = {}
    for finding in findings:
        groups.setdefault(key(finding), Group()).findings.append(finding)
    return list(groups.values())


def _key(finding: ReportedFinding) -> Hashable:
    status, host = finding["status"], finding["host"]
    summary = shape(finding["summary"], host)
    if status == "unknown":
        # One right that is missing hides several things.
        return status, finding["area"], shape(finding["hint"], host) if finding["hint"] else summary
    if finding["id"] in FAILED_VISITS:
        # Only the first sentence, which names the cause: the output of the host, with addresses in it, follows.
        return status, finding["id"], summary.partition(". ")[0]
    named = _without(finding["object"] or "", host)
    if named and finding["hint"]:
        # The same cause has the same hint. Summaries may quote the log of a host.
        return status, finding["id"], named, shape(finding["hint"], host)
    return status, finding["id"], named, summary


def shape(text: str, host: str) -> str:
    """Return ``text`` without its numbers and the name of its host, to compare texts of several hosts."""
    text = NUMBER.sub("#", _without(text, host))
    return PLURAL.sub(r"# \1", SEVERAL.sub("#", text))


def _without(text: str, host: str) -> str:
    """Return ``text`` with ``@`` for each word that is the name of its host. A name of one or two letters stays."""
    if len(host) < 3 or host not in text:
        return text
    return re.sub(r"(?<![\w-])%s(?![\w-])" % re.escape(host), "@", text)


def _badness(finding: ReportedFinding) -> list[float]:
    values, limits = _numbers(finding["observed"]), _numbers(finding["threshold"])
    if len(values) == len(limits) == 1 and values[0] < limits[0]:
        return [-values[0]]
    return values


def _numbers(values: Values) -> list[float]:
    return [value for value in values.values() if isinstance(value, (int, float)) and not isinstance(value, bool)]
