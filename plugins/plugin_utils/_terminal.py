# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of one host for a terminal: incidents, the worst first. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.tracktion.ops.plugins.plugin_utils import _groups, _incident_groups, _overview, _text, _units
from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES
from ansible_collections.tracktion.ops.plugins.plugin_utils._groups import Group
from ansible_collections.tracktion.ops.plugins.plugin_utils._incident_groups import Follower, IncidentGroup
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import WIDTH, Paint, clean, cleaned
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import (
    AreaReport,
    HostReport,
    Report,
    ReportedFinding,
    Status,
    Values,
)

# Incidents that are shown, and lines about what follows from one.
MOST, FOLLOWERS = 30, 12
# Links to the cause up to which effects are indented further.
DEEPEST = 5
# Columns of the name of an object.
OBJECT = 70
# Columns of a label such as "Remedy:".
LABEL = 9
COLOURS = {"critical": "31", "warning": "33", "unknown": "35", "info": "36", "ok": "32"}
WORST_FIRST: tuple[Status, ...] = tuple(reversed(STATUSES))

# Names of checks that could not run for one reason, in a report that is not full.
NAMED = 8
# Reasons of one cause.
REASONS = 3
# Findings that are fixed, by name.
FIXED = 5


def render(report: Report, colour: bool = False, path: str | None = None, full: bool = False) -> str:
    """Return the report of one host as text: each incident with what follows from it in a line each.

    With ``full``, all findings are shown in full; else at most MOST incidents.
    """
    paint = painter(colour)
    report = cleaned(report)
    head = headline(report, paint)
    for host in report["hosts"]:
        head += ["", *_areas(host, paint)]
    groups = _incident_groups.each(report)
    known = [group for group in groups if group.status != "unknown"]
    shown: dict[str, str] = {}
    lines: list[str] = []
    for group in known if full else known[:MOST]:
        cause = group.causes.worst
        lines += ["", *heading(cause, paint), *body(cause, shown, after(group, report, shown, paint, full))]
    if len(known) > MOST and not full:
        left = sum(len(each.findings) for group in known[MOST:] for each in group.groups)
        lines.append("  ... and %d more findings in the report" % left)
    for group in groups:
        if group.status == "unknown":
            lines += ["", *unknown_block(report, group.causes, paint, full=full)]
    lines += fixed(report, paint)
    absent = [area for host in report["hosts"] for area in host["areas"] if area["not_here"]]
    lines += ["", *(line for area in absent for line in not_here(area))] if absent else []
    lines.append("")
    if path:
        lines.append("Report: %s" % clean(path))
    return "\n".join([*head, *_overview.lines(report, known, paint, len(head), len(lines)), *lines])


def headline(report: Report, paint: Paint) -> list[str]:
    """Return the first lines of the report: time, hosts and counts."""
    counts = report["counts"]
    parts: list[tuple[str, Status | None]] = [
        ("%d %s" % (counts[status], status), status) for status in WORST_FIRST if counts[status] or status == "ok"
    ]
    parts += [("%d not here" % counts["not_here"], None)] if counts["not_here"] else []
    first = "%s  %d host%s, %d checks over %d items: " % (
        report["finished"],
        len(report["hosts"]),
        "" if len(report["hosts"]) == 1 else "s",
        counts["checks"],
        counts["items"],
    )
    return flow(first, [("", *part) for part in parts], ", ", paint)


def _areas(host: HostReport, paint: Paint) -> list[str]:
    """Return the lines about the areas of a host: those that are not ok, and how many are."""
    parts: list[tuple[str, str, Status | None]] = []
    for area in host["areas"]:
        if is_absent(area):
            parts.append((area["name"] + " ", "not here", None))
        elif area["status"] != "ok" or len(host["areas"]) == 1:
            parts.append((area["name"] + " ", area["status"], area["status"]))
    ok = sum(area["status"] == "ok" and not is_absent(area) for area in host["areas"])
    if len(host["areas"]) > 1 and ok:
        parts.append(("", "%d areas ok" % ok if ok > 1 else "1 area ok", "ok"))
    first = [(host["name"] + "  ", host["status"].upper(), host["status"])]
    return flow("", [*first, *parts], "  ", paint)


