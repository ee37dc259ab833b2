# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a health check: one line for each failure, and for each area that is ok.

Each line is complete by itself, so that it can be searched, mailed and counted. Private to this collection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ansible_collections.tracktion.ops.plugins.plugin_utils import _groups, _terminal, _text
from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Counts, HostReport, Report, Status

SUMMARY_LENGTH = 200
# Checks that could not run for the same reason are named up to this number, then counted.
NAMED = 3
# Hosts with equal failures are named up to this number, then counted.
NAMED_HOSTS = 5
# What is counted beside checks and items, with its words.
COUNTED = {"info": "info", "not_here": "not here"}


class Line(NamedTuple):
    status: Status
    hosts: str
    area: str
    text: str


def render(report: Report, colour: bool = False, path: str | None = None) -> str:
    """Return the report as text, with all failures: a failure that a health check leaves out is taken for ok.

    Equal failures of several hosts are one line, as is an area that is ok on several hosts.
    """
    paint = _terminal.painter(colour)
    report = _text.cleaned(report)
    rows = [_failure(group) for group in _groups.equal(report["findings"]) if group.status != "info"]
    # The failures are in order: the overload of a host first, then the worst.
    rows += sorted(_ok_areas(report["hosts"]), key=lambda row: -STATUSES.index(row.status))
    host_width = max((_text.columns(row.hosts) for row in rows), default=0)
    area_width = max((_text.columns(row.area) for row in rows), default=0)
    lines = [
        "%s  %s  %s  %s"
        % (
            paint(row.status, "%-8s" % row.status.upper()),
            _text.pad(row.hosts, host_width),
            _text.pad(row.area, area_width),
            row.text,
        )
        for row in rows
    ]
    lines += _terminal.headline(report, paint)
    return "\n".join([*lines, *(["Report: %s" % _text.clean(path)] if path else [])])


def _failure(group: _groups.Group) -> Line:
    finding, hosts = group.worst, group.hosts
    if group.status == "unknown":
        names = [check_id.partition(".")[2] for check_id in group.ids]
        checks = ", ".join(names) if len(names) <= NAMED else "%d checks" % len(names)
        text = "%s could not run: %s" % (checks, finding["summary"])
    else:
        name = finding["id"].partition(".")[2] + (" [%s]" % finding["object"] if finding["object"] else "")
        text = "%s: %s" % (name, finding["summary"])
    return Line(group.status, _hosts(hosts), finding["area"], _text.cut(text, SUMMARY_LENGTH) + _named(hosts))


def _ok_areas(hosts: Iterable[HostReport]) -> Iterator[Line]:
    """Yield a line for each area that is ok. Findings that are only info are counted in it."""
    by_area: dict[tuple[str, bool], list[tuple[str, Counts]]] = {}
    for host in hosts:
        for area in host["areas"]:
            if area["status"] in ("ok", "info"):
                key = (area["name"], _terminal.is_absent(area))
                by_area.setdefault(key, []).append((host["name"], area["counts"]))
    for (name, absent), entries in by_area.items():
        sums = {key: sum(counts[key] for _host, counts in entries) for key in ("checks", "items", "info", "not_here")}
        text = "%(checks)d checks over %(items)d items" % sums
        text += "".join(", %d %s" % (sums[key], word) for key, word in COUNTED.items() if sums[key])
        yield Line("ok", _hosts([host for host, _counts in entries]), name, "not here" if absent else text)


def _hosts(names: list[str]) -> str:
    return names[0] if len(names) == 1 else "%d hosts" % len(names)


def _named(names: list[str]) -> str:
    return " (%s)" % _text.few(names, NAMED_HOSTS) if len(names) > 1 else ""
