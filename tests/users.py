# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second user of this machine, who plants files where root is going to write."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

UNPRIVILEGED = 65534


def as_other_user(action) -> None:
    """Run ``action()`` in a process of the user nobody; AssertionError where it fails."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
            os.setresuid(UNPRIVILEGED, UNPRIVILEGED, UNPRIVILEGED)
            action()
            status = 0
        finally:
            os._exit(status)
    _pid, status = os.waitpid(child, 0)
    assert status == 0


@contextmanager
def shared_directory(mode: int = 0o777):
    """A directory of root's with this mode, on a path that every user can go."""
    above = Path(tempfile.mkdtemp(prefix="tracktion-test-", dir="/tmp"))
    above.chmod(0o755)
    directory = above / "shared"
    directory.mkdir()
    directory.chmod(mode)
    try:
        yield directory
    finally:
        shutil.rmtree(above)
