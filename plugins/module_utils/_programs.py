# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs programs of the system and returns their output. Private to this collection."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Sequence

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import LEAST_SECONDS

# The PATH of an account without a login shell lacks the directories for root.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class Failed(Exception):
    """A program is not installed, failed or did not end in time. The message says which."""


class Absent(Failed):
    """The program is not installed."""


def find(name: str) -> str | None:
    """Return the path of a program; null if it is not installed."""
    return shutil.which(name, path=SEARCH_PATH)


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Return a running program that writes to pipes. Raises Failed."""
    path = find(command[0])
    if path is None:
        raise Absent("%s is not installed" % command[0])
    try:
        # A measuring function has no AnsibleModule whose run_command it could call.
        return subprocess.Popen(  # pylint: disable=ansible-bad-function
            [path, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, LC_ALL="C", PATH=SEARCH_PATH),
        )
    except OSError as exc:
        raise Failed("%s: %s" % (command[0], exc.strerror or exc)) from exc


def output(command: Sequence[str], seconds: float) -> str:
    """Return the standard output of a program that ends within ``seconds``. Raises Failed."""
    if seconds < LEAST_SECONDS:
        raise Failed("%s was not run (%.1f s of the deadline left)" % (command[0], max(0.0, seconds)))
    with start(command) as process:
        try:
            stdout, stderr = process.communicate(timeout=max(0.001, seconds))
        except subprocess.TimeoutExpired as exc:
            process.kill()
            raise Failed("%s did not end within %.1f s" % (command[0], seconds)) from exc
    if process.returncode:
        lines = stderr.decode("utf-8", "replace").strip().splitlines()
        raise Failed("%s: %s" % (command[0], lines[-1] if lines else "exit code %d" % process.returncode))
    return stdout.decode("utf-8", "replace")
