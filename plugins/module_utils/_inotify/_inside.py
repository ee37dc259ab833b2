# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths below the root directory of another process. Private to this collection."""

from __future__ import annotations

import errno
import os

MAX_LINKS = 40


def resolve(root: str, path: str) -> str:
    """Return the path from here of an absolute path below ``root``, with all links followed below ``root``.

    The kernel would follow an absolute link of a container to a file of the host. Raises OSError (ELOOP).
    """
    if not root:
        return os.path.realpath(path)
    parts = [part for part in path.split("/") if part]
    here: list[str] = []
    links = 0
    while parts:
        part = parts.pop(0)
        if part == ".":
            continue
        if part == "..":
            here = here[:-1]
            continue
        try:
            target = os.readlink("/".join([root, *here, part]))
        except OSError:
            here.append(part)
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        parts = [each for each in target.split("/") if each] + parts
        if target.startswith("/"):
            here = []
    return "/".join([root, *here])
