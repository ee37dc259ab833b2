# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as a health check prints it: a line for each thing that is wrong, and for each area that is well.

Every line stands for itself, so that it can be searched, mailed and counted. Private to this collection.
"""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.plugin_utils import _terminal
from ansible_collections.tracktion.ops.plugins.plugin_utils._judge import STATUSES

SUMMARY_LENGTH = 200
# Checks that could not run for one reason are named up to this number, then counted.
NAMED = 3


def render(report, colour=False, path=None):
    """All failures, whatever their number: what is left out of a health check is taken to be well."""
    paint = _terminal.painter(colour)
    rows = [row for host in report["hosts"] for row in _rows_of_host(host, report["findings"])]
    widths = [max([len(row[column]) for row in rows], default=0) for column in (1, 2)]
    lines = [
        "%s  %-*s  %-*s  %s" % (paint(status, "%-8s" % status.upper()), widths[0], host, widths[1], area, text)
        for status, host, area, text in rows
    ]
    return "\n".join([*lines, _terminal.headline(report, paint), *(["Report: %s" % path] if path else [])])


def _rows_of_host(host, findings):
    """``(status, host, area, text)`` for each line, the worst first."""
    own = [finding for finding in findings if finding["host"] == host["name"]]
    rows = [
        (finding["status"], host["name"], finding["area"], _text(finding))
        for finding in own
        if finding["status"] in ("critical", "warning")
    ]
    unknown = [finding for finding in own if finding["status"] == "unknown"]
    for (area, reason, _advice), same in _terminal.by_reason(unknown).items():
        names = sorted({finding["id"].partition(".")[2] for finding in same})
        who = ", ".join(names) if len(names) <= NAMED else "%d checks" % len(names)
        rows.append(("unknown", host["name"], area, _cut("%s could not run: %s" % (who, reason))))
    # What is only worth a remark is counted with what is well.
    rows += [
        ("ok", host["name"], area["name"], _well(area)) for area in host["areas"] if area["status"] in ("ok", "info")
    ]
    return sorted(rows, key=lambda row: -STATUSES.index(row[0]))


def _text(finding):
    name = finding["id"].partition(".")[2] + (" [%s]" % finding["object"] if finding["object"] else "")
    return _cut("%s: %s" % (name, finding["summary"]))


def _well(area):
    counts = area["counts"]
    remarks = ", %d remark%s" % (counts["info"], "" if counts["info"] == 1 else "s") if counts["info"] else ""
    return "%d checks over %d items%s" % (counts["checks"], counts["items"], remarks)


def _cut(text):
    text = " ".join(text.split())
    return text if len(text) <= SUMMARY_LENGTH else text[: SUMMARY_LENGTH - 1] + "\u2026"