def flow(
    first: str, parts: Iterable[tuple[str, str, Status | None]], between: str, paint: Paint, indent: int = 4
) -> list[str]:
    """Return parts in lines of at most WIDTH columns. Each is plain text, then text with its status, or null."""
    lines: list[str] = []
    line, used = first, _text.columns(first)
    for number, (plain, text, status) in enumerate(parts):
        space = between if number else ""
        width = _text.columns(plain + text)
        if used + len(space) + width > WIDTH and number:
            lines.append(line + space.rstrip())
            line, used, space = " " * indent, indent, ""
        line += space + plain + (paint(status, text) if status else text)
        used += len(space) + width
    return [*lines, line]


def is_absent(area: AreaReport) -> bool:
    """Return whether nothing of an area belongs to its host."""
    return bool(area["counts"]["not_here"]) and not area["counts"]["items"]


def not_here(area: AreaReport, hosts: str = "", cut: bool = False) -> list[str]:
    """Return the lines about what the defaults of an area name and what does not belong to the host, or ``hosts``.

    With ``cut``, it is one line.
    """
    more = area["counts"]["not_here"] - len(area["not_here"])
    names = ", ".join(area["not_here"]) + (" and %d more" % more if more else "")
    text = "%s%s: %s" % (area["name"], hosts, names)
    return _text.wrap(_text.cut(text, WIDTH - 12) if cut else text, WIDTH, "  NOT HERE  ", " " * 12)


def heading(finding: ReportedFinding, paint: Paint, hosts: str = "") -> list[str]:
    """Return the first lines about a finding; ``hosts`` names its hosts in words."""
    what = finding["id"] + (" [%s]" % _text.cut(finding["object"], OBJECT) if finding["object"] else "")
    return _headed(finding["status"], what + ("  " + hosts if hosts else ""), paint)


def _headed(status: Status, text: str, paint: Paint) -> list[str]:
    """Return a heading in lines that begins with a status in its colour."""
    name = status.upper()
    lines = _text.wrap(text, WIDTH, "  %s  " % name, " " * 12)
    return [lines[0].replace(name, paint(status, name), 1), *lines[1:]]


def body(
    finding: ReportedFinding,
    shown: dict[str, str],
    follows: Iterable[str] = (),
    worst: str | None = None,
    command: str | None = None,
) -> list[str]:
    """Return the lines about a finding below its heading.

    ``shown`` maps the commands printed so far to the id of their finding. ``follows`` are the lines about what follows
    from it. If other hosts have the finding too, ``worst`` names the host of the numbers, and ``command`` is the
    command for all of them.
    """
    if worst:
        has_number = any(_is_number(value) for value in finding["observed"].values())
        lines = labelled("Worst" if has_number else "Example", "%s: %s" % (worst, finding["summary"]))
    else:
        lines = labelled("", finding["summary"])
    numbers = _numbers(finding["observed"])
    limits = _numbers(finding["threshold"])
    if numbers:
        lines += labelled("Seen", numbers + ("   limit: " + limits if limits else ""))
    lines += [*labelled("Why", finding["why"]), *follows]
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


def after(group: IncidentGroup, report: Report, shown: dict[str, str], paint: Paint, full: bool = False) -> list[str]:
    """Return the lines about what follows from a cause, and about causes of its own that could not be measured.

    With ``full``, the findings that follow are shown in full, else at most FOLLOWERS lines.
    """
    since = _incident_groups.since(group, report)
    lines = labelled("Since", since) if since else []
    followers = group.followers if full else group.followers[:FOLLOWERS]
    for number, follower in enumerate(followers):
        lines += _follower(follower, "Follows" if not number else "", paint)
        for finding in follower.group.findings if full else ():
            lines += ["        " + line for line in body(finding, shown)]
    left = sum(len(follower.group.findings) for follower in group.followers[len(followers) :])
    lines += labelled("", "... and %d more" % left) if left else []
    for reason, checks in group.possible.items():
        lines += labelled("Perhaps", "%s, which could not be measured: %s" % (_text.few(checks), reason))
    return lines


