# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report in short as Markdown, for chats and tickets. Pure. Private to this collection.

Text from hosts is in code spans: there, chats and ticket systems neither format it nor notify a user whose name it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ansible_collections.tracktion.ops.plugins.module_utils._clean import COMMAND
from ansible_collections.tracktion.ops.plugins.plugin_utils import _incident_groups, _text
from ansible_collections.tracktion.ops.plugins.plugin_utils._incident_groups import IncidentGroup
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Report, ReportedFinding

INCIDENTS_MOST = 10
EFFECTS_MOST = 8
FIXED_MOST = 10
UNKNOWN_MOST = 10
LENGTH = 300
# An underscore within a word is no markup.
SPECIAL = re.compile(r"([\\`*\[\]|~#]|(?<!\w)_|_(?!\w))")


def render(report: Report) -> str:
    """Return the Markdown of a clean report, at most some ten kilobytes."""
    counts = report["counts"]
    found = [
        "%d %s" % (counts[status], status) for status in ("critical", "warning", "unknown", "info") if counts[status]
    ]
    hosts = len(report["hosts"])
    lines = [
        "## Diagnosis: %s" % report["status"],
        "",
        "%s, %d host%s, %d checks: %s." % (
            report["finished"],
            hosts,
            "" if hosts == 1 else "s",
            counts["checks"],
            ", ".join(found) or "all ok",
        ),
    ]  # fmt: skip
    groups = _incident_groups.equal(report)
    serious = [group for group in groups if group.incidents and group.status in ("critical", "warning")]
    for group in serious[:INCIDENTS_MOST]:
        lines += ["", *_incident(group, report)]
    if len(serious) > INCIDENTS_MOST:
        lines += ["", "%d more incidents are in the report." % (len(serious) - INCIDENTS_MOST)]
    lines += _fixed(report)
    lines += _unknown(report["findings"])
    return "\n".join(lines) + "\n"


def _incident(group: IncidentGroup, report: Report) -> Iterator[str]:
    cause = group.causes.worst
    incident = {each["cause"]: each for each in group.incidents}[cause["fingerprint"]]
    yield "### %s: %s on %s" % (group.status, _escaped(cause["title"]), _hosts(group.causes.hosts))
    yield ""
    since = _incident_groups.since(group, report)
    yield "%s%s" % (_code(cause["summary"]), " (since %s)" % since if since else "")
    if group.followers:
        yield ""
        yield "What follows from it:"
        yield ""
    for follower in group.followers[:EFFECTS_MOST]:
        more = len(follower.group.findings) - 1
        text = _code(follower.group.worst["summary"]) + (" and %d more" % more if more else "")
        yield "%s- %s: %s" % ("  " * (follower.depth - 1), follower.group.status, text)
    if len(group.followers) > EFFECTS_MOST:
        yield "- and %d more" % (len(group.followers) - EFFECTS_MOST)
    step = incident["first_step"]
    if step and step["hint"]:
        yield ""
        yield "Do first: %s" % _hint(step["hint"])
    if step and step["command"] and step["command"] not in (step["hint"] or ""):
        yield from ("", "To see what the remedy would do:" if " --check" in step["command"] else "Run:", "")
        yield from ("```shell", step["command"].replace("```", "'''"), "```")


def _fixed(report: Report) -> Iterator[str]:
    total = report["history"]["fixed_total"] if report["history"] else 0
    if not total:
        return
    yield from ("", "### Fixed since the run before", "")
    for fixed in report["fixed"][:FIXED_MOST]:
        name = ": " + _code(fixed["object"]) if fixed["object"] else ""
        yield "- %s on %s%s" % (_escaped(fixed["title"]), _code(fixed["host"]), name)
    if total > FIXED_MOST:
        yield "- and %d more" % (total - FIXED_MOST)


def _unknown(findings: Iterable[ReportedFinding]) -> Iterator[str]:
    """Yield what could not be checked: each reason once."""
    reasons: dict[tuple[str, str, str | None], list[str]] = {}
    for finding in findings:
        if finding["status"] == "unknown":
            key = (finding["area"], finding["summary"], finding["hint"])
            reasons.setdefault(key, []).append(finding["host"])
    if not reasons:
        return
    yield from ("", "### Could not be checked", "")
    for (area, summary, hint), hosts in list(reasons.items())[:UNKNOWN_MOST]:
        fix = " To make it measurable: %s" % _hint(hint) if hint else ""
        yield "- %s on %s: %s%s" % (_escaped(area), _hosts(sorted(set(hosts))), _code(summary), fix)
    if len(reasons) > UNKNOWN_MOST:
        yield "- and %d more reasons" % (len(reasons) - UNKNOWN_MOST)


def _hosts(names: list[str]) -> str:
    return _code(names[0]) if len(names) == 1 else "%d hosts (%s)" % (len(names), _code(_text.few(names)))


def _hint(text: str) -> str:
    parts = COMMAND.split(text)
    return "".join(_code(part[1:-1]) if number % 2 else _escaped(part) for number, part in enumerate(parts))


def _code(text: str) -> str:
    """Return text as a code span. Not every chat knows spans with more than one backtick."""
    return "`%s`" % _text.cut(text.replace("`", "'"), LENGTH) if text else ""


def _escaped(text: str) -> str:
    """Return prose without markup. An @ is an entity, so that no user is notified."""
    text = SPECIAL.sub(r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("@", "&#64;")
