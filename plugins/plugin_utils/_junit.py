# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as JUnit XML, for CI servers. Pure. Private to this collection.

A test suite is a host, a test case a finding, or an area without findings. A critical finding or a warning is a
failure, a check that could not run is an error, and an info is a passed test with its text as output.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from ansible_collections.tracktion.ops.plugins.plugin_utils._types import HostReport, Report, ReportedFinding

# Characters of one text.
TEXT_MOST = 2000
ELEMENTS = {"critical": "failure", "warning": "failure", "unknown": "error"}


def render(report: Report) -> str:
    """Return the XML of a clean report."""
    by_host: dict[str, list[ReportedFinding]] = {}
    for finding in report["findings"]:
        by_host.setdefault(finding["host"], []).append(finding)
    # Merged findings are listed under the first of their hosts only.
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<testsuites%s>" % _attributes(name="tracktion.ops", **_totals(report["findings"], report["hosts"])),
    ]
    for host in report["hosts"]:
        found = by_host.get(host["name"], [])
        seconds = "%.3f" % sum(area["seconds"] for area in host["areas"])
        sums = _totals(found, [host])
        lines.append(
            "  <testsuite%s>"
            % _attributes(name=host["name"], timestamp=report["finished"].rstrip("Z"), time=seconds, **sums)
        )
        for finding in found:
            lines += _case(host["name"], finding)
        for area in _quiet(host, found):
            lines.append("    <testcase%s/>" % _attributes(classname="%s.%s" % (host["name"], area), name=area))
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])


def _totals(findings: list[ReportedFinding], hosts: list[HostReport]) -> dict[str, str]:
    by_host = {host["name"]: [each for each in findings if each["host"] == host["name"]] for host in hosts}
    kinds = [ELEMENTS.get(finding["status"], "") for found in by_host.values() for finding in found]
    quiet = sum(len(list(_quiet(host, by_host[host["name"]]))) for host in hosts)
    return {
        "tests": str(len(kinds) + quiet),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
    }


def _quiet(host: HostReport, found: list[ReportedFinding]) -> Iterator[str]:
    """Yield the areas of a host that were evaluated and have no findings."""
    noisy = {finding["area"] for finding in found}
    for area in host["areas"]:
        if area["name"] not in noisy and area["counts"]["items"]:
            yield area["name"]


def _case(host: str, finding: ReportedFinding) -> Iterator[str]:
    name = finding["id"] + (" [%s]" % finding["object"] if finding["object"] else "")
    yield "    <testcase%s>" % _attributes(classname="%s.%s" % (host, finding["area"]), name=name)
    texts = [finding["summary"], finding["why"], "Fix: %s" % finding["hint"] if finding["hint"] else ""]
    body = escape("\n".join(text[:TEXT_MOST] for text in texts if text))
    element = ELEMENTS.get(finding["status"])
    if element:
        attributes = _attributes(type=finding["status"], message=finding["summary"][:TEXT_MOST])
        yield "      <%s%s>%s</%s>" % (element, attributes, body, element)
    else:
        yield "      <system-out>%s</system-out>" % body
    yield "    </testcase>"


def _attributes(**values: str) -> str:
    return "".join(" %s=%s" % (name, quoteattr(value)) for name, value in values.items())
