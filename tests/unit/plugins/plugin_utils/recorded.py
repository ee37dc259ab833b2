# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings of real faults, which tests/bench/bench_incidents.py has recorded, and the incidents that they form."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _causes, _incidents

ROOT = Path(__file__).resolve().parents[4]
FOLDER = Path(__file__).with_name("incidents")
# What incidents and their texts depend on.
KEPT = ("id", "area", "host", "hosts", "object", "about", "title", "status", "summary", "observed", "threshold", "why",
        "hint", "remedy", "began", "fingerprint")  # fmt: skip
TEXT = 160
# A project that a fault has made has a number as its name.
OTHER_STACK = re.compile(r"tracktion-lab-(?![0-9a-f]{8}(?:-|$))")


def path(name: str) -> Path:
    """Return the file of a scenario."""
    return FOLDER / ("%s.json" % name.replace(",", "").replace(":", "").replace(" ", "_"))


def write(name: str, findings: list[dict], stack: str, only_project: str = "") -> None:
    """Record the findings of a scenario on a stack; texts are cut.

    ``only_project``: the start of the names of the projects that the scenario has made, if others were diagnosed, too.
    """
    FOLDER.mkdir(exist_ok=True)
    own = [each for each in findings if not _is_foreign(each, stack) and _is_of(each, only_project)]
    kept = [{field: _cut(finding[field]) for field in KEPT} for finding in own]
    text = "[\n" + ",\n".join(json.dumps(each, sort_keys=True) for each in kept) + "\n]\n"
    # Whatever the checkout and the stack are called.
    text = (
        text.replace(str(ROOT), "/srv/checkout")
        .replace(stack, "tracktion-lab")
        .replace("/.lab/%s/" % stack[14:], "/.lab/default/")
    )
    path(name).write_text(text)


def read(name: str) -> list[dict]:
    """Return the recorded findings of a scenario."""
    return json.loads(path(name).read_text())


def edges(without: str = "") -> _causes.Edges:
    """Return the cause rows of the collection, without the row of this id."""
    rows = [edge for edge in _causes.load(_areas.find()) if edge.id != without]
    return _causes.Edges(rows, _causes._rank(rows))


def incidents(findings: list[dict], rows: _causes.Edges | None = None) -> list[dict]:
    """Return the incidents that the findings form."""
    unmeasured = [finding for finding in findings if finding["status"] == "unknown"]
    return _incidents.build(findings, rows or edges(), unmeasured)


def _is_foreign(finding: dict, stack: str) -> bool:
    """Return whether a finding is only about other stacks of the lab on the same machine."""
    names = [*finding["about"].get("project", ()), *finding["about"].get("container", ())]
    return bool(names) and all(OTHER_STACK.match(name) and not name.startswith(stack) for name in names)


def _is_of(finding: dict, project: str) -> bool:
    """Return whether a finding is about no project, or about one whose name starts like this."""
    return all(name.startswith(project) for name in finding["about"].get("project", ()))


def _cut(value):
    if isinstance(value, str):
        return value[:TEXT]
    return None if isinstance(value, dict) and "command" in value else value


def links(findings: list[dict], rows: _causes.Edges | None = None) -> list[str]:
    """Return the links between findings as text: the row, the cause and the effect."""
    names = {finding["fingerprint"]: finding["id"] for finding in findings}
    found = set()
    for incident in incidents(findings, rows):
        for effect in incident["effects"]:
            for link in (effect, *effect["also"]):
                found.add("%s: %s -> %s" % (link["edge"], names[link["by"]], names[effect["finding"]]))
    return sorted(found)