def _follower(follower: Follower, label: str, paint: Paint) -> list[str]:
    """Return a line about findings that follow, with the mechanism; it is indented by its distance from the cause."""
    finding = follower.group.worst
    objects = list(dict.fromkeys(each["object"] or "" for each in follower.group.findings))
    named = " [%s]" % _text.cut(objects[0], OBJECT) if objects[0] else ""
    named += " and %d more" % (len(objects) - 1) if len(objects) > 1 else ""
    hosts = len(follower.group.hosts)
    named += " on %d hosts" % hosts if hosts > 1 else ""
    first = (_first_line(label) if label else " " * (6 + LABEL)) + "  " * (min(follower.depth, DEEPEST) - 1)
    status = finding["status"].upper()
    also = " Also explained by %s." % _text.few(follower.also) if follower.also else ""
    text = "%s %s%s: %s%s" % (status, finding["id"], named, follower.mechanism, also)
    lines = _text.wrap(text, WIDTH, first, " " * (len(first) + 6))
    lines[0] = first + paint(finding["status"], status) + lines[0][len(first) + len(status) :]
    return lines


def unknown_block(
    report: Report, group: Group, paint: Paint, hosts: str = "", full: bool = False, longest: int = 0
) -> list[str]:
    """Return the lines about checks that could not run for one cause. Reasons are cut at ``longest`` columns, if any.

    If a finding above has their reason, they refer to it.
    """
    finding, ids = group.findings[0], group.ids
    checks = "%d check%s could not run" % (len(ids), "" if len(ids) == 1 else "s")
    lines = _headed("unknown", "%s: %s%s" % (finding["area"], checks, "  " + hosts if hosts else ""), paint)
    above = _finding_above(report, group)
    if above:
        lines += labelled("", "They need what %s is about; see there." % above)
    else:
        reasons = list(
            {_groups.shape(each["summary"], each["host"]): each["summary"] for each in group.findings}.values()
        )
        for reason in reasons if full else reasons[:REASONS]:
            lines += labelled("", _text.cut(reason, longest) if longest else reason)
        left = 0 if full else len(reasons) - REASONS
        lines += labelled("", "and %d more reasons" % left) if left > 0 else []
        lines += labelled("Fix", finding["hint"]) if finding["hint"] else []
    names = [each.partition(".")[2] for each in ids]
    return lines + labelled("Checks", ", ".join(names) if full else _text.few(names, NAMED))


def _finding_above(report: Report, group: Group) -> str | None:
    """Return the id of a check with a finding about the same error on each host of unknown checks; or null.

    An area whose server cannot be reached has a finding that says so, with the hint.
    """
    own = {(each["host"], each["area"], each["summary"] or "\0") for each in group.findings}
    if len({(host, area) for host, area, _summary in own}) < len(own):
        # Several reasons on one host.
        return None
    summaries = {(host, area): summary for host, area, summary in own}
    found = {
        (each["host"], each["id"])
        for each in report["findings"]
        if each["status"] in ("critical", "warning")
        and summaries.get((each["host"], each["area"]), "\0") in each["summary"]
    }
    ids = sorted({check for _host, check in found})
    return next((check for check in ids if all((host, check) in found for host, _area in summaries)), None)


def fixed(report: Report, paint: Paint) -> list[str]:
    """Return the lines about findings of the run before that are gone."""
    total = report["history"]["fixed_total"] if report["history"] else 0
    if not total:
        return []
    several = len(report["hosts"]) > 1
    names = [
        each["id"]
        + (" [%s]" % _text.cut(each["object"], OBJECT) if each["object"] else "")
        + (" on %s" % each["host"] if several else "")
        for each in report["fixed"][:FIXED]
    ]
    more = " and %d more" % (total - len(names)) if total > len(names) else ""
    lines = _text.wrap("since the run before: %s%s" % (", ".join(names), more), WIDTH, "  FIXED     ", " " * 12)
    return ["", lines[0].replace("FIXED", paint("ok", "FIXED"), 1), *lines[1:]]


def labelled(label: str, text: str) -> list[str]:
    """Return clean text in lines, the first one with a label; commands between backticks are not broken."""
    # Text is indented further than labels, so that no line of it looks like one.
    if label:
        return _text.wrap(text, WIDTH, _first_line(label), " " * (6 + LABEL))
    return _text.wrap(text, WIDTH, " " * 6, " " * 8)


def _first_line(label: str) -> str:
    return "      %-*s" % (LABEL, label + ":")


def _numbers(values: Values) -> str:
    """Return the values that are numbers: the summary has the others, as far as a person needs them."""
    shown = {name: value for name, value in values.items() if _is_number(value) and not _units.is_moment(name, value)}
    return ", ".join("%s=%s" % (name, _short(value)) for name, value in shown.items())


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
