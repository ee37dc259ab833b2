# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of the system, run for what they print. Private to this collection."""

from __future__ import annotations

import os
import shutil
import subprocess

# A user that logs in without a shell of its own lacks the directories of the administrator.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class Failed(Exception):
    """A program is absent, failed or did not end in time. The message says which."""


class Absent(Failed):
    """There is no such program."""


def find(name):
    """The path of a program, null where there is none."""
    return shutil.which(name, path=SEARCH_PATH)


def output(command, seconds):
    """What a program prints. Raises Failed."""
    path = find(command[0])
    if path is None:
        raise Absent("%s is not installed" % command[0])
    try:
        done = subprocess.run(
            [path] + command[1:],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(0.001, seconds),
            check=False,
            env=dict(os.environ, LC_ALL="C", PATH=SEARCH_PATH),
        )
    except subprocess.TimeoutExpired as exc:
        raise Failed("%s did not end within %.1f s" % (command[0], seconds)) from exc
    except OSError as exc:
        raise Failed("%s: %s" % (command[0], exc.strerror or exc)) from exc
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Failed("%s: %s" % (command[0], said[-1] if said else "exit code %d" % done.returncode))
    return done.stdout.decode("utf-8", "replace")
