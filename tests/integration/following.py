# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Follows the hints of findings to the letter: runs their commands as an operator does, and measures again.

The tests that inject the faults of an area call ``follow()`` while a fault exists. ``followed_hints.py`` lists what is
expected of each hint.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.areas import fired
from tests.integration.pasting import commands
from tests.lab.engine import OWN_COMPOSE, docker
from tests.lab.shell import SEARCH_PATH, wait_until

SQL = re.compile(r"(?:ALTER|ANALYZE|BEGIN|CHECKPOINT|COMMIT|CREATE|DROP|GRANT|REINDEX|ROLLBACK|SELECT|SHOW|VACUUM)\b")
# Programs that are run on the machine of their server.
OF_BROKER = re.compile(r"(?:runuser -u rabbitmq -- )?rabbitmq(?:ctl|-diagnostics|-plugins) ")
# A word that a person has to fill in.
PLACEHOLDER = re.compile(r"\b(?:CONTAINER|HOST|(?:[A-Z]+_)?NAME|URL)\b|<\w+>|'\.\.\.'")
# redis-cli prints an error reply, and ends with 0.
ERROR_REPLY = re.compile(r"(?:\(error\) )?[A-Z]{3,} \S")


@dataclass(frozen=True)
class Hint:
    """What is expected of the hint of a check, when a fault has made it fire.

    All its commands are run, and end without an error, except those that match ``leaves``.
    """

    # Whether the finding is gone after that.
    fixes: bool = False
    # Patterns of the evidence that the commands print.
    shows: tuple[str, ...] = ()
    # Commands that are left out: the other one of two ways, or a step after something that only a person can do.
    leaves: str = ""
    # Why a person has to decide or to repair something, where the commands do not do it.
    person: str = ""
    # What that person does in the container of the server before the commands are run.
    repair: str = ""
    # A part of the object of the finding, if the fault has several.
    about: str = ""


@dataclass
class Operator:
    """A person at a shell of this machine, with the clients of the servers and the rights of an administrator."""

    psql: Callable[[str], str] | None = None
    # The container of a server whose clients this machine may not have.
    container: str = ""
    redis_password: str = ""
    directory: Path = field(default_factory=Path.cwd)

    def run(self, command: str) -> str:
        """Run a command of a hint, which must succeed, and return what it prints."""
        command = command.replace("CONTAINER", self.container or "CONTAINER")
        assert not PLACEHOLDER.search(command), "a person has to fill in a value: %s" % command
        if SQL.match(command):
            return self.psql(command)
        words = ["bash", "-c", command]
        if OF_BROKER.match(command):
            words = ["docker", "exec", self.container, *words]
        elif command.startswith("redis-cli "):
            # The client of the server's image, in the network of this machine.
            pid = docker("inspect", "--format", "{{.State.Pid}}", self.container).strip()
            words = ["nsenter", "--target", pid, "--mount", *words]
        done = subprocess.run(
            words,
            # redis-cli asks for it.
            input=self.redis_password + "\n",
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=120,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, "`%s` ends with %d: %s" % (command, done.returncode, output)
        assert not (command.startswith("redis-cli ") and ERROR_REPLY.match(done.stdout)), (command, output)
        return output

    def environment(self) -> dict[str, str]:
        """Return the environment of the shell, with compose as a plugin of docker."""
        plugins = {"DOCKER_CONFIG": str(OWN_COMPOSE.parents[1])} if OWN_COMPOSE.exists() else {}
        # A terminal of 80 columns, at which `ps` cuts its lines.
        return {**os.environ, "COLUMNS": "80", "PATH": SEARCH_PATH, **plugins}


def follow(operator: Operator, hints: dict[str, Hint], findings: dict, measure: Callable[[], dict]) -> None:
    """Follow the hints of the checks that a fault has made fire.

    Arguments: by check, what is expected of its hint; the findings about the fault, by check; a function that returns
    them measured again.
    """
    # The command of two hints is run once.
    printed: dict[str, str] = {}
    for check, expected in hints.items():
        about = [each for each in fired(findings, check) if expected.about in (each["object"] or "")]
        assert about, "%s has not fired: %s" % (check, findings)
        finding = about[0]
        steps = [each for each in commands(finding["hint"] or "") if not _matches(expected.leaves, each)]
        assert steps or expected.person or finding["remedy"], "%s has no command, no remedy and no reason" % check
        if expected.repair:
            docker("exec", operator.container, "sh", "-c", expected.repair)
        printed.update({each: operator.run(each) for each in steps if each not in printed})
        output = "\n".join(printed[each] for each in steps)
        for pattern in expected.shows:
            assert re.search(pattern, output), (check, steps, pattern, output)
        if expected.fixes:
            wait_until(
                lambda check=check, finding=finding: _is_gone(measure(), check, finding), "%s to end" % check, 60
            )


def _matches(pattern: str, command: str) -> bool:
    return bool(pattern) and re.search(pattern, command) is not None


def _is_gone(findings: dict, check: str, finding: dict) -> bool:
    """Whether a check does not fire any more about the object of a finding; unknown is not gone."""
    return finding["object"] not in [each["object"] for each in findings.get(check, ())]
