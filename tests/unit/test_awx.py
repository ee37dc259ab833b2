# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What AWX makes of a checkout, by its own rules."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# AWX 24.6, awx/main/utils/ansible.py: a file with such a line is a playbook. Others take the full names as well.
PLAYBOOK = re.compile(r"^\s*-?\s*(ansible\.builtin\.)?(hosts|include|import_playbook):")
# The folders that it does not look into, besides those whose names start with a dot.
HIDDEN = {"roles", "tasks", "group_vars", "host_vars"}


def listed(path):
    """Whether AWX offers a file of the checkout as a playbook."""
    folders = path.parts[:-1]
    if path.suffix not in (".yml", ".yaml") or HIDDEN & set(folders) or any(name.startswith(".") for name in folders):
        return False
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return lines[:1] != [] and (lines[0].startswith("$ANSIBLE_VAULT;") or any(map(PLAYBOOK.match, lines)))


def tracked():
    """The files of the checkout; AWX follows no links."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.split("\0")
    return [Path(name) for name in names if name and (ROOT / name).is_file() and not (ROOT / name).is_symlink()]


def test_awx_lists_the_five_playbooks_and_nothing_else():
    """Other files with plays or inventories quote their key `hosts` (or `import_playbook`)."""
    assert sorted(str(path) for path in tracked() if listed(path)) == [
        "playbooks/diagnose.yml",
        "playbooks/health_check.yml",
        "playbooks/prepare.yml",
        "playbooks/remediate.yml",
        "playbooks/tune_inotify.yml",
    ]


def blocks(language):
    """The blocks of this language in the page about AWX."""
    page = (ROOT / "docs/awx.md").read_text(encoding="utf-8")
    return re.findall(r"^ *```%s\n(.*?)^ *```$" % language, page, re.MULTILINE | re.DOTALL)
