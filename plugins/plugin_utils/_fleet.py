# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of several hosts for a terminal: equal incidents once, in a limited number of lines.

Private to this collection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ansible_collections.tracktion.ops.plugins.plugin_utils import _incident_groups, _overview, _terminal, _text
from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES
from ansible_collections.tracktion.ops.plugins.plugin_utils._groups import Group
from ansible_collections.tracktion.ops.plugins.plugin_utils._incident_groups import IncidentGroup
from ansible_collections.tracktion.ops.plugins.plugin_utils._terminal import OBJECT
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import WIDTH, Paint
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import (
    AreaReport,
    HostReport,
    Report,
    ReportedFinding,
    Status,
)

# Two screens of a terminal.
LINES = 100
# Lines for the hosts that are not ok, for what is not here, and for the checks whose findings are only counted.
HOST_LINES = 8
NOT_HERE_LINES = 10
TABLE_LINES = 16
# With more hosts, the command of a remedy has no --limit: tracktion_only selects the findings.
LIMIT_HOSTS = 10
# Lines of an incident, without what follows.
BLOCK = 6
# Columns of a summary.
SUMMARY = 3 * WIDTH
# A name that is one word of a shell and one pattern of Ansible.
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# A word of a shell command, with its quotes.
SHELL_WORD = re.compile(r"""(?:\$'(?:\\.|[^'\\])*'|'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])+""")


def render(report: Report, colour: bool = False, path: str | None = None, most: int = LINES, full: bool = False) -> str:
    """Return the report as text: one host in detail, several hosts in about ``most`` lines; with ``full``, all."""
    if len(report["hosts"]) == 1:
        return _terminal.render(report, colour, path, full)
    paint = _terminal.painter(colour)
    report = _text.cleaned(report)
    lines = _terminal.headline(report, paint)
    hosts = ["", *_hosts(report["hosts"], paint)]
    groups = _incident_groups.equal(report)
    # About as many lines as the incidents take.
    below = len(hosts) + sum(BLOCK + 2 * len(group.followers) for group in groups)
    lines += _overview.lines(report, groups, paint, len(lines), below)
    lines += [*hosts, *_not_here(report["hosts"]), *_terminal.fixed(report, paint)]
    left = most - len(lines) - 2
    shown: dict[str, str] = {}
    for number, group in enumerate(groups):
        block = ["", *_block(group, report, paint, shown, full)]
        rest = [] if full else _table(_rest(groups[number + 1 :]), paint)
        # The worst one is always shown.
        if number and not full and _height(block) + len(rest) > left:
            lines += _table(_rest(groups[number:]), paint)
            break
        lines += block
        left -= _height(block)
    if path:
        lines += ["", "Report: %s" % _text.clean(path)]
    return "\n".join(lines)


def render_full(report: Report, colour: bool = False, path: str | None = None) -> str:
    """Return the report as text, with all findings in full."""
    return render(report, colour, path, full=True)


def _rest(groups: Iterable[IncidentGroup]) -> list[Group]:
    return [group for each in groups for group in each.groups]


def _hosts(hosts: Iterable[HostReport], paint: Paint) -> list[str]:
    """Return a line per group of hosts with the same failed areas, the worst first, and one for hosts that are ok."""
    alike: dict[tuple[Status, tuple[tuple[str, Status], ...], bool], list[str]] = {}
    for host in hosts:
        bad: tuple[tuple[str, Status], ...] = tuple(
            (area["name"], area["status"]) for area in host["areas"] if area["status"] != "ok"
        )
        alike.setdefault((host["status"], bad, bool(host["areas"])), []).append(host["name"])
    healthy = [names for (status, _bad, _any), names in alike.items() if status == "ok"]
    failed = [(key, names) for key, names in alike.items() if key[0] != "ok"]
    failed.sort(key=lambda entry: (-STATUSES.index(entry[0][0]), -len(entry[1])))
    lines = []
    for (status, bad, measured), names in failed[:HOST_LINES]:
        worst = sorted(bad, key=lambda area: -STATUSES.index(area[1]))
        few = worst if len(worst) <= _text.NAMED + 1 else worst[: _text.NAMED]
        parts: list[tuple[str, str, Status | None]] = [(name + " ", each, each) for name, each in few]
        parts += [("", "%d more" % (len(worst) - len(few)), None)] if len(worst) > len(few) else []
        name = "%-8s" % status.upper()
        first = "%s  %s: " % (name, _counted(names))
        shown = _terminal.flow(first, parts if measured else [("not diagnosed", "", None)], ", ", paint, 10)
        lines += [shown[0].replace(name, paint(status, name), 1), *shown[1:]]
    more = [(key[0], len(names)) for key, names in failed[HOST_LINES:]]
    if more:
        counts = {status: sum(number for each, number in more if each == status) for status in _terminal.WORST_FIRST}
        numbers = ", ".join("%d %s" % (number, status) for status, number in counts.items() if number)
        lines.append("          %d more hosts: %s" % (sum(counts.values()), numbers))
    if healthy:
        lines.append("%s  %s" % (paint("ok", "OK      "), _counted([name for names in healthy for name in names])))
    return lines


