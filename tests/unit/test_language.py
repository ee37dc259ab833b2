# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One word for each concept, in code, rows, documentation and tests."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (".md", ".py", ".rst", ".sh", ".toml", ".yaml", ".yml", ".json", ".cfg")
# Release notes name what was renamed.
LEFT_OUT = re.compile(r"tests/unit/test_language\.py|changelogs/|CHANGELOG\.md")

# What is not written here -> what is written instead.
REJECTED = {
    r"cures?|cured": "hint, fix",
    r"advice": "hint",
    r"(bring|brings|brought) home": "measure, return",
    r"judges?|judged|judging|judgement": "evaluate",
    r"verdicts?": "finding",
    r"said_of|hear": "unknown reason, evaluate",
    r"twins?": "duplicates",
    r"strangers?": "unmatched, unknown",
    r"ways? back": "undo command",
    r"somebody|everybody|whoever|nobody": "the user, the service, a process",
    r"tells?|told": "report, return, show",
    r"(let|lets) (us|it|them) in": "accept the connection",
}
WHOLE = r"(?<![A-Za-z])(?:%s)(?![A-Za-z])"
PATTERNS = {re.compile(WHOLE % words, re.IGNORECASE): good for words, good in REJECTED.items()}
ANY = re.compile(WHOLE % "|".join(REJECTED), re.IGNORECASE)
# The account of Unix, and what netfilter calls the result of a rule.
ACCOUNT = re.compile(r"[`\"':/=]nobody\b|\bnobody[`\"':]|(user|belongs to|link of) nobody")
OF_NETFILTER = re.compile(r"network|packet|iptables|nft")


def tracked():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.split("\0")
    named = [name for name in names if name.endswith(TEXT) or name.startswith("tests/tools/")]
    return [Path(name) for name in named if not LEFT_OUT.match(name) and (ROOT / name).is_file()]


def rejected(text, name=""):
    """Return the rejected words of a text as ``(line, word, what is written instead)``."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not ANY.search(line):
            continue
        line = ACCOUNT.sub("", line)
        line = line if not OF_NETFILTER.search(name) else re.sub("verdict", "", line, flags=re.IGNORECASE)
        for pattern, good in PATTERNS.items():
            found += [(number, match.group(), good) for match in pattern.finditer(line)]
    return found


def test_one_word_for_each_concept():
    found = [
        "%s:%d: %r (write: %s)" % (path, *hit)
        for path in tracked()
        for hit in rejected((ROOT / path).read_text(encoding="utf-8", errors="replace"), str(path))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line", ["Read the cure.", "the way back", "def _said_of(item):", "Somebody stopped it", "told()"]
)
def test_a_rejected_word_is_found(line):
    assert [number for number, _word, _good in rejected("fine\n" + line)] == [2]


@pytest.mark.parametrize("line", ["chown nobody: file", "a secure connection", "the account `nobody`", "hint"])
def test_another_word_passes(line):
    assert rejected(line) == []
