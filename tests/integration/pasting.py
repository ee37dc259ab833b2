# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pastes printed commands into a shell, with stand-ins for programs that would change something."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from ansible_collections.tracktion.ops.plugins.plugin_utils import _areas

# Names with characters that a shell interprets. A slash would end a part of a path.
HOSTILE = (
    "a; touch pwned",
    "it's",
    'say "hi"',
    "$(touch pwned)",
    "`touch pwned`",
    "-n",
    "two  spaces ",
    "new\nline; touch pwned",
    "esc\x1b[31mred",
    "bidi\u202egnp",
    "b\\ackslash",
    "*",
)
# A variable in a hint: cache_tls: true, service_health_endpoints[].url.
VARIABLE = re.compile(
    r"(?:%s)_\w+(?:[.\[][^ ]*)?(?:: .*)?\Z" % "|".join(("tracktion", *(area.name for area in _areas.find())))
)
STAND_IN = """#!/usr/bin/python3
import json, os, sys
with open(os.environ["SAID"], "a") as stream:
    stream.write(json.dumps([os.path.basename(sys.argv[0]), *map(os.fsdecode, map(os.fsencode, sys.argv[1:]))]) + "\\n")
"""


class Shell:
    """A shell in an empty directory in which the ``programs`` do nothing but note their words."""

    def __init__(self, directory: Path, *programs: str) -> None:
        self.said = directory / "said"
        self.programs = directory / "bin"
        self.here = directory / "here"
        for made in (self.programs, self.here):
            made.mkdir()
        for name in programs:
            (self.programs / name).write_text(STAND_IN)
            (self.programs / name).chmod(0o755)

    def paste(self, command: str) -> str:
        """Run a command and return what it prints; nothing else may come of it."""
        environment = {**os.environ, "PATH": "%s:%s" % (self.programs, os.environ["PATH"]), "SAID": str(self.said)}
        self.said.write_text("")
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.here, env=environment, capture_output=True, check=False, timeout=20
        )
        assert os.listdir(self.here) == [], command
        assert done.returncode == 0, (command, done)
        return done.stdout.decode("utf-8", "surrogateescape")

    def words(self, command: str) -> list[list[str]]:
        """The words that each stand-in got from a command."""
        self.paste(command)
        return [json.loads(line) for line in self.said.read_text().splitlines()]


def commands(text: str) -> list[str]:
    """The commands in a text: what stands between backticks, unless it is the name of a variable."""
    parts = text.split("`")
    assert len(parts) % 2, text
    return [part for part in parts[1::2] if not VARIABLE.match(part)]


def is_inert(text: str) -> bool:
    """Whether a text has nothing that a terminal obeys, and can be sent as UTF-8."""
    text.encode("utf-8")
    return text.isprintable()
