# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as a health check prints it: a line for each thing that is wrong, and for each area that is well.

Every line stands for itself, so that it can be searched, mailed and counted. Private to this collection.
"""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.plugin_utils import _groups, _terminal, _text
from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES

SUMMARY_LENGTH = 200
# Checks that could not run for one reason are named up to this number, then counted.
NAMED = 3
# Hosts with equal failures are named up to this number, then counted.
NAMED_HOSTS = 5


def render(report, colour=False, path=None):
    """All failures, whatever their number: what is left out of a health check is taken to be well.

    Equal failures of several hosts are one line, as are the areas that are well on several hosts.
    """
    paint = _terminal.painter(colour)
    report = _text.cleaned(report)
    rows = [_failure(group) for group in _groups.equal(report["findings"]) if group.status != "info"]
    rows += _well(report["hosts"])
    rows.sort(key=lambda row: -STATUSES.index(row[0]))
    widths = [max([_text.columns(row[column]) for row in rows], default=0) for column in (1, 2)]
    lines = [
        "%s  %s  %s  %s"
        % (paint(status, "%-8s" % status.upper()), _text.pad(host, widths[0]), _text.pad(area, widths[1]), text)
        for status, host, area, text in rows
    ]
    lines.append(_terminal.headline(report, paint))
    return "\n".join([*lines, *(["Report: %s" % _text.clean(path)] if path else [])])


def _failure(group):
    """``(status, hosts, area, text)`` of the line for equal failures."""
    finding, hosts = group.worst, group.hosts
    if group.status == "unknown":
        names = [check_id.partition(".")[2] for check_id in group.ids]
        who = ", ".join(names) if len(names) <= NAMED else "%d checks" % len(names)
        text = "%s could not run: %s" % (who, finding["summary"])
    else:
        name = finding["id"].partition(".")[2] + (" [%s]" % finding["object"] if finding["object"] else "")
        text = "%s: %s" % (name, finding["summary"])
    return group.status, _hosts(hosts), finding["area"], _text.cut(text, SUMMARY_LENGTH) + _named(hosts)


def _well(hosts):
    """The lines of areas that are well. What is only worth a remark is counted with it."""
    by_area = {}
    for host in hosts:
        for area in host["areas"]:
            if area["status"] in ("ok", "info"):
                by_area.setdefault(area["name"], []).append((host["name"], area["counts"]))
    for name, entries in by_area.items():
        counts = {key: sum(each[key] for _host, each in entries) for key in ("checks", "items", "info")}
        remarks = ", %d remark%s" % (counts["info"], "" if counts["info"] == 1 else "s") if counts["info"] else ""
        text = "%d checks over %d items%s" % (counts["checks"], counts["items"], remarks)
        yield "ok", _hosts([host for host, _counts in entries]), name, text


def _hosts(names):
    return names[0] if len(names) == 1 else "%d hosts" % len(names)


def _named(names):
    return " (%s)" % _text.few(names, NAMED_HOSTS) if len(names) > 1 else ""