def _not_here(hosts: Iterable[HostReport]) -> list[str]:
    """Return a line per area and per what its defaults name and what does not belong to some hosts."""
    alike: dict[tuple[str, tuple[str, ...]], tuple[AreaReport, list[str]]] = {}
    for host in hosts:
        for area in host["areas"]:
            if area["not_here"]:
                alike.setdefault((area["name"], tuple(area["not_here"])), (area, []))[1].append(host["name"])
    shown = list(alike.values())[:NOT_HERE_LINES]
    lines = [_terminal.not_here(area, " on %s" % _counted(names), cut=True)[0] for area, names in shown]
    more = len(alike) - len(shown)
    return ["", *lines, *(["  ... and %d more, see not_here in the report" % more] if more else [])] if lines else []


def _counted(names: list[str]) -> str:
    return _text.few(names) if len(names) == 1 else "%d hosts (%s)" % (len(names), _text.few(names))


def _block(incident: IncidentGroup, report: Report, paint: Paint, shown: dict[str, str], full: bool) -> list[str]:
    """Return the lines of an incident in full. Only texts that come from hosts are cut."""
    group = incident.causes
    if group.status == "unknown":
        return _terminal.unknown_block(report, group, paint, _where(group), full, SUMMARY)
    worst: ReportedFinding = {
        **group.worst,
        "summary": _text.cut(group.worst["summary"], SUMMARY),
        "object": _text.cut(group.worst["object"] or "", OBJECT),
    }
    several = len(group.findings) > 1
    lines = _terminal.heading(worst, paint, _where(group))
    command = _command(group) if several and worst["remedy"] else None
    differ = len({finding["summary"] for finding in group.findings}) > 1
    follows = _terminal.after(incident, report, shown, paint, full)
    return lines + _terminal.body(worst, shown, follows, worst["host"] if differ else None, command)


def _where(group: Group) -> str:
    hosts = group.hosts
    if len(group.findings) == 1 and len(hosts) > 1:
        return "one service of %s" % _counted(hosts)
    return "on %s" % _counted(hosts)


def _command(group: Group) -> str | None:
    """Return the command of the group's remedy for all of its hosts; null if the commands of the findings differ.

    They may differ in the host and in the fingerprint; all other words are kept with their quotes.
    """
    commands = [(finding, finding["remedy"]["command"]) for finding in group.findings if finding["remedy"]]
    findings = [finding for finding, _command in commands]
    lines = [SHELL_WORD.findall(command) for _finding, command in commands]
    hosts = [finding["host"] for finding in findings]
    if len({len(line) for line in lines}) > 1 or not all(map(PLAIN_NAME.fullmatch, hosts)):
        return None
    made = []
    for words in zip(*lines, strict=True):
        general = {
            word.replace(finding["fingerprint"], group.worst["id"])
            for word, finding in zip(words, findings, strict=True)
        }
        if len(general) > 1:
            general = {
                word.replace(host, ",".join(hosts))
                for word, host in zip(words, hosts, strict=True)
                if word.strip("`") == host
            }
        if len(general) > 1 or not general:
            return None
        made.append(general.pop())
    if len(hosts) > LIMIT_HOSTS:
        if "--limit" not in made:
            return None
        position = made.index("--limit")
        del made[position : position + 2]
    return " ".join(made)


def _table(groups: list[Group], paint: Paint) -> list[str]:
    """Return a line for each check that is not shown in full, and for each area with unknown checks."""
    if not groups:
        return []
    rows: dict[tuple[Status, str], Group] = {}
    for group in groups:
        name = group.findings[0]["area"] if group.status == "unknown" else group.ids[0]
        rows.setdefault((group.status, name), Group()).findings.extend(group.findings)
    width = max(len(name) for _status, name in rows)
    lines = ["", "  Also found:"]
    for (status, name), group in list(rows.items())[:TABLE_LINES]:
        hosts = group.hosts
        where = hosts[0] if len(hosts) == 1 else "%d hosts" % len(hosts)
        worst = group.worst
        example = " [%s]" % worst["object"] if worst["object"] else ""
        what = "%d on %s, for example%s %s" % (len(group.findings), where, example, worst["summary"])
        line = "%s  %s" % (_text.pad(name, width), what)
        lines.append("  %s  %s" % (paint(status, "%-8s" % status.upper()), _text.cut(line, WIDTH - 12)))
    left_out = sum(len(group.findings) for group in list(rows.values())[TABLE_LINES:])
    return lines + (["  ... and %d more findings in the report" % left_out] if left_out else [])


def _height(lines: list[str]) -> int:
    """Return how many rows of a terminal the lines take. Commands are not wrapped before."""
    return sum(1 + max(0, _text.columns(line) - 1) // (WIDTH + 10) for line in lines)
