# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run of tune_inotify.yml changed where: as data, and as a person reads it. Private to this collection.

Built from named fields of the modules' results only.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.tracktion.ops.plugins.plugin_utils import _text

SCHEMA_VERSION = 1
# Worst first.
STATUSES = ("failed", "unreachable", "not_visited", "changed", "skipped", "ok")
# What the role registers on each host, and what its module leaves out of the names of parameters.
REGISTERED = {"tune_inotify_limits_raised": "fs.inotify.", "tune_inotify_sysctls_raised": ""}
REASON_LENGTH = 500
WIDTH = 120
# Hosts of one status and reason that are named before the rest is counted.
NAMED = 20
COLOURS = {"failed": "31", "unreachable": "31", "not_visited": "35", "changed": "33", "skipped": "36", "ok": "32"}
HEADINGS = ("host", "parameter", "now", "next boot", "file")


def host(name, variables):
    """What was done on a host, out of the results that are registered in its variables; null where there are none."""
    found = [
        (prefix, variables[registered])
        for registered, prefix in REGISTERED.items()
        if isinstance(variables.get(registered), Mapping) and not variables[registered].get("skipped")
    ]
    if not found:
        return None
    status, reason = min((_outcome(result) for _prefix, result in found), key=lambda each: STATUSES.index(each[0]))
    parameters = [
        parameter for prefix, result in found for parameter in _parameters(prefix, result.get("raised") or {})
    ]
    return _host(name, status, reason, parameters)


def not_visited(name):
    return _host(name, "not_visited", "the run stopped before its batch", [])


def _host(name, status, reason, parameters):
    return {"name": name, "status": status, "reason": reason, "parameters": parameters}


def _outcome(result):
    """The status of one result, and why."""
    said = " ".join(str(result.get("msg") or "").split())[:REASON_LENGTH]
    if result.get("unreachable"):
        return "unreachable", said
    if result.get("failed"):
        return "failed", said
    skipped = (result.get("raised") or {}).get("skipped_reason")
    if skipped:
        return "skipped", skipped
    return ("changed" if result.get("changed") else "ok"), None


def _parameters(prefix, raised):
    return [
        {
            "key": prefix + key,
            "before": before,
            "after": raised["after"][key],
            "persisted_before": raised["persisted_before"][key],
            "persisted_after": raised["persisted_after"][key],
            "file": raised["files"][key],
        }
        for key, before in (raised.get("before") or {}).items()
    ]


def moved(parameter):
    """Whether a parameter is other than before, now or at the next boot."""
    return (parameter["before"], parameter["persisted_before"]) != (parameter["after"], parameter["persisted_after"])


def build(hosts, check_mode, version, finished):
    """The report, as it stands in tune_inotify.json."""
    hosts = sorted(hosts, key=lambda each: (STATUSES.index(each["status"]), each["name"]))
    counts = {status: sum(each["status"] == status for each in hosts) for status in STATUSES}
    return {
        "schema": "tracktion.ops/tune_inotify",
        "schema_version": SCHEMA_VERSION,
        "collection_version": version,
        "finished": finished,
        "check_mode": check_mode,
        "complete": not (counts["failed"] or counts["unreachable"] or counts["not_visited"]),
        "counts": counts,
        "hosts": hosts,
    }


def summary(report, most=50):
    """What goes out by set_stats: small enough for a job's artifacts."""
    by_status = {
        status: [each for each in report["hosts"] if each["status"] == status][:most]
        for status in STATUSES
        if status != "ok"
    }
    told = sum(map(len, by_status.values())) + report["counts"]["ok"]
    return {
        "check_mode": report["check_mode"],
        "complete": report["complete"],
        "counts": report["counts"],
        "changed": [
            {"host": each["name"], "parameters": [entry for entry in each["parameters"] if moved(entry)]}
            for each in by_status["changed"]
        ],
        "not_visited": [each["name"] for each in by_status["not_visited"]],
        **{
            status: [{"host": each["name"], "reason": each["reason"]} for each in by_status[status]]
            for status in ("failed", "unreachable", "skipped")
        },
        "hosts_left_out": len(report["hosts"]) - told,
    }


def render(report, colour=False, path=None, most=60):
    """The report for a terminal: a table of what changed where, in ``most`` lines, and who was left alone why."""
    paint = _painter(colour)
    report = _text.cleaned(report)
    counts = report["counts"]
    said = [
        paint(status, "%d %s" % (counts[status], status.replace("_", " "))) for status in STATUSES if counts[status]
    ]
    total = len(report["hosts"])
    lines = ["%d host%s: %s" % (total, "" if total == 1 else "s", ", ".join(said))]
    rows = _rows(report["hosts"])
    if rows:
        lines += ["", "What would change:" if report["check_mode"] else "What has changed:", *_table(rows[:most])]
    if len(rows) > most:
        lines.append("  ... and %d more in the report" % (len(rows) - most))
    for status in STATUSES:
        lines += _group([each for each in report["hosts"] if each["status"] == status], status, paint)
    if path:
        lines += ["", "Report: %s" % _text.clean(path)]
    return "\n".join(lines)


def _rows(hosts):
    """The cells of the table; hosts on which the same has changed share their lines."""
    names_by_change = {}
    for each in hosts:
        change = tuple(
            (
                entry["key"],
                _step(entry["before"], entry["after"]),
                _step(entry["persisted_before"], entry["persisted_after"]),
                entry["file"] or "",
            )
            for entry in each["parameters"]
            if moved(entry)
        )
        names_by_change.setdefault(change, []).append(each["name"])
    return [(_text.few(names), *row) for change, names in names_by_change.items() for row in change]


def _step(before, after):
    before, after = ("not set" if value is None else str(value) for value in (before, after))
    return before if before == after else "%s -> %s" % (before, after)


def _table(rows):
    widths = [max(map(_text.columns, column)) for column in zip(HEADINGS, *rows, strict=True)]
    lines, last = [], None
    for row in (HEADINGS, *rows):
        # A host is named in the first of its lines.
        cells = row if row[0] != last else ("", *row[1:])
        last = row[0]
        lines.append("  " + "  ".join(map(_text.pad, cells, widths)).rstrip())
    return lines


def _group(hosts, status, paint):
    """Hosts of one status: those that share a reason in one paragraph. What has changed is in the table."""
    names_by_reason = {}
    for each in hosts:
        if status != "changed":
            names_by_reason.setdefault(each["reason"], []).append(each["name"])
    lines = []
    for reason, names in names_by_reason.items():
        listed = "\n".join(_wrapped(_text.few(names, NAMED))).strip()
        lines += ["", "  %s  %s" % (paint(status, status.replace("_", " ").upper()), listed)]
        lines += _wrapped(reason) if reason else []
    return lines


def _wrapped(text):
    return _text.wrap(text, WIDTH, " " * 6, " " * 8)


def _painter(colour):
    def paint(status, text):
        return "\033[1;%sm%s\033[0m" % (COLOURS[status], text) if colour else text

    return paint
