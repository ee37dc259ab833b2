# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The incidents of a report in one screen of a terminal: what is wrong, since when, what to do first. Pure.

Private to this collection. A report that fits on a screen has no overview.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._clean import COMMAND
from ansible_collections.tracktion.ops.plugins.plugin_utils import _incident_groups, _text
from ansible_collections.tracktion.ops.plugins.plugin_utils._evaluation import STATUSES
from ansible_collections.tracktion.ops.plugins.plugin_utils._incident_groups import IncidentGroup
from ansible_collections.tracktion.ops.plugins.plugin_utils._text import WIDTH, Paint
from ansible_collections.tracktion.ops.plugins.plugin_utils._types import Report

# Lines of a terminal.
SCREEN = 24
# Incidents that are shown with what to do, however long the lines before them are.
LEAST = 3
INDENT = " " * 10
# Columns of a hint: two lines. A command that does not fit is left out; the incident below has it.
HINT = 2 * (WIDTH - len(INDENT)) - 8


def lines(report: Report, groups: Sequence[IncidentGroup], paint: Paint, before: int, after: int) -> list[str]:
    """Return the overview of a clean report; none if ``before`` and ``after`` fit on a screen.

    ``before`` and ``after`` are the numbers of lines above and below it.
    """
    serious = [group for group in groups if group.incidents and group.status in ("critical", "warning")]
    if not serious or before + after <= SCREEN:
        return []
    room = SCREEN - before - 3
    full = [[_line(group, paint), *_details(report, group)] for group in serious]
    number = len(full)
    # The others have a line each.
    while number > LEAST and sum(map(len, full[:number])) + len(full) - number > room:
        number -= 1
    found = [line for entry in full[:number] for line in entry]
    short = full[number:]
    listed = max(0, room - len(found) - 1) if len(found) + len(short) > room else len(short)
    found += [entry[0] for entry in short[:listed]]
    left = len(short) - listed
    title = "%d incident%s, the causes:" % (len(serious), "" if len(serious) == 1 else "s")
    return ["", title, *found, *(["%s... and %d more" % (INDENT, left)] if left else [])]


def _line(group: IncidentGroup, paint: Paint) -> str:
    """Return what is wrong, in one line."""
    cause, hosts = group.causes.worst, group.causes.hosts
    # Most summaries begin with the name of the object.
    named = cause["object"] and cause["object"].split(" ")[0] not in cause["summary"]
    name = cause["id"] + (" [%s]" % _text.cut(cause["object"] or "", WIDTH // 3) if named else "")
    where = " on %d hosts" % len(hosts) if len(hosts) > 1 else ""
    status = group.status
    text = _text.cut("%s%s: %s" % (name, where, cause["summary"]), WIDTH - len(INDENT))
    return "%s  %s" % (paint(status, "%-8s" % status.upper()), text)


def _details(report: Report, group: IncidentGroup) -> list[str]:
    """Return since when, what follows and what to do first, in at most four lines."""
    parts = []
    since = _incident_groups.since(group, report)
    if since:
        parts.append("Since: %s." % since)
    number = sum(len(follower.group.findings) for follower in group.followers)
    if number:
        worst = max((each.group for each in group.followers), key=lambda each: STATUSES.index(each.status)).worst
        what = "1 finding follows" if number == 1 else "%d findings follow, the worst is" % number
        parts.append("%s%s %s (%s)." % (what, ":" if number == 1 else "", worst["id"], worst["status"]))
    found = _text.wrap(" ".join(parts), WIDTH, INDENT, INDENT) if parts else []
    hint = group.causes.worst["hint"]
    return found + (_text.wrap(_step(hint), WIDTH, INDENT + "Do: ", INDENT + "    ") if hint else [])


def _step(hint: str) -> str:
    """Return a hint, or the sentence with its first command, in two lines."""
    command = COMMAND.search(hint)
    if _text.columns(hint) > HINT and command:
        hint = hint[hint.rfind(". ", 0, command.start()) + 1 :].lstrip()
    if _text.columns(hint) <= HINT:
        return hint
    # At the end of a sentence, or of a word.
    shown = _text.cut(hint, HINT)[:-1]
    sentence = shown.rfind(". ", len(shown) // 2)
    if sentence > 0 and shown.count("`", sentence) % 2 == 0:
        return shown[: sentence + 1]
    word = shown.rfind(" ", shown.rfind("`") + 1)
    return (shown[:word] if word > 0 else shown) + "\u2026"
