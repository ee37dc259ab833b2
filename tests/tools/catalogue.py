# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes docs/checks.md and docs/rights.md: python -m tests.tools.catalogue"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "playbooks" / "collections")]

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas, _checks  # noqa: E402
from tests import rights  # noqa: E402

PAGE = ROOT / "docs" / "checks.md"
HEAD = """\
# Checks and remedies

Made by `make docs` from the rows of the roles, which also hold what each finding says. A variable in a condition is a
default of its role, so that it can be overridden anywhere Ansible has variables.
"""
RIGHTS_PAGE = ROOT / "docs" / "rights.md"
RIGHTS_HEAD = """\
# Rights

Made by `make docs` from `tests/rights`. The integration tests take each of these rights away on a real server: exactly
the named checks become `unknown`, and their hint names the right.
"""


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| %s |\n" % " | ".join(cell(text) for text in line) for line in lines)


def cell(text):
    return " ".join(str(text).split()).replace("|", "\\|")


def conditions(check):
    return "<br>".join("%s: `%s`" % (level, getattr(check, level)) for level in check.levels)


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


def rights_page():
    rows = {}
    for right in rights.every():
        names = ", ".join("`%s`" % name for name in sorted(right.unknown))
        rows.setdefault(right.area, []).append(["`%s`" % right.name, names])
    return RIGHTS_HEAD + "".join(
        "\n## %s\n\n%s" % (area, table(["without", "these checks are unknown"], lines)) for area, lines in rows.items()
    )


if __name__ == "__main__":
    PAGE.write_text(catalogue(), encoding="utf-8")
    RIGHTS_PAGE.write_text(rights_page(), encoding="utf-8")
