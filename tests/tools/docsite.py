# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds the documentation site into .cache/docs/html: python -m tests.tools.docsite

Warnings of antsibull-docs and of Sphinx are errors.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "docs" / "docsite"
BUILD = ROOT / ".cache" / "docs"
SOURCE = BUILD / "source"
PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def page(name: str, repository: str) -> str:
    """Return a page of the repository with links to the repository's host where they leave the site."""

    def link(match: re.Match) -> str:
        path, anchor = match.group(1), match.group(2) or ""
        target = PurePosixPath(*_normal(PurePosixPath(name).parent / path))
        inside = str(target) in PAGES
        return f"]({path if inside else f'{repository}/blob/main/{target}'}{anchor})"

    return LINK.sub(link, (ROOT / name).read_text(encoding="utf-8"))


def _normal(path: PurePosixPath) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return parts


def main() -> int:
    shutil.rmtree(BUILD, ignore_errors=True)
    reference = SOURCE / "collections"
    reference.mkdir(parents=True)
    # antsibull-docs requires a directory that only its owner can write.
    reference.chmod(0o700)
    repository = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["repository"]
    for name in PAGES:
        target = SOURCE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page(name, repository), encoding="utf-8")
    shutil.copy(CONFIGURATION / "index.rst", SOURCE)
    commands = (
        [
            *("antsibull-docs", "--config-file", str(CONFIGURATION / "antsibull-docs.cfg"), "collection"),
            *("--use-current", "--fail-on-error", "--squash-hierarchy", "--dest-dir", str(reference), "tracktion.ops"),
        ],
        ["sphinx-build", "-q", "-W", "--keep-going", "-c", str(CONFIGURATION), str(SOURCE), str(BUILD / "html")],
    )
    for command in commands:
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            return 1
    print(f"docs: {BUILD / 'html' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
