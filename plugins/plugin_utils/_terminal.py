# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as a person reads it in a terminal, worst first. Private to this collection."""

from __future__ import annotations

from ansible_collections.tracktion.ops.plugins.plugin_utils import _text
from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES
from ansible_collections.tracktion.ops.plugins.plugin_utils._groups import hosts_of
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean, cleaned

WIDTH = 110
COLOURS = {"critical": "31", "warning": "33", "unknown": "35", "info": "36", "ok": "32"}
LOUD_FIRST = tuple(reversed(STATUSES))


def render(report, colour=False, path=None, most=30):
    """The terminal summary. ``most`` bounds the findings shown in full; the rest is counted and named."""
    paint = painter(colour)
    report = cleaned(report)
    lines = [headline(report, paint), ""]
    for host in report["hosts"]:
        lines.append("%s  %s  %s" % (host["name"], paint(host["status"], host["status"].upper()), _areas(host, paint)))
        own = [finding for finding in report["findings"] if host["name"] in hosts_of(finding)]
        known = [finding for finding in own if finding["status"] != "unknown"]
        shown = {}
        for finding in known[:most]:
            lines += ["", heading(finding, paint), *body(finding, shown)]
        if len(known) > most:
            lines.append("  ... and %d more findings in the report" % (len(known) - most))
        lines += _unknowns([finding for finding in own if finding["status"] == "unknown"], paint)
        lines.append("")
    if path:
        lines.append("Report: %s" % clean(path))
    return "\n".join(lines)


def headline(report, paint):
    counts = report["counts"]
    parts = [
        paint(status, "%d %s" % (counts[status], status)) for status in LOUD_FIRST if counts[status] or status == "ok"
    ]
    return "%s  %d host%s, %d checks over %d items: %s" % (
        report["finished"],
        len(report["hosts"]),
        "" if len(report["hosts"]) == 1 else "s",
        counts["checks"],
        counts["items"],
        ", ".join(parts),
    )


def _areas(host, paint):
    return "  ".join("%s %s" % (area["name"], paint(area["status"], area["status"])) for area in host["areas"])


def heading(finding, paint, hosts=""):
    """The first line about a finding; ``hosts`` says in words which hosts have it."""
    what = finding["id"] + (" [%s]" % finding["object"] if finding["object"] else "")
    return "  %s  %s%s" % (paint(finding["status"], finding["status"].upper()), what, "  " + hosts if hosts else "")


def body(finding, shown, worst=None, command=None):
    """What is said of a finding below its heading.

    ``shown`` maps the command lines printed so far to the finding they stand under. ``worst`` names the host that the
    numbers are from where other hosts have the finding as well, ``command`` is the command line for all of them.
    """
    label = "worst" if any(isinstance(value, (int, float)) for value in finding["observed"].values()) else "e.g."
    lines = labelled(label if worst else "", ("%s: " % worst if worst else "") + finding["summary"])
    numbers = _numbers(finding["observed"])
    limits = _numbers(finding["threshold"])
    if numbers:
        lines += labelled("seen", numbers + ("   limit: " + limits if limits else ""))
    lines += labelled("why", finding["why"])
    if finding["hint"]:
        lines += labelled("do", finding["hint"])
    remedy = finding["remedy"]
    command = command or (remedy and remedy["command"])
    if remedy and command in shown:
        lines += labelled("remedy", "%s, as for %s above" % (remedy["id"], shown[command]))
    elif remedy:
        shown[command] = finding["id"]
        cost = "" if remedy["data_loss"] == "none" else ", loses: %s" % remedy["data_loss"]
        lines += labelled("remedy", "%s (%s%s): %s" % (remedy["id"], remedy["risk"], cost, remedy["does"]))
        # Not wrapped: it is there to be copied.
        lines.append("      %-7s%s" % ("try", command))
    return lines


def _unknowns(findings, paint):
    """One reason often silences many checks: say it once, and name the checks."""
    lines = []
    for same in by_reason(findings).values():
        lines += ["", *unknown_block(same[0], sorted({finding["id"] for finding in same}), paint)]
    return lines


def unknown_block(finding, ids, paint, hosts=""):
    """What silenced the checks ``ids``, by the example of one of their findings."""
    lines = [
        "  %s  %s: %d check%s could not run%s"
        % (
            paint("unknown", "UNKNOWN"),
            finding["area"],
            len(ids),
            "" if len(ids) == 1 else "s",
            "  " + hosts if hosts else "",
        )
    ]
    lines += labelled("", finding["summary"])
    if finding["hint"]:
        lines += labelled("do", finding["hint"])
    return lines + labelled("checks", ", ".join(each.partition(".")[2] for each in ids))


def labelled(label, text):
    """The lines of clean text behind a label; commands between backticks are not broken."""
    # No line of a text begins where a label does.
    first, rest = ("      %-7s" % label, " " * 13) if label else (" " * 6, " " * 8)
    return _text.wrap(text, WIDTH, first, rest)


def _numbers(values):
    return ", ".join("%s=%s" % (name, _short(value)) for name, value in values.items())


def _short(value):
    if isinstance(value, float):
        return "%.6g" % value
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "\u2026"


def painter(colour):
    def paint(status, text):
        return "\033[1;%sm%s\033[0m" % (COLOURS[status], text) if colour else text

    return paint


def by_reason(findings):
    """``{(area, reason, hint): findings}`` of checks that could not run."""
    groups = {}
    for finding in findings:
        groups.setdefault((finding["area"], finding["summary"], finding["hint"]), []).append(finding)
    return groups
