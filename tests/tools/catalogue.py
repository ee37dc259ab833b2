# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes docs/checks.md from the rows of the area roles: python -m tests.tools.catalogue"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "playbooks" / "collections"))

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _checks  # noqa: E402

PAGE = ROOT / "docs" / "checks.md"
HEAD = """\
# Checks and remedies

Made by `make docs` from the rows of the roles, which also hold what each finding says. A variable in a condition is a
default of its role, so that it can be overridden anywhere Ansible has variables.
"""


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| %s |\n" % " | ".join(cell(text) for text in line) for line in lines)


def cell(text):
    return " ".join(str(text).split()).replace("|", "\\|")


def conditions(check):
    return "<br>".join("%s: `%s`" % (level, cell(getattr(check, level))) for level in check.levels)


def section(area):
    checks = _checks.load(area)
    page = "\n## %s\n\n" % area.name
    page += table(
        ["check", "when", "remedy", "guide"],
        [
            ["`%s`<br>%s" % (check.id, check.title), conditions(check), code(check.remedy), check.guide]
            for check in checks
        ],
    )
    remedies = area.rows("remedies")
    if remedies:
        page += "\n" + table(
            ["remedy", "what it does", "risk", "data loss"],
            [["`%s`" % row["id"], row["title"], row["risk"], row["data_loss"]] for row in remedies],
        )
    return page


def code(remedy):
    return "`%s`" % remedy.id if remedy else ""


def catalogue():
    return HEAD + "".join(section(area) for area in _areas.find())


if __name__ == "__main__":
    PAGE.write_text(catalogue(), encoding="utf-8")
