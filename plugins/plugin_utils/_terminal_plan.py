# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan, and the result of a remediation, for a terminal. Private to this collection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.tracktion.ops.plugins.module_utils._quoting import shell_quote
from ansible_collections.tracktion.ops.plugins.plugin_utils import _launch, _outcome
from ansible_collections.tracktion.ops.plugins.plugin_utils._plan import Limits
from ansible_collections.tracktion.ops.plugins.plugin_utils._remediation import CHANGES
from ansible_collections.tracktion.ops.plugins.plugin_utils._terminal import labelled
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import clean, cleaned
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Action, ChangedFinding, Remediation

# First words of lines, and their colours.
COLOURS = {
    "WILL": "33", "WOULD": "36", "NOT": "35", "DONE": "32", "NOTHING": "32", "FAILED": "31", "UNFINISHED": "35",
    "fixed": "32", "better": "32", "still": "33", "unknown": "35", "worse": "31", "new": "31",
}  # fmt: skip
SHOWN = {
    "changed": "DONE",
    "ok": "NOTHING TO DO",
    "failed": "FAILED",
    "unreachable": "FAILED",
    "not run": "FAILED",
}
MOST = 30
# The action of the role restart.
RESTART = "recovery.restart"


def plan(
    actions: Sequence[Action],
    unfinished: Sequence[Mapping[str, Any]],
    limits: Limits,
    check_mode: bool,
    approved: bool,
    written: str | None,
    awx: bool = False,
) -> list[str]:
    """Return the lines of a plan before it is carried out.

    ``written``: the file of the plan, or null. ``awx``: this is a job of AWX, whose files are lost at its end.
    """
    actions, unfinished = cleaned(actions), cleaned(unfinished)
    planned = [action for action in actions if action["status"] == "planned"]
    refused = [action for action in actions if action["status"] == "refused"]
    lines = [
        "Plan: %s, %d refused (%s)"
        % (
            _count(len(planned), "action"),
            len(refused),
            "as approved" if approved else "risk at most %s" % limits.risk,
        )
    ]
    lines += _unfinished(unfinished)
    for action in planned[:MOST]:
        lines += _action("WOULD DO" if check_mode else "WILL DO", action)
    for action in refused[:MOST]:
        lines += _action("NOT DONE", action)
    lines += _more(len(actions), min(len(planned), MOST) + min(len(refused), MOST))
    if awx and check_mode and planned:
        lines += ["", "The plan is the artifact tracktion_plan: a job that gets it carries it out."]
    elif written:
        argument = shell_quote(_launch.assignment("tracktion_plan_file", written))
        line = "Plan written to %s; `-e %s` without --check carries it out." % (shell_quote(written), argument)
        lines += ["", clean(line)]
    return lines


def outcome(remediation: Remediation) -> list[str]:
    """Return the lines of a remediation: each action, then each finding before and after."""
    remediation = cleaned(remediation)
    run = remediation["run"]
    what = "Restart" if {action["remedy"] for action in remediation["actions"]} == {RESTART} else "Remediation"
    if remediation["check_mode"]:
        lines = ["%s %s, in check mode: nothing was changed" % (what, run)]
    else:
        lines = ["%s %s of %s" % (what, run, remediation["who"])]
    lines += _unfinished(remediation["unfinished"])
    for action in remediation["actions"][:MOST]:
        word = "NOT DONE" if action["status"] == "refused" else SHOWN[action["outcome"]]
        if remediation["check_mode"] and action["outcome"] == "changed":
            word = "WOULD DO"
        lines += _action(word, action)
        if action["undo"]:
            lines += labelled("Undo", action["undo"])
    lines += _more(len(remediation["actions"]), MOST)
    if not remediation["check_mode"]:
        lines += _changes(remediation)
    return lines


def painted(lines: Iterable[str], colour: bool) -> str:
    """Return the lines as one text, with ``colour`` their first words coloured."""
    if not colour:
        return "\n".join(lines)
    return "\n".join(_paint(line) for line in lines)


def _paint(line: str) -> str:
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    if line.startswith("  ") and not line.startswith("    ") and word in COLOURS:
        return line.replace(word, "\033[1;%sm%s\033[0m" % (COLOURS[word], word), 1)
    return line


def _action(word: str, action: Mapping[str, Any]) -> list[str]:
    lines = ["", "  %s  %s [%s %s]" % (word, action["remedy"], action["host"], action["target"] or "")]
    lines += labelled("", action["does"])
    if action.get("reason"):
        lines += labelled("Reason", action["reason"])
    if action.get("message"):
        lines += labelled("Error", action["message"])
    findings = ", ".join(
        "%s%s" % (about["id"], " [%s]" % about["object"] if about["object"] else "") for about in action["findings"][:5]
    )
    return lines + labelled("For", findings)


def _unfinished(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for entry in list(entries)[:MOST]:
        lines += ["", "  UNFINISHED  %s [%s %s]" % (entry["remedy"], entry["host"], entry["target"] or "")]
        lines += labelled(
            "",
            "The run %s of %s started this at %s and ended before it wrote an outcome. This run has measured again: "
            "faults that remain are among the findings." % (entry["run"], entry["who"], _outcome.clock(entry["time"])),
        )
    return lines


def _changes(remediation: Remediation) -> list[str]:
    changes, left = remediation["changes"], _not_measured_again(remediation)
    if not changes:
        if remediation["measured_again"]:
            measured = _count(len(remediation["measured_again"]), "host")
            return ["", "No finding before or after on the %s measured again." % measured, *left]
        return ["", *(left or ["No finding, and no action."])]
    counts = {change: sum(1 for entry in changes if entry["change"] == change) for change in CHANGES}
    lines = ["", "Before and after: " + ", ".join("%d %s" % (counts[each], each) for each in CHANGES if counts[each])]
    for entry in changes[:MOST]:
        lines.append("  %-11s  %-8s -> %-8s  %s" % (entry["change"], entry["before"], entry["after"], _name(entry)))
    return [*lines, *_more(len(changes), MOST), *(["", *left] if left else [])]


def _not_measured_again(remediation: Remediation) -> list[str]:
    """Return the line about the findings of hosts without an action."""
    number = remediation["not_measured_again"]
    if not number:
        return []
    remain = "%s remain%s" % (_count(number, "finding"), "s" if number == 1 else "")
    if not remediation["measured_again"]:
        return ["No host had an action, so none was measured again: the %s." % remain]
    return ["The other hosts were not measured again: their %s." % remain]


def _name(entry: ChangedFinding) -> str:
    return "%s  %s%s" % (entry["host"], entry["id"], " [%s]" % entry["object"] if entry["object"] else "")


def _more(total: int, shown: int) -> list[str]:
    return ["", "  ... and %d more in the report" % (total - shown)] if total > shown else []


def _count(number: int, noun: str) -> str:
    return "%d %s%s" % (number, noun, "" if number == 1 else "s")
