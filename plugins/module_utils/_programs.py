# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of the system, run for what they print. Private to this collection."""

from __future__ import annotations

import os
import shutil
import subprocess

from ansible_collections.tracktion.ops.plugins.module_utils._measurement import LEAST_SECONDS

# A user that logs in without a shell of its own lacks the directories of the administrator.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class Failed(Exception):
    """A program is absent, failed or did not end in time. The message says which."""


class Absent(Failed):
    """There is no such program."""


def find(name):
    """The path of a program, null where there is none."""
    return shutil.which(name, path=SEARCH_PATH)


def start(command):
    """The running process of a program that writes to pipes. Raises Failed."""
    path = find(command[0])
    if path is None:
        raise Absent("%s is not installed" % command[0])
    try:
        # A measuring function has no module whose run_command it could call.
        return subprocess.Popen(  # pylint: disable=ansible-bad-function
            [path] + command[1:],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, LC_ALL="C", PATH=SEARCH_PATH),
        )
    except OSError as exc:
        raise Failed("%s: %s" % (command[0], exc.strerror or exc)) from exc


def output(command, seconds):
    """What a program prints. Raises Failed."""
    if seconds < LEAST_SECONDS:
        raise Failed("%s was not run (%.1f s of the deadline left)" % (command[0], max(0.0, seconds)))
    with start(command) as process:
        try:
            printed, complaints = process.communicate(timeout=max(0.001, seconds))
        except subprocess.TimeoutExpired as exc:
            process.kill()
            raise Failed("%s did not end within %.1f s" % (command[0], seconds)) from exc
    if process.returncode:
        said = complaints.decode("utf-8", "replace").strip().splitlines()
        raise Failed("%s: %s" % (command[0], said[-1] if said else "exit code %d" % process.returncode))
    return printed.decode("utf-8", "replace")
