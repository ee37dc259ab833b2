# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Last lines as Python 3.13, dash, bash and tini write them."""

from __future__ import annotations

import pytest

from ansible_collections.tracktion.ops.plugins.module_utils._docker import _start_errors


@pytest.mark.parametrize(
    ("code", "text", "kind", "reason"),
    [
        (
            1,
            "exec /badbin: exec format error",
            "architecture",
            "its program /badbin is built for another processor, or is a script without an interpreter in line 1",
        ),
        (
            126,
            "bash: ./server: cannot execute binary file: Exec format error",
            "architecture",
            "its program ./server is built for another processor, or is a script without an interpreter in line 1",
        ),
        (
            127,
            "/program: 1: \\x7fELF\\x02\\x01: not found",
            "architecture",
            "its program /program is built for another processor, or is a script without an interpreter in line 1",
        ),
        (
            1,
            "exec /entry.sh: no such file or directory",
            "command",
            "its command /entry.sh is not in the image, or the interpreter in its first line is not",
        ),
        (
            127,
            "[FATAL tini (7)] exec /entry.sh failed: No such file or directory",
            "command",
            "its command /entry.sh is not in the image, or the interpreter in its first line is not",
        ),
        (
            1,
            "exec /entry.sh: permission denied",
            "permission",
            "its program /entry.sh is not executable",
        ),
        (
            1,
            "ModuleNotFoundError: No module named 'nosuch.module'",
            "import",
            "the Python module nosuch.module cannot be imported",
        ),
        (
            1,
            "/usr/bin/python3: Error while finding module specification for 'a.b' (ModuleNotFoundError: No module "
            "named 'a')",
            "import",
            "the Python module a cannot be imported",
        ),
        (
            3,
            "ModuleNotFoundError: No module named 'app'\n[2026-11-29 06:24:34 +0000] [1] [ERROR] Reason: Worker "
            "failed to boot.",
            "import",
            "the Python module app cannot be imported",
        ),
        (
            1,
            "ImportError: cannot import name 'nosuchname' from 'os' (/usr/lib/python3.13/os.py)",
            "import",
            "a Python import fails: cannot import name 'nosuchname' from 'os'",
        ),
        (
            1,
            "ImportError: libpq.so.5: cannot open shared object file: No such file or directory",
            "library",
            "the shared library libpq.so.5 is missing in its image",
        ),
        (
            127,
            "ls: error while loading shared libraries: libselinux.so.1: cannot open shared object file: No such file "
            "or directory",
            "library",
            "the shared library libselinux.so.1 is missing in its image",
        ),
        (
            1,
            'File "/tmp/a.py", line 1\ndef f(:\n^\nSyntaxError: invalid syntax',
            "syntax",
            'a Python file cannot be compiled: "/tmp/a.py", line 1',
        ),
        (
            2,
            "python3: can't open file '/app/main.py': [Errno 2] No such file or directory",
            "program",
            "its program /app/main.py does not exist in the container",
        ),
        (127, "sh: 1: nosuchcommand: not found", "command", "its command nosuchcommand is not in the image, "),
        (
            127,
            "bash: line 1: nosuchcommand: command not found",
            "command",
            "its command nosuchcommand is not in the image, ",
        ),
        (127, "sh: 3: exec: /tmp/e.sh: not found", "command", "its command /tmp/e.sh is not in the image, "),
        (126, "sh: 1: /tmp/e.sh: Permission denied", "permission", "its program /tmp/e.sh is not executable"),
        (
            126,
            "[FATAL tini (7)] exec /etc/hostname failed: Permission denied",
            "permission",
            "its program /etc/hostname is not executable",
        ),
        (1, "KeyError: 'DB_PASSWORD'", "setting", "its program does not find the setting DB_PASSWORD, "),
        (
            1,
            'psycopg2.OperationalError: connection to server at "db" (10.0.0.2), port 5432 failed: FATAL:  password'
            ' authentication failed for user "app"',
            "login",
            'its login to a server is rejected: password authentication failed for user "app"',
        ),
        (
            1,
            "redis.exceptions.AuthenticationError: WRONGPASS invalid username-password pair or user is disabled.",
            "login",
            "its login to a server is rejected: WRONGPASS",
        ),
        (
            1,
            "pika.exceptions.ProbableAuthenticationError: (403) 'ACCESS_REFUSED - Login was refused using PLAIN'",
            "login",
            "its login to a server is rejected: ACCESS_REFUSED",
        ),
        (1, "OSError: [Errno 98] Address already in use", "port", "its program cannot listen: address already in use"),
    ],
)
def test_a_cause_is_named(code, text, kind, reason):
    found = _start_errors.find(text, code, "apply it: `docker compose up -d a`")
    assert found.kind == kind
    assert found.reason.startswith(reason)
    assert found.hint.endswith("; then apply it: `docker compose up -d a`")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "ModuleNotFoundError: No module named 'a'"),
        (1, "sh: 1: convert: not found"),
        (1, "KeyError: 'title'"),
        (1, "GET /x: not found"),
        (137, "Killed"),
        # A user has stopped it.
        (137, 'FATAL:  password authentication failed for user "app"'),
        (143, 'FATAL:  password authentication failed for user "app"'),
        (1, "psycopg2.OperationalError: connection refused"),
    ],
)
def test_other_ends_have_no_cause(code, text):
    assert _start_errors.find(text, code, "apply it") is None
