# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a program ends at its start, by the last lines that it has written. Private to this collection.

These are causes in the image, the mounts or the settings, which a restart does not remove.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Pattern

from ansible_collections.tracktion.ops.plugins.module_utils._docker._obstacles import LOGIN_REJECTED, Obstacle

NO_PROGRAM = (
    "its command %(name)s is not in the image, or the interpreter in its first line is not",
    "Correct command or entrypoint, or add the program to the image; a script with line ends of Windows needs"
    " `sed -i 's/\\r$//' FILE`",
)
NOT_EXECUTABLE = (
    "its program %(name)s is not executable",
    "Make it executable (`chmod +x FILE`) and build the image again, or correct command or entrypoint",
)
# Exit codes of a program that was not ended by a signal.
OWN = tuple(range(1, 126))
BUILD = "Add it to the image and build it again (`docker compose build`)"


class Cause(NamedTuple):
    """A cause, with the exit codes that it needs, or null. The groups of the pattern fill ``reason``."""

    kind: str
    pattern: Pattern[str]
    codes: tuple[int, ...] | None
    reason: str
    hint: str


CAUSES = tuple(
    Cause(kind, re.compile(pattern, re.MULTILINE), codes, reason, hint)
    for kind, pattern, codes, reason, hint in (
        (
            "library",
            r"(?:^|[\s:])(?P<name>[\w.+\-]{1,80}\.so[\w.]{0,20}): cannot open shared object file",
            None,
            "the shared library %(name)s is missing in its image",
            BUILD,
        ),
        (
            "import",
            r"No module named '?(?P<name>[\w.]{1,80})",
            None,
            "the Python module %(name)s cannot be imported",
            BUILD + "; a module of the service itself needs the right volumes, working_dir and PYTHONPATH",
        ),
        (
            "import",
            r"^ImportError: (?P<name>cannot import name '[\w.]{1,80}' from [a-z ]{0,30}'[\w.]{1,80}')",
            None,
            "a Python import fails: %(name)s",
            "Install the version of the module that the program needs: build the image again (`docker compose build`)",
        ),
        (
            "syntax",
            r'File "(?P<name>[^"\n]{1,200}", line \d+)(?:.*\n){0,4}?(?:SyntaxError|IndentationError|TabError): ',
            None,
            'a Python file cannot be compiled: "%(name)s',
            "Correct the file, or start the image that worked before",
        ),
        (
            "program",
            r"(?:can't open file|Cannot find module) '(?P<name>[^'\n]{1,200})'",
            None,
            "its program %(name)s does not exist in the container",
            "Correct command, working_dir or volumes: a mount may hide the files of the image",
        ),
        (
            "command",
            r"(?:^|[\s:])(?P<name>[\w./\-]{1,100}): (?:command )?not found$",
            (127,),
            *NO_PROGRAM,
        ),
        (
            "architecture",
            # Without a format that it knows, some init processes let a shell read the program.
            r"(?:^|[\s:])(?P<name>[^\s:]{1,99}?)(?: failed)?: (?:(?:cannot execute binary file: )?[Ee]xec format error$"
            r"|(?:line )?\d+: \S{0,10}ELF)",
            None,
            "its program %(name)s is built for another processor, or is a script without an interpreter in line 1",
            "Compare the architecture of the image (`docker image inspect --format '{{.Architecture}}' IMAGE`) with"
            " that of this host (`uname -m`), and use an image for it; a script must begin like `#!/bin/sh`",
        ),
        (
            "command",
            r"^(?:\[FATAL tini \(\d+\)\] )?exec (?P<name>\S{1,200}?):? (?:failed: )?[Nn]o such file or directory$",
            None,
            *NO_PROGRAM,
        ),
        (
            "permission",
            r"^(?:\[FATAL tini \(\d+\)\] )?exec (?P<name>\S{1,200}?):? (?:failed: )?[Pp]ermission denied$",
            None,
            *NOT_EXECUTABLE,
        ),
        (
            "permission",
            r"(?:^|[\s:])(?:exec )?(?P<name>/[^\s:]{1,200})(?:: | failed: )Permission denied",
            (126,),
            *NOT_EXECUTABLE,
        ),
        (
            "setting",
            r"^KeyError: '(?P<name>[A-Z][A-Z0-9_]{2,60})'$",
            None,
            "its program does not find the setting %(name)s, probably an environment variable",
            "Set it in environment or env_file of the service",
        ),
        (
            "login",
            "(?P<name>%s)" % LOGIN_REJECTED,
            OWN,
            "its login to a server is rejected: %(name)s",
            "Compare user and password in its environment with those of the server, and check there whether the user"
            " may log in",
        ),
        (
            "port",
            r"(?P<name>Address already in use|EADDRINUSE)",
            None,
            "its program cannot listen: address already in use",
            "Find what holds the port in its network (`ss -lntup`), and stop it or change the port",
        ),
    )
)


def find(text: str, code: int | None, apply: str) -> Obstacle | None:
    """Return the cause that the last lines of a program name as an obstacle; null for none.

    ``code`` is its exit code: a program that has ended without an error has no cause. ``apply`` is how a change of the
    configuration is applied.
    """
    if code == 0:
        return None
    for cause in CAUSES:
        found = cause.pattern.search(text) if cause.codes is None or code in cause.codes else None
        if found:
            return Obstacle(cause.kind, cause.reason % found.groupdict(), "%s; then %s" % (cause.hint, apply))
    return None
